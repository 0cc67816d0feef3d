package storagetest_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"signet/audit"
	"signet/logins"
	"signet/tokens"
)

// multiply makes n more sessions that are like the one with the id.
func (w *world) multiply(t testing.TB, id uuid.UUID, n int) {
	t.Helper()
	columns := `user_id, user_epoch, client_epoch, created_at, expires_at, client_id, secret_digest, scope, audience,
		revoked_at, revoked_reason, sequence, last_used_at, idle_expires_at, address, user_agent`
	newID, series := `gen_random_uuid()`, `generate_series(1, $2::int)`
	if w.Name == "sqlite" {
		newID = `printf('%s-%s-4%s-8%s-%s', lower(hex(randomblob(4))), lower(hex(randomblob(2))),
			substr(lower(hex(randomblob(2))), 2), substr(lower(hex(randomblob(2))), 2), lower(hex(randomblob(6))))`
		series = `(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2) SELECT i FROM n)`
	}
	w.Exec(t, `INSERT INTO sessions (id, `+columns+`) SELECT `+newID+`, `+columns+` FROM sessions, `+series+` WHERE id = $1`,
		id.String(), n)
}

func (w *world) sessions(t testing.TB) int64 {
	t.Helper()
	return w.Int(t, `SELECT count(*) FROM sessions`)
}

func TestDeleteEndedSessions(t *testing.T) {
	const keep = time.Hour
	each(t, func(t *testing.T, w *world) {
		remove := func(t *testing.T, want int64) {
			t.Helper()
			before := w.sessions(t)
			if n := ok[int64](t)(w.DeleteEndedSessions(t.Context(), keep)); n != want || before-w.sessions(t) != want {
				t.Errorf("%d deleted, by its own account %d, want %d", before-w.sessions(t), n, want)
			}
		}
		live := w.addSession(t, w.addClient(t, "live"), w.addUser(t, "live"))
		remove(t, 0)
		for name, end := range endings {
			t.Run(name, func(t *testing.T) {
				n := w.addSession(t, w.addClient(t, name), w.addUser(t, name))
				end(t, w, n)
				switch name {
				case "user disabled", "client disabled": // disabling raises the epoch as well: it may be told by that
					check(t, w.DeleteUser(t.Context(), n.UserID, newEvent(audit.UserDeleted)))
				}
				remove(t, 1)
			})
		}
		t.Run("idle", func(t *testing.T) {
			n := w.addSession(t, w.addClient(t, "idle"), w.addUser(t, "idle"))
			idleEnd(t, w, n)
			w.Age(t, 59*time.Minute)
			remove(t, 0)
			w.Age(t, time.Minute)
			remove(t, 1)
		})
		if !w.rotate(t, use(live, 0)) {
			t.Error("the live session is not usable any more")
		}
	})
}

// The ended ones go, all of them and nothing else, while the others are in use.
func TestDeleteManyEndedSessions(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c, u := w.addClient(t, "one"), w.addUser(t, "ann")
		live, ended := w.addSession(t, c, u), w.addSession(t, c, u)
		w.multiply(t, live.ID, 499)
		sessionRevoked(t, w, ended)
		w.multiply(t, ended.ID, 1999)
		used := []tokens.NewSession{live}
		for range 3 {
			used = append(used, w.addSession(t, c, u))
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var rotations atomic.Int64
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				for sequence := int64(0); ctx.Err() == nil; sequence++ {
					for _, n := range used[i*2 : i*2+2] {
						if _, rotated, err := w.Rotate(t.Context(), use(n, sequence), nil); !rotated || err != nil {
							t.Errorf("rotated %t, %v", rotated, err)
							return
						}
						rotations.Add(1)
					}
				}
			})
		}
		if n := ok[int64](t)(w.DeleteEndedSessions(t.Context(), time.Hour)); n != 2000 {
			t.Errorf("%d deleted", n)
		}
		stop()
		wg.Wait()
		if n := w.sessions(t); n != 503 {
			t.Errorf("%d are left", n)
		}
		if rotations.Load() == 0 {
			t.Error("nothing was rotated meanwhile")
		}
		if n := ok[int64](t)(w.DeleteEndedSessions(t.Context(), time.Hour)); n != 0 {
			t.Errorf("%d deleted after all were", n)
		}
	})
}

func TestDeleteExpiredRevocations(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.addClient(t, "one")
		n := w.addSession(t, c, w.addUser(t, "ann"))
		for i, at := range []tokens.AccessToken{accessToken(n), clientToken(c), accessToken(n), clientToken(c)} {
			at.ExpiresAt = time.Now().Add(time.Duration(1+i/2*2) * time.Hour)
			w.revoke(t, w.Store, at, true)
		}
		for _, step := range []struct {
			age  time.Duration
			want int64
		}{{0, 0}, {2 * time.Hour, 2}, {0, 0}, {2 * time.Hour, 2}} {
			w.Age(t, step.age)
			if n := ok[int64](t)(w.DeleteExpiredRevocations(t.Context())); n != step.want {
				t.Errorf("after %s more: %d deleted, want %d", step.age, n, step.want)
			}
		}
	})
}

// A revocation is never forgotten while the token would be good without it.
func TestRevocationIsKept(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		at := clientToken(w.addClient(t, "one"))
		w.revoke(t, w.Store, at, true)
		_, err := w.DeleteExpiredRevocations(t.Context())
		check(t, err)
		if w.active(t, at) {
			t.Error("active")
		}
	})
}

func TestDeleteLoginFailures(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.failed(t, newAttempt("ann", "A", "1"), false, audit.LoginFailed)
		w.Age(t, window)
		for i := range maxFailures - 1 {
			w.failed(t, newAttempt("bob", "B", fmt.Sprint(i)), false, audit.LoginFailed)
		}
		if n := ok[int64](t)(w.DeleteLoginFailures(t.Context(), window)); n != 2 { // of the username and of the address
			t.Errorf("%d deleted", n)
		}
		w.failed(t, newAttempt("bob", "B", "last"), false, audit.LoginFailed, audit.LoginThrottled)
	})
}

func TestDeleteEvents(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		check(t, w.RecordEvent(t.Context(), newEvent(audit.LoginFailed)))
		w.multiplyEvents(t, 1199)
		w.Age(t, 2*time.Hour)
		var want []string
		for range 10 {
			e := newEvent(audit.KeyRotated)
			check(t, w.RecordEvent(t.Context(), e))
			want = append(want, e.ID)
		}
		if n := ok[int64](t)(w.DeleteEvents(t.Context(), 3*time.Hour)); n != 0 {
			t.Errorf("%d deleted that are to be retained", n)
		}
		if n := ok[int64](t)(w.DeleteEvents(t.Context(), time.Hour)); n != 1200 {
			t.Errorf("%d deleted", n)
		}
		var got []string
		for _, e := range w.latest(t, all) {
			got = append(got, e.ID)
		}
		equal(t, "left", got, want)
	})
}

// multiplyEvents makes n more events like the one that there is, with the small ids of old ones.
func (w *world) multiplyEvents(t testing.TB, n int) {
	t.Helper()
	columns := `time, type, actor, client_id, user_id, session_id, address, request_id, detail`
	newID, series := `overlay(gen_random_uuid()::text PLACING '00000000' FROM 1)::uuid`, `generate_series(1, $1::int)`
	if w.Name == "sqlite" {
		newID = `'00000000' || lower(hex(randomblob(14)))`
		series = `(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) SELECT i FROM n)`
	}
	w.Exec(t, `INSERT INTO audit_events (id, `+columns+`) SELECT `+newID+`, `+columns+` FROM audit_events, `+series, n)
}

func TestDeleteEndedLoginsInParts(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		_, err := w.UsePasskey(t.Context(), logins.Factor{ID: uuid.NewString()}, 1, digest("challenge"), time.Minute)
		check(t, err)
		w.Age(t, time.Hour)
		w.Exec(t, `DROP TABLE consents`) // stands for a table that is too large for one of the statements
		if n, err := w.DeleteEndedLogins(t.Context()); n != 1 || err == nil {
			t.Errorf("%d deleted, %v", n, err)
		}
		equal(t, "challenges", w.Int(t, `SELECT count(*) FROM used_challenges`), int64(0))
	})
}
