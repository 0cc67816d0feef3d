package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"signet/clients"
	"signet/users"
)

// RP-initiated log-out: nobody is sent to a URI that is not the client's, and no other browser is logged out.
func TestLogout(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		const bye = "https://shop.example.com/bye"
		c, another := r.shop(t, "shop", trusted), r.shop(t, "another", trusted, func(c *clients.Client) { c.PostLogoutRedirectURIs = []string{"https://another.example.com/"} })
		u, bob := r.user(t, "alice"), r.user(t, "bob")
		s := r.surfer(t)
		token := r.redeem(t, c, s.grant(ask(c), u).code(t)).issued(t).text("id_token")
		elsewhere := r.surfer(t)
		foreign := r.redeem(t, c, elsewhere.grant(ask(c), bob).code(t)).issued(t).text("id_token")
		logout := func(pairs ...string) view { return s.open(http.MethodGet, "/logout?"+form(pairs...).Encode(), "") }
		for name, v := range map[string]view{
			"another URI":           logout("id_token_hint", token, "post_logout_redirect_uri", bye+"/"),
			"a query added":         logout("id_token_hint", token, "post_logout_redirect_uri", bye+"?foo=bar"),
			"another client's URI":  logout("id_token_hint", token, "post_logout_redirect_uri", "https://another.example.com/"),
			"URI without a hint":    logout("post_logout_redirect_uri", bye, "state", "x"),
			"URI with a bad hint":   logout("post_logout_redirect_uri", bye, "id_token_hint", "eyJhbGciOiJub25lIn0.e30."),
			"hint of another":       logout("id_token_hint", token, "client_id", another.ID),
			"an unknown client":     logout("client_id", "nobody", "post_logout_redirect_uri", bye),
			"parameters repeated":   logout("id_token_hint", token, "id_token_hint", token),
			"an access token hints": logout("id_token_hint", r.redeem(t, c, s.authorize(ask(c)).code(t)).text("access_token"), "post_logout_redirect_uri", bye),
		} {
			if v.page(t, http.StatusBadRequest); t.Failed() {
				t.Fatal(name)
			}
		}
		for name, v := range map[string]view{
			"nothing": logout(), "state alone": logout("state", "x"), "client_id and URI": logout("client_id", c.ID, "post_logout_redirect_uri", bye),
			"another user's hint": logout("id_token_hint", foreign, "post_logout_redirect_uri", bye),
		} {
			v.page(t, http.StatusOK)
			if v.heading != "Sign out?" {
				t.Errorf("%s: %q", name, v.heading)
			}
			s.submit(v, "decision", "stay").page(t, http.StatusOK)
			s.authorize(ask(c, "prompt", "none")).code(t)
		}
		v := s.submit(logout("client_id", c.ID, "post_logout_redirect_uri", bye, "state", "a&b"), "decision", "logout")
		if v.location == nil || v.location.String() != bye+"?state=a%26b" {
			t.Errorf("%d %v", v.status, v.location)
		}
		s.authorize(ask(c, "prompt", "none")).refused(t, "login_required")
		elsewhere.authorize(ask(c, "prompt", "none")).code(t)
		if v := logout("id_token_hint", token, "post_logout_redirect_uri", bye); v.location == nil || v.location.String() != bye {
			t.Errorf("logged out before: %d %v", v.status, v.location)
		}
		logout().page(t, http.StatusOK)
		again := r.redeem(t, c, s.grant(ask(c), u).code(t)).issued(t).text("id_token")
		body := form("id_token_hint", again, "post_logout_redirect_uri", bye).Encode()
		if v := s.open(http.MethodPost, "/logout", body); v.location == nil || v.location.String() != bye {
			t.Errorf("by POST: %d %v", v.status, v.location)
		}
		// A key rotation between login and log-out breaks nothing.
		last := r.redeem(t, c, s.grant(ask(c), u).code(t)).issued(t).text("id_token")
		_, err := r.keys.Rotate(t.Context(), origin)
		check(t, err)
		if v := logout("id_token_hint", last, "post_logout_redirect_uri", bye); v.location == nil {
			t.Errorf("after a key rotation: %d %q", v.status, v.heading)
		}
	})
}

// ID tokens hold what they should, by each algorithm, and are taken for nothing else.
func TestIDToken(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		u := r.user(t, "alice")
		_, err := r.users.Update(t.Context(), u.ID, users.Change{Profile: members(t, `{"name":"Alice","email":"alice@example.com","email_verified":true,"groups":["staff"],"claims":{"tier":"gold"}}`)}, origin)
		check(t, err)
		for _, alg := range []string{"RS256", "ES256", "PS256", "EdDSA"} {
			c := r.shop(t, alg, trusted, func(c *clients.Client) { c.IDTokenAlg = algorithm(alg) })
			s := r.surfer(t)
			nonce := strings.Repeat("n0-", 100)
			a := r.redeem(t, c, s.grant(ask(c, "nonce", nonce, "scope", "openid profile email groups"), u).code(t)).issued(t)
			header, claims := verify(t, r.jwks(t), a.text("id_token"))
			if header["alg"] != alg || header["typ"] != "JWT" {
				t.Errorf("the header is %v", header)
			}
			access := payload(t, a.text("access_token"))
			for name, want := range map[string]any{
				"iss": issuer, "sub": u.ID, "aud": alg, "nonce": nonce, "acr": "aal1", "at_hash": accessHash(alg, a.text("access_token")), "name": "Alice",
				"preferred_username": "alice", "email": "alice@example.com", "email_verified": true, "tier": "gold",
			} {
				if claims[name] != want {
					t.Errorf("%s: %s is %v, want %v", alg, name, claims[name], want)
				}
			}
			if claims["exp"].(float64) <= claims["iat"].(float64) || claims["auth_time"].(float64) > claims["iat"].(float64) || claims["sid"] == "" || claims["phone_number"] != nil {
				t.Errorf("%v", claims)
			}
			if access["groups"] == nil || access["sid"] == claims["sid"] {
				t.Errorf("the access token: %v", access)
			}
			again := r.refresh(t, c, a.text("refresh_token")).issued(t)
			_, later := verify(t, r.jwks(t), again.text("id_token"))
			if later["nonce"] != nil || later["sub"] != claims["sub"] || later["auth_time"] != claims["auth_time"] || later["sid"] != claims["sid"] || later["name"] != "Alice" {
				t.Errorf("after a refresh: %v", later)
			}
			if narrow := r.refresh(t, c, again.text("refresh_token"), "scope", "email").issued(t); narrow.text("id_token") != "" {
				t.Error("an ID token without openid in the narrowed scope")
			}
			info := r.get(t, "/userinfo", only("Authorization", "Bearer "+again.text("access_token")))
			if info.status != http.StatusOK || info.text("sub") != u.ID || info.text("email") != "alice@example.com" || info.text("tier") != "gold" {
				t.Errorf("userinfo: %d %s", info.status, info.body)
			}
			// No kind of token is taken for another.
			for _, kind := range []string{"id_token", "refresh_token"} {
				r.get(t, "/userinfo", only("Authorization", "Bearer "+a.text(kind))).want(t, http.StatusUnauthorized, "invalid_token")
			}
			r.dead(t, "an ID token", c, a.text("id_token"))
			r.refresh(t, c, a.text("id_token")).want(t, http.StatusBadRequest, "invalid_grant")
			r.redeem(t, c, again.text("refresh_token")).want(t, http.StatusBadRequest, "invalid_grant")
		}
	})
}

// The userinfo endpoint: by header or form, never by query; the truth at the call.
func TestUserInfo(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
		_, err := r.users.Update(t.Context(), u.ID, users.Change{Profile: members(t, `{"name":"Alice","email":"alice@example.com","phone_number":"+15551234567"}`)}, origin)
		check(t, err)
		a := r.redeem(t, c, s.grant(ask(c, "scope", "openid email", "claims", `{"userinfo":{"name":null,"nickname":null},"id_token":{"phone_number":null}}`), u).code(t)).issued(t)
		if claims := payload(t, a.text("id_token")); claims["phone_number"] != "+15551234567" || claims["name"] != nil {
			t.Errorf("the claims parameter: %v", claims)
		}
		token := a.text("access_token")
		want := fmt.Sprintf(`{"email":"alice@example.com","email_verified":false,"name":"Alice","sub":%q}`, u.ID)
		body := form("access_token", token).Encode()
		for name, got := range map[string]answer{
			"GET":          r.get(t, "/userinfo", only("Authorization", "Bearer "+token)),
			"GET, bearer":  r.get(t, "/userinfo", only("Authorization", "bearer "+token)),
			"POST, header": r.do(t, r.request(t.Context(), "/userinfo", "", only("Authorization", "Bearer "+token))),
			"POST, form":   r.do(t, r.request(t.Context(), "/userinfo", body)),
		} {
			if got.status != http.StatusOK || got.body != want || got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %d %s, want %s", name, got.status, got.body, want)
			}
		}
		any := r.get(t, "/userinfo", only("Authorization", "Bearer "+token), header("Origin", "https://anywhere.example.com"))
		if any.header.Get("Access-Control-Allow-Origin") != "*" || any.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("for other origins: %v", any.header)
		}
		r.get(t, "/userinfo?access_token="+token).want(t, http.StatusBadRequest, "invalid_request")
		r.do(t, r.request(t.Context(), "/userinfo", body, only("Authorization", "Bearer "+token))).want(t, http.StatusBadRequest, "invalid_request")
		bare := r.get(t, "/userinfo").want(t, http.StatusUnauthorized, "invalid_token")
		if bare.header.Get("WWW-Authenticate") != `Bearer realm="signet"` {
			t.Errorf("without a token: %q", bare.header.Get("WWW-Authenticate"))
		}
		r.get(t, "/userinfo", only("Authorization", "Bearer x")).want(t, http.StatusUnauthorized, "invalid_token")
		plain := r.redeem(t, c, s.authorize(ask(c, "scope", "email")).code(t)).issued(t)
		r.get(t, "/userinfo", only("Authorization", "Bearer "+plain.text("access_token"))).want(t, http.StatusForbidden, "insufficient_scope")
		isRevoked(t, r.revoke(t, c, token))
		r.get(t, "/userinfo", only("Authorization", "Bearer "+token)).want(t, http.StatusUnauthorized, "invalid_token")
	})
}
