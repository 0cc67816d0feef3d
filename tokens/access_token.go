package tokens

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"signet/clients"
	"signet/proofs"
)

// accessClaims are the claims of an access token (RFC 9068 section 2.2).
type accessClaims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  Audience `json:"aud"`
	ExpiresAt int64    `json:"exp"`
	IssuedAt  int64    `json:"iat"`
	ID        string   `json:"jti"`
	ClientID  string   `json:"client_id"`
	Scope     string   `json:"scope"`
	SessionID string   `json:"sid,omitempty"`
	Groups    []string `json:"groups,omitempty"` // with the scope groups (RFC 9068 section 2.2.3.1)

	Confirmation *Confirmation `json:"cnf,omitempty"` // of a token that is bound to a key
	Actor        *Actor        `json:"act,omitempty"` // of a token that was exchanged: the client that acts for the subject

	jwt.Claims `json:"-"` // never asked: these claims are judged by the database's clock, in Introspect and Revoke
}

// Confirmation names the key that a token is bound to (RFC 9449 section 6.1).
type Confirmation struct {
	JKT string `json:"jkt"`
}

// Actor is who acts for the subject of a token, and for whom they did so before (RFC 8693 section 4.1).
type Actor struct {
	Subject string `json:"sub"` // a client id
	Before  *Actor `json:"act,omitempty"`
}

// depth is how many act one after the other.
func (a *Actor) depth() (n int) {
	for ; a != nil; a = a.Before {
		n++
	}
	return n
}

func confirmation(jkt string) *Confirmation {
	if jkt == "" {
		return nil
	}
	return &Confirmation{JKT: jkt}
}

// jkt is the thumbprint of the key that the token is bound to, or empty.
func (c *accessClaims) jkt() string {
	if c.Confirmation == nil {
		return ""
	}
	return c.Confirmation.JKT
}

// The types of access tokens (RFC 6750, RFC 9449 section 5).
const (
	Bearer = "Bearer"
	DPoP   = "DPoP"
)

// tokenType is the type of the access token.
func (c *accessClaims) tokenType() string {
	if c.Confirmation != nil {
		return DPoP
	}
	return Bearer
}

// complete tells whether the claims are all there, within bounds, and this issuer's. A token is judged further only then:
// with HS256 others hold the key as well, and may have signed what no database takes for an argument.
func (c *accessClaims) complete(issuer string) bool {
	return c.Issuer == issuer && c.Subject != "" && len(c.Audience) > 0 && storable(c.ID) && storable(c.ClientID) &&
		c.IssuedAt > 0 && c.ExpiresAt > c.IssuedAt && c.ExpiresAt < maxTime
}

// maxTime is far beyond the expiry of any token, in seconds since 1970.
const maxTime = 1 << 36

// storable tells whether a database could hold s.
func storable(s string) bool {
	return s != "" && len(s) <= 1024 && utf8.ValidString(s) && !strings.Contains(s, "\x00")
}

// Audience is an aud claim: in JSON a single one is a plain string (RFC 7519 section 4.1.3).
type Audience []string

// MarshalJSON writes a string or an array of strings.
func (a Audience) MarshalJSON() ([]byte, error) {
	if len(a) == 1 {
		return json.Marshal(a[0])
	}
	return json.Marshal([]string(a))
}

// UnmarshalJSON reads a string or an array of strings.
func (a *Audience) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*a = make(Audience, 1)
		return json.Unmarshal(b, &(*a)[0])
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// newTokenID returns a random jti.
func newTokenID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// newClientTokenID returns the jti of a token without a session, or of one that was exchanged. It begins with the epoch of its client, so
// that the token dies with the epoch.
func newClientTokenID(epoch int64) string {
	var b [8 + 16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(epoch)) //nolint:gosec // the same 64 bits
	_, _ = rand.Read(b[8:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// clientTokenEpoch returns the epoch in the jti of a client's own token, or of one that was exchanged.
func clientTokenEpoch(id string) (int64, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil || len(b) != 8+16 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(b[:8])), true //nolint:gosec // the same 64 bits
}

// issue signs an access token. It lives for the ttl from now, but not beyond end, the end of its session.
func (s *Service) issue(c accessClaims, ttl time.Duration, now, end time.Time) (Issued, error) {
	if !end.IsZero() {
		ttl = min(ttl, end.Sub(now))
	}
	c.Issuer = s.cfg.Issuer
	c.IssuedAt = now.Unix()
	c.ExpiresAt = max(now.Add(ttl).Unix(), c.IssuedAt+1)
	token, err := s.keys.Sign(&c)
	if err != nil {
		return Issued{}, err
	}
	return Issued{AccessToken: token, Type: c.tokenType(), ExpiresIn: time.Duration(c.ExpiresAt-c.IssuedAt) * time.Second, Scope: c.Scope}, nil
}

// Issued is what a grant was answered with.
type Issued struct {
	AccessToken  string
	Type         string // Bearer or DPoP
	ExpiresIn    time.Duration
	Scope        string // of the access token
	RefreshToken string // empty where none is issued
	IDToken      string // empty without OpenID Connect
	SessionID    string // empty for a client's own token

	SessionExpiresIn time.Duration // until the session ends if it is not used any more; zero for a client's own token
}

// ClientToken issues an access token to the client itself (RFC 6749 section 4.4). It is bound to the key, if there is one, whose proof it
// uses up. It returns proofs.ErrReplayed where that was used before.
func (s *Service) ClientToken(ctx context.Context, c *clients.Client, scope clients.Scope, audience []string, key proofs.Key) (Issued, error) {
	if err := s.Spend(ctx, key, c.ID, "", ""); err != nil {
		return Issued{}, err
	}
	return s.issue(accessClaims{
		Confirmation: confirmation(key.JKT),
		Subject:      c.ID, Audience: audience, ID: newClientTokenID(c.Epoch), ClientID: c.ID, Scope: scope.String(),
	}, s.accessTTL(c), time.Now(), time.Time{})
}
