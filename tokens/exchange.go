package tokens

import (
	"context"
	"errors"
	"slices"
	"time"

	"signet/clients"
	"signet/proofs"
)

// Errors of Exchange.
var (
	ErrSubjectToken = errors.New("the subject_token is unknown, expired or revoked, is not a user's, or is not this client's to exchange")
	ErrSubjectScope = errors.New("the subject_token does not hold the scope")
	ErrBoundSubject = errors.New("the subject_token is bound to a key: so has to be what it is exchanged for, by a proof in the header DPoP")
	ErrTooManyActed = errors.New("the subject_token was exchanged too often")
	ErrNoAudience   = errors.New("the subject_token is for nothing that the client is registered for: name a resource")
)

// maxActors is how many clients may have acted, one after the other.
const maxActors = 4

// Exchange issues an access token for another one of the same user and session (RFC 8693), with the client as the one that acts. Whose
// token it is, or a resource server that it is for, may exchange it. The scope is what the token and the client's registration have in
// common, or the part of that which is wanted; of Signet's own scopes there is none. The audience, nil for the part of the token's that
// the client is registered for, was found to be registered. What is issued expires with the token at the latest, and dies with its
// session, and with either client. It returns one of the errors above, proofs.ErrReplayed, or the database's error.
func (s *Service) Exchange(ctx context.Context, c *clients.Client, subject string, scope clients.Scope, audience []string, key proofs.Key) (Issued, error) {
	v, ok, err := s.readAccess(ctx, subject)
	if err != nil {
		return Issued{}, err
	}
	claims := &v.claims
	if !ok || claims.SessionID == "" || claims.ClientID != c.ID && !c.Serves(claims.Audience, s.cfg.Issuer) {
		return Issued{}, ErrSubjectToken
	}
	h, ok, err := s.store.AccessTokenHolder(ctx, v.token)
	if err != nil {
		return Issued{}, err
	}
	held, malformed := clients.ParseScope(claims.Scope)
	switch {
	case !ok || malformed != nil:
		return Issued{}, ErrSubjectToken
	case claims.Confirmation != nil && (!key.Proven() || claims.ClientID == c.ID && claims.jkt() != key.JKT):
		return Issued{}, ErrBoundSubject
	case claims.Actor.depth() >= maxActors:
		return Issued{}, ErrTooManyActed
	}
	held = slices.DeleteFunc(held, func(name string) bool { return clients.Reserved(name) || !slices.Contains(h.Scope, name) })
	if scope == nil {
		scope = slices.DeleteFunc(held, func(name string) bool { return !slices.Contains(c.Scope, name) })
	} else if !scope.Within(held) {
		return Issued{}, ErrSubjectScope
	}
	if audience == nil {
		allowed := c.Resources(s.cfg.Issuer)
		audience = slices.DeleteFunc(slices.Clone(claims.Audience), func(r string) bool { return !slices.Contains(allowed, r) })
	}
	if len(audience) == 0 {
		return Issued{}, ErrNoAudience
	}
	if err := s.Spend(ctx, key, c.ID, claims.Subject, claims.SessionID); err != nil {
		return Issued{}, err
	}
	exchanged := accessClaims{
		Subject: claims.Subject, Audience: audience, ID: newClientTokenID(c.Epoch), ClientID: c.ID, Scope: scope.String(), SessionID: claims.SessionID,
		Confirmation: confirmation(key.JKT), Actor: &Actor{c.ID, claims.Actor},
	}
	if slices.Contains(scope, clients.ScopeGroups) {
		exchanged.Groups = claims.Groups
	}
	issued, err := s.issue(exchanged, s.accessTTL(c), h.Now, time.Unix(claims.ExpiresAt, 0))
	issued.SessionID = claims.SessionID
	return issued, err
}
