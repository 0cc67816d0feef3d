package postgres

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// maxGathered is how many statements go to the database together at the most.
const maxGathered = 64

// gatherer puts the statements of many requests, each of one row or none, into few round trips: while a sender waits for the
// database, the statements that come in wait for a sender, and go out together. It waits for nothing else, so that a statement
// that comes alone goes out alone and at once.
//
// What goes out together is one transaction, so that a single commit makes all of it durable; nothing is answered before
// that. Each statement still has a snapshot of its own, taken after it was asked for. Sent in the order of the sessions
// that they are about, the statements of two senders lock their rows in the same order.
type gatherer[T any] struct {
	pool    *pgxpool.Pool
	read    func(pgx.Row) (T, error)
	pending chan statement[T]
	closed  chan struct{}
	close   func() // may be called again
	senders sync.WaitGroup
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

var errClosed = errors.New("the database is closed")

func newGatherer[T any](pool *pgxpool.Pool, read func(pgx.Row) (T, error)) *gatherer[T] {
	g := &gatherer[T]{pool: pool, read: read, pending: make(chan statement[T]), closed: make(chan struct{})}
	// While some senders wait for a commit to become durable, others gather.
	for range 2 * runtime.GOMAXPROCS(0) {
		g.senders.Go(g.run)
	}
	g.close = sync.OnceFunc(func() {
		close(g.closed)
		g.senders.Wait()
	})
	return g
}

// queryRow runs the statement about the session and returns its row, or pgx.ErrNoRows.
func (g *gatherer[T]) queryRow(ctx context.Context, session uuid.UUID, sql string, args ...any) (row T, err error) {
	answers := make(chan answer[T], 1)
	select {
	case g.pending <- statement[T]{ctx, session, sql, args, answers}:
	case <-ctx.Done():
		return row, ctx.Err()
	case <-g.closed:
		return row, errClosed
	}
	select {
	case a := <-answers:
		return a.row, a.err
	case <-ctx.Done():
		return row, ctx.Err()
	}
}

// run is one sender.
func (g *gatherer[T]) run() {
	gathered := make([]statement[T], 0, maxGathered)
	for {
		select {
		case <-g.closed:
			return
		case st := <-g.pending:
			gathered = append(gathered[:0], st)
		}
	more:
		for len(gathered) < maxGathered {
			select {
			case st := <-g.pending:
				gathered = append(gathered, st)
			default:
				break more
			}
		}
		g.send(gathered)
	}
}

// send runs the gathered statements together. Where that fails for the sake of one of them, and so took no effect, each is
// run again by itself.
func (g *gatherer[T]) send(gathered []statement[T]) {
	slices.SortFunc(gathered, func(a, b statement[T]) int { return bytes.Compare(a.session[:], b.session[:]) })
	answers, err := g.sendBatch(gathered)
	var refused *pgconn.PgError
	if len(gathered) > 1 && errors.As(err, &refused) {
		for i := range gathered {
			alone, err := g.sendBatch(gathered[i : i+1])
			if err != nil {
				alone = []answer[T]{{err: err}}
			}
			gathered[i].answer <- alone[0]
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

// sendBatch runs the statements in one transaction and one round trip.
func (g *gatherer[T]) sendBatch(gathered []statement[T]) (answers []answer[T], err error) {
	// A request that goes away does not take the others' answers along.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(gathered[0].ctx), statementTimeout)
	defer cancel()
	var batch pgx.Batch
	for _, st := range gathered {
		batch.Queue(st.sql, st.args...)
	}
	results := g.pool.SendBatch(ctx, &batch)
	answers = make([]answer[T], len(gathered))
	for i := range answers {
		answers[i].row, answers[i].err = g.read(results.QueryRow())
		if e := answers[i].err; e != nil && !errors.Is(e, pgx.ErrNoRows) {
			err = e
			break
		}
	}
	// The commit is behind the last result: only now is anything true.
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	return answers, err
}
