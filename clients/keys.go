package clients

import (
	"bytes"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// AssertionAlg is what a client assertion is signed with (RFC 7523).
type AssertionAlg string

// AssertionAlgs lists what client assertions may be signed with; fapi2Algs what FAPI 2.0 section 5.4 leaves of it.
var (
	AssertionAlgs = []AssertionAlg{"RS256", "PS256", "ES256", "EdDSA"}
	fapi2Algs     = []AssertionAlg{"PS256", "ES256", "EdDSA"}
)

// AssertionAlgs lists what the client may sign its assertions with.
func (c *Client) AssertionAlgs() []AssertionAlg {
	switch {
	case c.AssertionAlg != "":
		return []AssertionAlg{c.AssertionAlg}
	case c.Profile == FAPI2:
		return fapi2Algs
	default:
		return AssertionAlgs
	}
}

const (
	maxJWKS     = 64 << 10 // bytes
	maxJWKSKeys = 50
)

// The sizes of RSA keys that are accepted, in bits.
const minRSA, maxRSA = 2048, 4096

// CheckKey says what is wrong with a public key that somebody else is to sign with.
func CheckKey(k *jose.JSONWebKey) error {
	if !k.Valid() || !k.IsPublic() {
		return errors.New("is not a public key; private and symmetric ones are nobody else's to know")
	}
	if key, ok := k.Key.(*rsa.PublicKey); ok && (key.N.BitLen() < minRSA || key.N.BitLen() > maxRSA) {
		return fmt.Errorf("is an RSA key of %d bits; %d to %d will do", key.N.BitLen(), minRSA, maxRSA)
	}
	return nil
}

// ParseJWKS reads the public keys of a client (RFC 7517 section 5). Keys of types that are not known are left out; private and symmetric
// ones, and what is too weak, are errors.
func ParseJWKS(text []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil || set.Keys == nil || len(text) > maxJWKS {
		return nil, fmt.Errorf(`must be a JWK Set of at most %d bytes: {"keys": […]}`, maxJWKS)
	}
	if len(set.Keys) > maxJWKSKeys {
		return nil, fmt.Errorf("has %d keys; the most is %d", len(set.Keys), maxJWKSKeys)
	}
	if bytes.ContainsRune(text, 0) || bytes.Contains(text, []byte(`\u0000`)) { // PostgreSQL keeps none
		return nil, errors.New("must hold no NUL character")
	}
	parsed := make([]jose.JSONWebKey, 0, len(set.Keys))
	for i, raw := range set.Keys {
		var secret struct {
			D json.RawMessage `json:"d"`
			K json.RawMessage `json:"k"`
		}
		var key jose.JSONWebKey
		err := json.Unmarshal(raw, &secret)
		if err == nil && (secret.D != nil || secret.K != nil) {
			return nil, fmt.Errorf("key %d is a private or a symmetric one: send the public one, and make new keys, for this one is known now", i+1)
		}
		if err == nil {
			err = json.Unmarshal(raw, &key)
		}
		if errors.Is(err, jose.ErrUnsupportedKeyType) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("key %d cannot be read", i+1)
		}
		if err := CheckKey(&key); err != nil {
			return nil, fmt.Errorf("key %d %w", i+1, err)
		}
		parsed = append(parsed, key)
	}
	return parsed, nil
}

// validateKeys checks how the client proves itself by keys.
func (c *Client) validateKeys() error {
	if !slices.Contains(Profiles, c.Profile) {
		return invalid("profile", "%q is unknown; there is %s alone, or none", c.Profile, FAPI2)
	}
	if len(c.JWKS) > 0 && c.JWKSURI != "" {
		return invalid("jwks", "and jwks_uri are given both: one of them is wanted")
	}
	if len(c.JWKS) > 0 {
		keys, err := ParseJWKS(c.JWKS)
		if err != nil {
			return invalid("jwks", "%v", err)
		}
		if len(keys) == 0 {
			return invalid("jwks", "holds no key that can be used: RSA, EC P-256 and Ed25519 can")
		}
	}
	if c.JWKSURI != "" {
		if problem := checkBackchannelURI(c.JWKSURI); problem != "" {
			return invalid("jwks_uri", "%q %s", c.JWKSURI, problem)
		}
	}
	if c.AssertionAlg != "" && !slices.Contains(AssertionAlgs, c.AssertionAlg) {
		return invalid("token_endpoint_auth_signing_alg", "%q cannot be; allowed: %s", c.AssertionAlg, join(AssertionAlgs))
	}
	if c.RequireDPoP && len(c.BrowserOrigins) > 0 {
		return invalid("browser_origins", "cannot be with dpop_bound_access_tokens, or the profile fapi2, which turns that on: cookies are bound to no key")
	}
	if c.AuthMethod == PrivateKeyJWT && len(c.JWKS) == 0 && c.JWKSURI == "" {
		return invalid("jwks", "or jwks_uri is needed for private_key_jwt: they are what the client proves itself by")
	}
	if c.Profile == FAPI2 {
		return c.validateFAPI2()
	}
	return nil
}

// validateFAPI2 checks what FAPI 2.0 Security Profile sections 5.3.2 and 5.4 ask of a client.
func (c *Client) validateFAPI2() error {
	switch {
	case c.AuthMethod != PrivateKeyJWT:
		return invalid("token_endpoint_auth_method", "must be private_key_jwt with the profile fapi2")
	case c.OptionalPKCE:
		return invalid("require_pkce", "must be true with the profile fapi2")
	case c.May(Password):
		return invalid("grant_types", "password cannot be with the profile fapi2")
	case c.AssertionAlg != "" && !slices.Contains(fapi2Algs, c.AssertionAlg):
		return invalid("token_endpoint_auth_signing_alg", "%q cannot be with the profile fapi2; allowed: %s", c.AssertionAlg, join(fapi2Algs))
	case !slices.Contains(fapi2Algs, AssertionAlg(c.IDTokenAlg)):
		return invalid("id_token_signed_response_alg", "%q cannot be with the profile fapi2; allowed: %s", c.IDTokenAlg, join(fapi2Algs))
	}
	return nil
}
