package storagetest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"signet/audit"
	"signet/logins"
	"signet/mail"
	"signet/users"
)

func newRef() users.LinkRef {
	id := uuid.New()
	return users.LinkRef{ID: id, Digest: digest(id.String())}
}

// linked stores a link and checks its end.
func (w *world) linked(t testing.TB, n users.Link, ttl time.Duration) users.LinkRef {
	t.Helper()
	ref := newRef()
	expires, err := w.CreateLink(t.Context(), ref, n, ttl, newEvent(audit.PasswordResetRequested))
	check(t, err)
	if d := time.Until(expires) - ttl; d > time.Minute || d < -time.Minute {
		t.Errorf("it ends in %s, want %s", time.Until(expires), ttl)
	}
	return ref
}

// good tells whether there is such a link.
func (w *world) good(t testing.TB, r users.LinkRef) bool {
	t.Helper()
	_, ok, err := w.Link(t.Context(), r)
	check(t, err)
	return ok
}

func TestResetLinks(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ann := w.addUser(t, "Ann")
		profile := users.Profile{}
		lives := func(email string, verified bool) {
			t.Helper()
			p := users.Profile{Email: email, EmailVerified: verified}
			_, err := w.ChangeUser(t.Context(), ann.ID, users.Changes{Profile: &p, OldProfile: &profile}, []audit.Event{newEvent(audit.UserUpdated)})
			check(t, err)
			profile = p
		}
		lives("Ann@example.com", true)
		n := users.Link{Purpose: users.ResetPassword, Subject: ann.ID, UserEpoch: ann.Epoch, Email: "Ann@example.com"}
		first := w.linked(t, n, users.ResetTTL)
		got, ok, err := w.Link(t.Context(), first)
		check(t, err)
		got.ExpiresAt = time.Time{}
		if equal(t, "link", got, n); !ok {
			t.Error("it is not there")
		}
		second := w.linked(t, n, users.ResetTTL)
		stranger := second
		stranger.Digest = digest("another secret")
		if w.good(t, first) || w.good(t, stranger) || !w.good(t, second) {
			t.Error("there is not one good link, the last")
		}
		for what, wrong := range map[string]users.Link{
			"another epoch": {Purpose: users.ResetPassword, Subject: ann.ID, UserEpoch: ann.Epoch + 1},
			"nobody":        {Purpose: users.ResetPassword, Subject: uuid.NewString()},
		} {
			if _, err := w.CreateLink(t.Context(), newRef(), wrong, time.Hour, newEvent(audit.PasswordResetRequested)); !errors.Is(err, users.ErrNotFound) {
				t.Errorf("%s: %v", what, err)
			}
		}
		// One that was mailed is for whoever has the address now; one that was handed out has none.
		for _, moved := range []func(){func() { lives("ann@new.example", true) }, func() { lives("Ann@example.com", false) }, func() { lives("", false) }} {
			moved()
			if _, err := w.UseResetLink(t.Context(), second, n, "x", nil, []audit.Event{newEvent(audit.PasswordResetUsed)}); w.good(t, second) || !errors.Is(err, users.ErrLink) {
				t.Errorf("it is good after the address %+v: %v", profile, err)
			}
		}
		handed := n
		handed.Email = ""
		if third := w.linked(t, handed, users.ResetTTL); !w.good(t, third) {
			t.Error("one that was handed out needs an address")
		}
		second = w.linked(t, n, users.ResetTTL)
		lives("Ann@example.com", true)
		subject := digest("username ann")
		w.failed(t, newAttempt("ann", "A", "1"), false, audit.LoginFailed)
		stores := w.pair(t)
		if n := atOnce(t, 32, func(i int) (bool, error) {
			_, err := stores[i%2].UseResetLink(context.Background(), second, n, "new hash", subject, []audit.Event{newEvent(audit.PasswordResetUsed)})
			if errors.Is(err, users.ErrLink) {
				return false, nil
			}
			return true, err
		}); n != 1 {
			t.Errorf("of 32 at once %d used it", n)
		}
		u, err := w.User(t.Context(), ann.ID)
		check(t, err)
		if u.PasswordHash != "new hash" || u.Epoch != ann.Epoch+1 || w.Int(t, "SELECT count(*) FROM login_failures") != 1 {
			t.Errorf("%+v", u)
		}
		late := w.linked(t, users.Link{Purpose: users.ResetPassword, Subject: ann.ID, UserEpoch: u.Epoch}, time.Minute)
		w.Age(t, time.Minute)
		if w.good(t, late) {
			t.Error("it outlives its end")
		}
		deleted, err := w.DeleteExpiredLinks(t.Context())
		check(t, err)
		if deleted != 1 {
			t.Errorf("%d deleted", deleted)
		}
	})
}

func TestAccountLinks(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		invited := func() bool {
			t.Helper()
			return ok[bool](t)(w.Invited(t.Context(), "bob@example.com"))
		}
		n := users.Link{Purpose: users.NewAccount, Subject: "bob@example.com", Email: "Bob@example.com"}
		w.linked(t, n, time.Hour)
		if invited() {
			t.Error("who asked is not invited")
		}
		n.Invited = true
		w.linked(t, n, 48*time.Hour)
		n.Invited = false
		ref := newRef() // the invited one asks for the link again: it is an invitation still, with the end of that
		expires, err := w.CreateLink(t.Context(), ref, n, time.Hour, audit.Event{})
		check(t, err)
		if time.Until(expires) < 47*time.Hour || !invited() {
			t.Errorf("it ends in %s", time.Until(expires))
		}
		bob := newUser("Bob")
		bob.Email, bob.EmailVerified = "Bob@example.com", true
		taken := w.addUser(t, "Taken")
		other := bob
		other.ID = uuid.NewString()
		if _, err := w.UseAccountLink(t.Context(), ref, other, users.Canonical(taken.Username), newEvent(audit.UserCreated)); !errors.Is(err, users.ErrExists) || !w.good(t, ref) {
			t.Errorf("a name that is taken: %v", err)
		}
		stores := w.pair(t)
		if n := atOnce(t, 32, func(i int) (bool, error) {
			u := bob
			u.ID = uuid.NewString()
			_, err := stores[i%2].UseAccountLink(context.Background(), ref, u, users.Canonical("bob")+fmt.Sprint(i), newEvent(audit.UserCreated))
			if errors.Is(err, users.ErrLink) {
				return false, nil
			}
			return true, err
		}); n != 1 {
			t.Errorf("of 32 at once %d made an account", n)
		}
		if n := w.Int(t, "SELECT count(*) FROM users WHERE verified_email = 'bob@example.com'"); n != 1 || invited() {
			t.Errorf("%d accounts", n)
		}
		u, err := w.UserByEmail(t.Context(), "bob@example.com")
		check(t, err)
		if u.Email != "Bob@example.com" || !u.EmailVerified {
			t.Errorf("%+v", u)
		}
		again := w.linked(t, users.Link{Purpose: users.NewAccount, Subject: "bob@example.com"}, time.Hour)
		bob.ID = uuid.NewString()
		if _, err := w.UseAccountLink(t.Context(), again, bob, "robert", newEvent(audit.UserCreated)); !errors.Is(err, users.ErrEmailTaken) || !w.good(t, again) {
			t.Errorf("an address that is taken: %v", err)
		}
	})
}

func TestMails(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		m := mail.Mail{ID: uuid.New(), Kind: mail.Reset, Recipient: "ann ü", Locales: []string{"de", "en"}}
		check(t, w.CreateMail(t.Context(), m))
		due := func(want int) {
			t.Helper()
			got, err := w.DueMails(t.Context(), 10)
			check(t, err)
			if len(got) != want {
				t.Fatalf("%d are due, want %d", len(got), want)
			}
			if want == 1 {
				m.Attempts++
				equal(t, "mail", got[0], m)
			}
		}
		waiting := func(want int64, least time.Duration) {
			t.Helper()
			n, oldest, err := w.WaitingMails(t.Context())
			check(t, err)
			if n != want || oldest < least || oldest > least+time.Minute {
				t.Errorf("%d wait, the oldest for %s; want %d, %s", n, oldest, want, least)
			}
		}
		due(1)
		due(0)
		waiting(1, 0)
		w.Age(t, mail.Pause(1))
		waiting(1, mail.Pause(1))
		due(1)
		w.Age(t, mail.Pause(1))
		due(0)
		w.Age(t, mail.Pause(1))
		due(1)
		check(t, w.DeleteMail(t.Context(), m.ID))
		w.Age(t, time.Hour)
		due(0)
		waiting(0, 0)
		m.ID, m.Attempts, m.Locales = uuid.New(), 0, []string{}
		check(t, w.CreateMail(t.Context(), m))
		w.Age(t, mail.TTL)
		due(0)
		waiting(0, 0) // in vain
		if n := ok[int64](t)(w.DeleteUnsentMails(t.Context())); n != 1 {
			t.Errorf("%d deleted", n)
		}
	})
}

// Whoever's password or factors change is to be told, at the address that was theirs before the change; and of nothing that did not happen.
func TestMailsAboutChanges(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		withAddress := func(name, email string, verified bool) users.User {
			u := newUser(name)
			u.Email, u.EmailVerified, u.Locale = email, verified, "de"
			return ok[users.User](t)(w.CreateUser(t.Context(), u, users.Canonical(name), newEvent(audit.UserCreated)))
		}
		told := func(want ...mail.Kind) {
			t.Helper()
			var got []mail.Kind
			for _, m := range ok[[]mail.Mail](t)(w.DueMails(t.Context(), 100)) {
				if got = append(got, m.Kind); m.Recipient != "Ann@example.com" || len(m.Locales) != 1 || m.Locales[0] != "de" {
					t.Errorf("%+v", m)
				}
				check(t, w.DeleteMail(t.Context(), m.ID))
			}
			slices.Sort(got)
			equal(t, "mails", got, want)
		}
		event := func(kind audit.Type, detail string) audit.Event {
			e := newEvent(kind)
			e.Detail = detail
			return e
		}
		ann := withAddress("ann", "Ann@example.com", true)
		for _, u := range []users.User{ann, withAddress("bob", "bob@example.com", false)} {
			app, key := newFactor(u, logins.TOTP), newFactor(u, logins.Passkey)
			for _, f := range []logins.Factor{app, app, key} { // the second time it is not added
				_, _, err := added(w.AddFactor(t.Context(), f, many, codesOf(f.ID), event(audit.FactorAdded, string(f.Type)+" "+f.ID)))
				check(t, err)
			}
			ok[bool](t)(w.ReplaceRecoveryCodes(t.Context(), u.ID, codesOf("new"), event(audit.FactorAdded, "recovery codes")))
			for range 2 {
				ok[bool](t)(w.RemoveFactor(t.Context(), u.ID, app.ID, event(audit.FactorRemoved, "totp "+app.ID)))
			}
			ok[bool](t)(w.RemoveFactor(t.Context(), u.ID, key.ID, event(audit.FactorRemoved, "passkey "+key.ID)))
			w.addFactor(t, u, logins.TOTP)
			for range 2 {
				ok[bool](t)(w.RemoveFactor(t.Context(), u.ID, "", event(audit.FactorRemoved, "all")))
			}
		}
		told(mail.AppAdded, mail.AppRemoved, mail.FactorsRemoved, mail.PasskeyAdded, mail.PasskeyRemoved, mail.RecoveryCodes)

		stale := ann.Epoch + 1
		_, err := w.ChangeUser(t.Context(), ann.ID, users.Changes{PasswordHash: new("x"), Epoch: &stale}, []audit.Event{newEvent(audit.UserPasswordChanged)})
		if !errors.Is(err, users.ErrNotFound) {
			t.Error(err)
		}
		n := users.Link{Purpose: users.ResetPassword, Subject: ann.ID, UserEpoch: ann.Epoch, Email: ann.Email}
		used, ref := []audit.Event{newEvent(audit.PasswordResetUsed), newEvent(audit.UserPasswordChanged)}, w.linked(t, n, time.Hour)
		for range 2 {
			if _, err := w.UseResetLink(t.Context(), ref, n, "another hash", nil, used); err != nil && !errors.Is(err, users.ErrLink) {
				t.Error(err)
			}
		}
		told(mail.PasswordChanged)
		ann = ok[users.User](t)(w.User(t.Context(), n.Subject))
		profile := ann.Profile
		profile.UpdatedAt = time.Time{}
		stolen := profile
		stolen.Email = "eve@example.com"
		_, err = w.ChangeUser(t.Context(), ann.ID, users.Changes{PasswordHash: new("x"), Profile: &stolen, OldProfile: &profile},
			[]audit.Event{newEvent(audit.UserPasswordChanged), newEvent(audit.UserUpdated)})
		check(t, err)
		told(mail.PasswordChanged)
	})
}
