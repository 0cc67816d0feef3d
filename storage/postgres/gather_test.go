package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"signet/storage/storagetest"
)

// batches counts round trips and the statements in them.
type batches struct {
	watcher
	roundTrips int
}

func (b *batches) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.roundTrips++
	return ctx
}

// Many statements at once share round trips, each gets its own answer, and one that the database refuses harms none of those
// that went out with it.
func TestGathering(t *testing.T) {
	t.Parallel()
	var b batches
	s := open(t, storagetest.Postgres(t), &b)
	b.seen()
	const askers = 400
	var asking sync.WaitGroup
	for i := range askers {
		asking.Go(func() {
			switch i % 10 {
			case 0:
				_, err := s.QueryText(t.Context(), uuid.New(), `SELECT (1 / $1::int)::text`, 0)
				var refused *pgconn.PgError
				if !errors.As(err, &refused) || refused.Code != "22012" {
					t.Errorf("a division by zero got %v", err)
				}
			case 1:
				if _, err := s.QueryText(t.Context(), uuid.New(), `SELECT 'x' WHERE $1::int = 0`, i); !errors.Is(err, pgx.ErrNoRows) {
					t.Errorf("no row got %v", err)
				}
			default:
				want := fmt.Sprint(i)
				if got, err := s.QueryText(t.Context(), uuid.New(), `SELECT $1::int::text`, i); got != want || err != nil {
					t.Errorf("asked for %s, got %q, %v", want, got, err)
				}
			}
		})
	}
	asking.Wait()
	if b.roundTrips == 0 || len(b.seen()) < askers {
		t.Errorf("%d round trips", b.roundTrips)
	}
}

// A statement whose request went away, or that comes after the end, is answered at once.
func TestGatheringEnds(t *testing.T) {
	t.Parallel()
	s := open(t, storagetest.Postgres(t), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := s.QueryText(ctx, uuid.New(), `SELECT pg_sleep(2)::text`); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Second {
		t.Errorf("got %v after %s", err, time.Since(began))
	}
	s.Close()
	if _, err := s.QueryText(t.Context(), uuid.New(), `SELECT 'x'`); err == nil {
		t.Error("a closed database answered")
	}
}

// Rows that somebody has locked hold up their own sessions alone, however many they are and whatever was sent with them.
func TestLockedRowsHoldUpNobodyElse(t *testing.T) {
	t.Parallel()
	url := storagetest.Postgres(t)
	s := open(t, url, nil)
	sessions := addSessions(t, s, 60)
	tx, err := connect(t, url).Begin(t.Context())
	check(t, err)
	const locked = 6 // more than round trips are made at once, fewer than the connections that refreshes may use
	blocked := make(chan error, locked)
	for _, n := range sessions[:locked] {
		_, err = tx.Exec(t.Context(), `SELECT FROM sessions WHERE id = $1 FOR UPDATE`, n.ID.String())
		check(t, err)
		go func() {
			_, rotated, err := s.Rotate(t.Context(), use(n, 0), nil)
			if err == nil && !rotated {
				err = errors.New("not rotated")
			}
			blocked <- err
		}()
	}
	began := time.Now()
	var others sync.WaitGroup
	for _, n := range sessions[locked:] {
		others.Go(func() {
			if _, rotated, err := s.Rotate(t.Context(), use(n, 0), nil); err != nil || !rotated {
				t.Errorf("%t, %v", rotated, err)
			}
		})
	}
	others.Wait()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the others took %s", took)
	}
	check(t, tx.Rollback(t.Context()))
	for range locked {
		check(t, <-blocked)
	}
}

// Refreshes that are stuck, because nobody can write, keep no connection from those who only read.
func TestStuckRefreshesHoldUpNobodyElse(t *testing.T) {
	t.Parallel()
	url := storagetest.Postgres(t)
	s := open(t, url, nil)
	sessions := addSessions(t, s, 20)
	tx, err := connect(t, url).Begin(t.Context())
	check(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE sessions IN SHARE MODE`) // as CREATE INDEX does
	check(t, err)
	var stuck sync.WaitGroup
	for _, n := range sessions {
		stuck.Go(func() {
			if _, rotated, err := s.Rotate(t.Context(), use(n, 0), nil); err != nil || !rotated {
				t.Errorf("%t, %v", rotated, err)
			}
		})
		time.Sleep(60 * time.Millisecond) // each is waited for no more when the next one comes
	}
	poll(t, "refreshes use all connections that they may", func() bool {
		inUse, _, limit, _ := s.PoolStats()
		return inUse >= limit/2
	})
	began := time.Now()
	for range 20 {
		if _, active, err := s.AccessTokenActive(t.Context(), accessToken(sessions[0])); err != nil || !active {
			t.Errorf("%t, %v", active, err)
		}
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("20 introspections took %s", took)
	}
	if inUse, _, limit, _ := s.PoolStats(); inUse > limit/2 {
		t.Errorf("%d of %d connections are in use", inUse, limit)
	}
	check(t, tx.Rollback(t.Context()))
	stuck.Wait()
}
