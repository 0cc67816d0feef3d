package sqlite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"signet/audit"
)

// openMigrated opens the file and closes it with the test.
func openMigrated(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFilesAreForTheirOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	openMigrated(t, filepath.Join(dir, "signet.db"))
	modes := map[string]os.FileMode{
		filepath.Dir(dir): 0o700, dir: 0o700, dir + "/signet.db": 0o600, dir + "/signet.db-wal": 0o600, dir + "/signet.db-shm": 0o600,
	}
	for path, want := range modes {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
}

func TestPathsOfAnyCharacters(t *testing.T) {
	for _, name := range []string{"a b.db", "a?mode=ro.db", "a#b.db", "100%41.db", "a&b=c+d;e.db", "file:x", ":memory:", "ä\"'.db"} {
		dir := t.TempDir()
		s := openMigrated(t, filepath.Join(dir, name))
		have, want, err := s.Schema(t.Context())
		if err != nil || have != want || have == 0 {
			t.Errorf("%q: schema %d of %d, %v", name, have, want, err)
		}
		s.Close()
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || entries[0].Name() != name {
			t.Errorf("%q made %v, %v", name, entries, err)
		}
	}
}

func TestErrorsNameThePath(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("this is no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, problem := range map[string]string{
		"":                               "no path",
		dir:                              "directory",
		text:                             "not a database",
		filepath.Join(text, "signet.db"): "not a directory",
	} {
		_, err := Open(t.Context(), path)
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), problem) {
			t.Errorf("%q: got %v, want %q", path, err, problem)
		}
	}
}

func TestManyMigrateANewFileAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signet.db")
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			s, err := Open(t.Context(), path)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if err := s.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
			if have, want, err := s.Schema(t.Context()); err != nil || have != want {
				t.Errorf("schema %d of %d, %v", have, want, err)
			}
		})
	}
	all.Wait()
}

// A caller that goes away in the middle of a change must leave the one connection that writes fit for the next.
func TestCancelledChangesLeaveTheWriterFree(t *testing.T) {
	s := openMigrated(t, filepath.Join(t.TempDir(), "signet.db"))
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*100*time.Microsecond)
			defer cancel()
			err := s.RecordEvent(ctx, audit.New(audit.LoginFailed, audit.Origin{}))
			if err == nil {
				err = s.write(ctx, func(ctx context.Context, t tx) error {
					return t.record(ctx, audit.New(audit.LoginFailed, audit.Origin{}))
				})
			}
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := s.RecordEvent(t.Context(), audit.New(audit.LoginFailed, audit.Origin{})); err != nil {
		t.Error(err)
	}
	if inUse, _, _, _ := s.PoolStats(); inUse != 0 {
		t.Errorf("%d connections are still in use", inUse)
	}
}
