package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/google/uuid"

	"signet/audit"
	"signet/users"
)

const userColumns = `id, username, admin, disabled, created_at, epoch, password_hash, profile`

func readUser(row *sql.Rows) (u users.User, err error) {
	var profile []byte
	if err = row.Scan(&u.ID, &u.Username, &u.Admin, &u.Disabled, moment{&u.CreatedAt}, &u.Epoch, &u.PasswordHash, &profile); err == nil {
		u.Profile, err = users.ParseProfile(profile)
	}
	return u, err
}

// User implements users.Store.
func (s *Store) User(ctx context.Context, nameOrID string) (users.User, error) {
	u, found, err := first(many(ctx, s, readUser, `SELECT `+userColumns+` FROM users WHERE id = @id OR canonical = @name
		ORDER BY id = @id DESC LIMIT 1`, args{"id": id(nameOrID), "name": nameOrID}))
	if err == nil && !found {
		err = users.ErrNotFound
	}
	return u, err
}

// Users implements users.Store.
func (s *Store) Users(ctx context.Context, f users.Filter) ([]users.User, error) {
	return many(ctx, s, readUser, `SELECT `+userColumns+` FROM users
		WHERE canonical > @after AND (@query = '' OR instr(canonical, @query) > 0) ORDER BY canonical LIMIT @limit`,
		args{"query": f.Query, "after": f.After, "limit": f.Limit})
}

// stampOfNow is the time as profiles hold it.
const stampOfNow = `strftime('%Y-%m-%dT%H:%M:%fZ', @now / 1e6, 'unixepoch')`

// CreateUser implements users.Store.
func (s *Store) CreateUser(ctx context.Context, u users.User, canonical string, e audit.Event) (created users.User, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		created, err = createUser(ctx, t, u, canonical, e)
		return err
	})
	return created, err
}

// insertUser does nothing where the name is another user's; where the verified address is, its error is unique.
const insertUser = `
	INSERT INTO users (id, username, canonical, password_hash, admin, created_at, profile, verified_email)
	VALUES (@id, @username, @canonical, @hash, @admin, @now,
		CASE WHEN @profile = '{}' THEN '{}' ELSE json_set(@profile, '$.updated_at', ` + stampOfNow + `) END, nullif(@verified_email, ''))
	ON CONFLICT (canonical) DO NOTHING`

func createArgs(u users.User, canonical string) args {
	return args{
		"id": id(u.ID), "username": u.Username, "canonical": canonical, "hash": u.PasswordHash, "admin": u.Admin,
		"profile": u.Stored(), "verified_email": u.VerifiedEmail(),
	}
}

func createUser(ctx context.Context, t tx, u users.User, canonical string, e audit.Event) (users.User, error) {
	created, made, err := oneIn(ctx, t, readUser, insertUser+` RETURNING `+userColumns, createArgs(u, canonical))
	switch {
	case unique(err):
		err = users.ErrEmailTaken
	case err == nil && !made:
		err = users.ErrExists
	case err == nil:
		err = t.record(ctx, e)
	}
	return created, err
}

// ChangeUser implements users.Store. It keeps the session that is to live on in the user's new epoch.
func (s *Store) ChangeUser(ctx context.Context, userID string, ch users.Changes, events []audit.Event) (u users.User, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		u, err = changeUser(ctx, t, userID, ch, events)
		return err
	})
	return u, err
}

func changeUser(ctx context.Context, t tx, userID string, ch users.Changes, events []audit.Event) (users.User, error) {
	if err := t.tell(ctx, userID, events...); err != nil {
		return users.User{}, err
	}
	u, found, err := oneIn(ctx, t, readUser, `
			UPDATE users SET password_hash = coalesce(@hash, password_hash), disabled = coalesce(@disabled, disabled),
				admin = coalesce(@admin, admin), epoch = epoch + CASE WHEN @raised THEN 1 ELSE 0 END
			WHERE id = @id AND (@epoch IS NULL OR epoch = @epoch) RETURNING `+userColumns,
		args{
			"id": id(userID), "hash": ch.PasswordHash, "disabled": ch.Disabled, "admin": ch.Admin, "raised": ch.RaisesEpoch(),
			"epoch": ch.Epoch,
		})
	if err == nil && !found {
		err = users.ErrNotFound
	}
	if err == nil && ch.Profile != nil {
		u, err = changeProfile(ctx, t, u.ID, ch)
	}
	if err == nil && ch.RaisesEpoch() {
		err = tellAll(ctx, t, u.ID, u.Epoch, ch.Except)
	}
	if err == nil {
		err = t.exec(ctx, `UPDATE logins SET user_epoch = @epoch
				WHERE id = (SELECT login_id FROM sessions WHERE id = @except AND user_id = @user) AND user_epoch = @epoch - 1`,
			args{"epoch": u.Epoch, "except": id(ch.Except), "user": u.ID})
	}
	if err != nil {
		return u, err
	}
	if err := t.exec(ctx, `UPDATE sessions SET user_epoch = @epoch WHERE id = @except AND user_id = @user AND user_epoch = @epoch - 1`,
		args{"epoch": u.Epoch, "except": id(ch.Except), "user": u.ID}); err != nil {
		return u, err
	}
	for _, e := range events {
		if err := t.record(ctx, e); err != nil {
			return u, err
		}
	}
	return u, nil
}

// changeProfile puts a profile in the place of another one.
func changeProfile(ctx context.Context, t tx, userID string, ch users.Changes) (users.User, error) {
	u, found, err := oneIn(ctx, t, readUser, `
		UPDATE users SET profile = json_set(@profile, '$.updated_at', `+stampOfNow+`),
			verified_email = nullif(@verified_email, '')
		WHERE id = @id AND json_remove(profile, '$.updated_at') = json(@old_profile) RETURNING `+userColumns,
		args{
			"id": id(userID), "profile": ch.Profile.Stored(), "old_profile": ch.OldProfile.Stored(),
			"verified_email": ch.Profile.VerifiedEmail(),
		})
	if unique(err) {
		err = users.ErrEmailTaken
	}
	if err == nil && !found {
		err = users.ErrProfileChanged
	}
	return u, err
}

// tellAll puts down to be told every client that wants to hear of the end of a login that ends with the user's new epoch.
func tellAll(ctx context.Context, t tx, userID string, epoch int64, except string) error {
	return t.exec(ctx, `INSERT INTO logout_notices (login_id, client_id, user_id, created_at, due_at)
		SELECT DISTINCT s.login_id, c.id, s.user_id, @now, @now FROM logins l
		JOIN sessions s ON s.login_id = l.id AND s.revoked_at IS NULL AND s.expires_at > @now AND s.id <> @except
		JOIN clients c ON c.id = s.client_id AND c.epoch = s.client_epoch AND NOT c.disabled AND coalesce(c.details->>'backchannel_logout_uri', '') <> ''
		WHERE l.user_id = @user AND l.user_epoch = @epoch - 1 AND l.ended_at IS NULL AND l.expires_at > @now
		ON CONFLICT DO NOTHING`, args{"user": userID, "epoch": epoch, "except": id(except)})
}

// Rehash implements users.Store.
func (s *Store) Rehash(ctx context.Context, userID, oldHash, newHash string) error {
	_, err := s.exec(ctx, `UPDATE users SET password_hash = @new WHERE id = @id AND password_hash = @old`,
		args{"id": id(userID), "old": oldHash, "new": newHash})
	return err
}

// DeleteUser implements users.Store.
func (s *Store) DeleteUser(ctx context.Context, userID string, e audit.Event) error {
	return s.write(ctx, func(ctx context.Context, t tx) error {
		u, found, err := oneIn(ctx, t, readUser, `DELETE FROM users WHERE id = @id RETURNING `+userColumns, args{"id": id(userID)})
		if err == nil && !found {
			err = users.ErrNotFound
		}
		if err == nil {
			err = tellAll(ctx, t, u.ID, u.Epoch+1, "")
		}
		if err != nil {
			return err
		}
		return t.record(ctx, e)
	})
}

// throttled is how long the attempt has to wait: until the later end of the windows of its username and its address, if they
// hold as many failures as are allowed.
const throttled = `(SELECT coalesce(max(f.window_start + @window - @now), 0) FROM login_failures f
	WHERE f.subject IN (@username, @address) AND f.window_start > @now - @window AND json_array_length(f.attempts) >= @max)`

func attemptArgs(a users.Attempt) args {
	return args{"username": a.Username, "address": a.Address, "max": a.Max, "window": a.Window.Microseconds()}
}

// hashOf begins the selection of a stand-in; see the one for PostgreSQL.
const hashOf = `(SELECT h.password_hash FROM users h WHERE h.password_hash <> ''`

// LoginCandidate implements users.Store.
func (s *Store) LoginCandidate(ctx context.Context, canonical string, a users.Attempt) (u *users.User, standIn string, left time.Duration, err error) {
	candidate := attemptArgs(a)
	candidate["canonical"], candidate["pivot"] = canonical, uuid.UUID(a.Username).String()
	var wait int64
	u, _, err = first(many(ctx, s, func(row *sql.Rows) (*users.User, error) {
		var u users.User
		var known bool
		err := row.Scan(&known, &u.ID, &u.Username, &u.Admin, &u.Disabled, moment{&u.CreatedAt}, &u.Epoch, &u.PasswordHash, &standIn, &wait)
		if err != nil || !known {
			return nil, err
		}
		return &u, nil
	}, `SELECT id IS NOT NULL, coalesce(id, ''), coalesce(username, ''), coalesce(admin, 0), coalesce(disabled, 0), created_at,
			coalesce(epoch, 0), coalesce(password_hash, ''),
			coalesce(`+hashOf+` AND h.id >= @pivot ORDER BY h.id LIMIT 1), `+hashOf+` ORDER BY h.id LIMIT 1), ''), `+throttled+`
		FROM (SELECT 1) LEFT JOIN users ON canonical = @canonical`, candidate))
	return u, standIn, time.Duration(wait) * time.Microsecond, err
}

// CountLoginFailure implements users.Store.
func (s *Store) CountLoginFailure(ctx context.Context, a users.Attempt, failed, throttled audit.Event) (count users.Counted, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		known, err := t.failures(ctx, a)
		if err != nil {
			return err
		}
		if count = a.Count(known); count.Wait > 0 {
			return nil
		}
		for _, f := range count.Changed {
			if err := t.exec(ctx, `INSERT INTO login_failures (subject, window_start, attempts) VALUES (@subject, @now, @attempts)
				ON CONFLICT (subject) DO UPDATE SET attempts = excluded.attempts,
					window_start = CASE WHEN @anew THEN excluded.window_start ELSE window_start END`,
				args{"subject": f.Subject, "attempts": list(f.Attempts), "anew": f.Remaining <= 0}); err != nil {
				return err
			}
		}
		for _, e := range count.Events(failed, throttled) {
			if err := t.record(ctx, e); err != nil {
				return err
			}
		}
		return nil
	})
	return count, err
}

// failures returns what is known of the attempt's subjects. The window of one that is not known begins now.
func (t tx) failures(ctx context.Context, a users.Attempt) ([]users.Failures, error) {
	known := make([]users.Failures, 0, 2)
	for _, subject := range a.Subjects() {
		f, found, err := oneIn(ctx, t, func(row *sql.Rows) (f users.Failures, err error) {
			var remaining int64
			err = row.Scan(fromList(&f.Attempts), &remaining)
			f.Remaining = time.Duration(remaining) * time.Microsecond
			return f, err
		}, `SELECT attempts, window_start + @window - @now FROM login_failures WHERE subject = @subject`,
			args{"subject": subject, "window": a.Window.Microseconds()})
		if err != nil {
			return nil, err
		}
		if !found {
			f.Remaining = a.Window
		}
		f.Subject = subject
		known = append(known, f)
	}
	return known, nil
}

// TakeBackFailure implements users.Store.
func (s *Store) TakeBackFailure(ctx context.Context, a users.Attempt) error {
	return s.write(ctx, func(ctx context.Context, t tx) error {
		known, err := t.failures(ctx, a)
		if err != nil {
			return err
		}
		for _, f := range known {
			left := slices.DeleteFunc(f.Attempts, func(d []byte) bool { return bytes.Equal(d, a.Password) })
			if err := t.exec(ctx, `UPDATE login_failures SET attempts = @attempts WHERE subject = @subject`,
				args{"subject": f.Subject, "attempts": list(left)}); err != nil {
				return err
			}
		}
		return nil
	})
}

// ClearLoginFailures implements users.Store.
func (s *Store) ClearLoginFailures(ctx context.Context, a users.Attempt) (wait time.Duration, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		if wait, _, err = oneIn(ctx, t, readWait, `SELECT `+throttled, attemptArgs(a)); err != nil || wait > 0 {
			return err
		}
		return t.exec(ctx, `DELETE FROM login_failures WHERE subject = @username`, args{"username": a.Username})
	})
	return wait, err
}
