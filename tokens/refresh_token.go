package tokens

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math"
	"strings"

	"github.com/google/uuid"

	"signet/keys"
)

// refreshToken is what a refresh token says: which session, which of its tokens in turn, and the session's secret,
// which the database knows only by its digest.
type refreshToken struct {
	session  uuid.UUID
	sequence int64
	secret   [secretSize]byte
}

// The written form is the prefix and the unpadded base64url of
//
//	session (16) ‖ sequence (8, big-endian) ‖ secret (16) ‖ tag (32)
//
// where the tag is an HMAC-SHA-256 over all before it. The sizes sum to a multiple of three, so that no bit is unused.
const (
	refreshPrefix = "sgr_"
	secretSize    = 16
	tagSize       = sha256.Size
	bodySize      = 16 + 8 + secretSize
	refreshSize   = bodySize + tagSize
)

// newRefreshToken returns the first refresh token of a new session.
func newRefreshToken() refreshToken {
	t := refreshToken{session: uuid.New()}
	_, _ = rand.Read(t.secret[:])
	return t
}

// successor returns the token that follows t; it is the same however often it is asked for.
func (t refreshToken) successor() refreshToken {
	t.sequence++
	return t
}

// digest is what the database holds of the session's secret.
func (t refreshToken) digest() []byte {
	sum := sha256.Sum256(t.secret[:])
	return sum[:]
}

// refreshCodec writes and reads refresh tokens.
type refreshCodec struct {
	tagKeys [][]byte // of both values of SIGNET_SECRET, the one to write with first
}

func newRefreshCodec(s keys.Secret) refreshCodec {
	return refreshCodec{tagKeys: s.Derive("refresh token tag v1")}
}

func (c refreshCodec) format(t refreshToken) string {
	b := make([]byte, 0, refreshSize)
	b = append(b, t.session[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.sequence)) //nolint:gosec // never negative
	b = append(b, t.secret[:]...)
	b = tag(c.tagKeys[0], b)
	return string(base64.RawURLEncoding.AppendEncode([]byte(refreshPrefix), b))
}

// tag appends the tag of body to it.
func tag(key, body []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(body)
	return mac.Sum(body)
}

// parse reads a refresh token that this server issued; ok is false for anything else.
func (c refreshCodec) parse(s string) (t refreshToken, ok bool) {
	encoded, found := strings.CutPrefix(s, refreshPrefix)
	// The length is compared first: decoders skip line breaks, and nothing long is worth decoding.
	if !found || len(encoded) != base64.RawURLEncoding.EncodedLen(refreshSize) {
		return refreshToken{}, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(b) != refreshSize || !c.genuine(b) {
		return refreshToken{}, false
	}
	sequence := binary.BigEndian.Uint64(b[16:24])
	if sequence >= math.MaxInt64 {
		return refreshToken{}, false
	}
	t.sequence = int64(sequence)
	copy(t.session[:], b[:16])
	copy(t.secret[:], b[24:bodySize])
	return t, true
}

// genuine tells whether the tag of b was made with one of the keys.
func (c refreshCodec) genuine(b []byte) bool {
	body := b[:bodySize:bodySize]
	for _, key := range c.tagKeys {
		if hmac.Equal(tag(key, body)[bodySize:], b[bodySize:]) {
			return true
		}
	}
	return false
}
