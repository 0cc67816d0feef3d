package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"signet/audit"
	"signet/logins"
	"signet/tokens"
)

// liveLogin is the one decision about a login l, given the row u: it has not ended.
const liveLogin = `u.id = l.user_id AND u.epoch = l.user_epoch AND NOT u.disabled AND l.ended_at IS NULL AND l.expires_at > now()`

const loginColumns = `l.id::text, l.user_id::text, l.user_epoch, u.username, u.admin, l.auth_time, l.amr, l.acr, l.expires_at, now()`

// loginFields are what a row of loginColumns is scanned into.
func loginFields(l *logins.Login) []any {
	return []any{&l.ID, &l.UserID, &l.UserEpoch, &l.Username, &l.Admin, &l.Time, &l.Methods, &l.Class, &l.ExpiresAt, &l.Now}
}

func readLogin(row pgx.CollectableRow) (l logins.Login, err error) {
	err = row.Scan(loginFields(&l)...)
	return l, err
}

// provedEnough tells whether a new login proves as much as the user u can.
const provedEnough = `(@acr <> '` + logins.OneFactor + `' OR NOT EXISTS (SELECT FROM factors f WHERE f.user_id = u.id))`

func loginArgs(n logins.NewLogin) named {
	return named{
		"id": [16]byte(n.ID), "user": n.UserID, "user_epoch": n.UserEpoch, "digest": n.Digest, "amr": n.Methods, "acr": n.Class,
		"ttl": n.TTL, "address": n.Address, "user_agent": n.UserAgent,
	}
}

// recordingLogin is recording for a statement that returns a login's row.
func recordingLogin(change string) string {
	return `WITH l AS (` + change + `), event AS (` + insertEvent + ` FROM l ON CONFLICT (id) DO NOTHING)
		SELECT ` + loginColumns + ` FROM l, users u WHERE u.id = l.user_id`
}

var createLogin = recordingLogin(`
	INSERT INTO logins (id, user_id, user_epoch, secret_digest, amr, acr, expires_at, address, user_agent)
	SELECT @id, u.id, u.epoch, @digest, @amr::text[], @acr, now() + @ttl::interval, @address, @user_agent
	FROM users u WHERE u.id = @user AND u.epoch = @user_epoch AND NOT u.disabled AND ` + provedEnough + `
	ON CONFLICT (id) DO UPDATE SET acr = logins.acr -- a repetition after a lost answer
	RETURNING *`)

// CreateLogin implements logins.Store.
func (s *Store) CreateLogin(ctx context.Context, n logins.NewLogin, e audit.Event) (logins.Login, error) {
	l, found, err := one(ctx, s, readLogin, createLogin, with(e, loginArgs(n)))
	if err == nil && !found {
		err = logins.ErrUserChanged
	}
	return l, err
}

var renewLogin = recordingLogin(`
	UPDATE logins l SET secret_digest = @digest, auth_time = now(), amr = @amr, acr = @acr, expires_at = now() + @ttl::interval,
		address = @address, user_agent = @user_agent
	FROM users u
	WHERE l.id = @id AND l.secret_digest IN (@old, @digest) AND l.user_id = @user AND l.user_epoch = @user_epoch AND ` + liveLogin + ` AND ` + provedEnough + `
	RETURNING l.*`)

// RenewLogin implements logins.Store.
func (s *Store) RenewLogin(ctx context.Context, old logins.Ref, n logins.NewLogin, e audit.Event) (logins.Login, bool, error) {
	args := with(e, loginArgs(n))
	args["old"] = old.Digest
	return one(ctx, s, readLogin, renewLogin, args)
}

// Login implements logins.Store.
func (s *Store) Login(ctx context.Context, r logins.Ref) (logins.Login, bool, error) {
	return one(ctx, s, readLogin, `SELECT `+loginColumns+` FROM logins l, users u
		WHERE l.id = @id AND l.secret_digest = @digest AND `+liveLogin, named{"id": [16]byte(r.ID), "digest": r.Digest})
}

// endLogins is what follows when the logins of @logins have been ended, in the same transaction but as a statement of its own: it
// sees the sessions of the redemptions that the end has waited for. Clients that have a session in a login and want to hear of
// its end are put down to be told.
const endLogins = `WITH told AS (
		INSERT INTO logout_notices (login_id, client_id, user_id)
		SELECT DISTINCT s.login_id, c.id, s.user_id FROM sessions s JOIN clients c ON c.id = s.client_id AND c.epoch = s.client_epoch
		WHERE s.login_id = ANY (@logins::uuid[]) AND s.revoked_at IS NULL AND s.expires_at > now()
			AND coalesce(c.details->>'backchannel_logout_uri', '') <> '' AND NOT c.disabled
		ON CONFLICT DO NOTHING
	)
	UPDATE sessions SET revoked_at = now(), revoked_reason = 'its login ended'
	WHERE login_id = ANY (@logins::uuid[]) AND ends_with_login AND revoked_at IS NULL`

// EndLogin implements logins.Store.
func (s *Store) EndLogin(ctx context.Context, id uuid.UUID, e audit.Event) (bool, error) {
	return run(ctx, s, true, func(ctx context.Context) (ended bool, err error) {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			err := tx.QueryRow(ctx, `WITH ended AS (UPDATE logins SET ended_at = now() WHERE id = @id AND ended_at IS NULL RETURNING id),
				event AS (`+insertEvent+` FROM ended)
				SELECT true FROM ended UNION ALL SELECT true FROM audit_events WHERE id = @e_id::uuid -- a repetition after a lost answer`,
				with(e, named{"id": [16]byte(id)})).Scan(&ended)
			if errors.Is(err, pgx.ErrNoRows) {
				return nil
			}
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, endLogins, named{"logins": [][16]byte{id}})
			return err
		})
		return ended && err == nil, err
	})
}

// LoginsOf implements logins.Store.
func (s *Store) LoginsOf(ctx context.Context, userID string, limit int) ([]logins.Place, error) {
	return many(ctx, s, func(row pgx.CollectableRow) (p logins.Place, err error) {
		err = row.Scan(&p.ID, &p.Time, &p.CreatedAt, &p.Address, &p.UserAgent)
		return p, err
	}, `SELECT l.id::text, l.auth_time, l.created_at, l.address, l.user_agent FROM logins l, users u WHERE l.user_id = @user AND `+liveLogin+`
		ORDER BY l.auth_time DESC LIMIT @limit`, named{"user": userID, "limit": limit})
}

// DeleteEndedLogins implements storage.Store.
func (s *Store) DeleteEndedLogins(ctx context.Context) (int64, error) {
	return s.eachInBatches(ctx, named{},
		`DELETE FROM logins WHERE id IN (SELECT l.id FROM logins l
			WHERE l.ended_at IS NOT NULL OR l.expires_at <= now() OR NOT EXISTS (SELECT FROM users u WHERE u.id = l.user_id AND u.epoch = l.user_epoch)
			LIMIT @batch FOR UPDATE SKIP LOCKED)`,
		`DELETE FROM authorization_codes WHERE session_id IN (
			SELECT session_id FROM authorization_codes WHERE expires_at <= now() LIMIT @batch FOR UPDATE SKIP LOCKED)`,
		`DELETE FROM device_codes WHERE session_id IN (
			SELECT session_id FROM device_codes WHERE expires_at <= now() - interval '1 hour' LIMIT @batch FOR UPDATE SKIP LOCKED)`,
		`DELETE FROM logout_notices WHERE (login_id, client_id) IN (
			SELECT login_id, client_id FROM logout_notices WHERE created_at <= now() - interval '1 day' LIMIT @batch FOR UPDATE SKIP LOCKED)`,
		`DELETE FROM consents WHERE (user_id, client_id) IN (SELECT k.user_id, k.client_id FROM consents k
			WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = k.user_id) OR NOT EXISTS (SELECT FROM clients c WHERE c.id = k.client_id)
			LIMIT @batch FOR UPDATE SKIP LOCKED)`,
		`DELETE FROM used_challenges WHERE digest IN (SELECT digest FROM used_challenges WHERE expires_at <= now() LIMIT @batch FOR UPDATE SKIP LOCKED)`,
		`DELETE FROM factors WHERE id IN (SELECT id FROM factors f WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = f.user_id) LIMIT @batch)`,
		`DELETE FROM recovery_codes WHERE (user_id, digest) IN (
			SELECT user_id, digest FROM recovery_codes r WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = r.user_id) LIMIT @batch)`,
		`DELETE FROM factor_tries WHERE user_id IN (SELECT user_id FROM factor_tries f
			WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = f.user_id) LIMIT @batch FOR UPDATE SKIP LOCKED)`,
	)
}

// DueNotices implements tokens.Store. The next attempt is put down before this one is made.
func (s *Store) DueNotices(ctx context.Context, limit int) ([]tokens.Notice, error) {
	return many(ctx, s, func(row pgx.CollectableRow) (n tokens.Notice, err error) {
		err = row.Scan(&n.ClientID, &n.UserID, &n.LoginID, &n.Attempts, &n.Now)
		return n, err
	}, `UPDATE logout_notices n SET attempts = n.attempts + 1,
			due_at = now() + least(@longest::interval, @first::interval * power(2, least(n.attempts, 20)))
		FROM (SELECT login_id, client_id FROM logout_notices WHERE due_at <= now() AND created_at > now() - @ttl::interval
			ORDER BY due_at LIMIT @limit FOR UPDATE SKIP LOCKED) due
		WHERE n.login_id = due.login_id AND n.client_id = due.client_id
		RETURNING n.client_id, n.user_id::text, n.login_id::text, n.attempts, now()`,
		named{"limit": limit, "ttl": tokens.NoticeTTL, "first": tokens.NoticePause(1), "longest": tokens.NoticePause(1 << 10)})
}

// WaitingNotices implements tokens.Store.
func (s *Store) WaitingNotices(ctx context.Context) (n int64, oldest time.Duration, err error) {
	return s.waiting(ctx, "logout_notices", tokens.NoticeTTL)
}

// DeleteNotice implements tokens.Store.
func (s *Store) DeleteNotice(ctx context.Context, n tokens.Notice) error {
	_, err := s.exec(ctx, `DELETE FROM logout_notices WHERE login_id = @login AND client_id = @client`,
		named{"login": n.LoginID, "client": n.ClientID})
	return err
}
