package tokens

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"signet/authorizations"
	"signet/clients"
	"signet/keys"
	"signet/proofs"
	"signet/users"
)

// idTokenType is the JOSE typ of an ID token. No access token has it, and so neither is taken for the other.
const idTokenType = "JWT"

// idToken signs an ID token (OpenID Connect Core section 2) beside the access token, if that has the scope openid. The nonce, which may be
// empty, is that of the request that began the session; a refresh repeats none.
func (s *Service) idToken(ctx context.Context, c *clients.Client, g Grant, issued Issued, nonce string) (string, error) {
	if g.Facts == nil {
		return "", nil
	}
	scope, err := clients.ParseScope(issued.Scope)
	if err != nil || !slices.Contains(scope, clients.ScopeOpenID) {
		return "", err
	}
	claims := shown(g.User, scope, g.Facts.Claims.IDToken)
	for name, value := range map[string]any{
		"iss": s.cfg.Issuer, "sub": g.UserID, "aud": c.ID, "iat": g.Now.Unix(), "exp": g.Now.Add(issued.ExpiresIn).Unix(),
		"auth_time": g.Facts.AuthTime, "acr": g.Facts.Class, "amr": g.Facts.Methods, "sid": g.LoginID,
		"at_hash": accessTokenHash(c.IDTokenAlg, issued.AccessToken),
	} {
		claims[name] = value
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	return s.keys.SignAs(ctx, c.IDTokenAlg, idTokenType, claims)
}

// shown returns what the scope shows of a user, and the claims that were asked for one by one. What the user has not is left out.
func shown(u users.User, scope clients.Scope, asked []string) map[string]any {
	claims := u.ClaimsOf(scope)
	if len(asked) > 0 {
		all := u.ClaimsOf([]string{"profile", "email", "phone", "groups"})
		for _, name := range asked {
			if value, has := all[name]; has {
				claims[name] = value
			}
		}
	}
	return claims
}

// accessTokenHash is the at_hash of an access token: half of its digest, by the hash function of the ID token's algorithm (Core
// section 3.1.3.6).
func accessTokenHash(alg keys.Algorithm, token string) string {
	if alg == keys.EdDSA {
		sum := sha512.Sum512([]byte(token)) // Ed25519's
		return base64.RawURLEncoding.EncodeToString(sum[:sha512.Size/2])
	}
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:sha256.Size/2])
}

// Hint is what an ID token says that a client presents: whom it is about, and in which login.
type Hint struct {
	Subject  string
	ClientID string
	LoginID  string
}

// hintClaims are the claims of an ID token that count in a hint.
type hintClaims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience Audience `json:"aud"`
	LoginID  string   `json:"sid"`

	jwt.Claims `json:"-"` // never asked: a hint may have expired
}

// ReadHint reads an id_token_hint (Core section 3.1.2.1): an ID token of this server, which may have expired. Ok is false for
// anything else.
func (s *Service) ReadHint(ctx context.Context, token string) (h Hint, ok bool, err error) {
	var claims hintClaims
	ok, err = s.keys.VerifyAs(ctx, token, idTokenType, &claims)
	if err != nil || !ok || claims.Issuer != s.cfg.Issuer || len(claims.Audience) != 1 || claims.Subject == "" {
		return Hint{}, false, err
	}
	return Hint{claims.Subject, claims.Audience[0], claims.LoginID}, true, nil
}

// LogoutToken tells a client that a login has ended (OpenID Connect Back-Channel Logout 1.0 section 2.4). It is good for two
// minutes from the database's now.
func (s *Service) LogoutToken(ctx context.Context, c *clients.Client, userID, loginID string, now time.Time) (string, error) {
	return s.keys.SignAs(ctx, c.IDTokenAlg, "logout+jwt", map[string]any{
		"iss": s.cfg.Issuer, "sub": userID, "aud": c.ID, "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(),
		"jti": newTokenID(), "sid": loginID,
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": struct{}{}},
	})
}

// UserInfo returns the claims of the user that an active access token speaks for (Core section 5.3): those of the token's scope, and
// those that were asked for one by one. The token is presented by the holder of the key, if there is one, whose proof is used up. It
// returns ErrInvalidToken, ErrOfNoUser for a client's own token, ErrInsufficientScope without the scope openid, proofs.ErrReplayed, or the
// database's error.
func (s *Service) UserInfo(ctx context.Context, token string, key proofs.Key) (map[string]any, error) {
	a, _, h, err := s.identify(ctx, token, key)
	switch {
	case err != nil:
		return nil, err
	case a.UserID == "":
		return nil, ErrOfNoUser
	case !slices.Contains(a.Scope, clients.ScopeOpenID) || !slices.Contains(h.Scope, clients.ScopeOpenID):
		return nil, ErrInsufficientScope
	}
	scope := slices.DeleteFunc(slices.Clone(a.Scope), func(token string) bool { return !slices.Contains(h.Scope, token) })
	var facts authorizations.Facts
	if h.Facts != nil {
		facts = *h.Facts
	}
	claims := shown(h.User, scope, facts.Claims.UserInfo)
	claims["sub"] = a.UserID
	return claims, nil
}
