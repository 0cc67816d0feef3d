package server_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"signet/audit"
	"signet/clients"
	"signet/fetch"
	"signet/users"
)

// What a conforming OpenID provider does, drawn from the certification profiles Basic, Config, RP-Initiated Logout and Back-Channel
// Logout.
func TestOpenIDConnectConformance(t *testing.T) {
	lines(t, []line{
		{"01 discovery", func(t *testing.T, _ *backend, r *replica) {
			d := r.get(t, "/.well-known/openid-configuration", header("Origin", "https://anywhere.example.com"))
			if d.status != http.StatusOK || d.header.Get("Content-Type") != "application/json" || d.text("issuer") != issuer || d.header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%d %v %s", d.status, d.header, d.body)
			}
			if other := r.get(t, "/.well-known/oauth-authorization-server"); other.body != d.body {
				t.Error("RFC 8414's document says something else")
			}
			for _, required := range []string{
				"issuer", "authorization_endpoint", "token_endpoint", "jwks_uri", "response_types_supported", "subject_types_supported", "id_token_signing_alg_values_supported",
				"userinfo_endpoint", "end_session_endpoint", "scopes_supported", "claims_supported", "grant_types_supported", "request_uri_parameter_supported",
			} {
				if d.json[required] == nil {
					t.Errorf("%s is missing", required)
				}
			}
			list := func(name string) (words []string) {
				values, _ := d.json[name].([]any)
				for _, v := range values {
					words = append(words, v.(string))
				}
				return words
			}
			if algs := list("id_token_signing_alg_values_supported"); !slices.Contains(algs, "RS256") || slices.Contains(algs, "none") || slices.Contains(algs, "HS256") {
				t.Errorf("algorithms %v", algs)
			}
			for name, value := range d.json {
				endpoint, isText := value.(string)
				if !isText || name == "issuer" {
					continue
				}
				path, ours := strings.CutPrefix(endpoint, issuer)
				if !ours {
					t.Errorf("%s is %q", name, endpoint)
					continue
				}
				if a := r.get(t, path); a.status == http.StatusNotFound || a.status >= 500 {
					t.Errorf("%s: %d", name, a.status)
				}
			}
			for _, k := range r.jwks(t) {
				for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
					if k[private] != nil {
						t.Errorf("the JWKS has %q", private)
					}
				}
				if k["kid"] == "" || k["use"] != "sig" || k["alg"] == nil {
					t.Errorf("a key is %v", k)
				}
			}
		}},
		{"02 the ID token, by each algorithm", idTokens},
		{"03 sub is the same over logins, clients and refreshes", func(t *testing.T, _ *backend, r *replica) {
			u := r.user(t, "alice")
			for _, id := range []string{"one", "two", "one again"} {
				c := r.shop(t, strings.ReplaceAll(id, " ", "-"), trusted)
				a := r.redeem(t, c, r.surfer(t).grant(ask(c), u).code(t)).issued(t)
				again := r.refresh(t, c, a.text("refresh_token")).issued(t)
				for _, token := range []string{a.text("id_token"), a.text("access_token"), again.text("id_token"), again.text("access_token")} {
					if sub := payload(t, token)["sub"]; sub != u.ID || len(u.ID) > 255 || strings.Trim(u.ID, "0123456789abcdef-") != "" {
						t.Errorf("%s: sub is %v, want %s", id, sub, u.ID)
					}
				}
			}
		}},
		{"04 userinfo, by header and by form", userInfo},
		{"05 userinfo refuses", func(t *testing.T, _ *backend, r *replica) {
			c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
			token := r.redeem(t, c, s.grant(ask(c), u).code(t)).issued(t).text("access_token")
			with := func(token string) answer { return r.get(t, "/userinfo", only("Authorization", "Bearer "+token)) }
			challenge := func(a answer, want string) {
				t.Helper()
				if got := a.header.Get("WWW-Authenticate"); got != want {
					t.Errorf("the challenge is %q, want %q", got, want)
				}
			}
			challenge(r.get(t, "/userinfo").want(t, http.StatusUnauthorized, "invalid_token"), `Bearer realm="signet"`)
			for name, a := range map[string]answer{
				"in the query":        r.get(t, "/userinfo?access_token="+token),
				"twice":               r.do(t, r.request(t.Context(), "/userinfo", "access_token="+token, only("Authorization", "Bearer "+token))),
				"repeated":            r.do(t, r.request(t.Context(), "/userinfo", "access_token="+token+"&access_token="+token)),
				"in a form of no use": r.do(t, r.request(t.Context(), "/userinfo", "access_token=%zz")),
				"in two headers":      r.get(t, "/userinfo", header("Authorization", "Bearer "+token), header("Authorization", "Bearer "+token)),
			} {
				if a.want(t, http.StatusBadRequest, "invalid_request"); len(a.header.Values("WWW-Authenticate")) != 1 || a.header.Get("WWW-Authenticate") != `Bearer realm="signet", error="invalid_request"` {
					t.Errorf("%s: %q", name, a.header.Values("WWW-Authenticate"))
				}
			}
			r.get(t, "/userinfo", only("Cookie", "signet_at="+token)).want(t, http.StatusUnauthorized, "invalid_token") // any origin may call it
			for _, bad := range []string{"x", "", token + "x", "x y", "\xff", strings.Repeat("x", 60<<10)} {
				with(bad).want(t, http.StatusUnauthorized, "invalid_token")
			}
			challenge(with("x"), `Bearer realm="signet", error="invalid_token"`)
			plain := r.redeem(t, c, s.authorize(ask(c, "scope", "email")).code(t)).issued(t).text("access_token")
			challenge(with(plain).want(t, http.StatusForbidden, "insufficient_scope"), `Bearer realm="signet", error="insufficient_scope", scope="openid"`)
			machine := r.app(t, "machine", scope("openid"))
			if a := with(r.token(t, machine, "grant_type", "client_credentials").issued(t).text("access_token")).want(t, http.StatusForbidden, "insufficient_scope"); !strings.Contains(a.text("error_description"), "no user") {
				t.Errorf("a token of no user: %s", a.body)
			}
			isRevoked(t, r.revoke(t, c, token))
			with(token).want(t, http.StatusUnauthorized, "invalid_token")
			live := r.redeem(t, c, s.authorize(ask(c)).code(t)).issued(t).text("access_token")
			_, err := r.users.Update(t.Context(), u.ID, users.Change{Disabled: new(true)}, origin)
			check(t, err)
			with(live).want(t, http.StatusUnauthorized, "invalid_token")
		}},
		{"06 no kind of token is taken for another", func(t *testing.T, _ *backend, r *replica) {
			c, u, s := r.shop(t, "shop", trusted, func(c *clients.Client) {
				c.Grants = append(c.Grants, clients.Password)
				c.Scope = append(c.Scope, clients.ScopeAccount)
			}), r.user(t, "alice"), r.surfer(t)
			a := r.redeem(t, c, s.grant(ask(c, "scope", "openid signet:account"), u).code(t)).issued(t)
			logout, err := r.tokens.LogoutToken(t.Context(), c, u.ID, uuid.NewString(), time.Now())
			check(t, err)
			login := s.cookies["__Host-signet_login"]
			kinds := map[string]string{
				"ID token": a.text("id_token"), "logout token": logout, "refresh token": a.text("refresh_token"), "access token": a.text("access_token"),
				"code": s.authorize(ask(c)).code(t), "login cookie": login, "sealed request": s.authorize(ask(c, "prompt", "login")).hidden.Get("request"),
			}
			for kind, token := range kinds {
				if kind != "access token" {
					r.get(t, "/userinfo", only("Authorization", "Bearer "+token)).want(t, http.StatusUnauthorized, "invalid_token")
					r.get(t, "/account", only("Authorization", "Bearer "+token)).want(t, http.StatusUnauthorized, "invalid_token")
				}
				if kind != "access token" && kind != "refresh token" {
					r.dead(t, kind, c, token)
					isRevoked(t, r.revoke(t, c, token)) // it is unknown there
				}
				if kind != "refresh token" {
					r.refresh(t, c, token).want(t, http.StatusBadRequest, "invalid_grant")
				}
				if kind != "code" {
					r.redeem(t, c, token).want(t, http.StatusBadRequest, "invalid_grant")
				}
				if kind != "ID token" {
					s.authorize(ask(c, "prompt", "none", "id_token_hint", token)).refused(t, "login_required")
				}
				if kind != "login cookie" {
					other := r.surfer(t)
					other.cookies["__Host-signet_login"] = token
					other.authorize(ask(c, "prompt", "none")).refused(t, "login_required")
				}
				if kind != "sealed request" {
					s.open(http.MethodPost, "/login", form("request", token, "username", "alice", "password", password).Encode()).page(t, http.StatusBadRequest)
				}
			}
			r.alive(t, "after all that", c, a.text("access_token"))
			r.redeem(t, c, kinds["code"]).issued(t)
			r.refresh(t, c, a.text("refresh_token")).issued(t)
		}},
		{"07 a refresh answers with a new ID token", func(t *testing.T, b *backend, r *replica) {
			c, another, u, s := r.shop(t, "shop", trusted), r.shop(t, "another", trusted), r.user(t, "alice"), r.surfer(t)
			a := r.redeem(t, c, s.grant(ask(c, "nonce", strings.Repeat("n", 43)), u).code(t)).issued(t)
			first := payload(t, a.text("id_token"))
			b.Age(t, 10*time.Minute)
			second := r.refresh(t, c, a.text("refresh_token")).issued(t)
			later := payload(t, second.text("id_token"))
			for _, name := range []string{"iss", "sub", "aud", "auth_time", "sid", "acr"} {
				if later[name] != first[name] || first[name] == nil {
					t.Errorf("%s is %v, was %v", name, later[name], first[name])
				}
			}
			if later["nonce"] != nil || later["iat"].(float64) < first["iat"].(float64) || later["at_hash"] != accessHash("ES256", second.text("access_token")) {
				t.Errorf("refreshed: %v", later)
			}
			r.refresh(t, another, second.text("refresh_token")).want(t, http.StatusBadRequest, "invalid_grant")
			narrow := r.refresh(t, c, second.text("refresh_token"), "scope", "openid").issued(t)
			if narrow.text("id_token") == "" {
				t.Error("no ID token with openid in the narrowed scope")
			}
			wide := r.redeem(t, c, s.authorize(ask(c, "scope", "openid email")).code(t)).issued(t)
			if narrow = r.refresh(t, c, wide.text("refresh_token"), "scope", "email").issued(t); narrow.json["id_token"] != nil {
				t.Error("an ID token without openid in the narrowed scope")
			}
		}},
		{"08 log-out by the client", logouts},
		{"09 after log-out", func(t *testing.T, _ *backend, r *replica) {
			c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
			online := r.redeem(t, c, s.grant(ask(c), u).code(t)).issued(t)
			offline := r.redeem(t, c, s.authorize(ask(c, "scope", "openid offline_access")).code(t)).issued(t)
			s.open(http.MethodGet, "/logout?"+form("id_token_hint", online.text("id_token")).Encode(), "").page(t, http.StatusOK)
			s.authorize(ask(c, "prompt", "none")).refused(t, "login_required")
			r.refresh(t, c, online.text("refresh_token")).want(t, http.StatusBadRequest, "invalid_grant")
			r.get(t, "/userinfo", only("Authorization", "Bearer "+online.text("access_token"))).want(t, http.StatusUnauthorized, "invalid_token")
			r.refresh(t, c, offline.text("refresh_token")).issued(t)
			r.get(t, "/userinfo", only("Authorization", "Bearer "+offline.text("access_token"))).want(t, http.StatusOK, "")
			if events := r.events(t, audit.Logout); len(events) != 1 || events[0].UserID != u.ID {
				t.Errorf("recorded: %+v", events)
			}
		}},
		{"10 back-channel log-out", tellsOfLogouts},
		{"11 a backchannel_logout_uri is https and reaches nobody inside", func(t *testing.T, b *backend, r *replica) {
			register := func(uri string) error {
				_, err := r.clients.Create(t.Context(), clients.Client{
					ID: uuid.NewString(), Name: "x", AuthMethod: clients.SecretBasic, Grants: []clients.Grant{clients.AuthorizationCode}, RedirectURIs: []string{callback}, BackchannelLogoutURI: uri,
				}, origin)
				return err
			}
			check(t, register("https://shop.example.com/backchannel"))
			for _, uri := range []string{
				"http://shop.example.com/b", "ftp://shop.example.com/b", "https://shop.example.com/b#f", "https://user@shop.example.com/b", "x", "//shop.example.com", "javascript:x", "http://localhost.evil.example.com/",
			} {
				if err := register(uri); err == nil || !strings.Contains(err.Error(), "backchannel_logout_uri") {
					t.Errorf("%s: %v", uri, err)
				}
			}
			to := newReceiver(t) // on this machine, which the caller may not call
			c, u, s := r.shop(t, "shop", trusted, func(c *clients.Client) { c.BackchannelLogoutURI = to.URL }), r.user(t, "alice"), r.surfer(t)
			r.redeem(t, c, s.grant(ask(c), u).code(t)).issued(t)
			s.logOut()
			stranger := fetch.New(fetch.Policy{netip.MustParsePrefix("192.0.2.0/24")}, "test")
			defer stranger.Close()
			check(t, r.tokens.TellDue(t.Context(), r.clients, stranger))
			if heard := to.all(); len(heard) > 0 {
				t.Errorf("called: %v", heard)
			}
			if n := b.Int(t, `SELECT count(*) FROM logout_notices WHERE attempts = 1`); n != 1 {
				t.Errorf("%d notices", n)
			}
		}},
		{"12 key rotations break nothing", func(t *testing.T, b *backend, r *replica) {
			other := start(t, b)
			for _, alg := range []string{"RS256", "ES256"} {
				c := r.shop(t, alg, trusted, func(c *clients.Client) { c.IDTokenAlg = algorithm(alg) })
				u, s := r.user(t, "alice-"+alg), r.surfer(t)
				a := r.redeem(t, c, s.grant(ask(c), u).code(t)).issued(t)
				code := s.authorize(ask(c)).code(t)
				for range 2 {
					_, err := other.keys.Rotate(t.Context(), origin)
					check(t, err)
				}
				r.redeem(t, c, code).issued(t)
				a = r.refresh(t, c, a.text("refresh_token")).issued(t)
				verify(t, other.jwks(t), a.text("id_token"))
				r.get(t, "/userinfo", only("Authorization", "Bearer "+a.text("access_token"))).want(t, http.StatusOK, "")
				_, err := r.keys.Rotate(t.Context(), origin)
				check(t, err)
				s.at(other).authorize(ask(c, "prompt", "none", "id_token_hint", a.text("id_token"))).code(t)
				v := s.open(http.MethodGet, "/logout?"+form("id_token_hint", a.text("id_token"), "post_logout_redirect_uri", "https://shop.example.com/bye").Encode(), "")
				if v.location == nil || v.location.String() != "https://shop.example.com/bye" {
					t.Errorf("%s: %d %q", alg, v.status, v.heading)
				}
			}
		}},
	})
}

// idTokens hold what they should, by each algorithm.
func idTokens(t *testing.T, _ *backend, r *replica) {
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
	}
}

// userInfo: by header or form, never by query; the truth at the call.
func userInfo(t *testing.T, _ *backend, r *replica) {
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
}

// logouts ask, or come from who may: nobody is sent to a URI that is not the client's, and no other browser is logged out.
func logouts(t *testing.T, _ *backend, r *replica) {
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
}

// A client's own lives count for its tokens and sessions, of each grant, in place of the server's.
func TestLivesOfAClient(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		c := r.shop(t, "shop", trusted, func(c *clients.Client) {
			c.AccessTTL, c.RefreshTTL, c.SessionTTL = 5*time.Minute, time.Hour, 150*time.Minute
			c.Grants = append(c.Grants, clients.Password, clients.ClientCredentials)
		})
		u, s := r.user(t, "alice"), r.surfer(t)
		sessions := map[string]answer{
			"code":               r.redeem(t, c, s.grant(ask(c), u).code(t)).issued(t),
			"offline":            r.redeem(t, c, s.authorize(ask(c, "scope", "openid offline_access")).code(t)).issued(t),
			"password":           r.passwordGrant(t, c, "alice", password).issued(t),
			"client credentials": r.token(t, c, "grant_type", "client_credentials").issued(t),
		}
		for what, a := range sessions {
			if a.json["expires_in"] != 300.0 {
				t.Errorf("%s: %s", what, a.body)
			}
		}
		delete(sessions, "client credentials")
		idle := r.redeem(t, c, s.authorize(ask(c)).code(t)).issued(t)
		for range 2 {
			b.Age(t, 55*time.Minute)
			for what, a := range sessions {
				if sessions[what] = r.refresh(t, c, a.text("refresh_token")).issued(t); sessions[what].json["expires_in"] != 300.0 {
					t.Errorf("%s: %s", what, sessions[what].body)
				}
			}
		}
		r.refresh(t, c, idle.text("refresh_token")).want(t, http.StatusBadRequest, "invalid_grant")
		b.Age(t, 38*time.Minute)
		for what, a := range sessions {
			sessions[what] = r.refresh(t, c, a.text("refresh_token")).issued(t)
			if left := sessions[what].json["expires_in"].(float64); left > 130 { // until the session's end
				t.Errorf("%s: %v seconds", what, left)
			}
		}
		b.Age(t, 3*time.Minute)
		for _, a := range sessions {
			r.refresh(t, c, a.text("refresh_token")).want(t, http.StatusBadRequest, "invalid_grant")
		}
	})
}

// A login lasts for twelve hours, or for as long as the operator says for who wants to stay. What ends with it ends then.
func TestLifeOfALogin(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		c, u := r.shop(t, "shop", trusted), r.user(t, "alice")
		short, long := r.surfer(t), r.surfer(t)
		online := r.redeem(t, c, short.grant(ask(c), u).code(t)).issued(t)
		offline := r.redeem(t, c, short.authorize(ask(c, "scope", "openid offline_access")).code(t)).issued(t)
		long.enter(long.authorize(ask(c)), u, "stay", "1").code(t)
		// Asked once more who they are, they find the box as they left it.
		for _, visitor := range []struct {
			*surfer
			stays bool
		}{{short, false}, {long, true}} {
			v := visitor.authorize(ask(c, "prompt", "login"))
			equal(t, "stay is ticked", strings.Contains(v.body, `name="stay" value="1" checked`), visitor.stays)
		}
		b.Age(t, 11*time.Hour)
		short.authorize(ask(c, "prompt", "none")).code(t)
		online = r.refresh(t, c, online.text("refresh_token")).issued(t)
		code := short.authorize(ask(c)).code(t)
		b.Age(t, 61*time.Minute)
		short.authorize(ask(c, "prompt", "none")).refused(t, "login_required")
		r.redeem(t, c, code).want(t, http.StatusBadRequest, "invalid_grant")
		r.refresh(t, c, online.text("refresh_token")).want(t, http.StatusBadRequest, "invalid_grant")
		r.refresh(t, c, offline.text("refresh_token")).issued(t)
		if n := b.Int(t, `SELECT count(*) FROM logout_notices`); n != 0 {
			t.Error("a login that expired is told of")
		}
		b.Age(t, 29*24*time.Hour)
		long.authorize(ask(c, "prompt", "none")).code(t)
		b.Age(t, 24*time.Hour)
		long.authorize(ask(c, "prompt", "none")).refused(t, "login_required")
	})
}
