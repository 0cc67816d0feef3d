package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Schema returns the version of the schema in the database, 0 for an empty one, and the one that this program wants.
func (s *Store) Schema(ctx context.Context) (have, want int64, err error) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return 0, 0, err
	}
	want = int64(len(files)) // they are numbered without gaps
	have, _, err = one(ctx, s, pgx.RowTo[int64], `SELECT coalesce(max(version_id), 0) FROM goose_db_version`, named{})
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "42P01" { // undefined table
		err = nil
	}
	return have, want, err
}

// CanMigrate implements storage.Store.
func (s *Store) CanMigrate(ctx context.Context) error {
	type place struct{ User, Database, Schema string }
	p, lacking, err := one(ctx, s, pgx.RowToStructByPos[place], `SELECT current_user, current_database(), coalesce(current_schema(), '')
		WHERE NOT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)`, named{})
	if err == nil && lacking {
		err = fmt.Errorf("the user %q may make no tables in the database %q (schema %q): ALTER DATABASE %[2]q OWNER TO %[1]q mends that", p.User, p.Database, p.Schema)
	}
	return err
}

// Migrate brings the schema up to date. Replicas may do so at once: one works, the others wait for it.
func (s *Store) Migrate(ctx context.Context) error {
	have, want, err := s.Schema(ctx)
	if err != nil || have >= want {
		return err
	}
	if err := s.CanMigrate(ctx); err != nil {
		return err
	}
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresTableLocker(
		lock.WithTableLockTimeout(200*time.Millisecond, 300), lock.WithTableLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	// The migration tool speaks database/sql; it gets a view of the pool for as long as it works.
	db := stdlib.OpenDBFromPool(s.pool)
	defer db.Close()
	// Locking begins with making the table of locks, in which one of several newcomers loses: hence a few tries.
	for try := 1; ; try++ {
		provider, err := goose.NewProvider(goose.DialectPostgres, db, dir, goose.WithLocker(locker), goose.WithDisableGlobalRegistry(true))
		if err != nil {
			return err
		}
		if _, err = provider.Up(ctx); err == nil {
			return nil
		}
		if have, want, schemaErr := s.Schema(ctx); schemaErr == nil && have >= want {
			return nil
		}
		s.pooler.interferes(ctx, s.pool, err)
		if try == 5 || ctx.Err() != nil {
			return fmt.Errorf("cannot bring the schema up to date: %w", err)
		}
		time.Sleep(time.Duration(try) * 100 * time.Millisecond)
	}
}
