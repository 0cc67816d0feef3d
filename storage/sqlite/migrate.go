package sqlite

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
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
	made, _, err := first(many(ctx, s, readInt, `SELECT count(*) FROM sqlite_schema WHERE name = 'goose_db_version'`, args{}))
	if err != nil || made == 0 {
		return 0, want, err
	}
	have, _, err = first(many(ctx, s, readInt, `SELECT coalesce(max(version_id), 0) FROM goose_db_version`, args{}))
	return have, want, err
}

// migrationTries is how often Migrate tries where others migrate the file at the same time: one gets through, and the
// statements of the others fail.
const migrationTries = 10

// CanMigrate implements storage.Store. Who opens the file may.
func (s *Store) CanMigrate(context.Context) error { return nil }

// Migrate brings the schema up to date. Several processes may do so at once.
func (s *Store) Migrate(ctx context.Context) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		have, want, err := s.Schema(ctx)
		if err != nil || have >= want {
			return err
		}
		provider, err := goose.NewProvider(goose.DialectSQLite3, s.writer.DB, dir, goose.WithDisableGlobalRegistry(true))
		if err != nil {
			return err
		}
		if _, err = provider.Up(ctx); err == nil {
			return nil
		}
		if try == migrationTries {
			return fmt.Errorf("cannot bring the schema up to date: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot bring the schema up to date: %w", err)
		case <-time.After(time.Duration(try) * 20 * time.Millisecond):
		}
	}
}
