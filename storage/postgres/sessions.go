package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"signet/audit"
	"signet/clients"
	"signet/logins"
	"signet/tokens"
)

// live is the one decision about a session s, given the rows u and c: it has not ended. Whatever asks whether a session is
// good asks this, and usable where a refresh token is to be good as well.
const (
	live = `u.id = s.user_id AND u.epoch = s.user_epoch AND NOT u.disabled
		AND c.id = s.client_id AND c.epoch = s.client_epoch AND NOT c.disabled
		AND s.revoked_at IS NULL AND s.expires_at > now()`
	usable = live + ` AND s.idle_expires_at > now()`
)

var createSession = recording(`
	INSERT INTO sessions (id, user_id, user_epoch, client_epoch, expires_at, client_id, secret_digest, scope, audience,
		idle_expires_at, address, user_agent, jkt)
	SELECT @id, u.id, u.epoch, c.epoch, now() + @ttl::interval, c.id, @digest, @scope::text[], @audience::text[],
		now() + @idle::interval, @address, @user_agent, @jkt::text
	FROM users u, clients c
	WHERE u.id = @user AND u.epoch = @user_epoch AND NOT u.disabled AND NOT EXISTS (SELECT FROM factors f WHERE f.user_id = u.id)
		AND c.id = @client AND c.epoch = @client_epoch AND NOT c.disabled
	ON CONFLICT (id) DO UPDATE SET sequence = sessions.sequence -- a repetition after a lost answer
	RETURNING *`, `user_id::text, scope, audience, now(), expires_at, NULL::text AS login, NULL::text AS facts,
	(SELECT `+shownOf+` FROM users u WHERE u.id = user_id AND 'groups' = ANY (scope))`)

// CreateSession implements tokens.Store.
func (s *Store) CreateSession(ctx context.Context, n tokens.NewSession, e audit.Event) (tokens.Grant, error) {
	g, found, err := one(ctx, s, func(row pgx.CollectableRow) (tokens.Grant, error) { return readGrant(row) }, createSession, with(e, named{
		"id": [16]byte(n.ID), "client": n.ClientID, "client_epoch": n.ClientEpoch, "user": n.UserID, "user_epoch": n.UserEpoch,
		"scope": list(n.Scope), "audience": list(n.Audience), "digest": n.SecretDigest, "idle": n.IdleTTL, "ttl": n.TTL,
		"address": n.Address, "user_agent": n.UserAgent, "jkt": n.JKT,
	}))
	if err == nil && !found {
		err = tokens.ErrInvalidGrant
	}
	return g, err
}

// grantColumns are a tokens.Grant, of a session s and its user u. What an ID token or the claim groups is made of is left out of those
// of sessions that have neither.
const (
	grantColumns = `s.user_id::text, s.scope, s.audience, now(), s.expires_at, s.login_id::text, s.openid,
		CASE WHEN s.openid IS NOT NULL OR 'groups' = ANY (s.scope) THEN ` + shownOf + ` END`
	shownOf = `jsonb_build_object('username', u.username, 'profile', u.profile)`
)

func readGrant(row pgx.Row) (g tokens.Grant, err error) {
	var login, facts *string
	var shown []byte
	if err = row.Scan(&g.UserID, (*[]string)(&g.Scope), &g.Audience, &g.Now, &g.End, &login, &facts, &shown); err == nil {
		err = g.Complete(login, facts, shown)
	}
	return g, err
}

// rotate is the statement of a refresh. Its arguments are numbered, not named, as it is the one that is run most.
const rotate = rotateAnyKey + ` AND s.jkt IS NULL ` + rotateReturning

// rotateProven is rotate with the proof of a key, which it uses up.
const rotateProven = `WITH proof AS (
	INSERT INTO used_once AS o (digest, use, expires_at) VALUES ($12, $13::uuid, now() + $14::interval)
	ON CONFLICT (digest) DO UPDATE SET use = excluded.use, expires_at = greatest(o.expires_at, excluded.expires_at)
	WHERE o.use = excluded.use OR o.expires_at <= now() RETURNING 1)` +
	rotateAnyKey + ` AND (s.jkt IS NULL OR s.jkt = $11) AND EXISTS (SELECT FROM proof) ` + rotateReturning

const rotateReturning = `RETURNING ` + grantColumns

const rotateAnyKey = `
	UPDATE sessions s SET sequence = $5, last_used_at = now(), idle_expires_at = now() + $6::interval, address = $7, user_agent = $8
	FROM users u, clients c
	WHERE s.id = $1 AND s.client_id = $2 AND s.secret_digest = $3 AND s.sequence = $4
		AND ($9::text[] IS NULL OR $9 <@ s.scope) AND ($10::text[] IS NULL OR $10 <@ s.audience)
		AND ` + usable

const rotateRecording = `WITH changed AS (` + rotateAnyKey + ` AND (s.jkt IS NULL OR s.jkt = $20) ` + rotateReturning + `), event AS (
	INSERT INTO audit_events (id, type, actor, client_id, user_id, session_id, address, request_id, detail)
	SELECT $11::uuid, $12::text, $13::text, $14::text, $15::text, $16::text, $17::text, $18::text, $19::text FROM changed)
	SELECT * FROM changed`

// Rotate implements tokens.Store.
func (s *Store) Rotate(ctx context.Context, u tokens.Use, e *audit.Event) (tokens.Grant, bool, error) {
	sql, args := rotate, make([]any, 0, 20)
	args = append(args, [16]byte(u.Session), u.ClientID, u.SecretDigest, u.From, u.To, u.IdleTTL, u.Address, u.UserAgent,
		[]string(u.Scope), u.Audience)
	switch {
	case e != nil: // the proof, if any, was used up before
		sql = rotateRecording
		args = append(args, e.ID, string(e.Type), e.Actor, e.ClientID, e.UserID, e.SessionID, e.Address, e.RequestID, e.Detail, u.Key.JKT)
	case u.Key.Proven():
		sql = rotateProven
		args = append(args, u.Key.JKT, u.Key.Once.Digest, [16]byte(u.Key.Once.Use), u.Key.Once.TTL)
	}
	g, err := run(ctx, s, u.Repeatable, func(ctx context.Context) (tokens.Grant, error) {
		return gathered(ctx, s.rotations, u.Session, readGrant, sql, args...)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return g, false, nil
	}
	return g, err == nil, err
}

// SessionState implements tokens.Store.
func (s *Store) SessionState(ctx context.Context, u tokens.Use, window time.Duration) (st tokens.State, ok bool, err error) {
	return one(ctx, s, readState, `
		SELECT `+grantColumns+`, s.client_id, s.secret_digest = @digest,
			EXISTS (SELECT FROM users u, clients c WHERE `+live+`), `+inWindow+`,
			s.sequence, coalesce(u.username, ''), s.last_used_at, s.idle_expires_at, s.address, s.user_agent, coalesce(s.jkt, '')
		FROM sessions s LEFT JOIN users u ON u.id = s.user_id WHERE s.id = @id`,
		windowArgs(window, named{"id": [16]byte(u.Session), "digest": u.SecretDigest}))
}

// inWindow tells whether the last use of the session is a moment ago, so that its repetition is no theft. A window of 0
// allows none, not even a use that began before that one ended. The window does not run in interruptions: their time is taken off
// that since the use. A use shortly before one counts as one in it, for its answer may have been lost. An interruption that is just
// ending is not written yet, but the heartbeat is stale.
const inWindow = `(@window::interval > '0' AND s.last_used_at + @window::interval > now() - (
	SELECT coalesce(sum(i.ended_at - CASE WHEN s.last_used_at >= i.began_at - @lead::interval THEN s.last_used_at ELSE i.began_at END), '0')
	FROM (SELECT began_at, ended_at FROM interruptions
		UNION ALL SELECT beat_at, now() FROM heartbeat WHERE beat_at < now() - @gap::interval) i
	WHERE i.ended_at > s.last_used_at))`

// windowArgs adds the arguments of inWindow to those of a statement.
func windowArgs(window time.Duration, args named) named {
	args["window"], args["lead"], args["gap"] = window, tokens.InterruptionLead, tokens.HeartbeatGap
	return args
}

func readState(row pgx.CollectableRow) (st tokens.State, err error) {
	var login, facts *string
	var shown []byte
	err = row.Scan(&st.UserID, (*[]string)(&st.Scope), &st.Audience, &st.Now, &st.End, &login, &facts, &shown, &st.ClientID, &st.Genuine,
		&st.Live, &st.InWindow, &st.Sequence, &st.Username, &st.LastUsedAt, &st.IdleEnd, &st.Address, &st.UserAgent, &st.JKT)
	if err == nil {
		err = st.Complete(login, facts, shown)
	}
	return st, err
}

var revokeReused = recording(`
	UPDATE sessions s SET revoked_at = now(), revoked_reason = 'a spent refresh token was presented again'
	WHERE s.id = @id AND s.client_id = @client AND s.secret_digest = @digest AND s.revoked_at IS NULL
		AND (s.sequence > @used + 1 OR s.sequence = @used + 1 AND NOT `+inWindow+`)
	RETURNING s.id`, `id`)

// RevokeReused implements tokens.Store.
func (s *Store) RevokeReused(ctx context.Context, u tokens.Use, window time.Duration, e audit.Event) (bool, error) {
	n, err := s.exec(ctx, revokeReused, with(e, windowArgs(window, named{
		"id": [16]byte(u.Session), "client": u.ClientID, "digest": u.SecretDigest, "used": u.From,
	})))
	return n > 0, err
}

// RevokeSession implements tokens.Store. The event is completed from the row.
func (s *Store) RevokeSession(ctx context.Context, id uuid.UUID, userID, reason string, e audit.Event) (bool, error) {
	n, err := s.exec(ctx, `
		WITH changed AS (
			UPDATE sessions SET revoked_at = now(), revoked_reason = @reason
			WHERE id = @id AND revoked_at IS NULL AND (@user = '' OR user_id = nullif(@user, '')::uuid) RETURNING *
		), event AS (
			INSERT INTO audit_events (id, type, actor, client_id, user_id, session_id, address, request_id, detail)
			SELECT @e_id::uuid, @e_type::text, @e_actor::text, client_id, user_id::text, id::text,
				@e_address::text, @e_request::text, @e_detail::text FROM changed
		)
		SELECT FROM changed
		UNION ALL SELECT FROM audit_events WHERE id = @e_id::uuid -- a repetition after a lost answer`, with(e, named{"id": [16]byte(id), "user": userID, "reason": reason}))
	return n > 0, err
}

// active is the one decision about an access token: it selects from its session, user and client, or nothing. A client's own
// token has no session, and lives as long as the epoch of its client. One that was exchanged needs both.
const (
	active = `FROM sessions s, users u, clients c WHERE ` + live + `
		AND s.id = $3 AND s.user_id = $4 AND s.client_id = $5 AND ` + unspoilt
	activeExchanged = `FROM sessions s, users u, clients c, clients a WHERE ` + live + `
		AND s.id = $3 AND s.user_id = $4 AND a.id = $5 AND a.epoch = $6 AND NOT a.disabled AND ` + unspoilt
	activeOfClient = `FROM clients c WHERE c.id = $3 AND c.epoch = $4 AND NOT c.disabled AND ` + unspoilt
	unspoilt       = `to_timestamp($2) > now() AND NOT EXISTS (SELECT FROM revoked_access_tokens r WHERE r.jti = $1)`
)

// activeQuery returns what selects the columns of an active token, or those of a client's own one, and its arguments: the first
// two are jti and expiry.
func activeQuery(t tokens.AccessToken, columns, columnsOfClient string) (sql string, args []any) {
	exp := float64(t.ExpiresAt.Unix())
	if t.SessionID == uuid.Nil {
		return "SELECT " + columnsOfClient + " " + activeOfClient, []any{t.ID, exp, t.ClientID, t.ClientEpoch}
	}
	if t.Exchanged {
		return "SELECT " + columns + " " + activeExchanged, []any{t.ID, exp, [16]byte(t.SessionID), t.UserID, t.ClientID, t.ClientEpoch}
	}
	return "SELECT " + columns + " " + active, []any{t.ID, exp, [16]byte(t.SessionID), t.UserID, t.ClientID}
}

// AccessTokenActive implements tokens.Store.
func (s *Store) AccessTokenActive(ctx context.Context, t tokens.AccessToken) (username string, ok bool, err error) {
	sql, args := activeQuery(t, "u.username", "''")
	username, err = run(ctx, s, true, func(ctx context.Context) (string, error) {
		return gathered(ctx, s.questions, t.SessionID, readText, sql, args...)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return "", false, nil
	}
	return username, err == nil, err
}

// AccessTokenHolder implements tokens.Store.
func (s *Store) AccessTokenHolder(ctx context.Context, t tokens.AccessToken) (h tokens.Holder, ok bool, err error) {
	sql, args := activeQuery(t, "u.username, u.admin, s.scope, s.audience, s.expires_at, now(), s.openid, CASE WHEN s.openid IS NOT NULL THEN "+shownOf+" END",
		"'', false, c.scope, c.audience, NULL::timestamptz, now(), NULL::text, NULL::jsonb")
	h, err = run(ctx, s, true, func(ctx context.Context) (h tokens.Holder, err error) {
		var end *time.Time
		var facts *string
		var shown []byte
		err = s.pool.QueryRow(ctx, sql, args...).Scan(&h.Username, &h.Admin, (*[]string)(&h.Scope), &h.Audience, &end, &h.Now, &facts, &shown)
		if err == nil && end != nil {
			h.SessionEnd = *end
		}
		if err == nil {
			h.User, h.Facts, err = tokens.ParseShown(facts, shown)
		}
		return h, err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return h, false, nil
	}
	return h, err == nil, err
}

// RevokeAccessToken implements tokens.Store.
func (s *Store) RevokeAccessToken(ctx context.Context, t tokens.AccessToken, e audit.Event) (bool, error) {
	sql, args := activeQuery(t, "1", "1")
	sql = `INSERT INTO revoked_access_tokens (jti, expires_at) SELECT $1, to_timestamp($2) WHERE EXISTS (` + sql + `) ON CONFLICT DO NOTHING`
	return run(ctx, s, true, func(ctx context.Context) (revoked bool, err error) {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, sql, args...)
			if revoked = tag.RowsAffected() > 0; err != nil || !revoked {
				return err
			}
			_, err = tx.Exec(ctx, insertEvent, with(e, named{}))
			return err
		})
		return revoked, err
	})
}

// Sessions implements tokens.Store.
func (s *Store) Sessions(ctx context.Context, f tokens.Filter) ([]tokens.Session, error) {
	// Only the conditions that there are: each kind of list has an index, whichever way the statement is planned.
	where := usable
	if f.UserID == "" && f.ClientID == "" {
		where += ` AND s.created_at > '-infinity'`
	}
	if f.UserID != "" {
		where += ` AND s.user_id = @user`
	}
	if f.ClientID != "" {
		where += ` AND s.client_id = @client`
	}
	createdAt, after, ok := tokens.ParsePlace(f.After)
	if ok {
		where += ` AND (s.created_at, s.id) < (@created_at, @after)`
	}
	return many(ctx, s, readSession, `
		SELECT s.id::text, s.client_id, s.user_id::text, u.username, s.scope, s.created_at, s.last_used_at,
			least(s.expires_at, s.idle_expires_at), s.address, s.user_agent
		FROM sessions s, users u, clients c
		WHERE `+where+` ORDER BY s.created_at DESC, s.id DESC LIMIT @limit`,
		named{"user": f.UserID, "client": f.ClientID, "created_at": createdAt, "after": after, "limit": f.Limit})
}

func readSession(row pgx.CollectableRow) (n tokens.Session, err error) {
	var scope clients.Scope
	err = row.Scan(&n.ID, &n.ClientID, &n.UserID, &n.Username, (*[]string)(&scope), &n.CreatedAt, &n.LastUsedAt, &n.ExpiresAt, &n.Address, &n.UserAgent)
	n.Scope = scope.String()
	n.CreatedAt, n.LastUsedAt, n.ExpiresAt = n.CreatedAt.UTC(), n.LastUsedAt.UTC(), n.ExpiresAt.UTC()
	return n, err
}

// LoggedInWithin implements tokens.Store.
func (s *Store) LoggedInWithin(ctx context.Context, sessionID string, d time.Duration) (bool, error) {
	recent, _, err := one(ctx, s, pgx.RowTo[bool], `SELECT s.created_at > now() - @d::interval AND (s.login_id IS NULL OR EXISTS (
			SELECT FROM logins l WHERE l.id = s.login_id AND l.ended_at IS NULL AND l.auth_time > now() - @d::interval))
			AND (NOT EXISTS (SELECT FROM factors f WHERE f.user_id = s.user_id) OR EXISTS (SELECT FROM logins l WHERE l.id = s.login_id AND l.acr = @two))
		FROM sessions s WHERE s.id = @id`, named{"id": sessionID, "d": d, "two": logins.TwoFactors})
	return recent, err
}
