package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"

	"signet/audit"
	"signet/mail"
)

// CreateMail implements mail.Store.
func (s *Store) CreateMail(ctx context.Context, m mail.Mail) error {
	_, err := s.exec(ctx, `INSERT INTO mails (id, kind, recipient, locales, created_at, due_at) VALUES (@id, @kind, @recipient, @locales, @now, @now)`,
		args{"id": m.ID.String(), "kind": string(m.Kind), "recipient": m.Recipient, "locales": list(m.Locales)})
	return err
}

// tell puts what the user is told of the events into the outbox.
func (t tx) tell(ctx context.Context, userID string, events ...audit.Event) error {
	for _, e := range events {
		kind := mail.NoticeOf(e)
		if kind == "" {
			continue
		}
		if err := t.exec(ctx, `INSERT INTO mails (id, kind, recipient, locales, created_at, due_at)
			SELECT @id, @kind, profile->>'email', json_array(coalesce(profile->>'locale', '')), @now, @now FROM users WHERE id = @user AND verified_email IS NOT NULL`,
			args{"id": e.ID, "kind": string(kind), "user": id(userID)}); err != nil {
			return err
		}
	}
	return nil
}

// DueMails implements mail.Store. The next attempt is put down before this one is made.
func (s *Store) DueMails(ctx context.Context, limit int) (due []mail.Mail, err error) {
	const isDue = `due_at <= @now AND created_at > @now - @ttl`
	// Mostly there is nothing to do, and the write lock need not be taken to see it.
	if n, _, err := first(many(ctx, s, readInt, `SELECT count(*) FROM mails WHERE `+isDue, args{"ttl": mail.TTL.Microseconds()})); err != nil || n == 0 {
		return nil, err
	}
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		query := args{"limit": limit, "ttl": mail.TTL.Microseconds(), "now": t.now}
		rows, err := t.QueryContext(ctx, `SELECT id, kind, recipient, locales, attempts + 1 FROM mails WHERE `+isDue+` ORDER BY due_at LIMIT @limit`, query.list()...)
		due, err = collect(rows, err, func(row *sql.Rows) (m mail.Mail, err error) {
			err = row.Scan(&m.ID, &m.Kind, &m.Recipient, fromList(&m.Locales), &m.Attempts)
			return m, err
		})
		if err != nil {
			return err
		}
		for _, m := range due {
			if err := t.exec(ctx, `UPDATE mails SET attempts = @attempts, due_at = @now + @pause WHERE id = @id`,
				args{"attempts": m.Attempts, "pause": mail.Pause(m.Attempts).Microseconds(), "id": m.ID.String()}); err != nil {
				return err
			}
		}
		return nil
	})
	return due, err
}

// DeleteMail implements mail.Store.
func (s *Store) DeleteMail(ctx context.Context, id uuid.UUID) error {
	_, err := s.exec(ctx, `DELETE FROM mails WHERE id = @id`, args{"id": id.String()})
	return err
}

// WaitingMails implements mail.Store.
func (s *Store) WaitingMails(ctx context.Context) (n int64, oldest time.Duration, err error) {
	return s.waiting(ctx, "mails", mail.TTL)
}

// waiting tells how much waits in an outbox, and since when, of what is younger than ttl: the rest is not tried any more.
func (s *Store) waiting(ctx context.Context, outbox string, ttl time.Duration) (n int64, oldest time.Duration, err error) {
	var micros int64
	_, _, err = first(many(ctx, s, func(row *sql.Rows) (struct{}, error) {
		return struct{}{}, row.Scan(&n, &micros)
	}, `SELECT count(*), coalesce(@now - min(created_at), 0) FROM `+outbox+` WHERE created_at > @now - @ttl`, args{"ttl": ttl.Microseconds()}))
	return n, time.Duration(micros) * time.Microsecond, err
}

// DeleteUnsentMails implements storage.Store.
func (s *Store) DeleteUnsentMails(ctx context.Context) (int64, error) {
	return s.inBatches(ctx, `DELETE FROM mails WHERE id IN (SELECT id FROM mails WHERE created_at <= @now - @ttl LIMIT @batch)`,
		args{"ttl": mail.TTL.Microseconds()})
}
