package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"signet/clients"
	"signet/keys"
)

// clientKind is a sort of app that somebody registers, and what is sensible for it.
type clientKind struct {
	Name, Label, About string
	defaults           clients.Client
}

// codeGrants are the grants of an app whose users log in at Signet's own pages.
var codeGrants = []clients.Grant{clients.AuthorizationCode, clients.RefreshToken}

// loginScope is what such an app may ask for to begin with.
var loginScope = clients.Scope{"openid", "profile", "email", "offline_access"}

var clientKinds = []clientKind{
	{
		"web", "Web app", "Runs on a server that can keep a secret. Its users log in at Signet’s page and come back.",
		clients.Client{AuthMethod: clients.SecretBasic, Grants: codeGrants, Scope: loginScope},
	},
	{
		"spa", "Single-page app", "Runs in a browser, where no secret stays one. Its users log in at Signet’s page and come back.",
		clients.Client{AuthMethod: clients.None, Grants: codeGrants, Scope: loginScope},
	},
	{
		"native", "Native app", "Is installed on a phone or a desktop, where no secret stays one. Its users log in at Signet’s page in their browser.",
		clients.Client{AuthMethod: clients.None, Grants: codeGrants, Scope: loginScope, ApplicationType: clients.Native},
	},
	{
		"device", "Device without a browser", "A television, a box or a terminal. Its users log in on another device, with a code that it shows.",
		clients.Client{AuthMethod: clients.None, Grants: []clients.Grant{clients.DeviceCode, clients.RefreshToken}, Scope: loginScope},
	},
	{
		"machine", "Machine", "A service, a job or a script that gets tokens for itself, without a user.",
		clients.Client{AuthMethod: clients.SecretBasic, Grants: []clients.Grant{clients.ClientCredentials}},
	},
	{
		"api", "Resource server", "An API that receives access tokens and asks Signet whether they are good.",
		clients.Client{AuthMethod: clients.SecretBasic, Grants: []clients.Grant{}, ResourceServer: true},
	},
	{
		"fapi", "High-security app (FAPI 2.0)", "Runs on a server, and proves itself by a key of its own, as banks and health services ask of each other. What it gets is good for that server alone.",
		clients.Client{AuthMethod: clients.PrivateKeyJWT, Grants: codeGrants, Scope: loginScope, Profile: clients.FAPI2},
	},
	{
		"form", "App with its own login form", "A first-party app that asks for name and password itself. Take one of the others where you can.",
		clients.Client{AuthMethod: clients.SecretBasic, Grants: []clients.Grant{clients.Password, clients.RefreshToken}},
	},
}

// kindOf tells what sort of app a client looks like.
func kindOf(c *clients.Client) clientKind {
	if c.ID == ClientID {
		return clientKind{Name: "console", Label: "This console"}
	}
	name := "web"
	switch {
	case c.Profile == clients.FAPI2:
		name = "fapi"
	case c.May(clients.AuthorizationCode) && c.ApplicationType == clients.Native:
		name = "native"
	case c.May(clients.AuthorizationCode) && c.Public():
		name = "spa"
	case c.May(clients.AuthorizationCode):
	case c.May(clients.DeviceCode):
		name = "device"
	case c.ResourceServer:
		name = "api"
	case c.May(clients.Password):
		name = "form"
	case c.May(clients.ClientCredentials):
		name = "machine"
	case c.Public():
		name = "spa"
	}
	return kindNamed(name)
}

// kindNamed returns the kind of that name, the first one where there is none.
func kindNamed(name string) clientKind {
	if i := slices.IndexFunc(clientKinds, func(k clientKind) bool { return k.Name == name }); i >= 0 {
		return clientKinds[i]
	}
	return clientKinds[0]
}

func (s *Console) listClients(v *visit) error {
	query := strings.TrimSpace(v.Query("q"))
	rows, err := s.Clients.List(v.ctx(), clients.Filter{Query: query, After: v.Query("after"), Limit: pageSize + 1})
	if err != nil {
		return err
	}
	rows, more := cut(rows)
	var p pager
	if v.Query("after") != "" {
		p.First = s.url("/clients", "q", query)
	}
	if more {
		p.Next = s.url("/clients", "q", query, "after", rows[len(rows)-1].ID)
	}
	return s.show(v, http.StatusOK, "clients", page{Title: "Clients", Section: "Clients", Data: map[string]any{
		"Query": query, "Rows": rows, "Pager": p, "None": onlyConsole(rows) && query == "" && v.Query("after") == "",
	}})
}

// onlyConsole tells whether none of the clients is anything but the console.
func onlyConsole(rows []clients.Client) bool {
	return !slices.ContainsFunc(rows, func(c clients.Client) bool { return c.ID != ClientID })
}

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
	c.Contacts = nil
	for line := range strings.Lines(v.form("contacts")) {
		if line = strings.TrimSpace(line); line != "" {
			c.Contacts = append(c.Contacts, line)
		}
	}
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

func (s *Console) newClient(v *visit) error {
	if v.Query("kind") == "" {
		return s.show(v, http.StatusOK, "client-kinds", page{Title: "Register a client", Section: "Clients", Data: clientKinds})
	}
	kind := kindNamed(v.Query("kind"))
	f := formOf(&kind.defaults)
	f.New, f.Kind, f.Spare, f.IDTokenAlg = true, kind, uuid.NewString(), string(keys.RS256)
	return s.showNewClient(v, http.StatusOK, f)
}

func (s *Console) showNewClient(v *visit, status int, f clientForm) error {
	return s.show(v, status, "client-new", page{Title: "Register a client", Section: "Clients", Data: f})
}

func (s *Console) createClient(v *visit) error {
	c, f := v.readClient(clients.Client{})
	f.New = true
	if c.ID == "" {
		if _, err := uuid.Parse(f.Spare); err != nil {
			f.Spare = uuid.NewString()
		}
		c.ID = f.Spare
	}
	if len(f.Problems) == 0 {
		created, err := s.Clients.Create(v.ctx(), c, v.origin())
		if err == nil {
			return s.showSecret(v, &created, "The client is registered.")
		}
		if !f.blame(err) {
			return err
		}
	}
	return s.showNewClient(v, http.StatusUnprocessableEntity, f)
}

// showSecret shows what is shown once: the secret that was just made, and a line to try it with.
func (s *Console) showSecret(v *visit, c *clients.Client, notice string) error {
	return s.show(v, http.StatusOK, "client-secret", page{
		Title: c.Name, Section: "Clients", Notice: notice, Back: s.url("/client", "id", c.ID),
		Data: map[string]any{"Client": c, "Curl": s.curl(c), "Issuer": s.Tokens.Issuer(), "Overlap": v.form("overlap")},
	})
}

// curl is a line for a shell that uses the client, or nothing: to log in by code takes a browser.
func (s *Console) curl(c *clients.Client) string {
	issuer := s.Tokens.Issuer()
	if c.May(clients.DeviceCode) && c.AuthMethod != clients.PrivateKeyJWT {
		who := "--data-urlencode 'client_id=" + strings.ReplaceAll(c.ID, "'", `'\''`) + "'"
		if !c.Public() {
			who = "-u '" + url.QueryEscape(c.ID) + ":" + c.Secret + "'"
		}
		return "curl " + who + " '" + issuer + "/device_authorization' \\\n  -d scope=openid"
	}
	if c.May(clients.AuthorizationCode) || c.AuthMethod == clients.PrivateKeyJWT || c.Public() && !c.May(clients.Password) {
		return ""
	}
	if c.Public() {
		return "curl '" + issuer + "/token' \\\n  --data-urlencode 'client_id=" + strings.ReplaceAll(c.ID, "'", `'\''`) +
			"' \\\n  -d grant_type=password -d username=NAME \\\n  --data-urlencode 'password=PASSWORD'"
	}
	line := "curl -u '" + url.QueryEscape(c.ID) + ":" + c.Secret + "' " // in Basic, both are form-encoded (RFC 6749 section 2.3.1)
	switch {
	case c.May(clients.ClientCredentials):
		return line + "\\\n  '" + issuer + "/token' -d grant_type=client_credentials"
	case c.May(clients.Password):
		return line + "'" + issuer + "/token' \\\n  -d grant_type=password -d username=NAME \\\n  --data-urlencode 'password=PASSWORD'"
	default:
		return line + "\\\n  '" + issuer + "/introspect' -d token=ACCESS_TOKEN"
	}
}

func (s *Console) showClient(v *visit) error {
	c, err := s.Clients.Get(v.ctx(), v.Query("id"))
	if err != nil {
		return err
	}
	return s.showClientForm(v, http.StatusOK, &c, formOf(&c))
}

// showClientForm shows the client's page, with the form as it is filled in.
func (s *Console) showClientForm(v *visit, status int, c *clients.Client, f clientForm) error {
	return s.show(v, status, "client", page{Title: c.Name, Section: "Clients", Data: map[string]any{
		"Client": c, "Form": f, "Own": c.ID == ClientID, "Abilities": s.abilities(c),
	}})
}

// ability is something that a client may do, or that holds for it.
type ability struct{ Label, Text string }

// grantWords say what the grants are for.
var grantWords = map[clients.Grant]string{
	clients.AuthorizationCode: "for users who log in at Signet’s page", clients.DeviceCode: "for users who log in on another device",
	clients.Password: "for users whose password it asks for", clients.ClientCredentials: "for itself", clients.TokenExchange: "for other APIs, in exchange for a user’s token",
	clients.RefreshToken: "new ones, without a log-in",
}

// abilities say at a glance what the client may do, and how it proves that it is the one.
func (s *Console) abilities(c *clients.Client) []ability {
	var gets, has []string
	for _, g := range clients.Grants {
		if c.May(g) {
			gets = append(gets, grantWords[g])
		}
	}
	if len(gets) == 0 {
		gets = []string{"none"}
	}
	list := []ability{{"Gets tokens", strings.Join(gets, "; ")}}
	if c.Scope != nil && len(c.Grants) > 0 {
		scope := "nothing in particular: it has no scope"
		if len(c.Scope) > 0 {
			scope = c.Scope.String()
		}
		list = append(list, ability{"They allow", scope}, ability{"They are for", strings.Join(c.Resources(s.Tokens.Issuer()), ", ")})
	}
	if c.ResourceServer {
		list = append(list, ability{"May introspect", "access tokens for " + strings.Join(c.Resources(s.Tokens.Issuer()), ", ")})
	}
	switch {
	case c.Public():
		has = []string{"nothing: it is a public client"}
	case c.HasSecret():
		has = []string{"a secret"}
	case c.JWKSURI != "":
		has = []string{"keys that are at " + c.JWKSURI}
	default:
		has = []string{"keys that are registered"}
	}
	if c.NeedsDPoP() {
		has = append(has, "a DPoP proof with each token")
	}
	list = append(list, ability{"Proves itself by", strings.Join(has, "; ")})
	if c.May(clients.AuthorizationCode) {
		var needs []string
		if c.NeedsPKCE() {
			needs = append(needs, "PKCE")
		}
		if c.NeedsPAR() {
			needs = append(needs, "a pushed request")
		}
		if !c.SkipConsent {
			needs = append(needs, "the user’s consent")
		}
		if c.DefaultMaxAge != nil {
			needs = append(needs, "a password entered in the last "+clients.FormatMaxAge(c.DefaultMaxAge))
		}
		if len(needs) == 0 {
			needs = []string{"no more than the user"}
		}
		list = append(list, ability{"A log-in needs", strings.Join(needs, "; ")})
	}
	if len(c.BrowserOrigins) > 0 {
		list = append(list, ability{"Tokens in cookies", "for pages at " + strings.Join(c.BrowserOrigins, ", ")})
	}
	if c.Profile != "" {
		list = append(list, ability{"Profile", "FAPI 2.0 Security Profile"})
	}
	switch host := c.DocumentHost(); {
	case host != "":
		list = append(list, ability{"Came by itself", "and is what the document at its id says"})
	case c.Registered:
		list = append(list, ability{"Came by itself", fmt.Sprintf("and goes %d days after it was registered if nobody uses it", int(clients.UnusedTTL.Hours()/24))})
	}
	return list
}

func (s *Console) updateClient(v *visit) error {
	stored, err := s.Clients.Get(v.ctx(), v.form("client_id"))
	if err != nil {
		return err
	}
	c, f := v.readClient(stored)
	c.ID = stored.ID
	f.ID, f.Kind = stored.ID, kindOf(&stored)
	if len(f.Problems) == 0 {
		updated, err := s.Clients.Update(v.ctx(), c, v.origin())
		switch {
		case err == nil && updated.Secret != "":
			return s.showSecret(v, &updated, "The client is saved, and has a secret now.")
		case err == nil:
			s.redirect(v.Context, "/client", "id", c.ID, "done", "client-saved")
			return nil
		case !f.blame(err):
			return err
		}
	}
	return s.showClientForm(v, http.StatusUnprocessableEntity, &stored, f)
}

// overlaps are for how long the old secret may stay good.
var overlaps = map[string]time.Duration{"0": 0, "1h": time.Hour, "24h": 24 * time.Hour, "7d": 7 * 24 * time.Hour}

func (s *Console) rotateSecret(v *visit) error {
	c, err := s.Clients.Get(v.ctx(), v.form("id"))
	if err != nil {
		return err
	}
	overlap, known := overlaps[v.form("overlap")]
	problem := ""
	switch {
	case !c.HasSecret():
		problem = "This client is public, or proves itself by keys, and has no secret."
	case !known:
		problem = "Choose for how long the old secret stays good."
	case v.form("version") != strconv.FormatInt(c.Version, 10): // such as this very form, sent again
		problem = "The client was changed since this page was opened, perhaps by you: nothing was done. Rotate again if you want one more secret."
	}
	if problem != "" {
		f := formOf(&c)
		f.Problems = map[string]string{"": problem}
		return s.showClientForm(v, http.StatusConflict, &c, f)
	}
	c, err = s.Clients.RotateSecret(v.ctx(), c.ID, overlap, v.origin())
	if err != nil {
		return err
	}
	return s.showSecret(v, &c, "The client has a new secret.")
}

func (s *Console) enableClient(v *visit) error {
	c, err := s.Clients.SetDisabled(v.ctx(), v.form("id"), false, v.origin())
	if err == nil {
		s.redirect(v.Context, "/client", "id", c.ID, "done", "client-enabled")
	}
	return err
}

func (s *Console) disableClient(v *visit) error {
	c, err := s.Clients.SetDisabled(v.ctx(), v.form("id"), true, v.origin())
	if err == nil {
		s.redirect(v.Context, "/client", "id", c.ID, "done", "client-disabled")
	}
	return err
}

func (s *Console) deleteClient(v *visit) error {
	err := s.Clients.Delete(v.ctx(), v.form("id"), v.origin())
	if err == nil {
		s.redirect(v.Context, "/clients", "done", "client-deleted")
	}
	return err
}

// confirmation is a page that asks before something is done that cannot be undone.
type confirmation struct {
	Question, Consequence, Warning string
	ID                             string
	Action, Button, Cancel         string // addresses of doing it and of not doing it, and what the button says
	Harmless                       bool   // nothing is lost by it
}

// confirmClient asks before something is done to a client.
func (s *Console) confirmClient(what string) handler {
	return func(v *visit) error {
		c, err := s.Clients.Get(v.ctx(), v.Query("id"))
		if err != nil {
			return err
		}
		q := confirmation{ID: c.ID, Cancel: s.url("/client", "id", c.ID)}
		switch what {
		case "client-disable":
			q.Question, q.Action, q.Button = "Disable “"+c.Name+"”?", s.url("/client/disable"), "Disable the client"
			q.Consequence = "Its sessions and tokens end at once and for good, and it can get no new ones until it is enabled again."
		default:
			q.Question, q.Action, q.Button = "Delete “"+c.Name+"”?", s.url("/client/delete"), "Delete the client"
			q.Consequence = "Its sessions and tokens end at once, and its id and secret are good for nothing any more. This cannot be undone."
		}
		if c.ID == ClientID {
			q.Warning = "This is the client of the console itself: you and everybody else will be logged out of it."
			if what == "client-disable" {
				q.Warning += " To turn it on again: signet client enable " + ClientID
			}
		}
		return s.show(v, http.StatusOK, "confirm", page{Title: q.Button, Section: "Clients", Data: q})
	}
}
