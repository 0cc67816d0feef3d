package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"

	"signet/audit"
	"signet/logins"
	"signet/tokens"
)

// liveLogin is the one decision about a login l, given the row u: it has not ended.
const liveLogin = `u.id = l.user_id AND u.epoch = l.user_epoch AND NOT u.disabled AND l.ended_at IS NULL AND l.expires_at > @now`

const loginColumns = `l.id, l.user_id, l.user_epoch, u.username, u.admin, l.auth_time, l.amr, l.acr, l.expires_at, @now`

// loginFields are what a row of loginColumns is scanned into.
func loginFields(l *logins.Login) []any {
	return []any{
		&l.ID, &l.UserID, &l.UserEpoch, &l.Username, &l.Admin, moment{&l.Time}, fromList(&l.Methods), &l.Class, moment{&l.ExpiresAt},
		moment{&l.Now},
	}
}

func readLogin(row *sql.Rows) (l logins.Login, err error) {
	err = row.Scan(loginFields(&l)...)
	return l, err
}

func loginArgs(n logins.NewLogin) args {
	return args{
		"id": n.ID.String(), "user": id(n.UserID), "user_epoch": n.UserEpoch, "digest": n.Digest, "amr": list(n.Methods), "acr": n.Class,
		"ttl": n.TTL.Microseconds(), "address": n.Address, "user_agent": n.UserAgent,
	}
}

// changeLogin runs a statement that changes a login, and reads it.
func (s *Store) changeLogin(ctx context.Context, text string, n logins.NewLogin, a args, e audit.Event) (l logins.Login, ok bool, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		_, changed, err := oneIn(ctx, t, readText, text, a)
		if err != nil || !changed {
			return err
		}
		if l, ok, err = oneIn(ctx, t, readLogin, `SELECT `+loginColumns+` FROM logins l, users u WHERE l.id = @id AND u.id = l.user_id`,
			args{"id": n.ID.String()}); err != nil {
			return err
		}
		return t.record(ctx, e)
	})
	return l, ok && err == nil, err
}

// provedEnough tells whether a new login proves as much as the user u can.
const provedEnough = `(@acr <> '` + logins.OneFactor + `' OR NOT EXISTS (SELECT 1 FROM factors f WHERE f.user_id = u.id))`

// CreateLogin implements logins.Store.
func (s *Store) CreateLogin(ctx context.Context, n logins.NewLogin, e audit.Event) (logins.Login, error) {
	l, ok, err := s.changeLogin(ctx, `
		INSERT INTO logins (id, user_id, user_epoch, secret_digest, auth_time, amr, acr, created_at, expires_at, address, user_agent)
		SELECT @id, u.id, u.epoch, @digest, @now, @amr, @acr, @now, @now + @ttl, @address, @user_agent
		FROM users u WHERE u.id = @user AND u.epoch = @user_epoch AND NOT u.disabled AND `+provedEnough+`
		RETURNING id`, n, loginArgs(n), e)
	if err == nil && !ok {
		err = logins.ErrUserChanged
	}
	return l, err
}

// RenewLogin implements logins.Store.
func (s *Store) RenewLogin(ctx context.Context, old logins.Ref, n logins.NewLogin, e audit.Event) (logins.Login, bool, error) {
	a := loginArgs(n)
	a["old"] = old.Digest
	return s.changeLogin(ctx, `
		UPDATE logins AS l SET secret_digest = @digest, auth_time = @now, amr = @amr, acr = @acr, expires_at = @now + @ttl,
			address = @address, user_agent = @user_agent
		WHERE l.id = @id AND l.secret_digest = @old AND l.user_id = @user AND l.user_epoch = @user_epoch
			AND EXISTS (SELECT 1 FROM users u WHERE `+liveLogin+` AND `+provedEnough+`)
		RETURNING id`, n, a, e)
}

// Login implements logins.Store.
func (s *Store) Login(ctx context.Context, r logins.Ref) (logins.Login, bool, error) {
	return first(many(ctx, s, readLogin, `SELECT `+loginColumns+` FROM logins l, users u
		WHERE l.id = @id AND l.secret_digest = @digest AND `+liveLogin, args{"id": r.ID.String(), "digest": r.Digest}))
}

// endLogins is what follows in the transaction in which the logins of the JSON array @logins have been ended. Clients that have a
// session in a login and want to hear of its end are put down to be told.
func endLogins(ctx context.Context, t tx, ended []string) error {
	if len(ended) == 0 {
		return nil
	}
	err := t.exec(ctx, `INSERT INTO logout_notices (login_id, client_id, user_id, created_at, due_at)
		SELECT DISTINCT s.login_id, c.id, s.user_id, @now, @now FROM sessions s JOIN clients c ON c.id = s.client_id AND c.epoch = s.client_epoch
		WHERE s.login_id IN (SELECT value FROM json_each(@logins)) AND s.revoked_at IS NULL AND s.expires_at > @now
			AND coalesce(c.details->>'backchannel_logout_uri', '') <> '' AND NOT c.disabled
		ON CONFLICT DO NOTHING`, args{"logins": list(ended)})
	if err != nil {
		return err
	}
	return t.exec(ctx, `UPDATE sessions SET revoked_at = @now, revoked_reason = 'its login ended'
		WHERE login_id IN (SELECT value FROM json_each(@logins)) AND ends_with_login AND revoked_at IS NULL`, args{"logins": list(ended)})
}

// EndLogin implements logins.Store.
func (s *Store) EndLogin(ctx context.Context, login uuid.UUID, e audit.Event) (ended bool, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		_, ended, err = oneIn(ctx, t, readText, `UPDATE logins SET ended_at = @now WHERE id = @id AND ended_at IS NULL RETURNING id`,
			args{"id": login.String()})
		if err != nil || !ended {
			return err
		}
		if err := endLogins(ctx, t, []string{login.String()}); err != nil {
			return err
		}
		return t.record(ctx, e)
	})
	return ended && err == nil, err
}

// LoginsOf implements logins.Store.
func (s *Store) LoginsOf(ctx context.Context, userID string, limit int) ([]logins.Place, error) {
	return many(ctx, s, func(row *sql.Rows) (p logins.Place, err error) {
		err = row.Scan(&p.ID, moment{&p.Time}, moment{&p.CreatedAt}, &p.Address, &p.UserAgent)
		return p, err
	}, `SELECT l.id, l.auth_time, l.created_at, l.address, l.user_agent FROM logins l, users u WHERE l.user_id = @user AND `+liveLogin+`
		ORDER BY l.auth_time DESC LIMIT @limit`, args{"user": id(userID), "limit": limit})
}

// DeleteEndedLogins implements storage.Store.
func (s *Store) DeleteEndedLogins(ctx context.Context) (int64, error) {
	return s.eachInBatches(ctx, args{},
		`DELETE FROM logins WHERE id IN (SELECT l.id FROM logins l
			WHERE l.ended_at IS NOT NULL OR l.expires_at <= @now
				OR NOT EXISTS (SELECT 1 FROM users u WHERE u.id = l.user_id AND u.epoch = l.user_epoch) LIMIT @batch)`,
		`DELETE FROM authorization_codes WHERE session_id IN (SELECT session_id FROM authorization_codes WHERE expires_at <= @now LIMIT @batch)`,
		`DELETE FROM device_codes WHERE session_id IN (SELECT session_id FROM device_codes WHERE expires_at <= @now - 3600000000 LIMIT @batch)`,
		`DELETE FROM logout_notices WHERE (login_id, client_id) IN (
			SELECT login_id, client_id FROM logout_notices WHERE created_at <= @now - 86400000000 LIMIT @batch)`,
		`DELETE FROM consents WHERE (user_id, client_id) IN (SELECT k.user_id, k.client_id FROM consents k
			WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.id = k.user_id) OR NOT EXISTS (SELECT 1 FROM clients c WHERE c.id = k.client_id)
			LIMIT @batch)`,
		`DELETE FROM used_challenges WHERE digest IN (SELECT digest FROM used_challenges WHERE expires_at <= @now LIMIT @batch)`,
		`DELETE FROM factors WHERE id IN (SELECT id FROM factors f WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.id = f.user_id) LIMIT @batch)`,
		`DELETE FROM recovery_codes WHERE (user_id, digest) IN (
			SELECT user_id, digest FROM recovery_codes r WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.id = r.user_id) LIMIT @batch)`,
		`DELETE FROM factor_tries WHERE user_id IN (SELECT user_id FROM factor_tries f WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.id = f.user_id) LIMIT @batch)`,
	)
}

// DueNotices implements tokens.Store. The next attempt is put down before this one is made.
func (s *Store) DueNotices(ctx context.Context, limit int) (due []tokens.Notice, err error) {
	a := func() args { return args{"limit": limit, "ttl": tokens.NoticeTTL.Microseconds()} }
	const isDue = `due_at <= @now AND created_at > @now - @ttl`
	// Mostly there is nothing to do, and the write lock need not be taken to see it.
	if n, _, err := first(many(ctx, s, readInt, `SELECT count(*) FROM logout_notices WHERE `+isDue, a())); err != nil || n == 0 {
		return nil, err
	}
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		query := a()
		query["now"] = t.now
		rows, err := t.QueryContext(ctx, `SELECT client_id, user_id, login_id, attempts + 1, @now FROM logout_notices WHERE `+isDue+`
			ORDER BY due_at LIMIT @limit`, query.list()...)
		due, err = collect(rows, err, func(row *sql.Rows) (n tokens.Notice, err error) {
			err = row.Scan(&n.ClientID, &n.UserID, &n.LoginID, &n.Attempts, moment{&n.Now})
			return n, err
		})
		if err != nil {
			return err
		}
		for _, n := range due {
			if err := t.exec(ctx, `UPDATE logout_notices SET attempts = @attempts, due_at = @now + @pause WHERE login_id = @login AND client_id = @client`,
				args{"attempts": n.Attempts, "pause": tokens.NoticePause(n.Attempts).Microseconds(), "login": n.LoginID, "client": n.ClientID}); err != nil {
				return err
			}
		}
		return nil
	})
	return due, err
}

// WaitingNotices implements tokens.Store.
func (s *Store) WaitingNotices(ctx context.Context) (n int64, oldest time.Duration, err error) {
	return s.waiting(ctx, "logout_notices", tokens.NoticeTTL)
}

// DeleteNotice implements tokens.Store.
func (s *Store) DeleteNotice(ctx context.Context, n tokens.Notice) error {
	_, err := s.exec(ctx, `DELETE FROM logout_notices WHERE login_id = @login AND client_id = @client`, args{"login": n.LoginID, "client": n.ClientID})
	return err
}
