package server_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"signet/audit"
	"signet/clients"
	"signet/proofs"
	"signet/tokens"
	"signet/users"
)

// caller calls Signet's own API with an access token.
type caller struct {
	*replica

	token   string
	session string
	user    users.User
}

// admin logs an admin in on a client for administration.
func (r *replica) admin(t testing.TB) *caller {
	t.Helper()
	c := r.app(t, "admin-ui", scope("read", clients.ScopeAdmin, clients.ScopeAccount))
	return r.as(t, c, r.user(t, "root", true), clients.ScopeAdmin, "read")
}

// as logs the user in with that scope.
func (r *replica) as(t testing.TB, c *clients.Client, u users.User, scope ...string) *caller {
	t.Helper()
	issued, err := r.tokens.StartSession(t.Context(), c, u, scope, []string{r.tokens.Issuer()}, proofs.Key{}, audit.Origin{Actor: u.ID})
	check(t, err)
	return &caller{r, issued.AccessToken, issued.SessionID, u}
}

// call makes a request with a JSON body, unless that is empty.
func (c *caller) call(t testing.TB, method, path, body string, options ...option) answer {
	t.Helper()
	all := []option{func(req *http.Request) {
		req.Method = method
		req.Header.Del("Content-Type")
		req.Header.Set("Authorization", "Bearer "+c.token)
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
	}}
	return c.do(t, c.request(t.Context(), path, body, append(all, options...)...))
}

// items returns the items of a list.
func (a answer) items(t testing.TB) []map[string]any {
	t.Helper()
	list, ok := a.json["items"].([]any)
	if a.status != http.StatusOK || !ok {
		t.Fatalf("got %d %s, want a list", a.status, a.body)
	}
	items := make([]map[string]any, len(list))
	for i, item := range list {
		items[i] = item.(map[string]any)
	}
	return items
}

func (a answer) is(t testing.TB, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("got %d %s, want %d", a.status, a.body, status)
	}
	return a
}

// adminCalls are all the calls of the admin API.
var adminCalls = []struct{ method, path string }{
	{"POST", "/admin/clients"}, {"GET", "/admin/clients"}, {"GET", "/admin/clients/x"}, {"PUT", "/admin/clients/x"},
	{"DELETE", "/admin/clients/x"}, {"POST", "/admin/clients/x/secret"}, {"POST", "/admin/users"}, {"GET", "/admin/users"},
	{"GET", "/admin/users/x"}, {"PATCH", "/admin/users/x"}, {"DELETE", "/admin/users/x"}, {"DELETE", "/admin/users/x/sessions"},
	{"GET", "/admin/sessions"}, {"DELETE", "/admin/sessions/x"}, {"GET", "/admin/keys"}, {"POST", "/admin/keys/rotate"}, {"DELETE", "/admin/keys/x"},
	{"GET", "/admin/audit"}, {"GET", "/admin/scopes"}, {"GET", "/admin/scopes/x"}, {"PUT", "/admin/scopes/x"}, {"DELETE", "/admin/scopes/x"},
	{"POST", "/admin/registration-tokens"}, {"GET", "/admin/registration-tokens"}, {"DELETE", "/admin/registration-tokens/x"},
}

var accountCalls = []struct{ method, path string }{
	{"GET", "/account"}, {"POST", "/account/password"}, {"GET", "/account/sessions"}, {"DELETE", "/account/sessions/x"},
	{"DELETE", "/account/sessions"},
}

// Nobody calls the API without an access token that is good, for this server, and of the right scope and person.
func TestAPIAuthorization(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		root := r.admin(t)
		ui, err := r.clients.Get(t.Context(), "admin-ui")
		check(t, err)
		machine := r.app(t, "machine", scope(clients.ScopeAdmin, clients.ScopeAccount))
		elsewhere := r.app(t, "elsewhere", audience(api), scope(clients.ScopeAdmin, clients.ScopeAccount))
		alice := r.user(t, "alice")
		both := []string{clients.ScopeAdmin, clients.ScopeAccount}
		demoted, revoked := r.user(t, "was an admin", true), r.as(t, &ui, root.user, both...)
		wasAdmin := r.as(t, &ui, demoted, clients.ScopeAdmin)
		_, err = r.users.Update(t.Context(), demoted.ID, users.Change{Admin: new(false)}, origin)
		check(t, err)
		check(t, r.tokens.EndSession(t.Context(), revoked.session, origin))
		foreign, err := r.tokens.StartSession(t.Context(), elsewhere, root.user, both, []string{api}, proofs.Key{}, origin)
		check(t, err)
		machines, err := r.tokens.ClientToken(t.Context(), machine, both, []string{issuer}, proofs.Key{})
		check(t, err)
		// What a holder of a signing key could forge: a scope that the session was never granted.
		plain := r.as(t, &ui, root.user, "read")
		forged, err := r.keys.Sign(map[string]any{
			"iss": issuer, "sub": root.user.ID, "aud": issuer, "exp": time.Now().Add(time.Minute).Unix(), "iat": time.Now().Unix() - 1,
			"jti": "forged", "client_id": "admin-ui", "scope": strings.Join(both, " "), "sid": plain.session,
		})
		check(t, err)
		narrow, err := r.tokens.StartSession(t.Context(), elsewhere, root.user, both, []string{api}, proofs.Key{}, origin)
		check(t, err)
		widened, err := r.keys.Sign(map[string]any{
			"iss": issuer, "sub": root.user.ID, "aud": issuer, "exp": time.Now().Add(time.Minute).Unix(), "iat": time.Now().Unix() - 1,
			"jti": "widened", "client_id": "elsewhere", "scope": strings.Join(both, " "), "sid": narrow.SessionID,
		})
		check(t, err)
		good := r.as(t, &ui, root.user, both...)

		for name, want := range map[string]struct {
			header         string
			admin, account int
			code           string
		}{
			"none":                   {"", 401, 401, "invalid_token"},
			"another scheme":         {"Basic " + good.token, 401, 401, "invalid_token"},
			"no token":               {"Bearer", 401, 401, "invalid_token"},
			"an empty token":         {"Bearer ", 401, 401, "invalid_token"},
			"garbled":                {"Bearer " + good.token[:len(good.token)-1], 401, 401, "invalid_token"},
			"of an ended session":    {"Bearer " + revoked.token, 401, 401, "invalid_token"},
			"a refresh token":        {"Bearer " + r.login(t, &ui, alice).RefreshToken, 401, 401, "invalid_token"},
			"for another server":     {"Bearer " + foreign.AccessToken, 401, 401, "invalid_token"},
			"without the scopes":     {"Bearer " + plain.token, 403, 403, "insufficient_scope"},
			"with a forged audience": {"Bearer " + widened, 401, 401, "invalid_token"},
			"with a forged scope":    {"Bearer " + forged, 403, 403, "insufficient_scope"},
			"of an admin no more":    {"Bearer " + wasAdmin.token, 403, 403, "insufficient_scope"},
			"of no admin":            {"Bearer " + r.as(t, &ui, alice, both...).token, 403, 200, "insufficient_scope"},
			"of a client":            {"Bearer " + machines.AccessToken, 200, 403, "insufficient_scope"},
			"good":                   {"Bearer " + good.token, 200, 200, ""},
			"in another upper case":  {"bEARER " + good.token, 200, 200, ""},
			"two spaces":             {"Bearer  " + good.token, 200, 200, ""},
		} {
			for _, calls := range []struct {
				list []struct{ method, path string }
				want int
			}{{adminCalls, want.admin}, {accountCalls, want.account}} {
				for _, c := range calls.list {
					if calls.want == 200 && c.method == "DELETE" && c.path == "/account/sessions" {
						continue // it would end the sessions of the others; all else is asked for in vain
					}
					a := r.do(t, r.request(t.Context(), c.path, "", func(req *http.Request) {
						req.Method = c.method
						req.Header.Del("Content-Type")
						if want.header != "" {
							req.Header.Set("Authorization", want.header)
						}
					}))
					if calls.want == 200 {
						if a.status == 401 || a.status == 403 {
							t.Errorf("%s: %s %s: %d %s", name, c.method, c.path, a.status, a.body)
						}
						continue
					}
					challenge := a.header.Get("WWW-Authenticate")
					wantChallenge := `Bearer error="` + want.code + `"`
					if name == "none" {
						wantChallenge = `Bearer realm="signet"`
					}
					if a.status != calls.want || a.text("error") != want.code || !strings.HasPrefix(challenge, wantChallenge) {
						t.Errorf("%s: %s %s: %d %s, WWW-Authenticate: %s", name, c.method, c.path, a.status, a.body, challenge)
					}
				}
			}
		}
		a := r.do(t, r.request(t.Context(), "/admin/keys", "", header("Authorization", "Bearer "+good.token), header("Authorization", "Bearer "+good.token),
			func(req *http.Request) { req.Method = http.MethodGet }))
		a.want(t, http.StatusBadRequest, "invalid_request")
	})
}

func TestAdminClients(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		root := r.admin(t)
		a := root.call(t, "POST", "/admin/clients", `{"client_name": "Web shop", "scope": "read write", "audience": ["https://api.example.com"]}`).is(t, http.StatusCreated)
		id, secret := a.text("client_id"), a.text("client_secret")
		issued, _ := a.json["client_id_issued_at"].(float64)
		if time.Since(time.Unix(int64(issued), 0)) > time.Minute {
			t.Errorf("issued at %v", a.json["client_id_issued_at"])
		}
		want := map[string]any{
			"client_id": id, "client_id_issued_at": issued, "client_secret_expires_at": 0.0, "client_name": "Web shop",
			"grant_types": []any{"password", "refresh_token"}, "token_endpoint_auth_method": "client_secret_basic", "scope": "read write",
			"audience": []any{"https://api.example.com"}, "redirect_uris": []any{}, "browser_origins": []any{},
			"resource_server": false, "disabled": false, "client_secret": secret,
			"response_types": []any{"code"}, "application_type": "web", "require_pkce": true, "skip_consent": false, "contacts": []any{},
			"post_logout_redirect_uris": []any{}, "backchannel_logout_session_required": false, "id_token_signed_response_alg": "RS256", "require_auth_time": false,
			"require_pushed_authorization_requests": false, "dpop_bound_access_tokens": false,
		}
		equal(t, "registered", a.json, want)
		r.user(t, "alice")
		app := &clients.Client{ID: id, Secret: secret, AuthMethod: clients.SecretBasic}
		refresh := r.passwordGrant(t, app, "alice", password).issued(t).text("refresh_token")

		delete(want, "client_secret")
		equal(t, "read", root.call(t, "GET", "/admin/clients/"+id, "").is(t, 200).json, want)

		// What was read can be put back as it is, and with changes; what is left out gets its default.
		equal(t, "put back", root.call(t, "PUT", "/admin/clients/"+id, root.call(t, "GET", "/admin/clients/"+id, "").body).is(t, 200).json, want)
		want["client_name"], want["scope"], want["audience"] = "Shop", "", []any{}
		equal(t, "replaced", root.call(t, "PUT", "/admin/clients/"+id, `{"client_name": "Shop", "client_secret": "`+secret+`"}`).is(t, 200).json, want)
		root.call(t, "PUT", "/admin/clients/"+id, `{"client_id": "other", "client_name": "Shop"}`).want(t, 400, "invalid_client_metadata")
		root.call(t, "PUT", "/admin/clients/"+id, `{"client_name": "Shop", "client_secret": "another"}`).want(t, 400, "invalid_client_metadata")
		r.refresh(t, app, refresh).issued(t)

		// A new secret; the old one for as long as it overlaps.
		rotated := root.call(t, "POST", "/admin/clients/"+id+"/secret", `{"overlap": "24h"}`).is(t, 200)
		second := &clients.Client{ID: id, Secret: rotated.text("client_secret"), AuthMethod: clients.SecretBasic}
		for _, c := range []*clients.Client{app, second} {
			r.post(t, "/introspect", c, form("token", "x")).is(t, 200)
		}
		third := root.call(t, "POST", "/admin/clients/"+id+"/secret", "").is(t, 200).text("client_secret")
		for c, status := range map[*clients.Client]int{second: 401, {ID: id, Secret: third, AuthMethod: clients.SecretBasic}: 200} {
			r.post(t, "/introspect", c, form("token", "x")).is(t, status)
		}
		for _, overlap := range []string{`"-1h"`, `"soon"`, `"400d"`, `3600`} {
			if a := root.call(t, "POST", "/admin/clients/"+id+"/secret", `{"overlap": `+overlap+`}`).want(t, 400, "invalid_request"); !strings.HasPrefix(a.text("error_description"), "overlap") {
				t.Errorf("overlap %s: %s", overlap, a.body)
			}
		}

		// Disabling by PUT ends its tokens for good, and is in the record as such.
		app.Secret = third
		live := r.passwordGrant(t, app, "alice", password).issued(t).text("refresh_token")
		root.call(t, "PUT", "/admin/clients/"+id, `{"disabled": true}`).is(t, 200)
		r.refresh(t, app, live).want(t, 401, "invalid_client")
		equal(t, "named after its id", root.call(t, "PUT", "/admin/clients/"+id, `{}`).is(t, 200).text("client_name"), id)
		r.refresh(t, app, live).want(t, 400, "invalid_grant")

		root.call(t, "DELETE", "/admin/clients/"+id, "").is(t, 204)
		for method, body := range map[string]string{"GET": "", "PUT": `{"client_name": "x"}`, "DELETE": ""} {
			root.call(t, method, "/admin/clients/"+id, body).want(t, 404, "not_found")
		}
		root.call(t, "POST", "/admin/clients/"+id+"/secret", "").want(t, 404, "not_found")
		r.refresh(t, app, live).want(t, 401, "invalid_client")

		var types []string
		for _, e := range root.call(t, "GET", "/admin/audit?client="+id+"&limit=200", "").items(t) {
			types = append(types, e["type"].(string))
			if typ := e["type"].(string); strings.HasPrefix(typ, "client.") && (e["actor"] != root.user.ID || e["request_id"] == nil || e["address"] == nil) {
				t.Errorf("%s: %v", typ, e)
			}
		}
		equal(t, "the record", types, []string{
			"client.deleted", "client.enabled", "client.updated", "client.disabled", "client.updated", "session.created",
			"client.secret_rotated", "client.secret_rotated", "client.updated", "client.updated", "session.created", "client.created",
		})
	})
}

// A client that logs users in by code: what it gets by itself, and all that it can be told.
func TestAdminClientsOfTheCodeGrant(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		root := r.admin(t)
		a := root.call(t, "POST", "/admin/clients", `{"client_id": "app", "redirect_uris": ["https://app.example.com/cb"]}`).is(t, 201)
		equal(t, "grants", a.json["grant_types"], []any{"authorization_code", "refresh_token"})
		equal(t, "scope", a.json["scope"], "openid profile email offline_access")
		equal(t, "named grants", root.call(t, "POST", "/admin/clients", `{"redirect_uris": ["https://app.example.com/cb"], "grant_types": ["password"]}`).is(t, 201).json["scope"], "")
		equal(t, "an empty scope", root.call(t, "POST", "/admin/clients", `{"redirect_uris": ["https://app.example.com/cb"], "scope": ""}`).is(t, 201).json["scope"], "")
		root.call(t, "POST", "/admin/clients", `{"grant_types": ["client_credentials"], "response_types": []}`).is(t, 201)

		given := map[string]any{
			"client_name": "App", "grant_types": []any{"authorization_code"}, "response_types": []any{"code"}, "token_endpoint_auth_method": "client_secret_post",
			"scope": "openid read", "audience": []any{}, "redirect_uris": []any{"com.example.app:/cb", "http://127.0.0.1/cb"}, "application_type": "native", "require_pkce": false,
			"skip_consent": true, "client_uri": "https://app.example.com", "logo_uri": "https://app.example.com/logo.png", "policy_uri": "https://app.example.com/privacy",
			"tos_uri": "https://app.example.com/terms", "contacts": []any{"ann@example.com"}, "post_logout_redirect_uris": []any{"com.example.app:/bye"},
			"backchannel_logout_uri": "https://app.example.com/logout", "backchannel_logout_session_required": true, "id_token_signed_response_alg": "EdDSA",
			"default_max_age": 0.0, "require_auth_time": true, "access_token_ttl": "5m", "refresh_token_ttl": "12h", "session_ttl": "30d",
			"require_pushed_authorization_requests": true, "dpop_bound_access_tokens": true, "jwks_uri": "https://app.example.com/jwks", "token_endpoint_auth_signing_alg": "ES256",
			"browser_origins": []any{}, "resource_server": false, "disabled": false,
		}
		body, err := json.Marshal(given)
		check(t, err)
		for _, got := range []answer{
			root.call(t, "PUT", "/admin/clients/app", string(body)).is(t, 200), root.call(t, "GET", "/admin/clients/app", "").is(t, 200),
			root.call(t, "PUT", "/admin/clients/app", root.call(t, "GET", "/admin/clients/app", "").body).is(t, 200),
		} {
			for _, member := range []string{"client_id", "client_id_issued_at", "client_secret_expires_at"} {
				delete(got.json, member)
			}
			equal(t, "with everything", got.json, given)
		}
	})
}

func TestAdminRegistrationTokens(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		root := r.admin(t)
		equal(t, "none", len(root.call(t, "GET", "/admin/registration-tokens", "").items(t)), 0)
		made := root.call(t, "POST", "/admin/registration-tokens", "").is(t, 201)
		token := made.text("initial_access_token")
		expires, err := time.Parse(time.RFC3339, made.text("expires_at"))
		if err != nil || made.json["uses"] != 1.0 || time.Until(expires).Round(time.Minute) != 24*time.Hour {
			t.Errorf("%s", made.body)
		}
		other := root.call(t, "POST", "/admin/registration-tokens", `{"uses": 3, "ttl": "7d"}`).is(t, 201)

		// The list tells which there are, and not what they are.
		var seen []string
		page := root.call(t, "GET", "/admin/registration-tokens?limit=1", "").is(t, 200)
		for _, item := range append(page.items(t), root.call(t, "GET", "/admin/registration-tokens?limit=1&cursor="+page.text("next_cursor"), "").items(t)...) {
			seen = append(seen, fmt.Sprint(item["id"], " ", item["uses"]))
			if item["initial_access_token"] != nil {
				t.Errorf("listed: %v", item)
			}
		}
		want := []string{made.text("id") + " 1", other.text("id") + " 3"}
		slices.Sort(seen)
		slices.Sort(want)
		equal(t, "listed", seen, want)

		// One registration uses it up; a revoked one is good for none.
		register := func(token string) answer { return r.speak(t, "POST", "/register", token, goodApp) }
		register(token).is(t, 201)
		equal(t, "left", len(root.call(t, "GET", "/admin/registration-tokens", "").items(t)), 1)
		register(other.text("initial_access_token")).is(t, 201)
		root.call(t, "DELETE", "/admin/registration-tokens/"+other.text("id"), "").is(t, 204)
		register(other.text("initial_access_token")).is(t, 401)
		equal(t, "none any more", len(root.call(t, "GET", "/admin/registration-tokens", "").items(t)), 0)
		for _, id := range []string{other.text("id"), made.text("id"), "x", "%00", token} {
			root.call(t, "DELETE", "/admin/registration-tokens/"+id, "").want(t, 404, "not_found")
		}
		for body, field := range map[string]string{
			`{"uses": 0}`: "uses", `{"uses": -1}`: "uses", `{"uses": 10001}`: "uses", `{"uses": "1"}`: "uses", `{"uses": 1.5}`: "uses", `{"ttl": "0s"}`: "ttl", `{"ttl": "soon"}`: "ttl",
			`{"ttl": 60}`: "ttl", `{"life": "1h"}`: "life",
		} {
			a := root.call(t, "POST", "/admin/registration-tokens", body).want(t, 400, "invalid_request")
			if !strings.HasPrefix(a.text("error_description"), field+": ") {
				t.Errorf("%s: %s", body, a.body)
			}
		}
		var record []string
		for _, e := range root.call(t, "GET", "/admin/audit?type=registration_token.created", "").items(t) {
			record = append(record, fmt.Sprint(e["detail"], " ", e["actor"] == root.user.ID))
		}
		equal(t, "made, in the record", record, []string{"3 uses, 7d true", "1 uses, 24h true"})
		equal(t, "revoked, in the record", len(root.call(t, "GET", "/admin/audit?type=registration_token.revoked", "").items(t)), 1)
	}, registering(clients.RegistrationToken))
}

func TestAdminScopes(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		root := r.admin(t)
		equal(t, "none", len(root.call(t, "GET", "/admin/scopes", "").items(t)), 0)
		read := map[string]any{"name": "orders:read", "description": "See your orders"}
		equal(t, "described", root.call(t, "PUT", "/admin/scopes/orders:read", `{"description": " See your orders "}`).is(t, 200).json, read)
		equal(t, "read", root.call(t, "GET", "/admin/scopes/orders:read", "").is(t, 200).json, read)
		address := "https://api.example.com/all"
		equal(t, "an address", root.call(t, "PUT", "/admin/scopes/"+url.PathEscape(address), `{"name": "`+address+`", "description": "Ünïcode"}`).is(t, 200).json["name"], address)
		read["description"] = "See all of your orders"
		root.call(t, "PUT", "/admin/scopes/orders:read", `{"description": "See all of your orders"}`).is(t, 200)
		equal(t, "all", root.call(t, "GET", "/admin/scopes", "").items(t), []map[string]any{{"name": address, "description": "Ünïcode"}, read})
		page := root.call(t, "GET", "/admin/scopes?limit=1", "").is(t, 200)
		equal(t, "the second page", root.call(t, "GET", "/admin/scopes?limit=1&cursor="+page.text("next_cursor"), "").items(t), []map[string]any{read})

		for path, body := range map[string]string{
			"a%20b": `{"description": "x"}`, "signet:root": `{"description": "x"}`, "a%22": `{"description": "x"}`, "read": `{"description": ""}`,
			"write": `{"description": "a\u202eb"}`, "b": `{}`, "c": `{"name": "d", "description": "x"}`, "e": `{"description": "x", "unknown": 1}`, "f": "",
		} {
			root.call(t, "PUT", "/admin/scopes/"+path, body).want(t, 400, "invalid_request")
		}
		root.call(t, "DELETE", "/admin/scopes/orders:read", "").is(t, 204)
		root.call(t, "DELETE", "/admin/scopes/orders:read", "").want(t, 404, "not_found")
		root.call(t, "GET", "/admin/scopes/orders:read", "").want(t, 404, "not_found")
		root.call(t, "GET", "/admin/scopes/%00", "").want(t, 404, "not_found")
		root.call(t, "DELETE", "/admin/scopes/%00", "").want(t, 404, "not_found")
		var record []string
		for _, e := range root.call(t, "GET", "/admin/audit?limit=4", "").items(t) {
			record = append(record, fmt.Sprint(e["type"], " ", e["detail"], " ", e["actor"] == root.user.ID))
		}
		equal(t, "the record", record, []string{
			"scope.deleted orders:read true", "scope.updated orders:read true", "scope.updated " + address + " true", "scope.updated orders:read true",
		})
		described, err := r.clients.ScopeDescriptions(t.Context())
		check(t, err)
		equal(t, "descriptions", described, map[string]string{address: "Ünïcode"})
	})
}

// Every member of a client that cannot be is named.
func TestAdminClientMetadata(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		root := r.admin(t)
		r.app(t, "taken")
		long := strings.Repeat("a", 256)
		for body, field := range map[string]string{
			`{"client_name": "x", "unknown": 1}`:       "unknown",
			`{"client_name": 1}`:                       "client_name",
			`{"client_name": "` + long + `"}`:          "client_name",
			`{"client_name": "a\u0000"}`:               "client_name",
			`{"client_id": "taken"}`:                   "client_id",
			`{"client_id": "with space"}`:              "client_id",
			`{"client_id": "` + long + `"}`:            "client_id",
			`{"client_id": "ä"}`:                       "client_id",
			`{"client_id": ""}`:                        "client_id",
			`{"token_endpoint_auth_method": ""}`:       "token_endpoint_auth_method",
			`{"client_secret": "sgs_mine"}`:            "client_secret",
			`{"grant_types": ["implicit"]}`:            "grant_types",
			`{"grant_types": ["authorization_code"]}`:  "redirect_uris",
			`{"response_types": ["token"]}`:            "response_types",
			`{"response_types": ["code", "id_token"]}`: "response_types",
			`{"response_types": "code"}`:               "response_types",
			`{"redirect_uris": ["https://app.example.com/"], "grant_types": ["authorization_code"], "response_types": []}`: "response_types",
			`{"application_type": "spa"}`:                                                   "application_type",
			`{"redirect_uris": ["com.example.app:/cb"]}`:                                    "redirect_uris",
			`{"redirect_uris": ["https://app.example.com/cb?code=x"]}`:                      "redirect_uris",
			`{"post_logout_redirect_uris": ["http://app.example.com/"]}`:                    "post_logout_redirect_uris",
			`{"token_endpoint_auth_method": "none", "require_pkce": false}`:                 "require_pkce",
			`{"require_pkce": "no"}`:                                                        "require_pkce",
			`{"skip_consent": 1}`:                                                           "skip_consent",
			`{"client_uri": "javascript:alert(1)"}`:                                         "client_uri",
			`{"logo_uri": "data:image/png;base64,AAAA"}`:                                    "logo_uri",
			`{"policy_uri": "http://app.example.com"}`:                                      "policy_uri",
			`{"tos_uri": "/terms"}`:                                                         "tos_uri",
			`{"contacts": ["a\nb"]}`:                                                        "contacts",
			`{"contacts": "ann@example.com"}`:                                               "contacts",
			`{"backchannel_logout_uri": "http://10.0.0.1/logout"}`:                          "backchannel_logout_uri",
			`{"backchannel_logout_uri": "https://app.example.com/#x"}`:                      "backchannel_logout_uri",
			`{"id_token_signed_response_alg": "HS256"}`:                                     "id_token_signed_response_alg",
			`{"id_token_signed_response_alg": "none"}`:                                      "id_token_signed_response_alg",
			`{"default_max_age": -1}`:                                                       "default_max_age",
			`{"default_max_age": "12h"}`:                                                    "default_max_age",
			`{"default_max_age": 1.5}`:                                                      "default_max_age",
			`{"default_max_age": 99999999999999999999}`:                                     "default_max_age",
			`{"require_auth_time": "yes"}`:                                                  "require_auth_time",
			`{"access_token_ttl": "soon"}`:                                                  "access_token_ttl",
			`{"access_token_ttl": 900}`:                                                     "access_token_ttl",
			`{"refresh_token_ttl": "0s"}`:                                                   "refresh_token_ttl",
			`{"session_ttl": "-1h"}`:                                                        "session_ttl",
			`{"client_name": "shop\u202egnp.exe"}`:                                          "client_name",
			`{"grant_types": "password"}`:                                                   "grant_types",
			`{"grant_types": [1]}`:                                                          "grant_types",
			`{"token_endpoint_auth_method": "private_key_jwt"}`:                             "jwks",
			`{"token_endpoint_auth_method": "none", "grant_types": ["client_credentials"]}`: "grant_types",
			`{"token_endpoint_auth_method": "none", "resource_server": true}`:               "resource_server",
			`{"scope": "a  b"}`:                                                             "scope",
			`{"scope": ["a"]}`:                                                              "scope",
			`{"scope": "signet:root"}`:                                                      "scope",
			`{"audience": ["api"]}`:                                                         "audience",
			`{"audience": ["https://api.example.com#x"]}`:                                   "audience",
			`{"redirect_uris": ["javascript:alert(1)"]}`:                                    "redirect_uris",
			`{"redirect_uris": ["http://app.example.com/cb"]}`:                              "redirect_uris",
			`{"redirect_uris": ["https://app.example.com/cb#x"]}`:                           "redirect_uris",
			`{"redirect_uris": ["https://*.example.com/cb"]}`:                               "redirect_uris",
			`{"browser_origins": ["https://app.example.com/"]}`:                             "browser_origins",
			`{"browser_origins": ["http://app.example.com"]}`:                               "browser_origins",
			`{"resource_server": "yes"}`:                                                    "resource_server",
			`{"disabled": 1}`:                                                               "disabled",
			`{"CLIENT_NAME": "x"}`:                                                          "CLIENT_NAME",
			`{"client_name": "x", "client_name": "y"}`:                                      "client_name",
			`{"jwks_uri": "http://10.0.0.1/keys"}`:                                          "jwks_uri",
		} {
			for _, c := range []struct{ method, path string }{{"POST", "/admin/clients"}, {"PUT", "/admin/clients/taken"}} {
				if c.method == "PUT" && body == `{"client_id": "taken"}` {
					continue
				}
				a := root.call(t, c.method, c.path, body).want(t, 400, "invalid_client_metadata")
				if !strings.HasPrefix(a.text("error_description"), field+": ") {
					t.Errorf("%s %s: %s", c.method, body, a.body)
				}
			}
		}
		for _, body := range []string{`[]`, `"x"`, `null`, `{`, `{} {}`, `1`, " "} {
			root.call(t, "POST", "/admin/clients", body).want(t, 400, "invalid_client_metadata")
		}
		root.call(t, "POST", "/admin/clients", `{"client_name": "x"}`, func(req *http.Request) { req.Header.Set("Content-Type", "text/plain") }).want(t, 400, "invalid_request")
		root.call(t, "POST", "/admin/clients", `{"client_name": "`+strings.Repeat("a", 64<<10)+`"}`).want(t, 413, "invalid_request")
		if list := root.call(t, "GET", "/admin/clients", "").items(t); len(list) != 2 {
			t.Errorf("%d clients", len(list))
		}

		made := root.call(t, "POST", "/admin/clients", `{"client_id": "asleep", "disabled": true}`).is(t, 201)
		if made.json["disabled"] != true {
			t.Errorf("registered as disabled: %s", made.body)
		}
		r.post(t, "/introspect", &clients.Client{ID: "asleep", Secret: made.text("client_secret"), AuthMethod: clients.SecretBasic}, form("token", "x")).want(t, 401, "invalid_client")
		for _, text := range []string{"\"p\xe4ssword\"", `"p\ud800ssword"`} {
			root.call(t, "POST", "/admin/clients", `{"client_name": `+text+`}`).want(t, 400, "invalid_client_metadata")
			root.call(t, "POST", "/admin/users", `{"username": "x", "password": `+text+`}`).want(t, 400, "invalid_request")
		}
		root.call(t, "POST", "/admin/users", `{"username": "meant", "password": "p\ufffdssword \ud83d\ude00"}`).is(t, 201)
		for _, id := range []string{"%00", "%ff", "a%20b", "%zz"} {
			if id != "%zz" {
				root.call(t, "GET", "/admin/clients/"+id, "").want(t, 404, "not_found")
				root.call(t, "PUT", "/admin/clients/"+id, `{}`).want(t, 404, "not_found")
				root.call(t, "DELETE", "/admin/clients/"+id, "").want(t, 404, "not_found")
				root.call(t, "POST", "/admin/clients/"+id+"/secret", "").want(t, 404, "not_found")
				for _, path := range []string{"/admin/sessions", "/admin/audit"} {
					if items := root.call(t, "GET", path+"?client="+id, "").items(t); len(items) > 0 {
						t.Errorf("%s?client=%s: %v", path, id, items)
					}
				}
			}
		}
		root.call(t, "GET", "/admin/clients?cursor=AA", "").want(t, 400, "invalid_request")
		urn := "urn:uuid:9b2b7a52-7f8e-4f53-a3f4-3f0f2b1f6f11"
		root.call(t, "GET", "/admin/sessions?cursor="+base64.RawURLEncoding.EncodeToString([]byte(urn)), "").want(t, 400, "invalid_request")
		root.call(t, "GET", "/admin/sessions?user="+urn, "").is(t, 200)
		root.call(t, "GET", "/admin/audit?since=0001-01-01T00:00:00Z&type=client.created", "").is(t, 200)
		if items := root.call(t, "GET", "/admin/audit?since=0001-01-01T00:00:00Z&type=client.created", "").items(t); len(items) == 0 {
			t.Error("since ever, nothing happened")
		}

		// The ids that are allowed can be addressed.
		for _, id := range []string{"https://app.example.com/x?y=1&z", "a+b", "a%20b", "a/../b", "..", "a;b", "%", "secret", `"<>\^{|}`, "a/secret"} {
			body := `{"client_id": ` + fmt.Sprintf("%q", id) + `}`
			equal(t, "registered", root.call(t, "POST", "/admin/clients", body).is(t, 201).text("client_id"), id)
			path := "/admin/clients/" + url.PathEscape(id)
			if id == ".." {
				path = "/admin/clients/%2E%2E"
			}
			equal(t, "read", root.call(t, "GET", path, "").is(t, 200).text("client_id"), id)
			root.call(t, "POST", path+"/secret", "").is(t, 200)
			root.call(t, "DELETE", path, "").is(t, 204)
		}
	})
}

func TestAdminUsers(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		root := r.admin(t)
		app := r.app(t, "app")
		a := root.call(t, "POST", "/admin/users", `{"username": "Ann@example.com", "password": "correct horse"}`).is(t, 201)
		id := a.text("id")
		want := map[string]any{"id": id, "username": "Ann@example.com", "admin": false, "disabled": false, "created_at": a.json["created_at"]}
		equal(t, "made", a.json, want)
		if at, err := time.Parse(time.RFC3339, a.text("created_at")); err != nil || time.Since(at) > time.Minute {
			t.Errorf("created_at: %v, %v", at, err)
		}
		equal(t, "read", root.call(t, "GET", "/admin/users/"+id, "").is(t, 200).json, want)
		token := r.passwordGrant(t, app, "ann@EXAMPLE.com", "correct horse").issued(t).text("refresh_token")

		want["admin"] = true
		equal(t, "admin", root.call(t, "PATCH", "/admin/users/"+id, `{"admin": true}`).is(t, 200).json, want)
		token = r.refresh(t, app, token).issued(t).text("refresh_token")
		equal(t, "nothing", root.call(t, "PATCH", "/admin/users/"+id, `{}`).is(t, 200).json, want)
		equal(t, "password", root.call(t, "PATCH", "/admin/users/"+id, `{"password": "battery staple"}`).is(t, 200).json, want)
		r.refresh(t, app, token).want(t, 400, "invalid_grant")
		token = r.passwordGrant(t, app, "ann@example.com", "battery staple").issued(t).text("refresh_token")
		want["disabled"] = true
		equal(t, "disabled", root.call(t, "PATCH", "/admin/users/"+id, `{"disabled": true}`).is(t, 200).json, want)
		r.refresh(t, app, token).want(t, 400, "invalid_grant")
		want["disabled"], want["admin"] = false, false
		equal(t, "enabled", root.call(t, "PATCH", "/admin/users/"+id, `{"disabled": false, "admin": false}`).is(t, 200).json, want)
		r.refresh(t, app, token).want(t, 400, "invalid_grant")
		token = r.passwordGrant(t, app, "ann@example.com", "battery staple").issued(t).text("refresh_token")
		root.call(t, "DELETE", "/admin/users/"+id+"/sessions", "").is(t, 204)
		r.refresh(t, app, token).want(t, 400, "invalid_grant")

		for body, field := range map[string]string{
			`{"password": "correct horse"}`:                                               "username",
			`{"username": "x"}`:                                                           "password",
			`{"username": "", "password": "correct horse"}`:                               "username",
			`{"username": " x", "password": "correct horse"}`:                             "username",
			`{"username": "ANN@example.com", "password": "correct horse"}`:                "username",
			`{"username": 1, "password": "correct horse"}`:                                "username",
			`{"username": "x", "password": "short"}`:                                      "password",
			`{"username": "x", "password": "correct horse", "admin": "yes"}`:              "admin",
			`{"username": "x", "password": "correct horse", "disabled": true}`:            "disabled",
			`{"username": "` + strings.Repeat("x", 256) + `", "password": "long enough"}`: "username",
		} {
			if a := root.call(t, "POST", "/admin/users", body).want(t, 400, "invalid_request"); !strings.HasPrefix(a.text("error_description"), field+": ") {
				t.Errorf("%s: %s", body, a.body)
			}
		}
		for body, field := range map[string]string{
			`{"password": "short", "disabled": true}`: "password", `{"username": "bob"}`: "username", `{"disabled": "no"}`: "disabled", `{"admin": 1}`: "admin",
		} {
			if a := root.call(t, "PATCH", "/admin/users/"+id, body).want(t, 400, "invalid_request"); !strings.HasPrefix(a.text("error_description"), field+": ") {
				t.Errorf("%s: %s", body, a.body)
			}
		}
		if a := root.call(t, "PATCH", "/admin/users/"+id, `{"claims": {"n": 1e400}}`).want(t, 400, "invalid_request"); !strings.HasPrefix(a.text("error_description"), `claims: "n" holds a number`) {
			t.Errorf("a number that nobody can read: %s", a.body)
		}
		equal(t, "still", root.call(t, "GET", "/admin/users/"+id, "").is(t, 200).json, want)

		r.user(t, "9b2b7a52-7f8e-4f53-a3f4-3f0f2b1f6f11") // a name that looks like an id is none
		root.call(t, "DELETE", "/admin/users/"+id, "").is(t, 204)
		for _, unknown := range []string{id, "ann@example.com", uuid.NewString(), "9b2b7a52-7f8e-4f53-a3f4-3f0f2b1f6f11", "%00", "x"} {
			for _, c := range []struct{ method, path, body string }{
				{"GET", "", ""}, {"PATCH", "", `{"admin": true}`}, {"DELETE", "", ""}, {"DELETE", "/sessions", ""},
			} {
				root.call(t, c.method, "/admin/users/"+unknown+c.path, c.body).want(t, 404, "not_found")
			}
		}
		var types []string
		for _, e := range root.call(t, "GET", "/admin/audit?user="+id, "").items(t) {
			if typ := e["type"].(string); strings.HasPrefix(typ, "user.") {
				types = append(types, typ)
				if e["actor"] != root.user.ID {
					t.Errorf("%s by %v", typ, e["actor"])
				}
			}
		}
		equal(t, "the record", types, []string{
			"user.deleted", "user.logged_out", "user.updated", "user.enabled", "user.disabled", "user.password_changed", "user.updated", "user.created",
		})
	})
}

func TestAdminSessions(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		root := r.admin(t)
		app, other := r.app(t, "app"), r.app(t, "other")
		alice, bob := r.user(t, "alice"), r.user(t, "bob")
		mine := r.login(t, app, alice)
		r.login(t, other, alice)
		r.login(t, app, bob)
		count := func(query string, want int) []map[string]any {
			t.Helper()
			items := root.call(t, "GET", "/admin/sessions"+query, "").items(t)
			if len(items) != want {
				t.Errorf("%q selects %d sessions, want %d", query, len(items), want)
			}
			return items
		}
		count("", 4) // the admin's own among them
		count("?user=alice", 2)
		count("?user=ALICE&client=app", 1)
		count("?client=app", 2)
		count("?client=none", 0)
		count("?user=nobody", 0)
		count("?user="+uuid.NewString(), 0)
		n := count("?user="+alice.ID+"&client=app", 1)[0]
		for _, member := range []string{"created_at", "last_used_at", "expires_at"} {
			if _, err := time.Parse(time.RFC3339, n[member].(string)); err != nil {
				t.Error(err)
			}
			delete(n, member)
		}
		equal(t, "session", n, map[string]any{
			"id": mine.SessionID, "client_id": "app", "user_id": alice.ID, "username": "alice", "scope": "read write",
			"address": "127.0.0.1", "user_agent": "Go-http-client/1.1",
		})
		root.call(t, "DELETE", "/admin/sessions/"+mine.SessionID, "").is(t, 204)
		r.dead(t, "ended", app, mine.AccessToken)
		r.refresh(t, app, mine.RefreshToken).want(t, 400, "invalid_grant")
		for _, id := range []string{mine.SessionID, uuid.NewString(), "x", "%00"} {
			root.call(t, "DELETE", "/admin/sessions/"+id, "").want(t, 404, "not_found")
		}
		count("?client=app", 1)
		if e := root.call(t, "GET", "/admin/audit?type=session.revoked", "").items(t); len(e) != 1 || e[0]["session_id"] != mine.SessionID || e[0]["actor"] != root.user.ID {
			t.Errorf("the record: %v", e)
		}
	})
}

func TestAdminKeys(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		root := r.admin(t)
		keyOf := func(state string) string {
			t.Helper()
			for _, k := range root.call(t, "GET", "/admin/keys", "").items(t) {
				if k["state"] == state {
					if k["alg"] != "ES256" || k["created_at"] == nil || k["kid"] == nil {
						t.Errorf("key: %v", k)
					}
					return k["kid"].(string)
				}
			}
			return ""
		}
		current, next := keyOf("current"), keyOf("next")
		for _, body := range []string{`{"x": 1}`, `{bad`, `[]`} {
			root.call(t, "POST", "/admin/keys/rotate", body).want(t, 400, "invalid_request")
			root.call(t, "POST", "/admin/users/"+root.user.ID+"/reset-link", body).want(t, 400, "invalid_request")
		}
		root.call(t, "POST", "/admin/keys/rotate", strings.Repeat(" ", 70000)).want(t, 413, "invalid_request")
		equal(t, "after bodies that are none", keyOf("next"), next)
		a := root.call(t, "POST", "/admin/keys/rotate", "{}").is(t, 200)
		if a.text("kid") != next || a.text("state") != "current" || keyOf("current") != next || keyOf("retired") != current {
			t.Errorf("rotated to %s; was %s, next was %s", a.body, current, next)
		}
		one := root.call(t, "GET", "/admin/keys?limit=1", "")
		two := root.call(t, "GET", "/admin/keys?limit=2&cursor="+one.text("next_cursor"), "")
		if len(one.items(t)) != 1 || len(two.items(t)) != 2 || two.json["next_cursor"] != nil {
			t.Errorf("by pages: %s, %s", one.body, two.body)
		}
		if root.call(t, "DELETE", "/admin/keys/"+next, "").status != 204 || keyOf("current") == next || keyOf("next") == "" {
			t.Error("the current key was not revoked, or nothing took its place")
		}
		root.call(t, "DELETE", "/admin/keys/"+next, "").want(t, 404, "not_found")
		root.call(t, "DELETE", "/admin/keys/"+current, "").is(t, 204) // which the caller's token is signed with
		if root.call(t, "GET", "/admin/keys", "").status != 401 {
			t.Error("a token that the key signed is still good")
		}
		ui, err := r.clients.Get(t.Context(), "admin-ui")
		check(t, err)
		root = r.as(t, &ui, root.user, clients.ScopeAdmin)
		if e := root.call(t, "GET", "/admin/audit?type=key.revoked", "").items(t); len(e) != 2 || !strings.Contains(e[1]["detail"].(string), next) {
			t.Errorf("the record: %v", e)
		}
		if strings.Contains(root.call(t, "GET", "/admin/keys", "").body, "ealed") {
			t.Error("the list holds more than it should")
		}
	})
}

func TestAdminKeysOfASharedSecret(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		r.admin(t).call(t, "POST", "/admin/keys/rotate", "").want(t, 400, "invalid_request")
	}, func(s *settings) { s.alg, s.signingSecret = "HS256", strings.Repeat("s", 32) })
}

func TestAdminAudit(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		root := r.admin(t)
		app := r.app(t, "app")
		alice := r.user(t, "alice")
		r.passwordGrant(t, app, "alice", "wrong password").want(t, 400, "invalid_grant")
		r.login(t, app, alice)
		count := func(query string, want int) {
			t.Helper()
			if items := root.call(t, "GET", "/admin/audit"+query, "").items(t); len(items) != want {
				t.Errorf("%q selects %d events, want %d: %v", query, len(items), want, items)
			}
		}
		count("?type=login.failed", 1)
		count("?type=login.failed&user=alice&client=app", 1)
		count("?type=login.failed&user=bob", 0)
		count("?type=login.failed&client=other", 0)
		count("?type=login.failed&since=1h", 1)
		count("?type=login.failed&since=7d", 1)
		count("?type=login.failed&since="+url.QueryEscape(time.Now().Add(-time.Hour).Format(time.RFC3339)), 1)
		count("?type=login.failed&since="+url.QueryEscape(time.Now().Add(time.Hour).Format(time.RFC3339)), 0)
		for query, name := range map[string]string{
			"?type=nothing": "type", "?since=soon": "since", "?since=-1h": "since", "?since=0s": "since", "?limit=0": "limit", "?limit=201": "limit",
			"?limit=x": "limit", "?limit=": "limit", "?cursor=x": "cursor", "?cursor=" + base64.RawURLEncoding.EncodeToString([]byte("x")): "cursor",
			"?limit=1&limit=2": "limit",
		} {
			if a := root.call(t, "GET", "/admin/audit"+query, "").want(t, 400, "invalid_request"); !strings.HasPrefix(a.text("error_description"), name+": ") {
				t.Errorf("%s: %s", query, a.body)
			}
		}
		for _, path := range []string{"/admin/audit?usr=alice", "/admin/clients?user=alice", "/admin/users?q=%zz", "/admin/sessions?type=x"} {
			root.call(t, "GET", path, "").want(t, 400, "invalid_request")
		}
	})
}

// Pages neither repeat nor skip anything that was there when the first one was read, while more is being added.
func TestAdminPages(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		root := r.admin(t)
		app := r.app(t, "app")
		for i := range 20 {
			r.app(t, fmt.Sprintf("client %d", i), func(c *clients.Client) { c.ID = fmt.Sprintf("client-%d", i) })
			u := r.user(t, fmt.Sprintf("user %d", i))
			_, err := r.tokens.StartSession(t.Context(), app, u, nil, nil, proofs.Key{}, origin)
			check(t, err)
		}
		adding, stop := sync.WaitGroup{}, make(chan struct{})
		adding.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				c, err := r.clients.Create(t.Context(), clients.Client{ID: fmt.Sprintf("client-%d-late", i)}, origin)
				if err != nil {
					t.Error(err)
				}
				u, err := r.store.CreateUser(t.Context(), users.User{ID: uuid.NewString(), Username: fmt.Sprintf("user %d late", i), PasswordHash: passwordHash},
					fmt.Sprintf("user %d late", i), audit.New(audit.UserCreated, origin))
				if err == nil {
					_, err = r.tokens.StartSession(t.Context(), &c, u, nil, nil, proofs.Key{}, origin)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
		defer adding.Wait()
		defer close(stop)
		for path, key := range map[string]string{"/admin/clients": "client_id", "/admin/users": "id", "/admin/sessions": "id", "/admin/audit": "id"} {
			before := map[string]bool{}
			switch path {
			case "/admin/sessions":
				list, err := r.tokens.Sessions(t.Context(), tokens.Filter{Limit: 1 << 20})
				check(t, err)
				for _, n := range list {
					before[n.ID] = true
				}
			case "/admin/audit":
				list, err := r.store.Events(t.Context(), audit.Filter{Limit: 1 << 20})
				check(t, err)
				for _, e := range list[:len(list)-1] {
					before[e.ID] = true
				}
			case "/admin/clients":
				list, err := r.clients.List(t.Context(), clients.Filter{Limit: 1 << 20})
				check(t, err)
				for _, c := range list {
					before[c.ID] = true
				}
			case "/admin/users":
				list, err := r.users.List(t.Context(), users.Filter{Limit: 1 << 20})
				check(t, err)
				for _, u := range list {
					before[u.ID] = true
				}
			}
			seen := map[string]bool{}
			for cursor, pages := "", 0; ; pages++ {
				a := root.call(t, "GET", path+"?limit=7"+cursor, "")
				items := a.items(t)
				for _, item := range items {
					id := item[key].(string)
					if seen[id] {
						t.Errorf("%s: %s is repeated", path, id)
					}
					seen[id] = true
					delete(before, id)
				}
				if cursor = "&cursor=" + a.text("next_cursor"); a.json["next_cursor"] == nil {
					break
				}
				if len(items) != 7 || pages > 2000 {
					t.Fatalf("%s: a page of %d, the %dth", path, len(items), pages)
				}
			}
			if len(before) > 0 {
				t.Errorf("%s: %d were skipped", path, len(before))
			}
		}
	})
}

func TestAccount(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		app := r.app(t, "app", scope("read", clients.ScopeAccount))
		alice, bob := r.user(t, "alice"), r.user(t, "bob")
		here := r.as(t, app, alice, "read", clients.ScopeAccount)
		there, third := r.login(t, app, alice), r.login(t, app, alice)
		foreign := r.login(t, app, bob)
		equal(t, "account", here.call(t, "GET", "/account", "").is(t, 200).json,
			map[string]any{"id": alice.ID, "username": "alice", "created_at": alice.CreatedAt.Format(time.RFC3339Nano)})
		current := map[string]bool{}
		for _, n := range here.call(t, "GET", "/account/sessions", "").items(t) {
			current[n["id"].(string)] = n["current"].(bool)
		}
		equal(t, "sessions", current, map[string]bool{here.session: true, there.SessionID: false, third.SessionID: false})

		here.call(t, "DELETE", "/account/sessions/"+there.SessionID, "").is(t, 204)
		r.dead(t, "the one that was ended", app, there.AccessToken)
		r.alive(t, "another one", app, third.AccessToken)
		for _, id := range []string{there.SessionID, foreign.SessionID, uuid.NewString(), "x"} {
			here.call(t, "DELETE", "/account/sessions/"+id, "").want(t, 404, "not_found")
		}
		here.call(t, "DELETE", "/account/sessions", "").is(t, 204)
		r.dead(t, "the others", app, third.AccessToken)
		r.refresh(t, app, third.RefreshToken).want(t, 400, "invalid_grant")
		r.alive(t, "the calling one", app, here.token)
		r.alive(t, "another user's", app, foreign.AccessToken)

		for body, want := range map[string]string{
			`{"new_password": "battery staple"}`:                                                        "current_password",
			`{"current_password": "` + password + `"}`:                                                  "new_password",
			`{"current_password": "` + password + `", "new_password": "short"}`:                         "new_password",
			`{"current_password": "` + password + `", "new_password": "battery staple", "username": 1}`: "username",
			`{"current_password": 1, "new_password": "battery staple"}`:                                 "current_password",
		} {
			if a := here.call(t, "POST", "/account/password", body).want(t, 400, "invalid_request"); !strings.HasPrefix(a.text("error_description"), want+": ") {
				t.Errorf("%s: %s", body, a.body)
			}
		}
		before := len(r.events(t, audit.LoginFailed))
		here.call(t, "POST", "/account/password", `{"current_password": "wrong password", "new_password": "battery staple"}`).want(t, 400, "invalid_grant")
		if failed := r.events(t, audit.LoginFailed); len(failed) != before+1 || failed[0].UserID != alice.ID {
			t.Errorf("%d failed logins were recorded", len(failed)-before)
		}
		elsewhere := r.login(t, app, func() users.User { u, err := r.users.Find(t.Context(), "alice"); check(t, err); return u }())
		here.call(t, "POST", "/account/password", `{"current_password": "`+password+`", "new_password": "battery staple"}`).is(t, 204)
		r.dead(t, "another session after a new password", app, elsewhere.AccessToken)
		r.alive(t, "the calling session after a new password", app, here.token)
		r.passwordGrant(t, app, "alice", password).want(t, 400, "invalid_grant")
		r.passwordGrant(t, app, "alice", "battery staple").issued(t)
		if e := r.events(t, audit.UserPasswordChanged); len(e) != 1 || e[0].UserID != alice.ID || e[0].Actor != alice.ID || e[0].SessionID != here.session {
			t.Errorf("the record: %v", e)
		}
		here.call(t, "DELETE", "/account/sessions/"+here.session, "").is(t, 204)
		here.call(t, "GET", "/account", "").want(t, 401, "invalid_token")
	})
}

// A parameter of the query that is not known, or is there twice, is refused by every call, which does nothing then.
func TestUnknownQueryParameters(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		root := r.admin(t)
		ui, err := r.clients.Get(t.Context(), "admin-ui")
		check(t, err)
		both := r.as(t, &ui, root.user, clients.ScopeAdmin, clients.ScopeAccount)
		for _, c := range slices.Concat(adminCalls, accountCalls) {
			for _, query := range []string{"?foo=1", "?limit=1&limit=2", "?%zz"} {
				both.call(t, c.method, c.path+query, "").want(t, 400, "invalid_request")
			}
		}
		both.call(t, "GET", "/admin/clients/admin-ui?limit=1", "").want(t, 400, "invalid_request")
		both.call(t, "GET", "/admin/users?client=x", "").want(t, 400, "invalid_request")
		both.call(t, "GET", "/admin/clients/admin-ui?", "").is(t, 200)
		if n := len(r.events(t, audit.SessionRevoked)) + len(r.events(t, audit.KeyRotated)); n != 0 {
			t.Errorf("%d changes were made", n)
		}
	})
}

// Guessing the current password is throttled like guessing it at /token.
func TestAccountPasswordIsThrottled(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		app := r.app(t, "app", scope(clients.ScopeAccount))
		here := r.as(t, app, r.user(t, "alice"), clients.ScopeAccount)
		guess := func(password string) answer {
			t.Helper()
			return here.call(t, "POST", "/account/password", `{"current_password": "`+password+`", "new_password": "battery staple"}`)
		}
		for i := range 3 {
			guess(fmt.Sprint("a guess ", i)).want(t, 400, "invalid_grant")
		}
		if a := guess(password).want(t, 429, "temporarily_unavailable"); a.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		r.passwordGrant(t, app, "alice", password).want(t, 429, "temporarily_unavailable")
	}, func(s *settings) { s.maxFailures = 3 })
}

// A browser sends its cookies whoever makes it call: what changes something has to come from an origin of the client.
func TestAccountByCookie(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		const home = "https://app.example.com"
		app := r.app(t, "app", scope(clients.ScopeAccount), func(c *clients.Client) { c.BrowserOrigins = []string{home} })
		alice := r.user(t, "alice")
		here := r.as(t, app, alice, clients.ScopeAccount)
		byCookie := func(method, path string, options ...option) answer {
			t.Helper()
			return here.call(t, method, path, "", append([]option{func(req *http.Request) {
				req.Header.Del("Authorization")
				req.AddCookie(&http.Cookie{Name: "signet_at", Value: here.token})
			}}, options...)...)
		}
		equal(t, "account", byCookie("GET", "/account").is(t, 200).text("id"), alice.ID)
		for name, from := range map[string][]option{
			"nowhere": nil, "elsewhere": {header("Origin", "https://evil.example.com")}, "null": {header("Origin", "null")},
			"the server": {header("Origin", issuer)}, "twice": {header("Origin", "https://evil.example.com"), header("Origin", home)},
		} {
			t.Run(name, func(t *testing.T) {
				byCookie("DELETE", "/account/sessions", from...).want(t, 403, "access_denied")
				byCookie("POST", "/account/password", from...).want(t, 403, "access_denied")
			})
		}
		r.app(t, "sibling", func(c *clients.Client) { c.BrowserOrigins = []string{"https://sibling.example.com"} })
		for _, path := range []string{"/account", "/account/sessions"} { // what a script of another client's page would read
			a := byCookie("GET", path, header("Origin", "https://sibling.example.com")).want(t, 403, "access_denied")
			if a.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s: %v", path, a.header)
			}
		}
		byCookie("DELETE", "/account/sessions", header("Origin", home)).is(t, 204)
		r.do(t, r.request(t.Context(), "/admin/keys", "", func(req *http.Request) {
			req.Method = http.MethodGet
			req.AddCookie(&http.Cookie{Name: "signet_at", Value: r.admin(t).token})
		})).want(t, 401, "invalid_token")
	})
}

// A database that is gone is no reason to let anybody in, nor to say that something was done.
func TestAPIWithoutADatabase(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		ui := r.app(t, "admin-ui", scope(clients.ScopeAdmin, clients.ScopeAccount))
		root := r.as(t, ui, r.user(t, "root", true), clients.ScopeAdmin, clients.ScopeAccount)
		r.closeStore()
		for _, c := range slices.Concat(adminCalls, accountCalls) {
			if a := root.call(t, c.method, c.path, "").want(t, 503, "temporarily_unavailable"); a.header.Get("Retry-After") == "" {
				t.Errorf("%s %s: no Retry-After", c.method, c.path)
			}
		}
	})
}
