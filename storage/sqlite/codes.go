package sqlite

import (
	"context"
	"database/sql"

	"signet/audit"
	"signet/tokens"
)

// fitting tells whether a code a is presented as it was issued.
const fitting = `a.challenge = @challenge AND (a.redirect_uri = @redirect_uri OR @redirect_uri = '' AND NOT a.redirect_sent) AND a.jkt IN ('', @jkt)`

func redemptionArgs(r tokens.Redemption) args {
	return args{
		"session": r.Session.String(), "digest": r.CodeDigest, "client": r.ClientID, "client_epoch": r.ClientEpoch,
		"redirect_uri": r.RedirectURI, "challenge": r.Challenge, "scope": listOrNull(r.Scope), "audience": listOrNull(r.Audience),
		"session_digest": r.SessionDigest, "idle": r.IdleTTL.Microseconds(), "ttl": r.TTL.Microseconds(), "address": r.Address,
		"user_agent": r.UserAgent, "jkt": r.JKT, "session_jkt": r.SessionJKT,
	}
}

// RedeemCode implements tokens.Store. The event is completed from the row.
func (s *Store) RedeemCode(ctx context.Context, r tokens.Redemption, e audit.Event) (g tokens.CodeGrant, ok bool, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		_, ok, err = oneIn(ctx, t, readText, `
			INSERT INTO sessions (id, user_id, user_epoch, client_epoch, created_at, expires_at, client_id, secret_digest, scope, audience,
				last_used_at, idle_expires_at, address, user_agent, login_id, ends_with_login, openid, jkt)
			SELECT a.session_id, a.user_id, a.user_epoch, a.client_epoch, @now,
				CASE WHEN a.ends_with_login THEN min(@now + @ttl, l.expires_at) ELSE @now + @ttl END,
				a.client_id, @session_digest, a.scope, a.audience, @now, @now + @idle, @address, @user_agent,
				a.login_id, a.ends_with_login, a.openid, @session_jkt
			FROM authorization_codes a, users u, clients c, logins l
			WHERE a.session_id = @session AND a.digest = @digest AND a.client_id = @client AND a.expires_at > @now
				AND `+fitting+` AND `+within("@scope", "a.scope")+` AND `+within("@audience", "a.audience")+`
				AND u.id = a.user_id AND u.epoch = a.user_epoch AND NOT u.disabled
				AND c.id = a.client_id AND c.epoch = a.client_epoch AND c.epoch = @client_epoch AND NOT c.disabled
				AND l.id = a.login_id AND l.ended_at IS NULL AND l.expires_at > @now
				AND (NOT a.consented OR EXISTS (SELECT 1 FROM consents k WHERE k.user_id = a.user_id AND k.client_id = a.client_id
					AND `+within("a.scope", "k.scope")+` AND `+within("a.audience", "k.audience")+`))
			RETURNING id`, redemptionArgs(r))
		if err != nil || !ok {
			return err
		}
		g, _, err = oneIn(ctx, t, func(row *sql.Rows) (g tokens.CodeGrant, err error) {
			g.Grant, err = readGrantAnd(row, &g.Nonce)
			return g, err
		}, `SELECT `+grantColumns+`, (SELECT nonce FROM authorization_codes WHERE session_id = @session) FROM sessions WHERE id = @session`,
			args{"session": r.Session.String()})
		if err != nil {
			return err
		}
		if err := t.exec(ctx, `DELETE FROM authorization_codes WHERE session_id = @session`, args{"session": r.Session.String()}); err != nil {
			return err
		}
		e.Actor, e.UserID = g.UserID, g.UserID
		return t.record(ctx, e)
	})
	return g, ok && err == nil, err
}

// RefuseCode implements tokens.Store. The event is completed from the row.
func (s *Store) RefuseCode(ctx context.Context, r tokens.Redemption, e audit.Event) (why tokens.Refusal, userID string, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		var fits, narrow, here bool
		_, found, err := oneIn(ctx, t, func(row *sql.Rows) (struct{}, error) {
			return struct{}{}, row.Scan(&fits, &narrow, &here)
		}, `SELECT `+fitting+`, `+within("@scope", "a.scope")+`, `+within("@audience", "a.audience")+` FROM authorization_codes a
			WHERE session_id = @session AND digest = @digest AND client_id = @client AND expires_at > @now`, redemptionArgs(r))
		switch {
		case err != nil:
			return err
		case !found:
			userID, found, err = oneIn(ctx, t, readText, `
				UPDATE sessions SET revoked_at = @now, revoked_reason = 'its authorization code was presented again'
				WHERE id = @session AND client_id = @client AND secret_digest = @session_digest AND revoked_at IS NULL
				RETURNING user_id`, redemptionArgs(r))
			if err != nil || !found {
				return err
			}
			why, e.UserID = tokens.CodeReused, userID
			return t.record(ctx, e)
		case !fits:
			why = tokens.CodeUnfitting
			if err := t.exec(ctx, `UPDATE authorization_codes SET failures = failures + 1 WHERE session_id = @session`, redemptionArgs(r)); err != nil {
				return err
			}
			a := redemptionArgs(r)
			a["max_failures"] = r.MaxFailures
			return t.exec(ctx, `DELETE FROM authorization_codes WHERE session_id = @session AND failures >= @max_failures`, a)
		case !narrow:
			why = tokens.CodeNarrow
		case !here:
			why = tokens.CodeElsewhere
		}
		return nil
	})
	return why, userID, err
}
