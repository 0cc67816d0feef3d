package postgres

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"signet/audit"
	"signet/authorizations"
	"signet/logins"
)

// allowedBy is what the user of a login has allowed the client as it is now.
const allowedBy = `k.user_id = l.user_id AND k.client_id = @client AND k.client_epoch = @client_epoch AND k.redirects = @redirects`

func partyArgs(p authorizations.Party, args named) named {
	args["client"], args["client_epoch"], args["redirects"] = p.ClientID, p.Epoch, p.Redirects
	return args
}

// Visitor implements authorizations.Store.
func (s *Store) Visitor(ctx context.Context, r logins.Ref, p authorizations.Party) (l logins.Login, allowed authorizations.Consent, ok bool, err error) {
	type visitor struct {
		logins.Login
		allowed authorizations.Consent
	}
	v, ok, err := oneGathered(ctx, s, s.questions, r.ID, func(row pgx.Row) (v visitor, err error) {
		err = row.Scan(append(loginFields(&v.Login), (*[]string)(&v.allowed.Scope), &v.allowed.Audience)...)
		return v, err
	}, `SELECT `+loginColumns+`, coalesce(k.scope, '{}'), coalesce(k.audience, '{}')
		FROM users u, logins l LEFT JOIN consents k ON `+allowedBy+`
		WHERE l.id = @id AND l.secret_digest = @digest AND `+liveLogin,
		partyArgs(p, named{"id": [16]byte(r.ID), "digest": r.Digest}))
	return v.Login, v.allowed, ok, err
}

// grantingLogin is the login that a code is issued for, if it is live and the client is as it was looked at, and what is asked for is allowed.
// Nothing is locked: the redemption looks at all of it once more, and so at what ends while the code is on its way. The consent is
// looked up by its key: with EXISTS the database may gather all of the client's first.
const grantingLogin = `login AS (
		SELECT l.id, l.user_id, l.user_epoch, l.auth_time, l.amr, l.acr FROM logins l, users u, clients c
		WHERE l.id = @login AND l.secret_digest = @login_digest AND ` + liveLogin + `
			AND c.id = @client AND c.epoch = @client_epoch AND NOT c.disabled
			AND (@unasked OR @confirmed OR (SELECT true FROM consents k WHERE ` + allowedBy + `
				AND k.scope @> @consent_scope::text[] AND k.audience @> @audience::text[]))`

const insertCode = `INSERT INTO authorization_codes (session_id, digest, client_id, client_epoch, user_id, user_epoch, login_id, redirect_uri, redirect_sent,
		challenge, scope, audience, nonce, openid, consented, ends_with_login, jkt, expires_at)
	SELECT @session, @digest, @client, @client_epoch, user_id, user_epoch, id, @redirect_uri, @redirect_sent,
		@challenge, @scope, @audience, @nonce, ` + loginFacts + `, @consented, @ends_with_login, @jkt, now() + @ttl::interval FROM login
	ON CONFLICT (session_id) DO UPDATE SET failures = authorization_codes.failures -- a repetition after a lost answer
	RETURNING user_id::text`

// loginFacts are authorizations.Facts as they are stored: NULL where none were asked for. They are put together as text, for there are names of
// claims that JSON knows and jsonb does not.
const loginFacts = `'{"auth_time":' || floor(extract(epoch FROM auth_time))::bigint || ',"amr":' || to_json(amr) || ',"acr":' || to_json(acr) || @asked_facts::text`

// createAllowedCode is for a request that was not pushed, and was allowed before: the most frequent, and little more than half of createCode's
// work for the database.
const createAllowedCode = `WITH ` + grantingLogin + `) ` + insertCode

// createCode also uses up a pushed request, and remembers what was allowed just now. That is added to what was allowed before,
// unless it was allowed to another client of that id.
const createCode = `WITH pushed AS (
		SELECT FROM pushed_requests WHERE digest = @pushed::bytea AND client_id = @client FOR UPDATE -- whoever is second finds it gone
	), ` + grantingLogin + `
			AND (@pushed::bytea IS NULL OR EXISTS (SELECT FROM pushed)
				OR EXISTS (SELECT FROM authorization_codes k WHERE k.session_id = @session)) -- a repetition after a lost answer
	), used AS (DELETE FROM pushed_requests WHERE digest = @pushed::bytea AND EXISTS (SELECT FROM login)
	), consent AS (
		INSERT INTO consents AS k (user_id, client_id, client_epoch, redirects, scope, audience)
		SELECT user_id, @client, @client_epoch, @redirects, @consent_scope, @audience FROM login WHERE @remember
		ON CONFLICT (user_id, client_id) DO UPDATE SET client_epoch = excluded.client_epoch, redirects = excluded.redirects, granted_at = now(),
			scope = CASE WHEN k.client_epoch = excluded.client_epoch AND k.redirects = excluded.redirects
				THEN ARRAY(SELECT DISTINCT unnest(k.scope || excluded.scope)) ELSE excluded.scope END,
			audience = CASE WHEN k.client_epoch = excluded.client_epoch AND k.redirects = excluded.redirects
				THEN ARRAY(SELECT DISTINCT unnest(k.audience || excluded.audience)) ELSE excluded.audience END
	), event AS (
		INSERT INTO audit_events (id, type, actor, client_id, user_id, session_id, address, request_id, detail)
		SELECT @e_id::uuid, @e_type::text, user_id::text, @e_client::text, user_id::text, @e_session::text,
			@e_address::text, @e_request::text, @e_detail::text FROM login WHERE @confirmed
		ON CONFLICT (id) DO NOTHING
	) ` + insertCode

// CreateCode implements authorizations.Store.
func (s *Store) CreateCode(ctx context.Context, n authorizations.NewCode, granted audit.Event) (userID string, ok bool, err error) {
	args, statement := codeArgs(n, n.Code.Session, n.Code.Digest(), authorizations.CodeTTL), createAllowedCode
	if n.Confirmed || n.Request.Pushed != nil {
		args, statement = with(granted, args), createCode
	}
	return oneGathered(ctx, s, s.codes, n.Code.Session, readText, statement, args)
}

// codeArgs are the arguments of createCode, for a code of that id and digest.
func codeArgs(n authorizations.NewCode, session uuid.UUID, digest []byte, ttl time.Duration) named {
	r := n.Request
	return partyArgs(n.Party, named{
		"login": [16]byte(n.Login.ID), "login_digest": n.Login.Digest, "unasked": n.Unasked, "confirmed": n.Confirmed, "remember": n.Remember,
		"session": [16]byte(session), "digest": digest, "redirect_uri": r.RedirectURI, "redirect_sent": r.RedirectSent,
		"challenge": r.Challenge, "scope": list(r.Scope), "consent_scope": list(r.ConsentScope()), "audience": list(r.Audience), "nonce": r.Nonce,
		"asked_facts": n.AskedFacts(),
		"consented":   n.Consented(), "ends_with_login": n.EndsWithLogin(), "jkt": r.JKT, "pushed": r.Pushed, "ttl": ttl,
	})
}

// Consents implements authorizations.Store.
func (s *Store) Consents(ctx context.Context, userID string) ([]authorizations.Allowance, error) {
	return many(ctx, s, func(row pgx.CollectableRow) (a authorizations.Allowance, err error) {
		var scope []string
		err = row.Scan(&a.ClientID, &a.ClientName, &scope, &a.Audience, &a.GrantedAt)
		a.Scope = strings.Join(scope, " ")
		return a, err
	}, `SELECT c.id, c.name, k.scope, k.audience, k.granted_at FROM consents k JOIN clients c ON c.id = k.client_id AND c.epoch = k.client_epoch
		WHERE k.user_id = @user ORDER BY c.name, c.id LIMIT 500`, named{"user": userID})
}

// WithdrawConsent implements authorizations.Store. The sessions are revoked by a statement that sees those of the redemptions that
// the deletion of the consent has waited for; later ones find no consent.
func (s *Store) WithdrawConsent(ctx context.Context, userID, clientID string, e audit.Event) (bool, error) {
	return run(ctx, s, true, func(ctx context.Context) (withdrawn bool, err error) {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			args := with(e, named{"user": userID, "client": clientID})
			err := tx.QueryRow(ctx, `WITH withdrawn AS (DELETE FROM consents WHERE user_id = @user AND client_id = @client RETURNING 1),
				event AS (`+insertEvent+` FROM withdrawn)
				SELECT EXISTS (SELECT FROM withdrawn) OR EXISTS (SELECT FROM audit_events WHERE id = @e_id::uuid)`, args).Scan(&withdrawn)
			if err != nil || !withdrawn {
				return err
			}
			if _, err = tx.Exec(ctx, `DELETE FROM authorization_codes WHERE user_id = @user AND client_id = @client`, args); err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `UPDATE sessions SET revoked_at = now(), revoked_reason = 'the user withdrew their consent'
				WHERE user_id = @user AND client_id = @client AND login_id IS NOT NULL AND revoked_at IS NULL`, args)
			return err
		})
		return withdrawn && err == nil, err
	})
}
