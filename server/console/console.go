// Package console is the admin console: web pages at /console/ for users who are admins.
//
// The pages are made on the server and work without a script; htmx adds search while one types and the audit record that
// follows by itself, uPlot draws the charts. It is a client of Signet, and who logs in, by the pages that all users see, has a
// session like any other: it is in the list of sessions and in the audit record, and ends with a new password, with the user, or
// with the client called signet-console.
package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"signet/activity"
	"signet/audit"
	"signet/clients"
	"signet/keys"
	"signet/logins"
	"signet/mail"
	"signet/server/request"
	"signet/tokens"
	"signet/users"
)

// Domain is what the console works on.
type Domain struct {
	Clients  *clients.Service
	Users    *users.Service
	Tokens   *tokens.Service
	Keys     *keys.Service
	Mails    *mail.Service
	Logins   *logins.Service
	Audit    audit.Store
	Activity activity.Store

	EndLogin func(c *gin.Context) error // ends the login of the browser that asks
}

// Console answers the requests for its pages. New returns one.
type Console struct {
	Domain

	base        string                 // the path of the console as browsers see it
	secure      bool                   // cookies are for https alone
	views       func() map[string]view // parsed when the first page is asked for, so that a start does not wait for them
	static      map[string]file
	crossOrigin *http.CrossOriginProtection
}

// New returns a console on the domain's services.
func New(d Domain) *Console {
	s := &Console{Domain: d, base: "/console", secure: true, static: staticFiles(), crossOrigin: http.NewCrossOriginProtection()}
	if issuer, err := url.Parse(d.Tokens.Issuer()); err == nil {
		// The issuer is the base of all that is published: where it has a path, a proxy takes that away.
		s.base = strings.TrimRight(issuer.Path, "/") + "/console"
		s.secure = issuer.Scheme != "http"
		if err := s.crossOrigin.AddTrustedOrigin(issuer.Scheme + "://" + issuer.Host); err != nil {
			panic(err) // only for what is not an origin
		}
	}
	s.views = sync.OnceValue(s.parseViews)
	return s
}

// Routes adds the pages to r.
func (s *Console) Routes(r gin.IRouter) {
	root := r.Group("", s.protect)
	root.GET("/console", func(c *gin.Context) { c.Redirect(http.StatusMovedPermanently, s.base+"/") })
	g := root.Group("/console")
	g.GET("/static/*path", s.serveStatic)
	g.GET("/login", s.loginPage)
	g.GET("/login/start", s.startLogin)
	g.GET(callbackPath, s.finishLogin)
	g.POST("/logout", s.logOut)

	get := func(path string, h handler) { g.GET(path, s.forAdmins(h, true)) }
	post := func(path string, h handler) { g.POST(path, s.forAdmins(h, true)) }
	get("/", s.overview)

	get("/clients", s.listClients)
	get("/clients/new", s.newClient)
	post("/clients", s.createClient)
	get("/client", s.showClient)
	post("/client", s.updateClient)
	post("/client/secret", s.rotateSecret)
	post("/client/enable", s.enableClient)
	get("/client/disable", s.confirmClient("client-disable"))
	post("/client/disable", s.disableClient)
	get("/client/delete", s.confirmClient("client-delete"))
	post("/client/delete", s.deleteClient)

	get("/registration-tokens", s.listRegistrationTokens)
	post("/registration-tokens", s.makeRegistrationToken)
	post("/registration-token/revoke", s.revokeRegistrationToken)

	get("/scopes", s.listScopes)
	post("/scopes", s.describeScope)
	post("/scope/delete", s.forgetScope)

	get("/users", s.listUsers)
	get("/users/new", s.newUser)
	post("/users", s.createUser)
	get("/user", s.showUser)
	get("/user/profile", s.showProfile)
	post("/user/profile", s.changeProfile)
	post("/user/password", s.newPassword)
	post("/user/reset-link", s.makeResetLink)
	get("/user/factors", s.confirmUser("user-factors"))
	post("/user/factors", s.resetFactors)
	get("/users/invite", s.newInvitation)
	post("/users/invite", s.invite)
	post("/user/enable", s.enableUser)
	post("/user/admin", s.makeAdmin)
	get("/user/no-admin", s.confirmUser("user-no-admin"))
	post("/user/no-admin", s.unmakeAdmin)
	get("/user/disable", s.confirmUser("user-disable"))
	post("/user/disable", s.disableUser)
	get("/user/logout", s.confirmUser("user-logout"))
	post("/user/logout", s.logUserOut)
	get("/user/delete", s.confirmUser("user-delete"))
	post("/user/delete", s.deleteUser)

	get("/sessions", s.listSessions)
	post("/session/end", s.endSession)

	get("/audit", s.auditPage)
	g.GET("/audit/follow", s.forAdmins(s.followAudit, false)) // asked every few seconds: no sign of life

	get("/keys", s.listKeys)
	get("/keys/rotate", s.confirmRotation)
	post("/keys/rotate", s.rotateKeys)
	get("/keys/revoke", s.confirmKeyRevocation)
	post("/keys/revoke", s.revokeKey)
}

// Owns tells whether the path is the console's, though there may be nothing at it.
func Owns(path string) bool { return path == "/console" || strings.HasPrefix(path, "/console/") }

// NotFound answers a request for a path of the console at which there is nothing.
func (s *Console) NotFound(c *gin.Context) {
	s.protect(c)
	if !c.IsAborted() {
		s.notice(c, http.StatusNotFound)
	}
}

// policy lets pages use nothing but what the console serves itself, and no script or style that stands in a page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// maxForm bounds a form, in bytes: a client with all the addresses that it may have.
const maxForm = 1 << 20

// protect sets the headers of every answer and refuses what another site's page sends.
func (s *Console) protect(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if err := s.crossOrigin.Check(c.Request); err != nil {
		request.From(c.Request.Context()).Err = err
		s.notice(c, http.StatusForbidden)
		c.Abort()
		return
	}
	c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, maxForm)
	err := c.Request.ParseForm()
	if err == nil && !isText(c.Request.Form) {
		err = errNoText
	}
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		request.From(c.Request.Context()).Err = err
		s.notice(c, status)
		c.Abort()
	}
}

var errNoText = errors.New("a value in the form is no text")

// isText tells whether all values are what a database takes for text.
func isText(form url.Values) bool {
	for _, values := range form {
		for _, v := range values {
			if !utf8.ValidString(v) || strings.Contains(v, "\x00") {
				return false
			}
		}
	}
	return true
}

// visit is a request of an admin who is logged in.
type visit struct {
	*gin.Context

	access tokens.Access
}

// handler answers a visit. What it cannot answer it returns.
type handler func(v *visit) error

// ctx is the context of the visit's request.
func (v *visit) ctx() context.Context { return v.Request.Context() }

// origin is where the changes come from that the visit makes.
func (v *visit) origin() audit.Origin {
	o := request.From(v.ctx()).Origin
	o.Actor = v.access.UserID
	return o
}

// form is a field of the form that was sent, never of the query string.
func (v *visit) form(name string) string { return v.Request.PostForm.Get(name) }

// isHTMX tells whether a script asks, which takes a part of a page.
func isHTMX(c *gin.Context) bool { return c.GetHeader("Hx-Request") == "true" }

// redirect sends the browser to another page of the console, of which path and query are given, with GET.
func (s *Console) redirect(c *gin.Context, path string, query ...string) {
	target := s.url(path, query...)
	if isHTMX(c) {
		c.Header("Hx-Redirect", target) // the script itself would follow, and show a whole page in place of a part
		c.Status(http.StatusNoContent)
		return
	}
	c.Redirect(http.StatusSeeOther, target)
}

// url is the address of a page. The query is pairs of names and values; those without a value are left out.
func (s *Console) url(path string, query ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		if query[i+1] != "" {
			q.Set(query[i], query[i+1])
		}
	}
	if len(q) > 0 {
		return s.base + path + "?" + q.Encode()
	}
	return s.base + path
}

// fail answers with what an error means to the one at the browser. What is none of the rooms' own errors came from the database.
func (s *Console) fail(c *gin.Context, err error) {
	request.From(c.Request.Context()).Err = err
	switch {
	case errors.Is(err, clients.ErrNotFound), errors.Is(err, clients.ErrNoScope), errors.Is(err, users.ErrNotFound), errors.Is(err, tokens.ErrNoSession):
		s.notice(c, http.StatusNotFound)
	default:
		c.Header("Retry-After", "2")
		s.notice(c, http.StatusServiceUnavailable)
	}
}

// notices are the pages that say why there is no other.
var notices = map[int]struct{ Title, Text string }{
	http.StatusBadRequest:            {"Bad request", "The browser sent what cannot be read. Go back and try again."},
	http.StatusForbidden:             {"Refused", "This request came from another site’s page, so nothing was done. If you meant to do it, do it from the console itself."},
	http.StatusNotFound:              {"Not found", "There is nothing here. It may have been deleted, or it has ended."},
	http.StatusRequestEntityTooLarge: {"Too large", "The form is larger than anything that the console keeps."},
	http.StatusServiceUnavailable:    {"Unavailable for the moment", "The server cannot reach its database, or has too much to do. If you sent a form, look whether it was taken before you send it again."},
}

// notice answers with such a page.
func (s *Console) notice(c *gin.Context, status int) {
	n := notices[status]
	s.render(c, status, "notice", page{Title: n.Title, Data: n.Text})
}
