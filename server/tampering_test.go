package server_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"signet/keys"
	"signet/proofs"
	"signet/tokens"
)

// mutilations returns every prefix of the token, and the token with every bit of every byte flipped in turn.
func mutilations(token string, bits int) []string {
	list := []string{token[:len(token)-4] + "\r\n" + token[len(token)-4:], token + "A", token + "=", token + ".", " " + token, token + "\n", strings.ToUpper(token), token + token}
	for i := range token {
		list = append(list, token[:i])
		for bit := range bits {
			b := []byte(token)
			b[i] ^= 1 << ((bit + i) % 8)
			list = append(list, string(b))
		}
	}
	return list
}

// Nothing that is not exactly a token is one, and nothing happens to the session whose token it resembles.
func TestMutilatedTokens(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		c := r.app(t, "app")
		issued := r.login(t, c, r.user(t, "alice"))
		clientToken := r.token(t, c, "grant_type", "client_credentials").issued(t).text("access_token")
		before := [...]int64{b.Int(t, `SELECT count(*) FROM audit_events`), b.Int(t, `SELECT max(sequence) FROM sessions`)}

		var all []string
		all = append(all, mutilations(issued.RefreshToken, 8)...)
		all = append(all, mutilations(issued.AccessToken, 1)...)
		all = append(all, mutilations(clientToken, 1)...)
		for i, token := range all {
			if token == "" {
				continue
			}
			got, err := r.tokens.Introspect(t.Context(), c, token)
			if err != nil || got.Active {
				t.Errorf("introspection of %q: %+v, %v", token, got, err)
				continue
			}
			if _, outcome, err := r.tokens.Refresh(t.Context(), c, token, nil, nil, proofs.Key{}, origin); outcome != tokens.Rejected || !errors.Is(err, tokens.ErrInvalidGrant) {
				t.Errorf("refresh by %q: %s, %v", token, outcome, err)
			}
			if err := r.tokens.Revoke(t.Context(), c, token, origin); err != nil {
				t.Errorf("revocation of %q: %v", token, err)
			}
			if i%50 == 0 && utf8.ValidString(token) { // what is no text is refused with its form
				r.dead(t, "over HTTP", c, token)
				r.refresh(t, c, token).want(t, http.StatusBadRequest, "invalid_grant")
				isRevoked(t, r.revoke(t, c, token))
			}
		}
		after := [...]int64{b.Int(t, `SELECT count(*) FROM audit_events`), b.Int(t, `SELECT max(sequence) FROM sessions`)}
		if before != after {
			t.Errorf("something changed: events and sequence were %v and are %v", before, after)
		}
		r.alive(t, "the access token", c, issued.AccessToken)
		r.alive(t, "the client's token", c, clientToken)
		r.refresh(t, c, issued.RefreshToken).issued(t)
	})
}

// Tokens whose signature is good, by the shared secret, are good only if every claim is.
func TestForgedClaims(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, rs := r.app(t, "app", audience(api)), r.app(t, "rs", resourceServer(api))
		second := r.app(t, "second", audience(api))
		alice, bob := r.user(t, "alice"), r.user(t, "bob")
		header, claims := decode(t, r.login(t, c, alice).AccessToken)
		_, ofBob := decode(t, r.login(t, c, bob).AccessToken)
		_, ofSecond := decode(t, r.login(t, second, alice).AccessToken)
		now := time.Now().Unix()
		sign := hs256([]byte(signingSecret))
		with := func(m map[string]any, pairs ...any) map[string]any {
			m = maps.Clone(m)
			for i := 0; i < len(pairs); i += 2 {
				if m[pairs[i].(string)] = pairs[i+1]; pairs[i+1] == nil {
					delete(m, pairs[i].(string))
				}
			}
			return m
		}
		forge := func(pairs ...any) string { return encode(t, header, with(claims, pairs...), sign) }
		forgeHeader := func(pairs ...any) string { return encode(t, with(header, pairs...), claims, sign) }

		r.alive(t, "all claims right", rs, forge())
		r.alive(t, "two audiences, one of them the caller's", rs, forge("aud", []string{"https://other.example.com", api}))
		r.alive(t, "a jti of its own", rs, forge("jti", "something else that is unique"))

		input := encode(t, header, claims, func(string) []byte { return nil })
		other := encode(t, map[string]string{"alg": "RS256", "kid": header["kid"].(string), "typ": "at+jwt"}, claims, hs256([]byte("x")))
		for name, token := range map[string]string{
			"iss dropped":                  forge("iss", nil),
			"iss foreign":                  forge("iss", "https://evil.example.com"),
			"iss with a slash":             forge("iss", issuer+"/"),
			"iss in other letters":         forge("iss", strings.ToUpper(issuer)),
			"iss a list":                   forge("iss", []string{issuer}),
			"sub dropped":                  forge("sub", nil),
			"sub another user's":           forge("sub", bob.ID),
			"sub of nobody":                forge("sub", uuid.NewString()),
			"sub not an id":                forge("sub", "alice"),
			"sub with a NUL":               forge("sub", "a\x00"),
			"sub the client's":             forge("sub", "app"),
			"aud dropped":                  forge("aud", nil),
			"aud empty":                    forge("aud", []string{}),
			"aud null in a list":           forge("aud", []any{nil}),
			"aud foreign":                  forge("aud", "https://other.example.com"),
			"aud that begins like it":      forge("aud", api+"/v1"),
			"aud a number":                 forge("aud", 1),
			"exp dropped":                  forge("exp", nil),
			"exp zero":                     forge("exp", 0),
			"exp a moment ago":             forge("exp", now-1, "iat", now-901),
			"exp long ago":                 forge("exp", now-86400, "iat", now-90000),
			"exp before iat":               forge("exp", now+60, "iat", now+120),
			"exp a string":                 forge("exp", "tomorrow"),
			"exp negative":                 forge("exp", -1),
			"iat dropped":                  forge("iat", nil),
			"iat a string":                 forge("iat", "yesterday"),
			"jti dropped":                  forge("jti", nil),
			"jti a number":                 forge("jti", 7),
			"client_id dropped":            forge("client_id", nil),
			"client_id another's":          forge("client_id", "second"),
			"client_id of nobody":          forge("client_id", "nobody"),
			"sid dropped":                  forge("sid", nil),
			"sid another user's":           forge("sid", ofBob["sid"]),
			"sid on another client":        forge("sid", ofSecond["sid"]),
			"sid of nothing":               forge("sid", uuid.NewString()),
			"sid not an id":                forge("sid", "x"),
			"sid nil":                      forge("sid", uuid.Nil.String()),
			"a client's token without one": forge("sid", nil, "sub", "app"),
			"alg none":                     encode(t, with(header, "alg", "none"), claims, func(string) []byte { return nil }),
			"alg None, signed":             forgeHeader("alg", "None"),
			"alg of another length":        forgeHeader("alg", "HS512"),
			"alg dropped":                  forgeHeader("alg", nil),
			"alg RS256 by a shared secret": other,
			"no signature":                 input,
			"another secret":               encode(t, header, claims, hs256([]byte("another shared secret of enough bytes"))),
			"an empty secret":              encode(t, header, claims, hs256(nil)),
			"typ JWT":                      forgeHeader("typ", "JWT"),
			"typ dropped":                  forgeHeader("typ", nil),
			"typ a number":                 forgeHeader("typ", 1),
			"kid dropped":                  forgeHeader("kid", nil),
			"kid unknown":                  forgeHeader("kid", "unknown"),
			"kid a path":                   forgeHeader("kid", "../../dev/null"),
			"kid a list":                   forgeHeader("kid", []string{header["kid"].(string)}),
			"crit":                         forgeHeader("crit", []string{"exp"}, "exp", 1),
			"expired and forged":           encode(t, header, with(claims, "exp", now-1), hs256([]byte("x"))),
			"JWE":                          strings.Repeat(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"dir","enc":"A256GCM"}`))+".", 4) + "AAAA",
			"JWS in JSON":                  inJSON(t, forge()),
			"two dots":                     "..",
			"padded":                       forge() + "=",
			"many dots":                    strings.Repeat(".", 60000),
			"deep JSON":                    encode(t, header, json.RawMessage(strings.Repeat("[", 10000)+strings.Repeat("]", 10000)), sign),
			"a payload too large":          forge("pad", strings.Repeat("a", 20000)),
			"claims not an object":         encode(t, header, []string{"x"}, sign),
		} {
			t.Run(name, func(t *testing.T) { r.dead(t, "the token", rs, token) })
		}

		// A time that no clock can say is nobody's 15 minutes, but no reason to fail.
		for _, exp := range []int64{1 << 40, 1 << 50, 1<<63 - 1} {
			if a := r.introspect(t, rs, forge("exp", exp)); a.status != http.StatusOK {
				t.Errorf("exp %d: got %d %s", exp, a.status, a.body)
			}
		}
		megabyte := strings.Repeat(".", 1<<20)
		r.introspect(t, rs, megabyte).want(t, http.StatusRequestEntityTooLarge, "invalid_request")
		if got, err := r.tokens.Introspect(t.Context(), rs, megabyte); err != nil || got.Active {
			t.Errorf("a megabyte of dots: %+v, %v", got, err)
		}
	}, withHS256)
}

func inJSON(t testing.TB, token string) string {
	t.Helper()
	parts := strings.Split(token, ".")
	b, err := json.Marshal(map[string]string{"protected": parts[0], "payload": parts[1], "signature": parts[2]})
	check(t, err)
	return string(b)
}

// A public key is no shared secret.
func TestAlgorithmConfusion(t *testing.T) {
	t.Parallel()
	for _, alg := range []keys.Algorithm{keys.RS256, keys.ES256, keys.EdDSA} {
		t.Run(string(alg), func(t *testing.T) {
			each(t, func(t *testing.T, r *replica) {
				c := r.app(t, "app")
				header, claims := decode(t, r.login(t, c, r.user(t, "alice")).AccessToken)
				jwk := r.jwks(t)[header["kid"].(string)]
				asJSON, err := json.Marshal(jwk)
				check(t, err)
				secrets := [][]byte{asJSON, nil}
				for _, name := range []string{"n", "x", "y"} {
					if s, ok := jwk[name].(string); ok {
						secrets = append(secrets, []byte(s), segment(t, s))
					}
				}
				for _, secret := range secrets {
					for _, name := range []any{"HS256", string(alg)} {
						header["alg"] = name
						r.dead(t, "a token signed by what is published", c, encode(t, header, claims, hs256(secret)))
					}
				}
				// A key that the token brings along is nobody's.
				header["alg"], header["jwk"] = "HS256", map[string]string{"kty": "oct", "k": "AAAA"}
				r.dead(t, "a token with a key of its own", c, encode(t, header, claims, hs256([]byte{0, 0, 0})))
				sum := sha256.Sum256(asJSON)
				r.dead(t, "a token with a digest for a signature", c, encode(t, header, claims, func(string) []byte { return sum[:] }))
			}, func(s *settings) { s.alg = alg })
		})
	}
}
