package sqlite

import (
	"context"
	"database/sql"
	"time"

	"signet/audit"
	"signet/users"
)

// UserByEmail implements users.Store.
func (s *Store) UserByEmail(ctx context.Context, email string) (users.User, error) {
	u, found, err := first(many(ctx, s, readUser, `SELECT `+userColumns+` FROM users WHERE verified_email = @email`, args{"email": email}))
	if err == nil && !found {
		err = users.ErrNotFound
	}
	return u, err
}

// goodLink is the one decision about a link l: it has not expired, and the user whom it is for, if any, is as they were,
// with the address that it was mailed to, if it was.
const goodLink = `l.expires_at > @now AND (l.purpose <> 'reset' OR EXISTS (
	SELECT 1 FROM users u WHERE u.id = l.subject AND u.epoch = l.user_epoch AND NOT u.disabled
		AND (l.email = '' OR u.verified_email IS NOT NULL AND u.profile->>'email' = l.email)))`

// CreateLink implements users.Store.
func (s *Store) CreateLink(ctx context.Context, r users.LinkRef, n users.Link, ttl time.Duration, e audit.Event) (expires time.Time, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		var found bool
		expires, found, err = oneIn(ctx, t, func(row *sql.Rows) (at time.Time, err error) {
			err = row.Scan(moment{&at})
			return at, err
		}, `INSERT INTO links AS l (id, digest, purpose, subject, user_epoch, email, invited, created_at, expires_at)
			SELECT @id, @digest, @purpose, @subject, @user_epoch, @email, @invited, @now, @now + @ttl
			WHERE @purpose <> 'reset' OR EXISTS (SELECT 1 FROM users u WHERE u.id = @subject AND u.epoch = @user_epoch AND NOT u.disabled)
			ON CONFLICT (purpose, subject) DO UPDATE SET id = excluded.id, digest = excluded.digest, user_epoch = excluded.user_epoch,
				email = excluded.email, created_at = @now,
				invited = excluded.invited OR l.invited AND l.expires_at > @now,
				expires_at = CASE WHEN excluded.invited OR NOT l.invited THEN excluded.expires_at ELSE max(l.expires_at, excluded.expires_at) END
			RETURNING expires_at`, args{
			"id": r.ID.String(), "digest": r.Digest, "purpose": string(n.Purpose), "subject": n.Subject, "user_epoch": n.UserEpoch,
			"email": n.Email, "invited": n.Invited, "ttl": ttl.Microseconds(),
		})
		switch {
		case err != nil:
			return err
		case !found:
			return users.ErrNotFound
		case e.Type == "":
			return nil
		}
		return t.record(ctx, e)
	})
	return expires, err
}

// Link implements users.Store.
func (s *Store) Link(ctx context.Context, r users.LinkRef) (users.Link, bool, error) {
	return first(many(ctx, s, func(row *sql.Rows) (l users.Link, err error) {
		err = row.Scan(&l.Purpose, &l.Subject, &l.UserEpoch, &l.Email, &l.Invited, moment{&l.ExpiresAt})
		return l, err
	}, `SELECT purpose, subject, user_epoch, email, invited, expires_at FROM links l WHERE id = @id AND digest = @digest AND `+goodLink,
		args{"id": r.ID.String(), "digest": r.Digest}))
}

// Invited implements users.Store.
func (s *Store) Invited(ctx context.Context, email string) (bool, error) {
	_, invited, err := first(many(ctx, s, readText, `SELECT id FROM links
		WHERE purpose = @purpose AND subject = @email AND invited AND expires_at > @now`,
		args{"purpose": string(users.NewAccount), "email": email}))
	return invited, err
}

// takeLink deletes a good link, within a transaction that is undone where it cannot be used after all.
func takeLink(ctx context.Context, t tx, r users.LinkRef, p users.Purpose) error {
	_, found, err := oneIn(ctx, t, readText, `DELETE FROM links AS l WHERE id = @id AND digest = @digest AND purpose = @purpose AND `+goodLink+` RETURNING id`,
		args{"id": r.ID.String(), "digest": r.Digest, "purpose": string(p)})
	if err == nil && !found {
		err = users.ErrLink
	}
	return err
}

// UseResetLink implements users.Store.
func (s *Store) UseResetLink(ctx context.Context, r users.LinkRef, l users.Link, hash string, failures []byte, events []audit.Event) (u users.User, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		if err := takeLink(ctx, t, r, users.ResetPassword); err != nil {
			return err
		}
		if u, err = changeUser(ctx, t, l.Subject, users.Changes{PasswordHash: &hash, Epoch: &l.UserEpoch}, events); err != nil {
			return err
		}
		return t.exec(ctx, `DELETE FROM login_failures WHERE subject = @subject`, args{"subject": failures})
	})
	return u, err
}

// UseAccountLink implements users.Store.
func (s *Store) UseAccountLink(ctx context.Context, r users.LinkRef, u users.User, canonical string, e audit.Event) (created users.User, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		if err := takeLink(ctx, t, r, users.NewAccount); err != nil {
			return err
		}
		created, err = createUser(ctx, t, u, canonical, e)
		return err
	})
	return created, err
}

// DeleteExpiredLinks implements storage.Store.
func (s *Store) DeleteExpiredLinks(ctx context.Context) (int64, error) {
	return s.inBatches(ctx, `DELETE FROM links WHERE id IN (SELECT id FROM links WHERE expires_at <= @now LIMIT @batch)`, args{})
}
