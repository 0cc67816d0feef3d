package interop

import (
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// browser is somebody at a browser that runs no scripts: it keeps cookies, follows redirects, and sends the forms that it is shown.
type browser struct{ client *http.Client }

// newBrowser returns one that stops before an address that begins with until, where nobody listens; "" for none.
func newBrowser(t *testing.T, until string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	check(t, err)
	return &browser{&http.Client{Jar: jar, Timeout: patience, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if until != "" && strings.HasPrefix(r.URL.String(), until) {
			return http.ErrUseLastResponse
		}
		return nil
	}}}
}

// page is what the browser shows, or where it would go next.
type page struct {
	url    *url.URL
	status int
	header http.Header
	body   string
	action *url.URL // of the form
	fields url.Values
}

var (
	formTag  = regexp.MustCompile(`<form[^>]*action="([^"]*)"[^>]*>`)
	inputTag = regexp.MustCompile(`<input[^>]*>`)
	named    = regexp.MustCompile(` name="([^"]*)"`)
	valued   = regexp.MustCompile(` value="([^"]*)"`)
)

func (b *browser) open(t *testing.T, address string) page {
	t.Helper()
	return b.send(t, http.MethodGet, address, "")
}

func (b *browser) submit(t *testing.T, from page, pairs ...string) page {
	t.Helper()
	if from.action == nil {
		t.Fatalf("%s has no form: %d %s", from.url, from.status, from.body)
	}
	for i := 0; i < len(pairs); i += 2 {
		from.fields.Set(pairs[i], pairs[i+1])
	}
	return b.send(t, http.MethodPost, from.action.String(), from.fields.Encode())
}

func (b *browser) send(t *testing.T, method, address, form string) page {
	t.Helper()
	req, err := http.NewRequest(method, address, strings.NewReader(form))
	check(t, err)
	req.Header.Set("Accept", "text/html") // or apps take it for a script's request
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := b.client.Do(req)
	check(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	check(t, err)
	p := page{url: res.Request.URL, status: res.StatusCode, header: res.Header, body: string(body), fields: url.Values{}}
	if next, err := res.Location(); err == nil {
		p.url = next
		return p
	}
	if found := formTag.FindStringSubmatch(p.body); found != nil {
		p.action, err = p.url.Parse(html.UnescapeString(found[1]))
		check(t, err)
		for _, input := range inputTag.FindAllString(p.body, -1) {
			name, value := named.FindStringSubmatch(input), valued.FindStringSubmatch(input)
			switch {
			case name == nil || strings.Contains(input, `type="checkbox"`):
			case value == nil:
				p.fields.Set(name[1], "")
			default:
				p.fields.Set(name[1], html.UnescapeString(value[1]))
			}
		}
	}
	return p
}

// logIn opens an address and does what Signet's pages ask.
func (b *browser) logIn(t *testing.T, address string) page {
	t.Helper()
	return b.obey(t, b.open(t, address))
}

// obey does what Signet's pages ask: gives the password, allows the app.
func (b *browser) obey(t *testing.T, p page) page {
	t.Helper()
	if p.fields.Has("password") {
		p = b.submit(t, p, "username", username, "password", password)
	}
	if p.action != nil && p.action.Path == "/consent" {
		p = b.submit(t, p, "decision", "allow")
	}
	return p
}
