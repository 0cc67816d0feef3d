package authorizations

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"time"

	"signet/clients"
	"signet/users"
)

// ResponseMode is how the answer gets to the client (OAuth 2.0 Multiple Response Types section 2.1, Form Post Response Mode).
type ResponseMode string

// The response modes.
const (
	Query    ResponseMode = "query"
	Fragment ResponseMode = "fragment"
	FormPost ResponseMode = "form_post"
)

// ResponseModes lists the response modes, the default first.
var ResponseModes = []ResponseMode{Query, Fragment, FormPost}

// The values of the parameter prompt (OpenID Connect Core section 3.1.2.1).
const (
	PromptNone    = "none"
	PromptLogin   = "login"
	PromptConsent = "consent"
	PromptAccount = "select_account"
)

// Prompts lists the values of the parameter prompt.
var Prompts = []string{PromptNone, PromptLogin, PromptConsent, PromptAccount}

// Request is an authorization request that was found valid (RFC 6749 section 4.1.1, OpenID Connect Core section 3.1.2.1).
type Request struct {
	ClientID      string         `json:"client_id"`
	RedirectURI   string         `json:"redirect_uri"`             // where the answer goes
	RedirectSent  bool           `json:"redirect_sent,omitempty"`  // the request named it, so /token has to name it again
	ResponseMode  ResponseMode   `json:"response_mode"`            //
	State         []byte         `json:"state,omitempty"`          // as it came, text or not
	Scope         clients.Scope  `json:"scope"`                    //
	Audience      []string       `json:"audience"`                 //
	Challenge     string         `json:"challenge,omitempty"`      // S256
	Nonce         string         `json:"nonce,omitempty"`          //
	Prompt        []string       `json:"prompt,omitempty"`         //
	MaxAge        *time.Duration `json:"max_age,omitempty"`        // since the user proved who they are
	LoginHint     string         `json:"login_hint,omitempty"`     //
	HintedSubject string         `json:"hinted_subject,omitempty"` // of the id_token_hint; "?" for a hint that is not good
	Locales       []string       `json:"locales,omitempty"`        // of the pages, best first
	Claims        Claims         `json:"claims,omitzero"`          //
	Device        UserCode       `json:"device,omitempty"`         // of the device that asks; empty: a browser does
	Classes       []string       `json:"classes,omitempty"`        // of acr_values that are known here; one of them, or better, is wanted
	Page          string         `json:"page,omitempty"`           // of one's own account: nobody but Signet itself asks
	JKT           string         `json:"dpop_jkt,omitempty"`       // of the key that the code is bound to (RFC 9449 section 10)
	Pushed        []byte         `json:"pushed,omitempty"`         // digest of the request_uri of a pushed one
}

// Asks tells whether the request has that prompt.
func (r *Request) Asks(prompt string) bool { return slices.Contains(r.Prompt, prompt) }

// OpenID tells whether the request is one of OpenID Connect.
func (r *Request) OpenID() bool { return slices.Contains(r.Scope, clients.ScopeOpenID) }

// ConsentScope is what a user has to allow: the scope that is asked for, and what shows the claims that are asked for one by one.
func (r *Request) ConsentScope() clients.Scope {
	scope := slices.Clone(r.Scope)
	if !r.OpenID() {
		return scope // no claims are shown
	}
	for _, name := range slices.Concat(r.Claims.UserInfo, r.Claims.IDToken) {
		if token := users.ScopeOf(name); token != "" && !slices.Contains(scope, token) {
			scope = append(scope, token)
		}
	}
	return scope
}

// Stage is what a sealed request waits for.
type Stage string

// The stages. What was sealed for one does not open at another.
const (
	StageLogin   Stage = "login"
	StageAccount Stage = "account"
	StageConsent Stage = "consent"
	StageLogout  Stage = "logout"
	StageFactor  Stage = "factor"   // the password was right
	StageEnrol   Stage = "enrol"    // likewise, and a second factor has to be added
	StageGoOn    Stage = "go on"    // there is nothing to decide
	StageSelf    Stage = "own page" // a form of one's own account
	StageAnew    Stage = "anew"     // to begin from the start in whichever browser, as with the link to /authorize
)

// sealTTL is how long a form may lie open. After that it begins anew.
const sealTTL = time.Hour

// sealed is a request with the circumstances that a stage depends on.
type sealed struct {
	Request  *Request  `json:"request"`
	At       time.Time `json:"at"`
	Login    string    `json:"login,omitempty"`    // who the page was made for
	AuthTime time.Time `json:"auth_time,omitzero"` // likewise: a login that was good enough for the request
	Half     Half      `json:"half,omitzero"`
}

// Half is a login of which the password was right, and nothing else was asked for yet. It is nowhere but in the form.
type Half struct {
	UserID string `json:"user_id"`
	Epoch  int64  `json:"epoch"`
	Stay   bool   `json:"stay"`
}

// halfTTL is how long the other half of a login may take.
const halfTTL = 10 * time.Minute

// Pending is a request that waits in a form.
type Pending struct {
	Request  *Request
	Login    string    // the login that the page was made for, if any
	AuthTime time.Time // and when its user had proved who they are
	Half     Half      // for a second factor
	Expired  bool      // the form lay open for too long
}

// Seal turns a request into the text that a form carries until its user has decided. It opens for the same stage and browser
// alone. The login, which may be zero, is the one that the page is made for.
func (s *Service) Seal(stage Stage, browser string, p Pending) string {
	var plain bytes.Buffer
	e := json.NewEncoder(&plain)
	e.SetEscapeHTML(false) // it would be six bytes for one, and a form has to carry it
	if err := e.Encode(sealed{p.Request, time.Now(), p.Login, p.AuthTime, p.Half}); err != nil {
		panic(err) // only for types that JSON does not know
	}
	return base64.RawURLEncoding.EncodeToString(s.sealer.Seal(plain.Bytes(), identity(stage, browser)))
}

// maxSealed bounds what Open looks at, in bytes: a form's body.
const maxSealed = 64 << 10

// Open reads a request that was sealed for that stage and browser; ok is false for anything else.
func (s *Service) Open(stage Stage, browser, text string) (p Pending, ok bool) {
	if browser == "" || len(text) > maxSealed {
		return Pending{}, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return Pending{}, false
	}
	plain, _, err := s.sealer.Open(b, identity(stage, browser))
	var read sealed
	if err != nil || json.Unmarshal(plain, &read) != nil || read.Request == nil {
		return Pending{}, false
	}
	ttl := sealTTL
	if stage == StageFactor || stage == StageEnrol {
		ttl = halfTTL
	}
	return Pending{read.Request, read.Login, read.AuthTime, read.Half, time.Since(read.At).Abs() > ttl}, true
}

func identity(stage Stage, browser string) string { return string(stage) + " " + browser }
