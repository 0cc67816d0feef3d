package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"signet/clients"
	"signet/keys"
)

// clientForm is a form of a client's metadata, as it was sent or is to be shown.
type clientForm struct {
	New     bool
	Kind    clientKind
	Spare   string // the id that a new client gets if none is given: the same form sent twice registers one
	Version int64

	ID, Name, AuthMethod, Scope            string
	Audience, RedirectURIs, BrowserOrigins string // one a line
	Grants                                 []string
	ResourceServer                         bool

	ApplicationType, IDTokenAlg, DefaultMaxAge string
	ClientURI, LogoURI, PolicyURI, TOSURI      string
	Contacts, PostLogoutRedirectURIs           string // one a line
	BackchannelLogoutURI                       string
	OptionalPKCE, SkipConsent, RequireAuthTime bool
	BackchannelSession                         bool
	AccessTTL, RefreshTTL, SessionTTL          string

	JWKS, JWKSURI, AssertionAlg, Profile string
	RequirePAR, RequireDPoP              bool

	Problems map[string]string // by the field's name
}

// HasGrant tells whether the box of that grant is ticked.
func (f clientForm) HasGrant(g string) bool { return slices.Contains(f.Grants, g) }

// LogsIn tells whether the form has the fields of an app that logs users in. Others have them too as soon as there is something
// in them, or about to be.
func (f clientForm) LogsIn() bool {
	if f.HasGrant(string(clients.AuthorizationCode)) || f.RedirectURIs != "" || f.Troubled("redirect_uris", "post_logout_redirect_uris") {
		return true
	}
	return !f.New && f.Kind.Name != "machine" && f.Kind.Name != "api" && f.Kind.Name != "console"
}

// ByKeys tells whether anything is in the fields that say how the client proves itself by keys.
func (f clientForm) ByKeys() bool {
	return f.JWKS != "" || f.JWKSURI != "" || f.AssertionAlg != "" || f.Profile != "" || f.RequirePAR || f.RequireDPoP || f.AuthMethod == string(clients.PrivateKeyJWT)
}

// Troubled tells whether any of the fields has a problem.
func (f clientForm) Troubled(fields ...string) bool {
	return slices.ContainsFunc(fields, func(field string) bool { return f.Problems[field] != "" })
}

// option is one of the things that a form lets one choose from.
type option struct{ Value, Label string }

// Choices are what the form lets one choose from.
func (clientForm) Choices() map[string]any {
	var algorithms []option
	for _, a := range clients.IDTokenAlgs {
		algorithms = append(algorithms, option{string(a), string(a)})
	}
	assertions := []option{{"", "any that its keys are for"}}
	for _, a := range clients.AssertionAlgs {
		assertions = append(assertions, option{string(a), string(a)})
	}
	return map[string]any{
		"Assertions": assertions,
		"Profiles":   []option{{"", "none"}, {string(clients.FAPI2), "FAPI 2.0 Security Profile (fapi2)"}},
		"Grants": []option{
			{string(clients.AuthorizationCode), "authorization_code: users log in at Signet’s page"},
			{string(clients.Password), "password: a user’s name and password for tokens"},
			{string(clients.RefreshToken), "refresh_token: new tokens without a log-in"},
			{string(clients.ClientCredentials), "client_credentials: tokens for the client itself"},
			{string(clients.DeviceCode), "device_code: users log in on another device"},
			{string(clients.TokenExchange), "token_exchange: a user’s token for another one"},
		},
		"Types": []option{
			{string(clients.Web), "on a server or in a browser (web)"},
			{string(clients.Native), "installed on a device (native)"},
		},
		"Algorithms": algorithms,
		"Methods": []option{
			{string(clients.SecretBasic), "with a secret, in the header (client_secret_basic)"},
			{string(clients.SecretPost), "with a secret, in the body (client_secret_post)"},
			{string(clients.PrivateKeyJWT), "with its keys (private_key_jwt)"},
			{string(clients.None), "not at all: a public client (none)"},
		},
	}
}

func formOf(c *clients.Client) clientForm {
	f := clientForm{
		ID: c.ID, Name: c.Name, AuthMethod: string(c.AuthMethod), Scope: c.Scope.String(), Version: c.Version,
		Audience: strings.Join(c.Audience, "\n"), RedirectURIs: strings.Join(c.RedirectURIs, "\n"),
		BrowserOrigins: strings.Join(c.BrowserOrigins, "\n"), ResourceServer: c.ResourceServer, Kind: kindOf(c),
		ApplicationType: string(c.ApplicationType), IDTokenAlg: string(c.IDTokenAlg), DefaultMaxAge: clients.FormatMaxAge(c.DefaultMaxAge),
		ClientURI: c.ClientURI, LogoURI: c.LogoURI, PolicyURI: c.PolicyURI, TOSURI: c.TOSURI, Contacts: strings.Join(c.Contacts, "\n"),
		PostLogoutRedirectURIs: strings.Join(c.PostLogoutRedirectURIs, "\n"), BackchannelLogoutURI: c.BackchannelLogoutURI,
		OptionalPKCE: c.OptionalPKCE, SkipConsent: c.SkipConsent, RequireAuthTime: c.RequireAuthTime, BackchannelSession: c.BackchannelLogoutSessionRequired,
		AccessTTL: clients.FormatTTL(c.AccessTTL), RefreshTTL: clients.FormatTTL(c.RefreshTTL), SessionTTL: clients.FormatTTL(c.SessionTTL),
		JWKS: indented(c.JWKS), JWKSURI: c.JWKSURI, AssertionAlg: string(c.AssertionAlg), Profile: string(c.Profile), RequirePAR: c.RequirePAR, RequireDPoP: c.RequireDPoP,
	}
	for _, g := range c.Grants {
		f.Grants = append(f.Grants, string(g))
	}
	return f
}

// indented is JSON as one reads it.
func indented(text json.RawMessage) string {
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return string(text) // as it was entered
	}
	return b.String()
}

// readClient reads the form into a client that has been so far: what the form has no fields for stays. What cannot be is the
// problem of its field; what is well-formed, clients judges.
func (v *visit) readClient(c clients.Client) (clients.Client, clientForm) {
	version, _ := strconv.ParseInt(v.form("version"), 10, 64)
	c.ID, c.Name = strings.TrimSpace(v.form("client_id")), strings.TrimSpace(v.form("client_name"))
	c.AuthMethod, c.Grants, c.Version = clients.AuthMethod(v.form("token_endpoint_auth_method")), []clients.Grant{}, version
	c.Audience = strings.Fields(v.form("audience"))
	if v.Request.PostForm.Has("redirect_uris") {
		c.RedirectURIs = strings.Fields(v.form("redirect_uris"))
	}
	c.BrowserOrigins, c.ResourceServer = strings.Fields(v.form("browser_origins")), v.form("resource_server") != ""
	for _, g := range v.Request.PostForm["grant_types"] {
		c.Grants = append(c.Grants, clients.Grant(g))
	}
	problems := map[string]string{}
	if c.Name == "" {
		problems["client_name"] = "Name: must be given"
	}
	var err error
	if c.Scope, err = clients.ParseScope(strings.Join(strings.Fields(v.form("scope")), " ")); err != nil {
		problems["scope"] = "Scope: " + err.Error()
	}
	if v.Request.PostForm.Has("application_type") { // the form has the fields of an app that logs users in
		v.readLogin(&c, problems)
	}
	if v.Request.PostForm.Has("profile") { // nor has a form that was opened before an upgrade
		v.readKeys(&c)
	}
	for field, ttl := range map[string]*time.Duration{"access_token_ttl": &c.AccessTTL, "refresh_token_ttl": &c.RefreshTTL, "session_ttl": &c.SessionTTL} {
		if *ttl, err = clients.ParseTTL(strings.TrimSpace(v.form(field))); err != nil {
			problems[field] = fields[field] + ": " + err.Error()
		}
	}
	f := formOf(&c)
	f.Kind, f.Spare, f.Problems = kindNamed(v.form("kind")), v.form("spare"), problems
	// As it was entered.
	f.Scope, f.Audience, f.RedirectURIs, f.BrowserOrigins = v.form("scope"), v.form("audience"), v.form("redirect_uris"), v.form("browser_origins")
	f.PostLogoutRedirectURIs, f.Contacts, f.DefaultMaxAge = v.form("post_logout_redirect_uris"), v.form("contacts"), v.form("default_max_age")
	f.JWKS = v.form("jwks")
	f.AccessTTL, f.RefreshTTL, f.SessionTTL = v.form("access_token_ttl"), v.form("refresh_token_ttl"), v.form("session_ttl")
	return c, f
}

// readLogin reads how the client logs users in and what they are told of it.
func (v *visit) readLogin(c *clients.Client, problems map[string]string) {
	text := func(name string) string { return strings.TrimSpace(v.form(name)) }
	c.ApplicationType, c.IDTokenAlg = clients.ApplicationType(text("application_type")), keys.Algorithm(text("id_token_signed_response_alg"))
	c.OptionalPKCE, c.SkipConsent, c.RequireAuthTime = text("optional_pkce") != "", text("skip_consent") != "", text("require_auth_time") != ""
	c.PostLogoutRedirectURIs = strings.Fields(v.form("post_logout_redirect_uris"))
	c.BackchannelLogoutURI, c.BackchannelLogoutSessionRequired = text("backchannel_logout_uri"), text("backchannel_logout_session_required") != ""
	c.ClientURI, c.LogoURI, c.PolicyURI, c.TOSURI = text("client_uri"), text("logo_uri"), text("policy_uri"), text("tos_uri")
	c.Contacts = lines(v.form("contacts"))
	var err error
	if c.DefaultMaxAge, err = clients.ParseMaxAge(text("default_max_age")); err != nil {
		problems["default_max_age"] = fields["default_max_age"] + ": " + err.Error()
	}
}

// readKeys reads how the client proves itself by keys.
func (v *visit) readKeys(c *clients.Client) {
	text := func(name string) string { return strings.TrimSpace(v.form(name)) }
	c.JWKS = nil
	if keys := text("jwks"); keys != "" {
		c.JWKS = json.RawMessage(keys)
	}
	c.JWKSURI, c.AssertionAlg, c.Profile = text("jwks_uri"), clients.AssertionAlg(text("token_endpoint_auth_signing_alg")), clients.Profile(text("profile"))
	c.RequirePAR, c.RequireDPoP = text("require_pushed_authorization_requests") != "", text("dpop_bound_access_tokens") != ""
}

// fields are how the form calls the members of a client.
var fields = map[string]string{
	"client_id": "Id", "client_name": "Name", "token_endpoint_auth_method": "Authentication", "grant_types": "Grants", "scope": "Scope",
	"audience": "Audience", "redirect_uris": "Redirect URIs", "browser_origins": "Browser origins", "resource_server": "Resource server",
	"application_type": "Where it runs", "require_pkce": "PKCE", "skip_consent": "Consent", "client_uri": "Home page", "logo_uri": "Logo", "policy_uri": "Privacy policy",
	"tos_uri": "Terms of service", "contacts": "Contacts", "post_logout_redirect_uris": "Addresses after logging out", "backchannel_logout_uri": "Back-channel logout",
	"backchannel_logout_session_required": "Back-channel logout", "id_token_signed_response_alg": "ID tokens", "default_max_age": "Oldest login",
	"require_auth_time": "Time of the login", "access_token_ttl": "Access tokens", "refresh_token_ttl": "Idle sessions", "session_ttl": "Sessions",
	"jwks": "Public keys", "jwks_uri": "Address of its keys", "token_endpoint_auth_signing_alg": "Signature of assertions", "profile": "Profile",
	"require_pushed_authorization_requests": "Pushed requests", "dpop_bound_access_tokens": "DPoP",
}

// blame puts an error of the clients room beside its field. It returns false for errors that are not about the form.
func (f *clientForm) blame(err error) bool {
	var field *clients.FieldError
	switch {
	case errors.As(err, &field):
		f.Problems[field.Field] = strings.TrimPrefix(fields[field.Field]+": "+field.Problem, ": ")
	case errors.Is(err, clients.ErrExists):
		f.Problems["client_id"] = "Id: a client with this id exists already"
	case errors.Is(err, clients.ErrChanged):
		f.Problems[""] = "Somebody else changed this client meanwhile. What you see is what you entered: open the client anew to see what it is now."
	default:
		return false
	}
	return true
}
