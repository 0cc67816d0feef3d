package pages

import (
	"time"

	"github.com/gin-gonic/gin"
)

// The problems with forms that ask for a link, or are reached by one.
const (
	NoName          Problem = "problem.name"
	NoEmail         Problem = "problem.email"
	TooManyRequests Problem = "problem.requests"
	BadPassword     Problem = "problem.password"
	BadUsername     Problem = "problem.username"
	ForeignAddress  Problem = "problem.foreign_address"
	NameTaken       Problem = "problem.name_taken"
	EmailTaken      Problem = "problem.email_taken"
)

// Asking is a page that asks for the name or address to mail a link to.
type Asking struct {
	Recipient  string
	Problem    Problem
	RetryAfter time.Duration
}

// Minutes is how long to wait.
func (a Asking) Minutes() int { return minutes(a.RetryAfter) }

// Forgotten writes the page for who has forgotten their password.
func (p *Pages) Forgotten(c *gin.Context, status int, v Asking) {
	p.render(c, status, nil, "forgotten", "forgotten.title", v)
}

// SignUp writes the page for who wants an account.
func (p *Pages) SignUp(c *gin.Context, status int, v Asking) {
	p.render(c, status, nil, "sign_up", "sign_up.title", v)
}

// ByLink is a page that is reached by a link.
type ByLink struct {
	Link     string
	Username string
	Email    string // that the account is to be made for
	Problem  Problem
}

// Reset writes the page to set a new password.
func (p *Pages) Reset(c *gin.Context, status int, v ByLink) {
	p.render(c, status, nil, "reset", "reset.title", v)
}

// Join writes the page to make an account.
func (p *Pages) Join(c *gin.Context, status int, v ByLink) {
	p.render(c, status, nil, "join", "join.title", v)
}

// Said is what a page says after a form.
type Said string

// What pages say.
const (
	ResetSent   Said = "reset_sent"
	SignUpSent  Said = "sign_up_sent"
	PasswordSet Said = "password_set"
	Joined      Said = "joined"

	DeviceAllowed Said = "device_allowed"
	DeviceDenied  Said = "device_denied"
)

// Text is the key of the page's text.
func (s Said) Text() string { return string(s) + ".text" }

// SignIn tells whether the next thing to do is to sign in.
func (s Said) SignIn() bool { return s == PasswordSet || s == Joined }

// Say writes a page that says what was done.
func (p *Pages) Say(c *gin.Context, status int, v Said) {
	p.render(c, status, nil, "said", string(v)+".title", v)
}
