package storagetest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the database/sql driver "pgx"
	_ "modernc.org/sqlite"             // and "sqlite"

	"signet/storage"
	"signet/storage/postgres"
	"signet/storage/sqlite"
)

// Backend is a database that a test may do with as it likes.
type Backend struct {
	Name string // postgres or sqlite
	URL  string

	db *sql.DB // for what is done behind a store's back; nil: a new one every time
}

// Each runs f in parallel subtests, on a fresh database of either kind.
func Each(t *testing.T, f func(t *testing.T, b *Backend)) {
	t.Helper()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		f(t, newBackend(t, "postgres", migratedPostgres(t)))
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		f(t, newBackend(t, "sqlite", MigratedSQLite(t)))
	})
}

// EachAlone is Each for what must not share the process with other tests: one kind after the other, before the parallel ones.
func EachAlone(t *testing.T, f func(t *testing.T, b *Backend)) {
	t.Helper()
	t.Run("postgres", func(t *testing.T) { f(t, newBackend(t, "postgres", migratedPostgres(t))) })
	t.Run("sqlite", func(t *testing.T) { f(t, newBackend(t, "sqlite", MigratedSQLite(t))) })
}

func newBackend(t testing.TB, name, url string) *Backend {
	t.Helper()
	b := &Backend{Name: name, URL: url}
	db, err := b.connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	b.db = db
	return b
}

// template is a database with the schema in it: to copy it is quicker than to migrate. What it returns ends a CREATE DATABASE … TEMPLATE.
// PostgreSQL since 15 copies by way of its log, which takes three times as long as file by file, unless it is told not to.
var template = sync.OnceValues(func() (source string, err error) {
	c, err := cluster()
	if err != nil {
		return "", err
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, c.url)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE DATABASE template_migrated TEMPLATE template0"); err != nil {
		return "", err
	}
	source = "template_migrated"
	var told bool
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int >= 150000").Scan(&told); err != nil {
		return "", err
	}
	if told {
		source += " STRATEGY FILE_COPY"
	}
	store, err := postgres.Open(ctx, strings.Replace(c.url, "/postgres?", "/template_migrated?", 1), nil)
	if err != nil {
		return "", err
	}
	defer store.Close()
	return source, store.Migrate(ctx)
})

// migratedPostgres returns the URL of a fresh database that has the schema. On somebody's own server, where a template
// would stay behind, it is an empty one.
func migratedPostgres(t testing.TB) string {
	t.Helper()
	if os.Getenv("TEST_DATABASE_URL") != "" {
		return Postgres(t)
	}
	from, err := template()
	if err != nil {
		t.Fatal(err)
	}
	return newDatabase(t, serverURL(t), from)
}

// templateFile is what is in the file of an embedded database that has the schema: to migrate takes most of the time of
// a short test, the more so under the race detector.
var templateFile = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "signet-sqlite-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path, ctx := filepath.Join(dir, "signet.db"), context.Background()
	store, err := sqlite.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	err = store.Migrate(ctx)
	store.Close() // puts into the file what is in its log
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// MigratedSQLite returns the URL of a fresh embedded database that has the schema.
func MigratedSQLite(t testing.TB) string {
	t.Helper()
	file, err := templateFile()
	if err != nil {
		t.Fatal(err)
	}
	at := SQLite(t)
	if err := os.WriteFile(strings.TrimPrefix(at, "sqlite:"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	return at
}

// Open opens a store on the database, with a pool of its own, brings the schema up to date, and closes it when the test ends.
func (b *Backend) Open(t testing.TB) storage.Store {
	t.Helper()
	store, err := storage.Open(context.Background(), b.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	if err := store.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return store
}

// Exec runs a statement, with parameters $1, $2 and so on, behind the store's back.
func (b *Backend) Exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	b.raw(t, func(db *sql.DB) error {
		_, err := db.ExecContext(context.Background(), b.dialect(statement), args...)
		return err
	})
}

// Int runs a query that returns a number.
func (b *Backend) Int(t testing.TB, query string, args ...any) (n int64) {
	t.Helper()
	b.raw(t, func(db *sql.DB) error {
		return db.QueryRowContext(context.Background(), b.dialect(query), args...).Scan(&n)
	})
	return n
}

// Writes returns what tells all writes to the tables from each other that were committed until then: rows that were inserted, updated
// or deleted.
func (b *Backend) Writes(t testing.TB) func() string {
	t.Helper()
	if b.Name == "sqlite" {
		// The version of the data changes with every transaction of another connection that writes.
		var conn *sql.Conn
		b.raw(t, func(db *sql.DB) (err error) { conn, err = db.Conn(context.Background()); return err })
		t.Cleanup(func() { _ = conn.Close() })
		return func() (version string) {
			t.Helper()
			if err := conn.QueryRowContext(context.Background(), "PRAGMA data_version").Scan(&version); err != nil {
				t.Fatal(err)
			}
			return version
		}
	}
	return func() (sum string) {
		t.Helper()
		b.raw(t, func(db *sql.DB) error {
			ctx := context.Background()
			rows, err := db.QueryContext(ctx, "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1")
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				// Every version of a row has the transaction in it that wrote it, and the one that deleted it is gone from the sum.
				var table, part string
				if err := rows.Scan(&table); err != nil {
					return err
				}
				if err := db.QueryRowContext(ctx, `SELECT count(*) || '/' || coalesce(sum(xmin::text::bigint), 0) FROM "`+table+`"`).Scan(&part); err != nil {
					return err
				}
				sum += table + " " + part + "; "
			}
			return rows.Err()
		})
		return sum
	}
}

// dialect makes numbered parameters ones that the database understands.
func (b *Backend) dialect(statement string) string {
	if b.Name == "sqlite" {
		return strings.ReplaceAll(statement, "$", "?")
	}
	return statement
}

// Age makes everything in the database older by d, as if that much time had passed.
func (b *Backend) Age(t testing.TB, d time.Duration) {
	t.Helper()
	b.raw(t, func(db *sql.DB) error {
		ctx := context.Background()
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after a commit it does nothing
		changes, err := b.timeColumns(ctx, tx)
		if err != nil {
			return err
		}
		for table, columns := range changes {
			for i, c := range columns {
				columns[i] = fmt.Sprintf("%s = %s - %s", c, c, b.microseconds(d))
			}
			if _, err := tx.ExecContext(ctx, "UPDATE "+table+" SET "+strings.Join(columns, ", ")); err != nil {
				return err
			}
		}
		return tx.Commit()
	})
}

func (b *Backend) microseconds(d time.Duration) string {
	if b.Name == "sqlite" {
		return fmt.Sprint(d.Microseconds())
	}
	return fmt.Sprintf("interval '%d microseconds'", d.Microseconds())
}

// embeddedTimes are the columns of the embedded database that hold a time: there, their type does not tell.
var embeddedTimes = []string{
	"created_at", "expires_at", "last_used_at", "idle_expires_at", "revoked_at", "previous_until", "active_from",
	"retired_at", "time", "window_start", "beat_at", "began_at", "ended_at", "auth_time", "granted_at",
	"due_at", "polled_at",
}

// timeColumns returns the columns of each table that hold a time.
func (b *Backend) timeColumns(ctx context.Context, tx *sql.Tx) (map[string][]string, error) {
	query := `SELECT table_name, column_name FROM information_schema.columns
		WHERE table_schema = current_schema() AND data_type = 'timestamp with time zone' AND table_name NOT LIKE 'goose%'`
	if b.Name == "sqlite" {
		query = `SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c
			WHERE t.type = 'table' AND t.name NOT LIKE 'goose%' AND t.name NOT LIKE 'sqlite%'`
	}
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns := map[string][]string{}
	for rows.Next() {
		var table, column string
		if err := rows.Scan(&table, &column); err != nil {
			return nil, err
		}
		if b.Name == "postgres" || slices.Contains(embeddedTimes, column) {
			columns[table] = append(columns[table], column)
		}
	}
	return columns, rows.Err()
}

// connect prepares a connection to the database that is not a store's.
func (b *Backend) connect() (*sql.DB, error) {
	if b.Name == "sqlite" {
		return sql.Open("sqlite", "file:"+strings.TrimPrefix(b.URL, "sqlite:")+"?_pragma=busy_timeout(10000)&_txlock=immediate")
	}
	return sql.Open("pgx", b.URL)
}

// raw gives f such a connection.
func (b *Backend) raw(t testing.TB, f func(db *sql.DB) error) {
	t.Helper()
	db := b.db
	if db == nil {
		var err error
		if db, err = b.connect(); err != nil {
			t.Fatal(err)
		}
		defer db.Close()
	}
	if err := f(db); err != nil {
		t.Fatal(err)
	}
}
