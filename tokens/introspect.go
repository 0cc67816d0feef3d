package tokens

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"signet/clients"
)

// Introspection is the answer to "is this token good?" (RFC 7662 section 2.2). The zero value is the answer for a token
// that is not active or not the caller's business, and says nothing more.
type Introspection struct {
	Active    bool     `json:"active"`
	Issuer    string   `json:"iss,omitempty"`
	Subject   string   `json:"sub,omitempty"`
	Audience  Audience `json:"aud,omitempty"`
	ClientID  string   `json:"client_id,omitempty"`
	Username  string   `json:"username,omitempty"`
	Scope     *string  `json:"scope,omitempty"` // there, though perhaps empty, for every active token
	TokenType string   `json:"token_type,omitempty"`
	ExpiresAt int64    `json:"exp,omitempty"` // seconds since 1970
	IssuedAt  int64    `json:"iat,omitempty"` // seconds since 1970
	ID        string   `json:"jti,omitempty"`
	SessionID string   `json:"sid,omitempty"`

	Confirmation *Confirmation `json:"cnf,omitempty"`
	Actor        *Actor        `json:"act,omitempty"`
}

// Introspect tells the client what the token is at this moment. Its error is the database's; everything that is wrong
// with the token or with the caller's right to see it is an inactive answer.
func (s *Service) Introspect(ctx context.Context, c *clients.Client, token string) (Introspection, error) {
	if strings.HasPrefix(token, refreshPrefix) {
		return s.introspectRefresh(ctx, c, token)
	}
	v, ok, err := s.readAccess(ctx, token)
	claims := &v.claims
	if err != nil || !ok || claims.ClientID != c.ID && !c.Serves(claims.Audience, s.cfg.Issuer) {
		return Introspection{}, err
	}
	username, active, err := s.store.AccessTokenActive(ctx, v.token)
	if err != nil || !active {
		return Introspection{}, err
	}
	return Introspection{
		Active: true, Issuer: claims.Issuer, Subject: claims.Subject, Audience: claims.Audience, ClientID: claims.ClientID,
		Username: username, Scope: &claims.Scope, TokenType: claims.tokenType(), Confirmation: claims.Confirmation, Actor: claims.Actor,
		ExpiresAt: claims.ExpiresAt, IssuedAt: claims.IssuedAt, ID: claims.ID, SessionID: claims.SessionID,
	}, nil
}

// verified is what an access token says whose signature was found good.
type verified struct {
	keyID  string
	claims accessClaims
	token  AccessToken
}

// maxVerified bounds how many access tokens are remembered as verified; each takes well under a kilobyte.
const maxVerified = 8192

// readAccess verifies an access token without the database. Ok is false for anything that this issuer did not issue.
//
// A signature that was good stays good, so tokens are verified once and remembered by their digest: a resource server asks
// for the same one many times. A key that is good no more takes its tokens along. Whether the token still counts is the
// database's to say, each time.
func (s *Service) readAccess(ctx context.Context, token string) (v verified, ok bool, err error) {
	digest := sha256.Sum256([]byte(token))
	if v, ok = s.verified.Get(digest); ok && s.keys.Holds(v.keyID) {
		return v, true, nil
	}
	v = verified{}
	if v.keyID, ok, err = s.keys.Verify(ctx, token, &v.claims); err != nil || !ok || !v.claims.complete(s.cfg.Issuer) {
		return verified{}, false, err
	}
	claims := &v.claims
	v.token = AccessToken{ID: claims.ID, ClientID: claims.ClientID, ExpiresAt: time.Unix(claims.ExpiresAt, 0)}
	if claims.SessionID == "" {
		v.token.ClientEpoch, ok = clientTokenEpoch(claims.ID)
		ok = ok && claims.Subject == claims.ClientID
	} else {
		session, sessionErr := uuid.Parse(claims.SessionID)
		user, userErr := uuid.Parse(claims.Subject)
		v.token.SessionID, v.token.UserID = session, user.String()
		ok = sessionErr == nil && userErr == nil && session != uuid.Nil
		if v.token.Exchanged = claims.Actor != nil; ok && v.token.Exchanged {
			v.token.ClientEpoch, ok = clientTokenEpoch(claims.ID)
		}
	}
	if !ok {
		return verified{}, false, nil
	}
	s.verified.Add(digest, v)
	return v, true, nil
}

// introspectRefresh shows a refresh token to its own client, while it is the current one of a session that can be used.
func (s *Service) introspectRefresh(ctx context.Context, c *clients.Client, token string) (Introspection, error) {
	t, ok := s.codec.parse(token)
	if !ok {
		return Introspection{}, nil
	}
	st, known, err := s.store.SessionState(ctx, Use{Session: t.session, SecretDigest: t.digest()}, 0)
	if err != nil || !known || !st.Genuine || !st.Live || st.ClientID != c.ID || st.Sequence > t.sequence || !st.Now.Before(st.IdleEnd) {
		return Introspection{}, err
	}
	end := st.End
	if st.IdleEnd.Before(end) {
		end = st.IdleEnd
	}
	scope := st.Scope.String()
	return Introspection{
		Active: true, Issuer: s.cfg.Issuer, Subject: st.UserID, Audience: st.Audience, ClientID: st.ClientID, Username: st.Username,
		Scope: &scope, TokenType: "refresh_token", ExpiresAt: end.Unix(), IssuedAt: st.LastUsedAt.Unix(),
		ID: fmt.Sprintf("%s.%d", t.session, t.sequence), SessionID: t.session.String(), Confirmation: confirmation(st.JKT),
	}, nil
}
