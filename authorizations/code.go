package authorizations

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/google/uuid"

	"signet/keys"
)

// CodeTTL is how long an authorization code is good (RFC 6749 section 4.1.2).
const CodeTTL = time.Minute

// MaxCodeFailures is after how many wrong verifiers or redirect URIs a code is good no more.
const MaxCodeFailures = 5

// Code is what an authorization code says: the session that it will begin, and a secret, which the database knows only by its
// digest.
type Code struct {
	Session uuid.UUID
	secret  [codeSecretSize]byte
}

// The written form of a code is that of a keys.Tagger, of
//
//	session (16) ‖ secret (18)
const (
	codePrefix     = "sgc_"
	codeSecretSize = 18
	codeBodySize   = 16 + codeSecretSize
)

func newCode() Code {
	c := Code{Session: uuid.New()}
	_, _ = rand.Read(c.secret[:])
	return c
}

// Digest is what the database holds of the code's secret.
func (c Code) Digest() []byte { return labelled("code", c.secret[:]) }

// SessionSecret returns the secret, of 16 bytes, of the session that the code begins. Who holds the code can tell it, who holds
// the session's tokens cannot tell the code. So a code that was redeemed is known by the session that came of it.
func (c Code) SessionSecret() []byte { return labelled("session", c.secret[:])[:16] }

func labelled(label string, secret []byte) []byte {
	sum := sha256.Sum256(append([]byte("signet "+label+" "), secret...))
	return sum[:]
}

// writeCode returns the written form of a code.
func (s *Service) writeCode(c Code) string {
	return s.tagger.Write(codePrefix, c.body())
}

func (c Code) body() []byte {
	body := make([]byte, 0, codeBodySize+sha256.Size)
	body = append(body, c.Session[:]...)
	return append(body, c.secret[:]...)
}

// ParseCode reads a code that this server issued; ok is false for anything else.
func (s *Service) ParseCode(text string) (c Code, ok bool) {
	return readCode(s.tagger, codePrefix, text)
}

func readCode(t keys.Tagger, prefix, text string) (c Code, ok bool) {
	b, ok := t.Read(prefix, text, codeBodySize)
	if !ok {
		return Code{}, false
	}
	c.Session = uuid.UUID(b[:16])
	copy(c.secret[:], b[16:])
	return c, true
}

// Challenge returns the S256 code challenge of a verifier (RFC 7636 section 4.2); ok is false for what cannot be a verifier.
func Challenge(verifier string) (challenge string, ok bool) {
	if len(verifier) < 43 || len(verifier) > 128 {
		return "", false
	}
	for _, b := range []byte(verifier) {
		if !unreserved(b) {
			return "", false
		}
	}
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:]), true
}

// unreserved tells whether b is one of RFC 3986's unreserved characters, of which verifiers are made.
func unreserved(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '-' || b == '.' || b == '_' || b == '~'
}

// ValidChallenge tells whether a challenge can be one of S256: the base64url of 32 bytes, without padding.
func ValidChallenge(challenge string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(challenge)
	return err == nil && len(b) == sha256.Size && len(challenge) == base64.RawURLEncoding.EncodedLen(sha256.Size)
}
