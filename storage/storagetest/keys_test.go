package storagetest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"signet/audit"
	"signet/clients"
	"signet/keys"
)

func newKey(id string) keys.Key {
	return keys.Key{ID: id, Algorithm: keys.ES256, Sealed: []byte("sealed\x00" + id)}
}

// advance moves to the key from another one and checks the answer.
func (w *world) advance(t testing.TB, from string, current keys.Key, next *keys.Key, want bool) {
	t.Helper()
	e := newEvent(audit.KeyRotated)
	var events []audit.Event
	if want {
		events = []audit.Event{e}
	}
	w.writes(t, func() {
		t.Helper()
		if got := ok[bool](t)(w.AdvanceSigningKeys(t.Context(), from, current, next, e)); got != want {
			t.Errorf("from %q to %s: %t", from, current.ID, got)
		}
	}, events...)
}

// holds checks which keys there are, as id and state, in any order.
func (w *world) holds(t testing.TB, keep time.Duration, want map[string]keys.State) []keys.Key {
	t.Helper()
	all, now, err := w.SigningKeys(t.Context(), keep)
	check(t, err)
	if len(all) > 0 {
		recent(t, "now", now)
	}
	got := map[string]keys.State{}
	for i, k := range all {
		got[k.ID] = k.State()
		if i > 0 && k.CreatedAt.Before(all[i-1].CreatedAt) {
			t.Errorf("%s is older than the one before it", k.ID)
		}
	}
	equal(t, "keys", got, want)
	return all
}

func TestSigningKeys(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		const keep = time.Hour
		w.holds(t, keep, map[string]keys.State{})
		w.advance(t, "unknown", newKey("a"), nil, false)
		w.advance(t, "", newKey("a"), new(newKey("b")), true)
		for _, k := range w.holds(t, keep, map[string]keys.State{"a": keys.Current, "b": keys.Next}) {
			want := newKey(k.ID)
			want.CreatedAt = k.CreatedAt
			recent(t, "the time of creation", k.CreatedAt)
			if k.ID == "a" {
				want.ActiveFrom = k.CreatedAt
			}
			equal(t, "key", k, want)
		}
		for _, from := range []string{"", "b", "unknown"} { // neither of which is the current one
			w.advance(t, from, newKey("x"), new(newKey("y")), false)
		}
		w.holds(t, keep, map[string]keys.State{"a": keys.Current, "b": keys.Next})

		w.Age(t, time.Minute)
		w.advance(t, "a", newKey("b"), new(newKey("c")), true)
		all := w.holds(t, keep, map[string]keys.State{"a": keys.Retired, "b": keys.Current, "c": keys.Next})
		if b := all[1]; b.ID != "b" || b.ActiveFrom.Sub(b.CreatedAt) < time.Minute || !b.ActiveFrom.Equal(all[0].RetiredAt) {
			t.Errorf("promoted: %+v after %+v", b, all[0])
		}
		w.advance(t, "a", newKey("c"), new(newKey("d")), false) // retired, no longer current

		// Another current key than the one announced takes the place of that, and so does another next one.
		w.Age(t, time.Minute)
		w.advance(t, "b", newKey("d"), new(newKey("e")), true)
		w.holds(t, keep, map[string]keys.State{"a": keys.Retired, "b": keys.Retired, "d": keys.Current, "e": keys.Next})
		w.Age(t, time.Minute)
		w.advance(t, "d", newKey("f"), nil, true)
		w.holds(t, keep, map[string]keys.State{"a": keys.Retired, "b": keys.Retired, "d": keys.Retired, "f": keys.Current})

		// A was retired two minutes ago, b one.
		w.holds(t, 90*time.Second, map[string]keys.State{"b": keys.Retired, "d": keys.Retired, "f": keys.Current})
		for _, step := range []struct {
			keep time.Duration
			want int64
		}{{keep, 0}, {90 * time.Second, 1}, {90 * time.Second, 0}, {0, 2}, {0, 0}} {
			if n := ok[int64](t)(w.DeleteRetiredKeys(t.Context(), step.keep)); n != step.want {
				t.Errorf("%d deleted that were retired for longer than %s, want %d", n, step.keep, step.want)
			}
		}
		w.holds(t, keep, map[string]keys.State{"f": keys.Current})
	})
}

func TestResealSigningKey(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.advance(t, "", newKey("a"), new(newKey("b")), true)
		before := w.holds(t, 0, map[string]keys.State{"a": keys.Current, "b": keys.Next})
		w.writes(t, func() {
			changed := newKey("a")
			changed.Sealed, changed.Algorithm = []byte("sealed anew"), keys.PS256 // the latter is not replaced
			check(t, w.ResealSigningKey(t.Context(), changed))
			check(t, w.ResealSigningKey(t.Context(), newKey("unknown")))
		})
		for i := range before {
			if before[i].ID == "a" {
				before[i].Sealed = []byte("sealed anew")
			}
		}
		equal(t, "keys", w.holds(t, 0, map[string]keys.State{"a": keys.Current, "b": keys.Next}), before)
	})
}

// A key is kept for as long as the longest-lived token that it may have signed, and that is written down while it may sign.
func TestKeepTokenTTL(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.advance(t, "", newKey("a"), new(newKey("b")), true)
		check(t, w.KeepTokenTTL(t.Context(), time.Hour))
		check(t, w.KeepTokenTTL(t.Context(), time.Minute)) // no shorter one lowers it
		w.advance(t, "a", newKey("b"), new(newKey("c")), true)
		check(t, w.KeepTokenTTL(t.Context(), 2*time.Hour)) // too late for a
		for _, k := range w.holds(t, 0, map[string]keys.State{"a": keys.Retired, "b": keys.Current, "c": keys.Next}) {
			if want := map[string]time.Duration{"a": time.Hour, "b": 2 * time.Hour, "c": 2 * time.Hour}[k.ID]; k.TokenTTL != want {
				t.Errorf("%s: %s, want %s", k.ID, k.TokenTTL, want)
			}
		}
		w.Age(t, time.Hour+30*time.Second)
		if n := ok[int64](t)(w.DeleteRetiredKeys(t.Context(), time.Minute)); n != 0 {
			t.Error("it is deleted too early")
		}
		w.holds(t, time.Minute, map[string]keys.State{"a": keys.Retired, "b": keys.Current, "c": keys.Next})
		w.holds(t, 0, map[string]keys.State{"b": keys.Current, "c": keys.Next})
		if n := ok[int64](t)(w.DeleteRetiredKeys(t.Context(), 0)); n != 1 {
			t.Error("it is not deleted")
		}
	})
}

func TestSigningNeeds(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for i, change := range []func(*clients.Client){
			func(c *clients.Client) { c.IDTokenAlg, c.AccessTTL = keys.ES256, time.Hour },
			func(c *clients.Client) { c.IDTokenAlg, c.AccessTTL = keys.ES256, time.Hour },
			func(c *clients.Client) { c.IDTokenAlg, c.AccessTTL = keys.RS256, 0 },
			func(c *clients.Client) { c.IDTokenAlg, c.Disabled = keys.EdDSA, true },
		} {
			c := newClient(fmt.Sprint("client ", i))
			change(&c)
			_, err := w.CreateClient(t.Context(), c, newEvent(audit.ClientCreated))
			check(t, err)
			if c.Disabled {
				_, err = w.SetClientDisabled(t.Context(), c.ID, true, newEvent(audit.ClientDisabled))
				check(t, err)
			}
		}
		got, err := w.SigningNeeds(t.Context())
		check(t, err)
		slices.SortFunc(got, func(a, b clients.SigningNeed) int { return strings.Compare(string(a.IDTokenAlg), string(b.IDTokenAlg)) })
		equal(t, "needs", got, []clients.SigningNeed{{IDTokenAlg: keys.ES256, AccessTTL: "1h"}, {IDTokenAlg: keys.RS256}})
	})
}

func TestRevokeSigningKey(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.advance(t, "", newKey("a"), new(newKey("b")), true)
		w.advance(t, "a", newKey("b"), new(newKey("c")), true)
		revoke := func(id string, next *keys.Key, want bool) {
			t.Helper()
			e := newEvent(audit.KeyRevoked)
			var events []audit.Event
			if want {
				events = []audit.Event{e}
			}
			w.writes(t, func() {
				t.Helper()
				if got := ok[bool](t)(w.RevokeSigningKey(t.Context(), id, next, e)); got != want {
					t.Errorf("%s: %t", id, got)
				}
			}, events...)
		}
		revoke("unknown", new(newKey("x")), false)
		revoke("b", nil, false) // it is current
		revoke("a", nil, true)
		revoke("a", nil, false)
		w.holds(t, time.Hour, map[string]keys.State{"b": keys.Current, "c": keys.Next})
		revoke("c", new(newKey("d")), true)
		w.holds(t, time.Hour, map[string]keys.State{"b": keys.Current, "d": keys.Next})
	})
}

// Of the replicas that try at once one succeeds, be it to make the first keys or to rotate.
func TestAdvanceSigningKeysAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		stores := w.pair(t)
		from := ""
		for round := range 10 {
			won := make([]bool, 10)
			n := atOnce(t, 10, func(i int) (bool, error) {
				name := fmt.Sprintf("%d-%d", round, i)
				next := newKey("next " + name)
				advanced, err := stores[i%2].AdvanceSigningKeys(t.Context(), from, newKey(name), &next, newEvent(audit.KeyCreated))
				won[i] = advanced
				return advanced, err
			})
			if n != 1 {
				t.Fatalf("round %d: %d succeeded", round, n)
			}
			for i := range won {
				if won[i] {
					from = fmt.Sprintf("%d-%d", round, i)
				}
			}
			w.Age(t, time.Second)
			w.holds(t, 0, map[string]keys.State{from: keys.Current, "next " + from: keys.Next})
		}
		if n := w.eventCount(t); n != 10 {
			t.Errorf("%d events", n)
		}
	})
}
