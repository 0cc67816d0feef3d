// Package proofs checks what clients prove by keys: who they are, by client assertions (RFC 7523), and that they hold the key that a
// token is bound to, by DPoP proofs (RFC 9449). It also sees to it that a proof is used once.
package proofs

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"signet/clients"
	"signet/keys"
)

// Once is one use of what may be used once. A use is told from others by its id, so that its repetition after a lost connection is
// the same one.
type Once struct {
	Digest []byte
	Use    uuid.UUID
	TTL    time.Duration // after that it is refused for its age
}

// newOnce is a use of what is named by those words.
func newOnce(ttl time.Duration, words ...string) Once {
	text, err := json.Marshal(words)
	if err != nil {
		panic(err) // strings never fail
	}
	sum := sha256.Sum256(text)
	return Once{Digest: sum[:], Use: uuid.New(), TTL: ttl}
}

// Store is what this package needs of a database.
type Store interface {
	// Spend uses up what may be used once. It returns false if it was used before, by another use.
	Spend(ctx context.Context, o Once) (bool, error)
}

// ErrReplayed says that a proof was used before.
var ErrReplayed = errors.New("the proof was used before")

// Getter fetches what a client names.
type Getter interface {
	Get(ctx context.Context, address string) (body []byte, err error)
}

// Config is what the operator decides about proofs.
type Config struct {
	Issuer string
	Secret keys.Secret
	Getter Getter // for jwks_uri; nil: none is fetched
}

// Service checks proofs.
type Service struct {
	store  Store
	cfg    Config
	nonces [][]byte // keys of the nonces, the one to make them with first

	fetched  *lru.Cache[string, fetched]
	fetching singleflight.Group
}

// New returns a service on the store.
func New(store Store, cfg Config) *Service {
	cache, err := lru.New[string, fetched](maxFetched)
	if err != nil {
		panic(err) // only for a size below one
	}
	return &Service{store: store, cfg: cfg, nonces: cfg.Secret.Derive("DPoP nonce v1"), fetched: cache}
}

// Spend uses up what may be used once, or returns ErrReplayed, or the database's error.
func (s *Service) Spend(ctx context.Context, o Once) error {
	fresh, err := s.store.Spend(ctx, o)
	if err == nil && !fresh {
		err = ErrReplayed
	}
	return err
}

// jws is a signed JWT whose signature is yet to be checked.
type jws struct {
	*jose.JSONWebSignature

	header jose.Header
	claims claims // not to be believed before
}

// maxLength bounds what is looked at of a JWT, in bytes.
const maxLength = 16 << 10

// parse reads a JWT in compact form, signed by one of the algorithms.
func parse(text string, algorithms []jose.SignatureAlgorithm) (j jws, err error) {
	if len(text) > maxLength {
		return j, fmt.Errorf("is longer than %d bytes", maxLength)
	}
	if j.JSONWebSignature, err = jose.ParseSignedCompact(text, algorithms); err != nil {
		return j, errors.New("is not a JWT that is signed by an algorithm that is allowed, with a public key at the most in its header")
	}
	j.header = j.Signatures[0].Protected
	if err := json.Unmarshal(j.UnsafePayloadWithoutVerification(), &j.claims); err != nil || j.claims == nil {
		return j, errors.New("is not a JWT: its payload is no JSON object")
	}
	return j, nil
}

// typ is the header typ, if it is text.
func (j *jws) typ() string {
	typ, _ := j.header.ExtraHeaders[jose.HeaderType].(string)
	return typ
}

// verify checks the signature, and that the key is one that is strong enough.
func (j *jws) verify(key *jose.JSONWebKey) bool {
	if clients.CheckKey(key) != nil {
		return false
	}
	_, err := j.Verify(key)
	return err == nil
}

// claims are the claims of a JWT, by their exact names.
type claims map[string]json.RawMessage

func (c claims) has(name string) bool { return len(c[name]) > 0 }

// text returns a claim that is a string, or nothing.
func (c claims) text(name string) string {
	var s string
	if json.Unmarshal(c[name], &s) != nil {
		return ""
	}
	return s
}

// time returns a claim that is a NumericDate (RFC 7519 section 2).
func (c claims) time(name string) (t time.Time, ok bool) {
	var seconds float64
	raw := c[name]
	if len(raw) == 0 || string(raw) == "null" || json.Unmarshal(raw, &seconds) != nil || math.Abs(seconds) > 1<<40 {
		return t, false
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)), true
}

// jti returns the claim that names the JWT, or nothing where there is none that will do.
func (c claims) jti() string {
	if id := c.text("jti"); len(id) <= maxJTI {
		return id
	}
	return ""
}

const maxJTI = 1 << 10 // bytes

// tag is the HMAC-SHA-256 of the message.
func tag(key, message []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(message)
	return mac.Sum(nil)
}
