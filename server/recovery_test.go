package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signet/audit"
	"signet/logins"
	"signet/mail"
	"signet/users"
)

// mailbox is where mails go in the tests.
type mailbox struct {
	mu   sync.Mutex
	got  []mail.Message
	down error // what sending fails with
}

func (m *mailbox) Send(_ context.Context, message mail.Message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil {
		return m.down
	}
	m.got = append(m.got, message)
	return nil
}

func (m *mailbox) breaks(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = err
}

// mails sends what is due and returns what came since the last time.
func (r *replica) mailsIn(t testing.TB, m *mailbox) []mail.Message {
	t.Helper()
	check(t, r.mails.SendDue(t.Context()))
	m.mu.Lock()
	defer m.mu.Unlock()
	got := m.got
	m.got = nil
	return got
}

var linkInMail = regexp.MustCompile(`https://\S+\?link=\S+`)

// linkIn returns the path of the link in the one mail that has come to the address.
func (r *replica) linkIn(t testing.TB, m *mailbox, to string) string {
	t.Helper()
	got := r.mailsIn(t, m)
	if len(got) != 1 || got[0].To != to {
		t.Fatalf("mails: %+v; want one to %s", got, to)
	}
	link := linkInMail.FindString(got[0].Text)
	if !strings.HasPrefix(link, issuer+"/") || !strings.Contains(got[0].HTML, strings.ReplaceAll(link, "&", "&amp;")) {
		t.Fatalf("no link of ours in %s\n%s", got[0].Text, got[0].HTML)
	}
	return strings.TrimPrefix(link, issuer)
}

// withMail has a replica send mails to the box, and anybody make an account who may.
func withMail(m *mailbox, who users.SignUp) func(*settings) {
	return func(s *settings) { s.mailer, s.signUp, s.proxies = m, who, loopback }
}

// addressed gives a user an address, verified or not.
func (r *replica) addressed(t testing.TB, u users.User, email string, verified bool) {
	t.Helper()
	_, err := r.users.Update(t.Context(), u.ID, users.Change{Profile: map[string]json.RawMessage{
		"email": json.RawMessage(fmt.Sprintf("%q", email)), "email_verified": json.RawMessage(fmt.Sprint(verified)),
	}}, origin)
	check(t, err)
}

// forgotten asks for a reset link as somebody at that address.
func (s *surfer) forgotten(name, address string) view {
	s.t.Helper()
	return s.open(http.MethodPost, "/forgotten", url.Values{"username": {name}}.Encode(), from(address))
}

func TestForgottenPassword(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		var box mailbox
		r := start(t, b, withMail(&box, users.SignUpOff))
		app := r.app(t, "app")
		ann := r.user(t, "ann")
		r.addressed(t, ann, "Ann@example.com", true)
		session := r.login(t, app, ann)
		s := r.surfer(t)
		if v := s.open(http.MethodGet, "/forgotten", ""); v.status != 200 || v.heading != "Forgot your password?" {
			t.Fatalf("%d %s", v.status, v.body)
		}
		if v := s.forgotten("ANN", "192.0.2.1"); v.status != 200 || v.heading != "Look at your mail" {
			t.Fatalf("%d %s", v.status, v.body)
		}
		link := r.linkIn(t, &box, "Ann@example.com")
		for range 2 { // a mail scanner looks at it, and then another one
			if v := s.open(http.MethodGet, link, ""); v.status != 200 || v.header.Get("Referrer-Policy") != "no-referrer" || v.header.Get("Cache-Control") != "no-store" {
				t.Fatalf("%d %v", v.status, v.header)
			}
		}
		form := s.open(http.MethodGet, link, "")
		if v := s.submit(form, "password", "short"); v.status != 400 || !strings.Contains(v.body, "at least 8 characters") {
			t.Errorf("%d %s", v.status, v.body)
		}
		r.passwordGrant(t, app, "ann", "a wrong password").want(t, 400, "invalid_grant")
		if v := s.submit(form, "password", "a new password"); v.status != 200 || v.heading != "Your password is set" {
			t.Fatalf("%d %s", v.status, v.body)
		}
		if len(s.cookies) != 0 {
			t.Errorf("somebody is logged in by it: %v", s.cookies)
		}
		r.passwordGrant(t, app, "ann", password).want(t, 400, "invalid_grant")
		r.passwordGrant(t, app, "ann", "a new password").is(t, 200)
		r.dead(t, "a session of before", app, session.AccessToken)
		r.refresh(t, app, session.RefreshToken).want(t, 400, "invalid_grant")
		for what, v := range map[string]view{"GET": s.open(http.MethodGet, link, ""), "POST": s.submit(form, "password", "another one")} {
			if v.status != http.StatusGone || v.heading != "This link is no longer good" {
				t.Errorf("%s once more: %d %s", what, v.status, v.heading)
			}
		}
		requested, used := r.events(t, audit.PasswordResetRequested), r.events(t, audit.PasswordResetUsed)
		if len(requested) != 1 || len(used) != 1 || requested[0].UserID != ann.ID || used[0].UserID != ann.ID || used[0].Address == "" {
			t.Errorf("the record: %+v, %+v", requested, used)
		}
	})
}

// Nobody learns from the page whether there is such a user, with an address that is known to be theirs; and only those are written to.
func TestForgottenPasswordTellsNothing(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		var box mailbox
		r := start(t, b, withMail(&box, users.SignUpOff))
		r.addressed(t, r.user(t, "ann"), "ann@example.com", true)
		r.addressed(t, r.user(t, "unverified"), "bob@example.com", false)
		gone := r.user(t, "disabled")
		r.addressed(t, gone, "carl@example.com", true)
		_, err := r.users.Update(t.Context(), gone.ID, users.Change{Disabled: new(true)}, origin)
		check(t, err)
		r.user(t, "no address")
		s := r.surfer(t)
		first := s.forgotten("nobody", "192.0.2.1")
		for i, name := range []string{"ann", "ann@example.com", "unverified", "bob@example.com", "disabled", "carl@example.com", "no address", "x@example.com", strings.Repeat("x", 255)} {
			v := s.forgotten(name, fmt.Sprintf("192.0.2.%d", i+2))
			if v.status != first.status || v.body != first.body {
				t.Errorf("%s: %d %s", name, v.status, v.body)
			}
		}
		for _, m := range r.mailsIn(t, &box) {
			if m.To != "ann@example.com" {
				t.Errorf("a mail to %s: %s", m.To, m.Text)
			}
		}
	})
}

// The address of a link is that of the configuration, whatever a request says of host, protocol and proxy.
func TestLinksLeadToTheIssuer(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		var box mailbox
		r := start(t, b, withMail(&box, users.SignUpOff))
		r.addressed(t, r.user(t, "ann"), "ann@example.com", true)
		s := r.surfer(t)
		s.open(http.MethodPost, "/forgotten", "username=ann", func(req *http.Request) { req.Host = "evil.example" },
			header("X-Forwarded-Host", "evil.example"), header("X-Forwarded-Proto", "http"), header("Forwarded", "host=evil.example"))
		if link := r.linkIn(t, &box, "ann@example.com"); strings.Contains(link, "evil") {
			t.Error(link)
		}
	})
}

func TestResetLinks(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		var box mailbox
		r := start(t, b, withMail(&box, users.SignUpOpen))
		app := r.app(t, "app")
		ann := r.user(t, "ann")
		s := r.surfer(t)
		link := func() string {
			t.Helper()
			u, err := r.users.Find(t.Context(), "ann")
			check(t, err)
			h, err := r.mails.ResetLink(t.Context(), u, origin)
			check(t, err)
			return strings.TrimPrefix(h.URL, issuer)
		}
		is := func(what, link string, status int) {
			t.Helper()
			if v := s.open(http.MethodGet, link, ""); v.status != status {
				t.Errorf("%s: %d, want %d", what, v.status, status)
			}
		}
		first := link()
		is("fresh", first, 200)
		second := link()
		is("replaced by another", first, http.StatusGone)
		is("the other", second, 200)
		ann, err := r.users.Update(t.Context(), ann.ID, users.Change{Password: new("changed by hand")}, origin)
		check(t, err)
		is("after the password changed", second, http.StatusGone)
		late := link()
		b.Age(t, users.ResetTTL-time.Minute)
		is("after 29 minutes", late, 200)
		b.Age(t, time.Minute)
		is("after 30 minutes", late, http.StatusGone)
		fresh := link()
		for what, other := range map[string]string{
			"none": "/reset", "empty": "/reset?link=", "twice": fresh + "&link=x", "cut off": fresh[:len(fresh)-3],
			"another token": "/reset?link=" + r.login(t, app, ann).RefreshToken, "for another purpose": strings.Replace(fresh, "/reset", "/join", 1),
			"long": "/reset?link=" + strings.Repeat("A", 10000),
		} {
			if v := s.open(http.MethodGet, other, ""); v.status != http.StatusGone {
				t.Errorf("%s: %d", what, v.status)
			}
		}
		secret := strings.TrimPrefix(fresh, "/reset?link=")
		if v := s.open(http.MethodPost, "/join", url.Values{"link": {secret}, "username": {"eve"}, "password": {"a good password"}}.Encode()); v.status != http.StatusGone {
			t.Errorf("it makes an account: %d", v.status)
		}
		if v := s.open(http.MethodPost, "/reset", url.Values{"link": {secret}, "password": {"a good password"}}.Encode(), header("Sec-Fetch-Site", "cross-site")); v.status != 403 {
			t.Errorf("from another site's page: %d", v.status)
		}
		var good atomic.Int64
		var wg sync.WaitGroup
		other := start(t, b, withMail(&box, users.SignUpOff))
		for i := range 32 {
			wg.Go(func() {
				on := []*replica{r, other}[i%2]
				_, err := on.users.ResetByLink(context.Background(), secret, fmt.Sprintf("password %d", i), origin)
				if err == nil {
					good.Add(1)
				} else if !errors.Is(err, users.ErrLink) && !errors.Is(err, users.ErrOverloaded) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if good.Load() != 1 {
			t.Errorf("of 32 at once %d were good", good.Load())
		}
		_, err = r.users.Update(t.Context(), ann.ID, users.Change{Disabled: new(true)}, origin)
		check(t, err)
		u, err := r.users.Find(t.Context(), "ann")
		check(t, err)
		if _, err := r.mails.ResetLink(t.Context(), u, origin); !errors.Is(err, users.ErrDisabled) {
			t.Errorf("a disabled user: %v", err)
		}
	})
}

// Who locked themselves out by guessing gets in again by a link.
func TestResetForgetsFailures(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b, capOf(3))
		app := r.app(t, "app")
		ann := r.user(t, "ann")
		for i := range 3 {
			isRefused(t, r.loginFrom(t, app, fmt.Sprintf("192.0.2.%d", i), "ann", fmt.Sprint("guess ", i)))
		}
		isThrottled(t, r.loginFrom(t, app, "192.0.2.9", "ann", password))
		h, err := r.mails.ResetLink(t.Context(), ann, origin)
		check(t, err)
		_, err = r.users.ResetByLink(t.Context(), strings.TrimPrefix(h.URL, issuer+"/reset?link="), "a new password", origin)
		check(t, err)
		r.loginFrom(t, app, "192.0.2.9", "ann", "a new password").is(t, 200)
	})
}

// Nobody's mailbox is filled, and nobody asks for mails without end.
func TestMailsAreBounded(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		var box mailbox
		r := start(t, b, withMail(&box, users.SignUpOff))
		r.addressed(t, r.user(t, "ann"), "ann@example.com", true)
		s := r.surfer(t)
		var wg sync.WaitGroup
		var good, throttled atomic.Int64
		for i := range 40 {
			wg.Go(func() {
				switch v := r.surfer(t).forgotten([]string{"ann", " Ann "}[i%2], fmt.Sprintf("192.0.2.%d", i)); v.status {
				case 200:
					good.Add(1)
				case http.StatusTooManyRequests:
					throttled.Add(1)
				}
			})
		}
		wg.Wait()
		if good.Load() != 10 || throttled.Load() != 30 {
			t.Errorf("of 40 from 40 addresses %d went through, and %d were refused; want 10 and 30", good.Load(), throttled.Load())
		}
		for i := range 10 {
			if v := s.forgotten(fmt.Sprint("name ", i), "198.51.100.1"); v.status != 200 {
				t.Errorf("%d: %d", i, v.status)
			}
		}
		if v := s.forgotten("another", "198.51.100.1"); v.status != http.StatusTooManyRequests || v.header.Get("Retry-After") == "" {
			t.Errorf("the eleventh from one address: %d", v.status)
		}
		if n := b.Int(t, "SELECT count(*) FROM mails"); n != 20 {
			t.Errorf("%d mails wait", n)
		}
	})
}

// The mail server is down for an hour, and the process dies meanwhile: nothing is lost, and the page tells no lie.
func TestMailServerDown(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		var box mailbox
		r := start(t, b, withMail(&box, users.SignUpOff))
		r.addressed(t, r.user(t, "ann"), "ann@example.com", true)
		box.breaks(errors.New("connection refused"))
		if v := r.surfer(t).forgotten("ann", "192.0.2.1"); v.status != 200 || !strings.Contains(v.body, "on its way") {
			t.Errorf("%d %s", v.status, v.body)
		}
		for range 6 {
			if got := r.mailsIn(t, &box); len(got) != 0 {
				t.Errorf("%+v", got)
			}
			b.Age(t, 10*time.Minute)
		}
		if n := b.Int(t, "SELECT count(*) FROM mails WHERE attempts >= 4"); n != 1 {
			t.Error("it was not tried")
		}
		equal(t, "the attempts counted", r.metrics(t)[`signet_deliveries_total{kind="mail",outcome="failed"}`], fmt.Sprint(b.Int(t, "SELECT attempts FROM mails")))
		m := r.metrics(t)
		oldest, err := strconv.ParseFloat(m[`signet_deliveries_oldest_seconds{kind="mail"}`], 64)
		if err != nil || oldest < 3600 || oldest > 4000 || m[`signet_deliveries_waiting{kind="mail"}`] != "1" || m[`signet_deliveries_waiting{kind="logout"}`] != "0" {
			t.Errorf("%q wait, the oldest for %g s, %v", m[`signet_deliveries_waiting{kind="mail"}`], oldest, err)
		}
		r.close()
		other := start(t, b, withMail(&box, users.SignUpOff))
		box.breaks(nil)
		b.Age(t, time.Hour)
		link := other.linkIn(t, &box, "ann@example.com")
		if v := other.surfer(t).open(http.MethodGet, link, ""); v.status != 200 {
			t.Errorf("the link is not good: %d", v.status) // its half hour begins when it is sent
		}
		if n := b.Int(t, "SELECT count(*) FROM mails"); n != 0 {
			t.Errorf("%d mails wait", n)
		}
		box.breaks(fmt.Errorf("%w: no such mailbox", mail.ErrRefused))
		other.surfer(t).forgotten("ann", "192.0.2.1")
		other.mailsIn(t, &box)
		if n := b.Int(t, "SELECT count(*) FROM mails"); n != 0 {
			t.Error("what was refused for good is tried again")
		}
		for _, outcome := range []string{"delivered", "refused"} {
			equal(t, outcome, other.metrics(t)[`signet_deliveries_total{kind="mail",outcome="`+outcome+`"}`], "1")
		}
	})
}

// A mail is sent once by all replicas together.
func TestMailIsSentOnce(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		var box mailbox
		r := start(t, b)
		replicas := []*replica{start(t, b, withMail(&box, users.SignUpOff)), start(t, b, withMail(&box, users.SignUpOff))}
		for i := range 20 {
			r.addressed(t, r.user(t, fmt.Sprint("user ", i)), fmt.Sprintf("user%d@example.com", i), true)
			check(t, replicas[0].mails.Post(t.Context(), mail.Reset, fmt.Sprint("user ", i), nil))
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if err := replicas[i%2].mails.SendDue(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		to := map[string]int{}
		for _, m := range r.mailsIn(t, &box) {
			to[m.To]++
		}
		box.mu.Lock()
		defer box.mu.Unlock()
		for _, m := range box.got {
			to[m.To]++
		}
		if len(to) != 20 || slices.Max(slices.Collect(maps.Values(to))) != 1 {
			t.Errorf("%v", to)
		}
	})
}

func TestInvitation(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		var box mailbox
		r := start(t, b)
		byHand, byMail := start(t, b), start(t, b, withMail(&box, users.SignUpOff))
		app := r.app(t, "app")
		r.user(t, "ann")
		root := byHand.admin(t)
		a := root.call(t, "POST", "/admin/invitations", `{"email": "Bob@example.com"}`).is(t, 201)
		link := strings.TrimPrefix(a.text("url"), issuer)
		if a.json["mailed"] != false || a.text("email") != "Bob@example.com" || !strings.HasPrefix(link, "/join?link=") {
			t.Fatalf("%s", a.body)
		}
		s := byHand.surfer(t)
		page := s.open(http.MethodGet, link, "")
		for _, c := range []struct{ name, password, says string }{
			{"ann", "a good password", "already"}, {"  ", "a good password", "cannot be a username"}, {"bob", "short", "at least 8"},
		} {
			if v := s.submit(page, "username", c.name, "password", c.password); v.status != 400 || !strings.Contains(v.body, c.says) {
				t.Errorf("%+v: %d %s", c, v.status, v.body)
			}
		}
		if v := s.submit(page, "username", "bob ", "password", "a good password"); v.status != 200 || v.heading != "Your account is ready" || len(s.cookies) != 0 {
			t.Fatalf("%d %s", v.status, v.body)
		}
		if v := s.submit(page, "username", "eve", "password", "a good password"); v.status != http.StatusGone {
			t.Errorf("once more: %d", v.status)
		}
		byHand.passwordGrant(t, app, "bob", "a good password").is(t, 200)
		bob, err := r.users.Find(t.Context(), "bob")
		check(t, err)
		if bob.Email != "bob@example.com" || bob.EmailVerified {
			t.Errorf("an address that nobody has proved: %+v", bob.Profile)
		}

		root = byMail.as(t, known(t, byMail, "admin-ui"), root.user, "signet:admin")
		a = root.call(t, "POST", "/admin/invitations", `{"email": "Carl@example.com", "locale": "de"}`).is(t, 201)
		if a.json["mailed"] != true || a.json["url"] != nil {
			t.Errorf("%s", a.body)
		}
		link = byMail.linkIn(t, &box, "Carl@example.com")
		s = byMail.surfer(t)
		if v := s.submit(s.open(http.MethodGet, link, ""), "username", "carl", "password", "a good password"); v.status != 200 {
			t.Fatalf("%d %s", v.status, v.body)
		}
		carl, err := r.users.Find(t.Context(), "carl")
		check(t, err)
		if carl.Email != "Carl@example.com" || !carl.EmailVerified {
			t.Errorf("%+v", carl.Profile)
		}
		root.call(t, "POST", "/admin/invitations", `{"email": "carl@EXAMPLE.com"}`).want(t, 400, "invalid_request")
		for _, bad := range []string{`{}`, `{"email": "no address"}`, `{"email": "a@b\nc"}`, `{"email": 1}`, `{"mail": "x@example.com"}`} {
			root.call(t, "POST", "/admin/invitations", bad).want(t, 400, "invalid_request")
		}
		a = root.call(t, "POST", "/admin/users/"+carl.ID+"/reset-link", "").is(t, 201)
		if !strings.HasPrefix(a.text("url"), issuer+"/reset?link=sgo_") || a.json["mailed"] != false {
			t.Errorf("%s", a.body)
		}
		root.call(t, "POST", "/admin/users/"+app.ID+"/reset-link", "").want(t, 404, "not_found")
		if e := r.events(t, audit.UserInvited); len(e) != 2 {
			t.Errorf("%+v", e)
		}
	})
}

func known(t testing.TB, r *replica, id string) *client {
	t.Helper()
	c, err := r.clients.Get(t.Context(), id)
	check(t, err)
	return &c
}

func TestSignUp(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		var box mailbox
		r := start(t, b)
		r.addressed(t, r.user(t, "ann"), "ann@example.com", true)
		signUp := func(r *replica, email string) view {
			t.Helper()
			return r.surfer(t).open(http.MethodPost, "/sign-up", url.Values{"email": {email}}.Encode(), from("192.0.2."+fmt.Sprint(len(email))))
		}
		off := start(t, b, withMail(&box, users.SignUpOff))
		for _, v := range []view{off.surfer(t).open(http.MethodGet, "/sign-up", ""), signUp(off, "eve@example.com")} {
			if v.status != 404 {
				t.Errorf("off: %d", v.status)
			}
		}
		open := start(t, b, withMail(&box, users.SignUpOpen))
		if v := open.surfer(t).open(http.MethodGet, "/sign-up", ""); v.status != 200 || v.heading != "Make an account" {
			t.Errorf("%d %s", v.status, v.body)
		}
		if v := signUp(open, "no address"); v.status != 400 || !strings.Contains(v.body, "no e-mail address") {
			t.Errorf("%d %s", v.status, v.body)
		}
		known, unknown := signUp(open, "ann@example.com"), signUp(open, "eve@example.com")
		if known.status != 200 || known.body != unknown.body {
			t.Errorf("%d %d %s", known.status, unknown.status, known.body)
		}
		var link string
		for _, m := range open.mailsIn(t, &box) {
			switch found := linkInMail.FindString(m.Text); m.To {
			case "ann@example.com":
				if found != "" || !strings.Contains(m.Text, "already") {
					t.Errorf("%s", m.Text)
				}
			case "eve@example.com":
				link = strings.TrimPrefix(found, issuer)
			}
		}
		invited := start(t, b, withMail(&box, users.SignUpInvited))
		if v := invited.surfer(t).open(http.MethodGet, link, ""); v.status != http.StatusGone {
			t.Errorf("a link of nobody's invitation, where only invited ones may: %d", v.status)
		}
		s := open.surfer(t)
		// Nobody is called by somebody else's address, which its owner would find taken.
		for _, name := range []string{"bob@example.com", "BOB@example.com", "eve@example.com.evil.example"} {
			v := s.submit(s.open(http.MethodGet, link, ""), "username", name, "password", "a good password")
			if v.status != 400 || !strings.Contains(v.body, "has to be your own") {
				t.Errorf("%s: %d %s", name, v.status, v.body)
			}
		}
		if v := s.submit(s.open(http.MethodGet, link, ""), "username", "eve", "password", "a good password"); v.status != 200 {
			t.Fatalf("%d %s", v.status, v.body)
		}
		eve, err := r.users.Find(t.Context(), "eve")
		check(t, err)
		if !eve.EmailVerified || eve.Email != "eve@example.com" || eve.Admin {
			t.Errorf("%+v", eve)
		}
		// Who was invited may ask for the link again, and nobody else.
		_, err = invited.mails.Invite(t.Context(), "bob@example.com", nil, origin)
		check(t, err)
		invited.mailsIn(t, &box)
		signUp(invited, "stranger@example.com")
		signUp(invited, "bob@example.com")
		link = invited.linkIn(t, &box, "bob@example.com")
		if v := invited.surfer(t).open(http.MethodGet, link, ""); v.status != 200 {
			t.Errorf("%d", v.status)
		}
		own := open.surfer(t) // by one's own address one may be called
		signUp(open, "Dan@example.com")
		if v := own.submit(own.open(http.MethodGet, open.linkIn(t, &box, "Dan@example.com"), ""), "username", "DAN@example.com", "password", "a good password"); v.status != 200 {
			t.Errorf("%d %s", v.status, v.body)
		}
		b.Age(t, users.InvitationTTL)
		if v := invited.surfer(t).open(http.MethodGet, link, ""); v.status != http.StatusGone {
			t.Errorf("a week later: %d", v.status)
		}
		signUp(invited, "bob@example.com")
		if got := invited.mailsIn(t, &box); len(got) != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// Without a mail server there is nothing to ask for, and the page says whom to turn to.
func TestNoMailServer(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		s := r.surfer(t)
		for _, v := range []view{s.open(http.MethodGet, "/forgotten", ""), s.open(http.MethodPost, "/forgotten", "username=ann")} {
			if v.status != 404 || v.heading != "Ask for a link" {
				t.Errorf("%d %s", v.status, v.heading)
			}
		}
	})
}

// Whoever's password or factors change hears of it by mail, in their language, whoever has changed them; no request waits for the mail.
func TestMailsAboutChanges(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		var box mailbox
		r := start(t, b, withMail(&box, users.SignUpOff))
		ann := r.user(t, "ann")
		r.addressed(t, ann, "Ann@example.com", true)
		_, err := r.users.Update(t.Context(), ann.ID, users.Change{Profile: map[string]json.RawMessage{"locale": json.RawMessage(`"de"`)}}, origin)
		check(t, err)
		hears := func(subject string) {
			t.Helper()
			got := r.mailsIn(t, &box)
			if len(got) != 1 || got[0].To != "Ann@example.com" || got[0].Subject != subject {
				t.Fatalf("mails: %+v; want one: %s", got, subject)
			}
			if linkInMail.MatchString(got[0].Text) || !strings.Contains(got[0].Text, "\n"+issuer+"/me/\n") || !strings.Contains(got[0].Text, "Guten Tag ann,") {
				t.Errorf("%s", got[0].Text)
			}
		}
		box.breaks(errors.New("down"))
		s := r.surfer(t)
		s.withPasskey(ann)
		if got := r.mailsIn(t, &box); len(got) != 0 {
			t.Errorf("%+v", got)
		}
		box.breaks(nil)
		b.Age(t, mail.Pause(1)) // the mail server is there again
		hears("Ein Passkey wurde hinzugefügt")
		app, _ := r.withApp(t, ann)
		hears("Eine Authenticator-App wurde hinzugefügt")
		if _, err := r.logins.CheckCode(t.Context(), ann, app.code(t, 0), "", origin); err != nil { // a use is no change
			t.Error(err)
		}
		_, err = r.logins.NewRecoveryCodes(t.Context(), ann.ID, origin)
		check(t, err)
		hears("Neue Wiederherstellungscodes")
		for _, f := range r.factorsOf(t, ann).List {
			check(t, r.logins.RemoveFactor(t.Context(), ann.ID, f.ID, origin))
			hears(map[logins.Kind]string{logins.Passkey: "Ein Passkey wurde entfernt", logins.TOTP: "Die Authenticator-App wurde entfernt"}[f.Type])
		}
		r.withApp(t, ann)
		hears("Eine Authenticator-App wurde hinzugefügt")
		root := r.admin(t)
		root.call(t, "DELETE", "/admin/users/"+ann.ID+"/factors", "").is(t, 204)
		hears("Ihre Passkeys und Apps wurden entfernt")
		root.call(t, "PATCH", "/admin/users/"+ann.ID, `{"password": "by an admin", "email": "new@example.com", "email_verified": true}`).is(t, 200)
		got := r.mailsIn(t, &box)
		if len(got) != 1 || got[0].To != "Ann@example.com" || got[0].Subject != "Ihr Passwort wurde geändert" {
			t.Errorf("the address before the change: %+v", got)
		}
		r.addressed(t, ann, "Ann@example.com", true)
		ann, err = r.users.Find(t.Context(), "ann")
		check(t, err)
		h, err := r.mails.ResetLink(t.Context(), ann, origin)
		check(t, err)
		_, err = r.users.ResetByLink(t.Context(), strings.TrimPrefix(h.URL, issuer+"/reset?link="), "a new password", origin)
		check(t, err)
		hears("Ihr Passwort wurde geändert")
		check(t, r.users.ChangePassword(t.Context(), "ann", "a new password", "a newer password", "", "", origin))
		hears("Ihr Passwort wurde geändert")
		r.addressed(t, ann, "Ann@example.com", false)
		_, err = r.users.Update(t.Context(), ann.ID, users.Change{Password: new("once more 1")}, origin)
		check(t, err)
		if got := r.mailsIn(t, &box); len(got) != 0 {
			t.Errorf("to an address that may be anybody's: %+v", got)
		}
	})
}
