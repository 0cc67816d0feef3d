package clients

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"signet/keys"
)

// Grant is a way to obtain a token (RFC 6749 section 1.3).
type Grant string

// The grants that the server knows.
const (
	AuthorizationCode Grant = "authorization_code"
	Password          Grant = "password"
	RefreshToken      Grant = "refresh_token"
	ClientCredentials Grant = "client_credentials"
	DeviceCode        Grant = "urn:ietf:params:oauth:grant-type:device_code"    // RFC 8628
	TokenExchange     Grant = "urn:ietf:params:oauth:grant-type:token-exchange" //nolint:gosec // RFC 8693
)

// Grants lists the grants that the server knows.
var Grants = []Grant{AuthorizationCode, Password, RefreshToken, ClientCredentials, DeviceCode, TokenExchange}

// AuthMethod is how a client authenticates at the token endpoint (RFC 7591 section 2).
type AuthMethod string

// The client authentication methods. Basic and post are both open to every client with a secret, whichever is registered.
const (
	SecretBasic AuthMethod = "client_secret_basic"
	SecretPost  AuthMethod = "client_secret_post"
	None        AuthMethod = "none"

	// PrivateKeyJWT is by an assertion that the client signs (RFC 7523), and by nothing else.
	PrivateKeyJWT AuthMethod = "private_key_jwt"
)

// AuthMethods lists the client authentication methods.
var AuthMethods = []AuthMethod{SecretBasic, SecretPost, None, PrivateKeyJWT}

// Profile is a set of rules that a client is held to beyond those for all.
type Profile string

// FAPI2 is the FAPI 2.0 Security Profile.
const FAPI2 Profile = "fapi2"

// Profiles lists the profiles; the empty one adds no rules.
var Profiles = []Profile{"", FAPI2}

// ApplicationType is where a client runs (OpenID Connect Registration section 2). It decides what redirect URIs it may have.
type ApplicationType string

// The application types.
const (
	Web    ApplicationType = "web"    // on a server, or in a browser
	Native ApplicationType = "native" // installed on a device (RFC 8252)
)

// ApplicationTypes lists the application types, the default first.
var ApplicationTypes = []ApplicationType{Web, Native}

// IDTokenAlgs lists what ID tokens may be signed with: all but HS256, for which each client would need the secret.
var IDTokenAlgs = slices.DeleteFunc(slices.Clone(keys.Algorithms), func(a keys.Algorithm) bool { return a == keys.HS256 })

// SigningNeed is what a client wants of the signing keys.
type SigningNeed struct {
	IDTokenAlg keys.Algorithm // empty: that of old clients, RS256
	AccessTTL  string         // a life of its own for its access tokens, as ParseTTL reads it
}

// Client is a registered client application.
type Client struct {
	ID             string
	Name           string
	Grants         []Grant
	AuthMethod     AuthMethod
	Scope          Scope
	Audience       []string // the resources that its tokens are for; none: the issuer
	RedirectURIs   []string
	BrowserOrigins []string
	ResourceServer bool // may introspect access tokens for its audience
	Disabled       bool
	CreatedAt      time.Time

	// What users are told of it, and how it logs them in. The database keeps all of this in one column; see Details.
	ApplicationType                  ApplicationType
	OptionalPKCE                     bool // it may leave out the challenge; see NeedsPKCE
	SkipConsent                      bool // a first-party app: nobody is asked whether it may
	ClientURI, LogoURI               string
	PolicyURI, TOSURI                string
	Contacts                         []string
	PostLogoutRedirectURIs           []string
	BackchannelLogoutURI             string
	BackchannelLogoutSessionRequired bool
	IDTokenAlg                       keys.Algorithm
	DefaultMaxAge                    *time.Duration // whole seconds; nil: a login is good however old it is
	RequireAuthTime                  bool
	AccessTTL, RefreshTTL            time.Duration // whole seconds; zero: the server's
	SessionTTL                       time.Duration // likewise
	Registered                       bool          // it has come by itself: nobody of ours vouches for it

	// How it proves itself by keys. They are in that column, too.
	Profile      Profile
	JWKS         json.RawMessage // its public keys (RFC 7591 section 2)
	JWKSURI      string          // where they are, instead
	AssertionAlg AssertionAlg    // empty: any that its keys are for
	RequirePAR   bool            // its authorization requests have to be pushed (RFC 9126 section 6)
	RequireDPoP  bool            // its access tokens have to be bound to a key (RFC 9449 section 5.2)

	// Version is raised by every change.
	Version int64

	// Epoch is raised when the client is disabled and is random at first: sessions and tokens that began in another
	// epoch are dead, whatever became of the client since.
	Epoch int64

	Secret         string // in the clear: only in the answer to a call that made it
	SecretDigest   []byte // SHA-256; nil for a client without a secret
	PreviousDigest []byte // the digest of the secret before, while it is still good
}

// Public tells whether the client proves itself by nothing (RFC 6749 section 2.1).
func (c *Client) Public() bool { return c.AuthMethod == None }

// HasSecret tells whether the client proves itself by a secret.
func (c *Client) HasSecret() bool { return c.AuthMethod == SecretBasic || c.AuthMethod == SecretPost }

// May tells whether the client is registered for the grant.
func (c *Client) May(g Grant) bool { return slices.Contains(c.Grants, g) }

// NeedsPKCE tells whether each of its authorization requests has to have a challenge (RFC 7636).
func (c *Client) NeedsPKCE() bool { return c.Public() || !c.OptionalPKCE }

// FieldError says which member of a client's metadata cannot be, and why.
type FieldError struct {
	Field   string // the member's name in the client object; empty where it is none of its members
	Problem string
}

func (e *FieldError) Error() string {
	if e.Field == "" {
		return e.Problem
	}
	return e.Field + ": " + e.Problem
}

func invalid(field, format string, args ...any) error {
	return &FieldError{Field: field, Problem: fmt.Sprintf(format, args...)}
}

const (
	maxIDLength   = 255
	maxNameLength = 255
	maxListLength = 100
	maxURILength  = 2048
)

// errID says what an id has to be.
var errID = invalid("client_id", "must be 1 to %d visible ASCII characters", maxIDLength)

func errAuthMethod(m AuthMethod) error {
	return invalid("token_endpoint_auth_method", "%q is unknown; allowed: %s", m, join(AuthMethods))
}

// ValidID tells whether s is 1 to 255 visible ASCII characters.
func ValidID(s string) bool {
	return s != "" && len(s) <= maxIDLength && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// Validate checks the metadata of a client as a whole. Its errors are FieldErrors.
func (c *Client) Validate() error {
	if !ValidID(c.ID) {
		return errID
	}
	if !isLine(c.Name, maxNameLength) {
		return invalid("client_name", "must be 1 to %d characters, not all blank, and none of them control characters", maxNameLength)
	}
	if !slices.Contains(AuthMethods, c.AuthMethod) {
		return errAuthMethod(c.AuthMethod)
	}
	for _, g := range c.Grants {
		if !slices.Contains(Grants, g) {
			return invalid("grant_types", "%q is unknown; allowed: %s", g, join(Grants))
		}
	}
	if c.Public() && c.May(ClientCredentials) {
		return invalid("grant_types", "client_credentials needs a client with a secret, and this one is public")
	}
	if c.Public() && c.May(TokenExchange) {
		return invalid("grant_types", "%s needs a client with a secret, and this one is public", TokenExchange)
	}
	if c.Public() && c.ResourceServer {
		return invalid("resource_server", "a resource server needs a secret to introspect with, and this client is public")
	}
	if c.May(AuthorizationCode) && len(c.RedirectURIs) == 0 {
		return invalid("redirect_uris", "the grant authorization_code needs at least one: it is where users are sent back to")
	}
	if err := c.validateLogin(); err != nil {
		return err
	}
	if err := c.validateKeys(); err != nil {
		return err
	}
	return c.validateReach()
}

// validateLogin checks how the client logs users in, and what they are told of it.
func (c *Client) validateLogin() error {
	if !slices.Contains(ApplicationTypes, c.ApplicationType) {
		return invalid("application_type", "%q is unknown; allowed: %s", c.ApplicationType, join(ApplicationTypes))
	}
	if c.Public() && c.OptionalPKCE {
		return invalid("require_pkce", "must be true: a public client has nothing but PKCE to prove itself by")
	}
	if !slices.Contains(IDTokenAlgs, c.IDTokenAlg) {
		return invalid("id_token_signed_response_alg", "%q cannot be; allowed: %s", c.IDTokenAlg, join(IDTokenAlgs))
	}
	if c.DefaultMaxAge != nil && !validMaxAge(*c.DefaultMaxAge) {
		return invalid("default_max_age", "must be 0 to %d whole seconds", maxTTL/time.Second)
	}
	for _, ttl := range []struct {
		field string
		value time.Duration
	}{{"access_token_ttl", c.AccessTTL}, {"refresh_token_ttl", c.RefreshTTL}, {"session_ttl", c.SessionTTL}} {
		if ttl.value != 0 && !validTTL(ttl.value) {
			return invalid(ttl.field, "%v", errTTL)
		}
	}
	for _, uri := range []struct{ field, value string }{
		{"client_uri", c.ClientURI}, {"logo_uri", c.LogoURI}, {"policy_uri", c.PolicyURI}, {"tos_uri", c.TOSURI},
	} {
		if uri.value == "" {
			continue
		}
		if problem := checkPageURI(uri.value); problem != "" {
			return invalid(uri.field, "%q %s", uri.value, problem)
		}
	}
	if c.BackchannelLogoutURI != "" {
		if problem := checkBackchannelURI(c.BackchannelLogoutURI); problem != "" {
			return invalid("backchannel_logout_uri", "%q %s", c.BackchannelLogoutURI, problem)
		}
	}
	return nil
}

// isLine tells whether s is text that may stand in a line of a page: with something to be seen, without control characters, and without
// those that turn the writing direction, by which a name can be made to look like another.
func isLine(s string, most int) bool {
	visible := func(r rune) bool {
		return unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S) && !unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
	}
	return utf8.RuneCountInString(s) <= most && utf8.ValidString(s) && strings.ContainsFunc(s, visible) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
	})
}

// What of the metadata goes into each access token is bounded, in bytes: headers have to hold it, and browsers take no cookie
// of more than 4 KiB.
const (
	maxTokenContent  = 6 << 10
	maxCookieContent = 2 << 10
)

// validateReach checks what the client may reach: scope, audience and addresses.
func (c *Client) validateReach() error {
	if _, err := ParseScope(c.Scope.String()); err != nil {
		return invalid("scope", "%v", err)
	}
	for _, token := range c.Scope {
		if Reserved(token) && token != ScopeAdmin && token != ScopeAccount {
			return invalid("scope", "%q is reserved; Signet's own scopes are %s and %s", token, ScopeAdmin, ScopeAccount)
		}
	}
	for _, list := range []struct {
		field  string
		values []string
		check  func(string) string
	}{
		{"audience", c.Audience, CheckAudience},
		{"redirect_uris", c.RedirectURIs, c.checkRedirectURI},
		{"post_logout_redirect_uris", c.PostLogoutRedirectURIs, c.checkReturnURI},
		{"contacts", c.Contacts, checkContact},
		{"browser_origins", c.BrowserOrigins, CheckOrigin},
	} {
		if len(list.values) > maxListLength {
			return invalid(list.field, "has %d entries; the most is %d", len(list.values), maxListLength)
		}
		for _, v := range list.values {
			if len(v) > maxURILength {
				return invalid(list.field, "an entry is longer than %d bytes", maxURILength)
			}
			if problem := list.check(v); problem != "" {
				return invalid(list.field, "%q %s", v, problem)
			}
		}
	}
	most := maxTokenContent
	if len(c.BrowserOrigins) > 0 && c.May(Password) {
		most = maxCookieContent
	}
	if n := len(c.Scope.String()) + len(strings.Join(c.Audience, " ")); n > most {
		return invalid("scope", "and audience go into each access token, and with %d bytes are too long together; the most is %d", n, most)
	}
	return nil
}

func join[T ~string](list []T) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = string(v)
	}
	return strings.Join(words, ", ")
}
