package oauth

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"signet/authorizations"
	"signet/clients"
	"signet/logins"
	"signet/server/pages"
	"signet/server/request"
	"signet/users"
)

// The cookies of the pages. One says who is logged in; the other tells one browser from another, so that what waits for a user in one
// is worth nothing in another. Where the issuer is https their names keep sibling domains from setting them (RFC 6265bis section
// 4.1.3.2).
const (
	loginCookieName   = "signet_login"
	browserCookieName = "signet_browser"
)

func (s *Server) hostCookie(name string) string {
	if s.secureCookies {
		return "__Host-" + name
	}
	return name
}

// cookieValue returns the cookie's value. Of two by one name, one is somebody else's: neither counts.
func (s *Server) cookieValue(r *http.Request, name string) string {
	if found := r.CookiesNamed(s.hostCookie(name)); len(found) == 1 {
		return found[0].Value
	}
	return ""
}

func (s *Server) loginCookie(r *http.Request) string { return s.cookieValue(r, loginCookieName) }

// setHostCookie sets one of the cookies, to be kept for that many seconds; 0: until the browser ends.
func (s *Server) setHostCookie(w http.ResponseWriter, name, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure, but where a developer has no certificate
		Name: s.hostCookie(name), Value: value, MaxAge: maxAge, Path: "/", HttpOnly: true, Secure: s.secureCookies, SameSite: http.SameSiteLaxMode,
	})
}

// browser returns what tells this browser from others, after giving it that where it has none.
func (s *Server) browser(c *gin.Context) string {
	id := s.cookieValue(c.Request, browserCookieName)
	if len(id) >= 16 && len(id) <= 64 {
		return id
	}
	if given := c.GetString(browserCookieName); given != "" { // a moment ago
		return given
	}
	id = rand.Text()
	c.Set(browserCookieName, id)
	s.setHostCookie(c.Writer, browserCookieName, id, 0)
	return id
}

// browserLogin returns which login the browser shows, be it live or not; ok is false if it shows none.
func (s *Server) browserLogin(c *gin.Context) (l logins.Ref, ok bool) {
	cookie := s.loginCookie(c.Request)
	if fresh := c.GetString(loginCookieName); fresh != "" { // a login of a moment ago
		cookie = fresh
	}
	return s.logins.Read(cookie)
}

// ask shows the page on which the user does what is wanted next.
func (s *Server) ask(c *gin.Context, client *clients.Client, r *authorizations.Request, l logins.Login, allowed authorizations.Consent, stage authorizations.Stage) {
	pending := authorizations.Pending{Request: r, Login: l.ID, AuthTime: l.Time}
	sealed := s.authorizations.Seal(stage, s.browser(c), pending)
	shown := shownClient(client)
	switch stage {
	case authorizations.StageAccount:
		s.pages.Account(c, http.StatusOK, r.Locales, pages.Account{Request: sealed, Client: shown, Username: l.Username})
	case authorizations.StageConsent:
		s.askConsent(c, client, r, l, allowed, sealed)
	default:
		v := s.loginPage(c, client, pending)
		v.Username, v.Anew = r.LoginHint, s.anew(c, r)
		if l.ID != "" && (r.HintedSubject == l.UserID || r.HintedSubject == "" && s.hinted(c, r, l)) {
			v.Again, v.Username, v.Stay = l.Username, l.Username, l.Stays()
		}
		s.pages.Login(c, http.StatusOK, r.Locales, v)
	}
}

// hinted tells whether the login_hint, if there is one, may mean who is logged in: by name, or by address, which clients know from ID tokens.
func (s *Server) hinted(c *gin.Context, r *authorizations.Request, l logins.Login) bool {
	if r.LoginHint == "" || users.Canonical(r.LoginHint) == users.Canonical(l.Username) {
		return true
	}
	u, err := s.users.Get(c.Request.Context(), l.UserID)
	return err != nil || strings.EqualFold(r.LoginHint, u.Email)
}

// shownClient is what users are shown of the client; nil for Signet's own pages.
func shownClient(c *clients.Client) *pages.Client {
	if c.ID == "" {
		return nil
	}
	name := c.Name
	if host := c.DocumentHost(); host != "" && host != name { // anybody may take any name, but not anybody's address
		name += " (" + host + ")"
	}
	return &pages.Client{Name: name, LogoURI: c.LogoURI, HomeURI: c.ClientURI, PolicyURI: c.PolicyURI, TermsURI: c.TOSURI}
}

// askConsent shows what the client asks for. What was allowed before is set apart, unless the client wants it all asked for again, or at
// another resource, where nothing was allowed yet.
func (s *Server) askConsent(c *gin.Context, client *clients.Client, r *authorizations.Request, l logins.Login, allowed authorizations.Consent, sealed string) {
	described, err := s.clients.ScopeDescriptions(c.Request.Context())
	if err != nil {
		s.fail(c, r, err)
		return
	}
	v := pages.Consent{Request: sealed, Client: *shownClient(client), Username: l.Username}
	again := r.Asks(authorizations.PromptConsent) || allowed.Covers(r) || !clients.Scope(r.Audience).Within(allowed.Audience)
	for _, name := range r.ConsentScope() {
		scope := pages.Scope{Name: name, Description: described[name]}
		if !again && clients.Scope([]string{name}).Within(allowed.Scope) {
			v.Known = append(v.Known, scope)
		} else {
			v.Scopes = append(v.Scopes, scope)
		}
	}
	for _, resource := range r.Audience {
		if resource != s.tokens.Issuer() {
			v.Resources = append(v.Resources, resource)
		}
	}
	if r.Device != "" {
		if v.Device, err = s.shownDevice(c, r); err != nil {
			s.fail(c, r, err)
			return
		}
		if v.Device == nil { // it has expired, or somebody else has decided
			s.pages.Device(c, http.StatusBadRequest, pages.Device{Problem: pages.BadUserCode})
			return
		}
	} else if u, err := url.Parse(r.RedirectURI); err == nil {
		if v.Host = u.Host; u.Host == "" {
			v.Host = u.Scheme
		}
		v.Native = authorizations.Impersonable(client, r.RedirectURI)
	}
	s.pages.Consent(c, r.Locales, v)
}

// formOf reads a form that one of the pages has sent. It writes the answer itself where another site has sent it, or it cannot be read.
func (s *Server) formOf(c *gin.Context) (url.Values, bool) {
	if !s.fromHere(c.Request) {
		s.pages.Error(c, http.StatusForbidden, nil, pages.Error{Kind: pages.Foreign})
		return nil, false
	}
	body, err := ReadBody(c.Writer, c.Request)
	if err != nil {
		s.refusePage(c, nil, err)
		return nil, false
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || repeats(form) {
		s.refusePage(c, nil, errUnreadable)
		return nil, false
	}
	return form, true
}

// repeats tells whether a field is there twice, as none of the pages sends it.
func repeats(form url.Values) bool {
	for _, values := range form {
		if len(values) > 1 {
			return true
		}
	}
	return false
}

var errUnreadable = invalidRequest("the form is malformed, or a field of it is repeated")

// fromHere tells whether a form comes from one of the pages, as far as the browser says. Those that say nothing, or hide it as the
// pages' own policy has them do, have the sealed request to show.
func (s *Server) fromHere(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin" || site == "none"
	}
	from := r.Header.Get("Origin")
	issuer, err := url.Parse(s.tokens.Issuer())
	return from == "" || from == "null" || err == nil && from == issuer.Scheme+"://"+issuer.Host
}

// pending opens the request in a form. It writes the answer itself where that is not of this browser, or of this page.
func (s *Server) pending(c *gin.Context, stage authorizations.Stage, form url.Values) (authorizations.Pending, bool) {
	browser := s.cookieValue(c.Request, browserCookieName)
	p, ok := s.authorizations.Open(stage, browser, form.Get("request"))
	if ok {
		return p, true
	}
	kind := pages.Stale
	if browser == "" {
		kind = pages.Cookies
	} else if anew, ok := s.authorizations.Open(authorizations.StageAnew, anyBrowser, form.Get("anew")); ok && form.Get("decision") != "deny" {
		s.beginAnew(c, anew)
		return p, false
	}
	s.pages.Error(c, http.StatusBadRequest, nil, pages.Error{Kind: kind})
	return p, false
}

// anyBrowser stands for all browsers where a request is sealed that may begin in each.
const anyBrowser = "any"

// anew seals the request of a login page for a browser that has been told from others with this page. If it has asked for two at once, the later
// page's cookie is the one that counts, and the form of the earlier is another browser's. A pushed request is one browser's alone.
func (s *Server) anew(c *gin.Context, r *authorizations.Request) string {
	if c.GetString(browserCookieName) == "" || r.Pushed != nil {
		return ""
	}
	sealed := s.authorizations.Seal(authorizations.StageAnew, anyBrowser, authorizations.Pending{Request: r})
	if len(sealed) > maxAnew {
		return ""
	}
	return sealed
}

// maxAnew is how long that may be, in bytes: the form has to carry the request beside it, too.
const maxAnew = maxBody / 4

// beginAnew asks whether to go on with the login of another tab, or for one once more. What the form brought counts for nothing.
func (s *Server) beginAnew(c *gin.Context, p authorizations.Pending) {
	client, ok := s.resume(c, p.Request)
	if !ok {
		return
	}
	l, known, err := s.logins.Current(c.Request.Context(), s.loginCookie(c.Request))
	switch {
	case err != nil:
		s.fail(c, p.Request, err)
	case known:
		sealed := s.authorizations.Seal(authorizations.StageAccount, s.browser(c), authorizations.Pending{Request: p.Request, Login: l.ID, AuthTime: l.Time})
		s.pages.Account(c, http.StatusBadRequest, p.Request.Locales, pages.Account{Request: sealed, Client: shownClient(client), Username: l.Username})
	default:
		v := s.loginPage(c, client, p)
		v.Username, v.Problem = p.Request.LoginHint, pages.OtherTab
		s.pages.Login(c, http.StatusBadRequest, p.Request.Locales, v)
	}
}

// resume finds the client of a request that waited in a form, and looks once more where the answer goes, and whether the client may
// ask for that still.
func (s *Server) resume(c *gin.Context, r *authorizations.Request) (*clients.Client, bool) {
	if r.Page != "" {
		return own, true
	}
	client, err := s.asking(c.Request.Context(), r.ClientID)
	if err == nil && r.Device == "" {
		if _, ok := client.Redirect(r.RedirectURI); !ok {
			err = invalidRequest("the redirect_uri is not registered for this client any more")
		}
	}
	if err != nil {
		s.refusePage(c, r.Locales, err)
		return nil, false
	}
	request.From(c.Request.Context()).ClientID = client.ID
	switch {
	case r.Device == "" && !client.May(clients.AuthorizationCode), r.Device != "" && !client.May(clients.DeviceCode):
		err = errNotForCodes
	case !r.Scope.Within(client.Scope):
		err = unregisteredScope(r.Scope, client.Scope)
	case !clients.Scope(r.Audience).Within(client.Resources(s.tokens.Issuer())):
		err = errUnregisteredResource
	default:
		r.Claims = r.Claims.Within(client.Scope)
		return client, true
	}
	s.refuse(c, r, err)
	return nil, false
}

// text returns a field of a form if it can be what a user has typed.
func text(form url.Values, name string, most int) (string, bool) {
	v := form.Get(name)
	return v, v != "" && len(v) <= most && utf8.ValidString(v)
}
