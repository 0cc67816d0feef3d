package oauth

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/gin-gonic/gin"
	oauth2 "github.com/go-oauth2/oauth2/v4"
	oautherrors "github.com/go-oauth2/oauth2/v4/errors"
	"github.com/go-oauth2/oauth2/v4/models"
	"github.com/go-oauth2/oauth2/v4/server"

	"signet/clients"
	"signet/logins"
	"signet/proofs"
	"signet/tokens"
	"signet/users"
)

// tokenCall is a call of /token on its way through the library.
type tokenCall struct {
	*call
	scope    clients.Scope // nil: the request names none
	audience []string      // likewise
	key      proofs.Key    // that the sender proved to hold
	user     users.User    // of the password grant, once the password was checked
}

type tokenCallKey struct{}

func tokenCallOf(ctx context.Context) *tokenCall {
	call, _ := ctx.Value(tokenCallKey{}).(*tokenCall)
	return call
}

// token answers POST /token (RFC 6749 section 3.2).
func (s *Server) token(c *gin.Context) {
	ctx := c.Request.Context()
	call, err := s.admit(c.Writer, c.Request)
	if err != nil {
		Fail(ctx, c.Writer, err)
		return
	}
	t := &tokenCall{call: call}
	if t.key, err = s.senderKey(c.Writer, c.Request, call.client); err != nil {
		Fail(ctx, c.Writer, err)
		return
	}
	if err := t.check(s.tokens.Issuer()); err != nil {
		Fail(ctx, c.Writer, err)
		return
	}
	switch clients.Grant(call.info.GrantType) {
	case clients.DeviceCode:
		s.deviceGrant(c, t)
		return
	case clients.TokenExchange:
		s.exchangeGrant(c, t)
		return
	}
	r := c.Request.WithContext(context.WithValue(ctx, tokenCallKey{}, t))
	r.Form = call.form // the library would parse the query string as well
	if call.info.GrantType == string(clients.AuthorizationCode) && !r.Form.Has("redirect_uri") {
		r.Form = maps.Clone(r.Form)
		r.Form.Set("redirect_uri", "none") // the library wants one always; whether one is wanted is the code's to say
	}
	r.PostForm = r.Form
	if err := s.grants.HandleTokenRequest(c.Writer, r); err != nil {
		call.info.Err = err
	}
}

// newGrants wires the library's server: it dispatches the grants; who the client is, and that the request is well-formed
// and within what the client is registered for, was settled before.
func (s *Server) newGrants() *server.Server {
	grants := server.NewServer(&server.Config{
		TokenType:         "Bearer",
		AllowedGrantTypes: []oauth2.GrantType{oauth2.AuthorizationCode, oauth2.PasswordCredentials, oauth2.Refreshing, oauth2.ClientCredentials},
	}, &manager{s})
	grants.ClientInfoHandler = func(r *http.Request) (string, string, error) {
		return tokenCallOf(r.Context()).client.ID, "", nil
	}
	grants.PasswordAuthorizationHandler = s.checkPassword
	grants.ExtensionFieldsHandler = func(ti oauth2.TokenInfo) map[string]any {
		fields := map[string]any{"scope": ti.GetScope()} // the library leaves out an empty one
		if issued, ok := ti.(*issuedTokens); ok {
			fields[tokenTypeField] = issued.tokenType
			if issued.idToken != "" {
				fields["id_token"] = issued.idToken
			}
		}
		return fields
	}
	grants.InternalErrorHandler = func(err error) *oautherrors.Response {
		e := explain(err)
		return &oautherrors.Response{Error: errors.New(e.Code), Description: e.Description, StatusCode: e.Status, Header: e.header()}
	}
	grants.ResponseTokenHandler = func(w http.ResponseWriter, data map[string]any, header http.Header, status ...int) error {
		for name, values := range header {
			w.Header()[name] = values
		}
		if tokenType, ok := data[tokenTypeField]; ok {
			data["token_type"] = tokenType
			delete(data, tokenTypeField)
		}
		code := http.StatusOK
		if len(status) > 0 {
			code = status[0]
		}
		writeJSON(w, code, data)
		return nil
	}
	return grants
}

// tokenTypeField is where the type of the token travels through the library, which knows only one.
const tokenTypeField = "signet token_type" //nolint:gosec // a name

// required are the parameters without which a grant cannot be.
var required = map[clients.Grant][]string{
	clients.Password:          {"username", "password"},
	clients.RefreshToken:      {"refresh_token"},
	clients.AuthorizationCode: {"code"},
	clients.DeviceCode:        {"device_code"},
	clients.TokenExchange:     {"subject_token", "subject_token_type"},
}

// check refuses what is wrong with the call before a password is tried or a token is looked at.
func (t *tokenCall) check(issuer string) error {
	if !t.form.Has("grant_type") {
		return invalidRequest("the parameter grant_type is missing")
	}
	grant := clients.Grant(t.form.Get("grant_type"))
	if !slices.Contains(clients.Grants, grant) {
		return badRequest("unsupported_grant_type", "the server knows authorization_code, refresh_token, client_credentials, password, urn:ietf:params:oauth:grant-type:device_code and urn:ietf:params:oauth:grant-type:token-exchange")
	}
	t.info.GrantType = string(grant)
	if !t.client.May(grant) {
		return badRequest("unauthorized_client", "the client is not registered for this grant")
	}
	if t.client.RequireDPoP && !t.key.Proven() {
		return badRequest("invalid_dpop_proof", "this client's tokens are bound to a key: the request needs a proof in the header DPoP")
	}
	for _, name := range required[grant] {
		if !t.form.Has(name) {
			return invalidRequest("the parameter " + name + " is missing")
		}
	}
	switch grant {
	case clients.DeviceCode: // it asked when it began
		return nil
	case clients.RefreshToken, clients.AuthorizationCode: // what it may ask for is up to what was granted
		return t.readReach()
	case clients.TokenExchange:
		return t.checkExchange(issuer)
	}
	return t.checkReach(issuer)
}

// maxResources bounds how many resources a request names.
const maxResources = 20

// readReach reads the scope and the resources that the call names.
func (t *tokenCall) readReach() error {
	if t.form.Has("scope") {
		var err error
		if t.scope, err = clients.ParseScope(t.form.Get("scope")); err != nil {
			return badRequest("invalid_scope", "the scope must be visible ASCII words separated by single spaces")
		}
	}
	if len(t.form["resource"]) > maxResources {
		return badRequest("invalid_target", "more than "+strconv.Itoa(maxResources)+" resources are named")
	}
	for _, resource := range t.form["resource"] {
		if !slices.Contains(t.audience, resource) {
			t.audience = append(t.audience, resource)
		}
		if u, err := url.Parse(resource); err != nil || !u.IsAbs() || u.Fragment != "" {
			return badRequest("invalid_target", "a resource must be an absolute URI without a fragment")
		}
	}
	return nil
}

// checkReach reads them, and refuses what the client is not registered for. What is not named is all that it is.
func (t *tokenCall) checkReach(issuer string) error {
	if err := t.readReach(); err != nil {
		return err
	}
	switch {
	case t.scope == nil:
		t.scope = t.client.Scope.Default()
	case !t.scope.Within(t.client.Scope):
		return unregisteredScope(t.scope, t.client.Scope)
	}
	switch allowed := t.client.Resources(issuer); {
	case t.audience == nil:
		t.audience = allowed
	case !clients.Scope(t.audience).Within(allowed):
		return errUnregisteredResource
	}
	return nil
}

var errUnregisteredResource = badRequest("invalid_target", "the resource is not one that the client is registered for")

// unregisteredScope says which scope that was asked for is not among those that the client is registered for.
func unregisteredScope(asked, registered clients.Scope) *Error {
	i := slices.IndexFunc(asked, func(token string) bool { return !slices.Contains(registered, token) })
	name := asked[i]
	if len(name) > maxNamed {
		name = name[:maxNamed] + "..."
	}
	return badRequest("invalid_scope", "the scope "+name+" has to be registered for the client before it can be asked for")
}

// maxNamed is how much of a value that a caller sent is said back in an error.
const maxNamed = 100

// checkPassword is the library's PasswordAuthorizationHandler.
func (s *Server) checkPassword(ctx context.Context, _, username, password string) (string, error) {
	call := tokenCallOf(ctx)
	if err := s.authenticate(ctx, call, username, password); err != nil {
		call.info.Err = err
		return "", explain(err) // the library looks errors up in a map, which not every error can be a key of
	}
	return call.user.ID, nil
}

// authenticate finds out whose the password is.
func (s *Server) authenticate(ctx context.Context, call *tokenCall, username, password string) error {
	u, err := s.users.Authenticate(ctx, username, password, call.client.ID, call.origin())
	if err != nil {
		s.metrics.loginFailed(err)
		return err
	}
	if s.logins.Demands(u.Admin) {
		return logins.ErrNeedsFactor
	}
	if slices.Contains(call.scope, clients.ScopeAdmin) && !u.Admin {
		return badRequest("invalid_scope", "the scope "+clients.ScopeAdmin+" is for admins")
	}
	call.user, call.info.UserID = u, u.ID
	return nil
}

// startSession begins a session of the user who was authenticated.
func (s *Server) startSession(ctx context.Context, call *tokenCall) (tokens.Issued, error) {
	origin := call.origin()
	origin.Actor = call.user.ID
	issued, err := s.tokens.StartSession(ctx, call.client, call.user, call.scope, call.audience, call.key, origin)
	if errors.Is(err, tokens.ErrInvalidGrant) { // client or user changed since they were authenticated, or the user has a second factor
		now, err := s.clients.Recheck(ctx, call.client)
		switch {
		case err != nil:
			return tokens.Issued{}, err
		case now.Epoch == call.client.Epoch:
			return tokens.Issued{}, cmp.Or(s.logins.PasswordAlone(ctx, call.user), users.ErrBadCredentials)
		}
		call.client = now
		return s.startSession(ctx, call)
	}
	return issued, err
}

// passwordGrant is the password grant as a whole, for a caller other than the library.
func (s *Server) passwordGrant(ctx context.Context, call *tokenCall) (tokens.Issued, error) {
	if err := s.authenticate(ctx, call, call.form.Get("username"), call.form.Get("password")); err != nil {
		return tokens.Issued{}, err
	}
	issued, err := s.startSession(ctx, call)
	if err == nil {
		s.metrics.issued(string(clients.Password))
		call.info.SessionID = issued.SessionID
	}
	return issued, err
}

// manager implements the library's oauth2.Manager over our own rooms. The library's stock manager rotates refresh tokens in
// three separate statements, does not bind them to their client, and compares secrets in the clear.
type manager struct {
	*Server
}

// issuedTokens is what was issued, for the library to write.
type issuedTokens struct {
	models.Token

	idToken, tokenType string
}

// GenerateAccessToken issues the tokens of the authorization_code, the password and the client_credentials grant.
func (m *manager) GenerateAccessToken(ctx context.Context, grant oauth2.GrantType, _ *oauth2.TokenGenerateRequest) (oauth2.TokenInfo, error) {
	call := tokenCallOf(ctx)
	var issued tokens.Issued
	var err error
	switch grant {
	case oauth2.AuthorizationCode:
		form := call.form
		issued, err = m.tokens.RedeemCode(ctx, call.client, form.Get("code"), form.Get("redirect_uri"), form.Get("code_verifier"),
			call.scope, call.audience, call.key, call.origin())
	case oauth2.PasswordCredentials:
		issued, err = m.startSession(ctx, call)
	case oauth2.ClientCredentials:
		issued, err = m.tokens.ClientToken(ctx, call.client, call.scope, call.audience, call.key)
	default:
		err = errUnused
	}
	return m.answer(call, issued, err)
}

// RefreshAccessToken uses a refresh token.
func (m *manager) RefreshAccessToken(ctx context.Context, tgr *oauth2.TokenGenerateRequest) (oauth2.TokenInfo, error) {
	call := tokenCallOf(ctx)
	origin := call.origin()
	origin.Actor = call.client.ID
	issued, outcome, err := m.tokens.Refresh(ctx, call.client, tgr.Refresh, call.scope, call.audience, call.key, origin)
	m.metrics.refreshed(outcome)
	call.info.Outcome = string(outcome)
	return m.answer(call, issued, err)
}

// answer hands over to the library what was issued.
func (m *manager) answer(call *tokenCall, issued tokens.Issued, err error) (oauth2.TokenInfo, error) {
	if err != nil {
		call.info.Err = err
		return nil, explain(err)
	}
	m.metrics.issued(call.info.GrantType)
	call.info.SessionID = issued.SessionID
	return &issuedTokens{models.Token{
		Access: issued.AccessToken, AccessExpiresIn: issued.ExpiresIn, Scope: issued.Scope, Refresh: issued.RefreshToken,
	}, issued.IDToken, issued.Type}, nil
}

// errUnused answers those calls that the library makes only for grants and endpoints that Signet does not serve, and for
// checks that it makes itself.
var errUnused = &Error{Status: http.StatusBadRequest, Code: "unsupported_grant_type", Description: "the server does not know this grant"}

// GetClient is not called: the client was authenticated before.
func (m *manager) GetClient(context.Context, string) (oauth2.ClientInfo, error) {
	return nil, errUnused
}

// GenerateAuthToken is not called: the library's own authorization endpoint is not used. It redirects before it has looked where to.
func (m *manager) GenerateAuthToken(context.Context, oauth2.ResponseType, *oauth2.TokenGenerateRequest) (oauth2.TokenInfo, error) {
	return nil, errUnused
}

// RemoveAccessToken is not called: see revoke.
func (m *manager) RemoveAccessToken(context.Context, string) error { return errUnused }

// RemoveRefreshToken is not called: see revoke.
func (m *manager) RemoveRefreshToken(context.Context, string) error { return errUnused }

// LoadAccessToken is not called: see introspect.
func (m *manager) LoadAccessToken(context.Context, string) (oauth2.TokenInfo, error) {
	return nil, errUnused
}

// LoadRefreshToken is not called: a refresh token is judged by the statement that uses it.
func (m *manager) LoadRefreshToken(context.Context, string) (oauth2.TokenInfo, error) {
	return nil, errUnused
}
