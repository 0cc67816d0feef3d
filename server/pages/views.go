package pages

import (
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"signet/server/request"
)

// Client is what users are shown of a client. The URIs may be empty.
type Client struct{ Name, LogoURI, HomeURI, PolicyURI, TermsURI string }

// img lets the page show the client's logo.
func (c *Client) img() string {
	if c == nil || origin(c.LogoURI) == "" {
		return "img-src 'self'"
	}
	return "img-src 'self' " + origin(c.LogoURI)
}

// Shown tells whether a URI is one that may be shown: an http or https one.
func (c Client) Shown(uri string) bool { return origin(uri) != "" }

// Problem is why a login did not go through.
type Problem string

// The problems. What is wrong with name and password is one.
const (
	WrongCredentials Problem = "problem.credentials"
	Throttled        Problem = "problem.throttled"
	Overloaded       Problem = "problem.overloaded"
	OtherTab         Problem = "problem.tab" // the page has become another browser's
)

// Login is the page to log in.
type Login struct {
	Request    string // sealed
	Anew       string // likewise, for when the page has become another browser's; may be empty
	Client     *Client
	Username   string
	Problem    Problem
	RetryAfter time.Duration
	Stay       bool
	Again      string // who is logged in, and is to prove it again
	Expired    bool   // the form lay open for too long
	Passkey    Passkey
}

// Minutes is how long to wait.
func (l Login) Minutes() int { return minutes(l.RetryAfter) }

// Login writes the page to log in. The locales are those that the request asks for, best first.
func (p *Pages) Login(c *gin.Context, status int, locales []string, v Login) {
	p.render(c, status, locales, "login", "login.title", v, v.Client.img(), script)
}

// Scope is a scope that a client asks for. Without a description the built-in one is shown, or the name.
type Scope struct{ Name, Description string }

// Consent is the page on which a user allows a client something.
type Consent struct {
	Request   string // sealed
	Client    Client
	Username  string
	Scopes    []Scope
	Known     []Scope // allowed before
	Resources []string
	Host      string // where the user is sent
	Native    bool   // that is an app on the device
	Device    *AskingDevice
}

// Consent writes the page that asks for consent.
func (p *Pages) Consent(c *gin.Context, locales []string, v Consent) {
	p.render(c, http.StatusOK, locales, "consent", "consent.title", v, v.Client.img())
}

// Describe returns what a scope lets a client do.
func (p page) Describe(s Scope) string {
	if s.Description != "" {
		return s.Description
	}
	if text, known := p.catalog["scope."+s.Name]; known {
		return text
	}
	return s.Name
}

// Account is the page on which a user goes on as who they are, or as another.
type Account struct {
	Request  string // sealed
	Client   *Client
	Username string
}

// Account writes the page that asks which account to use.
func (p *Pages) Account(c *gin.Context, status int, locales []string, v Account) {
	p.render(c, status, locales, "account", "account.title", v, v.Client.img())
}

// Logout is the page that asks whether to log out.
type Logout struct {
	Request  string // sealed
	Username string
}

// Logout writes the page that asks whether to log out.
func (p *Pages) Logout(c *gin.Context, locales []string, v Logout) {
	p.render(c, http.StatusOK, locales, "logout", "logout.title", v)
}

// LoggedOut writes the page that says that the user is logged out.
func (p *Pages) LoggedOut(c *gin.Context, locales []string) {
	p.render(c, http.StatusOK, locales, "logged_out", "out.title", nil)
}

// ErrorKind is what a page without another says to a user.
type ErrorKind string

// The kinds of errors.
const (
	BadRequest  ErrorKind = "request" // the app sent what cannot be answered
	Cookies     ErrorKind = "cookies" // the browser takes none
	Stale       ErrorKind = "stale"   // the form is of another browser, or was used
	Unavailable ErrorKind = "unavailable"
	Foreign     ErrorKind = "foreign" // a form from another site
	NotFound    ErrorKind = "not_found"
	DeadLink    ErrorKind = "link"    // it was used, is too old, or never was one
	NoMail      ErrorKind = "no_mail" // links are handed out by people
)

// Error is a page that says why there is no other. Code and description are for the developer of the app.
type Error struct {
	Kind              ErrorKind
	Code, Description string
	RequestID         string
}

// Error writes the page.
func (p *Pages) Error(c *gin.Context, status int, locales []string, v Error) {
	v.RequestID = c.Writer.Header().Get("X-Request-Id")
	request.From(c.Request.Context()).Shown = v.Code != ""
	p.render(c, status, locales, "error", "error."+string(v.Kind)+".title", v)
}

// Key is the key of the error's text.
func (e Error) Key() string { return "error." + string(e.Kind) + ".text" }

// FormPost is the answer to a client by a form that posts itself.
type FormPost struct {
	Action string
	Params [][2]string
}

// FormPost writes the form (OAuth 2.0 Form Post Response Mode).
func (p *Pages) FormPost(c *gin.Context, locales []string, v FormPost) {
	p.render(c, http.StatusOK, locales, "form_post", "post.title", v, "script-src 'self'", formAction(v.Action))
}

// formAction is the policy for a form that goes to the URI. Browsers hold the redirects that answer it against the policy too, and those may
// lead anywhere on the web. It has no words for IPv6 addresses.
func formAction(uri string) string {
	policy := "form-action"
	if o := origin(uri); !strings.Contains(o, "[") {
		policy += " " + o
	}
	return policy + " https: http:"
}

// Stayed is the page for who did not want to log out after all.
type Stayed struct{ Username string }

// Stayed writes the page that says that the user is still logged in.
func (p *Pages) Stayed(c *gin.Context, locales []string, v Stayed) {
	p.render(c, http.StatusOK, locales, "stayed", "stayed.title", v)
}
