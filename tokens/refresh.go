package tokens

import (
	"context"
	"errors"

	"signet/audit"
	"signet/clients"
	"signet/proofs"
	"signet/users"
)

// Outcome is what became of a use of a refresh token.
type Outcome string

// The outcomes, as they are counted.
const (
	Rotated  Outcome = "rotated"   // the successor became current
	Retried  Outcome = "retried"   // the use was a repetition: the same successor again
	CaughtUp Outcome = "caught_up" // the database had lost the token's own rotation
	Reused   Outcome = "reused"    // theft: the session was revoked
	Rejected Outcome = "rejected"
)

// attempts bounds how often a use is judged anew because the session changed between the judgement and the deed.
const attempts = 4

// Refresh uses a refresh token (RFC 6749 section 6): it makes its successor current and issues an access token. The scope
// and the audience, where not nil, narrow that access token alone. It returns ErrInvalidGrant, ErrInvalidScope or
// ErrInvalidTarget, neither of which uses the token up, or the database's error.
//
// In the normal case it is one statement. A use that the statement refused is judged by the session's state, in the
// order of decide.
//
// A proof of a key binds the access token to it and is used up; proofs.ErrReplayed says that it was before. A public client's session
// that is bound to a key wants that very one.
//
// The refresh tokens of a client of FAPI 2.0 are not rotated: they are bound to a client that proves itself, and to rotate them would
// only lose some (section 5.3.2.1).
func (s *Service) Refresh(ctx context.Context, c *clients.Client, token string, scope clients.Scope, audience []string, key proofs.Key, o audit.Origin) (Issued, Outcome, error) {
	t, ok := s.codec.parse(token)
	if !ok {
		return Issued{}, Rejected, ErrInvalidGrant
	}
	next := t.successor()
	if c.Profile == clients.FAPI2 {
		next = t
	}
	u := Use{
		Session: t.session, ClientID: c.ID, SecretDigest: t.digest(), From: t.sequence, To: next.sequence,
		Scope: scope, Audience: audience, IdleTTL: s.refreshTTL(c), Address: o.Address, UserAgent: o.Agent(),
		Key: key, Repeatable: s.cfg.RetryWindow > 0 || next == t,
	}
	succeed := func(g Grant, outcome Outcome) (Issued, Outcome, error) {
		issued, err := s.issueFor(t.session, c, g, scope, audience, key.JKT)
		if err == nil {
			issued.IDToken, err = s.idToken(ctx, c, g, issued, "")
		}
		issued.RefreshToken = s.codec.format(next)
		return issued, outcome, err
	}
	for range attempts {
		g, ok, err := s.store.Rotate(ctx, u, nil)
		if err != nil {
			return Issued{}, Rejected, err
		}
		if ok {
			return succeed(g, Rotated)
		}
		if err := s.Spend(ctx, key, c.ID, "", t.session.String()); err != nil {
			return Issued{}, Rejected, err
		}
		st, known, err := s.store.SessionState(ctx, u, s.cfg.RetryWindow)
		if err != nil {
			return Issued{}, Rejected, err
		}
		switch verdict, err := decide(st, known, u); verdict {
		case Rejected:
			return Issued{}, Rejected, err
		case Retried:
			if err := s.noteElsewhere(ctx, st, u, o); err != nil {
				return Issued{}, Rejected, err
			}
			return succeed(st.Grant, Retried)
		case CaughtUp:
			e := s.event(audit.RefreshTokenCaughtUp, u, st, o)
			behind := u
			behind.From = st.Sequence
			if g, ok, err = s.store.Rotate(ctx, behind, &e); err != nil {
				return Issued{}, Rejected, err
			} else if ok {
				e.Log(ctx, s.log)
				return succeed(g, CaughtUp)
			}
		case Reused:
			e := s.event(audit.RefreshTokenReused, u, st, o)
			if ok, err := s.store.RevokeReused(ctx, u, s.cfg.RetryWindow, e); err != nil {
				return Issued{}, Rejected, err
			} else if ok {
				e.Log(ctx, s.log)
				return Issued{}, Reused, ErrInvalidGrant
			}
		case Rotated: // it could be used after all: the row changed in between
		}
	}
	return Issued{}, Rejected, errors.New("the session kept changing under a refresh")
}

// Of tells which client a refresh token was issued to and which user it speaks for, whether or not it is good still. It
// returns ErrInvalidGrant for one that is not of a session that the database holds, or the database's error.
func (s *Service) Of(ctx context.Context, token string) (clientID string, u users.User, err error) {
	t, ok := s.codec.parse(token)
	if !ok {
		return "", users.User{}, ErrInvalidGrant
	}
	st, known, err := s.store.SessionState(ctx, Use{Session: t.session, SecretDigest: t.digest()}, 0)
	if err == nil && (!known || !st.Genuine) {
		err = ErrInvalidGrant
	}
	return st.ClientID, users.User{ID: st.UserID, Username: st.Username}, err
}

// decide judges a use that Rotate refused. The verdict is what to do; the error goes with Rejected.
func decide(st State, known bool, u Use) (Outcome, error) {
	rotates := u.To != u.From // else the token is to stay as it is
	switch {
	case !known, !st.Genuine, st.ClientID != u.ClientID, !st.Live, !st.Now.Before(st.IdleEnd):
		return Rejected, ErrInvalidGrant
	case st.JKT != "" && st.JKT != u.Key.JKT: // nobody but the holder of the key says anything by it
		return Rejected, ErrInvalidGrant
	case !rotates && st.Sequence == u.From+1 && st.InWindow: // it was rotated just before the client was made one of FAPI 2.0
		return Rejected, ErrInvalidGrant
	case st.Sequence > u.To, rotates && st.Sequence == u.To && !st.InWindow:
		return Reused, nil
	case !u.Scope.Within(st.Scope):
		return Rejected, ErrInvalidScope
	case !clients.Scope(u.Audience).Within(st.Audience):
		return Rejected, ErrInvalidTarget
	case rotates && st.Sequence == u.To:
		return Retried, nil
	case st.Sequence < u.From:
		return CaughtUp, nil
	default:
		return Rotated, nil
	}
}

// noteElsewhere records a retry that came from another place than the use that it repeats: two tabs do not do that.
func (s *Service) noteElsewhere(ctx context.Context, st State, u Use, o audit.Origin) error {
	if st.Address == u.Address && st.UserAgent == u.UserAgent {
		return nil
	}
	e := s.event(audit.RefreshTokenRetriedElsewhere, u, st, o)
	e.Detail = "first used from " + st.Address
	if err := s.store.RecordEvent(ctx, e); err != nil {
		return err
	}
	e.Log(ctx, s.log)
	return nil
}

func (s *Service) event(t audit.Type, u Use, st State, o audit.Origin) audit.Event {
	e := audit.New(t, o)
	e.ClientID, e.UserID, e.SessionID = u.ClientID, st.UserID, u.Session.String()
	return e
}
