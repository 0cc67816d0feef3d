package server_test

import (
	"bytes"
	"cmp"
	"io"
	"mime/multipart"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"signet/audit"
	"signet/clients"
)

var postEndpoints = []string{"/token", "/introspect", "/revoke"}

// wellFormed checks what every error answer has: an object of two members and the common headers.
func wellFormed(t testing.TB, a answer) {
	t.Helper()
	commonHeaders(t, a)
	if got := a.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type is %q", got)
	}
	description := a.text("error_description")
	if len(a.json) != 2 || a.text("error") == "" || description == "" {
		t.Errorf("not an error object: %s", a.body)
	}
	// RFC 6749 section 5.2 excludes quotes and backslashes; the rest would be a detail of the server.
	if strings.ContainsAny(description, `"\`) || regexp.MustCompile(`(?i)sql|postgres|select |goroutine|\.go|/usr|/tmp|panic`).MatchString(description) {
		t.Errorf("a description that should not be: %s", description)
	}
	if got := a.header.Get("WWW-Authenticate"); a.status == http.StatusUnauthorized && got != `Basic realm="signet"` {
		t.Errorf("WWW-Authenticate is %q", got)
	}
}

func commonHeaders(t testing.TB, a answer) {
	t.Helper()
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "Pragma": "no-cache", "X-Content-Type-Options": "nosniff",
	} {
		if got := a.header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := a.header.Values("X-Request-Id"); len(got) != 1 || got[0] == "" {
		t.Errorf("X-Request-Id is %q, want one", got)
	}
}

// request400 is a request that each of the three endpoints refuses as an invalid_request.
type request400 struct {
	name    string
	query   string
	form    url.Values
	body    string // in place of the form
	options []option
}

func contentType(v string) option {
	return func(r *http.Request) {
		r.Header.Del("Content-Type")
		if v != "" {
			r.Header.Set("Content-Type", v)
		}
	}
}

func badRequests(c *clients.Client) []request400 {
	good := form("grant_type", "client_credentials", "token", "x")
	with := func(pairs ...string) url.Values {
		f := form(pairs...)
		for name, values := range good {
			f[name] = append(f[name], values...)
		}
		return f
	}
	auth := basic(c.ID, c.Secret)
	cases := []request400{
		{name: "two tokens", form: with("token", "y"), options: []option{auth}},
		{name: "a parameter twice with the same value", form: with("token", "x"), options: []option{auth}},
		{name: "a parameter twice, one empty", form: with("token", ""), options: []option{auth}},
		{name: "a repeated parameter that nobody knows", form: with("a", "1", "a", "2"), options: []option{auth}},
		{name: "client_id twice", form: with("client_id", c.ID, "client_id", c.ID), options: []option{auth}},
		{name: "client_secret twice", form: with("client_id", c.ID, "client_secret", c.Secret, "client_secret", c.Secret)},
		{name: "no content type", form: good, options: []option{auth, contentType("")}},
		{name: "JSON", body: `{"grant_type":"client_credentials","token":"x"}`, options: []option{auth, contentType("application/json")}},
		{name: "a form that says it is text", form: good, options: []option{auth, contentType("text/plain")}},
		{name: "a content type that is none", form: good, options: []option{auth, contentType("application/x-www-form-urlencoded; =")}},
		{name: "multipart", body: multipartForm(good), options: []option{auth, contentType("multipart/form-data; boundary=b")}},
		{name: "a malformed escape", body: good.Encode() + "&a=%zz", options: []option{auth}},
		{name: "a semicolon between parameters", body: good.Encode() + ";a=b", options: []option{auth}},
		{name: "bytes that are no UTF-8", body: good.Encode() + "&a=%ff", options: []option{auth}},
		{name: "Basic with a client_secret", form: with("client_secret", c.Secret), options: []option{auth}},
		{name: "Basic with another client's client_id", form: with("client_id", "other"), options: []option{auth}},
		{name: "Basic twice", form: good, options: []option{auth, header("Authorization", "Basic x")}},
		{name: "a malformed query string", form: good, query: "?a=%zz", options: []option{auth}},
	}
	for _, name := range []string{
		"grant_type", "username", "password", "scope", "resource", "refresh_token", "token", "access_token", "token_type_hint",
		"client_id", "client_secret", "client_assertion", "client_assertion_type", "code", "code_verifier", "device_code", "subject_token", "actor_token",
		"id_token_hint",
	} {
		f := with("username", "alice", "password", password)
		value := cmp.Or(f.Get(name), "x")
		f.Del(name)
		cases = append(cases, request400{name: "in the query string: " + name, form: f, query: "?" + name + "=" + url.QueryEscape(value), options: []option{auth}})
	}
	return cases
}

func multipartForm(f url.Values) string {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	_ = w.SetBoundary("b")
	for name, values := range f {
		_ = w.WriteField(name, values[0])
	}
	_ = w.Close()
	return b.String()
}

func TestInvalidRequests(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		for _, path := range postEndpoints {
			for _, bad := range badRequests(c) {
				t.Run(path+" "+bad.name, func(t *testing.T) {
					body := bad.body
					if body == "" {
						body = bad.form.Encode()
					}
					a := r.do(t, r.request(t.Context(), path+bad.query, body, bad.options...))
					wellFormed(t, a.want(t, http.StatusBadRequest, "invalid_request"))
				})
			}
		}
	})
}

func TestRequestsThatAreFine(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app", audience(api, issuer))
		good := form("grant_type", "client_credentials", "token", "x")
		auth := basic(c.ID, c.Secret)
		for _, ok := range []struct {
			name    string
			path    string
			more    string
			options []option
		}{
			{"a content type with a parameter", "/token", "", []option{auth, contentType("application/x-www-form-urlencoded; charset=UTF-8")}},
			{"a content type in other letters", "/token", "", []option{auth, contentType("Application/X-WWW-Form-URLEncoded")}},
			{"a parameter that nobody knows", "/token", "&prompt=none", []option{auth}},
			{"resource twice", "/token", "&resource=" + url.QueryEscape(api) + "&resource=" + url.QueryEscape(issuer), []option{auth}},
			{"a harmless query string", "/token?tenant=1", "", []option{auth}},
			{"a wrong token_type_hint at introspection", "/introspect", "&token_type_hint=pizza", []option{auth}},
			{"a wrong token_type_hint at revocation", "/revoke", "&token_type_hint=pizza", []option{auth}},
			{"Basic and its own client_id", "/token", "&client_id=app", []option{auth}},
			{"Basic and an empty client_secret", "/token", "&client_secret=", []option{auth}},
			{"client_secret_post", "/token", "&client_id=app&client_secret=" + c.Secret, nil},
			{"a body of 64 KiB", "/token", "&pad=" + strings.Repeat("a", 64<<10-len(good.Encode())-len("&pad=")), []option{auth}},
			{"an Accept header that asks for something else", "/token", "", []option{auth, header("Accept", "text/html")}},
		} {
			t.Run(ok.name, func(t *testing.T) {
				a := r.do(t, r.request(t.Context(), ok.path, good.Encode()+ok.more, ok.options...))
				commonHeaders(t, a.want(t, http.StatusOK, ""))
			})
		}
	})
}

func TestBodyTooLarge(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		body := "grant_type=client_credentials&token=x&pad="
		body += strings.Repeat("a", 64<<10+1-len(body))
		for _, path := range postEndpoints {
			for name, chunked := range map[string]bool{"of a known length": false, "in chunks": true} {
				t.Run(path+" "+name, func(t *testing.T) {
					req := r.request(t.Context(), path, body, basic(c.ID, c.Secret))
					if chunked {
						req.Body, req.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader(body))), -1
					}
					wellFormed(t, r.do(t, req).want(t, http.StatusRequestEntityTooLarge, "invalid_request"))
				})
			}
		}
	})
}

func TestOtherMethods(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		allowed := map[string][]string{
			"/token": {"POST"}, "/introspect": {"POST"}, "/revoke": {"POST"},
			"/livez": {"GET", "HEAD"}, "/readyz": {"GET", "HEAD"},
			"/.well-known/jwks.json": {"GET", "HEAD"}, "/.well-known/oauth-authorization-server": {"GET", "HEAD"},
		}
		for path, methods := range allowed {
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE"} {
				if slices.Contains(methods, method) {
					continue
				}
				t.Run(method+" "+path, func(t *testing.T) {
					a := r.do(t, r.request(t.Context(), path, "", basic(c.ID, c.Secret), func(req *http.Request) { req.Method = method }))
					commonHeaders(t, a)
					got := strings.Split(strings.ReplaceAll(a.header.Get("Allow"), " ", ""), ",")
					slices.Sort(got)
					if a.status != http.StatusMethodNotAllowed || !slices.Equal(got, methods) {
						t.Errorf("got %d with Allow %q, want 405 with %q", a.status, got, methods)
					}
					if method != http.MethodHead {
						wellFormed(t, a.want(t, http.StatusMethodNotAllowed, "invalid_request"))
					}
				})
			}
		}
	})
}

func TestHead(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		for _, path := range []string{"/livez", "/readyz", "/.well-known/jwks.json", "/.well-known/oauth-authorization-server"} {
			get := r.get(t, path)
			head := r.get(t, path, func(req *http.Request) { req.Method = http.MethodHead })
			if head.status != http.StatusOK || head.body != "" || head.header.Get("Content-Type") != get.header.Get("Content-Type") {
				t.Errorf("HEAD %s: got %d %q, want what GET answers without the body", path, head.status, head.body)
			}
		}
	})
}

func TestUnknownPaths(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		for _, path := range []string{"/", "/nothing", "/token/", "/Token", "//token", "/token/x", "/metrics", "/debug/pprof/", "/.well-known/", "/.well-known/openid-configuration/x"} {
			t.Run(path, func(t *testing.T) {
				for _, method := range []string{http.MethodGet, http.MethodPost} {
					a := r.do(t, r.request(t.Context(), path, "", func(req *http.Request) { req.Method = method }))
					wellFormed(t, a.want(t, http.StatusNotFound, "not_found"))
				}
			})
		}
	})
}

func TestRequestID(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		send := func(id string) string {
			options := []option{basic(c.ID, c.Secret)}
			if id != "" {
				options = append(options, header("X-Request-Id", id))
			}
			a := r.do(t, r.request(t.Context(), "/introspect", "token=x", options...))
			commonHeaders(t, a)
			return a.header.Get("X-Request-Id")
		}
		for _, id := range []string{
			"b6f0c8ae-1f2d-4f57-9b3e-0d7b4d3f3a10", "01J9Z3K4M5N6P7Q8R9S0T1V2W3", "a", "req_1.2:3/4+5=6@7-8", strings.Repeat("a", 128),
		} {
			if got := send(id); got != id {
				t.Errorf("the caller's %q became %q", id, got)
			}
		}
		seen := map[string]bool{}
		for _, id := range []string{"", "a b", "a\tb", `"a"`, "<script>", "a;b", "ü", "{}", strings.Repeat("a", 129)} {
			got := send(id)
			if got == id || got == "" || seen[got] {
				t.Errorf("for %q the id is %q, want a new one", id, got)
			}
			seen[got] = true
		}
		// Two of them are none that can be trusted to be the caller's one.
		a := r.do(t, r.request(t.Context(), "/introspect", "token=x", basic(c.ID, c.Secret), header("X-Request-Id", "first"), header("X-Request-Id", "second")))
		commonHeaders(t, a)
	})
}

// Pages that nobody knows yet, such as a client of MCP in the browser, register themselves.
func TestCORSOfRegistration(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		req := r.request(t.Context(), "/register", "", header("Origin", "https://page.example.com"), header("Access-Control-Request-Method", "PUT"))
		req.Method = http.MethodOptions
		a := r.do(t, req)
		if a.header.Get("Access-Control-Allow-Origin") != "*" || a.header.Get("Access-Control-Allow-Methods") != "PUT" || a.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%d %v", a.status, a.header)
		}
		if a := r.registered(t, goodApp, header("Origin", "https://page.example.com")); a.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%v", a.header)
		}
	}, registering(clients.RegistrationOpen))
}

func TestCORS(t *testing.T) {
	const page = "https://app.example.com"
	preflight := func(t *testing.T, r *replica, path, from string, more ...option) answer {
		t.Helper()
		return r.do(t, r.request(t.Context(), path, "", append([]option{header("Origin", from), func(req *http.Request) {
			req.Method = http.MethodOptions
			req.Header.Set("Access-Control-Request-Method", http.MethodPost)
			req.Header.Set("Access-Control-Request-Headers", "authorization,content-type")
		}}, more...)...))
	}
	t.Run("off", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			c := r.app(t, "app")
			for _, path := range postEndpoints {
				if got := preflight(t, r, path, page).header.Get("Access-Control-Allow-Origin"); got != "" {
					t.Errorf("%s: preflight: Access-Control-Allow-Origin is %q", path, got)
				}
				a := r.post(t, path, c, form("grant_type", "client_credentials", "token", "x"), header("Origin", page))
				if got := a.header.Get("Access-Control-Allow-Origin"); got != "" || a.status != http.StatusOK {
					t.Errorf("%s: %d, Access-Control-Allow-Origin is %q", path, a.status, got)
				}
			}
		})
	})
	t.Run("on", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			c := r.app(t, "app")
			for _, path := range postEndpoints {
				for _, from := range []string{page, "https://evil.example.com", "https://app.example.com.evil.com", "http://app.example.com", "null"} {
					t.Run(path+" from "+from, func(t *testing.T) {
						want := ""
						if from == page && path != "/introspect" {
							want = page
						}
						a := r.post(t, path, c, form("grant_type", "client_credentials", "token", "x"), header("Origin", from))
						commonHeaders(t, a)
						if got := a.header.Get("Access-Control-Allow-Origin"); got != want {
							t.Errorf("Access-Control-Allow-Origin is %q, want %q", got, want)
						}
						for _, asked := range []string{"Content-Type", "content-type,authorization", "Content-Type , X-Request-ID,content-type", "dpop"} {
							a := preflight(t, r, path, from, func(req *http.Request) { req.Header.Set("Access-Control-Request-Headers", asked) })
							if got := a.header.Get("Access-Control-Allow-Origin"); got != want {
								t.Errorf("preflight for %s: Access-Control-Allow-Origin is %q, want %q", asked, got, want)
							}
						}
						p := preflight(t, r, path, from)
						if got := p.header.Get("Access-Control-Allow-Origin"); got != want {
							t.Errorf("preflight: Access-Control-Allow-Origin is %q, want %q", got, want)
						}
						for name, h := range map[string]http.Header{"answer": a.header, "preflight": p.header} {
							if got := h.Get("Access-Control-Allow-Credentials"); got != "" {
								t.Errorf("%s: Access-Control-Allow-Credentials is %q", name, got)
							}
						}
						if want != "" && (p.status/100 != 2 || p.header.Get("Access-Control-Allow-Methods") != "POST") {
							t.Errorf("preflight: %d %v", p.status, p.header)
						}
					})
				}
			}
		}, func(s *settings) { s.origins = []string{page} })
	})
	// The pages that public clients are sent back to may get tokens without any setting, as long as the client is enabled.
	t.Run("of clients", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			spa := r.app(t, "spa", func(c *clients.Client) {
				c.AuthMethod, c.Grants, c.ApplicationType, c.ResourceServer = clients.None, nil, clients.Native, false
				c.RedirectURIs = []string{
					"https://App.example.com:443/cb?x=https://query.example.com", "http://localhost:5173/cb", "https://other.example.com:8443/", "com.example.app:/cb",
				}
			})
			r.app(t, "confidential", func(c *clients.Client) { c.RedirectURIs = []string{"https://secret.example.com/cb"} })
			for from, want := range map[string]bool{
				page: true, "http://localhost:5173": true, "https://other.example.com:8443": true,
				"https://other.example.com": false, "http://localhost": false, "http://localhost:5174": false, "http://app.example.com": false, "https://secret.example.com": false,
				"https://query.example.com": false, "com.example.app://": false, "com.example.app:": false, "null": false, "https://app.example.com/cb": false,
			} {
				for _, path := range []string{"/token", "/revoke", "/introspect"} {
					expected := ""
					if want && path != "/introspect" {
						expected = from
					}
					for name, h := range map[string]http.Header{
						"preflight": preflight(t, r, path, from).header,
						"answer":    r.do(t, r.request(t.Context(), path, "token=x&client_id=spa", header("Origin", from))).header,
					} {
						if got := h.Get("Access-Control-Allow-Origin"); got != expected || h.Get("Access-Control-Allow-Credentials") != "" {
							t.Errorf("%s %s from %s: Access-Control-Allow-Origin is %q, want %q", name, path, from, got, expected)
						}
					}
				}
			}
			_, err := r.clients.SetDisabled(t.Context(), spa.ID, true, audit.Origin{})
			check(t, err)
			if got := preflight(t, r, "/token", page).header.Get("Access-Control-Allow-Origin"); got != "" {
				t.Errorf("of a disabled client: %q", got)
			}
		})
	})
	t.Run("of the documents, for anybody", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			for _, path := range []string{
				"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server/auth", "/.well-known/jwks.json", "/openapi.yaml",
			} {
				for method, want := range map[string]string{"GET": "*", "HEAD": "*", "POST": ""} {
					a := r.do(t, r.request(t.Context(), path, "", header("Origin", page), func(req *http.Request) {
						req.Method = http.MethodOptions
						req.Header.Set("Access-Control-Request-Method", method)
						req.Header.Set("Access-Control-Request-Headers", "authorization,mcp-protocol-version")
					}))
					h := a.header
					if a.status != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != want || h.Get("Access-Control-Allow-Credentials") != "" ||
						want != "" && (h.Get("Access-Control-Allow-Methods") != method || h.Get("Access-Control-Allow-Headers") != "authorization,mcp-protocol-version") {
						t.Errorf("%s: preflight of %s: %d %v", path, method, a.status, h)
					}
					commonHeaders(t, a)
				}
				if a := r.get(t, path, header("Origin", page)); a.status != http.StatusOK || a.header.Get("Access-Control-Allow-Origin") != "*" {
					t.Errorf("%s: %d %v", path, a.status, a.header)
				}
			}
		}, func(s *settings) { s.issuer = "https://example.com/auth" })
	})
	t.Run("a preflight has the headers of every answer", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) { commonHeaders(t, preflight(t, r, "/token", page)) },
			func(s *settings) { s.origins = []string{page} })
	})
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
