package oauth

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/go-oauth2/oauth2/v4/server"
	"github.com/prometheus/client_golang/prometheus"

	"signet/activity"
	"signet/authorizations"
	"signet/clients"
	"signet/keys"
	"signet/logins"
	"signet/mail"
	"signet/proofs"
	"signet/server/pages"
	"signet/tokens"
	"signet/users"
)

// Server answers the OAuth 2.0 endpoints.
type Server struct {
	clients  *clients.Service
	users    *users.Service
	tokens   *tokens.Service
	keys     *keys.Service
	grants   *server.Server
	metrics  *metrics
	metadata []byte
	pages    *pages.Pages

	logins         *logins.Service
	authorizations *authorizations.Service
	mails          *mail.Service
	proofs         *proofs.Service

	base          string // the path of the issuer
	cookieDomain  string
	secureCookies bool
}

// Services are the domain's services.
type Services struct {
	Clients        *clients.Service
	Users          *users.Service
	Tokens         *tokens.Service
	Keys           *keys.Service
	Logins         *logins.Service
	Authorizations *authorizations.Service
	Mails          *mail.Service
	Proofs         *proofs.Service
}

// New returns a server on the domain's services that registers its metrics, and tells the counter, which may be nil, what happens.
// The cookie domain, which may be empty, is that of the cookie with the access token.
func New(d Services, p *pages.Pages, reg prometheus.Registerer, counter *activity.Counter, cookieDomain string) *Server {
	s := &Server{
		clients: d.Clients, users: d.Users, tokens: d.Tokens, keys: d.Keys, logins: d.Logins, authorizations: d.Authorizations, mails: d.Mails, proofs: d.Proofs,
		pages: p, metrics: newMetrics(reg, counter), metadata: metadata(d.Tokens.Issuer(), p.Languages(), d.Clients),
		cookieDomain: cookieDomain, secureCookies: strings.HasPrefix(d.Tokens.Issuer(), "https:"),
	}
	if u, err := url.Parse(d.Tokens.Issuer()); err == nil {
		s.base = strings.TrimRight(u.Path, "/")
	}
	s.grants = s.newGrants()
	return s
}

const (
	metadataPath  = "/.well-known/oauth-authorization-server"
	discoveryPath = "/.well-known/openid-configuration"
)

// Routes adds the endpoints to r.
func (s *Server) Routes(r gin.IRouter) {
	r.POST("/token", s.token)
	r.POST("/introspect", s.introspect)
	r.POST("/revoke", s.revoke)
	r.POST(deviceAuthorizationPath, s.deviceAuthorization)
	r.POST(parPath, s.push)
	r.GET("/userinfo", s.userinfo)
	r.POST("/userinfo", s.userinfo)
	s.registerRoutes(r)
	s.sessionRoutes(r)
	s.pageRoutes(r)
	document := func(path string, read func() []byte) {
		handler := func(c *gin.Context) { ServeDocument(c, "application/json", read()) }
		r.GET(path, handler)
		r.HEAD(path, handler)
	}
	document("/.well-known/jwks.json", s.keys.JWKS)
	document(metadataPath, func() []byte { return s.metadata })
	document(discoveryPath, func() []byte { return s.metadata })
	// For an issuer with a path, the well-known part stands between host and path (RFC 8414 section 3.1).
	if u, err := url.Parse(s.tokens.Issuer()); err == nil && strings.Trim(u.Path, "/") != "" {
		document(metadataPath+u.Path, func() []byte { return s.metadata })
	}
}

// ServeDocument answers with a public document, which any web page may read and anyone may cache for minutes.
func ServeDocument(c *gin.Context, contentType string, body []byte) {
	if body == nil {
		Fail(c.Request.Context(), c.Writer, keys.ErrNotLoaded)
		return
	}
	h := c.Writer.Header()
	h.Set("Cache-Control", "public, max-age=300")
	h.Del("Pragma")
	h.Set("Access-Control-Allow-Origin", "*")
	c.Data(http.StatusOK, contentType, body)
}

// metadata is the server's description of itself (RFC 8414 section 2, OpenID Connect Discovery 1.0 section 3).
func metadata(issuer string, languages []string, c *clients.Service) []byte {
	registration := ""
	if c.Registration() != clients.RegistrationOff {
		registration = issuer + registerPath
	}
	proving := []clients.AuthMethod{clients.SecretBasic, clients.SecretPost, clients.PrivateKeyJWT}
	claims := append([]string{"sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "at_hash", "sid"}, users.StandardClaims...)
	body, err := json.Marshal(struct {
		Issuer                string                        `json:"issuer"`
		AuthorizationEndpoint string                        `json:"authorization_endpoint"`
		TokenEndpoint         string                        `json:"token_endpoint"`
		UserInfoEndpoint      string                        `json:"userinfo_endpoint"`
		EndSessionEndpoint    string                        `json:"end_session_endpoint"`
		JWKSURI               string                        `json:"jwks_uri"`
		ScopesSupported       []string                      `json:"scopes_supported"`
		ResponseTypes         []string                      `json:"response_types_supported"`
		ResponseModes         []authorizations.ResponseMode `json:"response_modes_supported"`
		GrantTypes            []clients.Grant               `json:"grant_types_supported"`
		SubjectTypes          []string                      `json:"subject_types_supported"`
		IDTokenAlgs           []keys.Algorithm              `json:"id_token_signing_alg_values_supported"`
		TokenAuth             []clients.AuthMethod          `json:"token_endpoint_auth_methods_supported"`
		DeviceEndpoint        string                        `json:"device_authorization_endpoint"`
		RegistrationEndpoint  string                        `json:"registration_endpoint,omitempty"`
		ClientDocuments       bool                          `json:"client_id_metadata_document_supported,omitempty"`
		RevocationEndpoint    string                        `json:"revocation_endpoint"`
		RevocationAuth        []clients.AuthMethod          `json:"revocation_endpoint_auth_methods_supported"`
		IntrospectionEndpoint string                        `json:"introspection_endpoint"`
		IntrospectionAuth     []clients.AuthMethod          `json:"introspection_endpoint_auth_methods_supported"`
		ChallengeMethods      []string                      `json:"code_challenge_methods_supported"`
		IssParameter          bool                          `json:"authorization_response_iss_parameter_supported"`
		Claims                []string                      `json:"claims_supported"`
		ClaimTypes            []string                      `json:"claim_types_supported"`
		ClaimsParameter       bool                          `json:"claims_parameter_supported"`
		RequestParameter      bool                          `json:"request_parameter_supported"`
		RequestURIParameter   bool                          `json:"request_uri_parameter_supported"`
		Prompts               []string                      `json:"prompt_values_supported"`
		ACRs                  []string                      `json:"acr_values_supported"`
		UILocales             []string                      `json:"ui_locales_supported"`
		BackchannelLogout     bool                          `json:"backchannel_logout_supported"`
		BackchannelSession    bool                          `json:"backchannel_logout_session_supported"`
		TokenAuthAlgs         []clients.AssertionAlg        `json:"token_endpoint_auth_signing_alg_values_supported"`
		RevocationAuthAlgs    []clients.AssertionAlg        `json:"revocation_endpoint_auth_signing_alg_values_supported"`
		IntrospectionAuthAlgs []clients.AssertionAlg        `json:"introspection_endpoint_auth_signing_alg_values_supported"`
		IntrospectionAlgs     []keys.Algorithm              `json:"introspection_signing_alg_values_supported"`
		PAREndpoint           string                        `json:"pushed_authorization_request_endpoint"`
		RequirePAR            bool                          `json:"require_pushed_authorization_requests"`
		ProofAlgs             []string                      `json:"dpop_signing_alg_values_supported"`
	}{
		Issuer: issuer, AuthorizationEndpoint: issuer + authorizePath, TokenEndpoint: issuer + "/token",
		UserInfoEndpoint: issuer + "/userinfo", EndSessionEndpoint: issuer + logoutPath, JWKSURI: issuer + "/.well-known/jwks.json",
		ScopesSupported: append(slices.Clone(clients.StandardScopes), clients.ScopeAdmin, clients.ScopeAccount),
		ResponseTypes:   []string{"code"}, ResponseModes: authorizations.ResponseModes, GrantTypes: clients.Grants,
		SubjectTypes: []string{"public"}, IDTokenAlgs: []keys.Algorithm{keys.RS256, keys.ES256, keys.PS256, keys.EdDSA},
		DeviceEndpoint: issuer + deviceAuthorizationPath, RegistrationEndpoint: registration, ClientDocuments: c.DocumentsSupported(),
		TokenAuth: clients.AuthMethods, RevocationEndpoint: issuer + "/revoke", RevocationAuth: clients.AuthMethods,
		IntrospectionEndpoint: issuer + "/introspect", IntrospectionAuth: proving,
		ChallengeMethods: []string{"S256"}, IssParameter: true, Claims: claims, ClaimTypes: []string{"normal"}, ClaimsParameter: true,
		Prompts: authorizations.Prompts, ACRs: logins.Classes, UILocales: languages, BackchannelLogout: true, BackchannelSession: true,
		TokenAuthAlgs: clients.AssertionAlgs, RevocationAuthAlgs: clients.AssertionAlgs, IntrospectionAuthAlgs: clients.AssertionAlgs,
		IntrospectionAlgs: []keys.Algorithm{keys.RS256}, PAREndpoint: issuer + parPath, ProofAlgs: names(proofs.ProofAlgorithms),
	})
	if err != nil {
		panic(err) // only for types that JSON does not know
	}
	return body
}

// introspect answers POST /introspect (RFC 7662 section 2).
func (s *Server) introspect(c *gin.Context) {
	ctx := c.Request.Context()
	call, err := s.admit(c.Writer, c.Request)
	switch {
	case err != nil:
	case call.client.Public():
		err = invalidClient("introspection is for clients that prove themselves, by a secret or a key")
	case !call.form.Has("token"):
		err = invalidRequest("the parameter token is missing")
	}
	if err != nil {
		Fail(ctx, c.Writer, err)
		return
	}
	answer, err := s.tokens.Introspect(ctx, call.client, call.form.Get("token"))
	if err != nil {
		Fail(ctx, c.Writer, err)
		return
	}
	if asksForJWT(c.Request.Header.Values("Accept")) {
		s.introspectSigned(c, call.client, answer)
		return
	}
	writeJSON(c.Writer, http.StatusOK, answer)
}

// revoke answers POST /revoke (RFC 7009 section 2).
func (s *Server) revoke(c *gin.Context) {
	ctx := c.Request.Context()
	call, err := s.admit(c.Writer, c.Request)
	if err == nil && !call.form.Has("token") {
		err = invalidRequest("the parameter token is missing")
	}
	if err == nil {
		origin := call.origin()
		origin.Actor = call.client.ID
		err = s.tokens.Revoke(ctx, call.client, call.form.Get("token"), origin)
	}
	if err != nil {
		Fail(ctx, c.Writer, err)
		return
	}
	writeJSON(c.Writer, http.StatusOK, struct{}{}) // several client libraries fail on an empty body
}
