package server_test

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"signet/clients"
	"signet/keys"
	"signet/users"
)

// surfer is somebody at a browser: it keeps cookies, follows nothing by itself, and fills in the forms that it is shown.
type surfer struct {
	*replica
	t       testing.TB
	cookies map[string]string
	headers map[string]string
}

func (r *replica) surfer(t testing.TB) *surfer {
	return &surfer{replica: r, t: t, cookies: map[string]string{}, headers: map[string]string{}}
}

// view is what the browser shows, or where it is sent.
type view struct {
	answer
	location *url.URL
	action   string     // of the form
	hidden   url.Values // its hidden fields
	heading  string
}

func (s *surfer) open(method, path, body string, more ...option) view {
	s.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, s.url+path, strings.NewReader(body))
	check(s.t, err)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range s.headers {
		req.Header.Set(name, value)
	}
	for name, value := range s.cookies {
		req.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	for _, o := range more {
		o(req)
	}
	client := *s.http
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	web := *s.replica
	web.http = &client
	a, err := web.try(req)
	check(s.t, err)
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		if c.MaxAge < 0 {
			delete(s.cookies, c.Name)
		} else {
			s.cookies[c.Name] = c.Value
		}
	}
	v := view{answer: a, hidden: url.Values{}}
	if l := a.header.Get("Location"); l != "" {
		v.location, err = url.Parse(l)
		check(s.t, err)
	}
	if strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
		v.read(s.t)
	}
	return v
}

// elements returns the elements of that name in a page.
func elements(t testing.TB, page, name string) (found []map[string]string) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	check(t, err)
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && (n.Data == name || name == "*") {
			attrs := map[string]string{"": n.Data}
			for _, a := range n.Attr {
				attrs[a.Key] = a.Val
			}
			if n.FirstChild != nil && n.FirstChild.Type == html.TextNode {
				attrs["text"] = strings.TrimSpace(n.FirstChild.Data)
			}
			found = append(found, attrs)
		}
	}
	return found
}

func (v *view) read(t testing.TB) {
	t.Helper()
	for _, f := range elements(t, v.body, "form") {
		v.action = f["action"]
	}
	for _, i := range elements(t, v.body, "input") {
		if i["type"] == "hidden" {
			v.hidden.Add(i["name"], i["value"])
		}
	}
	for _, h := range elements(t, v.body, "h1") {
		v.heading = h["text"]
	}
}

// submit sends the form of the page, with what the user fills in.
func (s *surfer) submit(v view, pairs ...string) view {
	s.t.Helper()
	if v.action == "" {
		s.t.Fatalf("there is no form to send: %d %.300s", v.status, v.body)
	}
	f := url.Values{}
	for name, values := range v.hidden { // of a page's forms one is sent
		f[name] = values[len(values)-1:]
	}
	for i := 0; i < len(pairs); i += 2 {
		f.Set(pairs[i], pairs[i+1])
	}
	return s.open(http.MethodPost, v.action, f.Encode())
}

// verifier and challenge are a pair (RFC 7636).
const verifier = "a-verifier-that-nobody-could-guess-0123456789"

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

const callback = "https://shop.example.com/cb"

// shop registers a client that logs its users in by code.
func (r *replica) shop(t testing.TB, id string, change ...func(*clients.Client)) *clients.Client {
	t.Helper()
	return r.app(t, id, append([]func(*clients.Client){func(c *clients.Client) {
		c.Grants = []clients.Grant{clients.AuthorizationCode, clients.RefreshToken}
		c.RedirectURIs, c.PostLogoutRedirectURIs = []string{callback}, []string{"https://shop.example.com/bye"}
		c.Scope = clients.Scope{"openid", "profile", "email", "phone", "groups", "offline_access", "read", "write"}
		c.IDTokenAlg = "ES256" // quicker than RS256
	}}, change...)...)
}

func trusted(c *clients.Client) { c.SkipConsent = true }

// ask are the parameters of a good request, changed by pairs; an empty value removes one.
func ask(c *clients.Client, pairs ...string) url.Values {
	q := url.Values{
		"client_id": {c.ID}, "redirect_uri": {callback}, "response_type": {"code"}, "scope": {"openid"}, "state": {"xyz"},
		"code_challenge": {challengeOf(verifier)}, "code_challenge_method": {"S256"},
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			q.Del(pairs[i])
		} else {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

func (s *surfer) authorize(q url.Values) view {
	s.t.Helper()
	return s.open(http.MethodGet, "/authorize?"+q.Encode(), "")
}

// enter fills in the login page.
func (s *surfer) enter(v view, u users.User, more ...string) view {
	s.t.Helper()
	return s.submit(v, append([]string{"username", u.Username, "password", password}, more...)...)
}

// grant does whatever the pages ask for.
func (s *surfer) grant(q url.Values, u users.User) view {
	s.t.Helper()
	v := s.authorize(q)
	if strings.HasSuffix(v.action, "/login") {
		v = s.enter(v, u)
	}
	if strings.HasSuffix(v.action, "/consent") {
		v = s.submit(v, "decision", "allow")
	}
	return v
}

// logOut says yes to the question whether to log out.
func (s *surfer) logOut() {
	s.t.Helper()
	s.submit(s.open(http.MethodGet, "/logout", ""), "decision", "logout").page(s.t, http.StatusOK)
}

// at is the same browser at another replica, with the cookies that it has now.
func (s *surfer) at(r *replica) *surfer {
	return &surfer{replica: r, t: s.t, cookies: maps.Clone(s.cookies), headers: maps.Clone(s.headers)}
}

// parameters returns those of an answer that came in that mode, and nowhere else.
func (v view) parameters(t testing.TB, mode string) url.Values {
	t.Helper()
	if mode == "form_post" {
		if v.page(t, http.StatusOK); v.action != callback {
			t.Errorf("a form to %q", v.action)
		}
		return v.hidden
	}
	if v.status != http.StatusSeeOther || v.location == nil {
		t.Fatalf("no answer: %d, %.600s", v.status, v.body)
	}
	there, elsewhere := v.location.RawQuery, v.location.EscapedFragment()
	if mode == "fragment" {
		there, elsewhere = elsewhere, there
	}
	q, err := url.ParseQuery(there)
	if check(t, err); elsewhere != "" {
		t.Errorf("by %s, and %q elsewhere", mode, elsewhere)
	}
	return q
}

// code returns the code of an answer.
func (v view) code(t testing.TB) string {
	t.Helper()
	if v.status != http.StatusSeeOther || v.location == nil || v.location.Query().Get("code") == "" {
		t.Fatalf("no code: %d, Location %v, %.600s", v.status, v.location, v.body)
	}
	return v.location.Query().Get("code")
}

// refused wants an error by redirect.
func (v view) refused(t testing.TB, code string) {
	t.Helper()
	if v.status != http.StatusSeeOther || v.location == nil || v.location.Query().Get("error") != code {
		t.Errorf("%d, Location %v, want the error %s; %.300s", v.status, v.location, code, v.body)
		return
	}
	if v.location.Query().Get("iss") != issuer || v.location.Query().Has("code") || v.location.Query().Get("error_description") == "" {
		t.Errorf("the answer is %v", v.location)
	}
}

// page wants a page with that status, and no redirect.
func (v view) page(t testing.TB, status int) {
	t.Helper()
	if v.status != status || v.location != nil || !strings.HasPrefix(v.header.Get("Content-Type"), "text/html") {
		t.Errorf("%d, Location %v, %q, want a page with %d; %.200s", v.status, v.location, v.header.Get("Content-Type"), status, v.body)
	}
}

// redeem exchanges a code.
func (r *replica) redeem(t testing.TB, c *clients.Client, code string, pairs ...string) answer {
	t.Helper()
	f := form("grant_type", "authorization_code", "code", code, "redirect_uri", callback, "code_verifier", verifier)
	for i := 0; i < len(pairs); i += 2 {
		if f.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
			f.Del(pairs[i])
		}
	}
	return r.post(t, "/token", c, f)
}

// payload reads the claims of a JWT.
func payload(t testing.TB, token string) map[string]any {
	t.Helper()
	_, claims := decode(t, token)
	return claims
}

func only(name, value string) option {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func algorithm(name string) keys.Algorithm { return keys.Algorithm(name) }

func ignore[T any](_ T, err error) error { return err }

// members are members of a profile.
func members(t testing.TB, text string) (m map[string]json.RawMessage) {
	t.Helper()
	check(t, json.Unmarshal([]byte(text), &m))
	return m
}

// accessHash is the at_hash of an access token (OpenID Connect Core section 3.1.3.6).
func accessHash(alg, token string) string {
	if alg == "EdDSA" {
		sum := sha512.Sum512([]byte(token))
		return base64.RawURLEncoding.EncodeToString(sum[:32])
	}
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// verify reads a JWT whose signature has to be that of a published key.
func verify(t testing.TB, jwks map[string]map[string]any, token string) (header, claims map[string]any) {
	t.Helper()
	header, claims = decode(t, token)
	kid, _ := header["kid"].(string)
	if jwks[kid] == nil || !verified(t, jwks[kid], token) {
		t.Fatalf("not signed by a published key: %v", header)
	}
	return header, claims
}
