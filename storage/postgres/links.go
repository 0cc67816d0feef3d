package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"signet/audit"
	"signet/users"
)

// UserByEmail implements users.Store.
func (s *Store) UserByEmail(ctx context.Context, email string) (users.User, error) {
	return s.oneUser(ctx, `SELECT `+userColumns+` FROM users WHERE verified_email = @email`, named{"email": email})
}

// goodLink is the one decision about a link l: it has not expired, and the user whom it is for, if any, is as they were,
// with the address that it was mailed to, if it was.
const goodLink = `l.expires_at > now() AND (l.purpose <> 'reset' OR EXISTS (
	SELECT FROM users u WHERE u.id = CASE l.purpose WHEN 'reset' THEN l.subject::uuid END AND u.epoch = l.user_epoch AND NOT u.disabled
		AND (l.email = '' OR u.verified_email IS NOT NULL AND u.profile->>'email' = l.email)))`

const createLink = `WITH created AS (
		INSERT INTO links AS l (id, digest, purpose, subject, user_epoch, email, invited, expires_at)
		SELECT @id::uuid, @digest, @purpose, @subject, @user_epoch, @email, @invited, now() + @ttl::interval
		WHERE @purpose <> 'reset' OR EXISTS (
			SELECT FROM users u WHERE u.id = nullif(@user, '')::uuid AND u.epoch = @user_epoch AND NOT u.disabled)
		ON CONFLICT (purpose, subject) DO UPDATE SET id = excluded.id, digest = excluded.digest, user_epoch = excluded.user_epoch,
			email = excluded.email, created_at = now(),
			invited = excluded.invited OR l.invited AND l.expires_at > now(),
			expires_at = CASE WHEN excluded.invited OR NOT l.invited THEN excluded.expires_at ELSE greatest(l.expires_at, excluded.expires_at) END
		RETURNING expires_at
	), event AS (` + insertEvent + ` FROM created WHERE @e_type::text <> '' ON CONFLICT (id) DO NOTHING)
	SELECT expires_at FROM created`

// CreateLink implements users.Store.
func (s *Store) CreateLink(ctx context.Context, r users.LinkRef, n users.Link, ttl time.Duration, e audit.Event) (time.Time, error) {
	user := ""
	if n.Purpose == users.ResetPassword {
		user = n.Subject
	}
	if e.ID == "" {
		e.ID = r.ID.String() // there is none, but for the statement
	}
	expires, found, err := one(ctx, s, pgx.RowTo[time.Time], createLink, with(e, named{
		"id": [16]byte(r.ID), "digest": r.Digest, "purpose": string(n.Purpose), "subject": n.Subject, "user_epoch": n.UserEpoch,
		"email": n.Email, "invited": n.Invited, "ttl": ttl, "user": user,
	}))
	if err == nil && !found {
		err = users.ErrNotFound
	}
	return expires.UTC(), err
}

// Link implements users.Store.
func (s *Store) Link(ctx context.Context, r users.LinkRef) (users.Link, bool, error) {
	return one(ctx, s, func(row pgx.CollectableRow) (l users.Link, err error) {
		err = row.Scan(&l.Purpose, &l.Subject, &l.UserEpoch, &l.Email, &l.Invited, &l.ExpiresAt)
		l.ExpiresAt = l.ExpiresAt.UTC()
		return l, err
	}, `SELECT purpose, subject, user_epoch, email, invited, expires_at FROM links l WHERE id = @id AND digest = @digest AND `+goodLink,
		named{"id": [16]byte(r.ID), "digest": r.Digest})
}

// Invited implements users.Store.
func (s *Store) Invited(ctx context.Context, email string) (bool, error) {
	invited, _, err := one(ctx, s, pgx.RowTo[bool], `SELECT EXISTS (SELECT FROM links
		WHERE purpose = @purpose AND subject = @email AND invited AND expires_at > now())`,
		named{"purpose": string(users.NewAccount), "email": email})
	return invited, err
}

// takeLink deletes a good link, within a transaction that is undone where it cannot be used after all.
func takeLink(ctx context.Context, tx pgx.Tx, r users.LinkRef, p users.Purpose) error {
	tag, err := tx.Exec(ctx, `DELETE FROM links l WHERE id = $1 AND digest = $2 AND purpose = $3 AND `+goodLink, [16]byte(r.ID), r.Digest, string(p))
	if err == nil && tag.RowsAffected() == 0 {
		err = users.ErrLink
	}
	return err
}

// UseResetLink implements users.Store.
func (s *Store) UseResetLink(ctx context.Context, r users.LinkRef, l users.Link, hash string, failures []byte, events []audit.Event) (users.User, error) {
	return run(ctx, s, false, func(ctx context.Context) (u users.User, err error) {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			if err := takeLink(ctx, tx, r, users.ResetPassword); err != nil {
				return err
			}
			ch := users.Changes{PasswordHash: &hash, Epoch: &l.UserEpoch}
			if u, err = changeUserIn(ctx, tx, l.Subject, ch, events); errors.Is(err, pgx.ErrNoRows) {
				return users.ErrLink
			}
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `DELETE FROM login_failures WHERE subject = $1`, failures)
			return err
		})
		return u, err
	})
}

// UseAccountLink implements users.Store.
func (s *Store) UseAccountLink(ctx context.Context, r users.LinkRef, u users.User, canonical string, e audit.Event) (users.User, error) {
	created, err := run(ctx, s, false, func(ctx context.Context) (created users.User, err error) {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			if err := takeLink(ctx, tx, r, users.NewAccount); err != nil {
				return err
			}
			rows, err := tx.Query(ctx, createUser, createArgs(u, canonical, e))
			if err == nil {
				created, err = pgx.CollectExactlyOneRow(rows, readUser)
			}
			return err
		})
		return created, err
	})
	return created, takenOr(err)
}

// DeleteExpiredLinks implements storage.Store.
func (s *Store) DeleteExpiredLinks(ctx context.Context) (int64, error) {
	return s.inBatches(ctx, `DELETE FROM links WHERE id IN (
		SELECT id FROM links WHERE expires_at <= now() LIMIT @batch FOR UPDATE SKIP LOCKED)`, named{})
}
