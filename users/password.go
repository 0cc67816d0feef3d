package users

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/go-crypt/crypt"
	"github.com/go-crypt/crypt/algorithm"
	"github.com/go-crypt/crypt/algorithm/argon2"
	"github.com/go-crypt/crypt/algorithm/bcrypt"
	"github.com/go-crypt/crypt/algorithm/scrypt"
)

// Argon2id as OWASP recommends it: 19 MiB, two passes, one lane.
const (
	argonMemory = 19 * 1024 // KiB
	argonPasses = 2
	argonLanes  = 1

	// bcryptLimit is how much of a password bcrypt looks at, in bytes.
	bcryptLimit = 72

	// queuePerCore is how many logins may wait for one core: at some 40 ms each the last one waits three seconds, and longer
	// where cores are slow or shared. None waits longer than the timeout.
	queuePerCore = 64
	queueTimeout = 10 * time.Second
)

// ErrOverloaded says that more passwords are waiting to be checked than could be in reasonable time.
var ErrOverloaded = errors.New("too many logins at once")

// hasher hashes and verifies passwords, at most as many at once as there are cores.
type hasher struct {
	argon   *argon2.Hasher
	decoder *crypt.Decoder
	current string        // how hashes of today's parameters begin
	dummy   string        // the hash of a password that nobody knows, for a database without users
	cores   chan struct{} // holds a token for each hash being computed
	queue   chan struct{} // and for each one waiting or being computed
}

// newHasher makes one whose hashes take that much memory, in KiB.
func newHasher(memory uint32) *hasher {
	argon, err := argon2.New(argon2.WithVariantID(), argon2.WithM(memory), argon2.WithT(argonPasses), argon2.WithP(argonLanes))
	if err != nil {
		panic(err) // only for parameters out of range
	}
	decoder := crypt.NewDecoder()
	if err := errors.Join(argon2.RegisterDecoderArgon2id(decoder), bcrypt.RegisterDecoder(decoder), scrypt.RegisterDecoder(decoder)); err != nil {
		panic(err) // only for a decoder registered twice
	}
	n := runtime.GOMAXPROCS(0)
	h := &hasher{
		argon: argon, decoder: decoder,
		current: fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$", memory, argonPasses, argonLanes),
		cores:   make(chan struct{}, n),
		queue:   make(chan struct{}, n*(1+queuePerCore)),
	}
	h.dummy = h.current + strings.Repeat("A", 22) + "$" + strings.Repeat("A", 43)
	return h
}

// acquire waits for a core; the caller gives it back by calling release.
func (h *hasher) acquire(ctx context.Context) (release func(), err error) {
	select {
	case h.queue <- struct{}{}:
	default:
		return nil, ErrOverloaded
	}
	ctx, cancel := context.WithTimeoutCause(ctx, queueTimeout, ErrOverloaded)
	defer cancel()
	select {
	case h.cores <- struct{}{}:
		return func() { <-h.cores; <-h.queue }, nil
	case <-ctx.Done():
		<-h.queue
		return nil, context.Cause(ctx)
	}
}

func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	release, err := h.acquire(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	return h.hashNow(password)
}

func (h *hasher) hashNow(password string) (string, error) {
	digest, err := h.argon.Hash(password)
	if err != nil {
		return "", err
	}
	return digest.Encode(), nil
}

// verify tells whether the password is the one of the hash. An empty hash is nobody's, and costs what the stand-in does, or, for want
// of one, a hash of today's kind. Where the password is right and the hash is not of today's kind, anew is a fresh one to put in its
// place.
func (h *hasher) verify(ctx context.Context, hash, standIn, password string) (ok bool, anew string, err error) {
	release, err := h.acquire(ctx)
	if err != nil {
		return false, "", err
	}
	defer release()
	known := hash != ""
	if !known {
		hash = cmp.Or(standIn, h.dummy)
	}
	digest, err := h.decoder.Decode(hash)
	if err != nil {
		return false, "", fmt.Errorf("a stored password hash cannot be read: %w", err)
	}
	if ok, err = match(digest, password); err != nil || !ok || !known {
		return false, "", err
	}
	if strings.HasPrefix(hash, h.current) {
		return true, "", nil
	}
	anew, err = h.hashNow(password)
	return true, anew, err
}

// match compares, and refuses what bcrypt would cut off: two long passwords that begin alike are not the same.
func match(digest algorithm.Digest, password string) (bool, error) {
	if _, isBcrypt := digest.(*bcrypt.Digest); isBcrypt && len(password) > bcryptLimit {
		return false, nil
	}
	return digest.MatchAdvanced(password)
}
