package keys

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sync/singleflight"

	"signet/audit"
)

// Store is what this package needs of a database.
type Store interface {
	// SigningKeys returns all keys but those retired for longer than keep, oldest first, and the database's time.
	SigningKeys(ctx context.Context, keep time.Duration) ([]Key, time.Time, error)
	// AdvanceSigningKeys retires the current key, makes the given one current, inserting it if it is new, and publishes
	// next, if not nil, in place of any other next key. It changes nothing and returns false unless the current key
	// is the one named from ("": there is none), so that of many who try at once one succeeds.
	AdvanceSigningKeys(ctx context.Context, from string, current Key, next *Key, e audit.Event) (bool, error)
	// ResealSigningKey replaces the sealed private key of k's row.
	ResealSigningKey(ctx context.Context, k Key) error
}

// Config is what the operator decides about signing.
type Config struct {
	Secret        Secret
	Algorithm     Algorithm
	SigningSecret []byte        // the shared secret of HS256
	TokenTTL      time.Duration // how long a retired key may still be needed
	RotateEvery   time.Duration
}

const (
	// pollInterval is how soon a replica learns of keys that another one, or the command line, made.
	pollInterval = 10 * time.Second
	// retireMargin covers the replicas that sign with a retired key until their next poll, and differing clocks.
	retireMargin = time.Minute
	// reloadPause bounds how often tokens with unknown keys may make a replica look for new keys. Such a token waits for it.
	reloadPause = 200 * time.Millisecond
)

// ErrNotRotatable says that the current key is not one that is rotated.
var ErrNotRotatable = errors.New("HS256 has no key to rotate: change SIGNET_SIGNING_SECRET and restart the server")

// ErrNotLoaded says that the signing keys could not be read from the database yet.
var ErrNotLoaded = errors.New("the signing keys are not loaded yet")

// Service signs and verifies access tokens, and takes the signing keys through their life.
type Service struct {
	store  Store
	cfg    Config
	sealer Sealer
	log    *slog.Logger

	ring    atomic.Pointer[ring]
	reloads singleflight.Group
	looked  time.Time // when the last of the reloads ended
}

// New returns a service that can do nothing before Load has succeeded.
func New(store Store, cfg Config, log *slog.Logger) *Service {
	return &Service{store: store, cfg: cfg, sealer: cfg.Secret.Sealer(sealLabel), log: log}
}

// Keep is for how long after its retirement a key is published and verified with.
func (s *Service) Keep() time.Duration { return s.cfg.TokenTTL + retireMargin }

// Loaded tells whether the service can sign.
func (s *Service) Loaded() bool { return s.ring.Load() != nil }

// Load reads the keys, after making what is missing: the first keys of a new database, keys of a newly configured
// algorithm, the row of a newly configured HS256 secret. It seals under the first value of SIGNET_SECRET what is
// still sealed under the second. It returns ErrWrongSecret where the secret is another one.
func (s *Service) Load(ctx context.Context) error {
	for range 5 {
		rows, _, err := s.store.SigningKeys(ctx, s.Keep())
		if err != nil {
			return err
		}
		current, from := currentOf(rows), ""
		if current != nil {
			if _, err := newRing(rows, s.sealer); err != nil {
				return err // nothing is written under a secret that does not open what is there
			}
			from = current.ID
			if fits, err := s.fits(*current); err != nil {
				return err
			} else if fits {
				return s.adopt(ctx, rows)
			}
		}
		first, next, err := s.generatePair()
		if err != nil {
			return err
		}
		e := audit.New(audit.KeyCreated, audit.Origin{Actor: "server"})
		e.Detail = fmt.Sprintf("%s key %s", first.Algorithm, first.ID)
		if ok, err := s.store.AdvanceSigningKeys(ctx, from, first, next, e); err != nil {
			return err
		} else if ok {
			e.Log(ctx, s.log)
		} // else another replica was faster: take its keys
	}
	return errors.New("the signing keys keep changing: are replicas with different SIGNET_SIGNING_ALG starting at once?")
}

func currentOf(rows []Key) *Key {
	for i := range rows {
		if rows[i].State() == Current {
			return &rows[i]
		}
	}
	return nil
}

// fits tells whether k is what the configuration wants tokens to be signed with.
func (s *Service) fits(k Key) (bool, error) {
	if k.Algorithm != s.cfg.Algorithm || k.Algorithm != HS256 {
		return k.Algorithm == s.cfg.Algorithm, nil
	}
	private, _, err := s.sealer.Open(k.Sealed, k.identity())
	if err != nil {
		return false, ErrWrongSecret
	}
	return subtle.ConstantTimeCompare(private, s.cfg.SigningSecret) == 1, nil
}

// generatePair makes a current and a next key of the configured algorithm; HS256 has no next one.
func (s *Service) generatePair() (Key, *Key, error) {
	if s.cfg.Algorithm == HS256 {
		return sealKey(HS256, s.cfg.SigningSecret, s.sealer), nil, nil
	}
	first, err := generate(s.cfg.Algorithm, s.sealer)
	if err != nil {
		return Key{}, nil, err
	}
	next, err := generate(s.cfg.Algorithm, s.sealer)
	return first, &next, err
}

// adopt makes the rows this replica's ring.
func (s *Service) adopt(ctx context.Context, rows []Key) error {
	r, err := newRing(rows, s.sealer)
	if err != nil {
		return err
	}
	for _, k := range r.stale {
		if err := s.store.ResealSigningKey(ctx, k); err != nil {
			return err
		}
	}
	s.ring.Store(r)
	return nil
}

// reload takes the keys from the database as they are.
func (s *Service) reload(ctx context.Context) ([]Key, time.Time, error) {
	rows, now, err := s.store.SigningKeys(ctx, s.Keep())
	if err == nil {
		err = s.adopt(ctx, rows)
	}
	return rows, now, err
}

// Follow keeps the ring up to date with the database, and rotates keys that are due, until ctx ends.
func (s *Service) Follow(ctx context.Context) {
	tick := time.NewTicker(min(pollInterval, s.cfg.RotateEvery))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		rows, now, err := s.reload(ctx)
		if err == nil {
			if k := currentOf(rows); k != nil && k.Algorithm != HS256 && now.Sub(k.ActiveFrom) >= s.cfg.RotateEvery {
				_, err = s.rotate(ctx, rows, audit.Origin{Actor: "server"})
			}
		}
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "cannot follow the signing keys; going on with the known ones", "error", err)
		}
	}
}

// Rotate makes the next key current and publishes a new next one. It returns the new current key. Where another replica
// rotated at the same moment, that one's rotation stands.
func (s *Service) Rotate(ctx context.Context, o audit.Origin) (Key, error) {
	rows, _, err := s.store.SigningKeys(ctx, s.Keep())
	if err != nil {
		return Key{}, err
	}
	return s.rotate(ctx, rows, o)
}

// rotate rotates if the current key is still that of the rows.
func (s *Service) rotate(ctx context.Context, rows []Key, o audit.Origin) (Key, error) {
	current := currentOf(rows)
	if current == nil { // the server never ran: what it would make first is as new as can be
		if err := s.Load(ctx); err != nil {
			return Key{}, err
		}
		return s.ring.Load().current.Key, nil
	}
	if _, err := newRing(rows, s.sealer); err != nil {
		return Key{}, err // nothing is written under a secret that does not open what is there
	}
	if current.Algorithm == HS256 {
		return Key{}, ErrNotRotatable
	}
	fresh, err := generate(current.Algorithm, s.sealer)
	if err != nil {
		return Key{}, err
	}
	var promoted Key
	for _, k := range rows {
		if k.State() == Next {
			promoted = k
		}
	}
	if promoted.ID == "" {
		if promoted, err = generate(current.Algorithm, s.sealer); err != nil {
			return Key{}, err
		}
	}
	e := audit.New(audit.KeyRotated, o)
	e.Detail = fmt.Sprintf("from %s to %s", current.ID, promoted.ID)
	ok, err := s.store.AdvanceSigningKeys(ctx, current.ID, promoted, &fresh, e)
	if err != nil {
		return Key{}, err
	}
	if ok {
		e.Log(ctx, s.log)
	}
	rows, _, err = s.reload(ctx)
	if err != nil {
		return Key{}, err
	}
	return *currentOf(rows), nil
}

// List returns the keys that are published or will be, oldest first.
func (s *Service) List(ctx context.Context) ([]Key, error) {
	rows, _, err := s.store.SigningKeys(ctx, s.Keep())
	return rows, err
}

// Rotation tells since when the current key signs, by the database's clock, and how long keys do until the next one takes
// over. Both are zero before Load, the second also for HS256, which is not rotated.
func (s *Service) Rotation() (since time.Time, every time.Duration) {
	r := s.ring.Load()
	if r == nil {
		return time.Time{}, 0
	}
	if since = r.current.ActiveFrom; r.current.Algorithm != HS256 {
		every = s.cfg.RotateEvery
	}
	return since, every
}

// JWKS returns the public keys as a JWK Set (RFC 7517 section 5), or nil before Load.
func (s *Service) JWKS() []byte {
	if r := s.ring.Load(); r != nil {
		return r.jwks
	}
	return nil
}

// Sign returns claims as a JWT signed by the current key, in compact form.
func (s *Service) Sign(claims any) (string, error) {
	r := s.ring.Load()
	if r == nil {
		return "", ErrNotLoaded
	}
	return r.sign(claims)
}

// Holds tells whether the key is one of those whose tokens are good.
func (s *Service) Holds(kid string) bool {
	r := s.ring.Load()
	if r == nil {
		return false
	}
	_, ok := r.byID[kid]
	return ok
}

// Verify checks the signature of an access token, fills claims from it, and returns the id of the key that signed it. It returns ErrNotLoaded, the database's error
// where new keys had to be looked for, or an error that says that the token is not Signet's.
func (s *Service) Verify(ctx context.Context, token string, claims jwt.Claims) (kid string, valid bool, err error) {
	r := s.ring.Load()
	if r == nil {
		return "", false, ErrNotLoaded
	}
	kid, err = r.verify(token, claims)
	if errors.Is(err, errUnknownKey) {
		// Another replica may have rotated since this one looked.
		if r, err = s.reloaded(ctx); err != nil {
			return "", false, err
		}
		kid, err = r.verify(token, claims)
	}
	return kid, err == nil, nil
}

// reloaded reads the keys again and returns the ring of them. However many want that, one at a time looks.
func (s *Service) reloaded(ctx context.Context) (*ring, error) {
	look := s.reloads.DoChan("", func() (any, error) {
		time.Sleep(reloadPause - time.Since(s.looked))
		defer func() { s.looked = time.Now() }()
		_, _, err := s.reload(context.WithoutCancel(ctx))
		return s.ring.Load(), err
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-look:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*ring), nil
	}
}
