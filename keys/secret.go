package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Secret is SIGNET_SECRET: the root from which every symmetric key is derived. While it is being changed it holds two
// values; the first one makes, both are accepted.
type Secret struct {
	roots [][]byte
}

const secretSize = 32

// NewSecret returns a random secret in the form that ParseSecret reads.
func NewSecret() string {
	b := make([]byte, secretSize)
	_, _ = rand.Read(b) // never fails: it ends the program instead
	return base64.StdEncoding.EncodeToString(b)
}

// ParseSecret reads 32 bytes in base64, standard or URL-safe, padded or not, or two such values as "NEW,OLD". Its errors
// do not repeat the value.
func ParseSecret(s string) (Secret, error) {
	var secret Secret
	for part := range strings.SplitSeq(s, ",") {
		part = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimSpace(part))
		b, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(part, "="))
		if err != nil || len(b) != secretSize {
			return Secret{}, fmt.Errorf("must be %d random bytes in base64, or NEW,OLD while it is being changed; `signet secret` prints one", secretSize)
		}
		secret.roots = append(secret.roots, b)
	}
	if len(secret.roots) > 2 {
		return Secret{}, errors.New("holds more than two values; NEW,OLD is all that a change needs")
	}
	return secret, nil
}

// Derive returns one key of 32 bytes for each value of the secret, the one to make new things with first. The label
// separates uses: keys of different labels tell nothing of each other.
func (s Secret) Derive(label string) [][]byte {
	derived := make([][]byte, len(s.roots))
	for i, root := range s.roots {
		key, err := hkdf.Key(sha256.New, root, nil, "signet "+label, sha256.Size)
		if err != nil {
			panic(err) // only for a length that SHA-256 cannot give
		}
		derived[i] = key
	}
	return derived
}

// Sealer encrypts under SIGNET_SECRET. What is sealed is bound to its identity, so that a ciphertext moved elsewhere, such as to
// another row, does not open there.
type Sealer struct {
	aeads []cipher.AEAD
}

// Sealer returns the sealer of that label: one does not open what another sealed.
func (s Secret) Sealer(label string) Sealer {
	var sl Sealer
	for _, key := range s.Derive(label) {
		block, err := aes.NewCipher(key)
		if err != nil {
			panic(err) // only for a wrong key size
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			panic(err)
		}
		sl.aeads = append(sl.aeads, aead)
	}
	return sl
}

// Seal encrypts.
func (s Sealer) Seal(plain []byte, identity string) []byte {
	return s.aeads[0].Seal(nil, nil, plain, []byte(identity))
}

// Open returns the plaintext, and whether it was sealed under an older value of the secret.
func (s Sealer) Open(sealed []byte, identity string) (plain []byte, old bool, err error) {
	for i, aead := range s.aeads {
		if plain, err = aead.Open(nil, nil, sealed, []byte(identity)); err == nil {
			return plain, i > 0, nil
		}
	}
	return nil, false, err
}
