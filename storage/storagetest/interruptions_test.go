package storagetest_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signet/audit"
	"signet/storage"
	"signet/tokens"
)

// beat renews the heartbeat and tells whether it was the first after an interruption.
func (w *world) beat(t *testing.T) (tokens.Interruption, bool) {
	t.Helper()
	i, interrupted, err := w.Beat(t.Context(), newEvent(audit.ServiceInterrupted))
	check(t, err)
	return i, interrupted
}

// outage lets time pass in which nobody renews the heartbeat, and then somebody does.
func (w *world) outage(t *testing.T, length time.Duration) {
	t.Helper()
	w.Age(t, length)
	if i, interrupted := w.beat(t); !interrupted || i.Length() < length || i.Length() > length+time.Minute {
		t.Fatalf("after %s without a heartbeat: %v, %v", length, i.Length(), interrupted)
	}
}

// alive lets time pass in which the heartbeat is renewed.
func (w *world) alive(t *testing.T, length time.Duration) {
	t.Helper()
	w.Age(t, length)
	w.Exec(t, `UPDATE heartbeat SET beat_at = beat_at + `+w.span(length))
}

func (w *world) span(d time.Duration) string {
	if w.Name == "sqlite" {
		return fmt.Sprint(d.Microseconds())
	}
	return fmt.Sprintf("interval '%d microseconds'", d.Microseconds())
}

func TestHeartbeat(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for range 2 {
			if _, interrupted := w.beat(t); interrupted {
				t.Error("the first heartbeats end an interruption")
			}
		}
		w.alive(t, time.Hour)
		w.Age(t, 2*time.Second)
		if i, interrupted := w.beat(t); interrupted {
			t.Errorf("a heartbeat that is a little late ends an interruption: %+v", i)
		}
		e := newEvent(audit.ServiceInterrupted)
		w.Age(t, 20*time.Second)
		i, interrupted, err := w.Beat(t.Context(), e)
		check(t, err)
		recent(t, "ended", i.Ended)
		if length := i.Length(); !interrupted || length < 20*time.Second || length > 30*time.Second {
			t.Errorf("an interruption of %s", length)
		}
		events := ok[[]audit.Event](t)(w.Events(t.Context(), audit.Filter{Type: audit.ServiceInterrupted, Limit: 10}))
		if want := fmt.Sprintf("%.1f s", i.Length().Seconds()); len(events) != 1 || events[0].ID != e.ID || events[0].Detail != want {
			t.Errorf("events %+v, want one with the detail %q", events, want)
		}
		// Another database server took over, whose clock is behind: heartbeats go on by its clock.
		w.Exec(t, `UPDATE heartbeat SET beat_at = beat_at + `+w.span(time.Hour))
		if _, interrupted := w.beat(t); interrupted {
			t.Error("a clock that was set back is an interruption")
		}
		w.outage(t, time.Minute)
	})
}

func TestInterruptionIsRecordedOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.beat(t)
		w.Age(t, time.Minute)
		replicas := make([]storage.Store, 10)
		for i := range replicas {
			replicas[i] = w.Open(t)
		}
		var seen atomic.Int64
		var working sync.WaitGroup
		for _, r := range replicas {
			working.Go(func() {
				if _, interrupted, err := r.Beat(t.Context(), newEvent(audit.ServiceInterrupted)); err != nil {
					t.Error(err)
				} else if interrupted {
					seen.Add(1)
				}
			})
		}
		working.Wait()
		if rows, events := w.Int(t, `SELECT count(*) FROM interruptions`), w.Int(t, `SELECT count(*) FROM audit_events`); seen.Load() != 1 || rows != 1 || events != 1 {
			t.Errorf("%d replicas saw it, %d rows, %d events", seen.Load(), rows, events)
		}
	})
}

// The retry window does not run while the database, or every replica, is away.
func TestRetryWindowInInterruptions(t *testing.T) {
	const window = 10 * time.Second
	cases := map[string]struct {
		steps  func(t *testing.T, w *world) // between the use and its repetition
		window time.Duration
		retry  bool
	}{
		"used in the outage's first moments": {func(t *testing.T, w *world) { w.outage(t, time.Minute) }, window, true},
		"used just before it": {func(t *testing.T, w *world) {
			w.alive(t, 1900*time.Millisecond)
			w.outage(t, time.Minute)
			w.alive(t, 8*time.Second)
		}, window, true},
		"used long before it": {func(t *testing.T, w *world) {
			w.alive(t, 11*time.Second)
			w.outage(t, time.Minute)
		}, window, false},
		"the rest of the window is good after it": {func(t *testing.T, w *world) {
			w.alive(t, 6*time.Second)
			w.outage(t, time.Minute)
			w.alive(t, 2*time.Second)
		}, window, true},
		"and not more than the rest": {func(t *testing.T, w *world) {
			w.alive(t, 6*time.Second)
			w.outage(t, time.Minute)
			w.alive(t, 7*time.Second)
		}, window, false},
		"before the first heartbeat after it": {func(t *testing.T, w *world) { w.Age(t, time.Minute) }, window, true},
		"long before, and before the first heartbeat": {func(t *testing.T, w *world) {
			w.alive(t, 11*time.Second)
			w.Age(t, time.Minute)
		}, window, false},
		"within the window that follows": {func(t *testing.T, w *world) {
			w.outage(t, time.Hour)
			w.alive(t, 8*time.Second)
		}, window, true},
		"after the window that follows": {func(t *testing.T, w *world) {
			w.outage(t, time.Hour)
			w.alive(t, 11*time.Second)
		}, window, false},
		"two in a row": {func(t *testing.T, w *world) {
			w.outage(t, time.Minute)
			w.alive(t, 4*time.Second)
			w.outage(t, time.Minute)
			w.alive(t, 2*time.Second)
		}, window, true},
		"two in a row, the second one just ending": {func(t *testing.T, w *world) {
			w.outage(t, time.Minute)
			w.alive(t, 4*time.Second)
			w.Age(t, time.Minute)
		}, window, true},
		"the window has run out between two": {func(t *testing.T, w *world) {
			w.outage(t, time.Minute)
			w.alive(t, 13*time.Second)
			w.outage(t, time.Minute)
		}, window, false},
		"an outage that was over before the use": {func(t *testing.T, w *world) { w.alive(t, 11*time.Second) }, window, false},
		"no outage at all":                       {func(t *testing.T, w *world) { w.alive(t, 9*time.Second) }, window, true},
		"retries turned off":                     {func(t *testing.T, w *world) { w.outage(t, time.Minute) }, 0, false},
		"retries turned off, just ending":        {func(t *testing.T, w *world) { w.Age(t, time.Minute) }, 0, false},
	}
	each(t, func(t *testing.T, w *world) {
		w.beat(t)
		for name, c := range cases {
			t.Run(name, func(t *testing.T) {
				w.beat(t)
				w.outage(t, time.Minute) // one before counts for nothing
				w.alive(t, time.Minute)
				n := newSession(w.addClient(t, name), w.addUser(t, name))
				n.IdleTTL, n.TTL = 24*time.Hour, 24*time.Hour
				ok[tokens.Grant](t)(w.CreateSession(t.Context(), n, newEvent(audit.SessionCreated)))
				u := use(n, 0)
				if _, rotated, err := w.Rotate(t.Context(), u, nil); err != nil || !rotated {
					t.Fatalf("rotated: %v, %v", rotated, err)
				}
				c.steps(t, w)
				if st := w.state(t, u, c.window); st.InWindow != c.retry {
					t.Errorf("in the window: %v, want %v", st.InWindow, c.retry)
				}
				revoked := ok[bool](t)(w.RevokeReused(t.Context(), u, c.window, newEvent(audit.RefreshTokenReused)))
				if revoked == c.retry {
					t.Errorf("revoked: %v, want %v", revoked, !c.retry)
				}
			})
		}
	})
}

func TestDeleteInterruptions(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.beat(t)
		for range 3 {
			w.outage(t, time.Minute)
		}
		w.alive(t, 48*time.Hour)
		w.outage(t, time.Minute)
		if n := ok[int64](t)(w.DeleteInterruptions(t.Context(), 24*time.Hour)); n != 3 {
			t.Errorf("deleted %d, want 3", n)
		}
		if n := w.Int(t, `SELECT count(*) FROM interruptions`); n != 1 {
			t.Errorf("%d are left, want 1", n)
		}
	})
}
