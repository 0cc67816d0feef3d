package clients

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"signet/audit"
	"signet/keys"
)

// Errors of this package. ErrNoScope is of the descriptions of scopes.
var (
	ErrNoScope         = errors.New("no such scope is described")
	ErrNotFound        = errors.New("no such client")
	ErrChanged         = errors.New("somebody else changed the client meanwhile; look at it again")
	ErrExists          = errors.New("a client with this id exists already")
	ErrUnauthenticated = errors.New("client authentication failed") // RFC 6749 section 5.2: invalid_client
)

// Store is what this package needs of a database. Every change writes its audit event in the same transaction.
type Store interface {
	RegistrationStore

	// Client returns the client, or ErrNotFound.
	Client(ctx context.Context, id string) (Client, error)
	// Clients returns the selected clients in the order of their ids.
	Clients(ctx context.Context, f Filter) ([]Client, error)
	// BrowserOrigins returns the origins that enabled clients are registered with.
	BrowserOrigins(ctx context.Context) ([]string, error)
	// PublicRedirectURIs returns the redirect URIs of the enabled public clients.
	PublicRedirectURIs(ctx context.Context) ([]string, error)
	// CreateClient inserts c, or returns ErrExists. The answer carries the database's time of creation.
	CreateClient(ctx context.Context, c Client, e audit.Event) (Client, error)
	// UpdateClient replaces the metadata and whether the client is disabled, which raises the epoch. It returns ErrNotFound, or
	// ErrChanged if c's version is neither 0 nor the stored one. A public client keeps no digest; one that has none and is
	// public no more gets c's. The event toggled is written as well if the client is disabled now and was not, or the reverse.
	UpdateClient(ctx context.Context, c Client, e, toggled audit.Event) (updated Client, wasToggled bool, err error)
	// RotateClientSecret sets the digest; the old secret stays good for overlap. It returns ErrNotFound for an unknown client.
	RotateClientSecret(ctx context.Context, id string, digest []byte, overlap time.Duration, e audit.Event) (Client, error)
	// SetClientDisabled disables or enables the client, or returns ErrNotFound. Disabling raises its epoch.
	SetClientDisabled(ctx context.Context, id string, disabled bool, e audit.Event) (Client, error)
	// DeleteClient deletes the client, or returns ErrNotFound.
	DeleteClient(ctx context.Context, id string, e audit.Event) error

	// Scopes returns the scopes that are described, in the order of their names.
	Scopes(ctx context.Context) ([]Described, error)
	// DescribeScope stores the description in place of the one before.
	DescribeScope(ctx context.Context, d Described, e audit.Event) error
	// ForgetScope deletes the description, or returns ErrNoScope.
	ForgetScope(ctx context.Context, name string, e audit.Event) error
}

// Filter selects clients. Zero members select everything.
type Filter struct {
	Query string // what the id or the name contains, without regard to case
	After string // clients whose ids are behind this one
	Limit int
}

const (
	// Staleness is for how long a client read from the database may authenticate requests. Tokens are not affected: every
	// use of one looks at the client in the database.
	Staleness = time.Second

	cacheSize = 4096
)

// Config is what the operator decides about clients.
type Config struct {
	// AllowHTTP tells for which hosts http will do where Signet calls a client; nil: for none.
	AllowHTTP func(host string) bool

	Issuer                string
	Registration          RegistrationMode // who may register clients by themselves; empty: nobody
	RegistrationScopes    Scope            // what those may ask for
	RegistrationAudiences []string         // and be for, besides the issuer

	Documents Documents // fetches the metadata documents that client ids may be addresses of; nil: they may not
}

// Service registers and authenticates clients, and keeps what scopes mean.
type Service struct {
	store Store
	cfg   Config
	log   *slog.Logger

	cache *lru.Cache[string, cached]
	reads singleflight.Group

	documents     *lru.Cache[string, document]
	documentReads singleflight.Group

	browserOrigins, tokenOrigins lately[map[string]bool]
	descriptions                 lately[map[string]string]
}

type cached struct {
	client *Client
	readAt time.Time
}

// New returns a service on the store.
func New(store Store, cfg Config, log *slog.Logger) *Service {
	cache, err := lru.New[string, cached](cacheSize)
	if err != nil {
		panic(err) // only for a size below one
	}
	documents, err := lru.New[string, document](maxDocuments)
	if err != nil {
		panic(err) // likewise
	}
	return &Service{store: store, cfg: cfg, log: log, cache: cache, documents: documents}
}

// Authenticate returns the client that proves itself with the secret; a public client proves itself by sending none.
// Whatever is wrong, an unknown client included, is ErrUnauthenticated; any other error is the database's.
//
// Secrets are 256 random bits, so that one SHA-256 is as good as a slow hash, and does not cost every request one.
func (s *Service) Authenticate(ctx context.Context, id, secret string) (*Client, error) {
	c, err := s.Known(ctx, id)
	if err == nil && !c.Authenticates(secret) {
		err = ErrUnauthenticated
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Authenticates tells whether the client proves itself with the secret: a public one by sending none, one with keys never.
func (c *Client) Authenticates(secret string) bool {
	if c.Public() {
		return secret == ""
	}
	return c.HasSecret() && c.proves(secret)
}

// proves compares the secret with the stored digests in constant time.
func (c *Client) proves(secret string) bool {
	presented := digest(secret)
	current := subtle.ConstantTimeCompare(presented, c.SecretDigest)
	previous := subtle.ConstantTimeCompare(presented, c.PreviousDigest)
	return current|previous == 1
}

// Recheck returns the client that was authenticated as it is now, perhaps of another epoch, as one that was disabled and enabled again
// meanwhile. It returns ErrUnauthenticated if it is disabled, or deleted, though perhaps another one has its id by now. The next
// request sees it as it is.
func (s *Service) Recheck(ctx context.Context, c *Client) (*Client, error) {
	stored, err := s.store.Client(ctx, c.ID)
	if err == nil && stored.Epoch == c.Epoch && !stored.Disabled {
		return &stored, nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	s.cache.Remove(c.ID)
	before := *c
	before.Epoch, before.Version = stored.Epoch, stored.Version
	if err != nil || !reflect.DeepEqual(before, stored) { // what it was authenticated by may be another's
		return nil, ErrUnauthenticated
	}
	return &stored, nil
}

// Known returns the client as Authenticate may see it, without a proof that it is the one that calls. It returns
// ErrUnauthenticated for one that is unknown or disabled.
func (s *Service) Known(ctx context.Context, id string) (*Client, error) {
	if !ValidID(id) {
		return nil, ErrUnauthenticated
	}
	c, err := s.read(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound): // it is not named: it may be a secret in the wrong place
		return nil, fmt.Errorf("%w: it is unknown", ErrUnauthenticated)
	case err == nil && c.Disabled:
		return nil, fmt.Errorf("%w: %s is disabled", ErrUnauthenticated, id)
	}
	return c, err
}

// OriginRegistered tells whether any client is registered with that browser origin, as it was within the last moment.
func (s *Service) OriginRegistered(ctx context.Context, origin string) (bool, error) {
	known, err := s.browserOrigins.get(ctx, func(ctx context.Context) (map[string]bool, error) {
		list, err := s.store.BrowserOrigins(ctx)
		return setOf(list), err
	})
	return known[origin], err
}

// TokenOrigin tells whether scripts of that origin may ask for tokens: whether a public client that is enabled is sent back to
// a page there, as it was within the last moment.
func (s *Service) TokenOrigin(ctx context.Context, origin string) (bool, error) {
	known, err := s.tokenOrigins.get(ctx, func(ctx context.Context) (map[string]bool, error) {
		list, err := s.store.PublicRedirectURIs(ctx)
		for i, uri := range list {
			list[i] = webOrigin(uri)
		}
		return setOf(list), err
	})
	return origin != "" && known[origin], err
}

func setOf(list []string) map[string]bool {
	set := make(map[string]bool, len(list))
	for _, v := range list {
		set[v] = true
	}
	return set
}

// lately is something that was read from the database within the last moment. One read at a time serves all who ask.
type lately[T any] struct {
	read    atomic.Pointer[stamped[T]]
	reading singleflight.Group
}

type stamped[T any] struct {
	value  T
	readAt time.Time
}

func (l *lately[T]) get(ctx context.Context, read func(ctx context.Context) (T, error)) (T, error) {
	if known := l.read.Load(); known != nil && time.Since(known.readAt) < Staleness {
		return known.value, nil
	}
	done := l.reading.DoChan("", func() (any, error) {
		readAt := time.Now()
		value, err := read(context.WithoutCancel(ctx))
		if err == nil {
			l.read.Store(&stamped[T]{value, readAt})
		}
		return value, err
	})
	select {
	case <-ctx.Done():
		return *new(T), ctx.Err()
	case r := <-done:
		return r.Val.(T), r.Err
	}
}

// forget has the next one who asks read.
func (l *lately[T]) forget() { l.read.Store(nil) }

// read returns the client from the cache, or from the database: one read at a time for each client.
func (s *Service) read(ctx context.Context, id string) (*Client, error) {
	if hit, ok := s.cache.Get(id); ok && time.Since(hit.readAt) < Staleness {
		return hit.client, nil
	}
	read := s.reads.DoChan(id, func() (any, error) {
		readAt := time.Now()
		// The read serves every request that waits for it, so it must not end with the first one's.
		c, err := s.store.Client(context.WithoutCancel(ctx), id)
		if err != nil || c.Disabled { // neither is remembered: it may be good any moment
			s.cache.Remove(id)
			return &c, err
		}
		s.cache.Add(id, cached{client: &c, readAt: readAt})
		return &c, nil
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-read:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*Client), nil
	}
}

// digest is what the database holds of a secret.
func digest(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// errGivenSecret refuses a secret that is not the server's.
var errGivenSecret = invalid("client_secret", "is made by the server, and only when a client is registered or its secret rotated")

// LoginScope is the scope of a client that logs users in by code and is registered without one.
var LoginScope = Scope{ScopeOpenID, "profile", "email", ScopeOffline}

// setDefaults gives the members that are left out their defaults (RFC 7591 section 2). An empty list of grants is not left out,
// nor is an empty scope that is there.
func (c *Client) setDefaults() {
	if c.Name == "" {
		c.Name = c.ID
	}
	if c.AuthMethod == "" {
		c.AuthMethod = SecretBasic
	}
	if c.Grants == nil {
		c.Grants = []Grant{Password, RefreshToken}
		if len(c.RedirectURIs) > 0 {
			c.Grants = []Grant{AuthorizationCode, RefreshToken}
		}
	}
	if c.Scope == nil && c.May(AuthorizationCode) {
		c.Scope = slices.Clone(LoginScope)
	}
	c.setDetailDefaults()
}

func (c *Client) setDetailDefaults() {
	if c.ApplicationType == "" {
		c.ApplicationType = Web
	}
	if c.IDTokenAlg == "" {
		c.IDTokenAlg = keys.RS256 // OpenID Connect Registration section 2
		if c.Profile == FAPI2 {
			c.IDTokenAlg = keys.ES256
		}
	}
	if c.Profile == FAPI2 { // sections 5.3.2.1 and 5.3.2.2
		c.RequirePAR, c.RequireDPoP = true, true
	}
}

// complete fills in what is left out, drops what is repeated, and checks the client. Its errors are FieldErrors.
func (s *Service) complete(c *Client) error {
	c.setDefaults()
	c.Grants = once(c.Grants)
	for _, list := range []*[]string{&c.Audience, &c.RedirectURIs, &c.BrowserOrigins, &c.Contacts, &c.PostLogoutRedirectURIs} {
		*list = once(*list)
	}
	if err := c.Validate(); err != nil {
		return err
	}
	for _, uri := range []struct{ field, value string }{{"backchannel_logout_uri", c.BackchannelLogoutURI}, {"jwks_uri", c.JWKSURI}} {
		if u, err := url.Parse(uri.value); err == nil && u.Scheme == "http" && (s.cfg.AllowHTTP == nil || !s.cfg.AllowHTTP(u.Hostname())) {
			return invalid(uri.field, "%q must be https", uri.value)
		}
	}
	return nil
}

// once is the list with each of its values where it comes first.
func once[T comparable](list []T) []T {
	seen := map[T]bool{} // a stranger's list may be long
	return slices.DeleteFunc(slices.Clone(list), func(v T) bool {
		known := seen[v]
		seen[v] = true
		return known
	})
}

// Create registers c. An empty id, name, authentication method or absent list of grants gets the default. The answer holds the secret
// of a confidential client, which is nowhere to be found later.
func (s *Service) Create(ctx context.Context, c Client, o audit.Origin) (Client, error) {
	return s.CreateWithSecret(ctx, c, newToken(secretPrefix), o)
}

// CreateWithSecret is Create with a secret that was made elsewhere, of as much randomness as Create's.
func (s *Service) CreateWithSecret(ctx context.Context, c Client, secret string, o audit.Origin) (Client, error) {
	if c.ID == "" {
		c.ID = uuid.NewString()
	}
	if c.Secret != "" {
		return Client{}, errGivenSecret
	}
	if err := s.complete(&c); err != nil {
		return Client{}, err
	}
	secret = s.born(&c, secret)
	e := event(audit.ClientCreated, o, c.ID)
	created, err := s.store.CreateClient(ctx, c, e)
	return s.changed(ctx, created, secret, e, err)
}

// born gives a new client its epoch, and the secret, which it returns unless the client is public.
func (s *Service) born(c *Client, secret string) string {
	var epoch [8]byte
	_, _ = rand.Read(epoch[:])
	c.Epoch = int64(binary.BigEndian.Uint64(epoch[:]) >> 2) // room to be raised
	if !c.HasSecret() {
		return ""
	}
	c.SecretDigest = digest(secret)
	return secret
}

// Update replaces the metadata of the client with c's id, and disables or enables it. Whether it came by itself stays. It returns
// ErrNotFound, a FieldError, or, where c has a version and is not the newest, ErrChanged. A client that was public and is to have a secret
// is given one, which the answer holds.
func (s *Service) Update(ctx context.Context, c Client, o audit.Origin) (Client, error) {
	if !ValidID(c.ID) {
		return Client{}, ErrNotFound
	}
	if c.Secret != "" { // RFC 7592 section 2.2: the one that it has may be repeated
		stored, err := s.store.Client(ctx, c.ID)
		if err != nil {
			return Client{}, err
		}
		if !stored.proves(c.Secret) {
			return Client{}, errGivenSecret
		}
	}
	if err := s.complete(&c); err != nil {
		return Client{}, err
	}
	secret := newToken(secretPrefix) // for a client that has none
	if c.SecretDigest = digest(secret); !c.HasSecret() {
		c.SecretDigest = nil
	}
	e, toggled := event(audit.ClientUpdated, o, c.ID), event(toggledTo(c.Disabled), o, c.ID)
	updated, wasToggled, err := s.store.UpdateClient(ctx, c, e, toggled)
	if err == nil && wasToggled {
		toggled.Log(ctx, s.log)
	}
	if !bytes.Equal(updated.SecretDigest, c.SecretDigest) || !c.HasSecret() {
		secret = ""
	}
	return s.changed(ctx, updated, secret, e, err)
}

// toggledTo is the type of the event of a client that is disabled or enabled.
func toggledTo(disabled bool) audit.Type {
	if disabled {
		return audit.ClientDisabled
	}
	return audit.ClientEnabled
}

// maxOverlap is the longest that an old secret stays good, longer than anybody should want.
const maxOverlap = 366 * 24 * time.Hour

// ErrOverlap says for how long an old secret may stay good.
var ErrOverlap = errors.New("overlap: must be a duration such as 30m, 24h or 7d, at most 366d")

// RotateSecret gives the client a new secret, which the answer holds. The old one stays good for the overlap; ErrOverlap is for a bad one.
func (s *Service) RotateSecret(ctx context.Context, id string, overlap time.Duration, o audit.Origin) (Client, error) {
	if overlap < 0 || overlap > maxOverlap {
		return Client{}, ErrOverlap
	}
	if !ValidID(id) {
		return Client{}, ErrNotFound
	}
	c, err := s.store.Client(ctx, id)
	if err != nil {
		return Client{}, err
	}
	if !c.HasSecret() {
		return Client{}, invalid("token_endpoint_auth_method", "the client is public, or proves itself by keys: it has no secret to rotate")
	}
	secret := newToken(secretPrefix)
	e := event(audit.ClientSecretRotated, o, id)
	if overlap > 0 {
		e.Detail = fmt.Sprintf("the old secret stays good for %s", overlap)
	}
	c, err = s.store.RotateClientSecret(ctx, id, digest(secret), overlap, e)
	return s.changed(ctx, c, secret, e, err)
}

// SetDisabled disables the client, which ends its sessions and tokens for good, or enables it again.
func (s *Service) SetDisabled(ctx context.Context, id string, disabled bool, o audit.Origin) (Client, error) {
	if !ValidID(id) {
		return Client{}, ErrNotFound
	}
	e := event(toggledTo(disabled), o, id)
	c, err := s.store.SetClientDisabled(ctx, id, disabled, e)
	return s.changed(ctx, c, "", e, err)
}

// Delete deletes the client; its sessions and tokens are dead.
func (s *Service) Delete(ctx context.Context, id string, o audit.Origin) error {
	if !ValidID(id) {
		return ErrNotFound
	}
	e := event(audit.ClientDeleted, o, id)
	_, err := s.changed(ctx, Client{ID: id}, "", e, s.store.DeleteClient(ctx, id, e))
	return err
}

// Get returns the client as it is in the database, or ErrNotFound.
func (s *Service) Get(ctx context.Context, id string) (Client, error) {
	if !ValidID(id) {
		return Client{}, ErrNotFound
	}
	return s.store.Client(ctx, id)
}

// List returns the selected clients in the order of their ids.
func (s *Service) List(ctx context.Context, f Filter) ([]Client, error) {
	return s.store.Clients(ctx, f)
}

func event(t audit.Type, o audit.Origin, id string) audit.Event {
	e := audit.New(t, o)
	e.ClientID = id
	return e
}

// changed ends every change: it forgets what was read before and logs the event.
func (s *Service) changed(ctx context.Context, c Client, secret string, e audit.Event, err error) (Client, error) {
	if err != nil {
		return Client{}, err
	}
	s.cache.Remove(c.ID)
	s.browserOrigins.forget()
	s.tokenOrigins.forget()
	e.Log(ctx, s.log)
	c.Secret = secret
	return c, nil
}

// Resources returns what the client's tokens may be for: its registered audience, or else the issuer.
func (c *Client) Resources(issuer string) []string {
	if len(c.Audience) > 0 {
		return c.Audience
	}
	return []string{issuer}
}

// Serves tells whether an access token with the audience aud is this resource server's business.
func (c *Client) Serves(aud []string, issuer string) bool {
	return c.ResourceServer && slices.ContainsFunc(c.Resources(issuer), func(r string) bool { return slices.Contains(aud, r) })
}
