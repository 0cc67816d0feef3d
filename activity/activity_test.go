package activity_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"signet/activity"
	"signet/storage"
	"signet/storage/storagetest"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// logins is how many the store knows of.
func logins(t testing.TB, s activity.Store) (n int64) {
	t.Helper()
	points, err := s.Activity(context.Background(), time.Hour, activity.Bucket)
	check(t, err)
	for _, p := range points {
		n += p.Counts[activity.Logins]
	}
	return n
}

func TestCounter(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		store := b.Open(t)
		c := activity.NewCounter(store, slog.New(slog.DiscardHandler))
		c.Flush(t.Context())
		if n := b.Int(t, `SELECT count(*) FROM activity`); n != 0 {
			t.Errorf("%d rows, and nothing happened", n)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 1000 {
					c.Add(activity.Logins)
				}
			})
		}
		for range 3 {
			c.Flush(t.Context())
		}
		wg.Wait()
		c.Flush(t.Context())
		if n := logins(t, store); n != 8000 {
			t.Errorf("%d logins, want 8000", n)
		}
	})
}

// What happened up to the end is written, though the server was told to stop.
func TestCounterWritesAtTheEnd(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		store := b.Open(t)
		c := activity.NewCounter(store, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		c.Add(activity.Logins)
		stop()
		c.Follow(ctx)
		if n := logins(t, store); n != 1 {
			t.Errorf("%d logins, want 1", n)
		}
	})
}

// failing is a store whose database cannot be reached until it can.
type failing struct {
	storage.Store

	down bool
}

func (f *failing) AddActivity(ctx context.Context, counts map[activity.Kind]int64) error {
	if f.down {
		return errors.New("down")
	}
	return f.Store.AddActivity(ctx, counts)
}

// What cannot be written is written later.
func TestCounterSurvivesTheDatabase(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		store := &failing{Store: b.Open(t), down: true}
		c := activity.NewCounter(store, slog.New(slog.DiscardHandler))
		c.Add(activity.Logins)
		c.Flush(t.Context())
		c.Add(activity.Logins)
		store.down = false
		c.Flush(t.Context())
		if n := logins(t, store); n != 2 {
			t.Errorf("%d logins, want 2", n)
		}
	})
}

func TestNilCounter(t *testing.T) {
	t.Parallel()
	var c *activity.Counter
	c.Add(activity.Logins)
}
