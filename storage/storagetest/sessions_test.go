package storagetest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"signet/audit"
	"signet/clients"
	"signet/logins"
	"signet/storage"
	"signet/tokens"
	"signet/users"
)

// condition is one of the things that each alone end a session, brought about without any of the others.
type condition func(t *testing.T, w *world, n tokens.NewSession)

func statement(sql string, arg func(n tokens.NewSession) string) condition {
	return func(t *testing.T, w *world, n tokens.NewSession) {
		t.Helper()
		w.Exec(t, sql, arg(n))
	}
}

func ofUser(n tokens.NewSession) string    { return n.UserID }
func ofClient(n tokens.NewSession) string  { return n.ClientID }
func ofSession(n tokens.NewSession) string { return n.ID.String() }

var (
	userDisabled   = statement(`UPDATE users SET disabled = TRUE WHERE id = $1`, ofUser)
	userEpoch      = statement(`UPDATE users SET epoch = epoch + 1 WHERE id = $1`, ofUser)
	userDeleted    = statement(`DELETE FROM users WHERE id = $1`, ofUser)
	clientDisabled = statement(`UPDATE clients SET disabled = TRUE WHERE id = $1`, ofClient)
	clientEpoch    = statement(`UPDATE clients SET epoch = epoch + 1 WHERE id = $1`, ofClient)
	clientDeleted  = statement(`DELETE FROM clients WHERE id = $1`, ofClient)
	absoluteEnd    = statement(`UPDATE sessions SET expires_at = created_at WHERE id = $1`, ofSession)
	idleEnd        = statement(`UPDATE sessions SET idle_expires_at = created_at WHERE id = $1`, ofSession)
)

func sessionRevoked(t *testing.T, w *world, n tokens.NewSession) {
	t.Helper()
	if !ok[bool](t)(w.RevokeSession(t.Context(), n.ID, "", "for a test", newEvent(audit.SessionRevoked))) {
		t.Error("the session was not there to be revoked")
	}
}

// endings are all the ways in which a session ends.
var endings = map[string]condition{
	"revoked": sessionRevoked, "absolute end": absoluteEnd,
	"user disabled": userDisabled, "user in another epoch": userEpoch, "user deleted": userDeleted,
	"client disabled": clientDisabled, "client in another epoch": clientEpoch, "client deleted": clientDeleted,
}

func TestSessionCreate(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c, u := w.addClient(t, "one"), w.addUser(t, "ann")
		n := newSession(c, u)
		e := newEvent(audit.SessionCreated)
		var g tokens.Grant
		w.writes(t, func() { g = ok[tokens.Grant](t)(w.CreateSession(t.Context(), n, e)) }, e)
		recent(t, "now", g.Now)
		want := tokens.Grant{UserID: u.ID, Scope: n.Scope, Audience: n.Audience, Now: g.Now, End: g.Now.Add(n.TTL)}
		equal(t, "grant", g, want)
		st := w.state(t, use(n, 0), time.Minute)
		want.Now = st.Now
		equal(t, "state", st, tokens.State{
			Grant: want, ClientID: "one", Genuine: true, Live: true, InWindow: true, Username: "ann",
			LastUsedAt: g.Now, IdleEnd: g.Now.Add(n.IdleTTL), Address: n.Address, UserAgent: n.UserAgent,
		})
	})
}

func TestSessionCreateRefused(t *testing.T) {
	cases := map[string]func(t *testing.T, w *world, n *tokens.NewSession){
		"other user":           func(_ *testing.T, _ *world, n *tokens.NewSession) { n.UserID = uuid.NewString() },
		"other client":         func(_ *testing.T, _ *world, n *tokens.NewSession) { n.ClientID = "two" },
		"earlier user epoch":   func(_ *testing.T, _ *world, n *tokens.NewSession) { n.UserEpoch-- },
		"earlier client epoch": func(_ *testing.T, _ *world, n *tokens.NewSession) { n.ClientEpoch-- },
		"user disabled and enabled": func(t *testing.T, w *world, n *tokens.NewSession) {
			for _, disabled := range []bool{true, false} {
				_, err := w.ChangeUser(t.Context(), n.UserID, users.Changes{Disabled: new(disabled)}, []audit.Event{newEvent(audit.UserDisabled)})
				check(t, err)
			}
		},
		"client disabled and enabled": func(t *testing.T, w *world, n *tokens.NewSession) {
			for _, disabled := range []bool{true, false} {
				_, err := w.SetClientDisabled(t.Context(), n.ClientID, disabled, newEvent(audit.ClientDisabled))
				check(t, err)
			}
		},
	}
	cases["user with a second factor"] = func(t *testing.T, w *world, n *tokens.NewSession) {
		w.addFactor(t, users.User{ID: n.UserID, Epoch: n.UserEpoch, Username: "ann"}, logins.Passkey)
	}
	for _, name := range []string{
		"user disabled", "user in another epoch", "user deleted", "client disabled", "client in another epoch", "client deleted",
	} {
		cases[name] = func(t *testing.T, w *world, n *tokens.NewSession) { endings[name](t, w, *n) }
	}
	each(t, func(t *testing.T, w *world) {
		for name, change := range cases {
			t.Run(name, func(t *testing.T) {
				n := newSession(w.addClient(t, name), w.addUser(t, name))
				change(t, w, &n)
				w.writes(t, func() {
					if _, err := w.CreateSession(t.Context(), n, newEvent(audit.SessionCreated)); !errors.Is(err, tokens.ErrInvalidGrant) {
						t.Errorf("%v", err)
					}
				})
			})
		}
		if n := w.Int(t, `SELECT count(*) FROM sessions`); n != 0 {
			t.Errorf("%d sessions were made", n)
		}
	})
}

func TestRotate(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		n := w.addSession(t, w.addClient(t, "one"), w.addUser(t, "ann"))
		created := w.state(t, use(n, 0), 0)
		w.Age(t, time.Hour)
		for name, change := range map[string]func(u *tokens.Use){
			"plain":             func(*tokens.Use) {},
			"less scope":        func(u *tokens.Use) { u.Scope = clients.Scope{"write"} },
			"no scope":          func(u *tokens.Use) { u.Scope = clients.Scope{} },
			"all scope":         func(u *tokens.Use) { u.Scope = clients.Scope{`odd'{},\`, "write", "read"} },
			"less audience":     func(u *tokens.Use) { u.Audience = []string{"https://b.example"} },
			"catching up":       func(u *tokens.Use) { u.To += 7 },
			"not repeatable":    func(u *tokens.Use) { u.Repeatable = false },
			"another idle time": func(u *tokens.Use) { u.IdleTTL = time.Hour },
		} {
			t.Run(name, func(t *testing.T) {
				before := w.state(t, use(n, 0), 0)
				u := use(n, before.Sequence)
				u.UserAgent = name
				change(&u)
				var g tokens.Grant
				w.writes(t, func() {
					var rotated bool
					var err error
					if g, rotated, err = w.Rotate(t.Context(), u, nil); err != nil || !rotated {
						t.Fatalf("%t, %v", rotated, err)
					}
				})
				recent(t, "now", g.Now)
				want := tokens.Grant{UserID: n.UserID, Scope: n.Scope, Audience: n.Audience, Now: g.Now, End: created.End.Add(-time.Hour)}
				equal(t, "grant", g, want)
				st := w.state(t, u, time.Minute)
				want.Now = st.Now
				equal(t, "state", st, tokens.State{
					Grant: want, ClientID: "one", Genuine: true, Live: true, InWindow: true, Username: "ann", Sequence: u.To,
					LastUsedAt: g.Now, IdleEnd: g.Now.Add(u.IdleTTL), Address: u.Address, UserAgent: name,
				})
			})
		}
	})
}

// Each condition of a rotation refuses it alone, and a refused one leaves no trace.
func TestRotateRefused(t *testing.T) {
	type refusal struct {
		end    condition
		change func(u *tokens.Use)
	}
	cases := map[string]refusal{
		"idle for too long": {end: idleEnd},
		"other session":     {change: func(u *tokens.Use) { u.Session = uuid.New() }},
		"other client":      {change: func(u *tokens.Use) { u.ClientID = "another" }},
		"other secret":      {change: func(u *tokens.Use) { u.SecretDigest = digest("guessed") }},
		"earlier sequence":  {change: func(u *tokens.Use) { u.From, u.To = 0, 1 }},
		"later sequence":    {change: func(u *tokens.Use) { u.From, u.To = 2, 3 }},
		"more scope":        {change: func(u *tokens.Use) { u.Scope = clients.Scope{"read", "admin"} }},
		"other scope":       {change: func(u *tokens.Use) { u.Scope = clients.Scope{"Read"} }},
		"more audience":     {change: func(u *tokens.Use) { u.Audience = []string{"https://a.example", "https://c.example"} }},
	}
	for name, end := range endings {
		cases[name] = refusal{end: end}
	}
	each(t, func(t *testing.T, w *world) {
		w.addClient(t, "another")
		for name, c := range cases {
			t.Run(name, func(t *testing.T) {
				n := w.addSession(t, w.addClient(t, name), w.addUser(t, name))
				if !w.rotate(t, use(n, 0)) {
					t.Fatal("a good rotation was refused")
				}
				if c.end != nil {
					c.end(t, w, n)
				}
				u := use(n, 1)
				u.Address, u.UserAgent, u.IdleTTL = "203.0.113.9", "thief", 50*time.Hour
				if c.change != nil {
					c.change(&u)
				}
				before := w.state(t, use(n, 1), time.Hour)
				w.writes(t, func() {
					for _, e := range []*audit.Event{nil, new(newEvent(audit.RefreshTokenCaughtUp))} {
						if _, rotated, err := w.Rotate(t.Context(), u, e); rotated || err != nil {
							t.Errorf("%t, %v", rotated, err)
						}
					}
				})
				after := w.state(t, use(n, 1), time.Hour)
				after.Now = before.Now
				equal(t, "state", after, before)
			})
		}
	})
}

func TestRotateWithEvent(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		n := w.addSession(t, w.addClient(t, "one"), w.addUser(t, "ann"))
		e := newEvent(audit.RefreshTokenCaughtUp)
		w.writes(t, func() {
			if _, rotated, err := w.Rotate(t.Context(), use(n, 0), &e); !rotated || err != nil {
				t.Fatalf("%t, %v", rotated, err)
			}
		}, e)
	})
}

func TestSessionState(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for name, end := range endings {
			t.Run(name, func(t *testing.T) {
				n := w.addSession(t, w.addClient(t, name), w.addUser(t, name))
				if !w.state(t, use(n, 0), 0).Live {
					t.Error("not live before")
				}
				end(t, w, n)
				st := w.state(t, use(n, 0), 0)
				wantName := name
				if name == "user deleted" {
					wantName = ""
				}
				if st.Live || !st.Genuine || st.ClientID != name || st.Username != wantName || st.UserID != n.UserID {
					t.Errorf("%+v", st)
				}
			})
		}
		n := w.addSession(t, w.addClient(t, "one"), w.addUser(t, "ann"))
		idleEnd(t, w, n)
		if st := w.state(t, use(n, 0), 0); !st.Live || st.Now.Before(st.IdleEnd) {
			t.Errorf("idle for too long: %+v", st) // its access tokens are good until they expire
		}
		guessed := use(n, 0)
		guessed.SecretDigest = digest("guessed")
		if w.state(t, guessed, 0).Genuine {
			t.Error("a guessed secret is genuine")
		}
		if _, known, err := w.SessionState(t.Context(), use(newSession(clients.Client{}, users.User{}), 0), time.Hour); known || err != nil {
			t.Errorf("unknown: %t, %v", known, err)
		}
	})
}

func TestRetryWindow(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		n := w.addSession(t, w.addClient(t, "one"), w.addUser(t, "ann"))
		w.rotate(t, use(n, 0))
		for _, step := range []struct {
			age    time.Duration
			window time.Duration
			want   bool
		}{
			{0, 30 * time.Second, true}, {0, 0, false},
			{15 * time.Second, 30 * time.Second, true}, {0, 15 * time.Second, false},
			{15 * time.Second, 30 * time.Second, false}, {0, 0, false},
		} {
			w.Age(t, step.age)
			if got := w.state(t, use(n, 0), step.window).InWindow; got != step.want {
				t.Errorf("after %s more, window %s: %t", step.age, step.window, got)
			}
		}
	})
}

// Of many uses of one token at the same time one is good.
func TestRotateAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		stores := w.pair(t)
		n := w.addSession(t, w.addClient(t, "one"), w.addUser(t, "ann"))
		before := w.eventCount(t)
		for sequence := range int64(5) {
			rotated := atOnce(t, 64, func(i int) (bool, error) {
				e := newEvent(audit.RefreshTokenCaughtUp)
				_, rotated, err := stores[i%2].Rotate(t.Context(), use(n, sequence), &e)
				return rotated, err
			})
			if rotated != 1 {
				t.Errorf("%d rotated", rotated)
			}
			if st := w.state(t, use(n, 0), 0); st.Sequence != sequence+1 {
				t.Errorf("sequence %d after %d", st.Sequence, sequence)
			}
		}
		if events := w.eventCount(t) - before; events != 5 {
			t.Errorf("%d events", events)
		}
	})
}

// A session that is revoked while its tokens are being used is not usable afterwards: no use that begins when the
// revocation was answered is good.
func TestRevocationAmongRotations(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		stores := w.pair(t)
		c, u := w.addClient(t, "one"), w.addUser(t, "ann")
		races := 100
		if w.Name == "sqlite" { // which takes one use at a time: there is less to race for
			races = 50
		}
		for race := range races {
			n := w.addSession(t, c, u)
			at := accessToken(n)
			var revoked atomic.Bool
			atOnce(t, 33, func(i int) (bool, error) {
				if i == race%33 {
					done, err := stores[race%2].RevokeSession(t.Context(), n.ID, "", "for a test", newEvent(audit.SessionRevoked))
					revoked.Store(true)
					if !done && err == nil {
						t.Error("not revoked")
					}
					return done, err
				}
				// Whoever wins goes on for a while, for the revocation to come in between.
				for sequence := range int64(5) {
					late := revoked.Load()
					_, rotated, err := stores[i%2].Rotate(t.Context(), use(n, sequence), nil)
					if rotated && late {
						t.Error("a rotation that began after the revocation was good")
					}
					if !rotated || err != nil {
						return rotated, err
					}
				}
				return true, nil
			})
			st := w.state(t, use(n, 0), time.Minute)
			if st.Live || w.rotate(t, use(n, st.Sequence)) || w.active(t, at) {
				t.Fatalf("race %d: usable after the revocation: %+v", race, st)
			}
		}
	})
}

func TestRevokeReused(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		const minute = time.Minute
		for _, c := range []struct {
			name   string
			change func(u *tokens.Use)
			from   int64
			age    time.Duration
			window time.Duration
			want   bool
		}{
			{name: "current", from: 3, window: minute},
			{name: "current, used long ago", from: 3, age: time.Hour, window: minute},
			{name: "ahead", from: 4, window: minute},
			{name: "last used, within the window", from: 2, window: minute},
			{name: "last used, after the window", from: 2, age: minute, window: minute, want: true},
			{name: "last used, without a window", from: 2, want: true},
			{name: "used before, within the window", from: 1, window: minute, want: true},
			{name: "used before, after the window", from: 0, age: time.Hour, window: minute, want: true},
			{name: "used before, without a window", from: 0, want: true},
			{name: "other client", change: func(u *tokens.Use) { u.ClientID = "another" }},
			{name: "other secret", change: func(u *tokens.Use) { u.SecretDigest = digest("guessed") }},
			{name: "other session", change: func(u *tokens.Use) { u.Session = uuid.New() }},
		} {
			t.Run(c.name, func(t *testing.T) {
				n := w.addSession(t, w.addClient(t, c.name), w.addUser(t, c.name))
				for sequence := range int64(3) {
					w.rotate(t, use(n, sequence))
				}
				w.Age(t, c.age)
				u := use(n, c.from)
				if c.change != nil {
					c.change(&u)
				}
				e := newEvent(audit.RefreshTokenReused)
				var events []audit.Event
				if c.want {
					events = []audit.Event{e}
				}
				w.writes(t, func() {
					if got := ok[bool](t)(w.RevokeReused(t.Context(), u, c.window, e)); got != c.want {
						t.Errorf("revoked: %t", got)
					}
				}, events...)
				if w.rotate(t, use(n, 3)) == c.want {
					t.Errorf("afterwards the current token is good: %t", !c.want)
				}
				if c.want {
					w.writes(t, func() {
						if ok[bool](t)(w.RevokeReused(t.Context(), u, c.window, newEvent(audit.RefreshTokenReused))) {
							t.Error("revoked twice")
						}
					})
				}
			})
		}
	})
}

func TestRevokeSession(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		stores := w.pair(t)
		conditions := map[string]condition{"live": func(*testing.T, *world, tokens.NewSession) {}, "idle for too long": idleEnd}
		for name, end := range endings {
			if name != "revoked" {
				conditions[name] = end
			}
		}
		for name, bring := range conditions {
			t.Run(name, func(t *testing.T) {
				n := w.addSession(t, w.addClient(t, name), w.addUser(t, name))
				bring(t, w, n)
				e := newEvent(audit.SessionRevoked)
				written := e
				written.ClientID, written.UserID, written.SessionID = n.ClientID, n.UserID, n.ID.String()
				w.writes(t, func() {
					if !ok[bool](t)(w.RevokeSession(t.Context(), n.ID, "", "for a test", e)) {
						t.Error("not revoked")
					}
				}, written)
				w.writes(t, func() {
					if ok[bool](t)(w.RevokeSession(t.Context(), n.ID, "", "for a test", newEvent(audit.SessionRevoked))) {
						t.Error("revoked twice")
					}
				})
			})
		}
		w.writes(t, func() {
			if ok[bool](t)(w.RevokeSession(t.Context(), uuid.New(), "", "for a test", newEvent(audit.SessionRevoked))) {
				t.Error("an unknown one was revoked")
			}
		})
		n := w.addSession(t, w.addClient(t, "one"), w.addUser(t, "ann"))
		before := w.eventCount(t)
		revoked := atOnce(t, 16, func(i int) (bool, error) {
			return stores[i%2].RevokeSession(t.Context(), n.ID, "", "for a test", newEvent(audit.SessionRevoked))
		})
		if events := w.eventCount(t) - before; revoked != 1 || events != 1 {
			t.Errorf("revoked %d times at once, with %d events", revoked, events)
		}
	})
}

func TestSessionList(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		cs := []clients.Client{w.addClient(t, "one"), w.addClient(t, "two")}
		us := []users.User{w.addUser(t, "Ann"), w.addUser(t, "Bob")}
		var sessions []tokens.NewSession
		for i := range 20 {
			sessions = append(sessions, w.addSession(t, cs[i%2], us[i/2%2]))
		}
		// Those that began at the same moment have an order all the same.
		for i := range 8 {
			w.Exec(t, `UPDATE sessions SET created_at = (SELECT created_at FROM sessions WHERE id = $1) WHERE id = $2`,
				sessions[7].ID.String(), sessions[i].ID.String())
		}
		slices.SortFunc(sessions[:8], func(a, b tokens.NewSession) int { return slices.Compare(a.ID[:], b.ID[:]) })
		slices.Reverse(sessions)
		// Those that have ended are not listed, whichever way they did.
		for name, end := range endings {
			end(t, w, w.addSession(t, w.addClient(t, name), w.addUser(t, name)))
		}
		idleEnd(t, w, w.addSession(t, cs[0], us[0]))

		for name, c := range map[string]struct {
			filter tokens.Filter
			keep   func(n tokens.NewSession) bool
		}{
			"everything": {tokens.Filter{}, func(tokens.NewSession) bool { return true }},
			"user":       {tokens.Filter{UserID: us[0].ID}, func(n tokens.NewSession) bool { return n.UserID == us[0].ID }},
			"client":     {tokens.Filter{ClientID: "two"}, func(n tokens.NewSession) bool { return n.ClientID == "two" }},
			"both": {tokens.Filter{UserID: us[1].ID, ClientID: "one"},
				func(n tokens.NewSession) bool { return n.UserID == us[1].ID && n.ClientID == "one" }},
			"unknown user":   {tokens.Filter{UserID: uuid.NewString()}, func(tokens.NewSession) bool { return false }},
			"unknown client": {tokens.Filter{ClientID: "three"}, func(tokens.NewSession) bool { return false }},
		} {
			t.Run(name, func(t *testing.T) {
				var want, got []string
				for _, n := range sessions {
					if c.keep(n) {
						want = append(want, n.ID.String())
					}
				}
				f := c.filter
				for f.Limit = 3; len(got) <= len(want); {
					page := ok[[]tokens.Session](t)(w.Sessions(t.Context(), f))
					if len(page) == 0 {
						break
					}
					f.After = page[len(page)-1].Place()
					if len(page) > f.Limit {
						t.Fatalf("%d on a page", len(page))
					}
					for _, s := range page {
						got = append(got, s.ID)
					}
				}
				equal(t, "ids", got, want)
			})
		}

		n := sessions[0]
		w.Age(t, time.Hour)
		w.rotate(t, use(n, 0))
		st := w.state(t, use(n, 0), 0)
		name := "Ann"
		if n.UserID == us[1].ID {
			name = "Bob"
		}
		got := ok[[]tokens.Session](t)(w.Sessions(t.Context(), tokens.Filter{Limit: 1}))[0]
		equal(t, "session", got, tokens.Session{
			ID: n.ID.String(), ClientID: n.ClientID, UserID: n.UserID, Username: name, Scope: n.Scope.String(),
			CreatedAt: st.End.Add(-n.TTL), LastUsedAt: st.LastUsedAt, ExpiresAt: st.IdleEnd, Address: "192.0.2.8", UserAgent: "another browser",
		})
		u := use(n, 1)
		u.IdleTTL = 1000 * time.Hour
		w.rotate(t, u)
		got = ok[[]tokens.Session](t)(w.Sessions(t.Context(), tokens.Filter{Limit: 1}))[0]
		if !got.ExpiresAt.Equal(st.End) {
			t.Errorf("expires at %s, want the absolute end %s", got.ExpiresAt, st.End)
		}
	})
}

// Whoever reads page by page sees each session once that lives all the while, whichever begin and end meanwhile.
func TestSessionListPaging(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c, u := w.addClient(t, "one"), w.addUser(t, "Ann")
		var want, got []string
		for range 20 {
			want = append([]string{w.addSession(t, c, u).ID.String()}, want...)
		}
		for f := (tokens.Filter{Limit: 3, UserID: u.ID}); len(got) <= len(want); {
			page := ok[[]tokens.Session](t)(w.Sessions(t.Context(), f))
			if len(page) == 0 {
				break
			}
			for _, s := range page {
				got = append(got, s.ID)
			}
			last := page[len(page)-1]
			w.Exec(t, `DELETE FROM sessions WHERE id = $1`, last.ID)
			w.addSession(t, c, u)
			f.After = last.Place()
		}
		equal(t, "ids", got, want)
	})
}

// The conditions under which an access token is not active are independent: it is active only without any of them.
func TestAccessTokenConditions(t *testing.T) {
	of := []condition{sessionRevoked, userEpoch, userDisabled, userDeleted, clientDisabled, clientDeleted}
	each(t, func(t *testing.T, w *world) {
		for combination := range 1 << (len(of) + 1) {
			name := fmt.Sprintf("%07b", combination)
			n := w.addSession(t, w.addClient(t, name), w.addUser(t, "Ann "+name))
			at, sibling := accessToken(n), accessToken(n)
			if combination&1 != 0 {
				w.revoke(t, w.Store, at, true)
			}
			for i, bring := range of {
				if combination>>(i+1)&1 != 0 {
					bring(t, w, n)
				}
			}
			username, active, err := w.AccessTokenActive(t.Context(), at)
			check(t, err)
			if active != (combination == 0) {
				t.Errorf("%s: active %t", name, active)
			}
			if want := "Ann " + name; active && username != want {
				t.Errorf("%s: username %q", name, username)
			}
			if w.active(t, sibling) != (combination <= 1) {
				t.Errorf("%s: the session's other token is active: %t", name, combination > 1)
			}
			if combination != 0 {
				w.revoke(t, w.Store, at, false)
			}
		}
	})
}

// revoke revokes the access token and checks whether that was answered as wanted and recorded if it was.
func (w *world) revoke(t *testing.T, s storage.Store, at tokens.AccessToken, want bool) {
	t.Helper()
	e := newEvent(audit.AccessTokenRevoked)
	var events []audit.Event
	if want {
		events = []audit.Event{e}
	}
	w.writes(t, func() {
		t.Helper()
		if got := ok[bool](t)(s.RevokeAccessToken(t.Context(), at, e)); got != want {
			t.Errorf("revoked: %t", got)
		}
	}, events...)
}

func TestAccessTokenInactive(t *testing.T) {
	type refusal struct {
		bring  condition
		change func(at *tokens.AccessToken)
	}
	cases := map[string]refusal{
		"expired":       {change: func(at *tokens.AccessToken) { at.ExpiresAt = time.Now().Add(-2 * time.Second) }},
		"other client":  {change: func(at *tokens.AccessToken) { at.ClientID = "another" }},
		"other user":    {change: func(at *tokens.AccessToken) { at.UserID = uuid.NewString() }},
		"other session": {change: func(at *tokens.AccessToken) { at.SessionID = uuid.New() }},
	}
	for name, end := range endings {
		cases[name] = refusal{bring: end}
	}
	each(t, func(t *testing.T, w *world) {
		w.addClient(t, "another")
		for name, c := range cases {
			t.Run(name, func(t *testing.T) {
				n := w.addSession(t, w.addClient(t, name), w.addUser(t, name))
				at := accessToken(n)
				if !w.active(t, at) {
					t.Error("not active before")
				}
				if c.bring != nil {
					c.bring(t, w, n)
				}
				if c.change != nil {
					c.change(&at)
				}
				if w.active(t, at) {
					t.Error("active")
				}
				w.revoke(t, w.Store, at, false)
			})
		}
		t.Run("idle for too long", func(t *testing.T) {
			n := w.addSession(t, w.addClient(t, "idle"), w.addUser(t, "idle"))
			idleEnd(t, w, n)
			if !w.active(t, accessToken(n)) {
				t.Error("an access token outlives the idle time of its session, until it expires")
			}
		})
	})
}

func TestClientToken(t *testing.T) {
	of := []func(t *testing.T, w *world, n tokens.NewSession){clientEpoch, clientDisabled, clientDeleted}
	each(t, func(t *testing.T, w *world) {
		for combination := range 1 << (len(of) + 2) {
			name := fmt.Sprintf("%05b", combination)
			c := w.addClient(t, name)
			at := clientToken(c)
			if combination&1 != 0 {
				w.revoke(t, w.Store, at, true)
			}
			if combination&2 != 0 {
				at.ExpiresAt = time.Now().Add(-2 * time.Second)
			}
			for i, bring := range of {
				if combination>>(i+2)&1 != 0 {
					bring(t, w, tokens.NewSession{ClientID: c.ID})
				}
			}
			username, active, err := w.AccessTokenActive(t.Context(), at)
			if err != nil || active != (combination == 0) || username != "" {
				t.Errorf("%s: active %t, username %q, %v", name, active, username, err)
			}
			if combination != 0 {
				w.revoke(t, w.Store, at, false)
			}
		}
		// A client registered again under an old id does not bring the old one's tokens back.
		c := w.addClient(t, "again")
		at := clientToken(c)
		check(t, w.DeleteClient(t.Context(), c.ID, newEvent(audit.ClientDeleted)))
		c.Epoch++
		_, err := w.CreateClient(t.Context(), c, newEvent(audit.ClientCreated))
		check(t, err)
		if w.active(t, at) {
			t.Error("the token of a deleted client is active")
		}
	})
}

func TestRevokeAccessToken(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.addClient(t, "one")
		n := w.addSession(t, c, w.addUser(t, "ann"))
		stores := w.pair(t)
		for name, make := range map[string]func() tokens.AccessToken{
			"of a session": func() tokens.AccessToken { return accessToken(n) },
			"of a client":  func() tokens.AccessToken { return clientToken(c) },
		} {
			t.Run(name, func(t *testing.T) {
				at := make()
				w.revoke(t, w.Store, at, true)
				if w.active(t, at) {
					t.Error("active")
				}
				w.revoke(t, stores[1], at, false)
				if !w.active(t, make()) {
					t.Error("another token is not active")
				}
				at = make()
				before := w.eventCount(t)
				revoked := atOnce(t, 16, func(i int) (bool, error) {
					return stores[i%2].RevokeAccessToken(t.Context(), at, newEvent(audit.AccessTokenRevoked))
				})
				if events := w.eventCount(t) - before; revoked != 1 || events != 1 {
					t.Errorf("revoked %d times at once, with %d events", revoked, events)
				}
			})
		}
		if !w.rotate(t, use(n, 0)) {
			t.Error("the session ended with its access token")
		}
	})
}

// A request that has gone away is not served.
func TestCancelled(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		n := w.addSession(t, w.addClient(t, "one"), w.addUser(t, "ann"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, rotated, err := w.Rotate(ctx, use(n, 0), nil); rotated || !errors.Is(err, context.Canceled) {
			t.Errorf("rotated %t, %v", rotated, err)
		}
		if !w.rotate(t, use(n, 0)) {
			t.Error("the token was used up by a request that had gone away")
		}
	})
}
