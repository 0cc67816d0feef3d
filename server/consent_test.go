package server_test

import (
	"net/http"
	"net/url"
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

// What is said twice, and in two ways, is no consent.
func TestADecisionIsOne(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u, s := r.shop(t, "shop"), r.user(t, "alice"), r.surfer(t)
		v := s.enter(s.authorize(ask(c)), u)
		for _, decision := range []string{"decision=allow&decision=deny", "decision=deny&decision=allow", "decision=allow&decision=allow", "decision=allow&x=1&x=1"} {
			s.open(http.MethodPost, v.action, v.hidden.Encode()+"&"+decision).page(t, http.StatusBadRequest)
		}
		s.authorize(ask(c, "prompt", "none")).refused(t, "consent_required")
		s.submit(v, "decision", "allow").code(t)
		out := s.open(http.MethodGet, "/logout", "")
		s.open(http.MethodPost, out.action, out.hidden.Encode()+"&decision=logout&decision=stay").page(t, http.StatusBadRequest)
		s.authorize(ask(c, "prompt", "none")).code(t)
	})
}

func TestWhoeverMayBePosedAsIsAskedForEachTime(t *testing.T) {
	const loopback = "http://127.0.0.1/cb"
	native := func(c *clients.Client) {
		c.ApplicationType, c.AuthMethod, c.RedirectURIs = clients.Native, clients.None, []string{callback, loopback}
	}
	asked := func(t *testing.T, s *surfer, c *clients.Client) {
		t.Helper()
		q := ask(c, "redirect_uri", "http://127.0.0.1:4711/cb")
		if v := s.authorize(q); v.status != 200 || !strings.HasSuffix(v.action, "/consent") || !strings.Contains(v.body, "an app on this device") {
			t.Errorf("%d, Location %v, %s", v.status, v.location, v.body)
		}
		q.Set("prompt", "none")
		s.authorize(q).refused(t, "consent_required")
	}
	lines(t, []line{
		{"after consent that was given by https", func(t *testing.T, _ *backend, r *replica) {
			c, u, s := r.shop(t, "app", native), r.user(t, "alice"), r.surfer(t)
			s.grant(ask(c), u).code(t)
			s.authorize(ask(c, "prompt", "none")).code(t) // to https it counts
			asked(t, s, c)
		}},
		{"after consent that was given to a device", func(t *testing.T, _ *backend, r *replica) {
			c, u, s := r.shop(t, "app", native, func(c *clients.Client) { c.Grants = append(c.Grants, clients.DeviceCode) }), r.user(t, "alice"), r.surfer(t)
			d := r.device(t, c, "scope", "openid")
			s.approve(d.userCode, u).page(t, 200)
			d.poll(t).issued(t)
			asked(t, s, c)
		}},
		{"a public client that is registered as a web app", func(t *testing.T, _ *backend, r *replica) {
			c, u, s := r.shop(t, "app", native, func(c *clients.Client) { c.ApplicationType = clients.Web }), r.user(t, "alice"), r.surfer(t)
			s.grant(ask(c, "redirect_uri", loopback), u).code(t)
			asked(t, s, c)
		}},
		{"but not a first-party app, nor one that proves itself", func(t *testing.T, _ *backend, r *replica) {
			u, s := r.user(t, "alice"), r.surfer(t)
			for _, c := range []*clients.Client{
				r.shop(t, "trusted", native, trusted),
				r.shop(t, "web", func(c *clients.Client) { c.RedirectURIs = []string{loopback} }),
			} {
				s.grant(ask(c, "redirect_uri", loopback), u).code(t)
				s.authorize(ask(c, "redirect_uri", loopback, "prompt", "none")).code(t)
			}
		}},
	})
}

func TestPushedRequestThatAnotherTabHasUsedIsAPage(t *testing.T) {
	lines(t, []line{{"after the login", func(t *testing.T, _ *backend, r *replica) {
		c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
		q := ask(c)
		uri := r.push(t, c, q)
		there := url.Values{"client_id": {c.ID}, "request_uri": {uri}}
		one, two := s.authorize(there), s.authorize(there)
		s.enter(one, u).code(t)
		v := s.enter(two, u)
		if v.page(t, 400); !strings.Contains(v.body, "invalid_request_uri") {
			t.Errorf("%.600s", v.body)
		}
	}}})
}

func TestHintAndClaimOfDifferentUsers(t *testing.T) {
	lines(t, []line{{"are login_required", func(t *testing.T, _ *backend, r *replica) {
		c, u, bob, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.user(t, "bob"), r.surfer(t)
		hint := r.redeem(t, c, s.grant(ask(c), u).code(t)).issued(t).text("id_token")
		of := func(u users.User) string { return `{"id_token":{"sub":{"value":"` + u.ID + `"}}}` }
		s.authorize(ask(c, "id_token_hint", hint, "claims", of(u))).code(t)
		s.authorize(ask(c, "id_token_hint", hint, "claims", of(bob))).refused(t, "login_required")
		s.authorize(ask(c, "id_token_hint", hint, "claims", of(bob), "prompt", "none")).refused(t, "login_required")
	}}})
}
