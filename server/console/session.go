package console

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"signet/activity"
	"signet/audit"
	"signet/clients"
	"signet/server/request"
	"signet/tokens"
	"signet/users"
)

const (
	// ClientID is the client that the console's sessions are of. It is registered at the first login; who disables it turns
	// the console off.
	ClientID = "signet-console"

	// cookieName holds the access token of the session.
	cookieName = "signet_console"

	// sessionTTL is how long one stays logged in at the most. Without a request one is logged out when the access token expires.
	sessionTTL = 12 * time.Hour
)

var errOff = errors.New("the client " + ClientID + " is disabled")

// client returns the console's own client, after registering it where there is none.
func (s *Console) client(ctx context.Context, o audit.Origin) (clients.Client, error) {
	c, err := s.Clients.Get(ctx, ClientID)
	if errors.Is(err, clients.ErrNotFound) {
		o.Actor = "server"
		_, err = s.Clients.Create(ctx, clients.Client{
			ID: ClientID, Name: "Signet console", AuthMethod: clients.None, Grants: []clients.Grant{}, // none: no use at /token
			Scope: clients.Scope{clients.ScopeAdmin},
		}, o)
		if err == nil || errors.Is(err, clients.ErrExists) {
			c, err = s.Clients.Get(ctx, ClientID)
		}
	}
	if err == nil && c.Disabled {
		err = errOff
	}
	return c, err
}

// loginForm is what the login page shows.
type loginForm struct {
	Username, Next, Why, Problem string
}

// reasons are why one has to log in (again).
var reasons = map[string]string{
	"idle":  "You were logged out after being idle, or at the end of twelve hours.",
	"ended": "Your session was ended.",
	"post":  "You were not logged in any more, so nothing was changed. Log in and do it again.",
	"out":   "You are logged out.",
	"admin": "You are not an admin any more.",
}

func (s *Console) loginPage(c *gin.Context) {
	s.showLogin(c, http.StatusOK, loginForm{Next: s.safeNext(c.Query("next")), Why: reasons[c.Query("why")]})
}

func (s *Console) showLogin(c *gin.Context, status int, f loginForm) {
	s.render(c, status, "login", page{Title: "Log in", Data: f})
}

// logIn begins a session. Whatever is wrong with name and password gets the same answer.
func (s *Console) logIn(c *gin.Context) {
	ctx := c.Request.Context()
	info := request.From(ctx)
	info.ClientID = ClientID
	form := loginForm{Username: c.PostForm("username"), Next: s.safeNext(c.PostForm("next"))}
	issued, err := s.begin(ctx, form.Username, c.PostForm("password"))
	info.Err = err
	status := http.StatusServiceUnavailable
	var throttled *users.ThrottledError
	s.LoginFailed(err)
	switch {
	case err == nil:
		info.SessionID = issued.SessionID
		s.Counter.Add(activity.Logins)
		s.setCookie(c, issued.AccessToken)
		c.Redirect(http.StatusSeeOther, s.base+form.Next)
		return
	case errors.Is(err, errOff):
		status, form.Problem = http.StatusForbidden, "The console is turned off. To turn it on: signet client enable "+ClientID
	case errors.Is(err, users.ErrBadCredentials):
		status, form.Problem = http.StatusUnauthorized, "Wrong username or password, or not an admin."
	case errors.As(err, &throttled):
		c.Header("Retry-After", strconv.Itoa(int(math.Ceil(throttled.RetryAfter.Seconds()))))
		status, form.Problem = http.StatusTooManyRequests, "Too many failed logins. Try again in "+span(throttled.RetryAfter)+"."
	case errors.Is(err, users.ErrOverloaded):
		c.Header("Retry-After", "2")
		form.Problem = "Too many people are logging in at this moment. Try again."
	default:
		s.fail(c, err)
		return
	}
	s.showLogin(c, status, form)
}

// begin checks the password and begins a session.
func (s *Console) begin(ctx context.Context, username, password string) (tokens.Issued, error) {
	info := request.From(ctx)
	client, err := s.client(ctx, info.Origin)
	if err != nil {
		return tokens.Issued{}, err
	}
	u, err := s.Users.Authenticate(ctx, username, password, ClientID, info.Origin)
	if err != nil {
		return tokens.Issued{}, err
	}
	info.UserID = u.ID
	if !u.Admin {
		e := audit.New(audit.LoginFailed, info.Origin)
		e.ClientID, e.UserID, e.Detail = ClientID, u.ID, "not an admin"
		if err := s.Audit.RecordEvent(ctx, e); err != nil {
			return tokens.Issued{}, err
		}
		return tokens.Issued{}, users.ErrBadCredentials
	}
	o := info.Origin
	o.Actor = u.ID
	issued, err := s.Tokens.StartSessionUntil(ctx, &client, u, clients.Scope{clients.ScopeAdmin}, []string{s.Tokens.Issuer()}, sessionTTL, o)
	if errors.Is(err, tokens.ErrInvalidGrant) {
		err = users.ErrBadCredentials // disabled, or another password, since it was checked
	}
	return issued, err
}

// logOut ends the session that the cookie is of.
func (s *Console) logOut(c *gin.Context) {
	access, err := s.authorize(c)
	if err == nil {
		o := request.From(c.Request.Context()).Origin
		o.Actor = access.UserID
		err = s.Tokens.EndSession(c.Request.Context(), access.SessionID, o)
	}
	if err != nil && !refused(err) && !errors.Is(err, tokens.ErrNoSession) {
		s.fail(c, err) // still logged in, for all that is known
		return
	}
	s.clearCookie(c)
	s.redirect(c, "/login", "why", "out")
}

var errNoCookie = errors.New("no cookie")

// refused tells whether an error of authorize says that somebody may not come in, and is not the database's.
func refused(err error) bool {
	return errors.Is(err, errNoCookie) || errors.Is(err, tokens.ErrInvalidToken) || errors.Is(err, tokens.ErrInsufficientScope)
}

// authorize tells who asks: the cookie has to hold a live token of an admin's session on the console.
func (s *Console) authorize(c *gin.Context) (tokens.Access, error) {
	token, err := c.Cookie(cookieName)
	if err != nil || token == "" {
		return tokens.Access{}, errNoCookie
	}
	access, err := s.Tokens.Authorize(c.Request.Context(), token, clients.ScopeAdmin)
	if err == nil && (access.ClientID != ClientID || access.UserID == "") {
		err = tokens.ErrInvalidToken
	}
	return access, err
}

// forAdmins lets admins who are logged in through to h, and sends everybody else to log in. A request that is somebody's doing
// keeps the session from ending of idleness; what a page asks by itself does not.
func (s *Console) forAdmins(h handler, doing bool) gin.HandlerFunc {
	return func(c *gin.Context) {
		access, err := s.authorize(c)
		if err != nil && !refused(err) {
			s.fail(c, err)
			return
		}
		info := request.From(c.Request.Context())
		if err != nil {
			info.Err = err
			s.turnAway(c, err)
			return
		}
		info.ClientID, info.UserID, info.SessionID = access.ClientID, access.UserID, access.SessionID
		if doing && access.Now.Sub(access.IssuedAt) > access.ExpiresAt.Sub(access.IssuedAt)/3 {
			if issued, err := s.Tokens.Renew(access); err == nil {
				s.setCookie(c, issued.AccessToken)
			}
		}
		if err := h(&visit{c, access}); err != nil {
			s.fail(c, err)
		}
	}
}

// turnAway sends the browser to the login page, which says why.
func (s *Console) turnAway(c *gin.Context, err error) {
	why := "ended"
	token, _ := c.Cookie(cookieName)
	switch {
	case errors.Is(err, errNoCookie):
		why = ""
	case errors.Is(err, tokens.ErrInsufficientScope):
		why = "admin"
	case expired(token):
		why = "idle"
	}
	if token != "" {
		s.clearCookie(c)
	}
	next := ""
	switch {
	case c.Request.Method != http.MethodGet:
		why = "post"
	case isHTMX(c):
		if current, err := url.Parse(c.GetHeader("Hx-Current-Url")); err == nil {
			next = strings.TrimPrefix(current.RequestURI(), s.base)
		}
	default:
		next = strings.TrimPrefix(c.Request.URL.RequestURI(), "/console") // as this server sees it, with or without a proxy
	}
	if next == "/" {
		next = ""
	}
	s.redirect(c, "/login", "why", why, "next", next)
}

// expired tells whether the token says of itself that it has expired. It is not verified: this decides about a sentence alone.
func expired(token string) bool {
	parts := strings.Split(token, ".")
	var claims struct {
		Exp int64 `json:"exp"`
	}
	if len(parts) != 3 {
		return false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	return err == nil && json.Unmarshal(payload, &claims) == nil && claims.Exp > 0 && claims.Exp <= time.Now().Unix()
}

// safeNext returns the page of the console to go to after the login: path and query below the console, and nothing else.
func (s *Console) safeNext(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}

func (s *Console) setCookie(c *gin.Context, token string) {
	http.SetCookie(c.Writer, s.cookie(token, 0))
}

func (s *Console) clearCookie(c *gin.Context) {
	http.SetCookie(c.Writer, s.cookie("", -1))
}

// cookie has no age: the token in it does, and one that has expired tells why its holder has to log in again.
func (s *Console) cookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // Secure wherever the issuer is https
		Name: cookieName, Value: value, Path: s.base, MaxAge: maxAge, HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteStrictMode,
	}
}

// span says a length of time in words.
func span(d time.Duration) string {
	unit := func(n int64, name string) string {
		if n == 1 {
			return "1 " + name
		}
		return fmt.Sprintf("%d %ss", n, name)
	}
	switch d = d.Round(time.Second); {
	case d < time.Minute:
		return unit(int64(d/time.Second), "second")
	case d < time.Hour:
		return unit(int64(d.Round(time.Minute)/time.Minute), "minute")
	case d < 48*time.Hour:
		return unit(int64(d.Round(time.Hour)/time.Hour), "hour")
	default:
		return unit(int64(d.Round(24*time.Hour)/(24*time.Hour)), "day")
	}
}
