// Package postgres_test tests what only PostgreSQL promises. What every storage has to do is tested in storagetest.
package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	neturl "net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"signet/audit"
	"signet/clients"
	"signet/logins"
	"signet/storage/postgres"
	"signet/storage/storagetest"
	"signet/tokens"
	"signet/users"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open opens a store on the database, which the tracer may watch, and brings the schema up to date.
func open(t testing.TB, url string, tracer pgx.QueryTracer) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, tracer)
	check(t, err)
	t.Cleanup(s.Close)
	check(t, s.Migrate(t.Context()))
	return s
}

// Whoever may make no tables is told so at once, and how to mend it.
func TestMigrateWithoutRights(t *testing.T) {
	t.Parallel()
	url := storagetest.Postgres(t)
	conn := connect(t, url)
	role := fmt.Sprintf("limited %d", time.Now().UnixNano())
	for _, sql := range []string{`CREATE ROLE "` + role + `" LOGIN`, `REVOKE CREATE ON SCHEMA public FROM PUBLIC`} {
		_, err := conn.Exec(t.Context(), sql)
		check(t, err)
	}
	u, err := neturl.Parse(url)
	check(t, err)
	u.User = neturl.User(role)
	s, err := postgres.Open(t.Context(), u.String(), nil)
	check(t, err)
	defer s.Close()
	began := time.Now()
	err = s.Migrate(t.Context())
	want := fmt.Sprintf(`ALTER DATABASE %q OWNER TO %q`, query[string](t, conn, `SELECT current_database()`), role)
	if took := time.Since(began); err == nil || !strings.Contains(err.Error(), want) || took > 5*time.Second {
		t.Errorf("after %s: %v", took, err)
	}
	_, err = conn.Exec(t.Context(), want)
	check(t, err)
	if query[int](t, conn, `SELECT current_setting('server_version_num')::int`) >= 150000 { // from there on the owner of the database has its schema, too
		check(t, s.Migrate(t.Context()))
	}
	_, err = conn.Exec(t.Context(), `ALTER DATABASE `+strings.Fields(want)[2]+` OWNER TO CURRENT_USER; REASSIGN OWNED BY "`+role+`" TO CURRENT_USER; DROP ROLE "`+role+`"`)
	check(t, err)
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	check(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// query returns the one value that the query selects.
func query[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) (v T) {
	t.Helper()
	check(t, conn.QueryRow(t.Context(), sql, args...).Scan(&v))
	return v
}

// poll waits until the condition holds.
func poll(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		case <-tick.C:
		}
	}
}

// addSessions makes a client, a user, and n sessions of theirs.
func addSessions(t testing.TB, s *postgres.Store, n int) []tokens.NewSession {
	t.Helper()
	c, err := s.CreateClient(t.Context(), clients.Client{ID: uuid.NewString(), Scope: clients.Scope{"read", "write"}, Epoch: 7},
		audit.New(audit.ClientCreated, audit.Origin{}))
	check(t, err)
	u, err := s.CreateUser(t.Context(), users.User{ID: uuid.NewString(), Username: c.ID}, c.ID, audit.New(audit.UserCreated, audit.Origin{}))
	check(t, err)
	sessions := make([]tokens.NewSession, n)
	each(t, n, 8, func(i int) error {
		sessions[i] = tokens.NewSession{
			ID: uuid.New(), ClientID: c.ID, ClientEpoch: c.Epoch, UserID: u.ID, UserEpoch: u.Epoch, Scope: c.Scope,
			Audience: []string{"https://api.example"}, SecretDigest: make([]byte, 32), IdleTTL: time.Hour, TTL: 2 * time.Hour,
			Address: "192.0.2.7", UserAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
		}
		_, err := s.CreateSession(t.Context(), sessions[i], audit.New(audit.SessionCreated, audit.Origin{}))
		return err
	})
	return sessions
}

// each calls f for 0 to n-1, from a number of goroutines, of which each takes every so manieth number.
func each(t testing.TB, n, goroutines int, f func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := g; i < n; i += goroutines {
				if err := f(i); err != nil {
					t.Errorf("number %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

func use(n tokens.NewSession, sequence int64) tokens.Use {
	return tokens.Use{
		Session: n.ID, ClientID: n.ClientID, SecretDigest: n.SecretDigest, From: sequence, To: sequence + 1,
		IdleTTL: n.IdleTTL, Address: n.Address, UserAgent: n.UserAgent, Repeatable: true,
	}
}

func accessToken(n tokens.NewSession) tokens.AccessToken {
	return tokens.AccessToken{ID: uuid.NewString(), ClientID: n.ClientID, UserID: n.UserID, SessionID: n.ID, ExpiresAt: time.Now().Add(time.Hour)}
}

// rotateAll uses the current token of each session in turn, from the first sequence number up to but not including the last.
func rotateAll(t testing.TB, s *postgres.Store, sessions []tokens.NewSession, first, last int64) {
	t.Helper()
	each(t, len(sessions), 16, func(i int) error {
		for sequence := first; sequence < last; sequence++ {
			if _, rotated, err := s.Rotate(t.Context(), use(sessions[i], sequence), nil); err != nil || !rotated {
				return fmt.Errorf("rotated %t, %w", rotated, err)
			}
		}
		return nil
	})
}

// watcher counts the statements that the server gets.
type watcher struct {
	mu         sync.Mutex
	statements []string
}

func (w *watcher) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.statements = append(w.statements, data.SQL)
	return ctx
}

func (w *watcher) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// Statements that are gathered go out as a batch, one that comes alone as a batch of one.

func (w *watcher) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (w *watcher) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.statements = append(w.statements, data.SQL)
}

func (w *watcher) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// seen returns the statements since the last time.
func (w *watcher) seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() { w.statements = nil }()
	return w.statements
}

func TestOneStatement(t *testing.T) {
	t.Parallel()
	var w watcher
	s := open(t, storagetest.Postgres(t), &w)
	n := addSessions(t, s, 1)[0]
	w.seen()
	for name, do := range map[string]func() (bool, error){
		"refresh": func() (bool, error) { _, rotated, err := s.Rotate(t.Context(), use(n, 0), nil); return rotated, err },
		"refused refresh": func() (bool, error) {
			_, rotated, err := s.Rotate(t.Context(), use(n, 10), nil)
			return !rotated, err
		},
		"introspection": func() (bool, error) {
			_, active, err := s.AccessTokenActive(t.Context(), accessToken(n))
			return active, err
		},
		"introspection of a client's token": func() (bool, error) {
			_, active, err := s.AccessTokenActive(t.Context(), tokens.AccessToken{
				ID: uuid.NewString(), ClientID: n.ClientID, ClientEpoch: n.ClientEpoch, ExpiresAt: time.Now().Add(time.Hour),
			})
			return active, err
		},
	} {
		if done, err := do(); !done || err != nil {
			t.Errorf("%s: %t, %v", name, done, err)
		}
		if statements := w.seen(); len(statements) != 1 {
			t.Errorf("%s takes %d statements: %s", name, len(statements), strings.Join(statements, "\n---\n"))
		}
	}
}

// Refreshes update rows in place, so that no index grows with them.
func TestRotationsAreHOT(t *testing.T) {
	t.Parallel()
	const sessions, rotations = 2000, 5
	// An ANALYZE that a busy machine drags out would keep the spent versions from making room, for as long as it takes.
	url, stop, err := storagetest.StartCluster(false, "autovacuum=off")
	check(t, err)
	t.Cleanup(stop)
	s := open(t, url, nil)
	list := addSessions(t, s, sessions)
	for n := range int64(rotations) { // all of them in turn, as users come back now and then
		rotateAll(t, s, list, n, n+1)
	}
	s.Close() // its connections report what they counted when they end
	conn := connect(t, url)
	var updated, inPlace int64
	poll(t, "all updates are counted", func() bool {
		check(t, conn.QueryRow(t.Context(), `SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'sessions'`).
			Scan(&updated, &inPlace))
		return updated >= sessions*rotations
	})
	if share := float64(inPlace) / float64(updated); share <= 0.95 {
		t.Errorf("%d of %d updates were in place", inPlace, updated)
	}
}

// A page of sessions is read from an index that has them in order, however many there are.
func TestSessionListReadsAPage(t *testing.T) {
	t.Parallel()
	url := storagetest.Postgres(t)
	s := open(t, url, nil)
	var list []tokens.NewSession
	for range 3 {
		list = append(list, addSessions(t, s, 1000)...)
	}
	conn := connect(t, url)
	_, err := conn.Exec(t.Context(), `ANALYZE`)
	check(t, err)
	read := func() (rows int64) {
		check(t, conn.QueryRow(t.Context(), `SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'sessions'`).Scan(&rows))
		return rows
	}
	s.Close() // its connections report what they counted when they end
	poll(t, "the work until now is counted", func() bool {
		return query[int64](t, conn, `SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'sessions'`) == int64(len(list))
	})
	for name, f := range map[string]tokens.Filter{
		"everything": {}, "user": {UserID: list[0].UserID}, "client": {ClientID: list[0].ClientID},
		"both": {UserID: list[0].UserID, ClientID: list[0].ClientID},
	} {
		before := read()
		s := open(t, url, nil)
		f.Limit = 10
		for range 3 {
			page, err := s.Sessions(t.Context(), f)
			check(t, err)
			if len(page) != f.Limit {
				t.Fatalf("%s: %d on a page", name, len(page))
			}
			f.After = page[len(page)-1].Place()
		}
		s.Close()
		poll(t, name+" is counted", func() bool { return read() > before })
		if rows := read() - before; rows > 300 {
			t.Errorf("%s: three pages of 10 read %d rows", name, rows)
		}
	}
}

// The log is what a refresh costs the disk.
func TestLogOfRotations(t *testing.T) {
	t.Parallel()
	// The position in the log is the cluster's: nobody else may write to it.
	url, stop, err := storagetest.StartCluster(false, "autovacuum=off", "checkpoint_timeout=1h")
	check(t, err)
	t.Cleanup(stop)
	s := open(t, url, nil)
	conn := connect(t, url)
	sessions := addSessions(t, s, 500)
	rotateAll(t, s, sessions, 0, 2)
	before := query[string](t, conn, `SELECT pg_current_wal_insert_lsn()::text`)
	rotateAll(t, s, sessions, 2, 10)
	bytes := query[int64](t, conn, `SELECT (pg_current_wal_insert_lsn() - $1::text::pg_lsn)::bigint`, before)
	if each := bytes / (500 * 8); each >= 500 {
		t.Errorf("%d bytes of log for each rotation", each)
	} else {
		t.Logf("%d bytes of log for each rotation", each)
	}
}

func TestSmallPool(t *testing.T) {
	t.Parallel()
	s := open(t, storagetest.Postgres(t)+"&pool_max_conns=2", nil)
	if _, _, limit, _ := s.PoolStats(); limit != 2 {
		t.Fatalf("the pool allows %d connections", limit)
	}
	sessions := addSessions(t, s, 64)
	each(t, 64, 64, func(i int) error {
		for sequence := range int64(5) {
			if _, rotated, err := s.Rotate(t.Context(), use(sessions[i], sequence), nil); err != nil || !rotated {
				return fmt.Errorf("rotated %t, %w", rotated, err)
			}
			// A change of several statements holds a connection for all of them and must not want a second one.
			if revoked, err := s.RevokeAccessToken(t.Context(), accessToken(sessions[i]), audit.New(audit.AccessTokenRevoked, audit.Origin{})); err != nil || !revoked {
				return fmt.Errorf("revoked %t, %w", revoked, err)
			}
		}
		return nil
	})
	if _, _, _, waits := s.PoolStats(); waits == 0 {
		t.Error("no connection was waited for")
	}
}

// once makes goroutines meet, but only the first time that each comes: a repetition is not held up.
type once struct {
	arrived sync.WaitGroup
	came    [2]bool
}

func (o *once) meet(i int) {
	if !o.came[i] {
		o.came[i] = true
		o.arrived.Done()
		o.arrived.Wait()
	}
}

func TestLostRacesAreRepeated(t *testing.T) {
	t.Parallel()
	url := storagetest.Postgres(t)
	setup := connect(t, url)
	_, err := setup.Exec(t.Context(), `CREATE TABLE counters (id int PRIMARY KEY, n int); INSERT INTO counters VALUES (0, 0), (1, 0)`)
	check(t, err)
	for name, c := range map[string]struct {
		isolation pgx.TxIsoLevel
		do        func(ctx context.Context, tx pgx.Tx, i int, meet func()) error
		code      string
	}{
		"deadlock": {pgx.ReadCommitted, func(ctx context.Context, tx pgx.Tx, i int, meet func()) error {
			if _, err := tx.Exec(ctx, `SET LOCAL deadlock_timeout = '10ms'`); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `UPDATE counters SET n = n + 1 WHERE id = $1`, i); err != nil {
				return err
			}
			meet()
			_, err := tx.Exec(ctx, `UPDATE counters SET n = n + 1 WHERE id = $1`, 1-i)
			return err
		}, "40P01"},
		"serialization failure": {pgx.RepeatableRead, func(ctx context.Context, tx pgx.Tx, _ int, meet func()) error {
			var n int
			if err := tx.QueryRow(ctx, `SELECT sum(n) FROM counters`).Scan(&n); err != nil {
				return err
			}
			meet()
			_, err := tx.Exec(ctx, `UPDATE counters SET n = n + 1`)
			return err
		}, "40001"},
	} {
		t.Run(name, func(t *testing.T) {
			before := query[int](t, setup, `SELECT sum(n)::int FROM counters`)
			var lost atomic.Int64
			var together once
			together.arrived.Add(2)
			conns := [2]*pgx.Conn{connect(t, url), connect(t, url)}
			each(t, 2, 2, func(i int) error {
				_, err := postgres.Run(t.Context(), false, func(ctx context.Context) (int, error) {
					err := pgx.BeginTxFunc(ctx, conns[i], pgx.TxOptions{IsoLevel: c.isolation}, func(tx pgx.Tx) error {
						return c.do(ctx, tx, i, func() { together.meet(i) })
					})
					var pgErr *pgconn.PgError
					if errors.As(err, &pgErr) && pgErr.Code == c.code {
						lost.Add(1)
					}
					return 0, err
				})
				return err
			})
			if lost.Load() == 0 {
				t.Error("nobody lost a race")
			}
			if n := query[int](t, setup, `SELECT sum(n)::int FROM counters`) - before; n != 4 {
				t.Errorf("the two changed %d counters, want 2 each", n)
			}
		})
	}
}

func TestWhatIsRepeated(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err        error
		repeatable bool
		want       int // how often it is run
	}{
		"success":                             {nil, true, 1},
		"no rows":                             {pgx.ErrNoRows, true, 1},
		"unique violation":                    {&pgconn.PgError{Code: "23505"}, true, 1},
		"deadlock":                            {&pgconn.PgError{Code: "40P01"}, false, 4},
		"serialization failure":               {&pgconn.PgError{Code: "40001"}, false, 4},
		"connection lost":                     {io.ErrUnexpectedEOF, true, 4},
		"connection lost, not repeatable":     {io.ErrUnexpectedEOF, false, 1},
		"server going down":                   {&pgconn.PgError{Code: "57P01"}, true, 4},
		"server going down, not repeatable":   {&pgconn.PgError{Code: "57P01"}, false, 1},
		"statement cancelled by the operator": {&pgconn.PgError{Code: "57014"}, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := 0
			_, err := postgres.Run(t.Context(), c.repeatable, func(context.Context) (int, error) {
				got++
				return 0, c.err
			})
			if got != c.want || !errors.Is(err, c.err) {
				t.Errorf("run %d times, want %d; %v", got, c.want, err)
			}
		})
	}
}

// Connections that break under load are not noticed by whoever asks what may be asked again.
func TestBrokenConnections(t *testing.T) {
	t.Parallel()
	url := storagetest.Postgres(t)
	s := open(t, url, nil)
	sessions := addSessions(t, s, 8)
	conn := connect(t, url)
	work := func(n tokens.NewSession, sequence int64) error {
		if _, active, err := s.AccessTokenActive(t.Context(), accessToken(n)); err != nil || !active {
			return fmt.Errorf("active %t, %w", active, err)
		}
		// Whether it took effect before the connection broke is not known: a repetition may find it done.
		if _, _, err := s.Rotate(t.Context(), use(n, sequence), nil); err != nil {
			return fmt.Errorf("rotation: %w", err)
		}
		if st, _, err := s.SessionState(t.Context(), use(n, sequence), 0); err != nil || st.Sequence != sequence+1 {
			return fmt.Errorf("at %d, want %d: %w", st.Sequence, sequence+1, err)
		}
		return nil
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make([]atomic.Int64, len(sessions))
	var wg sync.WaitGroup
	for i, n := range sessions {
		wg.Go(func() {
			for sequence := int64(0); ctx.Err() == nil; sequence++ {
				if err := work(n, sequence); err != nil {
					t.Error(err)
					stop()
				}
				done[i].Add(1)
			}
		})
	}
	broken := int64(0)
	for range 10 {
		// Everybody gets something done between two such events: nobody is to survive one after the other without a pause.
		for i := range done {
			goal := done[i].Load() + 2
			poll(t, "work goes on", func() bool { return done[i].Load() >= goal || ctx.Err() != nil })
		}
		broken += query[int64](t, conn, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	}
	stop()
	wg.Wait()
	if broken < 10 {
		t.Errorf("only %d connections were broken", broken)
	}
}

// A whole pool may be broken at once, as when the server was restarted, and then be met by a single request.
func TestBrokenPool(t *testing.T) {
	t.Parallel()
	url := storagetest.Postgres(t)
	s := open(t, url, nil)
	n := addSessions(t, s, 1)[0]
	conn := connect(t, url)
	for range 5 {
		each(t, 64, 16, func(int) error { return s.Ping(t.Context()) })
		_, idle, _, _ := s.PoolStats()
		_, err := conn.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		check(t, err)
		poll(t, "the connections are gone", func() bool {
			return query[int](t, conn, `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`) == 0
		})
		if _, active, err := s.AccessTokenActive(t.Context(), accessToken(n)); err != nil || !active {
			t.Fatalf("with %d broken connections: active %t, %v", idle, active, err)
		}
	}
}

// A refresh that waited for the row looks at it again: a revocation that it waited for refuses it.
func TestRotateLooksAgain(t *testing.T) {
	t.Parallel()
	url := storagetest.Postgres(t)
	s := open(t, url, nil)
	for name, c := range map[string]struct {
		change string
		want   bool
	}{
		"nothing":     {`SELECT $1::uuid`, true},
		"revoked":     {`UPDATE sessions SET revoked_at = now() WHERE id = $1`, false},
		"rotated":     {`UPDATE sessions SET sequence = sequence + 1 WHERE id = $1`, false},
		"idle":        {`UPDATE sessions SET idle_expires_at = created_at WHERE id = $1`, false},
		"deleted":     {`DELETE FROM sessions WHERE id = $1`, false},
		"used but so": {`UPDATE sessions SET last_used_at = now() WHERE id = $1`, true},
	} {
		t.Run(name, func(t *testing.T) {
			n := addSessions(t, s, 1)[0]
			conn, observer := connect(t, url), connect(t, url)
			tx, err := conn.Begin(t.Context())
			check(t, err)
			query[int](t, conn, `SELECT 1 FROM sessions WHERE id = $1 FOR UPDATE`, n.ID.String())
			rotated := make(chan bool)
			go func() {
				_, ok, err := s.Rotate(t.Context(), use(n, 0), nil)
				if err != nil {
					t.Error(err)
				}
				rotated <- ok
			}()
			poll(t, "the rotation waits", func() bool {
				return query[int](t, observer, `SELECT count(*)::int FROM pg_stat_activity
					WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 1
			})
			_, err = tx.Exec(t.Context(), c.change, n.ID.String())
			check(t, err)
			check(t, tx.Commit(t.Context()))
			if got := <-rotated; got != c.want {
				t.Errorf("rotated %t", got)
			}
		})
	}
}

// A code that is issued while its consent is being withdrawn, after the withdrawal has looked for codes, begins no session that outlives it.
func TestWithdrawalSeesLateCodes(t *testing.T) {
	t.Parallel()
	url := storagetest.Postgres(t)
	s := open(t, url, nil)
	n := addSessions(t, s, 1)[0]
	l, err := s.CreateLogin(t.Context(), logins.NewLogin{
		Ref: logins.Ref{ID: uuid.New(), Digest: make([]byte, 32)}, UserID: n.UserID, UserEpoch: n.UserEpoch, Methods: []string{"pwd"}, Class: "aal1", TTL: time.Hour,
	}, audit.New(audit.LoginSucceeded, audit.Origin{}))
	check(t, err)
	conn, observer := connect(t, url), connect(t, url)
	insert := func(sql string, args ...any) {
		t.Helper()
		_, err := observer.Exec(t.Context(), sql, args...)
		check(t, err)
	}
	insert(`INSERT INTO consents (user_id, client_id, client_epoch, redirects, scope, audience) VALUES ($1, $2, $3, '', '{read}', '{}')`, n.UserID, n.ClientID, n.ClientEpoch)
	insert(`UPDATE sessions SET login_id = $2 WHERE id = $1`, n.ID, l.ID)
	waiting := func() int {
		return query[int](t, observer, `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
	}

	tx, err := conn.Begin(t.Context())
	check(t, err)
	query[int](t, conn, `SELECT 1 FROM sessions WHERE id = $1 FOR UPDATE`, n.ID) // as a refresh has it
	withdrawn, redeemed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := s.WithdrawConsent(t.Context(), n.UserID, n.ClientID, audit.New(audit.ConsentWithdrawn, audit.Origin{}))
		withdrawn <- err
	}()
	poll(t, "the withdrawal waits", func() bool { return waiting() == 1 })
	r := tokens.Redemption{
		Session: uuid.New(), CodeDigest: make([]byte, 32), ClientID: n.ClientID, ClientEpoch: n.ClientEpoch, SessionDigest: make([]byte, 32), IdleTTL: time.Hour, TTL: time.Hour,
	}
	insert(`INSERT INTO authorization_codes (session_id, digest, client_id, client_epoch, user_id, user_epoch, login_id, redirect_uri, redirect_sent, challenge, scope, audience,
		nonce, consented, ends_with_login, jkt, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, '', false, '', '{read}', '{}', '', true, false, '', now() + interval '1 minute')`,
		r.Session, r.CodeDigest, n.ClientID, n.ClientEpoch, n.UserID, n.UserEpoch, l.ID)
	go func() {
		_, _, err := s.RedeemCode(t.Context(), r, audit.New(audit.SessionCreated, audit.Origin{}))
		redeemed <- err
	}()
	poll(t, "the redemption waits, or is done", func() bool { return waiting() == 2 || len(redeemed) == 1 })
	check(t, tx.Commit(t.Context()))
	check(t, errors.Join(<-withdrawn, <-redeemed))
	if live := query[int](t, observer, `SELECT count(*)::int FROM sessions WHERE revoked_at IS NULL`); live != 0 {
		t.Errorf("%d sessions live on", live)
	}
}

// An answer may be lost and a statement therefore be run again: what it did is not done twice.
func TestRepetitions(t *testing.T) {
	t.Parallel()
	url := storagetest.Postgres(t)
	s := open(t, url, nil)
	conn := connect(t, url)
	n := addSessions(t, s, 1)[0]
	e := audit.New(audit.SessionCreated, audit.Origin{})
	again := n
	again.ID = uuid.New()
	for range 2 {
		_, err := s.CreateSession(t.Context(), again, e)
		check(t, err)
	}
	if _, rotated, err := s.Rotate(t.Context(), use(again, 0), nil); !rotated || err != nil {
		t.Fatalf("rotated %t, %v", rotated, err)
	}
	_, err := s.CreateSession(t.Context(), again, e)
	check(t, err)
	if st, _, err := s.SessionState(t.Context(), use(again, 0), 0); err != nil || st.Sequence != 1 {
		t.Errorf("at sequence %d, %v", st.Sequence, err)
	}
	for range 2 {
		check(t, s.RecordEvent(t.Context(), audit.Event{ID: e.ID, Type: audit.SessionCreated}))
	}
	if events := query[int](t, conn, `SELECT count(*)::int FROM audit_events WHERE id = $1`, e.ID); events != 1 {
		t.Errorf("%d events", events)
	}
}

func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url := storagetest.Postgres(t)
	each(t, 10, 10, func(int) error {
		s, err := postgres.Open(t.Context(), url, nil)
		if err != nil {
			return err
		}
		defer s.Close()
		if err := s.Migrate(t.Context()); err != nil {
			return err
		}
		have, want, err := s.Schema(t.Context())
		if err == nil && have != want {
			err = fmt.Errorf("schema %d, want %d", have, want)
		}
		return err
	})
}

// Where the build of an index was interrupted, and somebody reads the table for long, requests do not wait for the migration that is
// tried again.
func TestMigrateAgainBesideAReader(t *testing.T) {
	t.Parallel()
	url := storagetest.Postgres(t)
	open(t, url, nil)
	text, err := os.ReadFile("migrations/00015_sessions_newest.sql")
	check(t, err)
	up, _, _ := strings.Cut(string(text), "-- +goose Down")
	reader, migrating, observer := connect(t, url), connect(t, url), connect(t, url)
	tx, err := reader.Begin(t.Context())
	check(t, err)
	query[int](t, reader, `SELECT count(*)::int FROM sessions`)
	migrated := make(chan error, 1)
	go func() {
		for sql := range strings.SplitSeq(up, ";\n") {
			if _, err := migrating.Exec(t.Context(), sql); err != nil {
				migrated <- err
				return
			}
		}
		migrated <- nil
	}()
	poll(t, "the migration waits", func() bool {
		return query[int](t, observer, `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 1
	})
	for _, sql := range []string{`SET statement_timeout = '3s'`, `UPDATE sessions SET sequence = sequence + 1`} {
		_, err := observer.Exec(t.Context(), sql)
		check(t, err)
	}
	check(t, tx.Commit(t.Context()))
	check(t, <-migrated)
}

// A database URL that cannot be read is not repeated in the error: it holds a password.
func TestOpenKeepsThePassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://user:hunter2@host:port/database", "postgres://user:hunter2@host/db?sslmode=perhaps"} {
		s, err := postgres.Open(t.Context(), url, nil)
		if err == nil {
			s.Close()
			t.Errorf("%s: no error", url)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v", err)
		}
	}
}
