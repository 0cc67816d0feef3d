package examples

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// person is somebody with a browser that runs no scripts: it keeps cookies, follows redirects, and sends forms.
type person struct {
	t        testing.TB
	client   *http.Client
	username string
}

var passwords = map[string]string{"alice": "wonderland", "bob": "can-we-fix-it"}

func meet(t testing.TB, username string) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	check(t, err)
	return &person{t, &http.Client{Jar: jar, Timeout: patience}, username}
}

// page is what a person sees, and where.
type page struct {
	address  *url.URL
	status   int
	location string // where it would lead
	body     string
	form     *form // its first one
}

type form struct {
	action string
	fields url.Values
}

// get opens an address.
func (p *person) get(address string) page {
	p.t.Helper()
	return p.see(p.client.Get(address)) //nolint:gosec // an address of the test
}

// send fills in the page's form, with names and values in pairs, and sends it.
func (p *person) send(from page, pairs ...string) page {
	p.t.Helper()
	if from.form == nil {
		p.t.Errorf("%s has no form: %d %s", from.address, from.status, from.body)
		return from
	}
	fields := from.form.fields
	for i := 0; i < len(pairs); i += 2 {
		fields.Set(pairs[i], pairs[i+1])
	}
	action, err := from.address.Parse(from.form.action)
	if err != nil {
		p.t.Errorf("the form of %s: %v", from.address, err)
		return from
	}
	return p.see(p.client.PostForm(action.String(), fields))
}

// logsIn opens an address, and does what Signet's pages ask: gives the password, allows the app. It returns where that leads.
func (p *person) logsIn(address string) page {
	p.t.Helper()
	at := p.get(address)
	if at.asksFor("password") {
		at = p.send(at, "username", p.username, "password", passwords[p.username])
	}
	if at.asksFor("request") && strings.HasSuffix(at.form.action, "/consent") {
		at = p.send(at, "decision", "allow")
	}
	return at
}

// asksFor tells whether the page has a form with that field.
func (g page) asksFor(field string) bool { return g.form != nil && g.form.fields.Has(field) }

// says checks what is on the page.
func (p *person) says(at page, status int, text string) {
	p.t.Helper()
	if at.status != status || !strings.Contains(at.body, text) {
		p.t.Errorf("%s: %d %s, want %d %s", at.address, at.status, at.body, status, text)
	}
}

// see reads an answer. An error is no end of the test, for a person may act beside it.
func (p *person) see(res *http.Response, err error) page {
	p.t.Helper()
	if err != nil {
		p.t.Error(err)
		return page{address: new(url.URL)}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Error(err)
	}
	at := page{address: res.Request.URL, status: res.StatusCode, location: res.Header.Get("Location"), body: string(body)}
	document, err := html.Parse(strings.NewReader(at.body))
	if err != nil {
		p.t.Error(err)
		return at
	}
	for node := range document.Descendants() {
		attribute := func(name string) string {
			for _, a := range node.Attr {
				if a.Key == name {
					return a.Val
				}
			}
			return ""
		}
		switch {
		case node.Type != html.ElementNode:
		case node.Data == "form" && at.form != nil:
			return at
		case node.Data == "form":
			at.form = &form{attribute("action"), url.Values{}}
		case node.Data == "input" && at.form != nil && attribute("type") != "checkbox":
			at.form.fields.Set(attribute("name"), attribute("value"))
		}
	}
	return at
}

// asBrowser returns a program that has the person log in at the address that it is given, as BROWSER is for programs.
func (p *person) asBrowser() string {
	p.t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { p.logsIn(r.FormValue("address")) }))
	p.t.Cleanup(server.Close)
	program := filepath.Join(p.t.TempDir(), "browser")
	check(p.t, os.WriteFile(program, []byte("#!/bin/sh\nexec curl -sS --data-urlencode \"address=$1\" "+server.URL+"\n"), 0o700))
	return program
}
