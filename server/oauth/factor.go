package oauth

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"signet/authorizations"
	"signet/clients"
	"signet/logins"
	"signet/server/pages"
	"signet/server/request"
	"signet/users"
)

// factorRoutes adds the forms of what comes after the password, or instead of it.
func (s *Server) factorRoutes(r gin.IRouter) {
	r.POST("/login/passkey", s.logInByPasskey)
	r.POST("/login/factor", s.secondFactor)
	r.POST("/login/enrol", s.enrol)
	r.POST("/login/continue", s.goOn)
}

const (
	maxCode   = 64       // bytes
	maxAnswer = 32 << 10 // of an authenticator
)

// passed goes on after the right password: with the login itself, or with a second factor where the user has one or is to have one.
func (s *Server) passed(c *gin.Context, client *clients.Client, r *authorizations.Request, u users.User, again pages.Login) {
	if s.logins.Demands(u.Admin) || needsTwo(r) {
		s.askSecond(c, client, r, u, again.Stay)
		return
	}
	s.begin(c, client, r, u, logins.ByPassword, again)
}

// askSecond asks a user whose password was right for the second factor, or to add one.
func (s *Server) askSecond(c *gin.Context, client *clients.Client, r *authorizations.Request, u users.User, stay bool) {
	f, err := s.logins.Factors(c.Request.Context(), u.ID)
	half := authorizations.Half{UserID: u.ID, Epoch: u.Epoch, Stay: stay}
	switch {
	case err != nil:
		s.fail(c, r, err)
	case f.Any():
		s.askFactor(c, http.StatusOK, client, r, half, u, f, pages.Factor{})
	default:
		s.askEnrolment(c, http.StatusOK, client, r, half, u, pages.Enrol{})
	}
}

// begin logs the user in, who has proved who they are, and goes on.
func (s *Server) begin(c *gin.Context, client *clients.Client, r *authorizations.Request, u users.User, p logins.Proof, again pages.Login) {
	switch _, err := s.enter(c, u, p, again.Stay); {
	case errors.Is(err, logins.ErrNeedsFactor):
		s.askSecond(c, client, r, u, again.Stay)
	case err != nil:
		s.loginAgain(c, r, again, err)
	default:
		s.proceed(c, client, r, standing{proved: true, chosen: true})
	}
}

// enter logs the user in, or returns an error of logins.Begin.
func (s *Server) enter(c *gin.Context, u users.User, p logins.Proof, stay bool) (logins.Login, error) {
	info := request.From(c.Request.Context())
	l, cookie, err := s.logins.Begin(c.Request.Context(), u, p, stay, s.loginCookie(c.Request), info.Origin)
	if err != nil {
		return l, err
	}
	info.UserID = u.ID
	s.metrics.loggedIn()
	s.keepLogin(c, cookie, stay)
	return l, nil
}

// keepLogin gives the browser the cookie of its login.
func (s *Server) keepLogin(c *gin.Context, cookie string, stay bool) {
	maxAge := 0
	if stay {
		maxAge = int(s.logins.StayTTL() / time.Second)
	}
	s.setHostCookie(c.Writer, loginCookieName, cookie, maxAge)
	c.Set(loginCookieName, cookie)
}

// logInByPasskey answers POST /login/passkey: the login page, by a passkey that has verified its user.
func (s *Server) logInByPasskey(c *gin.Context) {
	form, p, client, ok := s.step(c, authorizations.StageLogin)
	if !ok {
		return
	}
	again := s.loginPage(c, client, p)
	again.Stay = form.Get("stay") == "1"
	if p.Expired {
		again.Expired = true
		s.pages.Login(c, http.StatusOK, p.Request.Locales, again)
		return
	}
	ctx := c.Request.Context()
	info := request.From(ctx)
	answer, _ := text(form, "answer", maxAnswer)
	userID, proof, err := s.logins.CheckPasskey(ctx, s.browser(c), form.Get("challenge"), answer, client.ID, info.Origin)
	var u users.User
	if err == nil {
		if u, err = s.users.Get(ctx, userID); errors.Is(err, users.ErrNotFound) || err == nil && u.Disabled {
			err = logins.ErrWrongFactor
		}
	}
	if err != nil {
		s.loginAgain(c, p.Request, again, err)
		return
	}
	s.begin(c, client, p.Request, u, proof, again)
}

// half returns the user whose password was right. It shows the login page where that is too long ago, or the user has changed.
func (s *Server) half(c *gin.Context, client *clients.Client, p authorizations.Pending) (u users.User, ok bool) {
	u, err := s.users.Get(c.Request.Context(), p.Half.UserID)
	if err != nil && !errors.Is(err, users.ErrNotFound) {
		s.fail(c, p.Request, err)
		return u, false
	}
	if p.Expired || err != nil || u.Epoch != p.Half.Epoch || u.Disabled {
		v := s.loginPage(c, client, p)
		v.Expired = true
		s.pages.Login(c, http.StatusOK, p.Request.Locales, v)
		return u, false
	}
	request.From(c.Request.Context()).UserID = u.ID
	return u, true
}

// askFactor shows the page that asks for the second factor.
func (s *Server) askFactor(c *gin.Context, status int, client *clients.Client, r *authorizations.Request, half authorizations.Half, u users.User, f logins.Factors, v pages.Factor) {
	ceremony, err := s.logins.AskSecondPasskey(u, f, s.browser(c))
	if err != nil {
		s.fail(c, r, err)
		return
	}
	v.Request = s.authorizations.Seal(authorizations.StageFactor, s.browser(c), authorizations.Pending{Request: r, Half: half})
	v.Client, v.Username, v.App, v.Passkey = shownClient(client), u.Username, f.Has(logins.TOTP), asked(ceremony)
	s.pages.Factor(c, status, r.Locales, v)
}

func asked(c logins.Ceremony) pages.Passkey {
	return pages.Passkey{Options: c.Options, Challenge: c.Sealed}
}

// secondFactor answers POST /login/factor.
func (s *Server) secondFactor(c *gin.Context) {
	form, p, client, ok := s.step(c, authorizations.StageFactor)
	if !ok {
		return
	}
	u, ok := s.half(c, client, p)
	if !ok {
		return
	}
	ctx := c.Request.Context()
	info := request.From(ctx)
	var proof logins.Proof
	err := logins.ErrWrongFactor
	if answer, given := text(form, "answer", maxAnswer); given {
		proof, err = s.logins.CheckSecondPasskey(ctx, u, s.browser(c), form.Get("challenge"), answer, client.ID, info.Origin)
	} else if code, given := text(form, "code", maxCode); given {
		proof, err = s.logins.CheckCode(ctx, u, code, client.ID, info.Origin)
	}
	if err == nil {
		again := s.loginPage(c, client, p)
		again.Stay = p.Half.Stay
		s.begin(c, client, p.Request, u, proof, again)
		return
	}
	info.Err = err
	s.metrics.factorFailed(err)
	status, problem, wait := s.problemOf(c, err)
	if status == http.StatusServiceUnavailable {
		s.unavailable(c, p.Request.Locales)
		return
	}
	if problem == pages.WrongFactor && form.Get("answer") != "" {
		problem = pages.WrongPasskey
	}
	f, err := s.logins.Factors(ctx, u.ID)
	if err != nil {
		s.fail(c, p.Request, err)
		return
	}
	s.askFactor(c, status, client, p.Request, p.Half, u, f, pages.Factor{Problem: problem, RetryAfter: wait})
}

// problemOf is what a page says of an error with a factor or a password.
func (s *Server) problemOf(c *gin.Context, err error) (status int, problem pages.Problem, wait time.Duration) {
	var throttled *users.ThrottledError
	switch {
	case errors.Is(err, logins.ErrWrongFactor):
		return http.StatusUnauthorized, pages.WrongFactor, 0
	case errors.Is(err, users.ErrBadCredentials):
		return http.StatusUnauthorized, pages.WrongPassword, 0
	case errors.Is(err, users.ErrPassword):
		return http.StatusBadRequest, pages.BadPassword, 0
	case errors.Is(err, logins.ErrFactorExists), errors.Is(err, logins.ErrTooManyFactors):
		return http.StatusBadRequest, pages.FactorExists, 0
	case errors.Is(err, logins.ErrFactorName):
		return http.StatusBadRequest, pages.BadFactorName, 0
	case errors.Is(err, logins.ErrEnrolment):
		return http.StatusBadRequest, pages.TooOld, 0
	case errors.As(err, &throttled):
		setRetryAfter(c, throttled.RetryAfter)
		return http.StatusTooManyRequests, pages.Throttled, throttled.RetryAfter
	default:
		return http.StatusServiceUnavailable, pages.Overloaded, 0
	}
}

// problemOfNew is what a page says of an error with a factor that its form was to add.
func (s *Server) problemOfNew(c *gin.Context, err error, form url.Values) (status int, problem pages.Problem) {
	status, problem, _ = s.problemOf(c, err)
	switch {
	case problem != pages.WrongFactor:
	case form.Get("answer") != "":
		problem = pages.NewPasskey
	default:
		problem = pages.NewCode
	}
	return status, problem
}

// askEnrolment shows the page on which a user who has to have a second factor adds one. The app, which may be zero, is the one that was
// begun before.
func (s *Server) askEnrolment(c *gin.Context, status int, client *clients.Client, r *authorizations.Request, half authorizations.Half, u users.User, v pages.Enrol) {
	browser := s.browser(c)
	ceremony, err := s.logins.AskNewPasskey(c.Request.Context(), u, browser)
	if err != nil && !errors.Is(err, logins.ErrNoFactor) {
		s.fail(c, r, err)
		return
	}
	if v.Enrolment == "" {
		e := s.logins.EnrolTOTP(u, browser)
		v.Enrolment, v.Secret, v.URI = e.Sealed, e.Secret, e.URI
	}
	v.Request = s.authorizations.Seal(authorizations.StageEnrol, browser, authorizations.Pending{Request: r, Half: half})
	v.Client, v.Passkey = shownClient(client), asked(ceremony)
	s.pages.Enrol(c, status, r.Locales, v)
}

// enrol answers POST /login/enrol.
func (s *Server) enrol(c *gin.Context) {
	form, p, client, ok := s.step(c, authorizations.StageEnrol)
	if !ok {
		return
	}
	u, ok := s.half(c, client, p)
	if !ok {
		return
	}
	f, err := s.logins.Factors(c.Request.Context(), u.ID)
	if err != nil {
		s.fail(c, p.Request, err)
		return
	}
	if f.Any() { // by now: whoever has the password alone adds none to it
		s.askFactor(c, http.StatusOK, client, p.Request, p.Half, u, f, pages.Factor{})
		return
	}
	added, codes, err := s.addFactor(c, u, form, true)
	if err != nil {
		request.From(c.Request.Context()).Err = err
		status, problem := s.problemOfNew(c, err, form)
		if status == http.StatusServiceUnavailable {
			s.unavailable(c, p.Request.Locales)
			return
		}
		v := pages.Enrol{Problem: problem}
		if e, ok := s.logins.ResumeTOTP(u, s.browser(c), form.Get("enrolment")); ok && !errors.Is(err, logins.ErrEnrolment) {
			v.Enrolment, v.Secret, v.URI = e.Sealed, e.Secret, e.URI
		}
		s.askEnrolment(c, status, client, p.Request, p.Half, u, v)
		return
	}
	again := s.loginPage(c, client, p)
	again.Stay = p.Half.Stay
	l, err := s.enter(c, u, logins.ProofOf(added), again.Stay)
	if err != nil {
		s.loginAgain(c, p.Request, again, err)
		return
	}
	sealed := s.authorizations.Seal(authorizations.StageGoOn, s.browser(c), authorizations.Pending{Request: p.Request, Login: l.ID, AuthTime: l.Time})
	s.pages.Codes(c, p.Request.Locales, pages.Codes{Request: sealed, Codes: codes})
}

// plainNames are the names of factors that their users gave none.
var plainNames = map[logins.Kind]string{logins.Passkey: "Passkey", logins.TOTP: "Authenticator app"}

// addFactor adds what a form has brought: a passkey, or an authenticator app. First: it has to be the user's first.
func (s *Server) addFactor(c *gin.Context, u users.User, form url.Values, first bool) (logins.Factor, []string, error) {
	ctx, browser := c.Request.Context(), s.browser(c)
	o := request.From(ctx).Origin
	o.Actor = u.ID
	name := form.Get("name")
	if answer, given := text(form, "answer", maxAnswer); given {
		if name == "" {
			name = plainNames[logins.Passkey]
		}
		return s.logins.AddPasskey(ctx, u, browser, form.Get("challenge"), answer, name, first, o)
	}
	if name == "" {
		name = plainNames[logins.TOTP]
	}
	return s.logins.AddTOTP(ctx, u, browser, form.Get("enrolment"), form.Get("code"), name, first, o)
}

// goOn answers POST /login/continue: recovery codes were read.
func (s *Server) goOn(c *gin.Context) {
	_, p, client, ok := s.step(c, authorizations.StageGoOn)
	if !ok {
		return
	}
	s.proceed(c, client, p.Request, standing{proved: !p.Expired, chosen: true, login: p.Login, authTime: p.AuthTime})
}

// satisfies tells whether a login of that class is good enough for the request. What the claim acr is asked to be essentially is matched, what
// acr_values ask for is reached or surpassed (OpenID Connect Core sections 3.1.2.1 and 5.5.1.1).
func satisfies(r *authorizations.Request, class string) bool {
	if len(r.Claims.Classes) > 0 {
		return slices.Contains(r.Claims.Classes, class)
	}
	return len(r.Classes) == 0 || class == logins.TwoFactors || slices.Contains(r.Classes, class)
}

// needsTwo tells whether the request is for users who have proved two factors.
func needsTwo(r *authorizations.Request) bool {
	return satisfies(r, logins.TwoFactors) && !satisfies(r, logins.OneFactor)
}
