package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// batchSize is how many rows one statement of a clean-up looks at: few enough that no request waits for it.
const batchSize = 500

// inBatches runs a statement that deletes up to @batch rows until there is nothing left to delete, and returns how many it
// deleted in all.
func (s *Store) inBatches(ctx context.Context, text string, a args) (int64, error) {
	a["batch"] = batchSize
	var total int64
	for {
		began := time.Now()
		n, err := s.exec(ctx, text, a)
		total += n
		if err != nil || n < batchSize {
			return total, err
		}
		if err := rest(ctx, began); err != nil {
			return total, err
		}
	}
}

// eachInBatches is inBatches for several statements. One that fails does not keep the others.
func (s *Store) eachInBatches(ctx context.Context, a args, statements ...string) (total int64, err error) {
	for _, statement := range statements {
		n, failed := s.inBatches(ctx, statement, a)
		total, err = total+n, errors.Join(err, failed)
	}
	return total, err
}

// rest leaves the database to the requests for twice as long as the batch took that began then.
func rest(ctx context.Context, began time.Time) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(2 * time.Since(began)):
		return nil
	}
}

// ended tells of a session s that it is of no more use to anybody.
const ended = `(s.revoked_at IS NOT NULL OR s.expires_at <= @now OR s.idle_expires_at <= @now - @keep
	OR NOT EXISTS (SELECT 1 FROM users u WHERE u.id = s.user_id AND u.epoch = s.user_epoch)
	OR NOT EXISTS (SELECT 1 FROM clients c WHERE c.id = s.client_id AND c.epoch = s.client_epoch))`

// DeleteEndedSessions deletes sessions that have ended, those merely idle for too long only when the access tokens of
// their last use have expired as well (keep). It walks the table once, in the order of the primary key: there is no index
// on what a refresh changes. Only where there is something to delete does it take the write lock.
func (s *Store) DeleteEndedSessions(ctx context.Context, keep time.Duration) (int64, error) {
	type walked struct {
		last string
		due  int64
	}
	var total int64
	after := ""
	for {
		began := time.Now()
		w, _, err := first(many(ctx, s, func(row *sql.Rows) (w walked, err error) {
			err = row.Scan(&w.last, &w.due)
			return w, err
		}, `SELECT coalesce(max(id), ''), coalesce(sum(ended), 0)
			FROM (SELECT s.id, `+ended+` AS ended FROM sessions s WHERE s.id > @after ORDER BY s.id LIMIT @batch)`,
			args{"after": after, "keep": keep.Microseconds(), "batch": batchSize}))
		if err != nil || w.last == "" {
			return total, err
		}
		if w.due > 0 {
			n, err := s.exec(ctx, `DELETE FROM sessions AS s WHERE s.id > @after AND s.id <= @last AND `+ended,
				args{"after": after, "last": w.last, "keep": keep.Microseconds()})
			total += n
			if err != nil {
				return total, err
			}
		}
		after = w.last
		if err := rest(ctx, began); err != nil {
			return total, err
		}
	}
}

// DeleteExpiredRevocations deletes the revocations of access tokens that have expired since.
func (s *Store) DeleteExpiredRevocations(ctx context.Context) (int64, error) {
	return s.inBatches(ctx, `DELETE FROM revoked_access_tokens WHERE jti IN (
		SELECT jti FROM revoked_access_tokens WHERE expires_at <= @now LIMIT @batch)`, args{})
}

// DeleteLoginFailures deletes failures that count no more.
func (s *Store) DeleteLoginFailures(ctx context.Context, window time.Duration) (int64, error) {
	return s.inBatches(ctx, `DELETE FROM login_failures WHERE subject IN (
		SELECT subject FROM login_failures WHERE window_start <= @now - @window LIMIT @batch)`,
		args{"window": window.Microseconds()})
}

// DeleteEvents deletes audit events older than the retention.
func (s *Store) DeleteEvents(ctx context.Context, retention time.Duration) (int64, error) {
	return s.inBatches(ctx, `DELETE FROM audit_events WHERE id IN (
		SELECT id FROM (SELECT id, time FROM audit_events ORDER BY id LIMIT @batch) WHERE time <= @now - @retention)`,
		args{"retention": retention.Microseconds()})
}

// DeleteRetiredKeys deletes signing keys that were retired longer ago than keep beyond the longest life of a token of theirs.
func (s *Store) DeleteRetiredKeys(ctx context.Context, keep time.Duration) (int64, error) {
	return s.exec(ctx, `DELETE FROM signing_keys WHERE retired_at <= @now - token_ttl - @keep`, args{"keep": keep.Microseconds()})
}
