package server_test

import (
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"signet/clients"
	"signet/tokens"
)

const (
	ordersAPI  = "https://orders.example.com"
	billingAPI = "https://billing.example.com"

	accessTokenType = "urn:ietf:params:oauth:token-type:access_token"
)

// exchange asks for another access token.
func (r *replica) exchange(t testing.TB, c *clients.Client, token string, more ...string) answer {
	t.Helper()
	return r.token(t, c, append([]string{"grant_type", string(clients.TokenExchange), "subject_token", token, "subject_token_type", accessTokenType}, more...)...)
}

// orders registers an API that calls another one for its users.
func (r *replica) orders(t testing.TB, change ...func(*clients.Client)) *clients.Client {
	t.Helper()
	return r.app(t, "orders", append([]func(*clients.Client){
		resourceServer(ordersAPI, billingAPI), grants(clients.TokenExchange), scope("read", "openid"),
	}, change...)...)
}

func TestTokenExchange(t *testing.T) {
	t.Parallel()
	shopFor := func(t *testing.T, r *replica) (shop *clients.Client, token string) {
		shop = r.app(t, "shop", audience(ordersAPI), scope("read", "write", "signet:account"))
		return shop, r.login(t, shop, r.user(t, "ann")).AccessToken
	}
	t.Run("an API gets a token for another API, of the same user, with act", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			_, token := shopFor(t, r)
			orders, billing := r.orders(t), r.app(t, "billing", resourceServer(billingAPI))
			a := r.exchange(t, orders, token, "resource", billingAPI, "scope", "read").issued(t)
			if a.text("issued_token_type") != accessTokenType || a.text("token_type") != "Bearer" || a.text("scope") != "read" || a.text("refresh_token") != "" {
				t.Errorf("%s", a.body)
			}
			_, before := decode(t, token)
			_, got := decode(t, a.text("access_token"))
			for _, same := range []string{"iss", "sub", "sid"} {
				equal(t, same, got[same], before[same])
			}
			equal(t, "aud", got["aud"], any(billingAPI))
			equal(t, "client_id", got["client_id"], any("orders"))
			equal(t, "act", got["act"], any(map[string]any{"sub": "orders"}))
			seen := r.introspect(t, billing, a.text("access_token")).is(t, 200)
			equal(t, "active", seen.json["active"], any(true))
			equal(t, "username", seen.json["username"], any("ann"))
			equal(t, "act at introspection", seen.json["act"], any(map[string]any{"sub": "orders"}))
			r.post(t, "/token", orders, form("grant_type", "client_credentials")).want(t, 400, "unauthorized_client")
		})
	})
	t.Run("64 scope is what subject, client and request have in common", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			shop, token := shopFor(t, r)
			orders := r.orders(t)
			equal(t, "the default", r.exchange(t, orders, token).issued(t).text("scope"), "read")
			r.exchange(t, orders, token, "scope", "write").want(t, 400, "invalid_scope")  // not the client's
			r.exchange(t, orders, token, "scope", "openid").want(t, 400, "invalid_scope") // not the subject's
			narrow := r.passwordGrant(t, shop, "ann", password, "scope", "write").issued(t).text("access_token")
			equal(t, "nothing in common", r.exchange(t, orders, narrow).issued(t).text("scope"), "")
			own := r.app(t, "own", grants(clients.Password, clients.TokenExchange), scope("read", "signet:account"))
			wide := r.passwordGrant(t, own, "ann", password, "scope", "read signet:account").issued(t).text("access_token")
			equal(t, "without Signet's own", r.exchange(t, own, wide).issued(t).text("scope"), "read")
			r.exchange(t, own, wide, "scope", "signet:account").want(t, 400, "invalid_scope")
		})
	})
	t.Run("64 audience from the client's list", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			_, token := shopFor(t, r)
			orders := r.orders(t)
			_, got := decode(t, r.exchange(t, orders, token).issued(t).text("access_token"))
			equal(t, "the default", got["aud"], any(ordersAPI))
			_, got = decode(t, r.exchange(t, orders, token, "audience", billingAPI).issued(t).text("access_token"))
			equal(t, "audience", got["aud"], any(billingAPI))
			r.exchange(t, orders, token, "resource", "https://elsewhere.example.com").want(t, 400, "invalid_target")
			r.exchange(t, orders, token, "audience", "elsewhere").want(t, 400, "invalid_target")
			r.exchange(t, orders, token, "resource", "no URI").want(t, 400, "invalid_target")
		})
	})
	t.Run("64 exp is not after the subject's", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			_, token := shopFor(t, r)
			orders := r.orders(t, func(c *clients.Client) { c.AccessTTL = 24 * time.Hour })
			_, before := decode(t, token)
			_, got := decode(t, r.exchange(t, orders, token).issued(t).text("access_token"))
			if got["exp"].(float64) > before["exp"].(float64) {
				t.Errorf("exp %v, the subject's is %v", got["exp"], before["exp"])
			}
		})
	})
	t.Run("64 act is nested, four deep at the most", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			_, token := shopFor(t, r)
			orders := r.orders(t)
			for range 4 {
				token = r.exchange(t, orders, token).issued(t).text("access_token")
			}
			_, got := decode(t, token)
			deep := 0
			for act, ok := got["act"].(map[string]any); ok; act, ok = act["act"].(map[string]any) {
				deep++
			}
			equal(t, "depth", deep, 4)
			r.alive(t, "the last one", orders, token)
			r.exchange(t, orders, token).want(t, 400, "invalid_request")
		})
	})
	t.Run("64 confidential clients with the grant alone", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			shop, token := shopFor(t, r)
			r.exchange(t, shop, token).want(t, 400, "unauthorized_client")
			_, err := r.clients.Create(t.Context(), clients.Client{
				Name: "Page", AuthMethod: clients.None, Grants: []clients.Grant{clients.TokenExchange}, Scope: clients.Scope{"read"},
			}, origin)
			if err == nil {
				t.Error("a public client is registered for it")
			}
		})
	})
	t.Run("65 66 a subject token that is missing, dead, foreign or of another kind is invalid_request", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			shop, token := shopFor(t, r)
			orders := r.orders(t)
			idToken := func() string {
				c := r.app(t, "rp", func(c *clients.Client) {
					c.AuthMethod, c.Grants, c.Scope, c.IDTokenAlg = clients.None, []clients.Grant{clients.DeviceCode}, clients.Scope{"openid"}, "ES256"
				})
				d := r.device(t, c, "scope", "openid")
				r.surfer(t).approve(d.userCode, r.user(t, "bob"))
				return d.poll(t).is(t, 200).text("id_token")
			}()
			elsewhere := r.login(t, r.app(t, "elsewhere", audience("https://elsewhere.example.com")), r.user(t, "carol")).AccessToken
			session := r.passwordGrant(t, shop, "ann", password, "scope", "read").issued(t)
			revoked := session.text("access_token")
			r.revoke(t, shop, revoked).is(t, 200)
			machine := r.app(t, "machine", grants(clients.ClientCredentials), audience(ordersAPI), scope("read"))
			for name, bad := range map[string]string{
				"garbled": "x", "cut": token[:len(token)-4], "an ID token": idToken, "a refresh token": session.text("refresh_token"), "another API's": elsewhere,
				"revoked": revoked, "a client's own": r.token(t, machine, "grant_type", "client_credentials").issued(t).text("access_token"), "empty": "",
			} {
				if a := r.exchange(t, orders, bad); a.status != 400 || a.text("error") != "invalid_request" {
					t.Errorf("%s: %d %s", name, a.status, a.body)
				}
			}
			r.token(t, orders, "grant_type", string(clients.TokenExchange), "subject_token", token).want(t, 400, "invalid_request")
			r.token(t, orders, "grant_type", string(clients.TokenExchange), "subject_token", token, "subject_token_type", "urn:ietf:params:oauth:token-type:id_token").want(t, 400, "invalid_request")
			r.exchange(t, orders, token, "requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token").want(t, 400, "invalid_request")
			r.exchange(t, orders, token, "actor_token", token, "actor_token_type", accessTokenType).want(t, 400, "invalid_request")
			r.exchange(t, orders, token, "requested_token_type", "urn:ietf:params:oauth:token-type:jwt").issued(t)
		})
	})
	t.Run("a token that was exchanged dies with its session, its user, its client, the one that acts, and by itself", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			shop := r.app(t, "shop", audience(ordersAPI), scope("read"))
			ann := r.user(t, "ann")
			orders, billing := r.orders(t), r.app(t, "billing", resourceServer(billingAPI))
			fresh := func(issued tokens.Issued) string {
				t.Helper()
				got := r.exchange(t, orders, issued.AccessToken, "resource", billingAPI).issued(t).text("access_token")
				r.alive(t, "fresh", billing, got)
				return got
			}
			first := r.login(t, shop, ann)
			one, other := fresh(first), fresh(first)
			r.revoke(t, shop, one).want(t, 400, "unauthorized_client") // it is not the shop's
			r.revoke(t, orders, one).is(t, 200)
			r.dead(t, "revoked", billing, one)
			r.alive(t, "the other one", billing, other)
			r.revoke(t, shop, first.RefreshToken).is(t, 200)
			r.dead(t, "of an ended session", billing, other)

			of := map[string]func(){
				"a user who was logged out everywhere": func() { check(t, r.users.EndSessions(t.Context(), ann.ID, origin)) },
				"a client that was disabled": func() {
					for _, off := range []bool{true, false} {
						_, err := r.clients.SetDisabled(t.Context(), shop.ID, off, origin)
						check(t, err)
					}
				},
				"an acting client that was disabled": func() {
					for _, off := range []bool{true, false} {
						_, err := r.clients.SetDisabled(t.Context(), orders.ID, off, origin)
						check(t, err)
					}
				},
			}
			for name, end := range of {
				user, err := r.users.Find(t.Context(), "ann")
				check(t, err)
				*shop, err = r.clients.Get(t.Context(), shop.ID)
				check(t, err)
				got := fresh(r.login(t, shop, user))
				end()
				r.dead(t, name, billing, got)
			}
		})
	})
	t.Run("a binding to a key is not shed", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			shop := r.app(t, "shop", audience(ordersAPI), scope("read"), grants(clients.Password, clients.TokenExchange))
			r.user(t, "ann")
			orders, key, own := r.orders(t), newKey(t, jose.ES256), newKey(t, jose.ES256)
			proven := func(k keyPair) option { return header("DPoP", k.proof(t, "POST", "/token")) }
			bound := r.post(t, "/token", shop, form("grant_type", "password", "username", "ann", "password", password), proven(key)).issued(t).text("access_token")
			call := func() []string {
				return []string{"grant_type", string(clients.TokenExchange), "subject_token", bound, "subject_token_type", accessTokenType}
			}
			r.exchange(t, orders, bound).want(t, 400, "invalid_request")
			a := r.post(t, "/token", orders, form(call()...), proven(own)).issued(t)
			equal(t, "type", a.text("token_type"), "DPoP")
			_, got := decode(t, a.text("access_token"))
			equal(t, "cnf", got["cnf"], any(map[string]any{"jkt": own.jkt(t)}))
			r.post(t, "/token", shop, form(call()...), proven(own)).want(t, 400, "invalid_request") // the shop's own key is another one
			r.post(t, "/token", shop, form(call()...), proven(key)).issued(t)
		})
	})
}
