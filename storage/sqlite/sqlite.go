package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"signet/audit"
)

const (
	// statementTimeout bounds a request's stay in the database: waiting for its turn, for other processes, and the work itself.
	statementTimeout = 5 * time.Second

	// readers is how many connections read at once.
	readers = 8
)

// Store implements the stores of the domain packages on one SQLite file.
type Store struct {
	writer *pool // of one connection
	reader *pool
	turn   chan struct{} // holds a token while the writer is in use
	waits  atomic.Int64  // how often the writer had to be waited for
}

// Open opens the database file at the path, after making it and its directory where they are missing.
func Open(ctx context.Context, path string) (*Store, error) {
	abs, err := create(path)
	if err != nil {
		return nil, fmt.Errorf("cannot make the database %q: %w", path, err)
	}
	s := &Store{turn: make(chan struct{}, 1)}
	if s.writer, err = newPool(abs, 1, url.Values{
		"_txlock": {"immediate"}, "_journal_mode": {"WAL"}, "_synchronous": {"FULL"},
	}); err != nil {
		return nil, err
	}
	if s.reader, err = newPool(abs, readers, url.Values{"_query_only": {"1"}}); err != nil {
		return nil, err
	}
	if err := s.tryWriting(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("cannot open the database %q: %w", path, err)
	}
	return s, nil
}

// creating keeps the Stores of this process from opening a file that another one is just making: when a file is closed,
// the process loses all its locks on it.
var creating sync.Mutex

// create makes the file, if there is none, for this user alone: SQLite itself would go by the umask. The files that it puts
// beside it get the same mode.
func create(path string) (abs string, err error) {
	if path == "" {
		return "", errors.New("no path is given")
	}
	if abs, err = filepath.Abs(path); err != nil {
		return "", err
	}
	if err = os.MkdirAll(filepath.Dir(abs), 0o700); err != nil {
		return "", err
	}
	creating.Lock()
	defer creating.Unlock()
	f, err := os.OpenFile(abs, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return abs, f.Close()
	}
	if !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	info, err := os.Stat(abs)
	if err == nil && info.IsDir() {
		err = errors.New("this is a directory")
	}
	return abs, err
}

// tryWriting finds out now, not at the first request, if the file is no database or cannot be written.
func (s *Store) tryWriting(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	for {
		err := s.write(ctx, func(ctx context.Context, t tx) error {
			if err := t.exec(ctx, `PRAGMA user_version = 0`, args{}); err != nil {
				return err
			}
			return errRollback
		})
		if err == nil || !busy(err) {
			return err
		}
		// Where another process turns a new file to WAL mode at the same time, SQLite gives up without waiting.
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func busy(err error) bool {
	var e *driver.Error
	return errors.As(err, &e) && e.Code()&0xff == lib.SQLITE_BUSY
}

// unique tells whether err says that a unique constraint would be violated.
func unique(err error) bool {
	var e *driver.Error
	return errors.As(err, &e) && e.Code() == lib.SQLITE_CONSTRAINT_UNIQUE
}

// Close waits for the change that is being written and closes the file.
func (s *Store) Close() {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	_ = s.reader.Close()
	_ = s.writer.Close() // last: it takes what is in the WAL over into the file
}

// Ping asks the database for a sign of life.
func (s *Store) Ping(ctx context.Context) error {
	_, err := many(ctx, s, readInt, `SELECT count(*) FROM sqlite_schema`, args{})
	return err
}

// Server tells what the database is. Its time is this process's.
func (s *Store) Server(ctx context.Context) (version string, readOnly bool, now time.Time, err error) {
	version, _, err = first(many(ctx, s, func(rows *sql.Rows) (v string, err error) { return v, rows.Scan(&v) }, `SELECT 'SQLite ' || sqlite_version()`, args{}))
	return version, false, time.Now(), err
}

// PoolStats returns how many connections are in use, idle, allowed at the most, and how often one had to be waited for.
func (s *Store) PoolStats() (inUse, idle, limit int, waits int64) {
	waits = s.waits.Load()
	for _, st := range []sql.DBStats{s.writer.Stats(), s.reader.Stats()} {
		inUse += st.InUse
		idle += st.Idle
		limit += st.MaxOpenConnections
		waits += st.WaitCount
	}
	return inUse, idle, limit, waits
}

// pool is a pool of connections that prepares each statement once.
type pool struct {
	*sql.DB
	prepared sync.Map // *sql.Stmt by its text
}

func newPool(path string, conns int, params url.Values) (*pool, error) {
	params.Set("_busy_timeout", strconv.FormatInt(statementTimeout.Milliseconds(), 10))
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: params.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return &pool{DB: db}, nil
}

func (p *pool) query(ctx context.Context, text string, a args) (*sql.Rows, error) {
	stmt, known := p.prepared.Load(text)
	if !known {
		fresh, err := p.PrepareContext(ctx, text)
		if err != nil {
			return nil, err
		}
		if stmt, known = p.prepared.LoadOrStore(text, fresh); known {
			_ = fresh.Close()
		}
	}
	return stmt.(*sql.Stmt).QueryContext(ctx, a.list()...)
}

// args are the arguments of a statement by their names. The time, @now, is added when the statement is run.
type args map[string]any

func (a args) list() []any {
	list := make([]any, 0, len(a))
	for name, value := range a {
		list = append(list, sql.Named(name, value))
	}
	return list
}

// many runs one query and reads its rows.
func many[T any](ctx context.Context, s *Store, read func(*sql.Rows) (T, error), text string, a args) ([]T, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	a["now"] = time.Now().UnixMicro()
	rows, err := s.reader.query(ctx, text, a)
	return collect(rows, err, read)
}

// collect reads rows to their end: only there is a statement that changes something committed.
func collect[T any](rows *sql.Rows, err error, read func(*sql.Rows) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := []T{}
	for rows.Next() {
		v, err := read(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

// first returns the first of what many or collect returned; found is false if there is none.
func first[T any](list []T, err error) (v T, found bool, _ error) {
	if err == nil && len(list) > 0 {
		return list[0], true, nil
	}
	return v, false, err
}

// writing waits for the writer. What is begun in the context that it returns is not interrupted when the caller goes away,
// and ends at the caller's deadline; done gives the writer back.
func (s *Store) writing(ctx context.Context) (_ context.Context, done func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	if err := waiting.Err(); err != nil {
		return nil, nil, err
	}
	select {
	case s.turn <- struct{}{}:
	default:
		s.waits.Add(1)
		select {
		case s.turn <- struct{}{}:
		case <-waiting.Done():
			return nil, nil, waiting.Err()
		}
	}
	deadline, _ := waiting.Deadline()
	ctx, cancel = context.WithDeadline(context.WithoutCancel(ctx), deadline)
	return ctx, func() { cancel(); <-s.turn }, nil
}

// exec runs one statement that changes something and returns how many rows it affected.
func (s *Store) exec(ctx context.Context, text string, a args) (int64, error) {
	ctx, done, err := s.writing(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	a["now"] = time.Now().UnixMicro()
	result, err := s.writer.ExecContext(ctx, text, a.list()...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// tx is a transaction that holds the write lock since now.
type tx struct {
	*sql.Tx
	now int64
}

// errRollback ends a transaction of which nothing is to be kept.
var errRollback = errors.New("rolled back")

// write runs f in a transaction, which is committed if f returns no error. The error errRollback is not returned.
func (s *Store) write(ctx context.Context, f func(ctx context.Context, t tx) error) error {
	ctx, done, err := s.writing(ctx)
	if err != nil {
		return err
	}
	defer done()
	begun, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = begun.Rollback() }() // nothing is left to roll back after a commit
	if err = f(ctx, tx{Tx: begun, now: time.Now().UnixMicro()}); err == nil {
		err = begun.Commit()
	}
	switch {
	case errors.Is(err, errRollback):
		return nil
	case errors.Is(err, sql.ErrTxDone): // the deadline came between two statements
		return ctx.Err()
	default:
		return err
	}
}

func (t tx) exec(ctx context.Context, text string, a args) error {
	a["now"] = t.now
	_, err := t.ExecContext(ctx, text, a.list()...)
	return err
}

// record writes the event of a change.
func (t tx) record(ctx context.Context, e audit.Event) error {
	return t.exec(ctx, insertEvent, eventArgs(e))
}

// oneIn runs one statement in the transaction and reads the row that it returns; found is false if there is none.
func oneIn[T any](ctx context.Context, t tx, read func(*sql.Rows) (T, error), text string, a args) (v T, found bool, err error) {
	a["now"] = t.now
	rows, err := t.QueryContext(ctx, text, a.list()...)
	return first(collect(rows, err, read))
}

// change runs a statement that changes a row and returns it, and writes the event with the change.
func change[T any](ctx context.Context, s *Store, read func(*sql.Rows) (T, error), text string, a args, e audit.Event) (v T, found bool, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) (err error) {
		if v, found, err = oneIn(ctx, t, read, text, a); err != nil || !found {
			return err
		}
		return t.record(ctx, e)
	})
	return v, found && err == nil, err
}
