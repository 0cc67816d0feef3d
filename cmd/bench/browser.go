package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"

	"golang.org/x/oauth2"
)

// redirectURI is where the browsers are sent with their codes. Nobody is there: they do not follow.
const redirectURI = "https://app.example.com/callback"

// verifier is the PKCE verifier of all requests. One is as much work as another.
const verifier = "bench-bench-bench-bench-bench-bench-bench-bench"

var authorizeQuery = "/authorize?" + url.Values{
	"response_type": {"code"}, "client_id": {"bench"}, "redirect_uri": {redirectURI}, "scope": {"openid read"}, "state": {"state"}, "nonce": {"nonce"},
	"code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "code_challenge_method": {"S256"},
}.Encode()

// visit is a browser at the server: what it was asked to log in with last, and its cookies.
type visit struct {
	login   string // the body of the login form, filled in
	before  string // the header Cookie of the login
	cookies string // the header Cookie of somebody who is logged in
}

var sealed = regexp.MustCompile(`name="request" value="([^"]+)"`)

// visit logs the user in and allows the client what it asks for, in a browser of their own.
func (w *world) visit(ctx context.Context, username string) (v visit, err error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return v, err
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	base := "http://" + w.addr
	send := func(method, path, form string) (status int, page string, err error) {
		req, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(form))
		if err != nil {
			return 0, "", err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := browser.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return res.StatusCode, string(body), err
	}
	cookies := func() string {
		req := &http.Request{Header: http.Header{}}
		u, err := url.Parse(base)
		if err != nil {
			return ""
		}
		for _, c := range jar.Cookies(u) {
			req.AddCookie(c)
		}
		return req.Header.Get("Cookie")
	}
	next := func(page string) (string, error) {
		found := sealed.FindStringSubmatch(page)
		if found == nil {
			return "", fmt.Errorf("a page without a form: %.300s", page)
		}
		return "request=" + url.QueryEscape(found[1]), nil
	}
	_, page, err := send(http.MethodGet, authorizeQuery, "")
	if err != nil {
		return v, err
	}
	form, err := next(page)
	if err != nil {
		return v, err
	}
	v.before, v.login = cookies(), form+"&username="+username+"&password="+url.QueryEscape(password)
	status, page, err := send(http.MethodPost, "/login", v.login)
	if err == nil && status == http.StatusOK { // the consent, which is remembered
		if form, err = next(page); err == nil {
			status, page, err = send(http.MethodPost, "/consent", form+"&decision=allow")
		}
	}
	if err == nil && status != http.StatusSeeOther {
		err = fmt.Errorf("the login of %s ends with %d: %.300s", username, status, page)
	}
	v.cookies = cookies()
	return v, err
}

// visits are those of the first n users.
func (w *world) visits(ctx context.Context, n int) ([]visit, error) {
	for i := len(w.visited); i < n; i++ {
		v, err := w.visit(ctx, w.users[i].Username)
		if err != nil {
			return nil, err
		}
		w.visited = append(w.visited, v)
	}
	return w.visited[:n], nil
}

// authorize is a whole login of somebody who is logged in already and has allowed the client before: /authorize in the browser, then
// the code for tokens at /token, an ES256 ID token among them. Both together count as one.
func (w *world) authorize() scenario {
	return scenario{name: "authorize", open: func(ctx context.Context, n int) ([]step, func(), error) {
		visits, err := w.visits(ctx, n)
		if err != nil {
			return nil, nil, err
		}
		return w.connect(ctx, n, func(i int, c *client) step {
			ask := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nCookie: %s\r\n\r\n", authorizeQuery, w.addr, userAgent, visits[i].cookies)
			return func() error {
				code, err := c.askForCode(ask)
				if err != nil {
					return err
				}
				redeem := w.post("/token", "grant_type=authorization_code&redirect_uri="+url.QueryEscape(redirectURI)+"&code_verifier="+verifier+"&code="+code)
				if err := c.do(redeem); err != nil {
					return err
				}
				if c.status != goodStatus || !bytes.Contains(c.body, []byte(`"id_token":"`)) {
					return &refusal{c.status, string(c.body)}
				}
				return nil
			}
		})
	}}
}

// login is the answer to the form of the login page, by somebody who has allowed the client before.
func (w *world) login() scenario {
	return scenario{name: "login", floor: hash, open: func(ctx context.Context, n int) ([]step, func(), error) {
		visits, err := w.visits(ctx, n)
		if err != nil {
			return nil, nil, err
		}
		return w.connect(ctx, n, func(i int, c *client) step {
			request := postRequest(w.addr, "/login", "Cookie: "+visits[i].before, visits[i].login)
			return func() error {
				_, err := c.askForCode(request)
				return err
			}
		})
	}}
}

// connect makes n connections to the server, each with its step.
func (w *world) connect(ctx context.Context, n int, of func(i int, c *client) step) (steps []step, closeAll func(), err error) {
	var clients []*client
	closeAll = func() {
		for _, c := range clients {
			c.conn.Close()
		}
	}
	for i := range n {
		c, err := dial(ctx, w.addr)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		clients = append(clients, c)
		steps = append(steps, of(i, c))
	}
	return steps, closeAll, nil
}

// askForCode sends the request, whose answer is to send the browser on with a code.
func (c *client) askForCode(request []byte) (string, error) {
	if err := c.do(request); err != nil {
		return "", err
	}
	if c.status != "HTTP/1.1 303 See Other" {
		return "", &refusal{c.status, string(c.body)}
	}
	_, query, _ := strings.Cut(c.location, "?")
	answer, err := url.ParseQuery(query)
	if err != nil {
		return "", err
	}
	if !answer.Has("code") {
		return "", errors.New("sent on without a code: " + c.location)
	}
	return answer.Get("code"), nil
}
