package sqlite

import (
	"context"
	"database/sql"
	"strings"

	"signet/audit"
	"signet/authorizations"
	"signet/logins"
)

// allowedBy is what the user of a login has allowed the client as it is now.
const allowedBy = `k.user_id = l.user_id AND k.client_id = @client AND k.client_epoch = @client_epoch AND k.redirects = @redirects`

func partyArgs(p authorizations.Party, a args) args {
	a["client"], a["client_epoch"], a["redirects"] = p.ClientID, p.Epoch, p.Redirects
	return a
}

// within tells whether all values of one JSON array are in another.
func within(narrow, wide string) string {
	return `NOT EXISTS (SELECT 1 FROM json_each(` + narrow + `) w WHERE w.value NOT IN (SELECT value FROM json_each(` + wide + `)))`
}

// Visitor implements authorizations.Store.
func (s *Store) Visitor(ctx context.Context, r logins.Ref, p authorizations.Party) (l logins.Login, allowed authorizations.Consent, ok bool, err error) {
	l, ok, err = first(many(ctx, s, func(row *sql.Rows) (l logins.Login, err error) {
		err = row.Scan(append(loginFields(&l), fromList((*[]string)(&allowed.Scope)), fromList(&allowed.Audience))...)
		return l, err
	}, `SELECT `+loginColumns+`, coalesce(k.scope, '[]'), coalesce(k.audience, '[]')
		FROM users u, logins l LEFT JOIN consents k ON `+allowedBy+`
		WHERE l.id = @id AND l.secret_digest = @digest AND `+liveLogin,
		partyArgs(p, args{"id": r.ID.String(), "digest": r.Digest})))
	return l, allowed, ok, err
}

// CreateCode implements authorizations.Store.
func (s *Store) CreateCode(ctx context.Context, n authorizations.NewCode, granted audit.Event) (userID string, ok bool, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		userID, ok, err = createCode(ctx, t, n, n.Code.Session.String(), n.Code.Digest(), t.now+authorizations.CodeTTL.Microseconds(), granted)
		return err
	})
	return userID, ok && err == nil, err
}

// createCode inserts a code of that id and digest, which ends at that time, if all is as it has to be.
func createCode(ctx context.Context, t tx, n authorizations.NewCode, session string, digest []byte, end int64, granted audit.Event) (userID string, created bool, err error) {
	r := n.Request
	if r.Pushed != nil {
		_, there, err := oneIn(ctx, t, readText, `DELETE FROM pushed_requests WHERE digest = @pushed AND client_id = @client RETURNING client_id`,
			args{"pushed": r.Pushed, "client": n.Party.ClientID})
		if err != nil || !there {
			return "", false, err
		}
	}
	userID, created, err = oneIn(ctx, t, readText, `
		INSERT INTO authorization_codes (session_id, digest, client_id, client_epoch, user_id, user_epoch, login_id, redirect_uri,
			redirect_sent, challenge, scope, audience, nonce, openid, consented, ends_with_login, jkt, expires_at)
		SELECT @session, @digest, @client, @client_epoch, l.user_id, l.user_epoch, l.id, @redirect_uri,
			@redirect_sent, @challenge, @scope, @audience, @nonce,
			'{"auth_time":' || (l.auth_time / 1000000) || ',"amr":' || l.amr || ',"acr":' || json_quote(l.acr) || @asked_facts, @consented, @ends_with_login, @jkt, @end
		FROM logins l, users u, clients c
		WHERE l.id = @login AND l.secret_digest = @login_digest AND `+liveLogin+`
			AND c.id = @client AND c.epoch = @client_epoch AND NOT c.disabled
			AND (@unasked OR @confirmed OR EXISTS (SELECT 1 FROM consents k WHERE `+allowedBy+`
				AND `+within("@consent_scope", "k.scope")+` AND `+within("@audience", "k.audience")+`))
		RETURNING user_id`,
		partyArgs(n.Party, args{
			"login": n.Login.ID.String(), "login_digest": n.Login.Digest, "unasked": n.Unasked, "confirmed": n.Confirmed,
			"session": session, "digest": digest, "redirect_uri": r.RedirectURI, "redirect_sent": r.RedirectSent,
			"challenge": r.Challenge, "scope": list(r.Scope), "consent_scope": list(r.ConsentScope()), "audience": list(r.Audience), "nonce": r.Nonce,
			"asked_facts": n.AskedFacts(),
			"consented":   n.Consented(), "ends_with_login": n.EndsWithLogin(), "jkt": r.JKT, "end": end,
		}))
	if err == nil && !created && r.Pushed != nil {
		return "", false, errRollback // the pushed request stays
	}
	if err != nil || !created || !n.Confirmed {
		return userID, created, err
	}
	if n.Remember {
		if err := remember(ctx, t, n, userID); err != nil {
			return "", false, err
		}
	}
	granted.Actor, granted.UserID = userID, userID
	return userID, true, t.record(ctx, granted)
}

// remember adds to what was allowed before, unless it was allowed to another client of that id.
func remember(ctx context.Context, t tx, n authorizations.NewCode, userID string) error {
	same := func(column string) string {
		return column + ` = CASE WHEN k.client_epoch = excluded.client_epoch AND k.redirects = excluded.redirects
			THEN (SELECT json_group_array(value) FROM (SELECT value FROM json_each(k.` + column + `) UNION SELECT value FROM json_each(excluded.` + column + `)))
			ELSE excluded.` + column + ` END`
	}
	return t.exec(ctx, `
		INSERT INTO consents AS k (user_id, client_id, client_epoch, redirects, scope, audience, granted_at)
		VALUES (@user, @client, @client_epoch, @redirects, @scope, @audience, @now)
		ON CONFLICT (user_id, client_id) DO UPDATE SET client_epoch = excluded.client_epoch, redirects = excluded.redirects,
			granted_at = excluded.granted_at, `+same("scope")+`, `+same("audience"),
		partyArgs(n.Party, args{"user": userID, "scope": list(n.Request.ConsentScope()), "audience": list(n.Request.Audience)}))
}

// Consents implements authorizations.Store.
func (s *Store) Consents(ctx context.Context, userID string) ([]authorizations.Allowance, error) {
	return many(ctx, s, func(row *sql.Rows) (a authorizations.Allowance, err error) {
		var scope []string
		err = row.Scan(&a.ClientID, &a.ClientName, fromList(&scope), fromList(&a.Audience), moment{&a.GrantedAt})
		a.Scope = strings.Join(scope, " ")
		return a, err
	}, `SELECT c.id, c.name, k.scope, k.audience, k.granted_at FROM consents k JOIN clients c ON c.id = k.client_id AND c.epoch = k.client_epoch
		WHERE k.user_id = @user ORDER BY c.name, c.id LIMIT 500`, args{"user": id(userID)})
}

// WithdrawConsent implements authorizations.Store.
func (s *Store) WithdrawConsent(ctx context.Context, userID, clientID string, e audit.Event) (withdrawn bool, err error) {
	a := func() args { return args{"user": id(userID), "client": clientID} }
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		_, withdrawn, err = oneIn(ctx, t, readText, `DELETE FROM consents WHERE user_id = @user AND client_id = @client RETURNING client_id`, a())
		if err != nil || !withdrawn {
			return err
		}
		if err := t.exec(ctx, `DELETE FROM authorization_codes WHERE user_id = @user AND client_id = @client`, a()); err != nil {
			return err
		}
		if err := t.exec(ctx, `UPDATE sessions SET revoked_at = @now, revoked_reason = 'the user withdrew their consent'
			WHERE user_id = @user AND client_id = @client AND login_id IS NOT NULL AND revoked_at IS NULL`, a()); err != nil {
			return err
		}
		return t.record(ctx, e)
	})
	return withdrawn && err == nil, err
}
