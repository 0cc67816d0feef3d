package keys

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

// ErrWrongSecret says that a signing key in the database does not open under SIGNET_SECRET.
var ErrWrongSecret = errors.New("SIGNET_SECRET does not open the signing keys in this database: " +
	"set the secret that they were sealed under, or NEW,OLD to change it")

// errUnknownKey says that a token names a key that the ring does not hold.
var errUnknownKey = errors.New("unknown signing key")

// MaxTokenLength bounds what Verify looks at, in bytes; an access token of Signet is a fraction of it.
const MaxTokenLength = 16 << 10

// tokenType is the JOSE typ of an access token (RFC 9068 section 2.1).
const tokenType = "at+jwt"

// ring is a parsed, immutable set of signing keys: one signs, all verify.
type ring struct {
	current ringKey
	byID    map[string]ringKey
	jwks    []byte
	stale   []Key // rows that are sealed under the older value of SIGNET_SECRET, sealed anew
}

type ringKey struct {
	Key
	material
	method jwt.SigningMethod
	header string // the encoded JOSE header of every token that this key signs, with the dot behind it
}

// newRing opens and parses every key once. The rows must hold a current key.
func newRing(rows []Key, s Sealer) (*ring, error) {
	r := &ring{byID: make(map[string]ringKey, len(rows))}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, row := range rows {
		private, old, err := s.Open(row.Sealed, row.identity())
		if err != nil {
			return nil, ErrWrongSecret
		}
		if old {
			anew := row
			anew.Sealed = s.Seal(private, row.identity())
			r.stale = append(r.stale, anew)
		}
		m, err := parse(row.Algorithm, private)
		if err != nil {
			return nil, fmt.Errorf("signing key %s: %w", row.ID, err)
		}
		header, err := json.Marshal(map[string]string{"alg": string(row.Algorithm), "kid": row.ID, "typ": tokenType})
		if err != nil {
			return nil, err
		}
		k := ringKey{
			Key: row, material: m, method: row.Algorithm.method(),
			header: base64.RawURLEncoding.EncodeToString(header) + ".",
		}
		r.byID[row.ID] = k
		if row.State() == Current {
			r.current = k
		}
		if row.Algorithm != HS256 { // a shared secret is nobody else's to read
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: m.verify, KeyID: row.ID, Algorithm: string(row.Algorithm), Use: "sig"})
		}
	}
	if r.current.method == nil {
		return nil, errors.New("the database holds no current signing key")
	}
	var err error
	r.jwks, err = json.Marshal(set)
	return r, err
}

// sign returns the JWT of the claims in compact form.
func (r *ring) sign(claims any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	k := r.current
	token := make([]byte, 0, len(k.header)+base64.RawURLEncoding.EncodedLen(len(payload))+1+base64.RawURLEncoding.EncodedLen(256))
	token = append(token, k.header...)
	token = base64.RawURLEncoding.AppendEncode(token, payload)
	signature, err := k.method.Sign(string(token), k.sign)
	if err != nil {
		return "", err
	}
	token = append(token, '.')
	token = base64.RawURLEncoding.AppendEncode(token, signature)
	return string(token), nil
}

// parser leaves the claims to the caller, who judges them by the database's clock; Verify has the signature checked first.
var parser = jwt.NewParser(
	jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation(),
	jwt.WithValidMethods([]string{string(ES256), string(RS256), string(PS256), string(EdDSA), string(HS256)}),
)

// verify checks the signature and type of an access token, fills claims from it, and returns the id of the key that signed it.
// The algorithm is the key's own; the token's header has to agree with it.
func (r *ring) verify(token string, claims jwt.Claims) (kid string, err error) {
	// The length comes first: nothing long is worth decoding. And decoders skip line breaks, which no token has.
	if len(token) > MaxTokenLength || strings.Count(token, ".") != 2 || strings.ContainsAny(token, "\r\n") {
		return "", jwt.ErrTokenMalformed
	}
	_, err = parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		kid, _ = t.Header["kid"].(string)
		k, ok := r.byID[kid]
		if !ok {
			return nil, errUnknownKey
		}
		typ, _ := t.Header["typ"].(string)
		if _, critical := t.Header["crit"]; critical || t.Method.Alg() != string(k.Algorithm) || !strings.EqualFold(typ, tokenType) {
			return nil, jwt.ErrTokenUnverifiable
		}
		return k.verify, nil
	})
	return kid, err
}
