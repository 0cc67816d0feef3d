package server_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"signet/clients"
	"signet/storage/storagetest"
)

// FuzzAuthorize asks for a code with any query, in a browser where nobody is logged in: there is a page, or the client's own registered
// address, and never a fault.
func FuzzAuthorize(f *testing.F) {
	r := start(f, &backend{Name: "sqlite", URL: storagetest.MigratedSQLite(f)})
	c := r.shop(f, "shop", trusted, func(c *clients.Client) { c.RedirectURIs = append(c.RedirectURIs, "http://127.0.0.1/cb") })
	for _, q := range []url.Values{
		ask(c), ask(c, "prompt", "none"), ask(c, "response_mode", "form_post", "scope", "x"), ask(c, "response_mode", "fragment", "max_age", "x"), ask(c, "claims", `{"userinfo":{"name":null}}`),
		ask(c, "redirect_uri", "http://127.0.0.1:8080/cb", "state", "\x00\xff"), ask(c, "id_token_hint", "x.y.z"), ask(c, "resource", "https://api.example.com"), ask(c, "ui_locales", "de fr", "login_hint", "bob"),
	} {
		f.Add(q.Encode())
	}
	for _, raw := range []string{"", "client_id=shop", "client_id=shop&redirect_uri=x", "%", "a;b", "client_id=shop&client_id=shop", "client_id=%00", "client_id=shop&response_type=code&code_challenge_method=S256", "client_id=shop&state=a;b%", "client_id=shop&redirect_uri=%zz"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, query string) {
		for _, byPost := range []bool{false, true} {
			req := httptest.NewRequest(http.MethodGet, "/authorize", nil)
			req.URL.RawQuery = query
			if byPost {
				req = httptest.NewRequest(http.MethodPost, "/authorize", strings.NewReader(query))
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
			w := httptest.NewRecorder()
			r.public.ServeHTTP(w, req)
			to := w.Header().Get("Location")
			switch w.Code {
			case http.StatusOK, http.StatusBadRequest, http.StatusRequestEntityTooLarge:
				if to != "" || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
					t.Fatalf("%q: %d with Location %q, %q", query, w.Code, to, w.Header().Get("Content-Type"))
				}
				for _, form := range elements(t, w.Body.String(), "form") {
					if action := form["action"]; !strings.HasPrefix(action, "/") && !strings.HasPrefix(action, issuer+"/") && action != callback && !loopbackCallback(action) {
						t.Fatalf("%q: a form to %q", query, action)
					}
				}
			case http.StatusSeeOther:
				address, _, _ := strings.Cut(strings.ReplaceAll(to, "#", "?"), "?")
				if address != callback && !loopbackCallback(address) || strings.ContainsAny(to, "\r\n\x00 ") {
					t.Fatalf("%q: sent to %q", query, to)
				}
				if !strings.Contains(to, "error=") || !strings.Contains(to, "iss=") || strings.Contains(to, "?code=") {
					t.Fatalf("%q: answered %q", query, to)
				}
			default:
				t.Fatalf("%q: %d %s", query, w.Code, w.Body)
			}
		}
	})
}

func loopbackCallback(uri string) bool {
	rest, ok := strings.CutPrefix(uri, "http://127.0.0.1")
	return ok && strings.TrimLeft(rest, ":0123456789") == "/cb"
}

// FuzzIDTokenHint: nothing is taken for an ID token but what the server has signed as one.
func FuzzIDTokenHint(f *testing.F) {
	r := start(f, &backend{Name: "sqlite", URL: storagetest.MigratedSQLite(f)})
	c, u, s := r.shop(f, "shop", trusted), r.user(f, "alice"), r.surfer(f)
	a := r.redeem(f, c, s.grant(ask(c), u).code(f)).issued(f)
	genuine := a.text("id_token")
	parts := strings.Split(genuine, ".")
	for _, seed := range []string{genuine, a.text("access_token"), "", "..", parts[0] + "." + parts[1] + ".", "eyJhbGciOiJub25lIn0." + parts[1] + ".", genuine + "=", genuine[:len(genuine)-1], strings.Repeat(".", 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		h, ok, err := r.tokens.ReadHint(t.Context(), token)
		if err != nil {
			t.Fatalf("%q: %v", token, err)
		}
		if ok != (token == genuine) || ok && (h.Subject != u.ID || h.ClientID != c.ID) {
			t.Fatalf("%q: %+v, %v", token, h, ok)
		}
	})
}
