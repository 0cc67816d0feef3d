package pages

import (
	"encoding/base64"
	"html/template"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/boombuler/barcode/qr"
	"github.com/gin-gonic/gin"
)

// The problems with factors and passwords of who is known.
const (
	WrongFactor   Problem = "problem.factor"
	NewCode       Problem = "problem.new_code" // of an app that is being added: there are no recovery codes yet
	WrongPasskey  Problem = "problem.passkey"
	NewPasskey    Problem = "problem.new_passkey"
	WrongPassword Problem = "problem.current"
	FactorExists  Problem = "problem.exists"
	BadFactorName Problem = "problem.factor_name"
	TooOld        Problem = "problem.old"
)

// Passkey is a question to an authenticator. The zero value asks none.
type Passkey struct {
	Options   string // JSON
	Challenge string // sealed
}

// Encoded returns the options in a form that a page can carry as they are.
func (p Passkey) Encoded() string { return base64.RawURLEncoding.EncodeToString([]byte(p.Options)) }

// script lets a page run the script that asks an authenticator.
const script = "script-src 'self'"

// Factor is the page that asks for a second factor.
type Factor struct {
	Request    string // sealed
	Client     *Client
	Username   string
	App        bool // there is an authenticator app
	Passkey    Passkey
	Problem    Problem
	RetryAfter time.Duration
}

// Minutes is how long to wait.
func (f Factor) Minutes() int { return minutes(f.RetryAfter) }

// minutes is a length of time as pages say it: never none.
func minutes(d time.Duration) int { return max(1, int(math.Ceil(d.Minutes()))) }

// Factor writes the page that asks for a second factor.
func (p *Pages) Factor(c *gin.Context, status int, locales []string, v Factor) {
	p.render(c, status, locales, "factor", "factor.title", v, v.Client.img(), script)
}

// Enrol is a page on which a factor is added.
type Enrol struct {
	Request   string // sealed
	Client    *Client
	Enrolment string // sealed
	Secret    string // base32
	URI       string // otpauth:
	Passkey   Passkey
	Problem   Problem
}

// Grouped is the secret in groups, for those who type it.
func (e Enrol) Grouped() string {
	var b strings.Builder
	for i, r := range e.Secret {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// QR is the URI as a picture that needs no script and no request.
func (e Enrol) QR() template.HTML {
	code, err := qr.Encode(e.URI, qr.M, qr.Unicode)
	if err != nil {
		return "" // too long for one: the secret is there to be typed
	}
	const quiet = 4
	size := code.Bounds().Dx()
	side := strconv.Itoa(size + 2*quiet)
	var b strings.Builder
	b.WriteString(`<svg class="qr" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ` + side + ` ` + side + `" aria-hidden="true" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h` + side + `v` + side + `H0z"/><path fill="#000" d="`)
	for y := range size {
		for x := range size {
			if r, _, _, _ := code.At(x, y).RGBA(); r == 0 {
				b.WriteString("M" + strconv.Itoa(x+quiet) + " " + strconv.Itoa(y+quiet) + "h1v1h-1z")
			}
		}
	}
	b.WriteString(`"/></svg>`)
	return template.HTML(b.String()) //nolint:gosec // numbers alone
}

// AppLink lets a page link to an authenticator app on the same device.
func (p page) AppLink(uri string) template.URL {
	if !strings.HasPrefix(uri, "otpauth:") {
		return ""
	}
	return template.URL(uri) //nolint:gosec // its scheme is the one above
}

// Enrol writes the page on which somebody adds the second factor that they have to have.
func (p *Pages) Enrol(c *gin.Context, status int, locales []string, v Enrol) {
	p.render(c, status, locales, "enrol", "enrol.title", v, v.Client.img(), script)
}

// OwnApp writes the page on which a user adds an authenticator app.
func (p *Pages) OwnApp(c *gin.Context, status int, v Enrol) {
	p.render(c, status, nil, "own_app", "own.app.title", v)
}

// OwnPasskey writes the page on which a user adds a passkey.
func (p *Pages) OwnPasskey(c *gin.Context, status int, v Enrol) {
	p.render(c, status, nil, "own_passkey", "own.passkey.title", v, script)
}

// Codes is the page with new recovery codes. With a request, it goes on from there, else to one's own account.
type Codes struct {
	Request string // sealed
	Codes   []string
}

// Codes writes the page.
func (p *Pages) Codes(c *gin.Context, locales []string, v Codes) {
	p.render(c, http.StatusOK, locales, "codes", "codes.title", v)
}

// Done lists what the overview can say that was done.
var Done = []string{"profile", "password", "factor", "removed", "ended", "withdrawn", "nothing"}

// Own is the overview of one's own account.
type Own struct {
	Request               string // sealed
	Username, Name, Email string
	Done                  string // one of Done
	Factors               []OwnFactor
	Codes                 int  // recovery codes that are left
	App                   bool // there is an authenticator app
	Passkeys              bool // there can be passkeys
	Places                []OwnPlace
	Sessions              []OwnPlace
	Consents              []OwnConsent
}

// OwnFactor is a second factor as its user sees it.
type OwnFactor struct {
	ID, Type, Name string // the name empty: its kind says it all
	Created        time.Time
	Used           *time.Time
}

// OwnPlace is where a user is logged in: a browser, or an app.
type OwnPlace struct {
	ID, What, Address string
	Since             time.Time
	Current           bool
}

// OwnConsent is what a user has allowed an app.
type OwnConsent struct {
	ClientID, Name string
	Scopes         []Scope
	Since          time.Time
}

// Own writes the overview.
func (p *Pages) Own(c *gin.Context, v Own) {
	p.render(c, http.StatusOK, nil, "own", "own.title", v)
}

// OwnProfile is the page of one's own profile.
type OwnProfile struct {
	Request                        string // sealed
	Username, Email, Phone, Groups string
	Members                        map[string]string
	Wrong                          string // the member that is wrong
}

// OwnProfile writes the page.
func (p *Pages) OwnProfile(c *gin.Context, status int, v OwnProfile) {
	p.render(c, status, nil, "own_profile", "own.profile.title", v)
}

// OwnPassword is the page to change one's own password.
type OwnPassword struct {
	Request, Username string
	Problem           Problem
	RetryAfter        time.Duration
}

// Minutes is how long to wait.
func (o OwnPassword) Minutes() int { return minutes(o.RetryAfter) }

// OwnPassword writes the page.
func (p *Pages) OwnPassword(c *gin.Context, status int, v OwnPassword) {
	p.render(c, status, nil, "own_password", "own.password.title", v)
}

// When is a day and a time that every language can read.
func (p page) When(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// Device is what a User-Agent tells of a browser, in a few words; the text itself where it tells nothing.
func (p page) Device(userAgent string) string {
	find := func(names ...[2]string) string {
		for _, n := range names {
			if strings.Contains(userAgent, n[0]) {
				return n[1]
			}
		}
		return ""
	}
	browser := find([2]string{"Edg/", "Edge"}, [2]string{"OPR/", "Opera"}, [2]string{"Firefox/", "Firefox"}, [2]string{"Chrome/", "Chrome"}, [2]string{"Safari/", "Safari"})
	system := find([2]string{"iPhone", "iPhone"}, [2]string{"iPad", "iPad"}, [2]string{"Android", "Android"}, [2]string{"Windows", "Windows"}, [2]string{"Mac OS X", "macOS"}, [2]string{"CrOS", "ChromeOS"}, [2]string{"Linux", "Linux"})
	if text := strings.Trim(browser+", "+system, ", "); text != "" {
		return text
	}
	if userAgent == "" {
		return "?"
	}
	return userAgent
}
