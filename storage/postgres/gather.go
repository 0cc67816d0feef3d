package postgres

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// maxGathered is how many questions go to the database together at the most.
const maxGathered = 64

// gatherer puts the questions of many requests into few round trips: while an asker waits for the database, the questions
// that come in wait for the asker, and go out together. It waits for nothing else, so that a question that comes alone
// goes out alone and at once. Each is a statement with a snapshot of its own, taken after it was put.
type gatherer struct {
	pool      *pgxpool.Pool
	questions chan question
	closed    chan struct{}
	askers    sync.WaitGroup
}

// question is a query for one text.
type question struct {
	ctx    context.Context //nolint:containedctx // it is the asking request's, and travels with the question
	sql    string
	args   []any
	answer chan<- answer // with room for it
}

type answer struct {
	text  string
	found bool
	err   error
}

var errClosed = errors.New("the database is closed")

func newGatherer(pool *pgxpool.Pool) *gatherer {
	g := &gatherer{pool: pool, questions: make(chan question), closed: make(chan struct{})}
	for range runtime.GOMAXPROCS(0) {
		g.askers.Go(g.run)
	}
	return g
}

func (g *gatherer) close() {
	close(g.closed)
	g.askers.Wait()
}

// ask puts a question and waits for its answer: the text of the one row, or found is false.
func (g *gatherer) ask(ctx context.Context, sql string, args ...any) (text string, found bool, err error) {
	answers := make(chan answer, 1)
	select {
	case g.questions <- question{ctx, sql, args, answers}:
	case <-ctx.Done():
		return "", false, ctx.Err()
	case <-g.closed:
		return "", false, errClosed
	}
	select {
	case a := <-answers:
		return a.text, a.found, a.err
	case <-ctx.Done():
		return "", false, ctx.Err()
	}
}

// run is one asker.
func (g *gatherer) run() {
	gathered := make([]question, 0, maxGathered)
	for {
		select {
		case <-g.closed:
			return
		case q := <-g.questions:
			gathered = append(gathered[:0], q)
		}
	more:
		for len(gathered) < maxGathered {
			select {
			case q := <-g.questions:
				gathered = append(gathered, q)
			default:
				break more
			}
		}
		g.send(gathered)
	}
}

// send asks the gathered questions in one round trip. Where that fails for one of them, those behind it share its error, and
// are asked again by whoever put them.
func (g *gatherer) send(gathered []question) {
	ctx := context.WithoutCancel(gathered[0].ctx) // one request that goes away does not take the others' answers along
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var batch pgx.Batch
	for _, q := range gathered {
		batch.Queue(q.sql, q.args...)
	}
	results := g.pool.SendBatch(ctx, &batch)
	defer results.Close()
	for _, q := range gathered {
		var a answer
		a.err = results.QueryRow().Scan(&a.text)
		a.found = a.err == nil
		if errors.Is(a.err, pgx.ErrNoRows) {
			a.err = nil
		}
		q.answer <- a
	}
}
