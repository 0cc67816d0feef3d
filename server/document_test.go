package server_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"signet/clients"
	"signet/keys"
)

func withDocuments(s *settings) { s.documents = true }

// documents is a server of clients' metadata documents.
type documents struct {
	*httptest.Server
	fetches atomic.Int32
	serve   atomic.Pointer[func(w http.ResponseWriter, r *http.Request)]
}

func startDocuments(t testing.TB) *documents {
	t.Helper()
	d := &documents{}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.fetches.Add(1)
		(*d.serve.Load())(w, r)
	}))
	t.Cleanup(d.Close)
	d.say(`{"client_id": "%s", "client_name": "A tool", "redirect_uris": ["` + callback + `"], "id_token_signed_response_alg": "ES256"}`)
	return d
}

// say has every document be that text, with its own address in the place of %s.
func (d *documents) say(text string) {
	f := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write([]byte(strings.Replace(text, "%s", d.URL+r.URL.Path, 1))) //nolint:gosec // JSON
	}
	d.serve.Store(&f)
}

// tool is the client whose document is there.
func (d *documents) tool(path string) *clients.Client {
	return &clients.Client{ID: d.URL + path, AuthMethod: clients.None}
}

func TestClientMetadataDocuments(t *testing.T) {
	t.Parallel()
	t.Run("a client is known by its document, and written down when it is allowed something", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			d, ann, s := startDocuments(t), r.user(t, "ann"), r.surfer(t)
			tool := d.tool("/tool")
			v := s.authorize(ask(tool, "scope", "openid offline_access"))
			v.page(t, 200)
			v = s.enter(v, ann)
			v.page(t, 200)
			if !strings.Contains(v.body, "A tool ("+strings.TrimPrefix(d.URL, "http://")+")") {
				t.Errorf("the page does not say whose address it is: %s", v.body)
			}
			if _, err := r.clients.Get(t.Context(), tool.ID); !errors.Is(err, clients.ErrNotFound) {
				t.Errorf("before anybody allowed it anything: %v", err)
			}
			tokens := r.redeem(t, tool, s.submit(v, "decision", "allow").code(t)).issued(t)
			equal(t, "client_id", func() any { _, c := decode(t, tokens.text("access_token")); return c["client_id"] }(), any(tool.ID))
			r.refresh(t, tool, tokens.text("refresh_token")).issued(t)
			row, err := r.clients.Get(t.Context(), tool.ID)
			check(t, err)
			equal(t, "registered by itself", row.Registered, true)
			s.authorize(ask(tool, "scope", "openid offline_access")).code(t) // remembered
			equal(t, "fetches", int(d.fetches.Load()), 1)

			_, err = r.clients.SetDisabled(t.Context(), tool.ID, true, origin)
			check(t, err)
			s.authorize(ask(tool)).page(t, 400)
		}, withDocuments)
	})
	t.Run("5 client_id equals the URL; too large, slow, redirected, wrong type, private address: refused", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			d, s := startDocuments(t), r.surfer(t)
			app := func(members string) func(http.ResponseWriter, *http.Request) {
				return func(w http.ResponseWriter, q *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					_, _ = fmt.Fprintf(w, `{"client_id": "%s%s", "redirect_uris": ["%s"]%s}`, d.URL, q.URL.Path, callback, members) //nolint:gosec // likewise
				}
			}
			bad := map[string]func(http.ResponseWriter, *http.Request){
				"another's id": func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					_, _ = fmt.Fprintf(w, `{"client_id": "%s/elsewhere", "redirect_uris": ["%s"]}`, d.URL, callback)
				},
				"no id": func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					_, _ = w.Write([]byte(`{"redirect_uris": ["` + callback + `"]}`))
				},
				"a redirect": func(w http.ResponseWriter, q *http.Request) { http.Redirect(w, q, "/good", http.StatusFound) },
				"404":        http.NotFound,
				"HTML": func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "text/html")
					_, _ = w.Write([]byte("{}"))
				},
				"no JSON": func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					_, _ = w.Write([]byte("<"))
				},
				"too large":        app(`, "x": "` + strings.Repeat("x", 65<<10) + `"`),
				"a secret":         app(`, "client_secret": "hunter2"`),
				"by secret":        app(`, "token_endpoint_auth_method": "client_secret_basic"`),
				"a reserved scope": app(`, "scope": "openid signet:admin"`),
				"a statement":      app(`, "software_statement": "x"`),
			}
			paths := map[string]func(http.ResponseWriter, *http.Request){}
			i := 0
			for name, f := range bad {
				i++
				path := fmt.Sprintf("/bad/%d", i)
				paths[path] = f
				t.Cleanup(func() {
					if t.Failed() {
						t.Logf("%s is %s", path, name)
					}
				})
			}
			serve := func(w http.ResponseWriter, q *http.Request) { paths[q.URL.Path](w, q) }
			d.serve.Store(&serve)
			for path := range paths {
				v := s.authorize(ask(d.tool(path)))
				if v.page(t, 400); !strings.Contains(v.body, "metadata document") {
					t.Errorf("%s: %s", path, v.body)
				}
			}
			for _, id := range []string{
				"https://10.0.0.1/tool", "https://127.0.0.2/tool", "https://[::1]/tool", "https://localhost/tool", "http://10.0.0.1/tool", "https://user@example.com/tool",
				"https://example.com", "https://example.com/a/../tool", "https://example.com/tool#x", "ftp://example.com/tool",
			} {
				s.authorize(ask(&clients.Client{ID: id})).page(t, 400)
			}
			if all, err := r.clients.List(t.Context(), clients.Filter{Limit: 10}); err != nil || len(all) > 0 {
				t.Errorf("%d clients, %v", len(all), err)
			}
		}, withDocuments)
	})
	t.Run("5 changed later, unreachable: what is live goes on", func(t *testing.T) {
		onBackends(t, func(t *testing.T, b *backend) {
			r := start(t, b, withDocuments)
			d, ann, s := startDocuments(t), r.user(t, "ann"), r.surfer(t)
			tool := d.tool("/tool")
			tokens := r.redeem(t, tool, s.grant(ask(tool, "scope", "openid offline_access"), ann).code(t)).issued(t)

			d.say(`{"client_id": "%s", "client_name": "A tool", "redirect_uris": ["https://new.example.com/cb"], "id_token_signed_response_alg": "ES256"}`)
			s.authorize(ask(tool)).code(t) // for some minutes
			later := start(t, b, withDocuments)
			at := s.at(later)
			at.authorize(ask(tool)).page(t, 400)
			at.grant(ask(tool, "redirect_uri", "https://new.example.com/cb", "scope", "openid offline_access"), ann).code(t)
			row, err := later.clients.Get(t.Context(), tool.ID)
			check(t, err)
			equal(t, "redirect_uris", fmt.Sprint(row.RedirectURIs), "[https://new.example.com/cb]")

			d.Close()
			much := start(t, b, withDocuments)
			s.at(much).authorize(ask(tool, "redirect_uri", "https://new.example.com/cb")).page(t, 400)
			much.refresh(t, tool, tokens.text("refresh_token")).issued(t)
		})
	})
	t.Run("its first request may be pushed", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			d, ann, s := startDocuments(t), r.user(t, "ann"), r.surfer(t)
			tool := d.tool("/tool")
			v := s.grant(form("client_id", tool.ID, "request_uri", r.push(t, tool, ask(tool))), ann)
			r.redeem(t, tool, v.code(t)).issued(t)
			r.send(t, "/par", form("client_id", tool.ID, "client_secret", "sgs_x").Encode()).want(t, 401, "invalid_client")

			// One that proves itself by the keys of its document, and DPoP binds its code.
			key, other := newKey(t, jose.ES256), newKey(t, jose.ES256)
			d.say(`{"client_id": "%s", "redirect_uris": ["` + callback + `"], "token_endpoint_auth_method": "private_key_jwt", "id_token_signed_response_alg": "ES256", "jwks": ` + string(jwks(t, key)) + `}`)
			keyed := d.tool("/keyed")
			body := func(k keyPair) string {
				q := ask(keyed)
				q.Set("client_assertion_type", assertionType)
				q.Set("client_assertion", k.assertion(t, keyed.ID))
				return q.Encode()
			}
			r.send(t, "/par", body(other)).want(t, 401, "invalid_client")
			r.send(t, "/par", ask(keyed).Encode()).want(t, 401, "invalid_client")
			again := func() url.Values {
				return form("client_id", keyed.ID, "request_uri", r.send(t, "/par", body(key)).is(t, 201).text("request_uri"))
			}
			s.grant(again(), ann).code(t)
			kept, err := r.clients.Get(t.Context(), keyed.ID)
			check(t, err)
			s.authorize(again()).code(t)
			row, err := r.clients.Get(t.Context(), keyed.ID)
			check(t, err)
			equal(t, "version, where the document is as it was", row.Version, kept.Version)

			// A profile that an admin has given it asks for its own, whatever the document says.
			row.Profile, row.IDTokenAlg = clients.FAPI2, keys.ES256
			_, err = r.clients.Update(t.Context(), row, origin)
			check(t, err)
			s.authorize(ask(keyed)).refused(t, "invalid_request")

			// What is no document is no client, and nothing is written down for it.
			d.say(`{"client_id": "https://elsewhere.example.com/tool", "redirect_uris": ["` + callback + `"]}`)
			bad := r.send(t, "/par", ask(d.tool("/bad")).Encode()).want(t, 401, "invalid_client")
			if !strings.Contains(bad.text("error_description"), "metadata document") {
				t.Errorf("%s", bad.body)
			}
			r.send(t, "/token", form("grant_type", "refresh_token", "refresh_token", "sgr_x", "client_id", d.URL+"/new").Encode()).want(t, 401, "invalid_client")
			_, err = r.clients.SetDisabled(t.Context(), tool.ID, true, origin)
			check(t, err)
			r.send(t, "/par", ask(tool).Encode()).want(t, 401, "invalid_client")
		}, withDocuments)
	})
	t.Run("many requests at once fetch once, and one that hangs is given up", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			d := startDocuments(t)
			var all sync.WaitGroup
			for range 32 {
				all.Go(func() { r.surfer(t).authorize(ask(d.tool("/tool"))).page(t, 200) })
			}
			all.Wait()
			equal(t, "fetches", int(d.fetches.Load()), 1)
			hang := func(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() }
			d.serve.Store(&hang)
			began := time.Now()
			r.surfer(t).authorize(ask(d.tool("/slow"))).page(t, 400)
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("took %s", took)
			}
		}, withDocuments)
	})
	t.Run("on loopback, where any program may wait for the code, users are asked each time", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			d, s, ann := startDocuments(t), r.surfer(t), r.user(t, "ann")
			d.say(`{"client_id": "%s", "redirect_uris": ["http://127.0.0.1/cb"]}`)
			q := ask(d.tool("/tool"), "redirect_uri", "http://127.0.0.1:4711/cb")
			s.grant(q, ann).code(t)
			if v := s.authorize(q); v.status != 200 || !strings.HasSuffix(v.action, "/consent") {
				t.Errorf("%d, Location %v, %q", v.status, v.location, v.action)
			}
		}, withDocuments)
	})
	t.Run("from an address so many are fetched, and no more", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			d, here, there := startDocuments(t), r.surfer(t), r.surfer(t)
			here.headers, there.headers = map[string]string{"X-Forwarded-For": "203.0.113.7"}, map[string]string{"X-Forwarded-For": "203.0.113.8"}
			good, none := d.serve.Load(), http.NotFound
			d.serve.Store(&none)
			push := func(path string) answer { return r.send(t, "/par", ask(d.tool(path)).Encode(), from("203.0.113.7")) }
			for i := range 300 {
				push(fmt.Sprint("/", i)).want(t, http.StatusUnauthorized, "invalid_client")
			}
			push("/299").want(t, http.StatusUnauthorized, "invalid_client") // remembered
			for range 3 {
				isThrottled(t, push("/more"))
			}
			v := here.authorize(ask(d.tool("/more")))
			if v.page(t, http.StatusTooManyRequests); v.header.Get("Retry-After") == "" {
				t.Errorf("no Retry-After: %v", v.header)
			}
			equal(t, "fetches", int(d.fetches.Load()), 300)
			d.serve.Store(good)
			there.authorize(ask(d.tool("/more"))).page(t, 200)
			here.authorize(ask(d.tool("/more"))).page(t, 200) // it is known by now
		}, withDocuments, capOf(10))
	})
	t.Run("off, an address is a client id like any other", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			d := startDocuments(t)
			r.surfer(t).authorize(ask(d.tool("/tool"))).page(t, 400)
			equal(t, "fetches", int(d.fetches.Load()), 0)
			if a := r.get(t, "/.well-known/oauth-authorization-server"); a.json["client_id_metadata_document_supported"] != nil {
				t.Error("the metadata says that they are supported")
			}
		})
	})
}
