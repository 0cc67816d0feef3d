package keys

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// Tagger writes and reads opaque tokens: a prefix and the unpadded base64url of a body and its tag, an HMAC-SHA-256 over the body.
// What this server did not write it does not read, and so costs no database access.
type Tagger struct {
	keys [][]byte // of both values of SIGNET_SECRET, the one to write with first
}

const tagSize = sha256.Size

// Tagger returns the tagger of that label: one does not read what another wrote.
func (s Secret) Tagger(label string) Tagger { return Tagger{keys: s.Derive(label)} }

// Write returns the token of the body. Bodies are of a size that, with the tag's 32 bytes, is a multiple of three, so that no
// bit of the written form is unused.
func (t Tagger) Write(prefix string, body []byte) string {
	return string(base64.RawURLEncoding.AppendEncode([]byte(prefix), tag(t.keys[0], body)))
}

// tag appends the tag of body to it.
func tag(key, body []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(body)
	return mac.Sum(body)
}

// Read returns the body, of that size, of a token that Write made; ok is false for anything else.
func (t Tagger) Read(prefix, token string, size int) (body []byte, ok bool) {
	encoded, found := strings.CutPrefix(token, prefix)
	// The length is compared first: decoders skip line breaks, and nothing long is worth decoding.
	if !found || len(encoded) != base64.RawURLEncoding.EncodedLen(size+tagSize) {
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(b) != size+tagSize {
		return nil, false
	}
	body = b[:size:size]
	for _, key := range t.keys {
		if hmac.Equal(tag(key, body)[size:], b[size:]) {
			return body, true
		}
	}
	return nil, false
}
