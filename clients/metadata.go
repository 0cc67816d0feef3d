package clients

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"signet/keys"
)

// wire is the client object of the public contract, with RFC 7591's names where it has one.
type wire struct {
	ID              *string     `json:"client_id"`
	Secret          string      `json:"client_secret,omitempty"`
	IssuedAt        int64       `json:"client_id_issued_at"`
	SecretExpiresAt int64       `json:"client_secret_expires_at"`
	Name            string      `json:"client_name"`
	Grants          []Grant     `json:"grant_types"`
	ResponseTypes   []string    `json:"response_types"`
	AuthMethod      *AuthMethod `json:"token_endpoint_auth_method"`
	Scope           *string     `json:"scope"`
	Audience        []string    `json:"audience"`
	RedirectURIs    []string    `json:"redirect_uris"`
	details
	BrowserOrigins []string `json:"browser_origins"`
	ResourceServer bool     `json:"resource_server"`
	Disabled       bool     `json:"disabled"`
}

// details are the members that no statement looks at. The database keeps them in one column, under the same names.
type details struct {
	ApplicationType                  ApplicationType `json:"application_type"`
	RequirePKCE                      *bool           `json:"require_pkce"`
	SkipConsent                      bool            `json:"skip_consent"`
	ClientURI                        string          `json:"client_uri,omitempty"`
	LogoURI                          string          `json:"logo_uri,omitempty"`
	PolicyURI                        string          `json:"policy_uri,omitempty"`
	TOSURI                           string          `json:"tos_uri,omitempty"`
	Contacts                         []string        `json:"contacts"`
	PostLogoutRedirectURIs           []string        `json:"post_logout_redirect_uris"`
	BackchannelLogoutURI             string          `json:"backchannel_logout_uri,omitempty"`
	BackchannelLogoutSessionRequired bool            `json:"backchannel_logout_session_required"`
	IDTokenAlg                       keys.Algorithm  `json:"id_token_signed_response_alg"`
	DefaultMaxAge                    *int64          `json:"default_max_age,omitempty"`
	RequireAuthTime                  bool            `json:"require_auth_time"`
	AccessTTL                        string          `json:"access_token_ttl,omitempty"`
	RefreshTTL                       string          `json:"refresh_token_ttl,omitempty"`
	SessionTTL                       string          `json:"session_ttl,omitempty"`
	Registered                       bool            `json:"registered,omitempty"`
	Profile                          Profile         `json:"profile,omitempty"`
	JWKS                             json.RawMessage `json:"jwks,omitempty"`
	JWKSURI                          string          `json:"jwks_uri,omitempty"`
	AssertionAlg                     AssertionAlg    `json:"token_endpoint_auth_signing_alg,omitempty"`
	RequirePAR                       bool            `json:"require_pushed_authorization_requests"`
	RequireDPoP                      bool            `json:"dpop_bound_access_tokens"`
}

// codeAlone is what response_types is: there are no others (RFC 7591 section 2).
var codeAlone = []string{"code"}

func (c *Client) details() details {
	needsPKCE := !c.OptionalPKCE
	d := details{
		ApplicationType: c.ApplicationType, RequirePKCE: &needsPKCE, SkipConsent: c.SkipConsent,
		ClientURI: c.ClientURI, LogoURI: c.LogoURI, PolicyURI: c.PolicyURI, TOSURI: c.TOSURI, Contacts: orEmpty(c.Contacts),
		PostLogoutRedirectURIs: orEmpty(c.PostLogoutRedirectURIs), BackchannelLogoutURI: c.BackchannelLogoutURI,
		BackchannelLogoutSessionRequired: c.BackchannelLogoutSessionRequired, IDTokenAlg: c.IDTokenAlg, RequireAuthTime: c.RequireAuthTime,
		AccessTTL: FormatTTL(c.AccessTTL), RefreshTTL: FormatTTL(c.RefreshTTL), SessionTTL: FormatTTL(c.SessionTTL), Registered: c.Registered,
		Profile: c.Profile, JWKS: c.JWKS, JWKSURI: c.JWKSURI, AssertionAlg: c.AssertionAlg, RequirePAR: c.RequirePAR, RequireDPoP: c.RequireDPoP,
	}
	if c.DefaultMaxAge != nil {
		seconds := int64(*c.DefaultMaxAge / time.Second)
		d.DefaultMaxAge = &seconds
	}
	return d
}

// setDetails takes the members over. Its errors are FieldErrors.
func (c *Client) setDetails(d details) error {
	c.ApplicationType, c.SkipConsent, c.RequireAuthTime, c.IDTokenAlg = d.ApplicationType, d.SkipConsent, d.RequireAuthTime, d.IDTokenAlg
	c.Registered = d.Registered
	c.OptionalPKCE = d.RequirePKCE != nil && !*d.RequirePKCE
	c.ClientURI, c.LogoURI, c.PolicyURI, c.TOSURI, c.Contacts = d.ClientURI, d.LogoURI, d.PolicyURI, d.TOSURI, d.Contacts
	c.PostLogoutRedirectURIs = d.PostLogoutRedirectURIs
	c.BackchannelLogoutURI, c.BackchannelLogoutSessionRequired = d.BackchannelLogoutURI, d.BackchannelLogoutSessionRequired
	c.Profile, c.JWKSURI, c.AssertionAlg, c.RequirePAR, c.RequireDPoP = d.Profile, d.JWKSURI, d.AssertionAlg, d.RequirePAR, d.RequireDPoP
	if c.JWKS = d.JWKS; string(d.JWKS) == "null" {
		c.JWKS = nil
	}
	c.DefaultMaxAge = nil
	if d.DefaultMaxAge != nil {
		seconds := *d.DefaultMaxAge
		if seconds < 0 || seconds > int64(maxTTL/time.Second) { // more would not fit into a duration
			return invalid("default_max_age", "must be 0 to %d seconds", maxTTL/time.Second)
		}
		age := time.Duration(seconds) * time.Second
		c.DefaultMaxAge = &age
	}
	for _, ttl := range []struct {
		field, text string
		value       *time.Duration
	}{
		{"access_token_ttl", d.AccessTTL, &c.AccessTTL}, {"refresh_token_ttl", d.RefreshTTL, &c.RefreshTTL}, {"session_ttl", d.SessionTTL, &c.SessionTTL},
	} {
		var err error
		if *ttl.value, err = ParseTTL(ttl.text); err != nil {
			return invalid(ttl.field, "%q %v", ttl.text, err)
		}
	}
	return nil
}

// Details are a client's members that no statement looks at, as a storage keeps them: as one JSON object, in one column. What
// an older row lacks has its default.
type Details struct{ Of *Client }

// MarshalJSON writes the members.
func (d Details) MarshalJSON() ([]byte, error) { return json.Marshal(d.Of.details()) }

// UnmarshalJSON reads the members into the client.
func (d Details) UnmarshalJSON(text []byte) error {
	var stored details
	if err := json.Unmarshal(text, &stored); err != nil {
		return err
	}
	err := d.Of.setDetails(stored)
	d.Of.setDetailDefaults()
	return err
}

// MarshalJSON writes the client object, without the digests.
func (c Client) MarshalJSON() ([]byte, error) {
	scope := c.Scope.String()
	return json.Marshal(wire{
		ID: &c.ID, Secret: c.Secret, IssuedAt: c.CreatedAt.Unix(), Name: c.Name, Grants: orEmpty(c.Grants), ResponseTypes: codeAlone, AuthMethod: &c.AuthMethod,
		Scope: &scope, Audience: orEmpty(c.Audience), RedirectURIs: orEmpty(c.RedirectURIs), details: c.details(),
		BrowserOrigins: orEmpty(c.BrowserOrigins), ResourceServer: c.ResourceServer, Disabled: c.Disabled,
	})
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// ParseMetadata reads a client object. Members that only the server sets, and those that are left out or null, are ignored; the
// secret is taken over, for the caller to refuse or to check. Its errors are FieldErrors, of an empty field where the text is no
// JSON object at all.
func ParseMetadata(text []byte) (Client, error) {
	var w wire
	if err := Decode(text, &w); err != nil {
		return Client{}, err
	}
	c := Client{
		Secret: w.Secret, Name: w.Name, Grants: w.Grants, Audience: w.Audience, RedirectURIs: w.RedirectURIs,
		BrowserOrigins: w.BrowserOrigins, ResourceServer: w.ResourceServer, Disabled: w.Disabled,
	}
	// These two are empty in a Client where they are left out.
	if w.ID != nil {
		if c.ID = *w.ID; c.ID == "" {
			return Client{}, errID
		}
	}
	if w.AuthMethod != nil {
		if c.AuthMethod = *w.AuthMethod; c.AuthMethod == "" {
			return Client{}, errAuthMethod(c.AuthMethod)
		}
	}
	// A client without the code grant may say that it has none.
	if w.ResponseTypes != nil && !slices.Equal(w.ResponseTypes, codeAlone) && (len(w.ResponseTypes) > 0 || c.May(AuthorizationCode)) {
		return Client{}, invalid("response_types", `must be ["code"]: there are no others`)
	}
	if w.Scope != nil {
		scope, err := ParseScope(*w.Scope)
		if err != nil {
			return Client{}, invalid("scope", "%v", err)
		}
		c.Scope = scope
	}
	return c, c.setDetails(w.details)
}

// Decode reads one JSON object into the struct that v points to, which knows every member. Names are what they are, in that
// case, and once: to the decoder of the standard library that is all the same. Its errors are FieldErrors.
func Decode(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return invalid("", "a JSON object is wanted")
	}
	members := membersOf(reflect.TypeOf(v).Elem())
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		name, isName := token.(string)
		var value json.RawMessage
		if err != nil || !isName || d.Decode(&value) != nil {
			return invalid("", "a JSON object is wanted")
		}
		if !members[name] {
			return invalid(name, "is not a member that is known here")
		}
		if seen[name] {
			return invalid(name, "is there twice")
		}
		if !isText(value) {
			return invalid(name, "is not Unicode text")
		}
		seen[name] = true
	}
	err := json.Unmarshal(text, v)
	if mistyped := (*json.UnmarshalTypeError)(nil); errors.As(err, &mistyped) && mistyped.Field != "" {
		field, inner, _ := strings.Cut(mistyped.Field, ".")
		for inner != "" && !members[field] { // the name of an embedded struct
			field, inner, _ = strings.Cut(inner, ".")
		}
		if number, ok := strings.CutPrefix(mistyped.Value, "number "); ok { // a number is wanted, but none like this
			return invalid(field, "must be a whole number, written in digits: %s is none, or too large", number)
		}
		return invalid(field, "must not be a JSON %s", mistyped.Value)
	}
	if err != nil {
		return invalid("", "one JSON object is wanted, and nothing behind it")
	}
	return nil
}

// membersOf are the names that a struct's fields have in JSON.
func membersOf(fields reflect.Type) map[string]bool {
	names := map[string]bool{}
	for _, f := range reflect.VisibleFields(fields) {
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag != "" {
			names[tag] = true
		}
	}
	return names
}

// isText tells whether a JSON value is UTF-8 and its escapes are characters: for what is not, the decoder puts in U+FFFD.
func isText(value json.RawMessage) bool {
	var decoded any
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber() // one that is too large is text all the same
	if !utf8.Valid(value) || d.Decode(&decoded) != nil {
		return false
	}
	const replacement = "\ufffd"
	if bytes.Contains(value, []byte(replacement)) || bytes.Contains(bytes.ToLower(value), []byte(`\ufffd`)) {
		return true // it is meant
	}
	written, err := json.Marshal(decoded)
	return err == nil && !bytes.Contains(written, []byte(replacement))
}
