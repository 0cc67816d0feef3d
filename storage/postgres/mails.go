package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"signet/audit"
	"signet/mail"
)

// CreateMail implements mail.Store.
func (s *Store) CreateMail(ctx context.Context, m mail.Mail) error {
	_, err := s.exec(ctx, `INSERT INTO mails (id, kind, recipient, locales) VALUES (@id, @kind, @recipient, @locales) ON CONFLICT DO NOTHING`,
		named{"id": [16]byte(m.ID), "kind": string(m.Kind), "recipient": m.Recipient, "locales": list(m.Locales)})
	return err
}

// tell puts what the user is told of the events into the outbox.
func tell(ctx context.Context, tx pgx.Tx, userID string, events ...audit.Event) error {
	for _, e := range events {
		kind := mail.NoticeOf(e)
		if kind == "" {
			continue
		}
		if _, err := tx.Exec(ctx, `INSERT INTO mails (id, kind, recipient, locales)
			SELECT @id, @kind, profile->>'email', ARRAY[coalesce(profile->>'locale', '')] FROM users WHERE id = @user AND verified_email IS NOT NULL
			ON CONFLICT DO NOTHING`, named{"id": e.ID, "kind": string(kind), "user": userID}); err != nil {
			return err
		}
	}
	return nil
}

// DueMails implements mail.Store. The next attempt is put down before this one is made.
func (s *Store) DueMails(ctx context.Context, limit int) ([]mail.Mail, error) {
	return many(ctx, s, func(row pgx.CollectableRow) (m mail.Mail, err error) {
		err = row.Scan((*[16]byte)(&m.ID), &m.Kind, &m.Recipient, &m.Locales, &m.Attempts)
		return m, err
	}, `UPDATE mails m SET attempts = m.attempts + 1,
			due_at = now() + least(@longest::interval, @first::interval * power(2, least(m.attempts, 20)))
		FROM (SELECT id FROM mails WHERE due_at <= now() AND created_at > now() - @ttl::interval
			ORDER BY due_at LIMIT @limit FOR UPDATE SKIP LOCKED) due
		WHERE m.id = due.id RETURNING m.id, m.kind, m.recipient, m.locales, m.attempts`,
		named{"limit": limit, "ttl": mail.TTL, "first": mail.Pause(1), "longest": mail.Pause(1 << 10)})
}

// DeleteMail implements mail.Store.
func (s *Store) DeleteMail(ctx context.Context, id uuid.UUID) error {
	_, err := s.exec(ctx, `DELETE FROM mails WHERE id = @id`, named{"id": [16]byte(id)})
	return err
}

// WaitingMails implements mail.Store.
func (s *Store) WaitingMails(ctx context.Context) (n int64, oldest time.Duration, err error) {
	return s.waiting(ctx, "mails", mail.TTL)
}

// waiting tells how much waits in an outbox, and since when, of what is younger than ttl: the rest is not tried any more.
func (s *Store) waiting(ctx context.Context, outbox string, ttl time.Duration) (n int64, oldest time.Duration, err error) {
	_, _, err = one(ctx, s, func(row pgx.CollectableRow) (struct{}, error) {
		return struct{}{}, row.Scan(&n, &oldest)
	}, `SELECT count(*), coalesce(now() - min(created_at), '0') FROM `+outbox+` WHERE created_at > now() - @ttl::interval`, named{"ttl": ttl})
	return n, oldest, err
}

// DeleteUnsentMails implements storage.Store.
func (s *Store) DeleteUnsentMails(ctx context.Context) (int64, error) {
	return s.inBatches(ctx, `DELETE FROM mails WHERE id IN (
		SELECT id FROM mails WHERE created_at <= now() - @ttl::interval LIMIT @batch FOR UPDATE SKIP LOCKED)`, named{"ttl": mail.TTL})
}
