package keys

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// The example of RFC 6979, appendix A.2.5.
func TestES256IsDeterministic(t *testing.T) {
	t.Parallel()
	scalar, err := hex.DecodeString("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
	if err != nil {
		t.Fatal(err)
	}
	const want = "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716" + "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
	for range 2 {
		got, err := ES256.method().Sign("sample", key)
		if err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%x, %v; want %s", got, err, want)
		}
	}
}

// Whatever the numbers are, and one in 128 is a byte shorter than the others, the library takes the signature.
func TestES256IsVerified(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short := 0
	for i := range 2000 {
		text := strconv.Itoa(i)
		signature, err := ES256.method().Sign(text, key)
		if err != nil || len(signature) != 64 {
			t.Fatalf("%x, %v", signature, err)
		}
		if signature[0] == 0 || signature[32] == 0 {
			short++
		}
		if err := jwt.SigningMethodES256.Verify(text, signature, &key.PublicKey); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	}
	if short == 0 {
		t.Error("no number was short, of 4000")
	}
}

func TestES256RefusesOtherKeys(t *testing.T) {
	t.Parallel()
	wide, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	narrow, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []any{nil, []byte("a secret"), wide, narrow} {
		if signature, err := ES256.method().Sign("text", key); err == nil {
			t.Errorf("a %T signed: %x", key, signature)
		}
	}
}
