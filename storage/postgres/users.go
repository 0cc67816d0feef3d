package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"signet/audit"
	"signet/users"
)

const userColumns = `id::text, username, admin, disabled, created_at, epoch, password_hash, profile::text`

func readUser(row pgx.CollectableRow) (u users.User, err error) {
	var profile []byte
	if err = row.Scan(&u.ID, &u.Username, &u.Admin, &u.Disabled, &u.CreatedAt, &u.Epoch, &u.PasswordHash, &profile); err == nil {
		u.Profile, err = users.ParseProfile(profile)
	}
	u.CreatedAt = u.CreatedAt.UTC()
	return u, err
}

func (s *Store) oneUser(ctx context.Context, sql string, args named) (users.User, error) {
	u, found, err := one(ctx, s, readUser, sql, args)
	if err == nil && !found {
		err = users.ErrNotFound
	}
	return u, err
}

// User implements users.Store.
func (s *Store) User(ctx context.Context, nameOrID string) (users.User, error) {
	var id *string // NULL unless it can be one
	if parsed, err := uuid.Parse(nameOrID); err == nil {
		text := parsed.String()
		id = &text
	}
	return s.oneUser(ctx, `SELECT `+userColumns+` FROM users WHERE id = @id::uuid OR canonical = @name
		ORDER BY id = @id::uuid DESC NULLS LAST LIMIT 1`, named{"id": id, "name": nameOrID})
}

// Users implements users.Store.
func (s *Store) Users(ctx context.Context, f users.Filter) ([]users.User, error) {
	return many(ctx, s, readUser, `SELECT `+userColumns+` FROM users
		WHERE canonical > @after AND (@query = '' OR position(@query IN canonical) > 0) ORDER BY canonical LIMIT @limit`,
		named{"query": f.Query, "after": f.After, "limit": f.Limit})
}

var createUser = recording(`
	INSERT INTO users (id, username, canonical, password_hash, admin, profile, verified_email)
	VALUES (@id, @username, @canonical, @hash, @admin,
		CASE WHEN @profile::jsonb = '{}' THEN @profile ELSE @profile || jsonb_build_object('updated_at', now()) END, nullif(@verified_email, ''))
	RETURNING *`, userColumns)

// CreateUser implements users.Store.
func (s *Store) CreateUser(ctx context.Context, u users.User, canonical string, e audit.Event) (users.User, error) {
	created, err := run(ctx, s, false, func(ctx context.Context) (users.User, error) {
		rows, err := s.pool.Query(ctx, createUser, createArgs(u, canonical, e))
		if err != nil {
			return users.User{}, err
		}
		return pgx.CollectExactlyOneRow(rows, readUser)
	})
	return created, takenOr(err)
}

func createArgs(u users.User, canonical string, e audit.Event) named {
	return with(e, named{
		"id": u.ID, "username": u.Username, "canonical": canonical, "hash": u.PasswordHash, "admin": u.Admin,
		"profile": u.Stored(), "verified_email": u.VerifiedEmail(),
	})
}

// takenOr tells what is another user's already, or returns the error as it is.
func takenOr(err error) error {
	switch {
	case violates(err, "users_canonical_key"):
		return users.ErrExists
	case violates(err, "users_verified_email_key"):
		return users.ErrEmailTaken
	}
	return err
}

// Rehash implements users.Store.
func (s *Store) Rehash(ctx context.Context, id, oldHash, newHash string) error {
	_, err := s.exec(ctx, `UPDATE users SET password_hash = @new WHERE id = @id AND password_hash = @old`,
		named{"id": id, "old": oldHash, "new": newHash})
	return err
}

// changeUser keeps the session that is to live on in the user's new epoch.
var changeUser = `WITH changed AS (
		UPDATE users SET password_hash = coalesce(@hash, password_hash), disabled = coalesce(@disabled, disabled),
			admin = coalesce(@admin, admin),
			profile = CASE WHEN @profile::jsonb IS NULL THEN profile ELSE @profile || jsonb_build_object('updated_at', now()) END,
			verified_email = CASE WHEN @profile::jsonb IS NULL THEN verified_email ELSE nullif(@verified_email, '') END,
			epoch = epoch + CASE WHEN @raised THEN 1 ELSE 0 END
		WHERE id = @id AND (@epoch::bigint IS NULL OR epoch = @epoch) AND (@profile::jsonb IS NULL OR profile - 'updated_at' = @old_profile::jsonb) RETURNING *
	), kept AS (
		UPDATE sessions s SET user_epoch = u.epoch FROM changed u
		WHERE s.id = @except::uuid AND s.user_id = u.id AND s.user_epoch = u.epoch - 1
	), kept_login AS (
		UPDATE logins l SET user_epoch = u.epoch FROM changed u
		WHERE l.id = (SELECT login_id FROM sessions WHERE id = @except::uuid AND user_id = u.id) AND l.user_epoch = u.epoch - 1
	), told AS (` + tellAll + `), event AS (` + insertEvents + ` FROM changed, ` + allEvents + ` ON CONFLICT (id) DO NOTHING)
	SELECT ` + userColumns + ` FROM changed`

// tellAll puts down to be told every client that wants to hear of the end of a login that ends with its changed user's epoch, if that
// was raised.
const tellAll = `
	INSERT INTO logout_notices (login_id, client_id, user_id)
	SELECT DISTINCT s.login_id, c.id, s.user_id FROM changed u
	JOIN logins l ON @raised AND l.user_id = u.id AND l.user_epoch = u.epoch - 1 AND (l.ended_at IS NULL OR l.ended_at = now()) AND l.expires_at > now()
	JOIN sessions s ON s.login_id = l.id AND s.revoked_at IS NULL AND s.expires_at > now() AND s.id IS DISTINCT FROM @except::uuid
	JOIN clients c ON c.id = s.client_id AND c.epoch = s.client_epoch AND NOT c.disabled AND coalesce(c.details->>'backchannel_logout_uri', '') <> ''
	ON CONFLICT DO NOTHING`

// endLoginsOf ends the logins of a user whose epoch is about to be raised, but that of the session that is to live on. It is a statement
// of its own, before the change in the same transaction: it waits for the redemptions that are under way, whose sessions the change then
// sees, and has those that come later find no login.
const endLoginsOf = `WITH u AS MATERIALIZED (SELECT id FROM users WHERE id = @id FOR UPDATE)
	UPDATE logins l SET ended_at = now() FROM u
	WHERE l.user_id = u.id AND l.ended_at IS NULL AND l.expires_at > now()
		AND l.id IS DISTINCT FROM (SELECT login_id FROM sessions WHERE id = @except::uuid AND user_id = u.id)`

func changeArgs(id string, ch users.Changes, events []audit.Event) named {
	args := withAll(events, named{
		"id": id, "hash": ch.PasswordHash, "disabled": ch.Disabled, "admin": ch.Admin,
		"except": pgtype.Text{String: ch.Except, Valid: ch.Except != ""}, "epoch": ch.Epoch,
		"profile": nil, "old_profile": nil, "verified_email": "", "raised": ch.RaisesEpoch(),
	})
	if ch.Profile != nil {
		args["profile"], args["old_profile"], args["verified_email"] = ch.Profile.Stored(), ch.OldProfile.Stored(), ch.Profile.VerifiedEmail()
	}
	return args
}

// changeUserIn changes a user in a transaction.
func changeUserIn(ctx context.Context, tx pgx.Tx, id string, ch users.Changes, events []audit.Event) (users.User, error) {
	args := changeArgs(id, ch, events)
	if err := tell(ctx, tx, id, events...); err != nil {
		return users.User{}, err
	}
	if ch.RaisesEpoch() {
		if _, err := tx.Exec(ctx, endLoginsOf, args); err != nil {
			return users.User{}, err
		}
	}
	rows, err := tx.Query(ctx, changeUser, args)
	if err != nil {
		return users.User{}, err
	}
	return pgx.CollectExactlyOneRow(rows, readUser)
}

// ChangeUser implements users.Store.
func (s *Store) ChangeUser(ctx context.Context, id string, ch users.Changes, events []audit.Event) (users.User, error) {
	// With an epoch, or a profile, a repetition would not tell its own change from somebody else's.
	u, err := run(ctx, s, ch.Epoch == nil && ch.Profile == nil, func(ctx context.Context) (u users.User, err error) {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			u, err = changeUserIn(ctx, tx, id, ch, events)
			return err
		})
		return u, err
	})
	if violates(err, "users_verified_email_key") {
		err = users.ErrEmailTaken
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = users.ErrNotFound
		if ch.Profile != nil {
			if _, err = s.User(ctx, id); err == nil {
				err = users.ErrProfileChanged
			}
		}
	}
	return u, err
}

// deleteUser finds its own event where it is repeated after a lost answer.
const deleteUser = `WITH changed AS (DELETE FROM users WHERE id = @id RETURNING id, epoch + 1 AS epoch), told AS (` + tellAll + `),
	event AS (` + insertEvent + ` FROM changed)
	SELECT FROM changed UNION ALL SELECT FROM audit_events WHERE id = @e_id::uuid`

// DeleteUser implements users.Store.
func (s *Store) DeleteUser(ctx context.Context, id string, e audit.Event) error {
	args := with(e, named{"id": id, "except": nil, "raised": true})
	_, err := run(ctx, s, true, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, endLoginsOf, args); err != nil {
				return err
			}
			deleted, err := tx.Exec(ctx, deleteUser, args)
			if err == nil && deleted.RowsAffected() == 0 {
				err = users.ErrNotFound
			}
			return err
		})
	})
	return err
}

// throttled is how long the attempt has to wait: until the later end of the windows of its username and its address, if they
// hold as many failures as are allowed.
const throttled = `(SELECT coalesce(max(f.window_start + @window::interval - now()), '0') FROM login_failures f
	WHERE f.subject IN (@username, @address) AND f.window_start > now() - @window::interval AND cardinality(f.attempts) >= @max)`

func attemptArgs(a users.Attempt) named {
	return named{"username": a.Username, "address": a.Address, "max": a.Max, "window": a.Window}
}

// standIn begins the selection of a user's hash that an unknown name's check is to cost as much as. Which one follows from the name, so that
// its checks cost the same each time, and those of many names what the stored hashes do.
const standIn = `(SELECT h.password_hash FROM users h WHERE h.password_hash <> ''`

// LoginCandidate implements users.Store.
func (s *Store) LoginCandidate(ctx context.Context, canonical string, a users.Attempt) (*users.User, string, time.Duration, error) {
	args := attemptArgs(a)
	args["canonical"], args["pivot"] = canonical, [16]byte(a.Username)
	type candidate struct {
		user    *users.User
		standIn string
		wait    time.Duration
	}
	c, _, err := one(ctx, s, func(row pgx.CollectableRow) (c candidate, err error) {
		var id, username, hash *string
		var admin, disabled *bool
		var created *time.Time
		var epoch *int64
		if err = row.Scan(&id, &username, &admin, &disabled, &created, &epoch, &hash, &c.standIn, &c.wait); err == nil && id != nil {
			c.user = &users.User{
				ID: *id, Username: *username, Admin: *admin, Disabled: *disabled, CreatedAt: created.UTC(),
				Epoch: *epoch, PasswordHash: *hash,
			}
		}
		return c, err
	}, `SELECT id::text, username, admin, disabled, created_at, epoch, password_hash,
			coalesce(`+standIn+` AND h.id >= @pivot ORDER BY h.id LIMIT 1), `+standIn+` ORDER BY h.id LIMIT 1), ''), `+throttled+`
		FROM (VALUES (1)) AS always LEFT JOIN users ON canonical = @canonical`, args)
	return c.user, c.standIn, c.wait, err
}

// CountLoginFailure implements users.Store.
func (s *Store) CountLoginFailure(ctx context.Context, a users.Attempt, failed, throttled audit.Event) (users.Counted, error) {
	return run(ctx, s, true, func(ctx context.Context) (count users.Counted, err error) {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			count, err = countFailure(ctx, tx, a, failed, throttled)
			if err == nil && count.Wait > 0 {
				return errThrottled // nothing is to be kept
			}
			return err
		})
		if errors.Is(err, errThrottled) {
			err = nil
		}
		return count, err
	})
}

var errThrottled = errors.New("throttled")

func countFailure(ctx context.Context, tx pgx.Tx, a users.Attempt, failed, throttled audit.Event) (count users.Counted, err error) {
	subjects := a.Subjects()
	// The rows are made and locked in the order of their keys, so that two attempts never wait for each other.
	_, err = tx.Exec(ctx, `INSERT INTO login_failures (subject, attempts) SELECT subject, '{}' FROM unnest($1::bytea[]) subject
		ORDER BY subject ON CONFLICT DO NOTHING`, subjects)
	if err != nil {
		return count, err
	}
	rows, err := tx.Query(ctx, `SELECT subject, attempts, window_start + $2::interval - now() FROM login_failures
		WHERE subject = ANY($1) ORDER BY subject FOR UPDATE`, subjects, a.Window)
	if err != nil {
		return count, err
	}
	known, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f users.Failures, err error) {
		err = row.Scan(&f.Subject, &f.Attempts, &f.Remaining)
		return f, err
	})
	if err != nil {
		return count, err
	}
	count = a.Count(known)
	if count.Wait > 0 {
		return count, nil
	}
	for _, f := range count.Changed {
		if _, err := tx.Exec(ctx, `UPDATE login_failures SET attempts = $2, window_start = CASE WHEN $3 THEN now() ELSE window_start END
			WHERE subject = $1`, f.Subject, f.Attempts, f.Remaining <= 0); err != nil {
			return count, err
		}
	}
	for _, e := range count.Events(failed, throttled) {
		if _, err := tx.Exec(ctx, insertEvent, with(e, named{})); err != nil {
			return count, err
		}
	}
	return count, nil
}

// TakeBackFailure implements users.Store. A statement for each row: none waits for a row while it holds another.
func (s *Store) TakeBackFailure(ctx context.Context, a users.Attempt) error {
	for _, subject := range a.Subjects() {
		if _, err := s.exec(ctx, `UPDATE login_failures SET attempts = array_remove(attempts, @attempt) WHERE subject = @subject`,
			named{"subject": subject, "attempt": a.Password}); err != nil {
			return err
		}
	}
	return nil
}

// ClearLoginFailures implements users.Store.
func (s *Store) ClearLoginFailures(ctx context.Context, a users.Attempt) (time.Duration, error) {
	wait, _, err := one(ctx, s, pgx.RowTo[time.Duration], `
		WITH throttled AS (SELECT `+throttled+` AS wait),
		cleared AS (DELETE FROM login_failures WHERE subject = @username AND (SELECT wait FROM throttled) = '0')
		SELECT wait FROM throttled`, attemptArgs(a))
	return wait, err
}
