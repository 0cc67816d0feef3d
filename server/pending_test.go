package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"signet/clients"
)

// What is only asked for fills no database: who need not prove who they are may have so much kept from an address, and no more.
func TestPendingRequestsAreBounded(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b, capOf(10))
		c, tv, proven := r.shop(t, "app", func(c *clients.Client) { c.AuthMethod, c.SkipConsent = clients.None, true }), r.tv(t, "tv"), r.shop(t, "shop", trusted)
		push := func(c *clients.Client, address string) answer { return r.post(t, "/par", c, ask(c), from(address)) }
		taken := 0
		for i := range 310 {
			if push(c, "203.0.113.7").status == http.StatusCreated {
				taken++
			} else if taken != 300 {
				t.Fatalf("try %d is refused after %d: %s", i, taken, push(c, "203.0.113.7").body)
			}
		}
		if taken != 300 {
			t.Errorf("%d were taken, want 300", taken)
		}
		for _, a := range []answer{push(c, "203.0.113.7"), r.post(t, "/device_authorization", tv, form("scope", "read"), from("203.0.113.7"))} {
			isThrottled(t, a)
			if !strings.Contains(a.text("error_description"), "pending") {
				t.Errorf("it says %q", a.text("error_description"))
			}
		}
		if a := push(c, "203.0.113.8"); a.status != http.StatusCreated {
			t.Errorf("another address: %d %s", a.status, a.body)
		}
		if a := push(proven, "203.0.113.7"); a.status != http.StatusCreated {
			t.Errorf("a client with a secret: %d %s", a.status, a.body)
		}
	})
}

func TestPushedRequestIsBounded(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.shop(t, "shop", trusted)
		a := r.post(t, "/par", c, ask(c, "id_token_hint", strings.Repeat("a", 15<<10), "login_hint", strings.Repeat("b", 2<<10)))
		wellFormed(t, a.want(t, http.StatusBadRequest, "invalid_request"))
	})
}

// PostgreSQL keeps no NUL character: it is refused, and not the database's failure.
func TestNulCharacters(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b, registering(clients.RegistrationOpen))
		key := `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","kid":"a\u0000"}`
		r.speak(t, "POST", "/register", "", fmt.Sprintf(`{"client_name":"x","redirect_uris":["https://a.example/cb"],"token_endpoint_auth_method":"private_key_jwt","jwks":{"keys":[%s]}}`, key)).
			is(t, http.StatusBadRequest)
		own := r.app(t, "own", scope(clients.ScopeAccount))
		r.as(t, own, r.user(t, "alice"), clients.ScopeAccount).call(t, http.MethodDelete, "/account/consents/%00", "").is(t, http.StatusNotFound)
	})
}
