package oauth

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"

	"signet/authorizations"
	"signet/clients"
	"signet/logins"
	"signet/server/pages"
	"signet/server/request"
	"signet/users"
)

// pageRoutes adds the endpoints that users meet in the browser.
func (s *Server) pageRoutes(r gin.IRouter) {
	r.GET(authorizePath, s.authorize)
	r.POST(authorizePath, s.authorize)
	r.POST("/login", s.logIn)
	r.POST("/login/account", s.chooseAccount)
	r.POST("/consent", s.consent)
	r.GET(logoutPath, s.logout)
	r.POST(logoutPath, s.logout)
	for _, path := range []string{"/login", "/login/account", "/login/passkey", "/login/factor", "/login/enrol", "/login/continue", "/consent"} {
		// Nothing is here by itself: the pages are answers to /authorize.
		r.GET(path, func(c *gin.Context) { s.pages.Error(c, http.StatusNotFound, nil, pages.Error{Kind: pages.Stale}) })
	}
	r.GET(devicePath, s.askForUserCode)
	r.POST(devicePath, s.chooseDevice)
	s.factorRoutes(r)
	s.ownRoutes(r)
	s.recoveryRoutes(r)
	s.pages.Routes(r)
}

const (
	maxUsername = 1 << 10 // bytes
	maxPassword = 1 << 10
)

// step opens the form of a step of a login, and finds the client that asks. It writes the answer itself where that is none, and where the
// user will not go on.
func (s *Server) step(c *gin.Context, stage authorizations.Stage) (form url.Values, p authorizations.Pending, client *clients.Client, ok bool) {
	if form, ok = s.formOf(c); !ok {
		return
	}
	if p, ok = s.pending(c, stage, form); !ok {
		return
	}
	if client, ok = s.resume(c, p.Request); ok && form.Get("decision") == "deny" {
		s.refuse(c, p.Request, errAccessDenied)
		ok = false
	}
	return
}

// logIn answers POST /login: the form of the login page.
func (s *Server) logIn(c *gin.Context) {
	form, p, client, ok := s.step(c, authorizations.StageLogin)
	if !ok {
		return
	}
	r := p.Request
	form.Set("username", strings.TrimSpace(form.Get("username"))) // phones put a space behind a word that they complete
	again := s.loginPage(c, client, p)
	again.Username, again.Stay = form.Get("username"), form.Get("stay") == "1"
	if p.Expired {
		again.Expired = true
		s.pages.Login(c, http.StatusOK, r.Locales, again)
		return
	}
	ctx := c.Request.Context()
	info := request.From(ctx)
	username, hasName := text(form, "username", maxUsername)
	password, hasPassword := text(form, "password", maxPassword)
	err := users.ErrBadCredentials
	var u users.User
	if hasName && hasPassword {
		u, err = s.users.Authenticate(ctx, username, password, client.ID, info.Origin)
		s.metrics.loginFailed(err)
	}
	if err != nil {
		s.loginAgain(c, r, again, err)
		return
	}
	info.UserID = u.ID
	s.passed(c, client, r, u, again)
}

// loginPage is the login page for the request that waits.
func (s *Server) loginPage(c *gin.Context, client *clients.Client, p authorizations.Pending) pages.Login {
	browser := s.browser(c)
	waiting := authorizations.Pending{Request: p.Request, Login: p.Login, AuthTime: p.AuthTime}
	v := pages.Login{Request: s.authorizations.Seal(authorizations.StageLogin, browser, waiting), Client: shownClient(client)}
	if ceremony, err := s.logins.AskPasskey(browser); err == nil {
		v.Passkey = asked(ceremony)
	}
	return v
}

// loginAgain shows the login page once more, which says what is wrong.
func (s *Server) loginAgain(c *gin.Context, r *authorizations.Request, v pages.Login, err error) {
	request.From(c.Request.Context()).Err = err
	var throttled *users.ThrottledError
	status := http.StatusUnauthorized
	switch {
	case errors.Is(err, users.ErrBadCredentials), errors.Is(err, logins.ErrUserChanged):
		v.Problem = pages.WrongCredentials
	case errors.Is(err, logins.ErrWrongFactor):
		v.Problem = pages.WrongPasskey
	case errors.As(err, &throttled):
		status, v.Problem, v.RetryAfter = http.StatusTooManyRequests, pages.Throttled, throttled.RetryAfter
		setRetryAfter(c, throttled.RetryAfter)
	case errors.Is(err, users.ErrOverloaded):
		status, v.Problem = http.StatusServiceUnavailable, pages.Overloaded
		setRetryAfter(c, retryAfter)
	default:
		s.unavailable(c, r.Locales)
		return
	}
	s.pages.Login(c, status, r.Locales, v)
}

// chooseAccount answers POST /login/account: the form that asks whether to go on as who is logged in.
func (s *Server) chooseAccount(c *gin.Context) {
	form, p, client, ok := s.step(c, authorizations.StageAccount)
	if !ok {
		return
	}
	switch form.Get("decision") {
	case "continue":
		s.proceed(c, client, p.Request, standing{chosen: true, login: p.Login})
	case "other":
		s.ask(c, client, p.Request, logins.Login{}, authorizations.Consent{}, authorizations.StageLogin)
	default:
		s.refuse(c, p.Request, errAccessDenied)
	}
}

// consent answers POST /consent: the form of the consent page.
func (s *Server) consent(c *gin.Context) {
	form, p, client, ok := s.step(c, authorizations.StageConsent)
	if !ok {
		return
	}
	switch {
	case form.Get("decision") != "allow":
		s.refusePage(c, p.Request.Locales, invalidRequest("the decision has to be allow or deny"))
	case p.Expired:
		s.proceed(c, client, p.Request, standing{})
	default:
		s.proceed(c, client, p.Request, standing{proved: true, chosen: true, confirmed: true, login: p.Login, authTime: p.AuthTime})
	}
}
