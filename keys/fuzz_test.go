package keys

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// FuzzVerify tries tokens on the verifier, which must accept those alone that were signed.
func FuzzVerify(f *testing.F) {
	store := &memory{}
	s := loaded(f, store, oldText, ES256)
	retired := sign(f, s)
	loaded(f, store, oldText, HS256)
	s = loaded(f, store, oldText, EdDSA)
	genuine := map[string]bool{retired: true, sign(f, s): true}
	kid := currentOf(store.rows, EdDSA).ID
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for token := range genuine {
		parts := strings.Split(token, ".")
		for _, seed := range []string{
			token, token[:len(token)-1], token + "A", parts[0] + "." + parts[1] + ".", parts[0] + ".." + parts[2], "." + parts[1] + "." + parts[2],
			encode(`{"alg":"none","kid":"`+kid+`","typ":"at+jwt"}`) + "." + parts[1] + ".",
			encode(`{"alg":"HS256","kid":"`+kid+`","typ":"at+jwt"}`) + "." + parts[1] + "." + parts[2],
			encode(`{"alg":"RSA-OAEP","enc":"A256GCM","kid":"`+kid+`","zip":"DEF"}`) + ".a.b.c.d",
			token + "." + token, "", ".", "..", "...", strings.Repeat(".", 1000), strings.Repeat("A.", 2) + "A",
			encode(strings.Repeat("[", 1000)) + "." + encode("{}") + ".AAAA",
		} {
			f.Add(seed)
		}
	}
	r := s.ring.Load()
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := r.verify(token, tokenType, &jwt.RegisteredClaims{}); err == nil && !genuine[token] {
			t.Fatalf("accepted %q", token)
		}
	})
}
