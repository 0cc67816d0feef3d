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
// that. Each statement still has a snapshot of its own, taken after it was asked for. Sent in the order of the sessions or logins
// that they are about, the statements of two batches lock their rows in the same order.
type gatherer struct {
	pool     *pgxpool.Pool
	settings settings
	most     int // round trips that may be under way at once, but for slow ones

	// connections holds a token for each connection in use, slow ones among them: what waits for a lock or a disk must not
	// take those that other work needs.
	connections chan struct{}

	mu       sync.Mutex
	underWay int
	waiting  []statement
}

// statement is what one request wants from the database.
type statement struct {
	ctx    context.Context //nolint:containedctx // it is the request's, and travels with it
	about  uuid.UUID
	sql    string
	args   []any
	read   func(pgx.Row) error
	answer chan<- error // with room for it; pgx.ErrNoRows if there is no row
}

// settings are made before the statements of a transaction, and end with it: for one that is alone, and for those that go together.
type settings struct{ alone, together string }

const (
	// boundLocks keeps a row that somebody has locked for long from holding up the statements that are about others: their
	// transaction is refused, and each is on its own.
	boundLocks = `set_config('lock_timeout', '200ms', true)`

	// byIndex is for the table of codes, which is empty whenever the database counts: to look through all of an empty one is quickest,
	// and that plan stays, while within a minute thousands of codes leave their remains there.
	byIndex = `set_config('enable_seqscan', 'off', true)`
)

// of returns what goes before that many statements, if anything.
func (s settings) of(statements int) string {
	if statements == 1 {
		return s.alone
	}
	return s.together
}

// newGatherer returns one that uses at most that many sixteenths of the pool's connections: other work needs some, too.
func newGatherer(pool *pgxpool.Pool, s settings, sixteenths int) *gatherer {
	size := int(pool.Config().MaxConns)
	return &gatherer{
		pool: pool, settings: s, most: max(1, min(2*runtime.GOMAXPROCS(0), size/4)),
		connections: make(chan struct{}, max(1, size*sixteenths/16)),
	}
}

// gathered runs the statement about a session or a login and returns its row, or pgx.ErrNoRows.
func gathered[T any](ctx context.Context, g *gatherer, about uuid.UUID, read func(pgx.Row) (T, error), sql string, args ...any) (T, error) {
	var row T
	err := g.run(ctx, about, func(r pgx.Row) (err error) {
		row, err = read(r)
		return err
	}, sql, args)
	if err != nil {
		return *new(T), err // and not the row, which may be read still where nobody waits for it any more
	}
	return row, nil
}

func (g *gatherer) run(ctx context.Context, about uuid.UUID, read func(pgx.Row) error, sql string, args []any) error {
	g.mu.Lock()
	if g.underWay == 0 {
		g.underWay++
		g.mu.Unlock()
		defer g.depart()()
		return g.runAlone(ctx, read, sql, args)
	}
	answers := make(chan error, 1)
	g.waiting = append(g.waiting, statement{ctx, about, sql, args, read, answers})
	if len(g.waiting) >= crowd && g.underWay < g.most {
		g.underWay++
		go g.send(g.next())
	}
	g.mu.Unlock()
	select {
	case err := <-answers:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// runAlone runs one statement in a round trip of its own.
func (g *gatherer) runAlone(ctx context.Context, read func(pgx.Row) error, sql string, args []any) error {
	if g.settings.alone != "" {
		answers, err := g.sendBatch(ctx, []statement{{sql: sql, args: args, read: read}})
		if err == nil {
			err = answers[0]
		}
		return err
	}
	select {
	case g.connections <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-g.connections }()
	return read(g.pool.QueryRow(ctx, sql, args...))
}

// depart begins a round trip. The function that it returns is to be called at its end. It sends what has been waiting for that;
// if the round trip is slow, so does the clock.
func (g *gatherer) depart() (back func()) {
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
func (g *gatherer) next() []statement {
	n := min(len(g.waiting), maxGathered)
	gathered := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	return gathered
}

// send runs the statements together. Where that fails for the sake of one of them, and so took no effect, each is run again
// by itself.
func (g *gatherer) send(gathered []statement) {
	defer g.depart()()
	slices.SortFunc(gathered, func(a, b statement) int { return bytes.Compare(a.about[:], b.about[:]) })
	// A request that goes away does not take the others' answers along.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(gathered[0].ctx), statementTimeout)
	defer cancel()
	answers, err := g.sendBatch(ctx, gathered)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && !lostConnection(err) {
		for _, st := range gathered {
			go func() { st.answer <- g.runAlone(st.ctx, st.read, st.sql, st.args) }()
		}
		return
	}
	for i, st := range gathered {
		if err != nil {
			st.answer <- err
		} else {
			st.answer <- answers[i]
		}
	}
}

// sendBatch runs the statements in one transaction and one round trip.
func (g *gatherer) sendBatch(ctx context.Context, gathered []statement) (answers []error, err error) {
	select {
	case g.connections <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-g.connections }()
	before := g.settings.of(len(gathered))
	var batch pgx.Batch
	if before != "" {
		batch.Queue(before)
	}
	for _, st := range gathered {
		batch.Queue(st.sql, st.args...)
	}
	results := g.pool.SendBatch(ctx, &batch)
	if before != "" {
		_, err = results.Exec()
	}
	answers = make([]error, len(gathered))
	for i, st := range gathered {
		if err != nil {
			break
		}
		answers[i] = st.read(results.QueryRow())
		if !errors.Is(answers[i], pgx.ErrNoRows) {
			err = answers[i]
		}
	}
	// The commit is behind the last result: only now is anything true.
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	return answers, err
}
