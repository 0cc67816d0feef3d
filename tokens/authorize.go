package tokens

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"signet/clients"
	"signet/proofs"
)

// Errors of Authorize, named after those of RFC 6750 section 3.1.
var (
	ErrInvalidToken      = errors.New("the access token is unknown, expired or revoked, or not for this server")
	ErrInsufficientScope = errors.New("the access token does not hold the scope")
	ErrOfNoUser          = fmt.Errorf("%w: it is of no user", ErrInsufficientScope)
)

// Access is whom a call of Signet's own API speaks for.
type Access struct {
	ClientID   string
	UserID     string // empty for a client's own token, as are the username, the session and its end
	Username   string
	Scope      clients.Scope // of the token
	SessionID  string
	SessionEnd time.Time // the absolute end of the session
	IssuedAt   time.Time
	ExpiresAt  time.Time
	Now        time.Time // the database's time
}

// Authorize tells whom an access token that is presented to Signet itself speaks for. It has to be active, its audience has to
// hold the issuer, and its scope the wanted one. It returns ErrInvalidToken, ErrInsufficientScope, or the database's error.
//
// What the token says is not enough: under HS256 others can sign as well, and a user may have ceased to be an admin. So the
// session, or the client's registration, has to hold the scope and the audience too, and signet:admin needs a user who is an
// admin now.
//
// A token that is bound to a key needs that very one, and uses up its proof, of which it returns proofs.ErrReplayed where it was used
// before; one that is not bound takes none.
func (s *Service) Authorize(ctx context.Context, token, scope string, key proofs.Key) (Access, error) {
	a, audience, h, err := s.identify(ctx, token, key)
	switch {
	case err != nil:
		return Access{}, err
	case !slices.Contains(audience, s.cfg.Issuer), len(h.Audience) > 0 && !slices.Contains(h.Audience, s.cfg.Issuer):
		return Access{}, ErrInvalidToken
	case !slices.Contains(a.Scope, scope) || !slices.Contains(h.Scope, scope):
		return Access{}, ErrInsufficientScope
	case scope == clients.ScopeAdmin && a.UserID != "" && !h.Admin:
		return Access{}, ErrInsufficientScope
	}
	return a, nil
}

// Identify tells whom an active access token speaks for, whatever its scope and audience, or returns ErrInvalidToken or the
// database's error.
func (s *Service) Identify(ctx context.Context, token string) (Access, error) {
	a, _, _, err := s.identify(ctx, token, proofs.Key{})
	return a, err
}

func (s *Service) identify(ctx context.Context, token string, key proofs.Key) (a Access, audience []string, h Holder, err error) {
	v, ok, err := s.readAccess(ctx, token)
	if err != nil {
		return Access{}, nil, Holder{}, err
	}
	if ok {
		h, ok, err = s.store.AccessTokenHolder(ctx, v.token)
	}
	if err != nil {
		return Access{}, nil, Holder{}, err
	}
	if ok && v.claims.jkt() != key.JKT {
		return Access{}, nil, Holder{}, ErrInvalidToken
	}
	scope, malformed := clients.ParseScope(v.claims.Scope)
	if !ok || malformed != nil {
		return Access{}, nil, Holder{}, ErrInvalidToken
	}
	if err := s.Spend(ctx, key, v.claims.ClientID, v.token.UserID, v.claims.SessionID); err != nil {
		return Access{}, nil, Holder{}, err
	}
	return Access{
		ClientID: v.claims.ClientID, UserID: v.token.UserID, Username: h.Username, Scope: scope, SessionID: v.claims.SessionID,
		SessionEnd: h.SessionEnd, IssuedAt: time.Unix(v.claims.IssuedAt, 0), ExpiresAt: v.token.ExpiresAt, Now: h.Now,
	}, v.claims.Audience, h, nil
}

// Renew issues another access token of the session that a was authorized by, with the same scope and for Signet itself. It does
// not extend the session.
func (s *Service) Renew(a Access) (Issued, error) {
	issued, err := s.issue(accessClaims{
		Subject: a.UserID, Audience: Audience{s.cfg.Issuer}, ID: newTokenID(), ClientID: a.ClientID,
		Scope: a.Scope.String(), SessionID: a.SessionID,
	}, s.cfg.AccessTTL, a.Now, a.SessionEnd)
	issued.SessionID = a.SessionID
	return issued, err
}

// LoggedInWithin tells whether the session that a was authorized by began in that time, with a login of that time, by two factors
// where the user has a second one.
func (s *Service) LoggedInWithin(ctx context.Context, a Access, d time.Duration) (bool, error) {
	return s.store.LoggedInWithin(ctx, a.SessionID, d)
}
