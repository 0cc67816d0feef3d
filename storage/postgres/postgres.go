package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"signet/audit"
)

const (
	// statementTimeout bounds a request's stay in the database: waiting for a connection, for locks, and the work itself.
	statementTimeout = 5 * time.Second
	connectTimeout   = 3 * time.Second

	// defaultMaxConns is the size of the pool where the URL does not say otherwise (pool_max_conns). Commits of
	// simultaneous refreshes are made durable together, so a few more connections than cores pay off.
	defaultMaxConns = 16

	// tries is how often a statement is run that lost to a concurrent one or to a broken connection.
	tries = 4
)

// Store implements the stores of the domain packages on one PostgreSQL database.
type Store struct {
	pool      *pgxpool.Pool
	pooler    *pooler
	rotations *gatherer
	codes     *gatherer // their issue and redemption
	questions *gatherer // introspections, and who is logged in, in a browser
}

// Open prepares a pool for the database at the URL, or in keyword=value form, and does not connect yet. The tracer may be nil.
func Open(ctx context.Context, databaseURL string, tracer pgx.QueryTracer) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(databaseURL)
	if _, urlErr := url.Parse(databaseURL); err != nil && urlErr == nil && errors.Unwrap(err) != nil {
		return nil, errors.Unwrap(err) // about a parameter, such as a file that is missing
	}
	if err != nil {
		// The parser's own error repeats the URL with parts of a password that it could not make out.
		return nil, errors.New("the database URL is not of the form postgres://user:password@host:5432/database?sslmode=…")
	}
	if !strings.Contains(databaseURL, "pool_max_conns") {
		cfg.MaxConns = defaultMaxConns
	}
	if cfg.ConnConfig.ConnectTimeout == 0 || cfg.ConnConfig.ConnectTimeout > connectTimeout {
		cfg.ConnConfig.ConnectTimeout = connectTimeout
	}
	if _, set := cfg.ConnConfig.RuntimeParams["application_name"]; !set {
		cfg.ConnConfig.RuntimeParams["application_name"] = "signet"
	}
	cfg.ConnConfig.Tracer = tracer
	p := &pooler{chosen: strings.Contains(databaseURL, "default_query_exec_mode")}
	cfg.BeforeConnect = p.beforeConnect
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &Store{
		pool: pool, pooler: p,
		rotations: newGatherer(pool, settings{together: `SELECT ` + boundLocks}, 8),
		codes:     newGatherer(pool, settings{alone: `SELECT ` + byIndex, together: `SELECT ` + byIndex + `, ` + boundLocks}, 3),
		questions: newGatherer(pool, settings{}, 4),
	}, nil
}

// Close waits for connections in use and closes the pool.
func (s *Store) Close() { s.pool.Close() }

func readText(row pgx.Row) (text string, err error) {
	err = row.Scan(&text)
	return text, err
}

// Ping asks the database for a sign of life.
func (s *Store) Ping(ctx context.Context) error { return s.pool.Ping(ctx) }

// Server tells what the database is, whether it takes no writes, as a standby, and its time.
func (s *Store) Server(ctx context.Context) (version string, readOnly bool, now time.Time, err error) {
	_, _, err = one(ctx, s, func(row pgx.CollectableRow) (struct{}, error) {
		return struct{}{}, row.Scan(&version, &readOnly, &now)
	}, `SELECT 'PostgreSQL ' || current_setting('server_version'), current_setting('transaction_read_only')::boolean, clock_timestamp()`, named{})
	return version, readOnly, now, err
}

// PoolStats returns how many connections are in use, idle, allowed at the most, and how often one had to be waited for.
func (s *Store) PoolStats() (inUse, idle, limit int, waits int64) {
	st := s.pool.Stat()
	return int(st.AcquiredConns()), int(st.IdleConns()), int(st.MaxConns()), st.EmptyAcquireCount()
}

// run runs f within the statement timeout, again where it lost to a concurrent transaction or to a broken connection
// before anything was sent, and, if it is repeatable, also where it is unknown whether it took effect. A caller that goes away
// does not interrupt it: that would cost a connection.
func run[T any](ctx context.Context, s *Store, repeatable bool, f func(ctx context.Context) (T, error)) (T, error) {
	if err := ctx.Err(); err != nil {
		return *new(T), err
	}
	timeout := statementTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	for try := 1; ; try++ {
		v, err := f(ctx)
		if err != nil && lostConnection(err) {
			s.pool.Reset() // where one connection broke, a restart or a failover has broken them all
		}
		if err == nil || try == tries || ctx.Err() != nil || !(s.pooler.interferes(ctx, s.pool, err) || lostRace(err) || pgconn.SafeToRetry(err) || repeatable && lostConnection(err)) {
			return v, err
		}
		pause := time.Duration(1+rand.IntN(10*try*try)) * time.Millisecond //nolint:gosec // jitter
		select {
		case <-ctx.Done():
			return v, err
		case <-time.After(pause):
		}
	}
}

// pooler is what is known of a pooler between here and the server. One in transaction mode gives each transaction to any of its
// connections, whose prepared statements are not those of this one's.
type pooler struct {
	chosen   bool // the URL says how statements are sent
	describe atomic.Bool
}

// beforeConnect has new connections describe statements, where that was found necessary, rather than prepare them.
func (p *pooler) beforeConnect(_ context.Context, cfg *pgx.ConnConfig) error {
	if p.describe.Load() {
		cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	return nil
}

// interferes tells whether the statement failed, before it did anything, for a pooler's sake, and sees to it that those to come do
// not: a prepared statement was there already, or was not there.
func (p *pooler) interferes(ctx context.Context, pool *pgxpool.Pool, err error) bool {
	var pgErr *pgconn.PgError
	if p.chosen || !errors.As(err, &pgErr) || pgErr.Code != "42P05" && pgErr.Code != "26000" {
		return false
	}
	if !p.describe.Swap(true) {
		slog.InfoContext(ctx, "a pooler shares out the database's connections: statements are described from now on, not prepared")
	}
	pool.Reset()
	return true
}

// lostRace tells whether the transaction was rolled back for another one's sake (serialization failure, deadlock).
func lostRace(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == "40001" || pgErr.Code == "40P01")
}

// lostConnection tells whether the connection broke, or the server is going down, coming up, or a primary no more.
func lostConnection(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return false // slow is not broken
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return strings.HasPrefix(pgErr.Code, "08") || strings.HasPrefix(pgErr.Code, "57P") || pgErr.Code == "25006"
	}
	var netErr net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &netErr) || errors.Is(err, net.ErrClosed) ||
		strings.Contains(err.Error(), "conn closed")
}

// violates tells whether err says that the unique constraint would be violated.
func violates(err error, constraint string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "23505" && pgErr.ConstraintName == constraint
}

// exec runs one repeatable statement and returns how many rows it affected.
func (s *Store) exec(ctx context.Context, sql string, args named) (int64, error) {
	return run(ctx, s, true, func(ctx context.Context) (int64, error) {
		tag, err := s.pool.Exec(ctx, sql, args)
		return tag.RowsAffected(), err
	})
}

// one runs one repeatable statement and reads the row that it returns; found is false if there is none.
func one[T any](ctx context.Context, s *Store, read pgx.RowToFunc[T], sql string, args named) (v T, found bool, err error) {
	v, err = run(ctx, s, true, func(ctx context.Context) (T, error) {
		rows, err := s.pool.Query(ctx, sql, args)
		if err != nil {
			return v, err
		}
		return pgx.CollectExactlyOneRow(rows, read)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return v, false, nil
	}
	return v, err == nil, err
}

// oneGathered is one for a statement about that session or login, which goes out with others.
func oneGathered[T any](ctx context.Context, s *Store, g *gatherer, about uuid.UUID, read func(pgx.Row) (T, error), sql string, args named) (v T, found bool, err error) {
	v, err = run(ctx, s, true, func(ctx context.Context) (T, error) {
		return gathered(ctx, g, about, read, sql, args)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return v, false, nil
	}
	return v, err == nil, err
}

// many runs one query and reads its rows.
func many[T any](ctx context.Context, s *Store, read pgx.RowToFunc[T], sql string, args named) ([]T, error) {
	return run(ctx, s, true, func(ctx context.Context) ([]T, error) {
		rows, err := s.pool.Query(ctx, sql, args)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, read)
	})
}

// recording wraps a statement that changes a row and returns it, so that the event is written with the change. The result
// is the columns of the changed row.
func recording(change, columns string) string {
	return fmt.Sprintf(`WITH changed AS (%s), event AS (%s FROM changed ON CONFLICT (id) DO NOTHING) SELECT %s FROM changed`,
		change, insertEvent, columns)
}

// with adds the event's arguments to those of a statement made by recording.
func with(e audit.Event, args named) named {
	args["e_id"], args["e_type"], args["e_actor"] = e.ID, string(e.Type), e.Actor
	args["e_client"], args["e_user"], args["e_session"] = e.ClientID, e.UserID, e.SessionID
	args["e_address"], args["e_request"], args["e_detail"] = e.Address, e.RequestID, e.Detail
	return args
}
