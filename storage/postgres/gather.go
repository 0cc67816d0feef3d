package postgres

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// crowd is how many waiting statements are enough for a round trip of their own.
	crowd = 32

	// maxGathered is how many statements go to the database together at the most.
	maxGathered = 64

	// slow is after what time a round trip is waited for no more: the disk is slow, or a row is locked.
	slow = 50 * time.Millisecond
)

// gatherer puts the statements of many requests, each of one row or none, into few round trips. A statement that comes while
// no round trip is under way goes out by itself, at once. One that comes while one is waits for it to return, and goes out
// with all that came meanwhile; a crowd does not wait. So the work for each grows less the more there is to do, and several
// round trips are under way once there is work for them.
//
// What goes out together is one transaction, so that a single commit makes all of it durable; nothing is answered before
// that. Each statement still has a snapshot of its own, taken after it was asked for. Sent in the order of the sessions
// that they are about, the statements of two batches lock their rows in the same order.
type gatherer[T any] struct {
	pool  *pgxpool.Pool
	read  func(pgx.Row) (T, error)
	locks bool // its statements wait for rows
	most  int  // round trips that may be under way at once, but for slow ones

	// connections holds a token for each connection in use, slow ones among them: what waits for a lock or a disk must not
	// take those that other work needs.
	connections chan struct{}

	mu       sync.Mutex
	underWay int
	waiting  []statement[T]
}

// statement is what one request wants from the database.
type statement[T any] struct {
	ctx     context.Context //nolint:containedctx // it is the request's, and travels with it
	session uuid.UUID
	sql     string
	args    []any
	answer  chan<- answer[T] // with room for it
}

// answer is the row of a statement; the error is pgx.ErrNoRows if there is none.
type answer[T any] struct {
	row T
	err error
}

func newGatherer[T any](pool *pgxpool.Pool, locks bool, read func(pgx.Row) (T, error)) *gatherer[T] {
	// Other work needs connections, too.
	most := max(1, min(2*runtime.GOMAXPROCS(0), int(pool.Config().MaxConns)/4))
	limit := max(1, int(pool.Config().MaxConns)*5/16)
	if locks {
		limit = max(1, int(pool.Config().MaxConns)/2)
	}
	return &gatherer[T]{pool: pool, read: read, locks: locks, most: most, connections: make(chan struct{}, limit)}
}

// queryRow runs the statement about the session and returns its row, or pgx.ErrNoRows.
func (g *gatherer[T]) queryRow(ctx context.Context, session uuid.UUID, sql string, args ...any) (row T, err error) {
	g.mu.Lock()
	if g.underWay == 0 {
		g.underWay++
		g.mu.Unlock()
		defer g.depart()()
		return g.queryAlone(ctx, sql, args)
	}
	answers := make(chan answer[T], 1)
	g.waiting = append(g.waiting, statement[T]{ctx, session, sql, args, answers})
	if len(g.waiting) >= crowd && g.underWay < g.most {
		g.underWay++
		go g.send(g.next())
	}
	g.mu.Unlock()
	select {
	case a := <-answers:
		return a.row, a.err
	case <-ctx.Done():
		return row, ctx.Err()
	}
}

// queryAlone runs one statement in a round trip of its own.
func (g *gatherer[T]) queryAlone(ctx context.Context, sql string, args []any) (row T, err error) {
	select {
	case g.connections <- struct{}{}:
	case <-ctx.Done():
		return row, ctx.Err()
	}
	defer func() { <-g.connections }()
	return g.read(g.pool.QueryRow(ctx, sql, args...))
}

// depart begins a round trip. The function that it returns is to be called at its end. It sends what has been waiting for that;
// if the round trip is slow, so does the clock.
func (g *gatherer[T]) depart() (back func()) {
	returned := sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if len(g.waiting) == 0 {
			g.underWay--
			return
		}
		go g.send(g.next())
	})
	timer := time.AfterFunc(slow, returned)
	return func() {
		timer.Stop()
		returned()
	}
}

// next takes the statements of the next round trip from those that wait.
func (g *gatherer[T]) next() []statement[T] {
	n := min(len(g.waiting), maxGathered)
	gathered := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	return gathered
}

// send runs the statements together. Where that fails for the sake of one of them, and so took no effect, each is run again
// by itself.
func (g *gatherer[T]) send(gathered []statement[T]) {
	defer g.depart()()
	slices.SortFunc(gathered, func(a, b statement[T]) int { return bytes.Compare(a.session[:], b.session[:]) })
	answers, err := g.sendBatch(gathered)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && !lostConnection(err) {
		for _, st := range gathered {
			go func() {
				row, err := g.queryAlone(st.ctx, st.sql, st.args)
				st.answer <- answer[T]{row, err}
			}()
		}
		return
	}
	for i, st := range gathered {
		if err != nil {
			st.answer <- answer[T]{err: err}
		} else {
			st.answer <- answers[i]
		}
	}
}

// boundLocks keeps a row that somebody has locked for long from holding up the statements that are about others: their
// transaction is refused, and each is on its own.
const boundLocks = `SELECT set_config('lock_timeout', '200ms', true)`

// sendBatch runs the statements in one transaction and one round trip.
func (g *gatherer[T]) sendBatch(gathered []statement[T]) (answers []answer[T], err error) {
	// A request that goes away does not take the others' answers along.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(gathered[0].ctx), statementTimeout)
	defer cancel()
	select {
	case g.connections <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-g.connections }()
	bound := g.locks && len(gathered) > 1
	var batch pgx.Batch
	if bound {
		batch.Queue(boundLocks)
	}
	for _, st := range gathered {
		batch.Queue(st.sql, st.args...)
	}
	results := g.pool.SendBatch(ctx, &batch)
	if bound {
		_, err = results.Exec()
	}
	answers = make([]answer[T], len(gathered))
	for i := range answers {
		if err != nil {
			break
		}
		answers[i].row, answers[i].err = g.read(results.QueryRow())
		if e := answers[i].err; !errors.Is(e, pgx.ErrNoRows) {
			err = e
		}
	}
	// The commit is behind the last result: only now is anything true.
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	return answers, err
}
