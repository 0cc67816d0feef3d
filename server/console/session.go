package console

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"signet/audit"
	"signet/authorizations"
	"signet/clients"
	"signet/proofs"
	"signet/server/request"
	"signet/tokens"
)

const (
	// ClientID is the client that the console's sessions are of. It is registered, or put right, at each login; who disables it turns
	// the console off.
	ClientID = "signet-console"

	// cookieName holds the access token of the session.
	cookieName = "signet_console"

	// flowName is the cookie of a login that is under way: what the answer to the authorization request is held against.
	flowName = "signet_console_login"
	flowTTL  = 2 * time.Hour

	// sessionTTL is how long one stays logged in at the most. Without a request one is logged out when the access token expires.
	sessionTTL = 12 * time.Hour

	callbackPath = "/login/callback"
)

var errOff = errors.New("the client " + ClientID + " is disabled")

// client returns the console's own client, after registering it where there is none, or giving it back what it needs: the console is a
// client of Signet like any other, and its users log in as they do elsewhere.
func (s *Console) client(ctx context.Context, o audit.Origin) (*clients.Client, error) {
	o.Actor = "server"
	c, err := s.Clients.Get(ctx, ClientID)
	wanted := c
	wanted.AuthMethod, wanted.Grants, wanted.ResourceServer = clients.None, []clients.Grant{clients.AuthorizationCode}, false
	wanted.Scope, wanted.Audience = clients.Scope{clients.ScopeOpenID, clients.ScopeAdmin}, nil
	wanted.RedirectURIs, wanted.SkipConsent = []string{s.callback()}, true
	wanted.SessionTTL, wanted.RefreshTTL = sessionTTL, sessionTTL
	switch {
	case errors.Is(err, clients.ErrNotFound):
		wanted.ID, wanted.Name = ClientID, "Signet console"
		c, err = s.Clients.Create(ctx, wanted, o)
		if errors.Is(err, clients.ErrExists) { // another replica was faster
			c, err = s.Clients.Get(ctx, ClientID)
		}
	case err == nil && !c.Disabled && !sameUse(&c, &wanted):
		c, err = s.Clients.Update(ctx, wanted, o)
		if errors.Is(err, clients.ErrChanged) {
			c, err = s.Clients.Get(ctx, ClientID)
		}
	}
	if err == nil && c.Disabled {
		err = errOff
	}
	return &c, err
}

// sameUse tells whether a client is registered for what the other one is.
func sameUse(a, b *clients.Client) bool {
	return a.AuthMethod == b.AuthMethod && slices.Equal(a.Grants, b.Grants) && a.ResourceServer == b.ResourceServer &&
		slices.Equal(a.Scope, b.Scope) && len(a.Audience) == len(b.Audience) && slices.Equal(a.RedirectURIs, b.RedirectURIs) &&
		a.SkipConsent == b.SkipConsent && a.SessionTTL == b.SessionTTL && a.RefreshTTL == b.RefreshTTL
}

// callback is where the answer to the authorization request goes.
func (s *Console) callback() string { return s.Tokens.Issuer() + "/console" + callbackPath }

// loginForm is what the page shows that one logs in from.
type loginForm struct {
	Why   string
	Start string // the address that begins the login
	Other bool   // as somebody else
}

// reasons are why one has to log in (again).
var reasons = map[string]string{
	"idle":   "You were logged out after being idle, or at the end of twelve hours.",
	"ended":  "Your session was ended.",
	"post":   "You were not logged in any more, so nothing was changed. Log in and do it again.",
	"out":    "You are logged out.",
	"admin":  "This account is not an admin’s.",
	"denied": "You did not log in.",
	"stale":  "That login was begun in another tab, or too long ago. Log in once more.",
}

// loginPage says why one has to log in. Who comes for the first time need not be told, and goes on at once.
func (s *Console) loginPage(c *gin.Context) {
	why, next := c.Query("why"), s.safeNext(c.Query("next"))
	if next == "/" {
		next = ""
	}
	again := "" // a password is wanted, though the browser is logged in
	if why == "idle" || why == "admin" {
		again = "1"
	}
	// Cookies are set at the address that the answer comes to, under whatever name the visitor has come.
	start := s.Tokens.Issuer() + strings.TrimPrefix(s.url("/login/start", "next", next, "again", again), strings.TrimSuffix(s.base, "/console"))
	if reasons[why] == "" {
		c.Redirect(http.StatusSeeOther, start)
		return
	}
	s.render(c, http.StatusOK, "login", page{Title: "Log in", Data: loginForm{Why: reasons[why], Start: start, Other: why == "admin"}})
}

// startLogin sends the browser to the authorization endpoint (RFC 6749 section 4.1.1, RFC 7636).
func (s *Console) startLogin(c *gin.Context) {
	info := request.From(c.Request.Context())
	info.ClientID = ClientID
	client, err := s.client(c.Request.Context(), info.Origin)
	if err != nil {
		s.refuseLogin(c, err)
		return
	}
	f := flow{State: rand.Text(), Verifier: rand.Text() + rand.Text(), Next: s.safeNext(c.Query("next"))}
	challenge, _ := authorizations.Challenge(f.Verifier)
	q := url.Values{
		"client_id": {client.ID}, "redirect_uri": {s.callback()}, "response_type": {"code"}, "scope": {client.Scope.String()},
		"state": {f.State}, "code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}
	if c.Query("again") != "" {
		q.Set("prompt", "login")
	}
	http.SetCookie(c.Writer, s.flowCookie(f.String(), int(flowTTL/time.Second)))
	c.Redirect(http.StatusSeeOther, s.Tokens.Issuer()+"/authorize?"+q.Encode())
}

// flow is a login that is under way.
type flow struct{ State, Verifier, Next string }

// String is the flow as its cookie holds it.
func (f flow) String() string {
	return f.State + "." + f.Verifier + "." + base64.RawURLEncoding.EncodeToString([]byte(f.Next))
}

// flowOf reads the flow of the request's cookie, if the answer is to that.
func (s *Console) flowOf(c *gin.Context) (f flow, ok bool) {
	found := c.Request.CookiesNamed(s.flowCookie("", 0).Name)
	if len(found) != 1 {
		return f, false
	}
	parts := strings.Split(found[0].Value, ".")
	if len(parts) != 3 || parts[0] == "" || subtle.ConstantTimeCompare([]byte(parts[0]), []byte(c.Query("state"))) != 1 {
		return f, false
	}
	next, err := base64.RawURLEncoding.DecodeString(parts[2])
	return flow{parts[0], parts[1], s.safeNext(string(next))}, err == nil
}

// flowCookie comes along with the redirect from the authorization endpoint. Its name keeps sibling domains from setting it.
func (s *Console) flowCookie(value string, maxAge int) *http.Cookie {
	name := flowName
	if s.secure {
		name = "__Host-" + name
	}
	return &http.Cookie{ //nolint:gosec // Secure wherever the issuer is https
		Name: name, Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode,
	}
}

// finishLogin takes the answer to the authorization request, and begins the session (RFC 6749 section 4.1.2, RFC 9207).
func (s *Console) finishLogin(c *gin.Context) {
	ctx := c.Request.Context()
	info := request.From(ctx)
	info.ClientID = ClientID
	f, ok := s.flowOf(c)
	http.SetCookie(c.Writer, s.flowCookie("", -1))
	code := c.Query("error")
	switch {
	case !ok, c.Query("iss") != s.Tokens.Issuer():
		s.redirect(c, "/login", "why", "stale")
		return
	case code == "invalid_scope": // signet:admin is for admins
		s.redirect(c, "/login", "why", "admin", "next", f.Next)
		return
	case code == "access_denied":
		s.redirect(c, "/login", "why", "denied", "next", f.Next)
		return
	case code != "":
		s.fail(c, errors.New("the authorization endpoint answered "+code))
		return
	}
	client, err := s.client(ctx, info.Origin)
	var issued tokens.Issued
	if err == nil {
		issued, err = s.Tokens.RedeemCode(ctx, client, c.Query("code"), s.callback(), f.Verifier, nil, nil, proofs.Key{}, info.Origin)
	}
	if errors.Is(err, tokens.ErrInvalidGrant) {
		s.redirect(c, "/login", "why", "stale", "next", f.Next)
		return
	}
	if err != nil {
		s.refuseLogin(c, err)
		return
	}
	info.SessionID = issued.SessionID
	s.setCookie(c, issued.AccessToken)
	c.Redirect(http.StatusSeeOther, s.base+f.Next)
}

// refuseLogin says that nobody can log in, or not at the moment.
func (s *Console) refuseLogin(c *gin.Context, err error) {
	if !errors.Is(err, errOff) {
		s.fail(c, err)
		return
	}
	request.From(c.Request.Context()).Err = err
	s.render(c, http.StatusForbidden, "login", page{Title: "Log in", Data: loginForm{Why: "The console is turned off. To turn it on: signet client enable " + ClientID}})
}

// logOut ends the session that the cookie is of, and the browser's login, with all that depends on it.
func (s *Console) logOut(c *gin.Context) {
	access, err := s.authorize(c)
	if err == nil {
		o := request.From(c.Request.Context()).Origin
		o.Actor = access.UserID
		if err = s.Tokens.EndSession(c.Request.Context(), access.SessionID, o); errors.Is(err, tokens.ErrNoSession) {
			err = nil
		}
		if err == nil {
			err = s.EndLogin(c)
		}
	}
	if err != nil && !refused(err) {
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
	access, err := s.Tokens.Authorize(c.Request.Context(), token, clients.ScopeAdmin, proofs.Key{})
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

// cookie has no age: the token in it does, and one that has expired tells why its holder has to log in again. It comes along where
// another site's link or the end of a login leads here; what changes something is a POST, which other sites cannot make.
func (s *Console) cookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // Secure wherever the issuer is https
		Name: cookieName, Value: value, Path: s.base, MaxAge: maxAge, HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode,
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
