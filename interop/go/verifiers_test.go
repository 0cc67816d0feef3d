package interop

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

// verifier checks an access token, and returns its subject.
type verifier func(raw string) (subject string, err error)

// libraries makes a verifier of each library, for an API at the audience.
var libraries = map[string]func(t *testing.T, issuer, algorithm string) verifier{
	"keyfunc": func(t *testing.T, issuer, algorithm string) verifier {
		keys, err := keyfunc.NewDefaultCtx(t.Context(), []string{issuer + "/.well-known/jwks.json"})
		check(t, err)
		return func(raw string) (string, error) {
			var claims jwt.RegisteredClaims
			token, err := jwt.ParseWithClaims(raw, &claims, keys.Keyfunc, jwt.WithValidMethods([]string{algorithm}),
				jwt.WithIssuer(issuer), jwt.WithAudience(audience), jwt.WithExpirationRequired())
			if err != nil {
				return "", err
			}
			if token.Header["typ"] != "at+jwt" {
				return "", errors.New("not an access token")
			}
			return claims.Subject, nil
		}
	},
	"go-oidc": func(t *testing.T, issuer, algorithm string) verifier {
		ctx := t.Context()
		keys := oidc.NewRemoteKeySet(ctx, issuer+"/.well-known/jwks.json")
		access := oidc.NewVerifier(issuer, keys, &oidc.Config{ClientID: audience, SupportedSigningAlgs: []string{algorithm}})
		return func(raw string) (string, error) {
			token, err := access.Verify(ctx, raw)
			if err != nil {
				return "", err
			}
			parsed, err := jose.ParseSigned(raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(algorithm)})
			if err != nil || parsed.Signatures[0].Protected.ExtraHeaders["typ"] != "at+jwt" {
				return "", errors.New("not an access token")
			}
			return token.Subject, nil
		}
	},
	// The key set alone: only the signature is its business.
	"go-oidc's RemoteKeySet": func(t *testing.T, issuer, _ string) verifier {
		keys := oidc.NewRemoteKeySet(t.Context(), issuer+"/.well-known/jwks.json")
		return func(raw string) (string, error) {
			payload, err := keys.VerifySignature(context.Background(), raw)
			if err != nil {
				return "", err
			}
			var claims jwt.RegisteredClaims
			if err := json.Unmarshal(payload, &claims); err != nil {
				return "", err
			}
			return claims.Subject, jwt.NewValidator(jwt.WithIssuer(issuer), jwt.WithAudience(audience), jwt.WithExpirationRequired()).Validate(claims)
		}
	},
}

func TestVerifiers(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"ES256", "RS256", "PS256", "EdDSA"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			s := start(t, algorithm)
			good := s.login(t, audience)
			subject := claims(t, good)["sub"]
			if header(t, good)["alg"] != algorithm || subject == "" {
				t.Fatalf("the token is %v %v", header(t, good), claims(t, good))
			}
			time.Sleep(time.Until(time.Unix(int64(claims(t, s.expired)["exp"].(float64)), 0).Add(time.Second)))

			verify := map[string]verifier{}
			for _, name := range slices.Sorted(maps.Keys(libraries)) {
				verify[name] = libraries[name](t, s.url, algorithm)
			}
			accepted := func(what, token string) {
				t.Helper()
				for name, verify := range verify {
					if sub, err := verify(token); err != nil || sub != subject {
						t.Errorf("%s, %s: %q, %v", name, what, sub, err)
					}
				}
			}
			refused := func(what, token string) {
				t.Helper()
				for name, verify := range verify {
					if sub, err := verify(token); err == nil {
						t.Errorf("%s accepts %s, of %q", name, what, sub)
					}
				}
			}
			accepted("a good token", good)
			accepted("a token of two audiences", s.login(t, ""))
			refused("a token for another audience", s.login(t, other))
			refused("an expired token", s.expired)
			refused("a tampered token", tampered(t, good))
			refused("an unsigned token", unsigned(t, good))
			refused("a token of nobody, without a signature", encode(t, map[string]string{"alg": algorithm, "typ": "at+jwt"})+".e30.")
			refused("no token at all", "opaque")

			// The first new key was in the set when the verifiers read it. The second one they have to look for.
			for _, what := range []string{"after a key rotation", "after another one"} {
				accepted(what, s.rotate(t))
				accepted("an old token "+what, good)
				refused("a tampered token "+what, tampered(t, good))
			}
		})
	}
}

// part decodes the header or the payload of a token.
func part(t *testing.T, token string, i int) (v map[string]any) {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[i])
	check(t, err)
	check(t, json.Unmarshal(raw, &v))
	return v
}

func header(t *testing.T, token string) map[string]any { t.Helper(); return part(t, token, 0) }
func claims(t *testing.T, token string) map[string]any { t.Helper(); return part(t, token, 1) }

func encode(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	check(t, err)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// tampered is the token with a wider scope and the old signature.
func tampered(t *testing.T, token string) string {
	t.Helper()
	parts := strings.Split(token, ".")
	payload := claims(t, token)
	payload["scope"] = "read write admin"
	return parts[0] + "." + encode(t, payload) + "." + parts[2]
}

// unsigned is the token without a signature, and an algorithm that says so.
func unsigned(t *testing.T, token string) string {
	t.Helper()
	h := header(t, token)
	h["alg"] = "none"
	return encode(t, h) + "." + strings.Split(token, ".")[1] + "."
}
