package server_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signet/audit"
	"signet/authorizations"
	"signet/clients"
	"signet/users"
)

// tv registers a client that is a device.
func (r *replica) tv(t testing.TB, id string, change ...func(*clients.Client)) *clients.Client {
	t.Helper()
	return r.app(t, id, append([]func(*clients.Client){func(c *clients.Client) {
		c.AuthMethod, c.Grants = clients.None, []clients.Grant{clients.DeviceCode, clients.RefreshToken}
		c.Scope, c.IDTokenAlg = clients.Scope{"openid", "profile", "offline_access", "read"}, "ES256"
	}}, change...)...)
}

// device is a device that has asked.
type device struct {
	*replica
	client   *clients.Client
	code     string
	userCode string
}

func (r *replica) device(t testing.TB, c *clients.Client, pairs ...string) device {
	t.Helper()
	a := r.post(t, "/device_authorization", c, form(pairs...)).is(t, 200)
	return device{r, c, a.text("device_code"), a.text("user_code")}
}

func (d device) poll(t testing.TB) answer {
	t.Helper()
	return d.token(t, d.client, "grant_type", string(clients.DeviceCode), "device_code", d.code)
}

// type types a user code.
func (s *surfer) typeCode(code string, more ...option) view {
	s.t.Helper()
	return s.open(http.MethodPost, "/device", url.Values{"user_code": {code}}.Encode(), more...)
}

// approve types the code, logs in where that is wanted, and allows it.
func (s *surfer) approve(code string, u users.User) view {
	s.t.Helper()
	v := s.typeCode(code)
	if strings.HasSuffix(v.action, "/login") {
		v = s.enter(v, u)
	}
	if !strings.HasSuffix(v.action, "/consent") {
		s.t.Fatalf("nobody is asked: %d %.500s", v.status, v.body)
	}
	return s.submit(v, "decision", "allow")
}

func TestDeviceConformance(t *testing.T) {
	t.Parallel()
	t.Run("1 the answer has both codes, unguessable, where to go, 600 seconds and an interval of 5", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			c := r.tv(t, "tv")
			seen := map[string]bool{}
			for range 50 {
				a := r.post(t, "/device_authorization", c, form("scope", "openid read")).is(t, 200)
				if seen[a.text("device_code")] || seen[a.text("user_code")] {
					t.Fatal("a code comes twice")
				}
				seen[a.text("device_code")], seen[a.text("user_code")] = true, true
				if a.text("verification_uri") != issuer+"/device" || a.text("verification_uri_complete") != issuer+"/device?user_code="+a.text("user_code") ||
					a.json["expires_in"] != 600.0 || a.json["interval"] != 5.0 || !strings.HasPrefix(a.text("device_code"), "sgd_") {
					t.Fatalf("%s", a.body)
				}
			}
			r.post(t, "/device_authorization", c, form("scope", "write")).want(t, 400, "invalid_scope")
			r.post(t, "/device_authorization", c, form("resource", "https://elsewhere.example.com")).want(t, 400, "invalid_target")
			r.post(t, "/device_authorization", r.shop(t, "shop"), form()).want(t, 400, "unauthorized_client")
			r.token(t, r.shop(t, "other"), "grant_type", string(clients.DeviceCode), "device_code", "x").want(t, 400, "unauthorized_client")
			r.token(t, c, "grant_type", string(clients.DeviceCode)).want(t, 400, "invalid_request")
			stranger := *c
			stranger.ID = "nobody"
			r.post(t, "/device_authorization", &stranger, form()).want(t, 401, "invalid_client")
		})
	})
	t.Run("1 authorization_pending, then tokens, once", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			c, ann := r.tv(t, "tv"), r.user(t, "ann")
			d := r.device(t, c, "scope", "openid offline_access read")
			d.poll(t).want(t, 400, "authorization_pending")
			if v := r.surfer(t).approve(d.userCode, ann); v.status != 200 || v.heading != "The device is connected" {
				t.Fatalf("%d %s", v.status, v.body)
			}
			a := d.poll(t).is(t, 200)
			if a.text("id_token") == "" || a.text("refresh_token") == "" || a.text("token_type") != "Bearer" || a.text("scope") != "openid offline_access read" {
				t.Errorf("%s", a.body)
			}
			r.refresh(t, c, a.text("refresh_token")).is(t, 200)
			d.poll(t).want(t, 400, "invalid_grant")
		})
	})
	t.Run("1 slow_down, and slower from then on", func(t *testing.T) {
		onBackends(t, func(t *testing.T, b *backend) {
			r := start(t, b)
			d := r.device(t, r.tv(t, "tv"))
			d.poll(t).want(t, 400, "authorization_pending") // the first one at once
			for range 3 {
				b.Age(t, authorizations.DevicePause)
				d.poll(t).want(t, 400, "authorization_pending") // steady, at the interval
			}
			d.poll(t).want(t, 400, "slow_down")
			b.Age(t, authorizations.DevicePause)
			d.poll(t).want(t, 400, "slow_down") // it is ten seconds now, and fifteen from now on
			b.Age(t, 2*authorizations.DevicePause)
			for range 3 {
				d.poll(t).want(t, 400, "authorization_pending") // what was refused has not pushed it further
				b.Age(t, 3*authorizations.DevicePause)
			}
		})
	})
	t.Run("1 slow_down, but not for a library that tries both ways to authenticate at each poll", func(t *testing.T) {
		onBackends(t, func(t *testing.T, b *backend) {
			r := start(t, b)
			d := r.device(t, r.tv(t, "tv"))
			body := form("grant_type", string(clients.DeviceCode), "device_code", d.code).Encode()
			byBasic := func() answer {
				return r.do(t, r.request(t.Context(), "/token", body, basic(d.client.ID, "")))
			}
			for range 3 { // as golang.org/x/oauth2 does
				byBasic().want(t, 400, "authorization_pending")
				d.poll(t).want(t, 400, "authorization_pending")
				b.Age(t, authorizations.DevicePause)
			}
			byBasic().want(t, 400, "authorization_pending")
			byBasic().want(t, 400, "slow_down")
		})
	})
	t.Run("1 denied: access_denied, once", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			ann := r.user(t, "ann")
			d, other := r.device(t, r.tv(t, "tv")), r.device(t, r.tv(t, "tv2"))
			s := r.surfer(t)
			v := s.enter(s.typeCode(d.userCode), ann)
			if v = s.submit(v, "decision", "deny"); v.status != 200 || v.heading != "Not allowed" {
				t.Errorf("%d %s", v.status, v.body)
			}
			d.poll(t).want(t, 400, "access_denied")
			d.poll(t).want(t, 400, "invalid_grant")
			if v := r.surfer(t).typeCode(d.userCode); v.status != 400 {
				t.Errorf("it waits still: %d", v.status)
			}
			again := r.device(t, d.client)
			v = s.typeCode(again.userCode)
			for range 2 { // a double click
				if v := s.submit(v, "decision", "deny"); v.status != 200 || v.heading != "Not allowed" {
					t.Errorf("%d %s", v.status, v.body)
				}
			}
			again.poll(t).want(t, 400, "access_denied")
			cancelled := r.surfer(t)
			cancelled.submit(cancelled.typeCode(other.userCode), "decision", "deny") // at the login page
			other.poll(t).want(t, 400, "access_denied")
		})
	})
	t.Run("1 allowed, and denied by the back button: the page does not say that nothing was shared", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			d, s := r.device(t, r.tv(t, "tv")), r.surfer(t)
			page := s.enter(s.typeCode(d.userCode), r.user(t, "ann"))
			s.submit(page, "decision", "allow").page(t, 200)
			if v := s.submit(page, "decision", "deny"); v.status != 400 || !strings.Contains(v.body, "No device waits") {
				t.Errorf("%d %s", v.status, v.heading)
			}
			d.poll(t).is(t, 200)
			if v := s.submit(page, "decision", "deny"); v.status != 400 {
				t.Errorf("%d %s", v.status, v.heading)
			}
		})
	})
	t.Run("1 expired: expired_token", func(t *testing.T) {
		onBackends(t, func(t *testing.T, b *backend) {
			r := start(t, b)
			ann := r.user(t, "ann")
			d := r.device(t, r.tv(t, "tv"))
			s := r.surfer(t)
			page := s.enter(s.typeCode(d.userCode), ann)
			b.Age(t, authorizations.DeviceTTL)
			d.poll(t).want(t, 400, "expired_token")
			if v := s.submit(page, "decision", "allow"); v.status < 400 || v.status >= 500 {
				t.Errorf("approved too late: %d %s", v.status, v.body)
			}
			if v := r.surfer(t).typeCode(d.userCode); v.status != 400 || !strings.Contains(v.body, "No device waits") {
				t.Errorf("%d %s", v.status, v.body)
			}
			b.Age(t, 2*time.Hour)
			_, err := r.store.DeleteEndedLogins(t.Context())
			check(t, err)
			if n := b.Int(t, "SELECT count(*) FROM device_codes"); n != 0 {
				t.Error("it is kept for ever")
			}
		})
	})
	t.Run("1 another client: invalid_grant, and the code stays good for its own", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			c, other, ann := r.tv(t, "tv"), r.tv(t, "other"), r.user(t, "ann")
			d := r.device(t, c)
			r.surfer(t).approve(d.userCode, ann)
			r.token(t, other, "grant_type", string(clients.DeviceCode), "device_code", d.code).want(t, 400, "invalid_grant")
			for _, bad := range []string{"", "x", d.code[:len(d.code)-1], d.code + "A", strings.Replace(d.code, "sgd_", "sgc_", 1), d.userCode} {
				if bad != "" {
					r.token(t, c, "grant_type", string(clients.DeviceCode), "device_code", bad).want(t, 400, "invalid_grant")
				}
			}
			r.token(t, r.shop(t, "shop"), "grant_type", "authorization_code", "code", d.code, "redirect_uri", callback, "code_verifier", verifier).want(t, 400, "invalid_grant")
			d.poll(t).is(t, 200)
		})
	})
	t.Run("2 user codes in any case, with and without dash and spaces", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			d := r.device(t, r.tv(t, "tv"))
			bare := strings.ReplaceAll(d.userCode, "-", "")
			for _, typed := range []string{d.userCode, bare, strings.ToLower(d.userCode), " " + bare[:4] + " " + bare[4:] + " ", bare[:2] + "-" + bare[2:6] + "-" + bare[6:]} {
				if v := r.surfer(t).typeCode(typed); v.status != 200 || !strings.HasSuffix(v.action, "/login") {
					t.Errorf("%q: %d %s", typed, v.status, v.heading)
				}
			}
			for _, typed := range []string{"", "x", "AAAA-AAAA", bare[:7], bare + "B", strings.Repeat("B", 10000), "BBBB-BBBB\x00"} {
				if v := r.surfer(t).typeCode(typed); v.status != 400 || !strings.Contains(v.body, "No device waits") {
					t.Errorf("%.20q: %d %s", typed, v.status, v.heading)
				}
			}
		})
	})
	t.Run("2 guesses are throttled by address and by login; a success does not reset", func(t *testing.T) {
		onBackends(t, func(t *testing.T, b *backend) {
			r, other := start(t, b, capOf(5)), start(t, b, capOf(5))
			ann := r.user(t, "ann")
			var answered, throttled atomic.Int64
			var wg sync.WaitGroup
			for i := range 100 {
				wg.Go(func() {
					on := []*replica{r, other}[i%2]
					code := fmt.Sprintf("BCDF%c%c%c%c", "BCDFGHJKLM"[i%10], "BCDFGHJKLM"[i/10], 'G', 'G')
					switch v := on.surfer(t).typeCode(code, from("192.0.2.1")); v.status {
					case 400:
						answered.Add(1)
					case http.StatusTooManyRequests:
						throttled.Add(1)
					}
				})
			}
			wg.Wait()
			if answered.Load() != 5 || throttled.Load() != 95 {
				t.Errorf("of 100 guesses from one address %d were answered, %d refused", answered.Load(), throttled.Load())
			}
			d := r.device(t, r.tv(t, "tv"))
			if v := r.surfer(t).typeCode(d.userCode, from("192.0.2.1")); v.status != http.StatusTooManyRequests || v.header.Get("Retry-After") == "" {
				t.Errorf("the right one, too late: %d", v.status)
			}
			s := r.surfer(t)
			s.approve(d.userCode, ann) // of no address that is known
			for i := range 6 {
				v := s.typeCode(fmt.Sprintf("BCDF-GG%c%c", "BCDFGHJKLM"[i], 'H'), from(fmt.Sprintf("198.51.100.%d", i)))
				if want := map[bool]int{true: 400, false: http.StatusTooManyRequests}[i < 5]; v.status != want {
					t.Errorf("guess %d of one user from many addresses: %d, want %d", i, v.status, want)
				}
			}
		})
	})
	t.Run("2 a right code is no guess, and takes back none", func(t *testing.T) {
		onBackends(t, func(t *testing.T, b *backend) {
			r := start(t, b, capOf(5))
			c, known := r.tv(t, "tv"), r.surfer(t)
			known.approve(r.device(t, c).userCode, r.user(t, "ann")) // is logged in from now on
			for office, s := range map[string]*surfer{"192.0.2.1": r.surfer(t), "192.0.2.2": known} {
				right := func(status int) {
					t.Helper()
					if v := s.typeCode(r.device(t, c).userCode, from(office)); v.status != status {
						t.Errorf("a right one from %s: %d, want %d", office, v.status, status)
					}
				}
				for range 12 {
					right(200)
				}
				for i := range 5 {
					right(200)
					if v := s.typeCode(fmt.Sprintf("BCDF-GG%cH", "BCDFGHJKLM"[i]), from(office)); v.status != 400 {
						t.Errorf("guess %d from %s: %d", i, office, v.status)
					}
				}
				right(http.StatusTooManyRequests)
			}
		})
	})
	t.Run("2 the complete address asks as well before it approves, and to look at it is no guess", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			ann := r.user(t, "ann")
			d := r.device(t, r.tv(t, "tv"))
			s := r.surfer(t)
			s.approve(r.device(t, r.tv(t, "other")).userCode, ann)
			v := s.open(http.MethodGet, "/device?user_code="+d.userCode, "")
			if v.status != 200 || !strings.Contains(v.body, d.userCode) || !strings.HasSuffix(v.action, "/device") {
				t.Fatalf("%d %s", v.status, v.body)
			}
			d.poll(t).want(t, 400, "authorization_pending")
			unknown := s.open(http.MethodGet, "/device?user_code=BBBB-BBBB", "")
			if unknown.status != 200 || strings.ReplaceAll(unknown.body, "BBBB-BBBB", d.userCode) != v.body {
				t.Error("to look at it tells whether there is such a code")
			}
			v = s.typeCode(d.userCode)
			if !strings.HasSuffix(v.action, "/consent") || !strings.Contains(v.body, d.userCode) || !strings.Contains(v.body, "127.0.0.1") || !strings.Contains(v.body, "in front of you") {
				t.Errorf("the page does not show what asks, and from where: %s", v.body)
			}
		})
	})
	t.Run("2 also who allowed it before is asked, and where no consent is needed otherwise", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			c, ann := r.tv(t, "tv", trusted), r.user(t, "ann")
			s := r.surfer(t)
			for range 2 {
				d := r.device(t, c)
				s.approve(d.userCode, ann)
				d.poll(t).is(t, 200)
			}
		})
	})
	t.Run("3 the page needs a login, names client and scopes, is safe from CSRF", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			c, ann := r.tv(t, "tv", func(c *clients.Client) { c.Name = "The Television" }), r.user(t, "ann")
			d := r.device(t, c, "scope", "openid profile")
			s := r.surfer(t)
			v := s.enter(s.typeCode(d.userCode), ann)
			if !strings.Contains(v.body, "The Television") || !strings.Contains(v.body, "see your name") {
				t.Errorf("%s", v.body)
			}
			allow := url.Values{"request": {v.hidden.Get("request")}, "decision": {"allow"}}.Encode()
			if a := s.open(http.MethodPost, "/consent", allow, header("Sec-Fetch-Site", "cross-site")); a.status != 403 {
				t.Errorf("from another site: %d", a.status)
			}
			if a := r.surfer(t).open(http.MethodPost, "/consent", allow); a.status != 400 {
				t.Errorf("in another browser: %d", a.status)
			}
			if a := s.open(http.MethodPost, "/device", "user_code="+d.userCode, header("Sec-Fetch-Site", "cross-site")); a.status != 403 {
				t.Errorf("the code from another site: %d", a.status)
			}
			d.poll(t).want(t, 400, "authorization_pending")
		})
	})
	t.Run("3 the approval binds to the user who gave it, who may be disabled before the poll", func(t *testing.T) {
		each(t, func(t *testing.T, r *replica) {
			c, ann := r.tv(t, "tv"), r.user(t, "ann")
			for what, happens := range map[string]func(s *surfer){
				"log-out": func(s *surfer) { s.logOut() },
				"new password": func(*surfer) {
					_, err := r.users.Update(t.Context(), ann.ID, users.Change{Password: new(password)}, origin)
					check(t, err)
				},
				"withdrawal": func(*surfer) { _, err := r.authorizations.Withdraw(t.Context(), ann.ID, c.ID, origin); check(t, err) },
				"disabled": func(*surfer) {
					_, err := r.users.Update(t.Context(), ann.ID, users.Change{Disabled: new(true)}, origin)
					check(t, err)
				},
			} {
				_, err := r.users.Update(t.Context(), ann.ID, users.Change{Disabled: new(false)}, origin)
				check(t, err)
				d := r.device(t, c)
				s := r.surfer(t)
				s.approve(d.userCode, ann)
				happens(s)
				if a := d.poll(t); a.status != 400 || a.json["error"] != "invalid_grant" {
					t.Errorf("%s: %d %s", what, a.status, a.body)
				}
			}
		})
	})
}

// Of many polls of an approved code, on two replicas, one begins the session; two users who approve at once are one.
func TestDeviceRaces(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r, other := start(t, b), start(t, b)
		c := r.tv(t, "tv")
		people := []users.User{r.user(t, "ann"), r.user(t, "bob")}
		for range 5 {
			d := r.device(t, c)
			var pages []view
			surfers := []*surfer{r.surfer(t), other.surfer(t)}
			for i, s := range surfers {
				pages = append(pages, s.enter(s.typeCode(d.userCode), people[i]))
			}
			var wg sync.WaitGroup
			var allowed, redeemed atomic.Int64
			for i, s := range surfers {
				wg.Go(func() {
					if v := s.submit(pages[i], "decision", "allow"); v.heading == "The device is connected" {
						allowed.Add(1)
					} else if v.status >= 500 {
						t.Errorf("%d %s", v.status, v.body)
					}
				})
			}
			wg.Wait()
			for i := range 16 {
				wg.Go(func() {
					on := device{[]*replica{r, other}[i%2], c, d.code, d.userCode}
					body, auth := as(c, form("grant_type", string(clients.DeviceCode), "device_code", d.code))
					a, err := on.try(on.request(context.Background(), "/token", body, auth))
					switch {
					case err != nil:
						t.Error(err)
					case a.status == 200:
						redeemed.Add(1)
					case a.json["error"] != "invalid_grant":
						t.Errorf("%d %s", a.status, a.body)
					}
				})
			}
			wg.Wait()
			if allowed.Load() != 1 || redeemed.Load() != 1 {
				t.Errorf("%d approvals, %d redemptions", allowed.Load(), redeemed.Load())
			}
		}
		if n := len(r.events(t, audit.ConsentGranted)); n != 5 {
			t.Errorf("%d events", n)
		}
	})
}
