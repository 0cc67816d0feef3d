package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Algorithm is a JWS algorithm (RFC 7518, RFC 8037) that tokens may be signed with.
type Algorithm string

// The algorithms that Signet signs with.
const (
	ES256 Algorithm = "ES256"
	RS256 Algorithm = "RS256"
	PS256 Algorithm = "PS256"
	EdDSA Algorithm = "EdDSA"
	HS256 Algorithm = "HS256"
)

// Algorithms lists what ParseAlgorithm accepts, the default first.
var Algorithms = []Algorithm{ES256, RS256, PS256, EdDSA, HS256}

// MinSigningSecret is the least length of the shared secret of HS256, in bytes (RFC 7518 section 3.2).
const MinSigningSecret = 32

// ParseAlgorithm returns the algorithm of that exact name.
func ParseAlgorithm(s string) (Algorithm, error) {
	if a := Algorithm(s); slices.Contains(Algorithms, a) {
		return a, nil
	}
	names := make([]string, len(Algorithms))
	for i, a := range Algorithms {
		names[i] = string(a)
	}
	return "", fmt.Errorf("%q is not a signing algorithm; allowed: %s", s, strings.Join(names, ", "))
}

// method is the implementation of the algorithm.
func (a Algorithm) method() jwt.SigningMethod {
	if a == ES256 {
		return es256{jwt.SigningMethodES256}
	}
	return jwt.GetSigningMethod(string(a))
}

// State is where a signing key is in its life.
type State string

// A key is published as the next one long before it signs, signs as the current one, and is published on as a retired
// one until the last token that it signed has expired.
const (
	Next    State = "next"
	Current State = "current"
	Retired State = "retired"
)

// Key is a signing key as the database holds it. Times are the database's, zero where they have not come.
type Key struct {
	ID         string // the kid
	Algorithm  Algorithm
	Sealed     []byte // the private key, or HS256's secret, encrypted under SIGNET_SECRET
	CreatedAt  time.Time
	ActiveFrom time.Time
	RetiredAt  time.Time
	TokenTTL   time.Duration // the longest life of an access token that it may have signed; 0: not written down yet
}

// MarshalJSON writes what may be told of the key. Times that have not come are left out.
func (k Key) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		ID         string    `json:"kid"`
		Algorithm  Algorithm `json:"alg"`
		State      State     `json:"state"`
		CreatedAt  time.Time `json:"created_at"`
		ActiveFrom time.Time `json:"active_from,omitzero"`
		RetiredAt  time.Time `json:"retired_at,omitzero"`
	}{k.ID, k.Algorithm, k.State(), k.CreatedAt, k.ActiveFrom, k.RetiredAt})
}

// State tells where the key is in its life.
func (k Key) State() State {
	switch {
	case !k.RetiredAt.IsZero():
		return Retired
	case !k.ActiveFrom.IsZero():
		return Current
	default:
		return Next
	}
}

// sealLabel is that of the key that private keys are sealed under.
const sealLabel = "signing key encryption v1"

// identity binds a sealed private key to its row.
func (k Key) identity() string { return "signing_keys/" + k.ID + "/" + string(k.Algorithm) }

const rsaBits = 2048

// generate makes a key of the algorithm, sealed. HS256 has no key to make: its secret comes from the configuration.
func generate(a Algorithm, s Sealer) (Key, error) {
	var private crypto.PrivateKey
	var err error
	switch a {
	case ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RS256, PS256:
		private, err = rsa.GenerateKey(rand.Reader, rsaBits)
	case EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	case HS256:
		err = errors.New("an HS256 secret is configured, not generated")
	default:
		err = fmt.Errorf("unknown algorithm %q", a)
	}
	if err != nil {
		return Key{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return Key{}, err
	}
	return sealKey(a, der, s), nil
}

// sealKey makes the row of a new key from its private part.
func sealKey(a Algorithm, private []byte, s Sealer) Key {
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	id[0] &= 0x7f // else the text could begin with -, as flags of commands do
	k := Key{ID: base64.RawURLEncoding.EncodeToString(id), Algorithm: a}
	k.Sealed = s.Seal(private, k.identity())
	return k
}

// material is what golang-jwt wants to sign and to verify with.
type material struct {
	private, verify any
}

// parse turns the private part of a key, unsealed, into what signs and verifies.
func parse(a Algorithm, private []byte) (material, error) {
	if a == HS256 {
		return material{private: private, verify: private}, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(private)
	if err != nil {
		return material{}, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return material{}, fmt.Errorf("a %T cannot sign", key)
	}
	return material{private: key, verify: signer.Public()}, nil
}
