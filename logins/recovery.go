package logins

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"strings"

	"signet/audit"
)

// recoveryCodes is how many a user gets.
const recoveryCodes = 10

// recoverySize is what a code is made of, in random bytes: 80 bits, so that a digest tells nothing of its code.
const recoverySize = 10

// newRecoveryCodes returns codes, four groups of four characters each, and their digests.
func newRecoveryCodes(userID string) (codes []string, digests [][]byte) {
	for range recoveryCodes {
		b := make([]byte, recoverySize)
		_, _ = rand.Read(b)
		text := strings.ToLower(base32NoPadding.EncodeToString(b))
		codes = append(codes, text[:4]+"-"+text[4:8]+"-"+text[8:12]+"-"+text[12:])
		digests = append(digests, recoveryDigest(userID, text))
	}
	return codes, digests
}

func recoveryDigest(userID, code string) []byte {
	sum := sha256.Sum256([]byte("recovery code " + userID + " " + code))
	return sum[:]
}

// typedCode is a recovery code as it was typed: without regard to case and to what stands between its groups.
func typedCode(code string) (string, bool) {
	code = bare(strings.ToLower(code))
	b, err := base32NoPadding.DecodeString(strings.ToUpper(code))
	return code, err == nil && len(b) == recoverySize
}

// useRecoveryCode takes a code once.
func (s *Service) useRecoveryCode(ctx context.Context, userID, code string) (bool, error) {
	typed, ok := typedCode(code)
	if !ok {
		return false, nil
	}
	return s.store.UseRecoveryCode(ctx, userID, recoveryDigest(userID, typed))
}

// NewRecoveryCodes gives the user ten codes instead of those that there were. It returns ErrNoFactor for a user without one.
func (s *Service) NewRecoveryCodes(ctx context.Context, userID string, o audit.Origin) ([]string, error) {
	codes, digests := newRecoveryCodes(userID)
	e := audit.New(audit.FactorAdded, o)
	e.UserID, e.Detail = userID, "recovery codes"
	if e.Actor == "" {
		e.Actor = userID
	}
	ok, err := s.store.ReplaceRecoveryCodes(ctx, userID, digests, e)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, ErrNoFactor
	}
	e.Log(ctx, s.log)
	return codes, nil
}
