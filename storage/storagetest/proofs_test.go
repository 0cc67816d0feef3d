package storagetest_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"signet/authorizations"
	"signet/proofs"
)

// yes returns what the database says, which must be no error.
func yes[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		check(t, err)
		return v
	}
}

func TestSpend(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		other := w.Open(t)
		spend := func(o proofs.Once) bool { return yes[bool](t)(other.Spend(t.Context(), o)) }
		first := proofs.Once{Digest: digest("a"), Use: uuid.New(), TTL: time.Minute}
		again := first
		again.Use = uuid.New()
		for _, what := range []string{"the first use", "its repetition after a lost answer"} {
			if !spend(first) {
				t.Error(what, "does not count")
			}
		}
		if yes[bool](t)(w.Spend(t.Context(), again)) {
			t.Error("a second use counts")
		}
		var won atomic.Int32
		var all sync.WaitGroup
		for range 32 {
			all.Go(func() {
				if used, err := w.Spend(t.Context(), proofs.Once{Digest: digest("b"), Use: uuid.New(), TTL: time.Minute}); err != nil {
					t.Error(err)
				} else if used {
					won.Add(1)
				}
			})
		}
		if all.Wait(); won.Load() != 1 {
			t.Errorf("%d uses at once count, want 1", won.Load())
		}
		w.Age(t, 30*time.Second)
		equal(t, "deleted early", yes[int64](t)(w.DeleteUsedOnce(t.Context())), int64(0))
		w.Age(t, time.Minute)
		equal(t, "deleted", yes[int64](t)(w.DeleteUsedOnce(t.Context())), int64(2))
	})
}

func TestRotateSpends(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		n := w.addSession(t, w.addClient(t, "one"), w.addUser(t, "ann"))
		rotate := func(from int64) bool {
			u := use(n, from)
			u.Key = proofs.Key{JKT: "a key", Once: proofs.Once{Digest: digest("a"), Use: uuid.New(), TTL: time.Minute}}
			_, ok, err := w.Rotate(t.Context(), u, nil)
			check(t, err)
			return ok
		}
		if !rotate(0) || rotate(1) {
			t.Error("a proof does not count once")
		}
		w.Age(t, 2*time.Minute) // it would be refused for its age, but another one may have the same jti by now
		if !rotate(1) || rotate(2) {
			t.Error("a proof does not count once in the place of one that has expired")
		}
	})
}

func TestPushedRequests(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := authorizations.Pushed{Digest: digest("uri"), ClientID: "app", Form: "a=b"}
		check(t, w.PushRequest(t.Context(), p))
		take := func(client, browser string) bool {
			got, ok, err := w.TakeUpRequest(t.Context(), p.Digest, client, digest(browser))
			if check(t, err); ok {
				equal(t, "request", got, p)
			}
			return ok
		}
		if take("other", "mine") || !take("app", "mine") || !take("app", "mine") || take("app", "theirs") {
			t.Error("it is not for its client and the browser that came first alone")
		}
		w.Age(t, authorizations.PushedTTL+time.Second)
		if take("app", "mine") {
			t.Error("it is there for longer than it is good")
		}
		equal(t, "deleted early", yes[int64](t)(w.DeletePushedRequests(t.Context())), int64(0))
		w.Age(t, authorizations.KeepPushed)
		equal(t, "deleted", yes[int64](t)(w.DeletePushedRequests(t.Context())), int64(1))
	})
}
