package storagetest_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"signet/audit"
	"signet/users"
)

func TestUserCreate(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		want := newUser("Ann")
		want.Admin = true
		e := newEvent(audit.UserCreated)
		w.writes(t, func() {
			got := ok[users.User](t)(w.CreateUser(t.Context(), want, users.Canonical("Ann"), e))
			recent(t, "the time of creation", got.CreatedAt)
			want.CreatedAt = got.CreatedAt
			equal(t, "created", got, want)
		}, e)
		for _, name := range []string{"Ann", "ANN", "ann"} {
			w.writes(t, func() {
				if _, err := w.CreateUser(t.Context(), newUser(name), users.Canonical(name), newEvent(audit.UserCreated)); !errors.Is(err, users.ErrExists) {
					t.Errorf("%s again: %v", name, err)
				}
			})
		}
		equal(t, "by name", ok[users.User](t)(w.User(t.Context(), "ann")), want)
		equal(t, "by id", ok[users.User](t)(w.User(t.Context(), want.ID)), want)
	})
}

// Somebody may choose another user's id for a name; whoever is asked for by the id is the one who has it.
func TestUserIDIsPreferred(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ann := w.addUser(t, "ann")
		w.addUser(t, ann.ID)
		equal(t, "by id", ok[users.User](t)(w.User(t.Context(), ann.ID)), ann)
		other := w.addUser(t, uuid.NewString())
		equal(t, "a name that looks like an id", ok[users.User](t)(w.User(t.Context(), other.Username)), other)
	})
}

func TestUserUnknown(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.addUser(t, "ann")
		for _, id := range []string{"bob", uuid.NewString(), "", "%", "Ann"} {
			if _, err := w.User(t.Context(), id); !errors.Is(err, users.ErrNotFound) {
				t.Errorf("%q: %v", id, err)
			}
		}
		id := uuid.NewString()
		w.writes(t, func() {
			check(t, w.Rehash(t.Context(), id, "old", "new"))
			for name, do := range map[string]func() error{
				"password": func() error {
					_, err := w.ChangeUser(t.Context(), id, users.Changes{PasswordHash: new("hash")}, []audit.Event{newEvent(audit.UserPasswordChanged)})
					return err
				},
				"disable": func() error {
					_, err := w.ChangeUser(t.Context(), id, users.Changes{Disabled: new(true)}, []audit.Event{newEvent(audit.UserDisabled)})
					return err
				},
				"end sessions": func() error {
					_, err := w.ChangeUser(t.Context(), id, users.Changes{EndSessions: true}, []audit.Event{newEvent(audit.UserLoggedOut)})
					return err
				},
				"delete": func() error { return w.DeleteUser(t.Context(), id, newEvent(audit.UserDeleted)) },
			} {
				if err := do(); !errors.Is(err, users.ErrNotFound) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	})
}

func TestUserList(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		var want []string
		for i := range 25 {
			want = append(want, fmt.Sprintf("User-%02d", i))
			w.addUser(t, fmt.Sprintf("User-%02d", (i*7)%25))
		}
		var got []string
		for after := ""; ; after = users.Canonical(got[len(got)-1]) {
			page := ok[[]users.User](t)(w.Users(t.Context(), users.Filter{After: after, Limit: 10}))
			if len(page) == 0 {
				break
			}
			for _, u := range page {
				got = append(got, u.Username)
			}
		}
		equal(t, "names", got, want)
	})
}

func TestUserChanges(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		want, bystander := w.addUser(t, "ann"), w.addUser(t, "bob")
		change := func(ch users.Changes) func(e audit.Event) error {
			return func(e audit.Event) error {
				_, err := w.ChangeUser(t.Context(), want.ID, ch, []audit.Event{e})
				return err
			}
		}
		for _, step := range []struct {
			name   string
			kind   audit.Type // empty: no event
			do     func(e audit.Event) error
			change func(u *users.User)
		}{
			{"password", audit.UserPasswordChanged, change(users.Changes{PasswordHash: new("second")}),
				func(u *users.User) { u.PasswordHash = "second"; u.Epoch++ }},
			{"rehash", "", func(audit.Event) error { return w.Rehash(t.Context(), want.ID, "second", "second, slower") },
				func(u *users.User) { u.PasswordHash = "second, slower" }},
			{"stale rehash", "", func(audit.Event) error { return w.Rehash(t.Context(), want.ID, "second", "first") },
				func(*users.User) {}},
			{"disable", audit.UserDisabled, change(users.Changes{Disabled: new(true)}), func(u *users.User) { u.Disabled = true; u.Epoch++ }},
			{"enable", audit.UserEnabled, change(users.Changes{Disabled: new(false)}), func(u *users.User) { u.Disabled = false }},
			{"end sessions", audit.UserLoggedOut, change(users.Changes{EndSessions: true}), func(u *users.User) { u.Epoch++ }},
			{"admin", audit.UserUpdated, change(users.Changes{Admin: new(true)}), func(u *users.User) { u.Admin = true }},
			{"all at once", audit.UserUpdated, change(users.Changes{PasswordHash: new("third"), Disabled: new(true), Admin: new(false), EndSessions: true}),
				func(u *users.User) { u.PasswordHash, u.Disabled, u.Admin = "third", true, false; u.Epoch++ }},
			{"nothing", audit.UserUpdated, change(users.Changes{}), func(*users.User) {}},
		} {
			e := newEvent(step.kind)
			events := []audit.Event{e}
			if step.kind == "" {
				events = nil
			}
			w.writes(t, func() {
				if err := step.do(e); err != nil {
					t.Errorf("%s: %v", step.name, err)
				}
			}, events...)
			step.change(&want)
			equal(t, step.name, ok[users.User](t)(w.User(t.Context(), want.ID)), want)
		}
		e := newEvent(audit.UserDeleted)
		w.writes(t, func() { check(t, w.DeleteUser(t.Context(), want.ID, e)) }, e)
		if _, err := w.User(t.Context(), want.ID); !errors.Is(err, users.ErrNotFound) {
			t.Errorf("deleted: %v", err)
		}
		equal(t, "bystander", ok[users.User](t)(w.User(t.Context(), bystander.ID)), bystander)
	})
}

const (
	maxFailures = 3
	window      = 10 * time.Minute
)

func newAttempt(username, address, password string) users.Attempt {
	return users.Attempt{
		Username: digest("username " + username), Address: digest("address " + address), Password: digest(username + " " + password),
		Max: maxFailures, Window: window,
	}
}

// failed makes an attempt fail and checks which events that writes and whether it has to wait.
func (w *world) failed(t testing.TB, a users.Attempt, wantWait bool, kinds ...audit.Type) {
	t.Helper()
	failed, throttled := newEvent(audit.LoginFailed), newEvent(audit.LoginThrottled)
	var want []audit.Event
	for _, k := range kinds {
		if k == audit.LoginFailed {
			want = append(want, failed)
		} else {
			want = append(want, throttled)
		}
	}
	w.writes(t, func() {
		t.Helper()
		wait := ok[users.Counted](t)(w.CountLoginFailure(t.Context(), a, failed, throttled)).Wait
		if wait > 0 != wantWait || wait > window {
			t.Errorf("to wait: %s", wait)
		}
	}, want...)
}

// throttled tells whether the attempt would have to wait.
func (w *world) throttled(t testing.TB, a users.Attempt) bool {
	t.Helper()
	_, _, wait, err := w.LoginCandidate(t.Context(), "nobody", a)
	check(t, err)
	if wait < 0 || wait > a.Window {
		t.Errorf("to wait: %s", wait)
	}
	return wait > 0
}

// What is taken back of failures is the one attempt.
func TestTakeBackFailure(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		count := func(a users.Attempt, wantWait bool) {
			t.Helper()
			if wait := ok[users.Counted](t)(w.CountLoginFailure(t.Context(), a, audit.Event{}, audit.Event{})).Wait; wait > 0 != wantWait {
				t.Errorf("to wait: %s", wait)
			}
		}
		for _, alone := range []bool{false, true} {
			attempt := func(password string) users.Attempt {
				a := newAttempt("ann", "192.0.2.1", password)
				if alone {
					a.Address = digest("alone")
					a.Username = a.Address
				}
				return a
			}
			check(t, w.TakeBackFailure(t.Context(), attempt("never counted")))
			for i := range 2 * maxFailures {
				right := attempt(fmt.Sprint("right ", i))
				count(right, false)
				check(t, w.TakeBackFailure(t.Context(), right))
				check(t, w.TakeBackFailure(t.Context(), right))
			}
			for i := range maxFailures {
				count(attempt(fmt.Sprint(i)), false)
			}
			check(t, w.TakeBackFailure(t.Context(), attempt("another")))
			count(attempt("another"), true)
			check(t, w.TakeBackFailure(t.Context(), attempt("0")))
			count(attempt("another"), false)
			count(attempt("one more"), true)
		}
	})
}

func TestLoginCandidate(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ann := w.addUser(t, "Ann")
		a := newAttempt("ann", "192.0.2.1", "1")
		got, _, wait, err := w.LoginCandidate(t.Context(), "ann", a)
		if err != nil || wait != 0 {
			t.Fatalf("wait %s, %v", wait, err)
		}
		equal(t, "candidate", got, &ann)
		for _, name := range []string{"bob", "", "Ann"} {
			got, _, wait, err = w.LoginCandidate(t.Context(), name, a)
			if got != nil || wait != 0 || err != nil {
				t.Errorf("%q: %v, wait %s, %v", name, got, wait, err)
			}
		}
		for i := range maxFailures {
			_, err := w.CountLoginFailure(t.Context(), newAttempt("ann", "192.0.2.1", fmt.Sprint(i)), newEvent(audit.LoginFailed), newEvent(audit.LoginThrottled))
			check(t, err)
		}
		for _, name := range []string{"ann", "bob"} { // known or not, the answer is the same
			if _, _, wait, err = w.LoginCandidate(t.Context(), name, a); wait < window-time.Minute || wait > window || err != nil {
				t.Errorf("%s after failures: wait %s, %v", name, wait, err)
			}
		}
	})
}

// The stand-ins of unknown names are the hashes that there are, about as often each, and always the same for one name.
func TestStandIns(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		standIn := func(i int) string {
			_, hash, _, err := w.LoginCandidate(t.Context(), "nobody", newAttempt(fmt.Sprint("nobody ", i), "192.0.2.1", "1"))
			check(t, err)
			return hash
		}
		if hash := standIn(0); hash != "" {
			t.Errorf("without users: %q", hash)
		}
		for i := range 8 {
			u := newUser(fmt.Sprint("user ", i))
			u.ID, u.PasswordHash = fmt.Sprintf("%x0000000-0000-4000-8000-000000000000", 2*i), fmt.Sprint("hash ", i%2)
			_, err := w.CreateUser(t.Context(), u, u.Username, newEvent(audit.UserCreated))
			check(t, err)
		}
		seen := map[string]int{}
		for i := range 64 {
			hash := standIn(i)
			seen[hash]++
			if again := standIn(i); again != hash {
				t.Errorf("%d: %q, then %q", i, hash, again)
			}
		}
		if len(seen) != 2 || seen["hash 0"]+seen["hash 1"] != 64 {
			t.Errorf("%v", seen)
		}
	})
}

func TestLoginFailures(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.failed(t, newAttempt("ann", "A", "1"), false, audit.LoginFailed)
		w.failed(t, newAttempt("ann", "A", "1"), false) // the same again
		w.Age(t, window/2)
		w.failed(t, newAttempt("ann", "A", "2"), false, audit.LoginFailed)
		if w.throttled(t, newAttempt("ann", "A", "3")) {
			t.Error("throttled below the cap")
		}
		w.failed(t, newAttempt("ann", "A", "3"), false, audit.LoginFailed, audit.LoginThrottled)
		w.failed(t, newAttempt("ann", "A", "4"), true)
		w.failed(t, newAttempt("ann", "A", "3"), false) // counted, and answered, before
		w.failed(t, newAttempt("ann", "B", "4"), true)  // for the username
		w.failed(t, newAttempt("bob", "A", "4"), true)  // for the address
		w.failed(t, newAttempt("bob", "B", "1"), false, audit.LoginFailed)
		for _, throttled := range []users.Attempt{newAttempt("ann", "C", ""), newAttempt("bob", "A", "")} {
			if !w.throttled(t, throttled) {
				t.Error("not throttled")
			}
		}
		// The window is counted from the first failure: half of it has passed by now.
		w.Age(t, window/2)
		if w.throttled(t, newAttempt("ann", "A", "5")) {
			t.Error("throttled after the window")
		}
		w.failed(t, newAttempt("ann", "A", "1"), false, audit.LoginFailed) // counts anew
		w.failed(t, newAttempt("ann", "A", "5"), false, audit.LoginFailed)
		w.failed(t, newAttempt("ann", "A", "6"), false, audit.LoginFailed, audit.LoginThrottled)
		w.failed(t, newAttempt("ann", "A", "7"), true)
	})
}

func TestClearLoginFailures(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		cleared := func(a users.Attempt, want bool) {
			t.Helper()
			w.writes(t, func() {
				t.Helper()
				if wait := ok[time.Duration](t)(w.ClearLoginFailures(t.Context(), a)); wait > 0 == want || wait > window {
					t.Errorf("to wait: %s", wait)
				}
			})
		}
		cleared(newAttempt("ann", "A", ""), true) // nothing to clear
		w.failed(t, newAttempt("ann", "A", "1"), false, audit.LoginFailed)
		w.failed(t, newAttempt("ann", "A", "2"), false, audit.LoginFailed)
		cleared(newAttempt("ann", "B", ""), true)
		// The username has all its tries again; the address has one left.
		w.failed(t, newAttempt("ann", "B", "1"), false, audit.LoginFailed)
		w.failed(t, newAttempt("ann", "B", "2"), false, audit.LoginFailed)
		w.failed(t, newAttempt("ann", "A", "3"), false, audit.LoginFailed, audit.LoginThrottled)
		cleared(newAttempt("ann", "C", ""), false)
		cleared(newAttempt("bob", "A", ""), false)
		cleared(newAttempt("bob", "B", ""), true)
		if !w.throttled(t, newAttempt("ann", "C", "")) {
			t.Error("cleared though the cap was reached")
		}
		w.Age(t, window)
		cleared(newAttempt("ann", "A", ""), true)
	})
}

// However many guesses are made at once, no more than the cap are answered.
func TestLoginFailuresAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		stores := w.pair(t)
		var waited atomic.Int64
		answered := atOnce(t, 100, func(i int) (bool, error) {
			a := newAttempt("ann", fmt.Sprint("address ", i%3), fmt.Sprint(i))
			a.Max = 10
			counted, err := stores[i%2].CountLoginFailure(t.Context(), a, newEvent(audit.LoginFailed), newEvent(audit.LoginThrottled))
			if counted.Wait > 0 {
				waited.Add(1)
			}
			return counted.Wait == 0 && err == nil, err
		})
		if answered != 10 || waited.Load() != 90 {
			t.Errorf("%d answered, %d told to wait", answered, waited.Load())
		}
		count := map[audit.Type]int{}
		for _, e := range w.latest(t, all) {
			count[e.Type]++
		}
		equal(t, "events", count, map[audit.Type]int{audit.LoginFailed: 10, audit.LoginThrottled: 1})
	})
}
