package keys

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

// ErrWrongSecret says that a signing key in the database does not open under SIGNET_SECRET.
var ErrWrongSecret = errors.New("SIGNET_SECRET does not open the signing keys in this database: " +
	"set the secret that they were sealed under, or NEW,OLD to change it")

// errUnknownKey says that a token names a key that the ring does not hold.
var errUnknownKey = errors.New("unknown signing key")

// maxTokenLength bounds what Verify looks at, in bytes; an access token of Signet is a fraction of it.
const maxTokenLength = 16 << 10

// tokenType is the JOSE typ of an access token (RFC 9068 section 2.1).
const tokenType = "at+jwt"

// ring is a parsed, immutable set of signing keys: one of each algorithm signs, all verify.
type ring struct {
	access  ringKey // that access tokens are signed with
	current map[Algorithm]ringKey
	byID    map[string]ringKey
	jwks    []byte
	stale   []Key // rows that are sealed under the older value of SIGNET_SECRET, sealed anew
}

type ringKey struct {
	Key
	material
	method    jwt.SigningMethod
	header    string // the encoded JOSE header of access tokens that this key signs, with the dot behind it
	published bool   // it may have signed an access token that is good still
}

// headerOf is the encoded JOSE header of a token of that type, with the dot behind it.
func (k *ringKey) headerOf(typ string) string {
	header, err := json.Marshal(map[string]string{"alg": string(k.Algorithm), "kid": k.ID, "typ": typ})
	if err != nil {
		panic(err) // strings never fail
	}
	return base64.RawURLEncoding.EncodeToString(header) + "."
}

// errNoCurrent says that access tokens have no key yet.
var errNoCurrent = errors.New("the database holds no current signing key")

// newRing opens and parses every key once. The rows must hold a current key.
func (s *Service) newRing(rows []Key, now time.Time) (*ring, error) {
	r := &ring{byID: make(map[string]ringKey, len(rows)), current: map[Algorithm]ringKey{}}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, row := range rows {
		private, old, err := s.sealer.Open(row.Sealed, row.identity())
		if err != nil {
			return nil, ErrWrongSecret
		}
		if old {
			anew := row
			anew.Sealed = s.sealer.Seal(private, row.identity())
			r.stale = append(r.stale, anew)
		}
		m, err := parse(row.Algorithm, private)
		if err != nil {
			return nil, fmt.Errorf("signing key %s: %w", row.ID, err)
		}
		k := ringKey{
			Key: row, material: m, method: row.Algorithm.method(),
			published: s.published(row, now),
		}
		k.header = k.headerOf(tokenType)
		r.byID[row.ID] = k
		if row.State() == Current {
			r.current[row.Algorithm] = k
		}
		if row.Algorithm != HS256 && k.published { // a shared secret is nobody else's to read
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: m.verify, KeyID: row.ID, Algorithm: string(row.Algorithm), Use: "sig"})
		}
	}
	var ok bool
	if r.access, ok = r.accessKey(s.cfg.Algorithm, s.ring.Load()); !ok {
		return nil, errNoCurrent
	}
	var err error
	r.jwks, err = json.Marshal(set)
	return r, err
}

// accessKey returns the key for access tokens: that of the configured algorithm. It has none once another replica was started with
// another algorithm, whose key is then the youngest of those that sign; from there on, that of the algorithm that before has gone over to.
func (r *ring) accessKey(configured Algorithm, before *ring) (k ringKey, ok bool) {
	if k, ok = r.current[configured]; !ok && before != nil {
		k, ok = r.current[before.access.Algorithm]
	}
	if ok {
		return k, true
	}
	for _, other := range r.current {
		if !ok || other.ActiveFrom.After(k.ActiveFrom) {
			k, ok = other, true
		}
	}
	return k, ok
}

// sign returns the JWT of the claims in compact form.
func (k *ringKey) sign(header string, claims any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	token := make([]byte, 0, len(header)+base64.RawURLEncoding.EncodedLen(len(payload))+1+base64.RawURLEncoding.EncodedLen(256))
	token = append(token, header...)
	token = base64.RawURLEncoding.AppendEncode(token, payload)
	signature, err := k.method.Sign(string(token), k.private)
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

// verify checks the signature and type of a token, fills claims from it, and returns the id of the key that signed it.
// The algorithm is the key's own; the token's header has to agree with it.
func (r *ring) verify(token, typ string, claims jwt.Claims) (kid string, err error) {
	// The length comes first: nothing long is worth decoding. And decoders skip line breaks, which no token has.
	if len(token) > maxTokenLength || strings.Count(token, ".") != 2 || strings.ContainsAny(token, "\r\n") {
		return "", jwt.ErrTokenMalformed
	}
	_, err = parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		kid, _ = t.Header["kid"].(string)
		k, ok := r.byID[kid]
		if !ok {
			return nil, errUnknownKey
		}
		said, _ := t.Header["typ"].(string)
		_, critical := t.Header["crit"]
		if k.Algorithm == HS256 && typ != tokenType {
			return nil, jwt.ErrTokenUnverifiable // whoever checks access tokens could have made it
		}
		if critical || t.Method.Alg() != string(k.Algorithm) || !strings.EqualFold(said, typ) || typ == tokenType && !k.published {
			return nil, jwt.ErrTokenUnverifiable
		}
		return k.verify, nil
	})
	return kid, err
}
