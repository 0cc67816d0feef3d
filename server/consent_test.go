package server_test

import (
	"strings"
	"testing"

	"signet/clients"
	"signet/users"
)

func TestClaimsGoNoFurtherThanConsentAndRegistration(t *testing.T) {
	const everything = `{"userinfo":{"email":null,"name":null,"groups":null},"id_token":{"email":null,"groups":null}}`
	setUp := func(t *testing.T, r *replica, scope ...string) (*clients.Client, users.User, *surfer) {
		c := r.shop(t, "shop", func(c *clients.Client) { c.Scope = scope })
		u := r.user(t, "alice")
		_, err := r.users.Update(t.Context(), u.ID, users.Change{Profile: members(t, `{"name":"Alice","email":"alice@example.com","groups":["staff"]}`)}, origin)
		check(t, err)
		return c, u, r.surfer(t)
	}
	lines(t, []line{
		{"claims of scopes that the client is not registered for are ignored", func(t *testing.T, _ *backend, r *replica) {
			c, u, s := setUp(t, r, "openid")
			a := r.redeem(t, c, s.grant(ask(c, "claims", everything), u).code(t)).issued(t)
			if token := payload(t, a.text("id_token")); token["email"] != nil || token["groups"] != nil {
				t.Errorf("the ID token: %v", token)
			}
			info := r.get(t, "/userinfo", only("Authorization", "Bearer "+a.text("access_token")))
			equal(t, "userinfo", info.json, map[string]any{"sub": u.ID})
		}},
		{"the user is asked for the scopes of the others, once, and they show nothing but those claims", func(t *testing.T, _ *backend, r *replica) {
			c, u, s := setUp(t, r, "openid", "email", "profile")
			s.grant(ask(c), u).code(t)
			q := ask(c, "claims", everything, "prompt", "none")
			s.authorize(q).refused(t, "consent_required")
			q.Del("prompt")
			v := s.authorize(q)
			if !strings.HasSuffix(v.action, "/consent") || !strings.Contains(v.body, "see your e-mail address") {
				t.Fatalf("%d, Location %v, %.2000s", v.status, v.location, v.body)
			}
			a := r.redeem(t, c, s.submit(v, "decision", "allow").code(t)).issued(t)
			if token := payload(t, a.text("id_token")); token["email"] != "alice@example.com" || token["groups"] != nil || token["name"] != nil || a.text("scope") != "openid" {
				t.Errorf("scope %q, the ID token: %v", a.text("scope"), token)
			}
			info := r.get(t, "/userinfo", only("Authorization", "Bearer "+a.text("access_token")))
			equal(t, "userinfo", info.json, map[string]any{"sub": u.ID, "name": "Alice", "email": "alice@example.com"})
			q.Set("prompt", "none")
			s.authorize(q).code(t)
		}},
	})
}
