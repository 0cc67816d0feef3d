package keys

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"signet/audit"
)

// Store is what this package needs of a database.
type Store interface {
	// SigningKeys returns all keys but those retired for longer than keep beyond their TokenTTL, oldest first, and the database's time.
	SigningKeys(ctx context.Context, keep time.Duration) ([]Key, time.Time, error)
	// AdvanceSigningKeys retires the current key of the given one's algorithm, makes the given one current, inserting it if it is
	// new, and publishes next, if not nil, in place of any other next key of that algorithm. It changes nothing and returns false
	// unless the current key is the one named from ("": there is none), so that of many who try at once one succeeds.
	AdvanceSigningKeys(ctx context.Context, from string, current Key, next *Key, e audit.Event) (bool, error)
	// RevokeSigningKey deletes a key that is not current, publishes next, if not nil, where the algorithm has no next key then, and
	// returns false, changing nothing, if there is no such key.
	RevokeSigningKey(ctx context.Context, id string, next *Key, e audit.Event) (bool, error)
	// RetireSigningKeys retires the current key of an algorithm that is not in use any more, and drops the next one.
	RetireSigningKeys(ctx context.Context, algorithm Algorithm) error
	// KeepTokenTTL raises the TokenTTL of the keys that are not retired to at least the ttl.
	KeepTokenTTL(ctx context.Context, ttl time.Duration) error
	// ResealSigningKey replaces the sealed private key of k's row.
	ResealSigningKey(ctx context.Context, k Key) error
}

// Config is what the operator decides about signing.
type Config struct {
	Secret        Secret
	Algorithm     Algorithm
	SigningSecret []byte        // the shared secret of HS256
	TokenTTL      time.Duration // how long access tokens live
	HintTTL       time.Duration // and, beyond that, ID tokens that come back as a hint
	RotateEvery   time.Duration

	// Wanted returns the algorithms that others than access tokens are signed with, and the longest life of an access token of those
	// clients that have one of their own; it may be nil.
	Wanted func(ctx context.Context) ([]Algorithm, time.Duration, error)
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

// ErrNoKey says that there is no key with that id.
var ErrNoKey = errors.New("no such signing key")

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

// published tells whether a key is published, and tokens are verified with it: a retired one until the last token that it signed has
// expired, whatever life tokens have by now.
func (s *Service) published(k Key, now time.Time) bool {
	return k.RetiredAt.IsZero() || now.Sub(k.RetiredAt) < max(k.TokenTTL, s.cfg.TokenTTL)+retireMargin
}

// KeepForHints is for how long beyond its tokens' life a retired key is there at all.
func (s *Service) KeepForHints() time.Duration { return s.cfg.TokenTTL + retireMargin + s.cfg.HintTTL }

// LongestTokenTTL is the longest life of an access token that any of the keys may have signed.
func (s *Service) LongestTokenTTL(ctx context.Context) (time.Duration, error) {
	longest := s.cfg.TokenTTL
	rows, _, err := s.store.SigningKeys(ctx, s.KeepForHints())
	for _, k := range rows {
		longest = max(longest, k.TokenTTL)
	}
	return longest, err
}

// Loaded tells whether the service can sign.
func (s *Service) Loaded() bool { return s.ring.Load() != nil }

// Load reads the keys, after making what is missing: the first keys of a new database, keys of an algorithm that is newly in
// use, the row of a newly configured HS256 secret. It retires keys of algorithms that are in use no more, and seals under the first
// value of SIGNET_SECRET what is still sealed under the second. It returns ErrWrongSecret where the secret is another one.
func (s *Service) Load(ctx context.Context) error {
	inUse, ttl, err := s.inUse(ctx)
	if err != nil {
		return err
	}
	for range 5 * len(inUse) {
		rows, now, err := s.store.SigningKeys(ctx, s.KeepForHints())
		if err != nil {
			return err
		}
		if _, err := s.newRing(rows, now); err != nil && !errors.Is(err, errNoCurrent) {
			return err // nothing is written under a secret that does not open what is there
		}
		missing, err := s.missing(rows, inUse)
		if err != nil {
			return err
		}
		if missing == "" {
			return errors.Join(s.settle(ctx, rows, now, inUse), s.keepTTL(ctx, rows, ttl))
		}
		if err := s.begin(ctx, rows, missing); err != nil {
			return err
		}
	}
	return errors.New("the signing keys keep changing: are replicas with different SIGNET_SIGNING_SECRET starting at once?")
}

// inUse returns the algorithms in use, that of access tokens first, and the longest life that an access token is given.
func (s *Service) inUse(ctx context.Context) (list []Algorithm, ttl time.Duration, err error) {
	list = []Algorithm{s.cfg.Algorithm}
	if s.cfg.Wanted == nil {
		return list, s.cfg.TokenTTL, nil
	}
	wanted, ttl, err := s.cfg.Wanted(ctx)
	for _, a := range wanted {
		if !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list, max(ttl, s.cfg.TokenTTL), err
}

// keepTTL writes down how long tokens live that the keys sign, where they live longer than before.
func (s *Service) keepTTL(ctx context.Context, rows []Key, ttl time.Duration) error {
	if !slices.ContainsFunc(rows, func(k Key) bool { return k.State() != Retired && k.TokenTTL < ttl }) {
		return nil
	}
	return s.store.KeepTokenTTL(ctx, ttl)
}

// missing returns an algorithm in use that has no current key, or another one than is configured; empty: none.
func (s *Service) missing(rows []Key, inUse []Algorithm) (Algorithm, error) {
	for _, a := range inUse {
		k := currentOf(rows, a)
		if k == nil {
			return a, nil
		}
		if fits, err := s.fits(*k); err != nil || !fits {
			return a, err
		}
	}
	return "", nil
}

// begin makes the first keys of an algorithm, or those of another HS256 secret.
func (s *Service) begin(ctx context.Context, rows []Key, a Algorithm) error {
	from := ""
	if k := currentOf(rows, a); k != nil {
		from = k.ID
	}
	first, next, err := s.generatePair(a)
	if err != nil {
		return err
	}
	e := audit.New(audit.KeyCreated, audit.Origin{Actor: "server"})
	e.Detail = fmt.Sprintf("%s key %s", first.Algorithm, first.ID)
	ok, err := s.store.AdvanceSigningKeys(ctx, from, first, next, e)
	if err == nil && ok {
		e.Log(ctx, s.log)
	} // else another replica was faster: take its keys
	return err
}

// settle retires what is in use no more, and adopts the rest.
func (s *Service) settle(ctx context.Context, rows []Key, now time.Time, inUse []Algorithm) error {
	retired := false
	for _, k := range rows {
		if k.State() == Current && !slices.Contains(inUse, k.Algorithm) {
			retired = true
			if err := s.store.RetireSigningKeys(ctx, k.Algorithm); err != nil {
				return err
			}
		}
	}
	if retired {
		var err error
		if rows, now, err = s.store.SigningKeys(ctx, s.KeepForHints()); err != nil {
			return err
		}
	}
	return s.adopt(ctx, rows, now)
}

// currentOf returns the current key of the algorithm.
func currentOf(rows []Key, a Algorithm) *Key {
	for i := range rows {
		if rows[i].State() == Current && rows[i].Algorithm == a {
			return &rows[i]
		}
	}
	return nil
}

// fits tells whether k is as the configuration wants it: of HS256, the configured secret.
func (s *Service) fits(k Key) (bool, error) {
	if k.Algorithm != HS256 {
		return true, nil
	}
	private, _, err := s.sealer.Open(k.Sealed, k.identity())
	if err != nil {
		return false, ErrWrongSecret
	}
	return subtle.ConstantTimeCompare(private, s.cfg.SigningSecret) == 1, nil
}

// generatePair makes a current and a next key of the algorithm; HS256 has no next one.
func (s *Service) generatePair(a Algorithm) (first Key, next *Key, err error) {
	if a == HS256 {
		return sealKey(HS256, s.cfg.SigningSecret, s.sealer), nil, nil
	}
	var both [2]Key
	var making errgroup.Group // RSA takes its time
	for i := range both {
		making.Go(func() (err error) {
			both[i], err = generate(a, s.sealer)
			return err
		})
	}
	err = making.Wait()
	return both[0], &both[1], err
}

// adopt makes the rows this replica's ring.
func (s *Service) adopt(ctx context.Context, rows []Key, now time.Time) error {
	r, err := s.newRing(rows, now)
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
	rows, now, err := s.store.SigningKeys(ctx, s.KeepForHints())
	if err == nil {
		err = s.adopt(ctx, rows, now)
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
		err := s.follow(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "cannot follow the signing keys; going on with the known ones", "error", err)
		}
	}
}

// follow takes the keys from the database, makes those of algorithms that are newly in use, so that they are published before they
// sign, and rotates keys that are due.
func (s *Service) follow(ctx context.Context) error {
	rows, now, err := s.reload(ctx)
	if err != nil {
		return err
	}
	inUse, ttl, err := s.inUse(ctx)
	if err == nil {
		err = s.keepTTL(ctx, rows, ttl)
	}
	if err != nil {
		return err
	}
	// What access tokens are signed with is for a start to change: two replicas that differ would take turns here.
	missing, err := s.missing(rows, inUse[1:])
	if err != nil {
		return err
	}
	if missing != "" {
		if err := s.begin(ctx, rows, missing); err != nil {
			return err
		}
		_, _, err := s.reload(ctx)
		return err
	}
	for _, k := range rows {
		if k.State() == Current && k.Algorithm != HS256 && now.Sub(k.ActiveFrom) >= s.cfg.RotateEvery {
			if err := s.rotate(ctx, rows, k, audit.Origin{Actor: "server"}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Rotate makes the next key of every algorithm in use current and publishes a new next one. It returns the new current key of
// access tokens; where that is HS256's, which is not rotated, or the server has another algorithm, another one. Where another replica
// rotated at the same moment, that one's rotation stands. It returns ErrNotRotatable where there is nothing but HS256.
func (s *Service) Rotate(ctx context.Context, o audit.Origin) (Key, error) {
	rows, _, err := s.store.SigningKeys(ctx, s.KeepForHints())
	if err != nil {
		return Key{}, err
	}
	if !slices.ContainsFunc(rows, func(k Key) bool { return k.State() == Current }) {
		// The server never ran: what it would make first is as new as can be.
		if err := s.Load(ctx); err != nil {
			return Key{}, err
		}
		return s.ring.Load().access.Key, nil
	}
	rotated := Algorithm("")
	for _, k := range rows {
		if k.State() != Current || k.Algorithm == HS256 {
			continue
		}
		if err := s.rotate(ctx, rows, k, o); err != nil {
			return Key{}, err
		}
		if rotated == "" || k.Algorithm == s.cfg.Algorithm {
			rotated = k.Algorithm
		}
	}
	if rotated == "" {
		return Key{}, ErrNotRotatable
	}
	if rows, _, err = s.reload(ctx); err != nil {
		return Key{}, err
	}
	return *currentOf(rows, rotated), nil
}

// rotate puts the next key in the place of the current one, if that is still the current one.
func (s *Service) rotate(ctx context.Context, rows []Key, current Key, o audit.Origin) error {
	if _, _, err := s.sealer.Open(current.Sealed, current.identity()); err != nil {
		return ErrWrongSecret // nothing is written under a secret that does not open what is there
	}
	first, fresh, err := s.generatePair(current.Algorithm)
	if err != nil {
		return err
	}
	promoted := first
	for _, k := range rows {
		if k.State() == Next && k.Algorithm == current.Algorithm {
			promoted = k
		}
	}
	e := audit.New(audit.KeyRotated, o)
	e.Detail = fmt.Sprintf("from %s to %s", current.ID, promoted.ID)
	ok, err := s.store.AdvanceSigningKeys(ctx, current.ID, promoted, fresh, e)
	if err == nil && ok {
		e.Log(ctx, s.log)
	}
	return err
}

// Revoke takes a key out of use for good, such as one that has leaked: no token that it signed is good any more, on any replica
// once that has looked for keys. Where it is the current key the next one takes its place; where it is the next one, a new one does.
// It returns ErrNoKey, or ErrNotRotatable for the HS256 secret that is in use.
func (s *Service) Revoke(ctx context.Context, kid string, o audit.Origin) error {
	rows, _, err := s.store.SigningKeys(ctx, s.KeepForHints())
	if err != nil {
		return err
	}
	i := slices.IndexFunc(rows, func(k Key) bool { return k.ID == kid })
	if i < 0 {
		return ErrNoKey
	}
	k := rows[i]
	var next *Key
	switch {
	case k.Algorithm == HS256 && k.State() == Current:
		return ErrNotRotatable
	case k.State() == Current:
		err = s.rotate(ctx, rows, k, o)
	case k.State() == Next:
		var fresh Key
		fresh, err = generate(k.Algorithm, s.sealer)
		next = &fresh
	}
	if err != nil {
		return err
	}
	e := audit.New(audit.KeyRevoked, o)
	e.Detail = fmt.Sprintf("%s key %s", k.Algorithm, k.ID)
	ok, err := s.store.RevokeSigningKey(ctx, kid, next, e)
	if err == nil && !ok {
		err = ErrNoKey
	}
	if err != nil {
		return err
	}
	e.Log(ctx, s.log)
	if s.Loaded() { // on the command line nothing is
		_, _, err = s.reload(ctx)
	}
	return err
}

// List returns the keys that are published or will be, oldest first.
func (s *Service) List(ctx context.Context) ([]Key, error) {
	rows, now, err := s.store.SigningKeys(ctx, s.KeepForHints())
	return slices.DeleteFunc(rows, func(k Key) bool { return !s.published(k, now) }), err
}

// Check tells whether SIGNET_SECRET opens the keys that the database holds, and how many those are; ErrWrongSecret: it does not. It
// makes and changes none.
func (s *Service) Check(ctx context.Context) (int, error) {
	rows, now, err := s.store.SigningKeys(ctx, s.KeepForHints())
	if err == nil {
		_, err = s.newRing(rows, now)
	}
	if errors.Is(err, errNoCurrent) { // the next start makes it
		err = nil
	}
	return len(rows), err
}

// Rotation tells since when the current key signs, by the database's clock, and how long keys do until the next one takes
// over. Both are zero before Load, the second also for HS256, which is not rotated.
func (s *Service) Rotation() (since time.Time, every time.Duration) {
	r := s.ring.Load()
	if r == nil {
		return time.Time{}, 0
	}
	if since = r.access.ActiveFrom; r.access.Algorithm != HS256 {
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

// Sign returns claims as an access token: a JWT signed by the current key of the configured algorithm, in compact form.
func (s *Service) Sign(claims any) (string, error) {
	r := s.ring.Load()
	if r == nil {
		return "", ErrNotLoaded
	}
	return r.access.sign(r.access.header, claims)
}

// SignAs returns claims as a JWT of another type, such as an ID token, signed by the current key of the algorithm, which must not be
// HS256. Where there is no key yet it is made.
func (s *Service) SignAs(ctx context.Context, a Algorithm, typ string, claims any) (string, error) {
	r := s.ring.Load()
	if r == nil {
		return "", ErrNotLoaded
	}
	if a == HS256 {
		return "", errors.New("a shared secret signs access tokens alone")
	}
	k, ok := r.current[a]
	if !ok {
		rows, now, err := s.store.SigningKeys(ctx, s.KeepForHints())
		if err == nil && currentOf(rows, a) == nil {
			if err = s.begin(ctx, rows, a); err == nil {
				rows, now, err = s.store.SigningKeys(ctx, s.KeepForHints())
			}
		}
		if err == nil {
			err = s.adopt(ctx, rows, now)
		}
		if err != nil {
			return "", err
		}
		if k, ok = s.ring.Load().current[a]; !ok {
			return "", fmt.Errorf("there is no %s key", a)
		}
	}
	return k.sign(k.headerOf(typ), claims)
}

// Holds tells whether the key is one of those whose tokens are good.
func (s *Service) Holds(kid string) bool {
	r := s.ring.Load()
	if r == nil {
		return false
	}
	k, ok := r.byID[kid]
	return ok && k.published
}

// Verify checks the signature of an access token, fills claims from it, and returns the id of the key that signed it. Valid is false for
// one that is not Signet's. It returns ErrNotLoaded, or the database's error where new keys had to be looked for.
func (s *Service) Verify(ctx context.Context, token string, claims jwt.Claims) (kid string, valid bool, err error) {
	return s.verify(ctx, token, tokenType, claims)
}

// VerifyAs is Verify for a JWT of another type, which SignAs made, however long ago its key was retired. Whether it has expired is for
// the caller to say.
func (s *Service) VerifyAs(ctx context.Context, token, typ string, claims jwt.Claims) (valid bool, err error) {
	_, valid, err = s.verify(ctx, token, typ, claims)
	return valid, err
}

func (s *Service) verify(ctx context.Context, token, typ string, claims jwt.Claims) (kid string, valid bool, err error) {
	r := s.ring.Load()
	if r == nil {
		return "", false, ErrNotLoaded
	}
	kid, err = r.verify(token, typ, claims)
	if errors.Is(err, errUnknownKey) {
		// Another replica may have rotated since this one looked.
		if r, err = s.reloaded(ctx); err != nil {
			return "", false, err
		}
		kid, err = r.verify(token, typ, claims)
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
