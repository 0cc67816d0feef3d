package oauth

import (
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"

	"signet/authorizations"
	"signet/logins"
	"signet/server/pages"
	"signet/server/request"
)

const logoutPath = "/logout"

// logout answers GET and POST /logout (OpenID Connect RP-Initiated Logout 1.0 section 2). It ends the browser's login at once if the
// client shows an ID token of that very login; else the user is asked. Nobody is sent to a URI that is not the client's.
func (s *Server) logout(c *gin.Context) {
	form, err := authorizationForm(c)
	if err != nil {
		s.refusePage(c, nil, err)
		return
	}
	if c.Request.Method == http.MethodPost && form.Has("decision") {
		s.confirmLogout(c, form)
		return
	}
	r, hinted, unvouched, err := s.readLogout(c, form)
	if err != nil {
		s.refusePage(c, locales(form), err)
		return
	}
	if s.comesAgain(c, logoutPath, form) {
		return
	}
	l, known, err := s.logins.Current(c.Request.Context(), s.loginCookie(c.Request))
	switch {
	case err != nil:
		s.refusePage(c, r.Locales, err)
	case known && l.ID != hinted:
		sealed := s.authorizations.Seal(authorizations.StageLogout, s.browser(c), authorizations.Pending{Request: r, Login: l.ID})
		s.pages.Logout(c, r.Locales, pages.Logout{Request: sealed, Username: l.Username})
	default:
		if unvouched { // nobody has decided anything that would send them on
			r.RedirectURI = ""
		}
		s.endLogin(c, r, l, known)
	}
}

// readLogout checks a log-out request, and returns which login the ID token that it shows is of, if any. The request says where the
// user goes afterwards. Unvouched is one by a client that has come by itself, and may be anybody's, without an ID token that was issued to it.
func (s *Server) readLogout(c *gin.Context, form url.Values) (r *authorizations.Request, hinted string, unvouched bool, err error) {
	ctx := c.Request.Context()
	for _, name := range []string{"id_token_hint", "client_id", "post_logout_redirect_uri", "state"} {
		if len(form[name]) > 1 {
			return nil, "", false, invalidRequest("the parameter " + name + " is repeated")
		}
		if len(form.Get(name)) > 16<<10 {
			return nil, "", false, invalidRequest("the parameter " + name + " is too long")
		}
	}
	r = &authorizations.Request{ClientID: form.Get("client_id"), State: []byte(form.Get("state")), Locales: locales(form)}
	shows := false
	if token := form.Get("id_token_hint"); token != "" {
		h, ok, err := s.tokens.ReadHint(ctx, token)
		switch {
		case err != nil:
			return nil, "", false, err
		case !ok:
		case r.ClientID != "" && r.ClientID != h.ClientID:
			return nil, "", false, invalidRequest("the id_token_hint was issued to another client than client_id")
		default:
			r.ClientID, hinted, shows = h.ClientID, h.LoginID, true
		}
	}
	uri := form.Get("post_logout_redirect_uri")
	if uri == "" {
		return r, hinted, unvouched, nil
	}
	if r.ClientID == "" {
		return nil, "", false, invalidRequest("a post_logout_redirect_uri needs a good id_token_hint or a client_id beside it")
	}
	client, err := s.clients.Known(ctx, r.ClientID)
	if err != nil {
		return nil, "", false, err
	}
	request.From(ctx).ClientID = client.ID
	if !client.PostLogoutRedirect(uri) {
		return nil, "", false, invalidRequest("the post_logout_redirect_uri is not registered for this client; it has to be the same, byte for byte")
	}
	r.RedirectURI, unvouched = uri, client.Registered && !shows
	return r, hinted, unvouched, nil
}

// confirmLogout answers the form that asks whether to log out.
func (s *Server) confirmLogout(c *gin.Context, form url.Values) {
	if !s.fromHere(c.Request) {
		s.pages.Error(c, http.StatusForbidden, nil, pages.Error{Kind: pages.Foreign})
		return
	}
	if repeats(form) {
		s.refusePage(c, nil, errUnreadable)
		return
	}
	p, ok := s.pending(c, authorizations.StageLogout, form)
	if !ok {
		return
	}
	l, known, err := s.logins.Current(c.Request.Context(), s.loginCookie(c.Request))
	switch {
	case err != nil:
		s.refusePage(c, p.Request.Locales, err)
	case form.Get("decision") != "logout":
		s.pages.Stayed(c, p.Request.Locales, pages.Stayed{Username: l.Username})
	case known && l.ID != p.Login: // somebody else by now: they are asked anew
		sealed := s.authorizations.Seal(authorizations.StageLogout, s.browser(c), authorizations.Pending{Request: p.Request, Login: l.ID})
		s.pages.Logout(c, p.Request.Locales, pages.Logout{Request: sealed, Username: l.Username})
	default:
		s.endLogin(c, p.Request, l, known)
	}
}

// endLogin ends the login, if there is one, and sends the user on.
func (s *Server) endLogin(c *gin.Context, r *authorizations.Request, l logins.Login, known bool) {
	if known {
		info := request.From(c.Request.Context())
		info.UserID, info.SessionID = l.UserID, l.ID
		if err := s.logins.End(c.Request.Context(), l, info.Origin); err != nil {
			s.refusePage(c, r.Locales, err)
			return
		}
	}
	if len(c.Request.CookiesNamed(s.hostCookie(loginCookieName))) > 0 { // another site's page cannot take away what it does not bring along
		s.setHostCookie(c.Writer, loginCookieName, "", -1)
	}
	if r.RedirectURI == "" {
		s.pages.LoggedOut(c, r.Locales)
		return
	}
	location := r.RedirectURI
	if len(r.State) > 0 {
		location = appended(location, "state="+url.QueryEscape(string(r.State)), false)
	}
	c.Header("Location", location)
	c.Header("Referrer-Policy", "no-referrer")
	c.Status(http.StatusSeeOther)
}

// EndLogin ends the login of the browser that asks, if there is one, and has it forget the cookie.
func (s *Server) EndLogin(c *gin.Context) error {
	ctx := c.Request.Context()
	l, known, err := s.logins.Current(ctx, s.loginCookie(c.Request))
	if err == nil && known {
		err = s.logins.End(ctx, l, request.From(ctx).Origin)
	}
	if err == nil {
		s.setHostCookie(c.Writer, loginCookieName, "", -1)
	}
	return err
}
