package storagetest_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"signet/audit"
	"signet/logins"
	"signet/users"
)

func newFactor(u users.User, k logins.Kind) logins.Factor {
	f := logins.Factor{ID: uuid.NewString(), Type: k, Name: "phöne", UserID: u.ID, UserEpoch: u.Epoch, Material: []byte("material\x00of " + u.Username), Counter: 100}
	if k == logins.Passkey {
		f.CredentialID, f.Counter = digest(f.ID), 0
	}
	return f
}

// codesOf are digests of recovery codes.
func codesOf(what string) (digests [][]byte) {
	for i := range 10 {
		digests = append(digests, digest(fmt.Sprint(what, i)))
	}
	return digests
}

// many is more factors than a test adds.
const many = 100

// added tells of what AddFactor returns whether the factor was added, and whether its recovery codes are the user's.
func added(_ time.Time, gave bool, err error) (bool, bool, error) {
	if errors.Is(err, logins.ErrFactorExists) || errors.Is(err, logins.ErrTooManyFactors) {
		return false, gave, nil
	}
	return err == nil, gave, err
}

// addFactor gives the user a factor, and the codes of their name if it is the first.
func (w *world) addFactor(t testing.TB, u users.User, k logins.Kind) logins.Factor {
	t.Helper()
	f := newFactor(u, k)
	created, _, err := w.AddFactor(t.Context(), f, many, codesOf(u.Username), newEvent(audit.FactorAdded))
	check(t, err)
	f.CreatedAt = created
	return f
}

func (w *world) factorsOf(t testing.TB, u users.User) logins.Factors {
	t.Helper()
	return ok[logins.Factors](t)(w.Factors(t.Context(), u.ID))
}

func TestFactors(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ann, bob := w.addUser(t, "ann"), w.addUser(t, "bob")
		if f := w.factorsOf(t, ann); f.Any() || f.RecoveryCodes != 0 {
			t.Errorf("of a new user: %+v", f)
		}
		app, key := newFactor(ann, logins.TOTP), newFactor(ann, logins.Passkey)
		add := func(f logins.Factor, wantAdded, wantGave bool) {
			t.Helper()
			e := newEvent(audit.FactorAdded)
			var want []audit.Event
			if wantAdded {
				want = append(want, e)
			}
			w.writes(t, func() {
				did, gave, err := added(w.AddFactor(t.Context(), f, many, codesOf(f.ID), e))
				if check(t, err); did != wantAdded || gave != wantGave {
					t.Errorf("added %v, gave codes %v", did, gave)
				}
			}, want...)
		}
		add(app, true, true)
		add(newFactor(ann, logins.TOTP), false, false)
		add(key, true, false)
		copied := newFactor(bob, logins.Passkey)
		copied.CredentialID = key.CredentialID
		add(copied, false, false) // another's passkey
		changed := newFactor(bob, logins.TOTP)
		changed.UserEpoch++
		add(changed, false, false) // who was asked before the password changed
		nobody := newFactor(ann, logins.TOTP)
		nobody.UserID = uuid.NewString()
		add(nobody, false, false)
		w.Exec(t, `UPDATE users SET disabled = TRUE WHERE id = $1`, bob.ID)
		add(newFactor(bob, logins.TOTP), false, false)
		w.Exec(t, `UPDATE users SET disabled = FALSE WHERE id = $1`, bob.ID)
		add(newFactor(bob, logins.TOTP), true, true)

		f := w.factorsOf(t, ann)
		recent(t, "now", f.Now)
		if len(f.List) != 2 || f.RecoveryCodes != 10 || !f.Has(logins.TOTP) || !f.Has(logins.Passkey) {
			t.Fatalf("%+v", f)
		}
		for i, want := range []logins.Factor{app, key} {
			recent(t, "created_at", f.List[i].CreatedAt)
			want.CreatedAt, want.UserEpoch = f.List[i].CreatedAt, 0
			equal(t, "factor", f.List[i], want)
		}
		for credential, want := range map[string]string{string(key.CredentialID): ann.ID, "another": ""} {
			if owner, known, err := w.PasskeyOwner(t.Context(), []byte(credential)); err != nil || owner != want || known != (want != "") {
				t.Errorf("the owner is %q, %v, %v", owner, known, err)
			}
		}

		remove := func(u users.User, factor string, want bool, left, codes int) {
			t.Helper()
			e := newEvent(audit.FactorRemoved)
			var events []audit.Event
			if want {
				events = append(events, e)
			}
			w.writes(t, func() {
				if removed := ok[bool](t)(w.RemoveFactor(t.Context(), u.ID, factor, e)); removed != want {
					t.Errorf("removed %v", removed)
				}
			}, events...)
			if f := w.factorsOf(t, u); len(f.List) != left || f.RecoveryCodes != codes {
				t.Errorf("left: %+v", f)
			}
		}
		remove(bob, app.ID, false, 1, 10) // another's
		remove(ann, app.ID, true, 1, 10)
		remove(ann, app.ID, false, 1, 10)
		remove(ann, key.ID, true, 0, 0) // the codes go with the last one
		added := w.addFactor(t, ann, logins.TOTP)
		equal(t, "created_at", added.CreatedAt, w.factorsOf(t, ann).List[0].CreatedAt)
		w.addFactor(t, ann, logins.Passkey)
		remove(ann, "", true, 0, 0)
		remove(ann, "", false, 0, 0)
		w.addFactor(t, ann, logins.TOTP)
		check(t, w.DeleteUser(t.Context(), ann.ID, newEvent(audit.UserDeleted)))
		ok[int64](t)(w.DeleteEndedLogins(t.Context()))
		for _, table := range []string{"factors", "recovery_codes"} {
			if n := w.Int(t, `SELECT count(*) FROM `+table+` WHERE user_id = $1`, ann.ID); n != 0 {
				t.Errorf("a deleted user leaves %d rows of %s", n, table)
			}
		}
	})
}

// Of first factors that are added at once, one brings recovery codes: those that its user was shown.
func TestFirstFactorsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		stores, u := w.pair(t), w.addUser(t, "ann")
		var gave atomic.Int64
		if n := atOnce(t, 16, func(i int) (bool, error) {
			f := newFactor(u, []logins.Kind{logins.TOTP, logins.Passkey, logins.Passkey, logins.TOTP}[i%4])
			did, codes, err := added(stores[i%2].AddFactor(t.Context(), f, many, codesOf(f.ID), newEvent(audit.FactorAdded)))
			if codes {
				gave.Add(1)
			}
			return did, err
		}); n != 9 || gave.Load() != 1 { // passkeys, and one app
			t.Errorf("%d were added, codes were given %d times", n, gave.Load())
		}
		if f := w.factorsOf(t, u); len(f.List) != 9 || f.RecoveryCodes != 10 {
			t.Errorf("%+v", f)
		}
	})
}

// Of factors that have to be the user's first, one is added, whatever is added at the same time.
func TestOnlyFirstFactorAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		stores, u := w.pair(t), w.addUser(t, "ann")
		if n := atOnce(t, 16, func(i int) (bool, error) {
			f := newFactor(u, logins.Passkey)
			f.First = true
			did, _, err := added(stores[i%2].AddFactor(t.Context(), f, many, codesOf(f.ID), newEvent(audit.FactorAdded)))
			return did, err
		}); n != 1 {
			t.Errorf("%d were added", n)
		}
		w.addFactor(t, u, logins.TOTP)
		if f := w.factorsOf(t, u); len(f.List) != 2 || f.RecoveryCodes != 10 {
			t.Errorf("%+v", f)
		}
	})
}

// Of factors that are added at once, no more are added than a user may have.
func TestMostFactorsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		stores, u := w.pair(t), w.addUser(t, "ann")
		add := func(i int) error {
			f := newFactor(u, logins.Passkey)
			_, _, err := stores[i%2].AddFactor(t.Context(), f, 3, codesOf(f.ID), newEvent(audit.FactorAdded))
			return err
		}
		if n := atOnce(t, 16, func(i int) (bool, error) {
			err := add(i)
			if errors.Is(err, logins.ErrTooManyFactors) {
				return false, nil
			}
			return true, err
		}); n != 3 {
			t.Errorf("%d were added", n)
		}
		w.writes(t, func() {
			if err := add(0); !errors.Is(err, logins.ErrTooManyFactors) {
				t.Errorf("one more: %v", err)
			}
		})
	})
}

// A code of an authenticator app is good once, and none of an earlier step is after it.
func TestStepsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		stores, u := w.pair(t), w.addUser(t, "ann")
		f := w.addFactor(t, u, logins.TOTP)
		for step := f.Counter + 1; step <= f.Counter+3; step++ {
			if n := atOnce(t, 32, func(i int) (bool, error) { return stores[i%2].UseStep(t.Context(), f.ID, step) }); n != 1 {
				t.Errorf("of 32 uses of one code at once %d were good", n)
			}
		}
		for _, earlier := range []int64{f.Counter + 3, f.Counter + 2, f.Counter, 0} {
			if ok[bool](t)(w.UseStep(t.Context(), f.ID, earlier)) {
				t.Errorf("step %d is good after %d", earlier, f.Counter+3)
			}
		}
		// Codes of different steps at once: those that were taken were taken in their order.
		first := f.Counter + 4
		if n := atOnce(t, 32, func(i int) (bool, error) { return stores[i%2].UseStep(t.Context(), f.ID, first+int64(i%4)) }); n < 1 || n > 4 {
			t.Errorf("of four codes %d uses were good", n)
		}
		got := w.factorsOf(t, u).List[0]
		if got.Counter != first+3 || got.LastUsedAt == nil {
			t.Fatalf("%+v", got)
		}
		recent(t, "last_used_at", *got.LastUsedAt)
		if key := w.addFactor(t, u, logins.Passkey); ok[bool](t)(w.UseStep(t.Context(), key.ID, 1<<40)) {
			t.Error("a passkey has a step")
		}
	})
}

func TestRecoveryCodesAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		stores, u, other := w.pair(t), w.addUser(t, "ann"), w.addUser(t, "bob")
		w.addFactor(t, u, logins.TOTP)
		w.addFactor(t, other, logins.TOTP)
		codes := codesOf("ann")
		if ok[bool](t)(w.UseRecoveryCode(t.Context(), other.ID, codes[0])) {
			t.Error("another user's code is good")
		}
		for _, code := range codes[:3] {
			if n := atOnce(t, 32, func(i int) (bool, error) { return stores[i%2].UseRecoveryCode(t.Context(), u.ID, code) }); n != 1 {
				t.Errorf("of 32 uses of one code at once %d were good", n)
			}
		}
		if f := w.factorsOf(t, u); f.RecoveryCodes != 7 {
			t.Errorf("%d are left", f.RecoveryCodes)
		}
		// New ones at once: those of one of them count, and none of before.
		if n := atOnce(t, 8, func(i int) (bool, error) {
			return stores[i%2].ReplaceRecoveryCodes(t.Context(), u.ID, codesOf(fmt.Sprint("fresh ", i)), newEvent(audit.FactorAdded))
		}); n != 8 || w.factorsOf(t, u).RecoveryCodes != 10 {
			t.Errorf("%d were replaced, there are %d", n, w.factorsOf(t, u).RecoveryCodes)
		}
		if ok[bool](t)(w.UseRecoveryCode(t.Context(), u.ID, codes[9])) {
			t.Error("a code of before is good")
		}
		if n := atOnce(t, 8, func(i int) (bool, error) {
			return stores[i%2].UseRecoveryCode(t.Context(), u.ID, codesOf(fmt.Sprint("fresh ", i))[0])
		}); n != 1 {
			t.Errorf("the first code of %d sets is good", n)
		}
		if ok[bool](t)(w.ReplaceRecoveryCodes(t.Context(), w.addUser(t, "carl").ID, codes, newEvent(audit.FactorAdded))) {
			t.Error("codes of a user who has no factor")
		}
	})
}

// However many come at once, a passkey's counter only grows, and each of its values is good once.
func TestSignatureCountersAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		stores, u := w.pair(t), w.addUser(t, "ann")
		f := w.addFactor(t, u, logins.Passkey)
		use := func(i int, counter int64) (bool, error) {
			return stores[i%2].UsePasskey(t.Context(), f, counter, digest(uuid.NewString()), time.Minute)
		}
		counter := func() int64 { return w.factorsOf(t, u).List[0].Counter }
		if n := atOnce(t, 32, func(i int) (bool, error) { return use(i, 0) }); n != 32 || counter() != 0 {
			t.Errorf("of 32 that do not count %d were good, the counter is %d", n, counter())
		}
		if n := atOnce(t, 32, func(i int) (bool, error) { return use(i, 7) }); n != 1 || counter() != 7 {
			t.Errorf("of 32 copies %d were good, the counter is %d", n, counter())
		}
		done := make(chan struct{})
		var back atomic.Bool
		go func() { // looks on while it is used
			defer close(done)
			for last := int64(7); last < 39; {
				got, err := w.Factors(t.Context(), u.ID)
				if err != nil || got.List[0].Counter < last {
					back.Store(true)
					return
				}
				last = got.List[0].Counter
			}
		}()
		n := atOnce(t, 32, func(i int) (bool, error) { return use(i, int64(8+(i*13)%32)) })
		if <-done; n < 1 || counter() != 39 || back.Load() {
			t.Errorf("%d were good, the counter is %d, it went back: %v", n, counter(), back.Load())
		}
		for _, behind := range []int64{39, 38, 0} {
			if good, err := use(0, behind); err != nil || good {
				t.Errorf("%d after 39: %v, %v", behind, good, err)
			}
		}
	})
}

// A challenge is answered once, and not again where the answer did not do; it is remembered for as long as it is good.
func TestChallengesAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		stores, u := w.pair(t), w.addUser(t, "ann")
		f, other := w.addFactor(t, u, logins.Passkey), w.addFactor(t, u, logins.Passkey)
		challenge := digest("challenge")
		if n := atOnce(t, 32, func(i int) (bool, error) {
			return stores[i%2].UsePasskey(t.Context(), []logins.Factor{f, other}[i/2%2], 0, challenge, time.Minute)
		}); n != 1 {
			t.Errorf("of 32 answers to one challenge at once %d were good", n)
		}
		use := func(counter int64, challenge string, want bool) {
			t.Helper()
			if used := ok[bool](t)(w.UsePasskey(t.Context(), f, counter, digest(challenge), time.Minute)); used != want {
				t.Errorf("counter %d to %q: %v", counter, challenge, used)
			}
		}
		use(9, "second", true)
		use(9, "third", false)
		use(10, "third", false)
		w.Age(t, 59*time.Second)
		ok[int64](t)(w.DeleteEndedLogins(t.Context()))
		use(11, "second", false)
		w.Age(t, time.Second)
		ok[int64](t)(w.DeleteEndedLogins(t.Context()))
		if n := w.Int(t, `SELECT count(*) FROM used_challenges`); n != 0 {
			t.Errorf("%d are kept for longer than they are good", n)
		}
	})
}

// Guesses are counted before they are looked at: of any number at once, on any number of replicas, no more than the cap are answered.
func TestTriesAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		const most = 10
		window := 15 * time.Minute
		stores, u := w.pair(t), w.addUser(t, "ann")
		guess := func(user string) func(i int) (bool, error) {
			return func(i int) (bool, error) {
				wait, _, err := stores[i%2].CountTry(t.Context(), user, most, window)
				if wait < 0 || wait > window {
					t.Errorf("to wait %s", wait)
				}
				return wait == 0, err
			}
		}
		var reached atomic.Int64
		if n := atOnce(t, 100, func(i int) (bool, error) {
			wait, last, err := stores[i%2].CountTry(t.Context(), u.ID, most, window)
			if last {
				reached.Add(1)
			}
			return wait == 0, err
		}); n != most || reached.Load() != 1 {
			t.Errorf("of 100 guesses at once %d are looked at; %d were the last one", n, reached.Load())
		}
		if n := atOnce(t, 20, guess(w.addUser(t, "bob").ID)); n != most {
			t.Errorf("%d guesses at another user's", n)
		}
		w.Age(t, window-3*time.Second)
		if n := atOnce(t, 20, guess(u.ID)); n != 0 {
			t.Errorf("%d before the end of the window", n)
		}
		w.Age(t, 4*time.Second)
		if n := atOnce(t, 100, guess(u.ID)); n != most {
			t.Errorf("%d in the next window", n)
		}
		check(t, w.ForgetTries(t.Context(), u.ID))
		if n := atOnce(t, 20, guess(u.ID)); n != most {
			t.Errorf("%d after a login as a whole", n)
		}
	})
}

// A secret is sealed anew where it is still the one that was read.
func TestResealFactors(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		var want []string
		for i := range 5 {
			u := w.addUser(t, fmt.Sprint("user ", i))
			w.addFactor(t, u, logins.Passkey)
			want = append(want, w.addFactor(t, u, logins.TOTP).ID)
		}
		var got []string
		for after := ""; ; after = got[len(got)-1] {
			page := ok[[]logins.Factor](t)(w.SealedFactors(t.Context(), after, 2))
			for _, f := range page {
				got = append(got, f.ID)
				if f.UserID == "" {
					t.Errorf("%+v", f)
				}
				check(t, w.Reseal(t.Context(), f.ID, []byte("another"), []byte("wrong")))
				check(t, w.Reseal(t.Context(), f.ID, f.Material, []byte("anew")))
			}
			if len(page) < 2 {
				break
			}
		}
		slices.Sort(want)
		equal(t, "sealed", got, want)
		for _, f := range ok[[]logins.Factor](t)(w.SealedFactors(t.Context(), "", 10)) {
			equal(t, "material", string(f.Material), "anew")
		}
	})
}
