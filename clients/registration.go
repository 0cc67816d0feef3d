package clients

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"signet/audit"
)

// RegistrationMode is who may register clients by themselves (RFC 7591).
type RegistrationMode string

// The modes.
const (
	RegistrationOff   RegistrationMode = "off"
	RegistrationToken RegistrationMode = "token" // who has an initial access token
	RegistrationOpen  RegistrationMode = "open"  // anybody
)

// RegistrationModes lists the modes, the default first.
var RegistrationModes = []RegistrationMode{RegistrationOff, RegistrationToken, RegistrationOpen}

// registeredGrants are those that are open to registration.
var registeredGrants = []Grant{AuthorizationCode, RefreshToken, DeviceCode}

// What a client that comes by itself may take up.
const (
	maxRegisteredURIs = 32
	maxRegisteredName = 128 // characters
)

// UnusedTTL is how long a registered client is kept that nobody has used.
const UnusedTTL = 30 * 24 * time.Hour

// Errors of registration. ErrSoftwareStatement is RFC 7591's invalid_software_statement.
var (
	ErrNoInitialToken    = errors.New("no such initial access token that is good")
	ErrRegistrationToken = errors.New("the token is not good for this")
	ErrSoftwareStatement = errors.New("software statements are not supported")
)

// RegistrationStore is what this package needs of a database for clients that register themselves.
type RegistrationStore interface {
	// CreateRegistrationToken stores an initial access token.
	CreateRegistrationToken(ctx context.Context, digest []byte, uses int, ttl time.Duration, e audit.Event) (expires time.Time, err error)
	// RegistrationTokens returns the initial access tokens that are good, in the order of their digests.
	RegistrationTokens(ctx context.Context) ([]InitialToken, error)
	// RevokeRegistrationToken deletes an initial access token that is good, or returns ErrNoInitialToken.
	RevokeRegistrationToken(ctx context.Context, digest []byte, e audit.Event) error
	// RegisterClient inserts the client and its registration. An initial access token, if one is given, is used once more, or
	// ErrRegistrationToken returned.
	RegisterClient(ctx context.Context, c Client, digest, initial []byte, e audit.Event) (Client, error)
	// RegisteredClient returns the enabled client whose registration access token has the digest, or ErrRegistrationToken. Where it is the
	// newest one, the one before is good no more.
	RegisteredClient(ctx context.Context, id string, digest []byte) (Client, error)
	// RenewRegistration puts another digest in the place of the presented one, which is good until the new one is used.
	RenewRegistration(ctx context.Context, id string, presented, digest []byte) (bool, error)
}

// Registration tells who may register clients by themselves.
func (s *Service) Registration() RegistrationMode { return cmp.Or(s.cfg.Registration, RegistrationOff) }

const (
	secretPrefix     = "sgs_" // of client secrets
	managementPrefix = "sgm_" // of registration access tokens
	initialPrefix    = "sgi_" // of initial access tokens
)

// newToken returns a token of 256 random bits.
func newToken(prefix string) string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// InitialToken is an initial access token (RFC 7591 section 3): with it, clients may register.
type InitialToken struct {
	ID        string    `json:"id"`
	Token     string    `json:"initial_access_token,omitempty"` // only in the answer to the call that made it
	Uses      int       `json:"uses"`                           // that are left
	ExpiresAt time.Time `json:"expires_at"`
	Digest    []byte    `json:"-"`
}

// What an initial access token is good for unless somebody says otherwise.
const (
	InitialTokenUses = 1
	InitialTokenTTL  = 24 * time.Hour
)

// tokenID is what an initial access token is called by those who may not use it.
func tokenID(digest []byte) string { return base64.RawURLEncoding.EncodeToString(digest) }

// RegistrationTokens returns the initial access tokens that are good, in some order that stays.
func (s *Service) RegistrationTokens(ctx context.Context) ([]InitialToken, error) {
	list, err := s.store.RegistrationTokens(ctx)
	for i := range list {
		list[i].ID = tokenID(list[i].Digest)
	}
	return list, err
}

// RevokeRegistrationToken makes an initial access token good for nothing. The clients that have registered with it stay. It returns
// ErrNoInitialToken.
func (s *Service) RevokeRegistrationToken(ctx context.Context, id string, o audit.Origin) error {
	digest, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil || len(digest) != sha256.Size {
		return ErrNoInitialToken
	}
	e := audit.New(audit.RegistrationTokenRevoked, o)
	if err := s.store.RevokeRegistrationToken(ctx, digest, e); err != nil {
		return err
	}
	e.Log(ctx, s.log)
	return nil
}

// NewRegistrationToken makes an initial access token, with which so many clients may register. Its errors are FieldErrors, or the
// database's.
func (s *Service) NewRegistrationToken(ctx context.Context, uses int, ttl time.Duration, o audit.Origin) (InitialToken, error) {
	if uses < 1 || uses > 10000 {
		return InitialToken{}, invalid("uses", "must be 1 to 10000")
	}
	if !validTTL(ttl) {
		return InitialToken{}, invalid("ttl", "%v", errTTL)
	}
	token := newToken(initialPrefix)
	for strings.HasPrefix(tokenID(digest(token)), "-") { // as flags of commands do
		token = newToken(initialPrefix)
	}
	e := audit.New(audit.RegistrationTokenCreated, o)
	e.Detail = fmt.Sprintf("%d uses, %s", uses, FormatTTL(ttl))
	expires, err := s.store.CreateRegistrationToken(ctx, digest(token), uses, ttl, e)
	if err != nil {
		return InitialToken{}, err
	}
	e.Log(ctx, s.log)
	return InitialToken{ID: tokenID(digest(token)), Token: token, Uses: uses, ExpiresAt: expires}, nil
}

// ParseRegistration reads the metadata of a client that registers itself. What is not known, or not for it to decide, is dropped
// (RFC 7591 section 2). Its errors are FieldErrors, or ErrSoftwareStatement.
func ParseRegistration(text []byte) (Client, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil || members == nil {
		return Client{}, invalid("", "a JSON object is wanted")
	}
	if statement, ok := members["software_statement"]; ok && string(statement) != "null" {
		return Client{}, ErrSoftwareStatement
	}
	known := membersOf(reflect.TypeFor[wire]())
	for name, value := range members {
		unset := string(value) == `""` && (name == "client_id" || name == "token_endpoint_auth_method") // some libraries send all members
		if !known[name] || slices.Contains(notForThem, name) || unset {
			delete(members, name)
		}
	}
	kept, err := json.Marshal(members)
	if err != nil {
		return Client{}, invalid("", "a JSON object is wanted")
	}
	return ParseMetadata(kept)
}

// notForThem are members of a client that those who register themselves do not decide.
var notForThem = []string{
	"client_id_issued_at", "client_secret_expires_at", "skip_consent", "browser_origins", "resource_server", "disabled", "registered",
	"access_token_ttl", "refresh_token_ttl", "session_ttl", "require_pkce", "profile",
}

// confine fills in what a client that registers itself has left out, and refuses what is not open to registration. The rest is checked as
// for every client.
func (s *Service) confine(c *Client) error {
	c.Registered = true
	if c.Name == "" {
		c.Name = "App " + c.ID[:8]
	}
	if utf8.RuneCountInString(c.Name) > maxRegisteredName {
		return invalid("client_name", "is longer than %d characters", maxRegisteredName)
	}
	if c.Grants == nil {
		c.Grants = []Grant{AuthorizationCode, RefreshToken}
	}
	for _, g := range c.Grants {
		if !slices.Contains(registeredGrants, g) {
			return invalid("grant_types", "%q is not open to registration; allowed: %s", g, join(registeredGrants))
		}
	}
	if !c.May(AuthorizationCode) && !c.May(DeviceCode) { // RFC 7591 section 2.1: nobody gets into an inconsistent state
		return invalid("grant_types", "need %s or %s: the client could begin no session otherwise", AuthorizationCode, DeviceCode)
	}
	if len(c.RedirectURIs) > maxRegisteredURIs {
		return invalid("redirect_uris", "are more than %d", maxRegisteredURIs)
	}
	if len(c.PostLogoutRedirectURIs) > maxRegisteredURIs {
		return invalid("post_logout_redirect_uris", "are more than %d", maxRegisteredURIs)
	}
	if c.Scope == nil {
		c.Scope = slices.Clone(s.cfg.RegistrationScopes)
	}
	for _, token := range c.Scope {
		if Reserved(token) || !slices.Contains(s.cfg.RegistrationScopes, token) {
			return invalid("scope", "%q is not open to registration; allowed: %s", token, s.cfg.RegistrationScopes)
		}
	}
	if c.Audience == nil {
		c.Audience = slices.Clone(s.cfg.RegistrationAudiences)
	}
	for _, a := range c.Audience {
		if a != s.cfg.Issuer && !slices.Contains(s.cfg.RegistrationAudiences, a) {
			return invalid("audience", "%q is not open to registration", a)
		}
	}
	return nil
}

// Register registers a client that comes by itself, with the initial access token, which is empty in the open mode. The answer holds its
// secret, if it has one, and the token by which it manages its registration. Count is asked before anything is written, and only for what is
// not refused otherwise. It returns a FieldError, ErrRegistrationToken, or count's error.
func (s *Service) Register(ctx context.Context, c Client, initial string, count func() error, o audit.Origin) (registered Client, token string, err error) {
	var used []byte
	if s.Registration() == RegistrationToken {
		if !strings.HasPrefix(initial, initialPrefix) {
			return Client{}, "", ErrRegistrationToken
		}
		used = digest(initial)
	}
	c.ID, c.Secret, c.Disabled = uuid.NewString(), "", false
	if err := s.confine(&c); err != nil {
		return Client{}, "", err
	}
	if err := s.complete(&c); err != nil {
		return Client{}, "", err
	}
	if err := count(); err != nil {
		return Client{}, "", err
	}
	secret := s.born(&c, newToken(secretPrefix))
	token = newToken(managementPrefix)
	e := event(audit.ClientRegistered, o, c.ID)
	e.Detail = c.Name
	registered, err = s.store.RegisterClient(ctx, c, digest(token), used, e)
	registered, err = s.changed(ctx, registered, secret, e, err)
	return registered, token, err
}

// Registered returns the client that the registration access token is of, or ErrRegistrationToken: also for another client's, and for a
// client that is disabled.
func (s *Service) Registered(ctx context.Context, id, token string) (Client, error) {
	if !ValidID(id) || !strings.HasPrefix(token, managementPrefix) {
		return Client{}, ErrRegistrationToken
	}
	return s.store.RegisteredClient(ctx, id, digest(token))
}

// Reregister replaces the metadata of a client that registered itself (RFC 7592 section 2.2), by the same rules, and returns a new
// registration access token. The one presented is good until that is used, so that a lost answer locks nobody out.
func (s *Service) Reregister(ctx context.Context, id, token string, c Client, o audit.Origin) (updated Client, next string, err error) {
	stored, err := s.Registered(ctx, id, token)
	if err != nil {
		return Client{}, "", err
	}
	switch {
	case c.ID != stored.ID:
		return Client{}, "", invalid("client_id", "must be the client's own")
	case c.Secret != "" && !stored.proves(c.Secret):
		return Client{}, "", errGivenSecret
	}
	c.Secret = ""
	if err := s.confine(&c); err != nil {
		return Client{}, "", err
	}
	o.Actor = id
	if updated, err = s.Update(ctx, renewed(c, &stored), o); err != nil {
		return Client{}, "", err
	}
	next = newToken(managementPrefix)
	ok, err := s.store.RenewRegistration(ctx, id, digest(token), digest(next))
	if err == nil && !ok {
		err = ErrRegistrationToken
	}
	return updated, next, err
}

// Deregister deletes a client that registered itself: its tokens are dead (RFC 7592 section 2.3).
func (s *Service) Deregister(ctx context.Context, id, token string, o audit.Origin) error {
	if _, err := s.Registered(ctx, id, token); err != nil {
		return err
	}
	o.Actor = id
	err := s.Delete(ctx, id, o)
	if errors.Is(err, ErrNotFound) {
		err = ErrRegistrationToken
	}
	return err
}
