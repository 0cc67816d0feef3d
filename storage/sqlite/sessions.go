package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"

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
		AND s.revoked_at IS NULL AND s.expires_at > @now`
	usable = live + ` AND s.idle_expires_at > @now`
)

// CreateSession implements tokens.Store.
func (s *Store) CreateSession(ctx context.Context, n tokens.NewSession, e audit.Event) (tokens.Grant, error) {
	g, found, err := change(ctx, s, readGrant, `
		INSERT INTO sessions (id, user_id, user_epoch, client_epoch, created_at, expires_at, client_id, secret_digest, scope,
			audience, last_used_at, idle_expires_at, address, user_agent, jkt)
		SELECT @id, u.id, u.epoch, c.epoch, @now, @now + @ttl, c.id, @digest, @scope,
			@audience, @now, @now + @idle, @address, @user_agent, @jkt
		FROM users u, clients c
		WHERE u.id = @user AND u.epoch = @user_epoch AND NOT u.disabled AND NOT EXISTS (SELECT 1 FROM factors f WHERE f.user_id = u.id)
			AND c.id = @client AND c.epoch = @client_epoch AND NOT c.disabled
		RETURNING `+grantColumns,
		args{
			"id": n.ID.String(), "client": n.ClientID, "client_epoch": n.ClientEpoch, "user": id(n.UserID), "user_epoch": n.UserEpoch,
			"scope": list(n.Scope), "audience": list(n.Audience), "digest": n.SecretDigest,
			"idle": n.IdleTTL.Microseconds(), "ttl": n.TTL.Microseconds(), "address": n.Address, "user_agent": n.UserAgent, "jkt": n.JKT,
		}, e)
	if err == nil && !found {
		err = tokens.ErrInvalidGrant
	}
	return g, err
}

// grantColumns are a tokens.Grant, of a row of sessions; they have no table's name, for that is what RETURNING wants. What an ID
// token or the claim groups is made of is left out of those of sessions that have neither.
const (
	grantColumns = `user_id, scope, audience, @now, expires_at, login_id, openid,
		CASE WHEN openid IS NOT NULL OR EXISTS (SELECT 1 FROM json_each(scope) w WHERE w.value = 'groups') THEN ` + shownOf + ` END`
	shownOf = `(SELECT json_object('username', shown.username, 'profile', json(shown.profile)) FROM users shown WHERE shown.id = user_id)`
)

func readGrant(row *sql.Rows) (tokens.Grant, error) { return readGrantAnd(row) }

// readGrantAnd reads grantColumns, and what follows them.
func readGrantAnd(row *sql.Rows, more ...any) (g tokens.Grant, err error) {
	var login, facts *string
	var shown []byte
	fields := []any{
		&g.UserID, fromList((*[]string)(&g.Scope)), fromList(&g.Audience), moment{&g.Now}, moment{&g.End}, &login, &facts, &shown,
	}
	if err = row.Scan(append(fields, more...)...); err == nil {
		err = g.Complete(login, facts, shown)
	}
	return g, err
}

// rotate is the statement of a refresh. No list is narrower than NULL: it has no entry that could be missing.
var rotate = `
	UPDATE sessions AS s
	SET sequence = @to, last_used_at = @now, idle_expires_at = @now + @idle, address = @address, user_agent = @user_agent
	WHERE s.id = @id AND s.client_id = @client AND s.secret_digest = @digest AND s.sequence = @from
		AND ` + within("@scope", "s.scope") + `
		AND ` + within("@audience", "s.audience") + `
		AND (s.jkt IS NULL OR s.jkt = @jkt) AND EXISTS (SELECT 1 FROM users u, clients c WHERE ` + usable + `)
	RETURNING ` + grantColumns

// Rotate implements tokens.Store.
func (s *Store) Rotate(ctx context.Context, u tokens.Use, e *audit.Event) (tokens.Grant, bool, error) {
	a := args{
		"id": u.Session.String(), "client": u.ClientID, "digest": u.SecretDigest, "from": u.From, "to": u.To,
		"idle": u.IdleTTL.Microseconds(), "address": u.Address, "user_agent": u.UserAgent,
		"scope": listOrNull(u.Scope), "audience": listOrNull(u.Audience), "jkt": u.Key.JKT,
	}
	if e != nil {
		return change(ctx, s, readGrant, rotate, a, *e) // the proof, if any, was used up before
	}
	if u.Key.Proven() {
		return s.rotateProven(ctx, u, a)
	}
	ctx, done, err := s.writing(ctx)
	if err != nil {
		return tokens.Grant{}, false, err
	}
	defer done()
	a["now"] = time.Now().UnixMicro()
	rows, err := s.writer.query(ctx, rotate, a)
	return first(collect(rows, err, readGrant))
}

// rotateProven rotates by the proof of a key, which it uses up.
func (s *Store) rotateProven(ctx context.Context, u tokens.Use, a args) (g tokens.Grant, ok bool, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		_, fresh, err := oneIn(ctx, t, func(*sql.Rows) (struct{}, error) { return struct{}{}, nil }, spend+` RETURNING use`, onceArgs(u.Key.Once))
		if err != nil || !fresh {
			return err
		}
		g, ok, err = oneIn(ctx, t, readGrant, rotate, a)
		return err
	})
	return g, ok && err == nil, err
}

// SessionState implements tokens.Store.
func (s *Store) SessionState(ctx context.Context, u tokens.Use, window time.Duration) (st tokens.State, ok bool, err error) {
	return first(many(ctx, s, readState, `
		SELECT `+grantColumns+`, s.client_id, s.secret_digest = @digest,
			EXISTS (SELECT 1 FROM users u, clients c WHERE `+live+`), `+inWindow+`,
			s.sequence, coalesce((SELECT username FROM users WHERE id = s.user_id), ''),
			s.last_used_at, s.idle_expires_at, s.address, s.user_agent, coalesce(s.jkt, '')
		FROM sessions s WHERE s.id = @id`,
		windowArgs(window, args{"id": u.Session.String(), "digest": u.SecretDigest})))
}

// inWindow tells whether the last use of the session is a moment ago, so that its repetition is no theft. A window of 0
// allows none, not even a use that began before that one ended. The window does not run in interruptions: their time is taken off
// that since the use. A use shortly before one counts as one in it, for its answer may have been lost. An interruption that is just
// ending is not written yet, but the heartbeat is stale.
const inWindow = `(@window > 0 AND s.last_used_at + @window > @now - (
	SELECT coalesce(sum(i.ended_at - CASE WHEN s.last_used_at >= i.began_at - @lead THEN s.last_used_at ELSE i.began_at END), 0)
	FROM (SELECT began_at, ended_at FROM interruptions
		UNION ALL SELECT beat_at, @now FROM heartbeat WHERE beat_at < @now - @gap) i
	WHERE i.ended_at > s.last_used_at))`

// windowArgs adds the arguments of inWindow to those of a statement.
func windowArgs(window time.Duration, a args) args {
	a["window"], a["lead"], a["gap"] = window.Microseconds(), tokens.InterruptionLead.Microseconds(), tokens.HeartbeatGap.Microseconds()
	return a
}

func readState(row *sql.Rows) (st tokens.State, err error) {
	st.Grant, err = readGrantAnd(row, &st.ClientID, &st.Genuine, &st.Live, &st.InWindow, &st.Sequence, &st.Username,
		moment{&st.LastUsedAt}, moment{&st.IdleEnd}, &st.Address, &st.UserAgent, &st.JKT)
	return st, err
}

// RevokeReused implements tokens.Store.
func (s *Store) RevokeReused(ctx context.Context, u tokens.Use, window time.Duration, e audit.Event) (bool, error) {
	_, revoked, err := change(ctx, s, readText, `
		UPDATE sessions AS s SET revoked_at = @now, revoked_reason = 'a spent refresh token was presented again'
		WHERE s.id = @id AND s.client_id = @client AND s.secret_digest = @digest AND s.revoked_at IS NULL
			AND (s.sequence > @used + 1 OR s.sequence = @used + 1 AND NOT `+inWindow+`)
		RETURNING id`,
		windowArgs(window, args{"id": u.Session.String(), "client": u.ClientID, "digest": u.SecretDigest, "used": u.From}), e)
	return revoked, err
}

// RevokeSession implements tokens.Store. The event is completed from the row.
func (s *Store) RevokeSession(ctx context.Context, session uuid.UUID, userID, reason string, e audit.Event) (revoked bool, err error) {
	e.SessionID = session.String()
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		_, revoked, err = oneIn(ctx, t, func(row *sql.Rows) (_ struct{}, err error) {
			return struct{}{}, row.Scan(&e.ClientID, &e.UserID)
		}, `UPDATE sessions SET revoked_at = @now, revoked_reason = @reason WHERE id = @id AND revoked_at IS NULL
			AND (@user = '' OR user_id = @user) RETURNING client_id, user_id`,
			args{"id": e.SessionID, "user": id(userID), "reason": reason})
		if err != nil || !revoked {
			return err
		}
		return t.record(ctx, e)
	})
	return revoked && err == nil, err
}

// active is the one decision about an access token: it selects from its session, user and client, or nothing. A client's own
// token has no session, and lives as long as the epoch of its client. One that was exchanged needs both.
const (
	active = `FROM sessions s, users u, clients c WHERE ` + live + `
		AND s.id = @session AND s.user_id = @user AND s.client_id = @client AND ` + unspoilt
	activeExchanged = `FROM sessions s, users u, clients c, clients a WHERE ` + live + `
		AND s.id = @session AND s.user_id = @user AND a.id = @client AND a.epoch = @client_epoch AND NOT a.disabled AND ` + unspoilt
	activeOfClient = `FROM clients c WHERE c.id = @client AND c.epoch = @client_epoch AND NOT c.disabled AND ` + unspoilt
	unspoilt       = `@expires > @now AND NOT EXISTS (SELECT 1 FROM revoked_access_tokens r WHERE r.jti = @jti)`
)

// activeQuery returns what selects the columns of an active token, or those of a client's own one, and its arguments.
func activeQuery(t tokens.AccessToken, columns, columnsOfClient string) (text string, a args) {
	a = args{"jti": t.ID, "expires": t.ExpiresAt.UnixMicro(), "client": t.ClientID}
	if t.SessionID == uuid.Nil {
		a["client_epoch"] = t.ClientEpoch
		return "SELECT " + columnsOfClient + " " + activeOfClient, a
	}
	a["session"], a["user"] = t.SessionID.String(), id(t.UserID)
	if t.Exchanged {
		a["client_epoch"] = t.ClientEpoch
		return "SELECT " + columns + " " + activeExchanged, a
	}
	return "SELECT " + columns + " " + active, a
}

// AccessTokenActive implements tokens.Store.
func (s *Store) AccessTokenActive(ctx context.Context, t tokens.AccessToken) (username string, ok bool, err error) {
	text, a := activeQuery(t, "u.username", "''")
	return first(many(ctx, s, readText, text, a))
}

// AccessTokenHolder implements tokens.Store.
func (s *Store) AccessTokenHolder(ctx context.Context, t tokens.AccessToken) (tokens.Holder, bool, error) {
	text, a := activeQuery(t, `u.username, u.admin, s.scope, s.audience, s.expires_at, @now, s.openid,
			CASE WHEN s.openid IS NOT NULL THEN json_object('username', u.username, 'profile', json(u.profile)) END`,
		"'', 0, c.scope, c.audience, NULL, @now, NULL, NULL")
	return first(many(ctx, s, func(row *sql.Rows) (h tokens.Holder, err error) {
		var facts *string
		var shown []byte
		err = row.Scan(&h.Username, &h.Admin, fromList((*[]string)(&h.Scope)), fromList(&h.Audience), moment{&h.SessionEnd}, moment{&h.Now},
			&facts, &shown)
		if err == nil {
			h.User, h.Facts, err = tokens.ParseShown(facts, shown)
		}
		return h, err
	}, text, a))
}

// RevokeAccessToken implements tokens.Store.
func (s *Store) RevokeAccessToken(ctx context.Context, t tokens.AccessToken, e audit.Event) (bool, error) {
	text, a := activeQuery(t, "1", "1")
	_, revoked, err := change(ctx, s, readText, `
		INSERT INTO revoked_access_tokens (jti, expires_at) SELECT @jti, @expires WHERE EXISTS (`+text+`)
		ON CONFLICT DO NOTHING RETURNING jti`, a, e)
	return revoked, err
}

// Sessions implements tokens.Store.
func (s *Store) Sessions(ctx context.Context, f tokens.Filter) ([]tokens.Session, error) {
	// Only the conditions that there are, so that the indexes can serve them, and sessions are looked through first.
	where := usable
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
		SELECT s.id, s.client_id, s.user_id, u.username, s.scope, s.created_at, s.last_used_at,
			min(s.expires_at, s.idle_expires_at), s.address, s.user_agent
		FROM sessions s CROSS JOIN users u CROSS JOIN clients c
		WHERE `+where+` ORDER BY s.created_at DESC, s.id DESC LIMIT @limit`,
		args{"user": id(f.UserID), "client": f.ClientID, "created_at": createdAt.UnixMicro(), "after": id(after), "limit": f.Limit})
}

func readSession(row *sql.Rows) (n tokens.Session, err error) {
	var scope clients.Scope
	err = row.Scan(&n.ID, &n.ClientID, &n.UserID, &n.Username, fromList((*[]string)(&scope)), moment{&n.CreatedAt},
		moment{&n.LastUsedAt}, moment{&n.ExpiresAt}, &n.Address, &n.UserAgent)
	n.Scope = scope.String()
	return n, err
}

// LoggedInWithin implements tokens.Store.
func (s *Store) LoggedInWithin(ctx context.Context, sessionID string, d time.Duration) (bool, error) {
	recent, _, err := first(many(ctx, s, readInt, `SELECT s.created_at > @now - @d AND (s.login_id IS NULL OR EXISTS (
			SELECT 1 FROM logins l WHERE l.id = s.login_id AND l.ended_at IS NULL AND l.auth_time > @now - @d))
			AND (NOT EXISTS (SELECT 1 FROM factors f WHERE f.user_id = s.user_id) OR EXISTS (SELECT 1 FROM logins l WHERE l.id = s.login_id AND l.acr = @two))
		FROM sessions s WHERE s.id = @id`, args{"id": id(sessionID), "d": d.Microseconds(), "two": logins.TwoFactors}))
	return recent == 1, err
}
