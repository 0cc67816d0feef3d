package clients

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Grant is a way to obtain a token (RFC 6749 section 1.3).
type Grant string

// The grants that the server knows.
const (
	Password          Grant = "password"
	RefreshToken      Grant = "refresh_token"
	ClientCredentials Grant = "client_credentials"
)

// Grants lists the grants that the server knows.
var Grants = []Grant{Password, RefreshToken, ClientCredentials}

// AuthMethod is how a client authenticates at the token endpoint (RFC 7591 section 2).
type AuthMethod string

// The client authentication methods. Basic and post are both open to every client with a secret, whichever is registered.
const (
	SecretBasic AuthMethod = "client_secret_basic"
	SecretPost  AuthMethod = "client_secret_post"
	None        AuthMethod = "none"
)

// AuthMethods lists the client authentication methods.
var AuthMethods = []AuthMethod{SecretBasic, SecretPost, None}

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

	// Version is raised by every change.
	Version int64

	// Epoch is raised when the client is disabled and is random at first: sessions and tokens that began in another
	// epoch are dead, whatever became of the client since.
	Epoch int64

	Secret         string // in the clear: only in the answer to a call that made it
	SecretDigest   []byte // SHA-256; nil for a public client
	PreviousDigest []byte // the digest of the secret before, while it is still good
}

// Public tells whether the client has no secret (RFC 6749 section 2.1).
func (c *Client) Public() bool { return c.AuthMethod == None }

// May tells whether the client is registered for the grant.
func (c *Client) May(g Grant) bool { return slices.Contains(c.Grants, g) }

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

// ValidID tells whether s is 1 to 255 visible ASCII characters.
func ValidID(s string) bool {
	return s != "" && len(s) <= maxIDLength && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// Validate checks the metadata of a client as a whole. Its errors are FieldErrors.
func (c *Client) Validate() error {
	if !ValidID(c.ID) {
		return invalid("client_id", "must be 1 to %d visible ASCII characters", maxIDLength)
	}
	if n := utf8.RuneCountInString(c.Name); n < 1 || n > maxNameLength || !utf8.ValidString(c.Name) || strings.ContainsFunc(c.Name, unicode.IsControl) {
		return invalid("client_name", "must be 1 to %d characters, none of them control characters", maxNameLength)
	}
	if !slices.Contains(AuthMethods, c.AuthMethod) {
		return invalid("token_endpoint_auth_method", "%q is unknown; allowed: %s", c.AuthMethod, join(AuthMethods))
	}
	for _, g := range c.Grants {
		if !slices.Contains(Grants, g) {
			return invalid("grant_types", "%q is unknown; allowed: %s", g, join(Grants))
		}
	}
	if c.Public() && c.May(ClientCredentials) {
		return invalid("grant_types", "client_credentials needs a client with a secret, and this one is public")
	}
	if c.Public() && c.ResourceServer {
		return invalid("resource_server", "a resource server needs a secret to introspect with, and this client is public")
	}
	return c.validateReach()
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
		if strings.HasPrefix(token, reservedPrefix) && token != ScopeAdmin && token != ScopeAccount {
			return invalid("scope", "%q is reserved; Signet's own scopes are %s and %s", token, ScopeAdmin, ScopeAccount)
		}
	}
	for _, list := range []struct {
		field  string
		values []string
		check  func(string) string
	}{
		{"audience", c.Audience, checkAudience},
		{"redirect_uris", c.RedirectURIs, checkRedirectURI},
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

// checkAudience wants an absolute URI without a fragment (RFC 8707 section 2).
func checkAudience(s string) string {
	if u, err := url.Parse(s); err != nil || !u.IsAbs() || strings.ContainsAny(s, "# ") || u.Opaque == "" && u.Host == "" && u.Path == "" {
		return "must be an absolute URI without a fragment"
	}
	return ""
}

// checkRedirectURI wants an exact https URI, or http on loopback (RFC 9700 sections 2.1 and 4.1).
func checkRedirectURI(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || strings.ContainsAny(s, "#* \\") || !httpsOrLoopback(u) {
		return "must be an https URI, or http on a loopback address, without fragment, user or wildcard"
	}
	return ""
}

// CheckOrigin tells what is wrong with s as an origin, or nothing: it wants what browsers send as Origin (RFC 6454 section 6.2): scheme, host and port, nothing more.
func CheckOrigin(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || s != u.Scheme+"://"+u.Host || s != strings.ToLower(s) || strings.ContainsAny(s, "* \\") || !httpsOrLoopback(u) {
		return "must be an origin such as https://app.example.com: https, or http on a loopback address, in lower case and without path"
	}
	return ""
}

func httpsOrLoopback(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && Loopback(u.Hostname())
}

// Loopback tells whether host names this machine: localhost or a loopback address.
func Loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
