package tokens

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"math"

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

// The written form is that of a keys.Tagger, of
//
//	session (16) ‖ sequence (8, big-endian) ‖ secret (16)
const (
	refreshPrefix = "sgr_"
	secretSize    = 16
	bodySize      = 16 + 8 + secretSize
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
type refreshCodec struct{ keys.Tagger }

func newRefreshCodec(s keys.Secret) refreshCodec {
	return refreshCodec{s.Tagger("refresh token tag v1")}
}

func (c refreshCodec) format(t refreshToken) string {
	b := make([]byte, 0, bodySize+sha256.Size)
	b = append(b, t.session[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.sequence)) //nolint:gosec // never negative
	return c.Write(refreshPrefix, append(b, t.secret[:]...))
}

// parse reads a refresh token that this server issued; ok is false for anything else.
func (c refreshCodec) parse(s string) (t refreshToken, ok bool) {
	b, ok := c.Read(refreshPrefix, s, bodySize)
	if !ok {
		return refreshToken{}, false
	}
	sequence := binary.BigEndian.Uint64(b[16:24])
	if sequence >= math.MaxInt64 {
		return refreshToken{}, false
	}
	t.sequence = int64(sequence)
	copy(t.session[:], b[:16])
	copy(t.secret[:], b[24:])
	return t, true
}
