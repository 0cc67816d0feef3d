// Package storage opens the database that everything is kept in: PostgreSQL, or the embedded SQLite.
package storage

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"signet/activity"
	"signet/audit"
	"signet/authorizations"
	"signet/clients"
	"signet/keys"
	"signet/logins"
	"signet/mail"
	"signet/proofs"
	"signet/storage/postgres"
	"signet/storage/sqlite"
	"signet/tokens"
	"signet/users"
)

// Store is a database: what the domain packages need of it, and what an operator does to it.
type Store interface {
	activity.Store
	audit.Store
	authorizations.Store
	clients.Store
	keys.Store
	logins.Store
	mail.Store
	proofs.Store
	tokens.Store
	users.Store

	// SigningNeeds returns what enabled clients want of the signing keys, each need once.
	SigningNeeds(ctx context.Context) ([]clients.SigningNeed, error)

	// Migrate brings the schema up to date, if CanMigrate allows. Replicas may do so at once.
	Migrate(ctx context.Context) error
	// CanMigrate returns an error that says how to mend it if the database lets its user make no tables.
	CanMigrate(ctx context.Context) error
	// Schema returns the version of the schema in the database, 0 for an empty one, and the one that this program wants.
	Schema(ctx context.Context) (have, want int64, err error)
	// Server tells what the database is, whether it takes no writes, as a standby, and its time.
	Server(ctx context.Context) (version string, readOnly bool, now time.Time, err error)
	// Ping asks the database for a sign of life.
	Ping(ctx context.Context) error
	// PoolStats returns how many connections are in use, idle, allowed at the most, and how often one had to be waited for.
	PoolStats() (inUse, idle, limit int, waits int64)
	// Close ends the use of the database.
	Close()

	// The deletions work in small batches, rest in between, and return how many rows they deleted.

	// DeleteEndedSessions deletes sessions that have ended, those merely idle for too long only keep later.
	DeleteEndedSessions(ctx context.Context, keep time.Duration) (int64, error)
	// DeleteExpiredRevocations deletes the revocations of access tokens that have expired since.
	DeleteExpiredRevocations(ctx context.Context) (int64, error)
	// DeleteLoginFailures deletes failures that are older than the window.
	DeleteLoginFailures(ctx context.Context, window time.Duration) (int64, error)
	// DeleteEvents deletes audit events older than the retention.
	DeleteEvents(ctx context.Context, retention time.Duration) (int64, error)
	// DeleteEndedLogins deletes logins that have ended, codes that nobody fetched, and consents of users or to clients that are gone.
	DeleteEndedLogins(ctx context.Context) (int64, error)
	// DeleteUsedOnce deletes what was used once and has expired since.
	DeleteUsedOnce(ctx context.Context) (int64, error)
	// DeletePushedRequests deletes pushed requests that nobody can come back to.
	DeletePushedRequests(ctx context.Context) (int64, error)
	// DeleteExpiredLinks deletes links that have expired.
	DeleteExpiredLinks(ctx context.Context) (int64, error)
	// DeleteUnsentMails deletes mails that could not be sent for as long as they are tried to be.
	DeleteUnsentMails(ctx context.Context) (int64, error)
	// DeleteUnusedClients deletes clients that registered themselves and were never used, and initial access tokens that are used up or old.
	DeleteUnusedClients(ctx context.Context) (int64, error)
	// DeleteInterruptions deletes interruptions that ended longer ago than the retention.
	DeleteInterruptions(ctx context.Context, retention time.Duration) (int64, error)
	// DeleteRetiredKeys deletes signing keys that were retired longer ago than keep beyond the longest life of a token of theirs.
	DeleteRetiredKeys(ctx context.Context, keep time.Duration) (int64, error)
}

// Open prepares the database at the URL, postgres://… or sqlite:PATH. The embedded database is opened, and made if there
// is none; Postgres is not connected to yet. The tracer, which may be nil, sees the statements that Postgres gets.
func Open(ctx context.Context, databaseURL string, tracer pgx.QueryTracer) (Store, error) {
	scheme, rest, _ := strings.Cut(databaseURL, ":")
	switch scheme {
	case "postgres", "postgresql":
		return postgres.Open(ctx, databaseURL, tracer)
	case "sqlite":
		return sqlite.Open(ctx, strings.TrimPrefix(rest, "//"))
	default:
		return nil, fmt.Errorf("the database URL begins with %q; allowed: postgres://… and sqlite:PATH", scheme)
	}
}
