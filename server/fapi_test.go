package server_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"signet/clients"
)

// What the FAPI 2.0 Security Profile asks of an authorization server, drawn from its certification plan.
func TestFAPI2(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		key, another, holder := newKey(t, jose.PS256), newKey(t, jose.ES256), newKey(t, jose.ES256)
		client := func(id string, k keyPair) *clients.Client {
			return r.shop(t, id, trusted, keyed(t, k), func(c *clients.Client) { c.Profile, c.IDTokenAlg = clients.FAPI2, "" })
		}
		c, other := client("bank", key), client("broker", another)
		if !c.RequirePAR || !c.RequireDPoP { // the profile's, and shown as such
			t.Errorf("got %+v", c)
		}
		u, s := r.user(t, "alice"), r.surfer(t)
		prove := func(k keyPair, path string) option { return k.bound(t, "POST", path, set{"nonce": r.proofs.Nonce()}) }
		// send sends a form with an assertion.
		send := func(path string, c *clients.Client, k keyPair, f url.Values, options ...option) answer {
			for name, value := range map[string]string{"client_assertion_type": assertionType, "client_assertion": k.assertion(t, c.ID)} {
				f.Set(name, value)
			}
			return r.send(t, path, f.Encode(), options...)
		}
		push := func(pairs ...string) url.Values {
			a := send("/par", c, key, ask(c, pairs...))
			if a.status != http.StatusCreated {
				t.Fatalf("got %d %s", a.status, a.body)
			}
			return form("client_id", c.ID, "request_uri", a.text("request_uri"))
		}
		redeeming := func(code string) url.Values {
			return form("grant_type", "authorization_code", "code", code, "redirect_uri", callback, "code_verifier", verifier)
		}
		s.grant(push(), u).code(t)
		code := func(pairs ...string) string { return s.authorize(push(pairs...)).code(t) }
		offline := []string{"scope", "openid offline_access read"}

		t.Run("happy flow, and refresh tokens are not rotated", func(t *testing.T) {
			first := send("/token", c, key, redeeming(code(offline...)), prove(holder, "/token")).issued(t)
			if first.text("token_type") != "DPoP" || payload(t, first.text("access_token"))["cnf"].(set)["jkt"] != holder.jkt(t) {
				t.Errorf("got %s", first.body)
			}
			if head, _ := decode(t, first.text("id_token")); head["alg"] != "ES256" { // section 5.4: not RS256
				t.Errorf("the ID token is signed with %v", head["alg"])
			}
			refresh := func() url.Values {
				return form("grant_type", "refresh_token", "refresh_token", first.text("refresh_token"), "scope", "read")
			}
			second := newKey(t, jose.EdDSA) // a confidential client's refresh may come with a new one
			for range 3 {
				a := send("/token", c, key, refresh(), prove(second, "/token")).issued(t)
				if a.text("refresh_token") != first.text("refresh_token") || payload(t, a.text("access_token"))["cnf"].(set)["jkt"] != second.jkt(t) {
					t.Errorf("got %s", a.body)
				}
				b.Age(t, 31*time.Second)
			}
			wide := refresh()
			wide.Set("scope", "openid write")
			send("/token", c, key, wide, prove(holder, "/token")).want(t, http.StatusBadRequest, "invalid_scope")
			send("/token", other, another, refresh(), prove(holder, "/token")).want(t, http.StatusBadRequest, "invalid_grant")
			r.send(t, "/token", refresh().Encode(), prove(holder, "/token")).want(t, http.StatusUnauthorized, "invalid_client")
			send("/token", c, key, refresh()).want(t, http.StatusBadRequest, "invalid_dpop_proof")
			send("/token", c, key, refresh(), prove(holder, "/token")).issued(t) // none of that ended the session
		})
		t.Run("codes", func(t *testing.T) {
			without := redeeming(code())
			without.Del("code_verifier")
			send("/token", c, key, without, prove(holder, "/token")).want(t, http.StatusBadRequest, "invalid_grant")
			wrong := redeeming(code())
			wrong.Set("code_verifier", verifier+"x")
			send("/token", c, key, wrong, prove(holder, "/token")).want(t, http.StatusBadRequest, "invalid_grant")
			send("/token", other, another, redeeming(code()), prove(holder, "/token")).want(t, http.StatusBadRequest, "invalid_grant")
			send("/token", c, key, redeeming(code())).want(t, http.StatusBadRequest, "invalid_dpop_proof")
			old := code()
			b.Age(t, 62*time.Second)
			send("/token", c, key, redeeming(old), prove(holder, "/token")).want(t, http.StatusBadRequest, "invalid_grant")
			twice := code()
			token := send("/token", c, key, redeeming(twice), prove(holder, "/token")).issued(t).text("access_token")
			send("/token", c, key, redeeming(twice), prove(holder, "/token")).want(t, http.StatusBadRequest, "invalid_grant")
			if a := send("/introspect", c, key, form("token", token)); a.body != inactive {
				t.Errorf("the first token of a code that came twice: %s", a.body)
			}
		})
		t.Run("assertions", func(t *testing.T) {
			rs := key
			rs.alg = jose.RS256
			for name, a := range map[string]string{
				"aud of the token endpoint": key.assertion(t, c.ID, set{"aud": issuer + "/token"}),
				"aud of the PAR endpoint":   key.assertion(t, c.ID, set{"aud": issuer + "/par"}),
				"aud an array":              key.assertion(t, c.ID, set{"aud": []string{issuer}}),
				"RS256":                     rs.assertion(t, c.ID),
				"none":                      "",
			} {
				for _, path := range []string{"/par", "/token"} {
					f := ask(c)
					f.Set("client_assertion", a)
					f.Set("client_assertion_type", assertionType)
					if got := r.send(t, path, f.Encode()); got.status != http.StatusUnauthorized || got.text("error") != "invalid_client" {
						t.Errorf("%s at %s: got %d %s", name, path, got.status, got.body)
					}
				}
			}
		})
		t.Run("requests that were not pushed", func(t *testing.T) {
			s.authorize(ask(c)).refused(t, "invalid_request")
		})
		t.Run("a proof needs a nonce", func(t *testing.T) {
			a := send("/token", c, key, form("grant_type", "refresh_token", "refresh_token", "x"), holder.bound(t, "POST", "/token"))
			if a.want(t, http.StatusBadRequest, "use_dpop_nonce"); a.header.Get("DPoP-Nonce") == "" {
				t.Error("there is no nonce in the answer")
			}
		})
		t.Run("nonce and state come back as they were", func(t *testing.T) {
			for _, n := range []int{0, 63, 383} {
				text := "n" + strings.Repeat("x", n)
				v := s.authorize(push("nonce", text, "state", text))
				if got := v.parameters(t, "query").Get("state"); got != text {
					t.Errorf("the state of %d bytes came back as %q", n, got)
				}
				a := send("/token", c, key, redeeming(v.code(t)), prove(holder, "/token")).issued(t)
				if got := payload(t, a.text("id_token"))["nonce"]; got != text {
					t.Errorf("the nonce of %d bytes came back as %v", n, got)
				}
			}
		})
	})
}
