package oauth

import (
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"signet/clients"
	"signet/proofs"
	"signet/server/request"
	"signet/tokens"
	"signet/users"
)

// The cookies of a browser session. No script can read them, and the refresh token goes nowhere but to /session.
const (
	AccessCookie  = "signet_at"
	RefreshCookie = "signet_rt"

	sessionPath = "/session"
)

// sessionRoutes adds the endpoints for first-party web apps, whose tokens live in cookies.
func (s *Server) sessionRoutes(r gin.IRouter) {
	r.POST(sessionPath, s.beginSession)
	r.POST(sessionPath+"/refresh", s.refreshSession)
	r.GET(sessionPath, s.showSession)
	r.DELETE(sessionPath, s.endSession)
}

// sessionAnswer says who is logged in.
type sessionAnswer struct {
	Subject   string `json:"sub"`
	Username  string `json:"username"`
	Scope     string `json:"scope"`
	ExpiresIn int64  `json:"expires_in"` // seconds until the access token expires
}

// ErrForeignOrigin refuses a call that a browser makes by cookie for a page that is not the client's.
var ErrForeignOrigin = &Error{
	Status: http.StatusForbidden, Code: "access_denied",
	Description: "the call has to come from one of the client's browser_origins, and say so in its Origin header",
}

// FromOrigin tells whether the request comes from a page of the client. Browsers say where a call comes from; whoever says
// nothing is no browser, or hides it.
func FromOrigin(r *http.Request, c *clients.Client) bool {
	origins := r.Header.Values("Origin")
	return len(origins) == 1 && slices.Contains(c.BrowserOrigins, origins[0])
}

// noBasic makes the answer to a failed authentication one for which browsers do not ask the user for a password themselves.
func noBasic(err error) error {
	e := explain(err)
	if e.Status != http.StatusUnauthorized || e.Challenge != "" {
		return err
	}
	other := *e
	other.Challenge = `Bearer realm="signet"`
	return &other
}

// beginSession answers POST /session: a login by the password grant, whose tokens become cookies.
func (s *Server) beginSession(c *gin.Context) {
	ctx := c.Request.Context()
	issued, u, err := s.login(c)
	if err != nil {
		Fail(ctx, c.Writer, noBasic(err))
		return
	}
	s.setCookies(c.Writer, issued)
	writeJSON(c.Writer, http.StatusOK, answerOf(issued, u))
}

func answerOf(issued tokens.Issued, u users.User) sessionAnswer {
	return sessionAnswer{Subject: u.ID, Username: u.Username, Scope: issued.Scope, ExpiresIn: int64(issued.ExpiresIn / time.Second)}
}

func (s *Server) login(c *gin.Context) (tokens.Issued, users.User, error) {
	ctx := c.Request.Context()
	form, err := readSessionForm(c.Writer, c.Request)
	if err != nil {
		return tokens.Issued{}, users.User{}, err
	}
	client, err := s.clients.Known(ctx, form.Get("client_id"))
	if err != nil {
		return tokens.Issued{}, users.User{}, err
	}
	info := request.From(ctx)
	info.ClientID = client.ID
	if !FromOrigin(c.Request, client) {
		return tokens.Issued{}, users.User{}, ErrForeignOrigin
	}
	form.Set("grant_type", string(clients.Password))
	t := &tokenCall{call: &call{client: client, form: form, info: info}}
	if err := t.check(s.tokens.Issuer()); err != nil {
		return tokens.Issued{}, users.User{}, err
	}
	issued, err := s.passwordGrant(ctx, t)
	return issued, t.user, err
}

// readSessionForm reads a login: a form, or a JSON object of the same members.
func readSessionForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	switch mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mediaType {
	case "application/json":
	case "application/x-www-form-urlencoded":
		form, err := readForm(w, r)
		if err == nil && (form.Has("client_secret") || r.Header.Get("Authorization") != "") {
			err = invalidRequest("a browser has no client_secret to send: client_id, username and password are all that is wanted")
		}
		return form, err
	default:
		return nil, invalidRequest("the Content-Type must be application/json or application/x-www-form-urlencoded")
	}
	if r.URL.RawQuery != "" {
		return nil, invalidRequest("parameters are taken from the body alone, never from the query string")
	}
	text, err := ReadBody(w, r)
	if err != nil {
		return nil, err
	}
	var given struct {
		ClientID string `json:"client_id"`
		Username string `json:"username"`
		Password string `json:"password"`
		Scope    string `json:"scope"`
	}
	if err := clients.Decode(text, &given); err != nil {
		return nil, invalidRequest(err.Error())
	}
	form := url.Values{}
	for name, value := range map[string]string{
		"client_id": given.ClientID, "username": given.Username, "password": given.Password, "scope": given.Scope,
	} {
		if value != "" {
			form.Set(name, value)
		}
	}
	return form, nil
}

// refreshSession answers POST /session/refresh. Two tabs that refresh at once both get the same successor, so that it does
// not matter whose cookies the browser keeps. The cookies of a dead session are cleared.
func (s *Server) refreshSession(c *gin.Context) {
	ctx := c.Request.Context()
	issued, u, err := s.refreshByCookie(c)
	var e *Error
	switch {
	case err == nil:
		s.setCookies(c.Writer, issued)
		writeJSON(c.Writer, http.StatusOK, answerOf(issued, u))
		return
	case errors.As(err, &e): // from elsewhere: nothing happens
	case errors.Is(err, tokens.ErrInvalidGrant), errors.Is(err, clients.ErrUnauthenticated):
		s.clearCookies(c.Writer)
		e = &Error{
			Status: http.StatusUnauthorized, Code: "invalid_grant", Challenge: `Bearer realm="signet"`, Cause: err,
			Description: "nobody is logged in any more: the session has ended, or there is none",
		}
		err = e
	}
	Fail(ctx, c.Writer, err)
}

// fromSomeClient refuses a call without cookies that does not come from a page of any client. Browsers leave these cookies
// out of what other sites make them send; the answer must not clear them for such a site.
func (s *Server) fromSomeClient(r *http.Request) error {
	origins := r.Header.Values("Origin")
	if len(origins) != 1 {
		return ErrForeignOrigin
	}
	known, err := s.clients.OriginRegistered(r.Context(), origins[0])
	if err == nil && !known {
		err = ErrForeignOrigin
	}
	return err
}

func (s *Server) refreshByCookie(c *gin.Context) (tokens.Issued, users.User, error) {
	ctx := c.Request.Context()
	cookie, err := c.Request.Cookie(RefreshCookie)
	if err != nil {
		if err = s.fromSomeClient(c.Request); err == nil {
			err = tokens.ErrInvalidGrant
		}
		return tokens.Issued{}, users.User{}, err
	}
	client, u, err := s.clientOf(c, cookie.Value)
	if err == nil && !client.May(clients.RefreshToken) {
		err = badRequest("unauthorized_client", "the client is not registered for this grant")
	}
	if err != nil {
		return tokens.Issued{}, users.User{}, err
	}
	info := request.From(ctx)
	origin := info.Origin
	origin.Actor = client.ID
	issued, outcome, err := s.tokens.Refresh(ctx, client, cookie.Value, nil, nil, proofs.Key{}, origin)
	s.metrics.refreshed(outcome)
	info.Outcome, info.SessionID = string(outcome), issued.SessionID
	return issued, u, err
}

// clientOf returns the client and user of the session that the refresh token is of, if the call comes from one of the
// client's pages. A session whose client is gone or disabled is dead: ErrUnauthenticated.
func (s *Server) clientOf(c *gin.Context, refreshToken string) (*clients.Client, users.User, error) {
	ctx := c.Request.Context()
	id, u, err := s.tokens.Of(ctx, refreshToken)
	if err != nil {
		return nil, u, err
	}
	client, err := s.clients.Known(ctx, id)
	if err != nil {
		return nil, u, err
	}
	info := request.From(ctx)
	info.ClientID, info.UserID = client.ID, u.ID
	if !FromOrigin(c.Request, client) {
		return nil, u, ErrForeignOrigin
	}
	return client, u, nil
}

// showSession answers GET /session.
func (s *Server) showSession(c *gin.Context) {
	ctx := c.Request.Context()
	err := tokens.ErrInvalidToken
	var access tokens.Access
	if cookie, cookieErr := c.Request.Cookie(AccessCookie); cookieErr == nil {
		access, err = s.tokens.Identify(ctx, cookie.Value)
	}
	if err == nil && access.UserID == "" {
		err = tokens.ErrInvalidToken
	}
	if err == nil && c.GetHeader("Origin") != "" { // a page of another client on the same site must not read it
		var client *clients.Client
		if client, err = s.clients.Known(ctx, access.ClientID); err == nil && !FromOrigin(c.Request, client) {
			err = ErrForeignOrigin
		}
	}
	if errors.Is(err, tokens.ErrInvalidToken) {
		err = &Error{
			Status: http.StatusUnauthorized, Code: "invalid_token", Challenge: `Bearer realm="signet"`,
			Description: "nobody is logged in, or the access token has expired: POST /session/refresh tells",
		}
	}
	if err != nil {
		Fail(ctx, c.Writer, noBasic(err))
		return
	}
	writeJSON(c.Writer, http.StatusOK, sessionAnswer{
		Subject: access.UserID, Username: access.Username, Scope: access.Scope.String(), ExpiresIn: int64(access.ExpiresAt.Sub(access.Now) / time.Second),
	})
}

// endSession answers DELETE /session. Where there is nothing to end it clears the cookies all the same.
func (s *Server) endSession(c *gin.Context) {
	ctx := c.Request.Context()
	err := s.endByCookie(c)
	if err != nil && !errors.Is(err, tokens.ErrInvalidGrant) && !errors.Is(err, clients.ErrUnauthenticated) {
		Fail(ctx, c.Writer, err)
		return
	}
	s.clearCookies(c.Writer)
	c.Status(http.StatusNoContent)
}

func (s *Server) endByCookie(c *gin.Context) error {
	ctx := c.Request.Context()
	cookie, err := c.Request.Cookie(RefreshCookie)
	if err != nil {
		return s.endByAccessCookie(c)
	}
	client, _, err := s.clientOf(c, cookie.Value)
	if errors.Is(err, tokens.ErrInvalidGrant) {
		return s.endByAccessCookie(c)
	}
	if err != nil {
		return err
	}
	origin := request.From(ctx).Origin
	origin.Actor = client.ID
	return s.tokens.Revoke(ctx, client, cookie.Value, origin)
}

// endByAccessCookie ends the session of the access token: its client has no refresh tokens, or the cookie with it is spoilt.
func (s *Server) endByAccessCookie(c *gin.Context) error {
	ctx := c.Request.Context()
	cookie, err := c.Request.Cookie(AccessCookie)
	if err != nil {
		return s.fromSomeClient(c.Request)
	}
	access, err := s.tokens.Identify(ctx, cookie.Value)
	if errors.Is(err, tokens.ErrInvalidToken) || err == nil && access.SessionID == "" {
		return tokens.ErrInvalidGrant
	}
	if err != nil {
		return err
	}
	client, err := s.clients.Known(ctx, access.ClientID)
	if err != nil {
		return err
	}
	if !FromOrigin(c.Request, client) {
		return ErrForeignOrigin
	}
	origin := request.From(ctx).Origin
	origin.Actor = access.UserID
	if err = s.tokens.EndSession(ctx, access.SessionID, origin); errors.Is(err, tokens.ErrNoSession) {
		err = nil
	}
	return err
}

// setCookies gives the tokens to the browser. A client without refresh tokens gets none, and the one of a login before goes.
func (s *Server) setCookies(w http.ResponseWriter, issued tokens.Issued) {
	http.SetCookie(w, s.cookie(AccessCookie, issued.AccessToken, int(issued.ExpiresIn/time.Second)))
	maxAge := -1
	if issued.RefreshToken != "" {
		maxAge = max(1, int(issued.SessionExpiresIn/time.Second))
	}
	http.SetCookie(w, s.cookie(RefreshCookie, issued.RefreshToken, maxAge))
}

func (s *Server) clearCookies(w http.ResponseWriter) {
	http.SetCookie(w, s.cookie(AccessCookie, "", -1))
	http.SetCookie(w, s.cookie(RefreshCookie, "", -1))
}

// cookie makes one of the two cookies, to be kept for that many seconds.
func (s *Server) cookie(name, value string, maxAge int) *http.Cookie {
	c := &http.Cookie{ //nolint:gosec // Secure, but where a developer has no certificate
		Name: name, Value: value, MaxAge: maxAge, Path: "/", Domain: s.cookieDomain,
		HttpOnly: true, Secure: s.secureCookies, SameSite: http.SameSiteLaxMode,
	}
	if name == RefreshCookie {
		c.Path, c.Domain, c.SameSite = sessionPath, "", http.SameSiteStrictMode
	}
	return c
}
