package server_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"signet/keys"
)

func segment(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	check(t, err)
	return b
}

// decode reads a JWT without a look at its signature.
func decode(t testing.TB, token string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("not a JWT in compact form: %q", token)
	}
	check(t, json.Unmarshal(segment(t, parts[0]), &header))
	check(t, json.Unmarshal(segment(t, parts[1]), &claims))
	return header, claims
}

// encode makes a JWT in compact form with the signature that sign makes.
func encode(t testing.TB, header, claims any, sign func(input string) []byte) string {
	t.Helper()
	h, err := json.Marshal(header)
	check(t, err)
	c, err := json.Marshal(claims)
	check(t, err)
	input := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(c)
	return input + "." + base64.RawURLEncoding.EncodeToString(sign(input))
}

func hs256(secret []byte) func(string) []byte {
	return func(input string) []byte {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(input))
		return mac.Sum(nil)
	}
}

// jwks returns the published keys by their kid.
func (r *replica) jwks(t testing.TB) map[string]map[string]any {
	t.Helper()
	a := r.get(t, "/.well-known/jwks.json")
	var set struct{ Keys []map[string]any }
	check(t, json.Unmarshal([]byte(a.body), &set))
	byID := map[string]map[string]any{}
	for _, k := range set.Keys {
		byID[k["kid"].(string)] = k
	}
	if len(byID) != len(set.Keys) {
		t.Errorf("a kid is there twice: %s", a.body)
	}
	return byID
}

// wantHeader checks the JOSE header: these members alone, and a kid that is published.
func wantHeader(t testing.TB, r *replica, header map[string]any, alg keys.Algorithm) {
	t.Helper()
	kid, _ := header["kid"].(string)
	equal(t, "header", header, map[string]any{"typ": "at+jwt", "alg": string(alg), "kid": kid})
	if published := r.jwks(t)[kid] != nil; published != (alg != keys.HS256) || kid == "" {
		t.Errorf("the kid %q of a %s key is in the JWKS: %v", kid, alg, published)
	}
}

// wantTimes checks exp and iat and takes them out of the claims.
func wantTimes(t testing.TB, claims map[string]any, notBefore int64, ttl float64) {
	t.Helper()
	iat, _ := claims["iat"].(float64)
	exp, _ := claims["exp"].(float64)
	if iat < float64(notBefore-1) || iat > float64(notBefore+30) || iat != float64(int64(iat)) {
		t.Errorf("iat is %v, which is not now, in whole seconds", claims["iat"])
	}
	if exp != iat+ttl {
		t.Errorf("exp is %v, want %v after iat", claims["exp"], ttl)
	}
	delete(claims, "iat")
	delete(claims, "exp")
}

// unique checks that a claim is there, and takes it out.
func unique(t testing.TB, claims map[string]any, name string) {
	t.Helper()
	if s, _ := claims[name].(string); len(s) < 16 {
		t.Errorf("%s is %v, which can hardly be unique", name, claims[name])
	}
	delete(claims, name)
}

// verified tells whether the signature of the token is that of the published key, as a resource server would find out.
func verified(t testing.TB, jwk map[string]any, token string) bool {
	t.Helper()
	last := strings.LastIndexByte(token, '.')
	input, signature := []byte(token[:last]), segment(t, token[last+1:])
	field := func(name string) []byte { return segment(t, jwk[name].(string)) }
	number := func(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
	sum := sha256.Sum256(input)
	switch jwk["alg"] {
	case "ES256":
		k := ecdsa.PublicKey{Curve: elliptic.P256(), X: number(field("x")), Y: number(field("y"))}
		return len(signature) == 64 && ecdsa.Verify(&k, sum[:], number(signature[:32]), number(signature[32:]))
	case "RS256", "PS256":
		k := rsa.PublicKey{N: number(field("n")), E: int(number(field("e")).Int64())}
		if jwk["alg"] == "RS256" {
			return rsa.VerifyPKCS1v15(&k, crypto.SHA256, sum[:], signature) == nil
		}
		return rsa.VerifyPSS(&k, crypto.SHA256, sum[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	case "EdDSA":
		return ed25519.Verify(field("x"), input, signature)
	default:
		t.Errorf("a key of algorithm %v is published", jwk["alg"])
		return false
	}
}

const signingSecret = "a shared secret of more than thirty-two bytes"

func withHS256(s *settings) { s.alg, s.signingSecret = keys.HS256, signingSecret }

func TestAlgorithms(t *testing.T) {
	t.Parallel()
	for _, alg := range keys.Algorithms {
		t.Run(string(alg), func(t *testing.T) {
			each(t, func(t *testing.T, r *replica) {
				c := r.app(t, "app")
				token := r.token(t, c, "grant_type", "client_credentials").issued(t).text("access_token")
				header, _ := decode(t, token)
				wantHeader(t, r, header, alg)
				r.alive(t, "a token of this algorithm", c, token)
				if alg == keys.HS256 {
					last := strings.LastIndexByte(token, '.')
					if got, want := segment(t, token[last+1:]), hs256([]byte(signingSecret))(token[:last]); !hmac.Equal(got, want) {
						t.Error("the signature is not that of the bytes of the secret's text")
					}
					return
				}
				if !verified(t, r.jwks(t)[header["kid"].(string)], token) {
					t.Error("the published key does not verify the token")
				}
			}, func(s *settings) { s.alg, s.signingSecret = alg, signingSecret })
		})
	}
}

func TestJWKS(t *testing.T) {
	fields := map[keys.Algorithm][]string{
		keys.ES256: {"kty", "crv", "x", "y"}, keys.RS256: {"kty", "n", "e"}, keys.PS256: {"kty", "n", "e"}, keys.EdDSA: {"kty", "crv", "x"},
		keys.HS256: nil,
	}
	t.Parallel()
	for alg, names := range fields {
		t.Run(string(alg), func(t *testing.T) {
			each(t, func(t *testing.T, r *replica) {
				a := r.get(t, "/.well-known/jwks.json").want(t, http.StatusOK, "")
				if got := a.header.Get("Content-Type"); !strings.Contains(got, "json") {
					t.Errorf("Content-Type is %q", got)
				}
				published := r.jwks(t)
				if alg == keys.HS256 {
					if a.body != `{"keys":[]}` {
						t.Errorf("a shared secret is nobody's to read: %s", a.body)
					}
					return
				}
				if len(published) != 2 {
					t.Errorf("%d keys are published, want the current and the next", len(published))
				}
				for _, k := range published {
					if k["alg"] != string(alg) || k["use"] != "sig" {
						t.Errorf("alg %v, use %v", k["alg"], k["use"])
					}
					for _, name := range names[1:] {
						if name != "crv" {
							segment(t, k[name].(string)) // fails for padding
						}
					}
					if len(k) != 3+len(names) {
						t.Errorf("members %v, want kid, alg, use and %v alone", k, names)
					}
				}
			}, func(s *settings) { s.alg, s.signingSecret = alg, signingSecret })
		})
	}
}

// A token whose key was taken out of use is dead, however often it was found good before.
func TestKeyOutOfUse(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		app := r.app(t, "app")
		token := r.login(t, app, r.user(t, "alice")).AccessToken
		kid := currentKey(t, r)
		_, err := r.keys.Rotate(t.Context(), origin)
		check(t, err)
		r.alive(t, "its key is retired", app, token)
		_, err = r.store.DeleteRetiredKeys(t.Context(), -time.Hour)
		check(t, err)
		check(t, r.keys.Load(t.Context()))
		if currentKey(t, r) == kid || r.keys.Holds(kid) {
			t.Fatal("the key is still there")
		}
		r.dead(t, "its key is gone", app, token)
	})
}

func currentKey(t *testing.T, r *replica) string {
	t.Helper()
	list, err := r.keys.List(t.Context())
	check(t, err)
	for _, k := range list {
		if k.State() == keys.Current {
			return k.ID
		}
	}
	t.Fatal("there is no current key")
	return ""
}
