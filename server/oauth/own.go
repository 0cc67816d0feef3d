package oauth

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"signet/audit"
	"signet/authorizations"
	"signet/clients"
	"signet/logins"
	"signet/server/pages"
	"signet/server/request"
	"signet/tokens"
	"signet/users"
)

// ownPath is where users look after their own account.
const ownPath = "/me/"

// own is Signet itself, as the one that asks for a login to the pages of one's own account.
var own = &clients.Client{SkipConsent: true}

// ownRoutes adds the pages of one's own account. What changes who can log in, or how, wants a login of the last minutes.
func (s *Server) ownRoutes(r gin.IRouter) {
	r.GET("/me", func(c *gin.Context) { c.Redirect(http.StatusSeeOther, s.base+ownPath) })
	show := func(path string, fresh bool, page func(*ownVisit)) {
		r.GET(ownPath+path, func(c *gin.Context) {
			if v, ok := s.visit(c, ownPath+path, fresh); ok {
				page(v)
			}
		})
	}
	do := func(path, back string, fresh bool, act func(*ownVisit)) {
		r.POST(ownPath+path, func(c *gin.Context) {
			form, ok := s.formOf(c)
			if !ok {
				return
			}
			p, ok := s.pending(c, authorizations.StageSelf, form)
			if !ok {
				return
			}
			v, ok := s.visit(c, ownPath+back, fresh)
			switch {
			case !ok:
			case p.Login != v.login.ID: // of somebody else, who was logged in here when the page was made
				s.pages.Error(c, http.StatusBadRequest, nil, pages.Error{Kind: pages.Stale})
			default:
				v.form = form
				act(v)
			}
		})
	}
	show("", false, s.showOwn)
	show("profile", false, func(v *ownVisit) { s.showProfile(v, http.StatusOK, pages.OwnProfile{}) })
	show("password", true, func(v *ownVisit) { s.showPassword(v, http.StatusOK, pages.OwnPassword{}) })
	show("app", true, func(v *ownVisit) { s.showApp(v, http.StatusOK, pages.Enrol{}) })
	show("passkey", true, func(v *ownVisit) { s.showPasskey(v, http.StatusOK, pages.Enrol{}) })
	do("profile", "profile", false, s.changeProfile)
	do("password", "password", true, s.changePassword)
	do("app", "app", true, s.addApp)
	do("passkey", "passkey", true, s.addPasskey)
	do("codes", "", true, s.newCodes)
	do("factor", "", true, s.removeFactor)
	do("login", "", false, s.endOwnLogin)
	do("session", "", false, s.endOwnSession)
	do("consent", "", false, s.withdraw)
}

// ownVisit is a request of somebody who is logged in, for their own account.
type ownVisit struct {
	*gin.Context

	login  logins.Login
	user   users.User
	form   url.Values
	origin audit.Origin
	sealed string // for the forms of the page
	first  bool   // where it has to be fresh: the user had no second factor, so that a login of one factor will do
}

// visit tells who asks. It shows the login page itself to who is not logged in, or, where it has to be fresh, was so too long ago, or
// without the second factor that they have; after that they come to the page.
func (s *Server) visit(c *gin.Context, page string, fresh bool) (*ownVisit, bool) {
	ctx := c.Request.Context()
	r := &authorizations.Request{Page: page, Locales: []string{}}
	if fresh {
		r.MaxAge = new(logins.Fresh)
	}
	l, known, err := s.logins.Current(ctx, s.loginCookie(c.Request))
	var f logins.Factors
	if err == nil && known && fresh {
		if f, err = s.logins.Factors(ctx, l.UserID); f.Any() {
			r.Classes = []string{logins.TwoFactors}
		}
	}
	if err != nil {
		s.fail(c, r, err)
		return nil, false
	}
	if ask, _ := s.wanted(r, own, l, authorizations.Consent{}, known, standing{}); ask != nil {
		s.ask(c, own, r, l, authorizations.Consent{}, ask.stage)
		return nil, false
	}
	u, err := s.users.Get(ctx, l.UserID)
	if err != nil {
		s.fail(c, r, err)
		return nil, false
	}
	info := request.From(ctx)
	info.UserID = u.ID
	v := &ownVisit{Context: c, login: l, user: u, origin: info.Origin, first: !f.Any()}
	v.origin.Actor = u.ID
	v.sealed = s.authorizations.Seal(authorizations.StageSelf, s.browser(c), authorizations.Pending{Request: r, Login: l.ID})
	return v, true
}

// done goes back to the overview, which says what was done.
func (s *Server) done(v *ownVisit, said string) {
	v.Redirect(http.StatusSeeOther, s.base+ownPath+"?done="+said)
}

// ownFail says that something cannot be done at the moment.
func (s *Server) ownFail(v *ownVisit, err error) {
	request.From(v.Request.Context()).Err = err
	s.unavailable(v.Context, nil)
}

// showOwn answers GET /me/.
func (s *Server) showOwn(v *ownVisit) {
	ctx := v.Request.Context()
	f, err := s.logins.Factors(ctx, v.user.ID)
	var places []logins.Place
	var sessions []tokens.Session
	var allowed []authorizations.Allowance
	if err == nil {
		places, err = s.logins.Places(ctx, v.user.ID)
	}
	if err == nil {
		sessions, err = s.tokens.Sessions(ctx, tokens.Filter{UserID: v.user.ID, Limit: 100})
	}
	if err == nil {
		allowed, err = s.authorizations.Consents(ctx, v.user.ID)
	}
	if err != nil {
		s.ownFail(v, err)
		return
	}
	page := pages.Own{
		Request: v.sealed, Username: v.user.Username, Name: v.user.Name, Email: v.user.Email, Codes: f.RecoveryCodes, App: f.Has(logins.TOTP),
		Passkeys: s.logins.HasPasskeys(),
	}
	if said := v.Query("done"); slices.Contains(pages.Done, said) {
		page.Done = said
	}
	for _, x := range f.List {
		name := x.Name
		if name == plainNames[x.Type] {
			name = "" // the page says it in the user's language
		}
		page.Factors = append(page.Factors, pages.OwnFactor{ID: x.ID, Type: string(x.Type), Name: name, Created: x.CreatedAt, Used: x.LastUsedAt})
	}
	for _, p := range places {
		page.Places = append(page.Places, pages.OwnPlace{ID: p.ID, What: p.UserAgent, Address: p.Address, Since: p.Time, Current: p.ID == v.login.ID})
	}
	for _, n := range sessions {
		page.Sessions = append(page.Sessions, pages.OwnPlace{ID: n.ID, What: s.clientName(v, n.ClientID), Address: n.Address, Since: n.LastUsedAt})
	}
	described, err := s.clients.ScopeDescriptions(ctx)
	if err != nil {
		s.ownFail(v, err)
		return
	}
	for _, a := range allowed {
		consent := pages.OwnConsent{ClientID: a.ClientID, Name: a.ClientName, Since: a.GrantedAt}
		for name := range strings.FieldsSeq(a.Scope) {
			consent.Scopes = append(consent.Scopes, pages.Scope{Name: name, Description: described[name]})
		}
		page.Consents = append(page.Consents, consent)
	}
	s.pages.Own(v.Context, page)
}

// clientName is what users know a client by.
func (s *Server) clientName(v *ownVisit, id string) string {
	if c, err := s.clients.Known(v.Request.Context(), id); err == nil && c.Name != "" {
		return c.Name
	}
	return id
}

// ownMembers are the members of a profile that users may change themselves.
var ownMembers = []string{"name", "given_name", "family_name", "locale", "zoneinfo"}

func (s *Server) showProfile(v *ownVisit, status int, page pages.OwnProfile) {
	page.Request = v.sealed
	if page.Members == nil {
		p := v.user.Profile
		page.Members = map[string]string{
			"name": p.Name, "given_name": p.GivenName, "family_name": p.FamilyName, "locale": p.Locale, "zoneinfo": p.Zoneinfo,
		}
	}
	page.Username, page.Email, page.Phone, page.Groups = v.user.Username, v.user.Email, v.user.PhoneNumber, strings.Join(v.user.Groups, ", ")
	s.pages.OwnProfile(v.Context, status, page)
}

func (s *Server) changeProfile(v *ownVisit) {
	members, typed := map[string]json.RawMessage{}, map[string]string{}
	for _, name := range ownMembers {
		text := strings.TrimSpace(v.form.Get(name))
		typed[name] = text
		members[name] = json.RawMessage("null")
		if quoted, err := json.Marshal(text); text != "" && err == nil { // of a text there is no error
			members[name] = quoted
		}
	}
	_, err := s.users.Update(v.Request.Context(), v.user.ID, users.Change{Profile: members}, v.origin)
	var wrong *users.ProfileError
	switch {
	case errors.As(err, &wrong):
		s.showProfile(v, http.StatusBadRequest, pages.OwnProfile{Members: typed, Wrong: wrong.Member})
	case err != nil:
		s.ownFail(v, err)
	default:
		s.done(v, "profile")
	}
}

func (s *Server) showPassword(v *ownVisit, status int, page pages.OwnPassword) {
	page.Request, page.Username = v.sealed, v.user.Username
	s.pages.OwnPassword(v.Context, status, page)
}

// changePassword ends all other logins and sessions. This browser stays logged in.
func (s *Server) changePassword(v *ownVisit) {
	ctx := v.Request.Context()
	err := s.users.ChangePassword(ctx, v.user.Username, v.form.Get("current"), v.form.Get("new"), "", "", v.origin)
	s.metrics.loginFailed(err)
	if err != nil {
		request.From(ctx).Err = err
		status, problem, wait := s.problemOf(v.Context, err)
		s.showPassword(v, status, pages.OwnPassword{Problem: problem, RetryAfter: wait})
		return
	}
	u, err := s.users.Get(ctx, v.user.ID)
	if err != nil {
		s.ownFail(v, err)
		return
	}
	stay := v.login.Stays()
	_, cookie, err := s.logins.Begin(ctx, u, logins.Proof{Methods: v.login.Methods, Class: v.login.Class}, stay, s.loginCookie(v.Request), v.origin)
	if err != nil {
		s.ownFail(v, err)
		return
	}
	s.keepLogin(v.Context, cookie, stay)
	s.done(v, "password")
}

func (s *Server) showApp(v *ownVisit, status int, page pages.Enrol) {
	if page.Enrolment == "" {
		e := s.logins.EnrolTOTP(v.user, s.browser(v.Context))
		page.Enrolment, page.Secret, page.URI = e.Sealed, e.Secret, e.URI
	}
	page.Request = v.sealed
	s.pages.OwnApp(v.Context, status, page)
}

func (s *Server) addApp(v *ownVisit) {
	_, codes, err := s.addFactor(v.Context, v.user, v.form, v.first)
	if err == nil {
		s.added(v, codes)
		return
	}
	request.From(v.Request.Context()).Err = err
	status, problem := s.problemOfNew(v.Context, err, v.form)
	page := pages.Enrol{Problem: problem}
	if e, ok := s.logins.ResumeTOTP(v.user, s.browser(v.Context), v.form.Get("enrolment")); ok {
		page.Enrolment, page.Secret, page.URI = e.Sealed, e.Secret, e.URI
	}
	s.showApp(v, status, page)
}

func (s *Server) showPasskey(v *ownVisit, status int, page pages.Enrol) {
	ceremony, err := s.logins.AskNewPasskey(v.Request.Context(), v.user, s.browser(v.Context))
	if err != nil && !errors.Is(err, logins.ErrNoFactor) {
		s.ownFail(v, err)
		return
	}
	page.Request, page.Passkey = v.sealed, asked(ceremony)
	s.pages.OwnPasskey(v.Context, status, page)
}

func (s *Server) addPasskey(v *ownVisit) {
	_, codes, err := s.addFactor(v.Context, v.user, v.form, v.first)
	if err == nil {
		s.added(v, codes)
		return
	}
	request.From(v.Request.Context()).Err = err
	status, problem := s.problemOfNew(v.Context, err, v.form)
	s.showPasskey(v, status, pages.Enrol{Problem: problem})
}

// added shows the recovery codes where they are the user's first.
func (s *Server) added(v *ownVisit, codes []string) {
	if len(codes) == 0 {
		s.done(v, "factor")
		return
	}
	s.pages.Codes(v.Context, nil, pages.Codes{Codes: codes})
}

func (s *Server) newCodes(v *ownVisit) {
	codes, err := s.logins.NewRecoveryCodes(v.Request.Context(), v.user.ID, v.origin)
	switch {
	case errors.Is(err, logins.ErrNoFactor):
		s.done(v, "nothing")
	case err != nil:
		s.ownFail(v, err)
	default:
		s.pages.Codes(v.Context, nil, pages.Codes{Codes: codes})
	}
}

func (s *Server) removeFactor(v *ownVisit) {
	s.finish(v, "removed", s.logins.RemoveFactor(v.Request.Context(), v.user.ID, v.form.Get("id"), v.origin))
}

func (s *Server) endOwnLogin(v *ownVisit) {
	ended, err := s.logins.EndOf(v.Request.Context(), v.user.ID, v.form.Get("id"), v.origin)
	if err == nil && ended && v.form.Get("id") == v.login.ID {
		s.setHostCookie(v.Writer, loginCookieName, "", -1)
		s.pages.LoggedOut(v.Context, nil)
		return
	}
	s.finish(v, "ended", err)
}

func (s *Server) endOwnSession(v *ownVisit) {
	s.finish(v, "ended", s.tokens.EndSessionOf(v.Request.Context(), v.user.ID, v.form.Get("id"), v.origin))
}

func (s *Server) withdraw(v *ownVisit) {
	_, err := s.authorizations.Withdraw(v.Request.Context(), v.user.ID, v.form.Get("id"), v.origin)
	s.finish(v, "withdrawn", err)
}

// finish goes back to the overview. What was gone already is gone.
func (s *Server) finish(v *ownVisit, said string, err error) {
	if err != nil && !errors.Is(err, logins.ErrNoFactor) && !errors.Is(err, tokens.ErrNoSession) {
		s.ownFail(v, err)
		return
	}
	s.done(v, said)
}
