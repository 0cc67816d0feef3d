package tokens

import (
	"context"
	"strings"

	"signet/audit"
	"signet/clients"
)

// Revoke makes the token bad (RFC 7009): a refresh token, current or spent, with its whole session; an access token alone.
// It returns nil also for a token that is good no more or never was, ErrOtherClient for a live token of another client,
// which stays live, or the database's error.
func (s *Service) Revoke(ctx context.Context, c *clients.Client, token string, o audit.Origin) error {
	if strings.HasPrefix(token, refreshPrefix) {
		return s.revokeRefresh(ctx, c, token, o)
	}
	v, ok, err := s.readAccess(ctx, token)
	if err != nil || !ok {
		return err
	}
	if v.claims.ClientID != c.ID {
		if _, active, err := s.store.AccessTokenActive(ctx, v.token); err != nil || !active {
			return err
		}
		return ErrOtherClient
	}
	e := audit.New(audit.AccessTokenRevoked, o)
	e.ClientID, e.UserID, e.SessionID = c.ID, v.token.UserID, v.claims.SessionID
	if ok, err = s.store.RevokeAccessToken(ctx, v.token, e); err == nil && ok {
		e.Log(ctx, s.log)
	}
	return err
}

func (s *Service) revokeRefresh(ctx context.Context, c *clients.Client, token string, o audit.Origin) error {
	t, ok := s.codec.parse(token)
	if !ok {
		return nil
	}
	u := Use{Session: t.session, ClientID: c.ID, SecretDigest: t.digest()}
	st, known, err := s.store.SessionState(ctx, u, 0)
	if err != nil || !known || !st.Genuine || !st.Live {
		return err
	}
	if st.ClientID != c.ID {
		if st.Sequence > t.sequence || !st.Now.Before(st.IdleEnd) {
			return nil // not live: nothing to keep from the caller
		}
		return ErrOtherClient
	}
	// A session's client never changes, so that what was just read of it still holds.
	e := s.event(audit.SessionRevoked, u, st, o)
	if ok, err = s.store.RevokeSession(ctx, t.session, "", "revoked by its client", e); err == nil && ok {
		e.Log(ctx, s.log)
	}
	return err
}
