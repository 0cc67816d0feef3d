package postgres

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"signet/audit"
	"signet/tokens"
)

// fitting tells whether a code a is presented as it was issued.
const fitting = `a.challenge = @challenge AND (a.redirect_uri = @redirect_uri OR @redirect_uri = '' AND NOT a.redirect_sent) AND a.jkt IN ('', @jkt)`

// redeemCode takes a share of the login before anything else, which its end waits for: whoever ends the login then sees the
// session. So it does with the consent, for its withdrawal.
const redeemCode = `WITH login AS (
		SELECT l.id, l.expires_at FROM logins l
		WHERE l.id = (SELECT login_id FROM authorization_codes WHERE session_id = @session AND digest = @digest)
			AND l.ended_at IS NULL AND l.expires_at > now()
		FOR SHARE
	), code AS (
		DELETE FROM authorization_codes a USING login, users u, clients c
		WHERE a.session_id = @session AND a.digest = @digest AND a.client_id = @client AND a.expires_at > now()
			AND ` + fitting + `
			AND (@scope::text[] IS NULL OR @scope <@ a.scope) AND (@audience::text[] IS NULL OR @audience <@ a.audience)
			AND u.id = a.user_id AND u.epoch = a.user_epoch AND NOT u.disabled
			AND c.id = a.client_id AND c.epoch = a.client_epoch AND c.epoch = @client_epoch AND NOT c.disabled
			AND a.login_id = login.id
			AND (NOT a.consented OR EXISTS (SELECT FROM consents k WHERE k.user_id = a.user_id AND k.client_id = a.client_id
				AND k.scope @> a.scope AND k.audience @> a.audience FOR KEY SHARE))
		RETURNING a.session_id AS id, a.user_id, a.user_epoch, a.client_epoch, a.client_id, a.scope, a.audience, a.login_id, a.ends_with_login,
			a.openid, a.nonce, u.username, u.profile,
			CASE WHEN a.ends_with_login THEN least(now() + @ttl::interval, login.expires_at) ELSE now() + @ttl::interval END AS expires_at
	), session AS (
		INSERT INTO sessions (id, user_id, user_epoch, client_epoch, expires_at, client_id, secret_digest, scope, audience,
			idle_expires_at, address, user_agent, login_id, ends_with_login, openid, jkt)
		SELECT id, user_id, user_epoch, client_epoch, expires_at, client_id, @session_digest, scope, audience,
			now() + @idle::interval, @address, @user_agent, login_id, ends_with_login, openid, @session_jkt::text
		FROM code
	), event AS (
		INSERT INTO audit_events (id, type, actor, client_id, user_id, session_id, address, request_id, detail)
		SELECT @e_id::uuid, @e_type::text, user_id::text, client_id, user_id::text, id::text,
			@e_address::text, @e_request::text, @e_detail::text FROM code
	)
	SELECT ` + grantColumns + `, s.nonce FROM code s, LATERAL (SELECT s.username, s.profile) u`

// redeemedCode finds what a redemption has done whose answer was lost. It locks, for a standby that is behind to refuse it.
const redeemedCode = `SELECT ` + grantColumns + `, '' FROM sessions s JOIN users u ON u.id = s.user_id
	WHERE s.id = @session AND s.secret_digest = @session_digest AND EXISTS (SELECT FROM audit_events WHERE id = @e_id::uuid)
	FOR KEY SHARE OF s`

// RedeemCode implements tokens.Store. The event is completed from the row.
func (s *Store) RedeemCode(ctx context.Context, r tokens.Redemption, e audit.Event) (tokens.CodeGrant, bool, error) {
	args, tries := with(e, redemptionArgs(r)), 0
	g, err := run(ctx, s, true, func(ctx context.Context) (tokens.CodeGrant, error) {
		tries++
		return s.redeem(ctx, r.Session, args, tries > 1)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return tokens.CodeGrant{}, false, nil
	}
	return g, err == nil, err
}

// redeem returns pgx.ErrNoRows if nothing was redeemed, by an earlier try neither, if there was one.
func (s *Store) redeem(ctx context.Context, session uuid.UUID, args named, again bool) (tokens.CodeGrant, error) {
	g, err := gathered(ctx, s.codes, session, readCodeGrant, redeemCode, args)
	if again && errors.Is(err, pgx.ErrNoRows) {
		return gathered(ctx, s.codes, session, readCodeGrant, redeemedCode, args)
	}
	return g, err
}

func readCodeGrant(row pgx.Row) (g tokens.CodeGrant, err error) {
	var login, facts *string
	var shown []byte
	err = row.Scan(&g.UserID, (*[]string)(&g.Scope), &g.Audience, &g.Now, &g.End, &login, &facts, &shown, &g.Nonce)
	if err == nil {
		err = g.Complete(login, facts, shown)
	}
	return g, err
}

func redemptionArgs(r tokens.Redemption) named {
	return named{
		"session": [16]byte(r.Session), "digest": r.CodeDigest, "client": r.ClientID, "client_epoch": r.ClientEpoch,
		"redirect_uri": r.RedirectURI, "challenge": r.Challenge, "scope": []string(r.Scope), "audience": r.Audience,
		"session_digest": r.SessionDigest, "idle": r.IdleTTL, "ttl": r.TTL, "address": r.Address, "user_agent": r.UserAgent,
		"max_failures": r.MaxFailures, "jkt": r.JKT, "session_jkt": r.SessionJKT,
	}
}

// RefuseCode implements tokens.Store. The event is completed from the row.
func (s *Store) RefuseCode(ctx context.Context, r tokens.Redemption, e audit.Event) (why tokens.Refusal, userID string, err error) {
	_, err = run(ctx, s, true, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			args := with(e, redemptionArgs(r))
			var fits, wide, elsewhere bool
			err := tx.QueryRow(ctx, `SELECT `+fitting+`, NOT coalesce(@scope::text[] <@ a.scope, true), NOT coalesce(@audience::text[] <@ a.audience, true)
				FROM authorization_codes a WHERE session_id = @session AND digest = @digest AND client_id = @client AND expires_at > now() FOR UPDATE`,
				args).Scan(&fits, &wide, &elsewhere)
			switch {
			case errors.Is(err, pgx.ErrNoRows):
				why, userID, err = reuseOfCode(ctx, tx, args)
			case err != nil:
			case !fits:
				why = tokens.CodeUnfitting
				if _, err = tx.Exec(ctx, `UPDATE authorization_codes SET failures = failures + 1 WHERE session_id = @session`, args); err == nil {
					_, err = tx.Exec(ctx, `DELETE FROM authorization_codes WHERE session_id = @session AND failures >= @max_failures`, args)
				}
			case wide:
				why = tokens.CodeNarrow
			case elsewhere:
				why = tokens.CodeElsewhere
			default:
				why = tokens.CodeUnknown
			}
			return err
		})
	})
	return why, userID, err
}

// reuseOfCode revokes the session that a code began before.
func reuseOfCode(ctx context.Context, tx pgx.Tx, args named) (why tokens.Refusal, userID string, err error) {
	err = tx.QueryRow(ctx, `WITH changed AS (
			UPDATE sessions SET revoked_at = now(), revoked_reason = 'its authorization code was presented again'
			WHERE id = @session AND client_id = @client AND secret_digest = @session_digest AND revoked_at IS NULL RETURNING *
		), event AS (
			INSERT INTO audit_events (id, type, actor, client_id, user_id, session_id, address, request_id, detail)
			SELECT @e_id::uuid, @e_type::text, @e_actor::text, client_id, user_id::text, id::text,
				@e_address::text, @e_request::text, @e_detail::text FROM changed
		)
		SELECT user_id::text FROM changed UNION ALL SELECT user_id FROM audit_events WHERE id = @e_id::uuid`, args).Scan(&userID)
	if errors.Is(err, pgx.ErrNoRows) {
		return tokens.CodeUnknown, "", nil
	}
	return tokens.CodeReused, userID, err
}
