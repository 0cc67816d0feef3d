package tokens

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"signet/audit"
	"signet/authorizations"
	"signet/clients"
	"signet/proofs"
)

// Redemption is one use of an authorization code, as the store compares it.
type Redemption struct {
	Session       uuid.UUID // that it is to begin
	CodeDigest    []byte
	ClientID      string
	ClientEpoch   int64
	RedirectURI   string        // empty: not named
	Challenge     string        // what the verifier answers; empty: none was sent
	Scope         clients.Scope // what the access token is narrowed to; nil: not narrowed
	Audience      []string      // likewise
	SessionDigest []byte        // of the secret of the session's refresh tokens
	IdleTTL       time.Duration
	TTL           time.Duration
	Address       string
	UserAgent     string
	MaxFailures   int
	JKT           string  // of the key that the sender has proved to hold; empty: none
	SessionJKT    *string // of the key that the session's refresh tokens are to be bound to; nil: none
}

// Refusal is why a code was not redeemed.
type Refusal int

// The refusals.
const (
	CodeUnknown   Refusal = iota // never issued, expired, another client's, or its user, client, login or consent is not what it was
	CodeUnfitting                // a wrong verifier or redirect URI; counted
	CodeNarrow                   // more scope than was granted
	CodeElsewhere                // a resource that was not granted
	CodeReused                   // redeemed before: its session was revoked
)

// ErrInvalidCode is ErrInvalidGrant for an authorization code; ErrUnfittingCode and ErrReusedCode say more of it, to whoever has the code.
var (
	ErrInvalidCode   = fmt.Errorf("the code is not good: %w", ErrInvalidGrant)
	ErrUnfittingCode = fmt.Errorf("its redirect URI, verifier or key is another: %w", ErrInvalidCode)
	ErrReusedCode    = fmt.Errorf("it was redeemed before, and its session is revoked: %w", ErrInvalidCode)
)

// RedeemCode exchanges an authorization code for the first tokens of the session that it names (RFC 6749 section 4.1.3, RFC 7636
// section 4.6). The redirect URI and the verifier are empty where the client sends none. Scope and audience, where not nil, narrow
// this access token alone. It returns ErrInvalidCode, ErrInvalidScope or ErrInvalidTarget, of which the last two do not use the
// code up, or the database's error. A code that comes twice ends its session.
//
// A proof of a key binds the tokens to it and is used up; proofs.ErrReplayed says that it was before.
//
// In the normal case it is one statement.
func (s *Service) RedeemCode(ctx context.Context, c *clients.Client, code, redirectURI, verifier string, scope clients.Scope, audience []string, key proofs.Key, o audit.Origin) (Issued, error) {
	k, ok := s.codes.ParseCode(code)
	if !ok {
		return Issued{}, ErrInvalidCode
	}
	if err := s.Spend(ctx, key, c.ID, "", ""); err != nil {
		return Issued{}, err
	}
	r := s.redemption(c, k, key, o)
	r.RedirectURI, r.Scope, r.Audience = redirectURI, scope, audience
	if strings.Contains(redirectURI, "\x00") {
		r.RedirectURI = "none that a database takes for text"
	}
	if verifier != "" {
		if r.Challenge, ok = authorizations.Challenge(verifier); !ok {
			r.Challenge = "none that a verifier answers"
		}
	}
	issued, ok, err := s.redeem(ctx, c, k, r, o)
	if err == nil && !ok {
		err = s.refuseCode(ctx, r, o)
	}
	return issued, err
}

// RedeemDevice exchanges a device code that its user has approved for the first tokens of a session (RFC 8628 section 3.4). Where that
// cannot be, the poll tells why, to a client that has authenticated by HTTP Basic or not; it returns ErrInvalidCode for a code that is
// unknown, used or another client's.
func (s *Service) RedeemDevice(ctx context.Context, c *clients.Client, code string, basic bool, key proofs.Key, o audit.Origin) (Issued, authorizations.Poll, error) {
	k, ok := s.codes.ParseDeviceCode(code)
	if !ok {
		return Issued{}, 0, ErrInvalidCode
	}
	if err := s.Spend(ctx, key, c.ID, "", ""); err != nil {
		return Issued{}, 0, err
	}
	r := s.redemption(c, k, key, o)
	issued, ok, err := s.redeem(ctx, c, k, r, o)
	if err != nil || ok {
		return issued, 0, err
	}
	poll, err := s.codes.PollDevice(ctx, c, k, basic)
	if err == nil && poll == authorizations.PollUnknown {
		err = s.refuseCode(ctx, r, o)
	}
	return Issued{}, poll, err
}

// redemption is the use of a code by the client, with nothing beside it.
func (s *Service) redemption(c *clients.Client, k authorizations.Code, key proofs.Key, o audit.Origin) Redemption {
	return Redemption{
		Session: k.Session, CodeDigest: k.Digest(), ClientID: c.ID, ClientEpoch: c.Epoch, SessionDigest: firstToken(k).digest(),
		IdleTTL: s.refreshTTL(c), TTL: s.sessionTTL(c), Address: o.Address, UserAgent: o.Agent(), MaxFailures: authorizations.MaxCodeFailures,
		JKT: key.JKT, SessionJKT: refreshKey(c, key.JKT),
	}
}

// firstToken is the first refresh token of the session that a code begins.
func firstToken(k authorizations.Code) refreshToken {
	first := refreshToken{session: k.Session}
	copy(first.secret[:], k.SessionSecret())
	return first
}

// redeem makes the redemption and issues the session's first tokens; ok is false where it was refused.
func (s *Service) redeem(ctx context.Context, c *clients.Client, k authorizations.Code, r Redemption, o audit.Origin) (issued Issued, ok bool, err error) {
	created := audit.New(audit.SessionCreated, o)
	created.ClientID, created.SessionID = c.ID, k.Session.String()
	g, ok, err := s.store.RedeemCode(ctx, r, created)
	if err != nil || !ok {
		return Issued{}, false, err
	}
	created.UserID, created.Actor = g.UserID, g.UserID
	created.Log(ctx, s.log)
	if issued, err = s.issueFor(k.Session, c, g.Grant, r.Scope, r.Audience, r.JKT); err != nil {
		return Issued{}, false, err
	}
	if issued.IDToken, err = s.idToken(ctx, c, g.Grant, issued, g.Nonce); err != nil {
		return Issued{}, false, err
	}
	if c.May(clients.RefreshToken) {
		issued.RefreshToken = s.codec.format(firstToken(k))
	}
	return issued, true, nil
}

// refuseCode finds out what is wrong with a redemption that was refused, and ends the session of a code that came twice.
func (s *Service) refuseCode(ctx context.Context, r Redemption, o audit.Origin) error {
	e := audit.New(audit.CodeReused, o)
	e.ClientID, e.SessionID = r.ClientID, r.Session.String()
	refusal, userID, err := s.store.RefuseCode(ctx, r, e)
	if err != nil {
		return err
	}
	switch refusal {
	case CodeNarrow:
		return ErrInvalidScope
	case CodeElsewhere:
		return ErrInvalidTarget
	case CodeReused:
		e.UserID = userID
		e.Log(ctx, s.log)
		return ErrReusedCode
	case CodeUnfitting:
		return ErrUnfittingCode
	case CodeUnknown:
	}
	return ErrInvalidCode
}
