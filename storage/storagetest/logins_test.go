package storagetest_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"signet/audit"
	"signet/authorizations"
	"signet/clients"
	"signet/keys"
	"signet/logins"
	"signet/storage"
	"signet/tokens"
	"signet/users"
)

func newLogin(u users.User) logins.NewLogin {
	id := uuid.New()
	return logins.NewLogin{
		Ref: logins.Ref{ID: id, Digest: digest("secret of " + id.String())}, UserID: u.ID, UserEpoch: u.Epoch, Methods: []string{"pwd"}, Class: "aal1",
		TTL: 12 * time.Hour, Address: "192.0.2.1", UserAgent: "browser",
	}
}

// logIn makes a login of the user.
func (w *world) logIn(t *testing.T, u users.User) (logins.NewLogin, logins.Login) {
	t.Helper()
	n := newLogin(u)
	return n, ok[logins.Login](t)(w.CreateLogin(t.Context(), n, newEvent(audit.LoginSucceeded)))
}

func TestLogins(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.addUser(t, "ann")
		e := newEvent(audit.LoginSucceeded)
		n := newLogin(u)
		var l logins.Login
		w.writes(t, func() { l = ok[logins.Login](t)(w.CreateLogin(t.Context(), n, e)) }, e)
		recent(t, "auth_time", l.Time)
		want := logins.Login{
			Authentication: logins.Authentication{Time: l.Time, Methods: n.Methods, Class: n.Class}, ID: n.ID.String(), UserID: u.ID, UserEpoch: u.Epoch,
			Username: "ann", ExpiresAt: l.ExpiresAt, Now: l.Now,
		}
		equal(t, "login", l, want)
		got, live, err := w.Login(t.Context(), n.Ref)
		if check(t, err); !live {
			t.Error("it is not live")
		}
		want.Now = got.Now
		equal(t, "read", got, want)
		if _, live, err := w.Login(t.Context(), logins.Ref{ID: n.ID, Digest: digest("another")}); err != nil || live {
			t.Errorf("with another secret: %v, %v", live, err)
		}

		// Renewed, it has another secret, and the one before is dead.
		again := n
		again.Digest = digest("a new secret")
		w.Age(t, time.Hour)
		renewed, ok2, err := w.RenewLogin(t.Context(), n.Ref, again, newEvent(audit.LoginSucceeded))
		if check(t, err); !ok2 || renewed.ID != l.ID || !renewed.Time.After(l.Time.Add(-time.Minute)) {
			t.Errorf("renewed: %v, %+v", ok2, renewed)
		}
		if _, live, err := w.Login(t.Context(), n.Ref); err != nil || live {
			t.Errorf("the secret before: %v, %v", live, err)
		}
		for name, other := range map[string]func(*logins.NewLogin){
			"of another user":  func(n *logins.NewLogin) { n.UserID = uuid.NewString() },
			"of another epoch": func(n *logins.NewLogin) { n.UserEpoch++ },
		} {
			wrong := again
			other(&wrong)
			if _, ok, err := w.RenewLogin(t.Context(), again.Ref, wrong, newEvent(audit.LoginSucceeded)); err != nil || ok {
				t.Errorf("%s: renewed", name)
			}
		}
		late := newLogin(u)
		late.UserEpoch++
		if _, err := w.CreateLogin(t.Context(), late, newEvent(audit.LoginSucceeded)); !errors.Is(err, logins.ErrUserChanged) {
			t.Errorf("in another epoch: %v", err)
		}
	})
}

// Who has a second factor does not log in without it, and a try to do so leaves the login that there is.
func TestLoginsOfOneFactor(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		u := w.addUser(t, "ann")
		before, _ := w.logIn(t, u)
		f := w.addFactor(t, u, logins.TOTP)
		one, two := newLogin(u), newLogin(u)
		two.Class, two.Methods = logins.TwoFactors, []string{"pwd", "otp", "mfa"}
		w.writes(t, func() {
			if _, err := w.CreateLogin(t.Context(), one, newEvent(audit.LoginSucceeded)); !errors.Is(err, logins.ErrUserChanged) {
				t.Errorf("with the password alone: %v", err)
			}
			again := before
			again.Digest = digest("a new secret")
			if _, renewed, err := w.RenewLogin(t.Context(), before.Ref, again, newEvent(audit.LoginSucceeded)); err != nil || renewed {
				t.Errorf("renewed with the password alone: %v, %v", renewed, err)
			}
		})
		if _, live, err := w.Login(t.Context(), before.Ref); err != nil || !live {
			t.Errorf("the login from before: live %v, %v", live, err)
		}
		ok[logins.Login](t)(w.CreateLogin(t.Context(), two, newEvent(audit.LoginSucceeded)))
		again := two
		again.Ref, again.Digest = before.Ref, digest("a new secret")
		if _, renewed, err := w.RenewLogin(t.Context(), before.Ref, again, newEvent(audit.LoginSucceeded)); err != nil || !renewed {
			t.Errorf("renewed with both: %v, %v", renewed, err)
		}
		ok[bool](t)(w.RemoveFactor(t.Context(), u.ID, f.ID, newEvent(audit.FactorRemoved)))
		ok[logins.Login](t)(w.CreateLogin(t.Context(), one, newEvent(audit.LoginSucceeded)))
	})
}

// Each reason alone ends a login, and clean-up deletes it then.
func TestLoginEnds(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for name, end := range map[string]func(t *testing.T, n logins.NewLogin){
			"ended": func(t *testing.T, n logins.NewLogin) {
				e := newEvent(audit.Logout)
				w.writes(t, func() {
					if !ok[bool](t)(w.EndLogin(t.Context(), n.ID, e)) {
						t.Error("there was nothing to end")
					}
				}, e)
				if ok[bool](t)(w.EndLogin(t.Context(), n.ID, newEvent(audit.Logout))) {
					t.Error("it ends twice")
				}
			},
			"expired": func(t *testing.T, n logins.NewLogin) {
				w.Exec(t, `UPDATE logins SET expires_at = created_at WHERE id = $1`, n.ID.String())
			},
			"user disabled": func(t *testing.T, n logins.NewLogin) {
				w.Exec(t, `UPDATE users SET disabled = TRUE WHERE id = $1`, n.UserID)
			},
			"user in another epoch": func(t *testing.T, n logins.NewLogin) {
				w.Exec(t, `UPDATE users SET epoch = epoch + 1 WHERE id = $1`, n.UserID)
			},
			"user deleted": func(t *testing.T, n logins.NewLogin) { w.Exec(t, `DELETE FROM users WHERE id = $1`, n.UserID) },
		} {
			n, _ := w.logIn(t, w.addUser(t, name))
			end(t, n)
			if _, live, err := w.Login(t.Context(), n.Ref); err != nil || live {
				t.Errorf("%s: live %v, %v", name, live, err)
			}
		}
		kept, _ := w.logIn(t, w.addUser(t, "kept"))
		if n := ok[int64](t)(w.DeleteEndedLogins(t.Context())); n != 4 { // a disabled user may be enabled again in a moment: the epoch tells
			t.Errorf("deleted %d", n)
		}
		if _, live, err := w.Login(t.Context(), kept.Ref); err != nil || !live {
			t.Errorf("a live one was deleted: %v", err)
		}
	})
}

// grantOf is a code that could be redeemed, and what redeems it.
func (w *world) grantOf(t *testing.T, c clients.Client, l logins.Ref) tokens.Redemption {
	t.Helper()
	secret, err := keys.ParseSecret(keys.NewSecret())
	check(t, err)
	r := &authorizations.Request{
		ClientID: c.ID, RedirectURI: "https://app.example.com/cb", RedirectSent: true, Scope: clients.Scope{"openid", "read"}, Audience: []string{"https://api.example.com"},
		Challenge: "challenge", Nonce: "nonce",
	}
	codes := authorizations.New(w, secret, slog.New(slog.DiscardHandler))
	text, _, err := codes.Issue(t.Context(), &c, l, r, authorizations.Unasked, audit.Origin{Actor: "test"})
	check(t, err)
	code, known := codes.ParseCode(text)
	if !known {
		t.Fatal("a code that cannot be read")
	}
	return tokens.Redemption{
		Session: code.Session, CodeDigest: code.Digest(), ClientID: c.ID, ClientEpoch: c.Epoch, RedirectURI: r.RedirectURI, Challenge: r.Challenge,
		SessionDigest: digest(string(code.SessionSecret())), IdleTTL: time.Hour, TTL: 24 * time.Hour, Address: "192.0.2.1", UserAgent: "app", MaxFailures: 3,
	}
}

// Each part of what a redemption says decides by itself.
func TestRedeemCode(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c, u := w.addClient(t, "app"), w.addUser(t, "ann")
		n, l := w.logIn(t, u)
		for name, change := range map[string]func(r *tokens.Redemption){
			"another digest":         func(r *tokens.Redemption) { r.CodeDigest = digest("x") },
			"another client":         func(r *tokens.Redemption) { r.ClientID = "other" },
			"another client epoch":   func(r *tokens.Redemption) { r.ClientEpoch++ },
			"another redirect URI":   func(r *tokens.Redemption) { r.RedirectURI += "/" },
			"no redirect URI":        func(r *tokens.Redemption) { r.RedirectURI = "" },
			"another challenge":      func(r *tokens.Redemption) { r.Challenge = "other" },
			"no challenge":           func(r *tokens.Redemption) { r.Challenge = "" },
			"more scope":             func(r *tokens.Redemption) { r.Scope = clients.Scope{"read", "write"} },
			"another resource":       func(r *tokens.Redemption) { r.Audience = []string{"https://other.example.com"} },
			"another session of all": func(r *tokens.Redemption) { r.Session = uuid.New() },
		} {
			r := w.grantOf(t, c, n.Ref)
			wrong := r
			change(&wrong)
			w.writes(t, func() {
				if _, redeemed, err := w.RedeemCode(t.Context(), wrong, newEvent(audit.SessionCreated)); err != nil || redeemed {
					t.Errorf("%s: redeemed %v, %v", name, redeemed, err)
				}
			})
			e := newEvent(audit.SessionCreated)
			g, redeemed, err := w.RedeemCode(t.Context(), r, e)
			if check(t, err); !redeemed || g.Nonce != "nonce" || g.UserID != u.ID || g.LoginID != n.ID.String() || g.Facts == nil || g.Facts.AuthTime != l.Time.Unix() {
				t.Errorf("%s: then %v, %+v", name, redeemed, g)
			}
			if end := g.End.Sub(g.Now); end > 12*time.Hour {
				t.Errorf("it outlives its login: %s", end)
			}
		}
		for name, end := range map[string]func(t *testing.T){
			"user disabled": func(t *testing.T) { w.Exec(t, `UPDATE users SET disabled = TRUE WHERE id = $1`, u.ID) },
			"user epoch": func(t *testing.T) {
				w.Exec(t, `UPDATE users SET epoch = epoch + 1, disabled = FALSE WHERE id = $1`, u.ID)
			},
			"client disabled": func(t *testing.T) { w.Exec(t, `UPDATE clients SET disabled = TRUE WHERE id = 'app'`) },
			"login ended":     func(t *testing.T) { w.Exec(t, `UPDATE logins SET ended_at = created_at WHERE id = $1`, n.ID.String()) },
			"login expired": func(t *testing.T) {
				w.Exec(t, `UPDATE logins SET expires_at = created_at WHERE id = $1`, n.ID.String())
			},
			"too late": func(t *testing.T) {
				w.Exec(t, `UPDATE authorization_codes SET expires_at = (SELECT created_at FROM users WHERE id = $1)`, u.ID)
			},
		} {
			w.Exec(t, `UPDATE users SET disabled = FALSE, epoch = 0 WHERE id = $1`, u.ID)
			w.Exec(t, `UPDATE clients SET disabled = FALSE`)
			w.Exec(t, `UPDATE logins SET ended_at = NULL, expires_at = (SELECT max(expires_at) FROM sessions)`)
			r := w.grantOf(t, c, n.Ref)
			end(t)
			if _, redeemed, err := w.RedeemCode(t.Context(), r, newEvent(audit.SessionCreated)); err != nil || redeemed {
				t.Errorf("%s: redeemed %v, %v", name, redeemed, err)
			}
		}
	})
}

func TestRefuseCode(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c, u := w.addClient(t, "app"), w.addUser(t, "ann")
		n, _ := w.logIn(t, u)
		r := w.grantOf(t, c, n.Ref)
		refuse := func(r tokens.Redemption, want tokens.Refusal, events ...audit.Event) {
			t.Helper()
			e := newEvent(audit.CodeReused)
			if len(events) > 0 {
				e = events[0]
			}
			why, user, err := w.RefuseCode(t.Context(), r, e)
			if check(t, err); why != want || (user != "") != (want == tokens.CodeReused) {
				t.Errorf("%v of %q, want %v", why, user, want)
			}
		}
		wide, elsewhere, wrong, foreign := r, r, r, r
		wide.Scope, elsewhere.Audience, wrong.Challenge, foreign.ClientID = clients.Scope{"write"}, []string{"x"}, "wrong", "other"
		refuse(wide, tokens.CodeNarrow)
		refuse(elsewhere, tokens.CodeElsewhere)
		refuse(foreign, tokens.CodeUnknown)
		refuse(wrong, tokens.CodeUnfitting)
		refuse(wrong, tokens.CodeUnfitting)
		g := ok2(t)(w.RedeemCode(t.Context(), r, newEvent(audit.SessionCreated)))
		if g.UserID != u.ID {
			t.Errorf("%+v", g)
		}
		refuse(foreign, tokens.CodeUnknown)
		e := newEvent(audit.CodeReused)
		refuse(r, tokens.CodeReused, e)
		refuse(r, tokens.CodeUnknown) // its session has been revoked
		if n := w.Int(t, `SELECT count(*) FROM audit_events WHERE type = 'authorization_code.reused'`); n != 1 {
			t.Errorf("%d events", n)
		}
		guessed := w.grantOf(t, c, n.Ref)
		wrong = guessed
		wrong.Challenge = "wrong"
		for range 3 {
			refuse(wrong, tokens.CodeUnfitting)
		}
		if _, redeemed, err := w.RedeemCode(t.Context(), guessed, newEvent(audit.SessionCreated)); err != nil || redeemed {
			t.Errorf("after three wrong verifiers: %v, %v", redeemed, err)
		}
	})
}

// ok2 takes the results of a redemption that has to succeed.
func ok2(t testing.TB) func(g tokens.CodeGrant, redeemed bool, err error) tokens.CodeGrant {
	return func(g tokens.CodeGrant, redeemed bool, err error) tokens.CodeGrant {
		t.Helper()
		if check(t, err); !redeemed {
			t.Fatal("not redeemed")
		}
		return g
	}
}

// 32 redemptions of one code, on two pools: one session.
func TestRedemptionsRace(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		pools := []storage.Store{w.Store, w.Open(t)}
		c, u := w.addClient(t, "app"), w.addUser(t, "ann")
		n, _ := w.logIn(t, u)
		for range 5 {
			r := w.grantOf(t, c, n.Ref)
			var won atomic.Int64
			var racing sync.WaitGroup
			for i := range 32 {
				racing.Go(func() {
					if _, redeemed, err := pools[i%2].RedeemCode(t.Context(), r, newEvent(audit.SessionCreated)); err != nil {
						t.Error(err)
					} else if redeemed {
						won.Add(1)
					}
				})
			}
			racing.Wait()
			if won.Load() != 1 {
				t.Errorf("%d won", won.Load())
			}
		}
		if n := w.Int(t, `SELECT count(*) FROM sessions`); n != 5 {
			t.Errorf("%d sessions", n)
		}
	})
}

// Whatever ends a login, a user or a consent, and however it races the redemption of a code: no session of it lives on, and a client that
// got tokens is told of the end of the login.
func TestRedemptionsRaceEnds(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		const rounds = 75
		other := w.Open(t)
		c := w.addClient(t, "app")
		ends := map[string]func(u users.User, n logins.NewLogin) error{
			"log-out": func(_ users.User, n logins.NewLogin) error {
				_, err := w.EndLogin(t.Context(), n.ID, newEvent(audit.Logout))
				return err
			},
			"disabled": func(u users.User, _ logins.NewLogin) error {
				_, err := w.ChangeUser(t.Context(), u.ID, users.Changes{Disabled: new(true)}, []audit.Event{newEvent(audit.UserDisabled)})
				return err
			},
			"deleted": func(u users.User, _ logins.NewLogin) error {
				return w.DeleteUser(t.Context(), u.ID, newEvent(audit.UserDeleted))
			},
			"consent withdrawn": func(u users.User, _ logins.NewLogin) error {
				_, err := w.WithdrawConsent(t.Context(), u.ID, c.ID, newEvent(audit.ConsentWithdrawn))
				return err
			},
			"expired": func(_ users.User, n logins.NewLogin) error {
				w.Exec(t, `UPDATE authorization_codes SET expires_at = expires_at - `+map[bool]string{true: "60000000", false: "interval '1 minute'"}[w.Name == "sqlite"]+` WHERE login_id = $1`, n.ID.String())
				return nil
			},
		}
		for what, end := range ends {
			redeemed := 0
			for i := range rounds {
				u := w.addUser(t, fmt.Sprint(what, i))
				n, _ := w.logIn(t, u)
				w.Exec(t, map[bool]string{
					true:  `INSERT INTO consents (user_id, client_id, client_epoch, redirects, scope, audience, granted_at) VALUES ($1, 'app', $2, x'00', '["openid","read"]', '["https://api.example.com"]', 0)`,
					false: `INSERT INTO consents (user_id, client_id, client_epoch, redirects, scope, audience) VALUES ($1, 'app', $2, '', '{openid,read}', '{https://api.example.com}')`,
				}[w.Name == "sqlite"], u.ID, c.Epoch)
				r := w.grantOf(t, c, n.Ref)
				w.Exec(t, `UPDATE authorization_codes SET consented = TRUE`)
				var racing sync.WaitGroup
				var won bool
				racing.Go(func() {
					time.Sleep(time.Duration(i%5) * 200 * time.Microsecond)
					_, ok, err := other.RedeemCode(t.Context(), r, newEvent(audit.SessionCreated))
					if err != nil {
						t.Error(err)
					}
					won = ok
				})
				err := end(u, n)
				racing.Wait()
				check(t, err)
				if what == "expired" {
					continue // whichever came first
				}
				st, known, err := w.SessionState(t.Context(), tokens.Use{Session: r.Session, SecretDigest: r.SessionDigest}, 0)
				if check(t, err); known != won || st.Live {
					t.Fatalf("%s, round %d: redeemed %v, the session is there %v and lives %v", what, i, won, known, st.Live)
				}
				told := w.Int(t, `SELECT count(*) FROM logout_notices WHERE login_id = $1`, n.ID.String())
				if want := won && what != "consent withdrawn"; (told == 1) != want {
					t.Fatalf("%s, round %d: redeemed %v, told %d", what, i, won, told)
				}
				if won {
					redeemed++
				}
			}
			t.Logf("%s: %d of %d redemptions came first", what, redeemed, rounds)
		}
	})
}

// What is due to be told is given to one replica at a time, and again later and later, for a day.
func TestNotices(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		other := w.Open(t)
		u := w.addUser(t, "ann")
		var want []string
		for _, id := range []string{"one", "two", "silent"} {
			c := w.addClient(t, id)
			if id != "silent" {
				want = append(want, id)
				continue
			}
			c.BackchannelLogoutURI = ""
			_, _, err := w.UpdateClient(t.Context(), c, newEvent(audit.ClientUpdated), newEvent(audit.ClientEnabled))
			check(t, err)
		}
		n, _ := w.logIn(t, u)
		for _, id := range []string{"one", "two", "silent", "one"} {
			c := ok[clients.Client](t)(w.Client(t.Context(), id))
			r := w.grantOf(t, c, n.Ref)
			ok2(t)(w.RedeemCode(t.Context(), r, newEvent(audit.SessionCreated)))
		}
		if due := ok[[]tokens.Notice](t)(w.DueNotices(t.Context(), 10)); len(due) > 0 {
			t.Errorf("before the log-out: %v", due)
		}
		waiting := func(want int64, least time.Duration) {
			t.Helper()
			n, oldest, err := w.WaitingNotices(t.Context())
			check(t, err)
			if n != want || oldest < least || oldest > least+time.Minute {
				t.Errorf("%d wait, the oldest for %s; want %d, %s", n, oldest, want, least)
			}
		}
		waiting(0, 0)
		ok[bool](t)(w.EndLogin(t.Context(), n.ID, newEvent(audit.Logout)))
		waiting(2, 0)
		var mu sync.Mutex
		var got []string
		var racing sync.WaitGroup
		for i := range 10 {
			racing.Go(func() {
				due, err := []storage.Store{w.Store, other}[i%2].DueNotices(t.Context(), 10)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, d := range due {
					if got = append(got, d.ClientID); d.UserID != u.ID || d.LoginID != n.ID.String() || d.Attempts != 1 {
						t.Errorf("%+v", d)
					}
				}
			})
		}
		racing.Wait()
		slices.Sort(got)
		equal(t, "told", got, want)
		for attempt, pause := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second} {
			w.Age(t, pause-3*time.Second)
			if due := ok[[]tokens.Notice](t)(w.DueNotices(t.Context(), 10)); len(due) > 0 {
				t.Errorf("too early: %+v", due)
			}
			w.Age(t, 4*time.Second)
			due := ok[[]tokens.Notice](t)(w.DueNotices(t.Context(), 10))
			if len(due) != 2-min(attempt, 1) || due[0].Attempts != attempt+2 {
				t.Errorf("attempt %d: %+v", attempt+2, due)
			}
			if attempt == 0 {
				check(t, w.DeleteNotice(t.Context(), due[0]))
			}
		}
		waiting(1, 70*time.Second)
		w.Age(t, tokens.NoticeTTL)
		waiting(0, 0)
		if due := ok[[]tokens.Notice](t)(w.DueNotices(t.Context(), 10)); len(due) > 0 {
			t.Errorf("after a day: %+v", due)
		}
		ok[int64](t)(w.DeleteEndedLogins(t.Context()))
		if n := w.Int(t, `SELECT count(*) FROM logout_notices`); n != 0 {
			t.Errorf("%d are left", n)
		}
	})
}

// A verified address is one user's, whatever the letters; a profile is not overwritten by who did not know of it.
func TestProfiles(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ann, bob := w.addUser(t, "ann"), w.addUser(t, "bob")
		set := func(u users.User, old, p users.Profile) error {
			_, err := w.ChangeUser(t.Context(), u.ID, users.Changes{Profile: &p, OldProfile: &old}, []audit.Event{newEvent(audit.UserUpdated)})
			return err
		}
		p := users.Profile{Email: "Ann@Example.com", EmailVerified: true, Groups: []string{"staff"}}
		check(t, set(ann, users.Profile{}, p))
		got := ok[users.User](t)(w.User(t.Context(), ann.ID))
		recent(t, "updated_at", got.UpdatedAt)
		got.UpdatedAt = time.Time{}
		equal(t, "profile", got.Profile, p)
		if err := set(ann, users.Profile{}, users.Profile{Name: "Ann"}); !errors.Is(err, users.ErrProfileChanged) {
			t.Errorf("by who did not know of it: %v", err)
		}
		if err := set(bob, users.Profile{}, users.Profile{Email: "ann@example.COM", EmailVerified: true}); !errors.Is(err, users.ErrEmailTaken) {
			t.Errorf("the same address: %v", err)
		}
		check(t, set(bob, users.Profile{}, users.Profile{Email: "ann@example.com"})) // not verified, it is no way in
		check(t, set(ann, p, users.Profile{Email: "new@example.com"}))
		check(t, set(bob, users.Profile{Email: "ann@example.com"}, users.Profile{Email: "ann@example.com", EmailVerified: true}))
	})
}
