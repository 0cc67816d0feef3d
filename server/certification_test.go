package server_test

import (
	"encoding/base64"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"signet/clients"
	"signet/fetch"
	"signet/users"
)

// exam is the provider as the OpenID conformance suite examines it: by two clients that use neither PKCE nor anything else that is not
// of the plain profile, one that sends its secret in the form, and a user with a profile.
type exam struct {
	*replica

	b              *backend
	one, two, post *clients.Client
	user           users.User
	s              *surfer // a browser of its own for each module
	n              int     // of clients that were registered
}

// module is one of the suite's, by its name there.
type module struct {
	name string
	run  func(t *testing.T, x *exam)
}

// plan runs the modules of a certification plan one after the other.
func plan(t *testing.T, modules []module) {
	t.Helper()
	onBackends(t, func(t *testing.T, b *backend) {
		x := &exam{replica: start(t, b), b: b}
		plain := func(c *clients.Client) { c.OptionalPKCE, c.IDTokenAlg = true, "" } // which comes to RS256
		x.one = x.shop(t, "one", plain)
		x.two = x.shop(t, "two", plain)
		x.post = x.shop(t, "post", plain, func(c *clients.Client) { c.AuthMethod = clients.SecretPost })
		x.user = x.replica.user(t, "foo")
		_, err := x.users.Update(t.Context(), x.user.ID, users.Change{Profile: members(t, `{"name":"Foo Bar","given_name":"Foo","family_name":"Bar",
			"picture":"https://example.com/foo.png","locale":"de","zoneinfo":"Europe/Berlin","email":"foo@example.com","email_verified":true,"phone_number":"+15551234567",
			"groups":["staff"],"claims":{"tier":"gold"}}`)}, origin)
		check(t, err)
		for _, m := range modules {
			x.s = x.surfer(t)
			t.Run(m.name, func(t *testing.T) { x.s.t = t; m.run(t, x) })
		}
	})
}

// request is what the suite's clients ask for.
func (x *exam) request(c *clients.Client, pairs ...string) url.Values {
	return ask(c, append([]string{"code_challenge", "", "code_challenge_method", "", "nonce", strings.Repeat("n", 43)}, pairs...)...)
}

// passed is a flow that came to its end.
type passed struct {
	tokens, info answer
	id           map[string]any
}

var plainText = regexp.MustCompile(`^[\x20\x21\x23-\x5b\x5d-\x7e]*$`)

// flow runs a request to its end and checks what is checked in each module.
func (x *exam) flow(t *testing.T, c *clients.Client, pairs ...string) passed {
	t.Helper()
	q := x.request(c, pairs...)
	return x.finish(t, c, q, x.s.grant(q, x.user))
}

// finish checks the answer to a request, and all that comes of it.
func (x *exam) finish(t *testing.T, c *clients.Client, q url.Values, v view) (p passed) {
	t.Helper()
	mode := q.Get("response_mode")
	if mode == "" {
		mode = "query"
	}
	answer := v.parameters(t, mode)
	for name, values := range answer {
		if !slices.Contains([]string{"code", "state", "iss"}, name) || len(values) != 1 {
			t.Errorf("the answer has %s=%q", name, values)
		}
	}
	if answer.Get("state") != q.Get("state") || answer.Get("iss") != issuer {
		t.Errorf("the answer is %v", answer)
	}
	code := answer.Get("code")
	if len(code) < 16 || entropy(code)*float64(len(code)) < 96 {
		t.Errorf("the code %q has too little in it", code)
	}
	p.tokens = x.redeem(t, c, code, "code_verifier", "").issued(t)
	if p.tokens.text("token_type") != "Bearer" || p.tokens.json["expires_in"].(float64) <= 0 || p.tokens.header.Get("Content-Type") != "application/json" {
		t.Errorf("tokens: %s", p.tokens.body)
	}
	header, id := verify(t, x.jwks(t), p.tokens.text("id_token"))
	p.id = id
	now := float64(time.Now().Unix())
	if header["alg"] != "RS256" || header["kid"] == "" || id["iss"] != issuer || id["aud"] != c.ID || id["exp"].(float64) <= now || math.Abs(id["iat"].(float64)-now) > 300 ||
		id["azp"] != nil || id["at_hash"] != accessHash("RS256", p.tokens.text("access_token")) || id["sub"] != x.user.ID || id["auth_time"] == nil || id["acr"] != "aal1" {
		t.Errorf("the ID token: %v %v", header, id)
	}
	if nonce, sent := id["nonce"], q.Get("nonce"); sent != "" && nonce != sent || sent == "" && nonce != nil {
		t.Errorf("the nonce %q came back as %v", sent, nonce)
	}
	p.info = x.get(t, "/userinfo", only("Authorization", "Bearer "+p.tokens.text("access_token")))
	if p.info.status != http.StatusOK || p.info.header.Get("Content-Type") != "application/json" || p.info.json["sub"] != id["sub"] {
		t.Errorf("userinfo: %d %s", p.info.status, p.info.body)
	}
	for name, value := range p.info.json {
		switch name {
		case "updated_at":
			_, isNumber := value.(float64)
			if !isNumber {
				t.Errorf("%s is %v", name, value)
			}
		case "email_verified", "phone_number_verified":
			if _, isBool := value.(bool); !isBool {
				t.Errorf("%s is %v", name, value)
			}
		default:
			if value == nil || value == "" {
				t.Errorf("%s is empty", name)
			}
		}
	}
	return p
}

// refusal is an error of /token as the suite wants it.
func refusal(t *testing.T, a answer, code string) {
	t.Helper()
	a.want(t, http.StatusBadRequest, code)
	if a.header.Get("Content-Type") != "application/json" || !plainText.MatchString(a.text("error_description")) || !plainText.MatchString(a.text("error")) {
		t.Errorf("the error is %s", a.body)
	}
}

// entropy is Shannon's, in bits for each character.
func entropy(s string) (bits float64) {
	counts := map[rune]float64{}
	for _, c := range s {
		counts[c]++
	}
	for _, n := range counts {
		bits -= n / float64(len(s)) * math.Log2(n/float64(len(s)))
	}
	return bits
}

// plainClaims are those that an ID token may have without being asked.
var plainClaims = []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "at_hash", "sid"}

func TestBasicCertification(t *testing.T) {
	has := func(names ...string) func(t *testing.T, x *exam) {
		return func(t *testing.T, x *exam) {
			t.Helper()
			scope, names := names[0], names[1:]
			p := x.flow(t, x.one, "scope", "openid "+scope)
			for _, name := range names {
				if p.info.json[name] == nil {
					t.Errorf("userinfo has no %s: %s", name, p.info.body)
				}
			}
			if len(p.info.json) != len(names)+1 {
				t.Errorf("userinfo has others besides: %s", p.info.body)
			}
		}
	}
	profile := strings.Fields("name given_name family_name preferred_username picture locale zoneinfo updated_at tier")
	email, phone := []string{"email", "email_verified"}, []string{"phone_number", "phone_number_verified"}
	ignored := func(pairs ...string) func(t *testing.T, x *exam) {
		return func(t *testing.T, x *exam) { t.Helper(); x.flow(t, x.one, pairs...) }
	}
	plan(t, []module{
		{"oidcc-server", func(t *testing.T, x *exam) {
			for name := range x.flow(t, x.one).id {
				if !slices.Contains(plainClaims, name) {
					t.Errorf("the ID token has %s without being asked", name)
				}
			}
		}},
		{"oidcc-response-type-missing", func(t *testing.T, x *exam) {
			x.s.authorize(x.request(x.one, "response_type", "")).refused(t, "invalid_request")
		}},
		{"oidcc-idtoken-signature", ignored()},
		{"oidcc-idtoken-unsigned", func(t *testing.T, x *exam) {
			if algs := x.get(t, "/.well-known/openid-configuration").json["id_token_signing_alg_values_supported"]; slices.Contains(algs.([]any), any("none")) {
				t.Errorf("algorithms: %v", algs)
			}
		}},
		{"oidcc-userinfo-get", ignored()},
		{"oidcc-userinfo-post-header", func(t *testing.T, x *exam) {
			p := x.flow(t, x.one)
			req := x.replica.request(t.Context(), "/userinfo", "", only("Authorization", "Bearer "+p.tokens.text("access_token")))
			if a := x.do(t, req); a.status != http.StatusOK || a.body != p.info.body {
				t.Errorf("%d %s", a.status, a.body)
			}
			req = x.replica.request(t.Context(), "/userinfo", "", only("Authorization", "Bearer "+p.tokens.text("access_token")))
			req.Header.Del("Content-Type")
			if a := x.do(t, req); a.status != http.StatusOK {
				t.Errorf("without a Content-Type: %d %s", a.status, a.body)
			}
		}},
		{"oidcc-userinfo-post-body", func(t *testing.T, x *exam) {
			p := x.flow(t, x.one)
			if a := x.do(t, x.replica.request(t.Context(), "/userinfo", form("access_token", p.tokens.text("access_token")).Encode())); a.status != http.StatusOK || a.body != p.info.body {
				t.Errorf("%d %s", a.status, a.body)
			}
		}},
		{"oidcc-ensure-request-without-nonce-succeeds-for-code-flow", ignored("nonce", "")},
		{"oidcc-scope-profile", has(append([]string{"profile"}, profile...)...)},
		{"oidcc-scope-email", has(append([]string{"email"}, email...)...)},
		{"oidcc-scope-address", func(t *testing.T, x *exam) { // it says that it does not know it
			if scopes := x.get(t, "/.well-known/openid-configuration").json["scopes_supported"].([]any); slices.Contains(scopes, any("address")) {
				t.Errorf("scopes: %v", scopes)
			}
		}},
		{"oidcc-scope-phone", has(append([]string{"phone"}, phone...)...)},
		{"oidcc-scope-all", has(slices.Concat([]string{"profile email phone"}, profile, email, phone)...)},
		{"oidcc-alternate-happy-flow", func(t *testing.T, x *exam) {
			q := x.request(x.one, "scope", "email openid")
			pairs := strings.Split(q.Encode(), "&")
			slices.Reverse(pairs)
			v := x.s.open(http.MethodGet, "/authorize?"+strings.Join(pairs, "&"), "")
			if v = x.s.enter(v, x.user); strings.HasSuffix(v.action, "/consent") {
				v = x.s.submit(v, "decision", "allow")
			}
			x.finish(t, x.one, q, v)
		}},
		{"oidcc-display-page", ignored("display", "page")},
		{"oidcc-display-popup", ignored("display", "popup")},
		{"oidcc-prompt-login", func(t *testing.T, x *exam) {
			first := x.flow(t, x.one).id
			x.b.Age(t, time.Hour)
			v := x.s.authorize(x.request(x.one, "prompt", "login"))
			if !strings.HasSuffix(v.action, "/login") {
				t.Fatalf("not asked: %d %v", v.status, v.location)
			}
			q := x.request(x.one)
			if again := x.finish(t, x.one, q, x.s.enter(v, x.user)).id; again["auth_time"].(float64) <= first["auth_time"].(float64)-3600 || again["sub"] != first["sub"] {
				t.Errorf("%v, before: %v", again, first)
			}
		}},
		{"oidcc-prompt-none-not-logged-in", func(t *testing.T, x *exam) {
			x.s.authorize(x.request(x.one, "prompt", "none")).refused(t, "login_required")
		}},
		{"oidcc-prompt-none-logged-in", func(t *testing.T, x *exam) {
			first := x.flow(t, x.one).id
			q := x.request(x.one, "prompt", "none")
			if again := x.finish(t, x.one, q, x.s.authorize(q)).id; again["sub"] != first["sub"] || again["auth_time"] != first["auth_time"] {
				t.Errorf("%v, before: %v", again, first)
			}
		}},
		{"oidcc-max-age-1", func(t *testing.T, x *exam) {
			x.flow(t, x.one)
			x.b.Age(t, 2*time.Second)
			q := x.request(x.one, "max_age", "1")
			v := x.s.authorize(q)
			if !strings.HasSuffix(v.action, "/login") {
				t.Fatalf("not asked: %d %v", v.status, v.location)
			}
			if id := x.finish(t, x.one, q, x.s.enter(v, x.user)).id; id["iat"].(float64)-id["auth_time"].(float64) > 5 {
				t.Errorf("auth_time is old: %v", id)
			}
		}},
		{"oidcc-max-age-10000", func(t *testing.T, x *exam) {
			first := x.flow(t, x.one, "max_age", "15000").id
			q := x.request(x.one, "max_age", "10000")
			if again := x.finish(t, x.one, q, x.s.authorize(q)).id; again["sub"] != first["sub"] || again["auth_time"] != first["auth_time"] {
				t.Errorf("%v, before: %v", again, first)
			}
		}},
		{"oidcc-ensure-request-with-unknown-parameter-succeeds", ignored("extra", "foobar")},
		{"oidcc-id-token-hint", func(t *testing.T, x *exam) {
			first := x.flow(t, x.one)
			q := x.request(x.one, "prompt", "none", "id_token_hint", first.tokens.text("id_token"))
			x.finish(t, x.one, q, x.s.authorize(q))
		}},
		{"oidcc-login-hint", ignored("login_hint", "buffy@example.com")},
		{"oidcc-ui-locales", ignored("ui_locales", "se")},
		{"oidcc-claims-locales", ignored("claims_locales", "se")},
		{"oidcc-ensure-request-with-acr-values-succeeds", func(t *testing.T, x *exam) {
			for _, values := range []string{"1 2", "aal1"} {
				x.flow(t, x.one, "acr_values", values)
			}
		}},
		{"oidcc-codereuse", func(t *testing.T, x *exam) {
			code := x.s.grant(x.request(x.one), x.user).code(t)
			x.redeem(t, x.one, code, "code_verifier", "").issued(t)
			refusal(t, x.redeem(t, x.one, code, "code_verifier", ""), "invalid_grant")
		}},
		{"oidcc-codereuse-30seconds", func(t *testing.T, x *exam) {
			code := x.s.grant(x.request(x.one), x.user).code(t)
			token := x.redeem(t, x.one, code, "code_verifier", "").issued(t).text("access_token")
			x.b.Age(t, 30*time.Second)
			refusal(t, x.redeem(t, x.one, code, "code_verifier", ""), "invalid_grant")
			x.get(t, "/userinfo", only("Authorization", "Bearer "+token)).want(t, http.StatusUnauthorized, "invalid_token")
		}},
		{"oidcc-ensure-registered-redirect-uri", func(t *testing.T, x *exam) {
			x.s.authorize(x.request(x.one, "redirect_uri", callback+"/foobar")).page(t, http.StatusBadRequest)
		}},
		{"oidcc-ensure-post-request-succeeds", func(t *testing.T, x *exam) {
			q := x.request(x.one)
			v := x.s.open(http.MethodPost, "/authorize", q.Encode(), header("Origin", "https://shop.example.com"), header("Sec-Fetch-Site", "cross-site"))
			if v.status == http.StatusSeeOther { // to the same by GET
				v = x.s.open(http.MethodGet, strings.TrimPrefix(v.location.String(), issuer), "")
			}
			if v = x.s.enter(v, x.user); strings.HasSuffix(v.action, "/consent") {
				v = x.s.submit(v, "decision", "allow")
			}
			x.finish(t, x.one, q, v)
		}},
		{"oidcc-server-client-secret-post", func(t *testing.T, x *exam) {
			f := form("grant_type", "authorization_code", "code", x.s.grant(x.request(x.post), x.user).code(t), "redirect_uri", callback, "client_id", x.post.ID, "client_secret", x.post.Secret)
			x.do(t, x.replica.request(t.Context(), "/token", f.Encode())).issued(t)
		}},
		{"oidcc-request-uri-unsigned-supported-correctly-or-rejected-as-unsupported", func(t *testing.T, x *exam) {
			x.s.authorize(x.request(x.one, "request_uri", "https://www.example.com/request.jwt")).refused(t, "request_uri_not_supported")
		}},
		{"oidcc-unsigned-request-object-supported-correctly-or-rejected-as-unsupported", func(t *testing.T, x *exam) {
			object := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"scope":"openid"}`)) + "."
			x.s.authorize(x.request(x.one, "request", object)).refused(t, "request_not_supported")
			d := x.get(t, "/.well-known/openid-configuration").json
			if d["request_parameter_supported"] != false || d["request_uri_parameter_supported"] != false {
				t.Errorf("the metadata say %v, %v", d["request_parameter_supported"], d["request_uri_parameter_supported"])
			}
		}},
		{"oidcc-claims-essential", func(t *testing.T, x *exam) {
			p := x.flow(t, x.one, "claims", `{"userinfo":{"name":{"essential":true}}}`)
			if p.info.json["name"] != "Foo Bar" || p.id["name"] != nil {
				t.Errorf("userinfo %s, ID token %v", p.info.body, p.id)
			}
		}},
		{"oidcc-refresh-token", func(t *testing.T, x *exam) {
			first := x.flow(t, x.one, "scope", "openid offline_access", "prompt", "consent")
			refresh := first.tokens.text("refresh_token")
			if !regexp.MustCompile(`^[\x20-\x7e]+$`).MatchString(refresh) {
				t.Errorf("the refresh token is %q", refresh)
			}
			refusal(t, x.refresh(t, x.two, refresh), "invalid_grant")
			again := x.refresh(t, x.one, refresh).issued(t)
			_, id := verify(t, x.jwks(t), again.text("id_token"))
			for _, name := range []string{"iss", "sub", "aud", "auth_time", "sid"} {
				if id[name] != first.id[name] {
					t.Errorf("%s is %v, was %v", name, id[name], first.id[name])
				}
			}
			if id["nonce"] != nil || id["iat"].(float64) < first.id["iat"].(float64) || again.text("access_token") == first.tokens.text("access_token") {
				t.Errorf("refreshed: %v", id)
			}
		}},
		{"oidcc-ensure-request-with-valid-pkce-succeeds", func(t *testing.T, x *exam) {
			x.redeem(t, x.one, x.s.grant(ask(x.one), x.user).code(t)).issued(t)
		}},
		// Of the dynamic plan, what is no matter of registration.
		{"oidcc-redirect-uri-query-OK", func(t *testing.T, x *exam) {
			c := x.shop(t, "query", func(c *clients.Client) { c.RedirectURIs = []string{callback + "?foo=bar"} })
			if v := x.s.grant(ask(c, "redirect_uri", callback+"?foo=bar"), x.user); !strings.HasPrefix(v.header.Get("Location"), callback+"?foo=bar&code=") {
				t.Errorf("%d %v", v.status, v.location)
			}
			x.s.authorize(ask(c, "redirect_uri", callback+"?foo=baz")).page(t, http.StatusBadRequest)     // oidcc-redirect-uri-query-mismatch
			x.s.authorize(ask(x.one, "redirect_uri", callback+"?foo=bar")).page(t, http.StatusBadRequest) // oidcc-redirect-uri-query-added
		}},
		{"oidcc-redirect-uri-regfrag", func(t *testing.T, x *exam) {
			_, err := x.clients.Create(t.Context(), clients.Client{ID: "fragment", Name: "x", AuthMethod: clients.None, Grants: []clients.Grant{clients.AuthorizationCode}, RedirectURIs: []string{callback + "#foo"}}, origin)
			if err == nil || !strings.Contains(err.Error(), "redirect_uris") {
				t.Errorf("a fragment: %v", err)
			}
		}},
		{"oidcc-ensure-redirect-uri-in-authorization-request", func(t *testing.T, x *exam) {
			c := x.shop(t, "several", func(c *clients.Client) { c.RedirectURIs = []string{callback, callback + "2"} })
			x.s.authorize(ask(c, "redirect_uri", "")).page(t, http.StatusBadRequest)
		}},
		{"oidcc-registration-logo-uri, -policy-uri and -tos-uri", func(t *testing.T, x *exam) {
			c := x.shop(t, "shown", func(c *clients.Client) {
				c.LogoURI, c.PolicyURI, c.TOSURI, c.ClientURI = "https://shop.example.com/logo.png", "https://shop.example.com/policy", "https://shop.example.com/tos", "https://shop.example.com/"
			})
			v := x.s.enter(x.s.authorize(ask(c)), x.user)
			for _, uri := range []string{c.LogoURI, c.PolicyURI, c.TOSURI, c.ClientURI} {
				if !strings.Contains(v.body, `"`+uri+`"`) {
					t.Errorf("%s is not shown", uri)
				}
			}
		}},
		{"oidcc-server-rotate-keys", func(t *testing.T, x *exam) {
			old := x.flow(t, x.one).tokens.text("id_token")
			before := x.jwks(t)
			_, err := x.keys.Rotate(t.Context(), origin)
			check(t, err)
			verify(t, x.jwks(t), old)
			for kid := range before {
				if x.jwks(t)[kid] == nil {
					t.Errorf("the key %s is gone", kid)
				}
			}
			if len(x.jwks(t)) <= len(before) {
				t.Error("there is no new key")
			}
			x.flow(t, x.one)
		}},
	})
}

func TestConfigCertification(t *testing.T) {
	plan(t, []module{{"oidcc-discovery-endpoint-verification", func(t *testing.T, x *exam) {
		d := x.get(t, "/.well-known/openid-configuration")
		list := func(name string) []any {
			values, ok := d.json[name].([]any)
			if !ok || len(values) == 0 {
				t.Errorf("%s is %v", name, d.json[name])
			}
			return values
		}
		if u, err := url.Parse(d.text("issuer")); err != nil || d.text("issuer") != issuer || u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
			t.Errorf("issuer %q", d.text("issuer"))
		}
		for name, want := range map[string]string{
			"response_types_supported": "code", "subject_types_supported": "public", "id_token_signing_alg_values_supported": "RS256", "scopes_supported": "openid",
			"grant_types_supported": "authorization_code", "claims_supported": "sub", "code_challenge_methods_supported": "S256", "response_modes_supported": "form_post",
			"token_endpoint_auth_methods_supported": "client_secret_basic", "prompt_values_supported": "none", "ui_locales_supported": "en",
		} {
			if !slices.Contains(list(name), any(want)) {
				t.Errorf("%s is %v", name, d.json[name])
			}
		}
		for name, value := range d.json {
			if text, isText := value.(string); isText && (strings.HasSuffix(name, "_endpoint") || strings.HasSuffix(name, "_uri")) && !strings.HasPrefix(text, "https://") {
				t.Errorf("%s is %s", name, text)
			}
		}
		for _, name := range []string{"authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", "end_session_endpoint"} {
			if d.text(name) == "" {
				t.Errorf("%s is missing", name)
			}
		}
		scopeToken := regexp.MustCompile(`^[\x21\x23-\x5b\x5d-\x7e]+$`)
		for _, scope := range list("scopes_supported") {
			if !scopeToken.MatchString(scope.(string)) {
				t.Errorf("the scope %q", scope)
			}
		}
		for _, tag := range list("ui_locales_supported") {
			if !regexp.MustCompile(`^[a-z]{2}(-[A-Z]{2})?$`).MatchString(tag.(string)) {
				t.Errorf("the language %q", tag)
			}
		}
		for _, name := range []string{"claims_parameter_supported", "request_parameter_supported", "request_uri_parameter_supported", "backchannel_logout_supported"} {
			if _, isBool := d.json[name].(bool); !isBool {
				t.Errorf("%s is %v", name, d.json[name])
			}
		}
		for kid, k := range x.jwks(t) {
			if kid == "" || k["kty"] == nil || k["d"] != nil || k["k"] != nil {
				t.Errorf("a key is %v", k)
			}
		}
	}}})
}

func TestRPInitiatedLogoutCertification(t *testing.T) {
	const bye = "https://shop.example.com/bye"
	// after logs somebody in, opens the log-out with their ID token as %s in it, answers the question, if any, with yes, and returns
	// the first answer.
	after := func(t *testing.T, x *exam, pairs ...string) view {
		t.Helper()
		token := x.flow(t, x.one).tokens.text("id_token")
		pairs = slices.Clone(pairs)
		for i := range pairs {
			pairs[i] = strings.ReplaceAll(pairs[i], "%s", token)
		}
		first := x.s.open(http.MethodGet, "/logout?"+form(pairs...).Encode(), "")
		if strings.HasSuffix(first.action, "/logout") {
			x.s.submit(first, "decision", "logout")
		}
		return first
	}
	gone := func(t *testing.T, x *exam) {
		t.Helper()
		x.s.authorize(x.request(x.one, "prompt", "none")).refused(t, "login_required")
	}
	sent := func(want string, pairs ...string) func(t *testing.T, x *exam) {
		return func(t *testing.T, x *exam) {
			t.Helper()
			if v := after(t, x, pairs...); v.status != http.StatusSeeOther || v.header.Get("Location") != want {
				t.Errorf("%d, Location %v, want %s", v.status, v.location, want)
			}
			gone(t, x)
		}
	}
	shown := func(out bool, pairs ...string) func(t *testing.T, x *exam) {
		return func(t *testing.T, x *exam) {
			t.Helper()
			if v := after(t, x, pairs...); v.location != nil || v.status != http.StatusOK && v.status != http.StatusBadRequest {
				t.Errorf("%d, Location %v", v.status, v.location)
			}
			if out {
				gone(t, x)
			}
		}
	}
	modified := func(t *testing.T, x *exam) {
		t.Helper()
		token := x.flow(t, x.one).tokens.text("id_token")
		_, claims := decode(t, token)
		for _, hint := range []string{
			encode(t, map[string]any{"alg": "none", "typ": "JWT"}, claims, func(string) []byte { return nil }),
			encode(t, map[string]any{"alg": "HS256", "typ": "JWT"}, claims, hs256([]byte(x.one.Secret))),
		} {
			v := x.s.open(http.MethodGet, "/logout?"+form("id_token_hint", hint, "post_logout_redirect_uri", bye, "state", "x").Encode(), "")
			if v.location != nil {
				t.Errorf("sent to %v", v.location)
			}
			x.s.authorize(x.request(x.one, "prompt", "none")).code(t)
		}
	}
	plan(t, []module{
		{"oidcc-rp-initiated-logout-discovery-endpoint-verification", func(t *testing.T, x *exam) {
			if d := x.get(t, "/.well-known/openid-configuration"); !strings.HasPrefix(d.text("end_session_endpoint"), "https://") {
				t.Errorf("%s", d.body)
			}
		}},
		{"oidcc-rp-initiated-logout", sent(bye+"?state=a+b%26%C3%BC", "id_token_hint", "%s", "post_logout_redirect_uri", bye, "state", "a b&ü")},
		{"oidcc-rp-initiated-logout-bad-post-logout-redirect-uri", shown(false, "id_token_hint", "%s", "post_logout_redirect_uri", "https://evil.example.com/")},
		{"oidcc-rp-initiated-logout-query-added-to-post-logout-redirect-uri", shown(false, "id_token_hint", "%s", "post_logout_redirect_uri", bye+"?foo=bar")},
		{"oidcc-rp-initiated-logout-modified-id-token-hint", modified},
		{"oidcc-rp-initiated-logout-bad-id-token-hint", modified},
		{"oidcc-rp-initiated-logout-no-id-token-hint", shown(false, "post_logout_redirect_uri", bye, "state", "x")},
		{"oidcc-rp-initiated-logout-no-params", shown(true)},
		{"oidcc-rp-initiated-logout-no-post-logout-redirect-uri", shown(true, "id_token_hint", "%s", "state", "x")},
		{"oidcc-rp-initiated-logout-no-state", sent(bye, "id_token_hint", "%s", "post_logout_redirect_uri", bye)},
		{"oidcc-rp-initiated-logout-only-state", shown(true, "state", "x")},
	})
}

func TestBackchannelLogoutCertification(t *testing.T) {
	plan(t, []module{
		{"oidcc-backchannel-rp-initiated-logout-discovery-endpoint-verification", func(t *testing.T, x *exam) {
			d := x.get(t, "/.well-known/openid-configuration").json
			if d["backchannel_logout_supported"] != true || d["backchannel_logout_session_supported"] != true || d["end_session_endpoint"] == nil {
				t.Errorf("%v", d)
			}
		}},
		{"oidcc-backchannel-rp-initiated-logout", func(t *testing.T, x *exam) {
			to := newReceiver(t)
			c := x.shop(t, "told", func(c *clients.Client) {
				c.BackchannelLogoutURI, c.BackchannelLogoutSessionRequired, c.OptionalPKCE, c.IDTokenAlg = to.URL, true, true, ""
			})
			p := x.flow(t, c)
			out := x.s.open(http.MethodGet, "/logout?"+form("id_token_hint", p.tokens.text("id_token"), "post_logout_redirect_uri", "https://shop.example.com/bye", "state", "s").Encode(), "")
			if out.location == nil || out.location.String() != "https://shop.example.com/bye?state=s" {
				t.Errorf("%d %v", out.status, out.location)
			}
			caller := fetch.New(onThisMachine, "test")
			defer caller.Close()
			check(t, x.tokens.TellDue(t.Context(), x.clients, caller))
			heard := to.all()
			if len(heard) != 1 || len(heard[0]) != 1 {
				t.Fatalf("heard %v", heard)
			}
			header, claims := verify(t, x.jwks(t), heard[0].Get("logout_token"))
			events := fmt.Sprint(claims["events"])
			now := float64(time.Now().Unix())
			if header["alg"] != "RS256" || header["typ"] != "logout+jwt" || claims["iss"] != issuer || claims["aud"] != c.ID || claims["sub"] != p.id["sub"] || claims["sid"] != p.id["sid"] ||
				claims["jti"] == "" || claims["nonce"] != nil || events != "map[http://schemas.openid.net/event/backchannel-logout:map[]]" ||
				math.Abs(claims["iat"].(float64)-now) > 300 || claims["exp"].(float64) <= now || claims["exp"].(float64)-claims["iat"].(float64) > 120 {
				t.Errorf("%v %v", header, claims)
			}
			x.s.authorize(x.request(c, "prompt", "none")).refused(t, "login_required")
		}},
	})
}
