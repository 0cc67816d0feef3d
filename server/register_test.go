package server_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"signet/audit"
	"signet/clients"
)

// registrations is how many the flood has. 10,000 take four seconds, in which 50 are taken and 151 rows written; with the race detector
// they take a minute.
var registrations = flag.Int("registrations", 1000, "how many clients try to register from one address")

func registering(mode clients.RegistrationMode) func(*settings) {
	return func(s *settings) { s.registration, s.proxies = mode, loopback }
}

// speak makes a call of /register.
func (r *replica) speak(t testing.TB, method, path, token, body string, more ...option) answer {
	t.Helper()
	all := []option{func(req *http.Request) {
		req.Method = method
		req.Header.Del("Content-Type")
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
	}}
	return r.do(t, r.request(t.Context(), path, body, append(all, more...)...))
}

const goodApp = `{"client_name": "An app", "redirect_uris": ["https://app.example.com/cb"], "token_endpoint_auth_method": "none"}`

// registered registers the app.
func (r *replica) registered(t testing.TB, body string, more ...option) answer {
	t.Helper()
	return r.speak(t, "POST", "/register", "", body, more...).is(t, 201)
}

func TestRegistrationConformance(t *testing.T) {
	t.Parallel()
	t.Run("1 the answer holds every registered value, and unknown members are dropped", func(t *testing.T) {
		onBackends(t, func(t *testing.T, b *backend) {
			r := start(t, b, registering(clients.RegistrationOpen))
			a := r.registered(t, `{"redirect_uris": ["https://app.example.com/cb"], "client_name": "An app", "client_uri": "https://app.example.com", "contacts": ["ann@example.com"],
				"scope": "openid email", "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "id_token_signed_response_alg": "ES256",
				"software_id": "x", "something": {"else": 1}, "client_name#de": "Eine App", "skip_consent": true, "disabled": true, "access_token_ttl": "30d"}`)
			for name, want := range map[string]any{
				"client_name": "An app", "client_uri": "https://app.example.com", "scope": "openid email", "token_endpoint_auth_method": "client_secret_basic",
				"id_token_signed_response_alg": "ES256", "client_secret_expires_at": 0.0, "application_type": "web",
				"registration_client_uri": issuer + "/register/" + a.text("client_id"),
			} {
				if a.json[name] != want {
					t.Errorf("%s is %v, want %v", name, a.json[name], want)
				}
			}
			if !strings.HasPrefix(a.text("registration_access_token"), "sgm_") || !strings.HasPrefix(a.text("client_secret"), "sgs_") || a.json["client_id_issued_at"].(float64) < 1e9 {
				t.Errorf("%s", a.body)
			}
			for _, name := range []string{"something", "software_id", "skip_consent", "disabled", "registered", "access_token_ttl"} {
				if _, there := a.json[name]; there {
					t.Errorf("%s is there", name)
				}
			}
			c := known(t, r, a.text("client_id"))
			if c.SkipConsent || c.Disabled || !c.Registered || c.AccessTTL != 0 {
				t.Errorf("%+v", c)
			}
			if own := r.registered(t, `{"redirect_uris": ["https://app.example.com/cb"], "audience": ["`+issuer+`"]}`); fmt.Sprint(own.json["audience"]) != "["+issuer+"]" {
				t.Errorf("%s", own.body)
			}
			bare := r.registered(t, `{"redirect_uris": ["http://127.0.0.1/cb"], "token_endpoint_auth_method": "none"}`)
			if bare.json["client_secret"] != nil || bare.text("scope") != "openid profile email offline_access" || bare.text("client_name") == "" ||
				fmt.Sprint(bare.json["grant_types"]) != "[authorization_code refresh_token]" {
				t.Errorf("%s", bare.body)
			}
			if e := r.events(t, audit.ClientRegistered); len(e) != 3 || e[2].ClientID != c.ID || e[2].Address == "" {
				t.Errorf("%+v", e)
			}
		})
	})
	t.Run("2 refused, naming the member", func(t *testing.T) {
		onBackends(t, func(t *testing.T, b *backend) {
			r := start(t, b, registering(clients.RegistrationOpen))
			for i, c := range []struct{ members, code, names string }{
				{`"redirect_uris": []`, "invalid_redirect_uri", "redirect_uris"},
				{`"redirect_uris": null`, "invalid_redirect_uri", "redirect_uris"},
				{`"redirect_uris": ["https://app.example.com/cb#x"]`, "invalid_redirect_uri", "redirect_uris"},
				{`"redirect_uris": ["https://*.example.com/cb"]`, "invalid_redirect_uri", "redirect_uris"},
				{`"redirect_uris": ["https://ann@example.com/cb"]`, "invalid_redirect_uri", "redirect_uris"},
				{`"redirect_uris": ["javascript:alert(1)"]`, "invalid_redirect_uri", "redirect_uris"},
				{`"redirect_uris": ["JaVaScRiPt:alert(1)"]`, "invalid_redirect_uri", "redirect_uris"},
				{`"redirect_uris": ["data:text/html,x"]`, "invalid_redirect_uri", "redirect_uris"},
				{`"redirect_uris": ["http://app.example.com/cb"]`, "invalid_redirect_uri", "redirect_uris"},
				{`"redirect_uris": ["https://app.example.com/cb?code=1"]`, "invalid_redirect_uri", "redirect_uris"},
				{`"application_type": "native", "redirect_uris": ["myapp:/cb"]`, "invalid_redirect_uri", "redirect_uris"},
				{`"redirect_uris": ["` + strings.Repeat(`https://app.example.com/cb", "`, 33) + `https://app.example.com"]`, "invalid_redirect_uri", "redirect_uris"},
				{`"redirect_uris": ["https://app.example.com/` + strings.Repeat("x", 2048) + `"]`, "invalid_redirect_uri", "redirect_uris"},
				{`"grant_types": ["password"]`, "invalid_client_metadata", "grant_types"},
				{`"grant_types": ["implicit"]`, "invalid_client_metadata", "grant_types"},
				{`"grant_types": ["client_credentials"]`, "invalid_client_metadata", "grant_types"},
				{`"grant_types": ["refresh_token"]`, "invalid_client_metadata", "grant_types"},
				{`"grant_types": []`, "invalid_client_metadata", "grant_types"},
				{`"response_types": ["token"]`, "invalid_client_metadata", "response_types"},
				{`"token_endpoint_auth_method": "tls_client_auth"`, "invalid_client_metadata", "token_endpoint_auth_method"},
				{`"scope": "openid signet:admin"`, "invalid_client_metadata", "scope"},
				{`"scope": "openid read"`, "invalid_client_metadata", "scope"},
				{`"audience": ["https://api.example.com"]`, "invalid_client_metadata", "audience"},
				{`"client_name": "` + strings.Repeat("x", 129) + `"`, "invalid_client_metadata", "client_name"},
				{`"client_name": "a\u202eb"`, "invalid_client_metadata", "client_name"},
				{`"client_name": "a\nb"`, "invalid_client_metadata", "client_name"},
				{`"logo_uri": "javascript:alert(1)"`, "invalid_client_metadata", "logo_uri"},
				{`"logo_uri": "http://example.com/logo.png"`, "invalid_client_metadata", "logo_uri"},
				{`"client_uri": 1`, "invalid_client_metadata", "client_uri"},
				{`"software_statement": "eyJ"`, "invalid_software_statement", "software"},
			} {
				var members map[string]json.RawMessage
				check(t, json.Unmarshal([]byte(goodApp), &members))
				var changed map[string]json.RawMessage
				check(t, json.Unmarshal([]byte("{"+c.members+"}"), &changed))
				for name, v := range changed {
					members[name] = v
				}
				body, err := json.Marshal(members)
				check(t, err)
				a := r.speak(t, "POST", "/register", "", string(body), from(fmt.Sprintf("192.0.2.%d", i)))
				if a.status != 400 || a.json["error"] != c.code || !strings.Contains(a.text("error_description"), c.names) {
					t.Errorf("%.80s: %d %s", c.members, a.status, a.body)
				}
			}
			for _, body := range []string{"", "x", "[]", "null", `"x"`, `{"redirect_uris": ["https://a.example.com"]`, strings.Repeat(`{"a":`, 5000)} {
				r.speak(t, "POST", "/register", "", body).want(t, 400, "invalid_client_metadata")
			}
			if a := r.speak(t, "POST", "/register", "", `{"x": "`+strings.Repeat("x", 65<<10)+`"}`); a.status != 413 {
				t.Errorf("%d", a.status)
			}
			r.speak(t, "POST", "/register", "", goodApp, func(req *http.Request) { req.Header.Set("Content-Type", "text/plain") }).want(t, 400, "invalid_client_metadata")
			if n := b.Int(t, "SELECT count(*) FROM registrations"); n != 0 {
				t.Errorf("%d are registered", n)
			}
		})
	})
	t.Run("3 GET, PUT, DELETE", func(t *testing.T) {
		onBackends(t, func(t *testing.T, b *backend) {
			r := start(t, b, registering(clients.RegistrationOpen))
			a := r.registered(t, strings.Replace(goodApp, `"none"`, `"client_secret_basic"`, 1))
			other := r.registered(t, goodApp)
			id, token := a.text("client_id"), a.text("registration_access_token")
			path := "/register/" + id
			got := r.speak(t, "GET", path, token, "").is(t, 200)
			if got.text("client_id") != id || got.text("registration_access_token") != token || got.json["client_secret"] != nil {
				t.Errorf("%s", got.body)
			}
			put := func(token, members string) answer {
				t.Helper()
				return r.speak(t, "PUT", path, token, `{"client_id": "`+id+`", "redirect_uris": ["https://new.example.com/cb"]`+members+`}`)
			}
			changed := put(token, `, "client_name": "New", "client_secret": "`+a.text("client_secret")+`"`).is(t, 200)
			newer := changed.text("registration_access_token")
			if changed.text("client_name") != "New" || newer == token || changed.json["client_secret"] != nil {
				t.Errorf("%s", changed.body)
			}
			// The answer is lost: the old token is good until the new one is used.
			newest := put(token, "").is(t, 200).text("registration_access_token")
			r.speak(t, "GET", path, newer, "").want(t, 401, "invalid_token")
			r.speak(t, "GET", path, newest, "").is(t, 200)
			r.speak(t, "GET", path, token, "").want(t, 401, "invalid_token")
			token = newest
			for members, code := range map[string]string{ // what was refused at first is refused now
				`, "client_name": "` + strings.Repeat("x", 129) + `"`: "invalid_client_metadata", `, "client_name": "a\u202eb"`: "invalid_client_metadata",
				`, "post_logout_redirect_uris": ["javascript:alert(1)"]`: "invalid_client_metadata", `, "jwks_uri": "http://10.0.0.1/"`: "invalid_client_metadata",
				`, "logo_uri": "data:image/png,x"`: "invalid_client_metadata", `, "audience": ["https://api.example.com"]`: "invalid_client_metadata",
				`, "token_endpoint_auth_method": "private_key_jwt"`: "invalid_client_metadata", `, "software_statement": "x"`: "invalid_software_statement",
			} {
				put(token, members).want(t, 400, code)
			}
			many := strings.Repeat(`"https://app.example.com/cb",`, 33)
			r.speak(t, "PUT", path, token, `{"client_id": "`+id+`", "redirect_uris": [`+many[:len(many)-1]+`]}`).want(t, 400, "invalid_redirect_uri")
			// What an admin has decided stays so, whatever the client says or leaves out.
			ours := known(t, r, id)
			ours.AuthMethod, ours.JWKS, ours.Profile, ours.IDTokenAlg, ours.Version = clients.PrivateKeyJWT, jwks(t, newKey(t, jose.ES256)), clients.FAPI2, "", 0
			_, err := r.clients.Update(t.Context(), *ours, origin)
			check(t, err)
			put(token, `, "profile": ""`).want(t, 400, "invalid_client_metadata") // by a secret
			token = put(token, `, "profile": "", "skip_consent": true, "disabled": true, "token_endpoint_auth_method": "private_key_jwt", "jwks": `+string(ours.JWKS)).is(t, 200).text("registration_access_token")
			if c := known(t, r, id); c.Profile != clients.FAPI2 || !c.RequirePAR || !c.RequireDPoP || c.SkipConsent || c.Disabled {
				t.Errorf("%+v", c)
			}
			put(token, `, "client_secret": "another"`).want(t, 400, "invalid_client_metadata")
			put(token, `, "scope": "signet:admin"`).want(t, 400, "invalid_client_metadata")
			put(token, `, "grant_types": ["password"]`).want(t, 400, "invalid_client_metadata")
			put(token, `, "grant_types": ["refresh_token"]`).want(t, 400, "invalid_client_metadata")
			r.speak(t, "PUT", path, token, goodApp).want(t, 400, "invalid_client_metadata")                                                 // no client_id
			r.speak(t, "PUT", path, token, strings.Replace(goodApp, "{", `{"client_id": "x", `, 1)).want(t, 400, "invalid_client_metadata") // another's
			for _, bad := range []string{"", "x", "sgm_x", other.text("registration_access_token"), token + "x", a.text("client_secret")} {
				for _, method := range []string{"GET", "PUT", "DELETE"} {
					body := ""
					if method == "PUT" {
						body = goodApp
					}
					if got := r.speak(t, method, path, bad, body); got.status != 401 || got.header.Get("WWW-Authenticate") == "" {
						t.Errorf("%s with %q: %d", method, bad, got.status)
					}
				}
			}
			r.speak(t, "GET", "/register/nobody", token, "").want(t, 401, "invalid_token")
			_, err = r.clients.SetDisabled(t.Context(), id, true, origin)
			check(t, err)
			r.speak(t, "GET", path, token, "").want(t, 401, "invalid_token")
			put(token, "").want(t, 401, "invalid_token")
			_, err = r.clients.SetDisabled(t.Context(), id, false, origin)
			check(t, err)
			if a := r.speak(t, "DELETE", path, token, ""); a.status != 204 {
				t.Errorf("%d", a.status)
			}
			for _, method := range []string{"GET", "DELETE"} {
				r.speak(t, method, path, token, "").want(t, 401, "invalid_token")
			}
		})
	})
	t.Run("3 DELETE: its tokens are dead at once", func(t *testing.T) {
		onBackends(t, func(t *testing.T, b *backend) {
			r := start(t, b, registering(clients.RegistrationOpen))
			a := r.registered(t, goodApp)
			c := known(t, r, a.text("client_id"))
			issued := r.login(t, c, r.user(t, "ann"))
			api := r.app(t, "api", resourceServer())
			r.alive(t, "before", api, issued.AccessToken)
			r.speak(t, "DELETE", "/register/"+c.ID, a.text("registration_access_token"), "")
			r.dead(t, "after", api, issued.AccessToken)
		})
	})
	t.Run("4 initial access tokens: uses, life, two replicas racing for the last use", func(t *testing.T) {
		onBackends(t, func(t *testing.T, b *backend) {
			r, other := start(t, b, registering(clients.RegistrationToken)), start(t, b, registering(clients.RegistrationToken))
			r.speak(t, "POST", "/register", "", goodApp).want(t, 401, "invalid_token")
			r.speak(t, "POST", "/register", "sgi_x", goodApp).want(t, 401, "invalid_token")
			initial, err := r.clients.NewRegistrationToken(t.Context(), 3, time.Hour, origin)
			token := initial.Token
			check(t, err)
			r.speak(t, "POST", "/register", token, strings.Replace(goodApp, "https:", "javascript:", 1)).want(t, 400, "invalid_redirect_uri") // costs no use
			var good atomic.Int64
			var wg sync.WaitGroup
			for i := range 16 {
				wg.Go(func() {
					on := []*replica{r, other}[i%2]
					asked, err := clients.ParseRegistration([]byte(goodApp))
					if err != nil {
						t.Error(err)
						return
					}
					if _, _, err := on.clients.Register(context.Background(), asked, token, func() error { return nil }, origin); err == nil {
						good.Add(1)
					}
				})
			}
			wg.Wait()
			if good.Load() != 3 {
				t.Errorf("%d registered with a token of three uses", good.Load())
			}
			initial, err = r.clients.NewRegistrationToken(t.Context(), 1, time.Hour, origin)
			token = initial.Token
			check(t, err)
			b.Age(t, time.Hour)
			r.speak(t, "POST", "/register", token, goodApp).want(t, 401, "invalid_token")
		})
	})
	t.Run("4 open mode: bounded per address", func(t *testing.T) {
		onBackends(t, func(t *testing.T, b *backend) {
			r := start(t, b, registering(clients.RegistrationOpen))
			for i := range 60 { // what is refused is none of them
				r.speak(t, "POST", "/register", "", []string{`{"redirect_uris": []}`, `{`, `{"software_statement": "x"}`, `{"redirect_uris": ["` + callback + `"], "scope": "read"}`}[i%4], from("192.0.2.1")).is(t, 400)
			}
			status := map[int]int{}
			for range 200 {
				status[r.speak(t, "POST", "/register", "", goodApp, from("192.0.2.1")).status]++
			}
			if status[201] != 50 || status[429] != 150 {
				t.Errorf("%v", status)
			}
			r.speak(t, "POST", "/register", "", goodApp, from("192.0.2.2")).is(t, 201)
			b.Age(t, 24*time.Hour)
			r.speak(t, "POST", "/register", "", goodApp, from("192.0.2.1")).is(t, 201)
		})
	})
	t.Run("4 open mode: of a flood of registrations from one address what is left are the rows of the bound", func(t *testing.T) {
		onBackends(t, func(t *testing.T, b *backend) {
			r := start(t, b, registering(clients.RegistrationOpen))
			const bound = 50
			calls := *registrations / 8 * 8
			rows := func() (n int64) {
				for _, table := range []string{"clients", "registrations", "registration_tokens", "login_failures", "audit_events", "consents", "logins"} {
					n += b.Int(t, "SELECT count(*) FROM "+table)
				}
				return n
			}
			before := rows()
			var good, refused, other atomic.Int64
			var all sync.WaitGroup
			asJSON := func(req *http.Request) { req.Header.Set("Content-Type", "application/json") }
			began := time.Now()
			for range 8 {
				all.Go(func() {
					for range calls / 8 {
						req := r.request(context.Background(), "/register", goodApp, from("192.0.2.1"), asJSON)
						a, err := r.try(req)
						switch {
						case err == nil && a.status == 201:
							good.Add(1)
						case err == nil && a.status == http.StatusTooManyRequests && a.header.Get("Retry-After") != "":
							refused.Add(1)
						default:
							other.Add(1)
						}
					}
				})
			}
			all.Wait()
			took, left := time.Since(began), rows()-before
			t.Logf("%d registrations in %s: %d taken, %d refused, %d rows", calls, took.Round(time.Millisecond), good.Load(), refused.Load(), left)
			// A client, its registration and an event each, and what counts.
			if good.Load() != bound || int(refused.Load()) != calls-bound || left > 3*bound+bound+1 {
				t.Errorf("%d taken, %d refused, %d otherwise, %d rows", good.Load(), refused.Load(), other.Load(), left)
			}
		})
	})
	t.Run("4 closed: 404, and not in the metadata", func(t *testing.T) {
		onBackends(t, func(t *testing.T, b *backend) {
			off, open := start(t, b), start(t, b, registering(clients.RegistrationOpen))
			off.speak(t, "POST", "/register", "", goodApp).want(t, 404, "not_found")
			off.speak(t, "GET", "/register/x", "sgm_x", "").want(t, 404, "not_found")
			for r, want := range map[*replica]any{off: nil, open: issuer + "/register"} {
				for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"} {
					if got := r.get(t, path).json["registration_endpoint"]; got != want {
						t.Errorf("%s: %v", path, got)
					}
				}
			}
		})
	})
}

// Who is not logged in is sent to no client that has come by itself, but by what they decide (RFC 9700 section 4.11.2).
func TestRegisteredClientsAreNoRedirectors(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b, registering(clients.RegistrationOpen))
		a := r.registered(t, strings.Replace(goodApp, "https://app.example.com/cb", callback, 1))
		c, ann := known(t, r, a.text("client_id")), r.user(t, "ann")
		s := r.surfer(t)
		for _, bad := range [][]string{{"scope", "nothing"}, {"response_type", "token"}, {"code_challenge", ""}} {
			if v := s.authorize(ask(c, bad...)); v.location != nil || v.status != 400 {
				t.Errorf("%v: %d to %v", bad, v.status, v.location)
			}
		}
		if v := s.authorize(ask(c, "prompt", "none")); v.location == nil {
			t.Errorf("prompt=none: %d", v.status)
		}
		v := s.grant(ask(c), ann)
		if v.location == nil || v.location.Query().Get("code") == "" {
			t.Fatalf("%d %s", v.status, v.body)
		}
		r.redeem(t, c, v.location.Query().Get("code")).is(t, 200)
		if v := s.authorize(ask(c, "scope", "nothing")); v.location == nil {
			t.Errorf("logged in: %d", v.status)
		}
	})
}

func TestRegisteredClientsThatPushAreNoRedirectors(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b, registering(clients.RegistrationOpen))
		a := r.registered(t, `{"redirect_uris": ["`+callback+`"], "token_endpoint_auth_method": "none", "require_pushed_authorization_requests": true}`)
		c := known(t, r, a.text("client_id"))
		r.surfer(t).authorize(ask(c)).page(t, 400)
	})
}

func TestLogoutSendsNobodyToARegisteredClientUnasked(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b, registering(clients.RegistrationOpen))
		const bye = "https://shop.example.com/bye"
		a := r.registered(t, `{"redirect_uris": ["`+callback+`"], "token_endpoint_auth_method": "none", "post_logout_redirect_uris": ["`+bye+`"]}`)
		c, u, s := known(t, r, a.text("client_id")), r.user(t, "ann"), r.surfer(t)
		out := func(pairs ...string) view {
			q := url.Values{"client_id": {c.ID}, "post_logout_redirect_uri": {bye}}
			for i := 0; i < len(pairs); i += 2 {
				q.Set(pairs[i], pairs[i+1])
			}
			return s.open("GET", "/logout?"+q.Encode(), "")
		}
		out().page(t, 200)
		out("id_token_hint", "wrong").page(t, 200)
		hint := r.redeem(t, c, s.grant(ask(c), u).code(t)).issued(t).text("id_token")
		for _, when := range []string{"logged in", "logged out"} {
			if v := out("id_token_hint", hint); v.location == nil || v.location.String() != bye {
				t.Errorf("%s, with a hint: %d, Location %v", when, v.status, v.location)
			}
		}
		s.grant(ask(c), u).code(t)
		if v := s.submit(out(), "decision", "logout"); v.location == nil || v.location.String() != bye {
			t.Errorf("the user has decided: %d, Location %v", v.status, v.location)
		}
	})
}

// Clients that nobody has used go after thirty days, and no others.
func TestUnusedClientsGo(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b, registering(clients.RegistrationOpen))
		unused, used := r.registered(t, goodApp).text("client_id"), r.registered(t, strings.Replace(goodApp, "https://app.example.com/cb", callback, 1)).text("client_id")
		r.app(t, "ours")
		s := r.surfer(t)
		s.grant(ask(known(t, r, used)), r.user(t, "ann"))
		b.Age(t, clients.UnusedTTL-time.Minute)
		_, err := r.store.DeleteUnusedClients(t.Context())
		check(t, err)
		left := func() (ids []string) {
			all, err := r.clients.List(t.Context(), clients.Filter{Limit: 10})
			check(t, err)
			for _, c := range all {
				ids = append(ids, c.ID)
			}
			return ids
		}
		if len(left()) != 3 {
			t.Errorf("%v", left())
		}
		b.Age(t, time.Minute)
		_, err = r.store.DeleteUnusedClients(t.Context())
		check(t, err)
		if got := left(); len(got) != 2 || slices.Contains(got, unused) {
			t.Errorf("%v", got)
		}
	})
}
