package proofs

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"signet/clients"
)

// AssertionType is the client_assertion_type of a JWT (RFC 7523 section 2.2).
const AssertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

const (
	maxAssertionTTL = 5 * time.Minute
	leeway          = 10 * time.Second // of clocks that are ahead

	// maxTried bounds the keys that an assertion is checked with: each takes as long as hundreds of other requests. Who has more says by
	// the kid which it is (OpenID Connect Core section 10.1).
	maxTried = 4
)

// ErrAssertion says that a client assertion proves nothing; what is wrong with it follows.
var ErrAssertion = errors.New("the client assertion")

func badAssertion(format string, args ...any) error {
	return fmt.Errorf("%w %s", ErrAssertion, fmt.Sprintf(format, args...))
}

// Assertion is a client assertion that is not believed yet.
type Assertion struct {
	jws jws
}

// ClientID is the client that the assertion says it is from.
func (a Assertion) ClientID() string { return a.jws.claims.text("sub") }

// ParseAssertion reads a client assertion without believing it. It returns ErrAssertion.
func ParseAssertion(text string) (Assertion, error) {
	j, err := parse(text, algorithms(clients.AssertionAlgs))
	if err != nil {
		return Assertion{}, badAssertion("%v", err)
	}
	for _, name := range []jose.HeaderKey{"jku", "x5u", "x5c"} {
		if _, has := j.header.ExtraHeaders[name]; has {
			return Assertion{}, badAssertion("has a key in its header; the client's keys are those that it is registered with")
		}
	}
	typ := strings.ToLower(j.typ())
	switch {
	case j.header.JSONWebKey != nil:
		return Assertion{}, badAssertion("has a key in its header; the client's keys are those that it is registered with")
	case typ != "" && typ != "jwt" && typ != "client-authentication+jwt":
		return Assertion{}, badAssertion("is a JWT of another type")
	case j.claims.text("sub") == "" || j.claims.text("iss") != j.claims.text("sub"):
		return Assertion{}, badAssertion("needs the client_id as its iss and its sub")
	}
	return Assertion{j}, nil
}

// algorithms are the names as go-jose has them.
func algorithms[T ~string](list []T) []jose.SignatureAlgorithm {
	names := make([]jose.SignatureAlgorithm, len(list))
	for i, a := range list {
		names[i] = jose.SignatureAlgorithm(a)
	}
	return names
}

// Check tells whether the assertion proves that the client is who calls the endpoint at that path (RFC 7523 section 3), and uses it up.
// It returns ErrAssertion, or the database's error.
func (s *Service) Check(ctx context.Context, a Assertion, c *clients.Client, path string) error {
	if ok, err := s.signed(ctx, a, c); err != nil || !ok {
		if err != nil {
			return badAssertion("cannot be checked: %v", err)
		}
		return badAssertion("is not signed by a key of the client, with an algorithm that is allowed to it; of more than %d keys it has to name one, by kid", maxTried)
	}
	claims := a.jws.claims
	audience := []string{s.cfg.Issuer}
	if c.Profile != clients.FAPI2 {
		audience = append(audience, s.cfg.Issuer+path, s.cfg.Issuer+"/token") // RFC 9126 section 2: that one as well
	}
	now := time.Now()
	expires, ok := claims.time("exp")
	switch {
	case claims.text("sub") != c.ID:
		return badAssertion("is another client's")
	case !slices.Contains(audience, claims.text("aud")):
		return badAssertion("is not for this server: its aud has to be the issuer, as a plain string")
	case !ok || !expires.After(now):
		return badAssertion("has expired, or has no exp")
	case expires.After(now.Add(maxAssertionTTL + leeway)):
		return badAssertion("is good for longer than %s", maxAssertionTTL)
	case claims.jti() == "":
		return badAssertion("has no jti, or one longer than %d bytes", maxJTI)
	}
	for _, name := range []string{"iat", "nbf"} {
		if at, ok := claims.time(name); claims.has(name) && (!ok || at.After(now.Add(leeway))) {
			return badAssertion("is from the future (%s)", name)
		}
	}
	fresh, err := s.store.Spend(ctx, newOnce(expires.Sub(now)+time.Minute, "client assertion", c.ID, claims.jti()))
	if err == nil && !fresh {
		err = badAssertion("was used before: each request needs one of its own (jti)")
	}
	return err
}

// signed tells whether one of the client's keys made the signature.
func (s *Service) signed(ctx context.Context, a Assertion, c *clients.Client) (bool, error) {
	alg := clients.AssertionAlg(a.jws.header.Algorithm)
	if !slices.Contains(c.AssertionAlgs(), alg) {
		return false, nil
	}
	try := func(set []jose.JSONWebKey) (known, signed bool) {
		tried := 0
		for i := range set {
			k := &set[i]
			if kid := a.jws.header.KeyID; kid != "" && k.KeyID != kid {
				continue
			}
			known = true
			if !fits(k, alg) {
				continue
			}
			if a.jws.verify(k) {
				return true, true
			}
			if tried++; tried == maxTried {
				break
			}
		}
		return known, false
	}
	if c.JWKSURI == "" {
		set, err := clients.ParseJWKS(c.JWKS)
		_, signed := try(set)
		return signed, err
	}
	set, err := s.fetch(ctx, c.JWKSURI, false)
	if err != nil {
		return false, err
	}
	known, signed := try(set)
	if !known {
		if set, err = s.fetch(ctx, c.JWKSURI, true); err != nil {
			return false, err
		}
		_, signed = try(set)
	}
	return signed, nil
}

// fits tells whether signatures of the algorithm can be made by the key, as it says itself, and by its type.
func fits(k *jose.JSONWebKey, alg clients.AssertionAlg) bool {
	if k.Algorithm != "" && k.Algorithm != string(alg) || k.Use != "" && k.Use != "sig" {
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		return alg == "RS256" || alg == "PS256"
	case *ecdsa.PublicKey:
		return alg == "ES256" && key.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}
