package oauth

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"signet/authorizations"
	"signet/clients"
	"signet/logins"
	"signet/server/pages"
	"signet/server/request"
)

// standing is what a user has done already for the request at hand.
type standing struct {
	proved    bool      // who they are
	chosen    bool      // as whom to go on
	confirmed bool      // that the client is allowed what it asks for
	login     string    // that the question was put to, if any
	authTime  time.Time // likewise, with proved or confirmed
}

var (
	errLoginRequired   = badRequest("login_required", "nobody is logged in, or not as the request wants it")
	errConsentRequired = badRequest("consent_required", "the user has not allowed the client that yet")
	errAccountRequired = badRequest("account_selection_required", "the user has to choose an account")
	errAccessDenied    = badRequest("access_denied", "the user did not allow it")
	errNotForCodes     = badRequest("unauthorized_client", "the client is not registered for the grant authorization_code")
	errNotPushed       = invalidRequest("this client has to push its requests to /par first")
	errSpentRequest    = badRequest("invalid_request_uri", "the request_uri is unknown, expired or used, or another client's or browser's; go back and begin anew")
	errUnmetClass      = badRequest("unmet_authentication_requirements", "the user has not logged in by one of the ways that the claim acr is asked to tell of")
)

// proceed takes a request one step further: it asks the user for what is still wanted, one thing after the other, or answers it with
// a code.
func (s *Server) proceed(c *gin.Context, client *clients.Client, r *authorizations.Request, st standing) {
	ctx := c.Request.Context()
	silent := r.Asks(authorizations.PromptNone)
	ref, shown := s.browserLogin(c)
	if shown && s.anyLoginDoes(client, r, st) {
		// Then no look is needed first: the code is issued only to a live login, whose user has allowed the client that.
		err := s.grant(c, client, ref, r, remembered(client))
		if err == nil {
			return
		}
		if !errors.Is(err, authorizations.ErrChanged) {
			s.fail(c, r, err)
			return
		}
	}
	for range 3 { // until nothing has changed between two looks
		var l logins.Login
		var allowed authorizations.Consent
		known := false
		if shown {
			var err error
			if l, allowed, known, err = s.authorizations.Visitor(ctx, ref, client); err != nil {
				s.fail(c, r, err)
				return
			}
		}
		if known {
			info := request.From(ctx)
			info.UserID, info.SessionID = l.UserID, ""
		}
		if st.login != "" && (!known || l.ID != st.login || (st.confirmed || st.proved) && !l.Time.Equal(st.authTime)) {
			st = standing{} // somebody else by now, or nobody: begin anew
		}
		ask, refused := s.wanted(r, client, l, allowed, known, st)
		switch {
		case refused != nil, silent && ask != nil:
			if refused == nil {
				refused = ask.silently
			}
			s.refuse(c, r, refused)
			return
		case ask != nil:
			s.ask(c, client, r, l, allowed, ask.stage)
			return
		}
		if r.Page != "" {
			c.Redirect(http.StatusSeeOther, s.base+r.Page)
			return
		}
		decision := remembered(client)
		if st.confirmed {
			decision = authorizations.Confirmed
		}
		err := s.grant(c, client, ref, r, decision)
		if err == nil {
			return
		}
		if !errors.Is(err, authorizations.ErrChanged) {
			s.fail(c, r, err)
			return
		}
		if r.Device != "" && !s.waits(c, r) {
			return
		}
		// The login has ended, or the client has changed: the next look tells which.
		if _, err := s.clients.Recheck(ctx, client); err != nil && !errors.Is(err, clients.ErrUnauthenticated) {
			s.fail(c, r, err)
			return
		}
		changed, ok := s.resume(c, r)
		if !ok {
			return
		}
		client = changed
	}
	if r.Pushed != nil { // it led to a code meanwhile, in another tab
		s.refusePage(c, r.Locales, errSpentRequest)
		return
	}
	s.fail(c, r, authorizations.ErrChanged)
}

// remembered is how a request is granted that the user is not asked about.
func remembered(client *clients.Client) authorizations.Decision {
	if client.SkipConsent {
		return authorizations.Unasked
	}
	return authorizations.Allowed
}

// anyLoginDoes tells whether nothing is wanted of a login, whoever's it is, of whatever age and class, once its user has allowed what is asked
// for. A client that came by itself may have to be written down before it is given a code: there a look comes first.
func (s *Server) anyLoginDoes(client *clients.Client, r *authorizations.Request, st standing) bool {
	if r.Page != "" || r.Device != "" || client.Registered || st.confirmed || st.login != "" {
		return false
	}
	allowed := authorizations.Consent{Scope: r.ConsentScope(), Audience: r.Audience}
	for _, class := range logins.Classes {
		for _, admin := range []bool{false, true} {
			l := logins.Login{Authentication: logins.Authentication{Class: class}, Admin: admin, Now: time.Now()} // of the year 1
			if ask, refused := s.wanted(r, client, l, allowed, true, st); ask != nil || refused != nil {
				return false
			}
		}
	}
	return true
}

// grant answers a request with a code, or lets the device that asks begin its session.
func (s *Server) grant(c *gin.Context, client *clients.Client, l logins.Ref, r *authorizations.Request, decision authorizations.Decision) error {
	if r.Device != "" {
		return s.approveDevice(c, client, l, r)
	}
	info := request.From(c.Request.Context())
	client, err := s.clients.Keep(c.Request.Context(), client, info.Origin)
	if errors.Is(err, clients.ErrUnauthenticated) || errors.Is(err, clients.ErrChanged) {
		return authorizations.ErrChanged
	}
	if err != nil {
		return err
	}
	code, userID, err := s.authorizations.Issue(c.Request.Context(), client, l, r, decision, info.Origin)
	if err == nil {
		info.UserID, info.SessionID = userID, ""
		s.answer(c, targetOf(r), [][2]string{{"code", code}})
	}
	return err
}

// question is what a user has to be asked.
type question struct {
	stage    authorizations.Stage
	silently error // the answer where nobody may be asked
}

// wanted decides what is still wanted of the user before the request is granted, in this order: a login, a proof that it is them, the
// choice of an account, consent. Refused is what cannot be granted, whatever they do.
func (s *Server) wanted(r *authorizations.Request, client *clients.Client, l logins.Login, allowed authorizations.Consent, known bool, st standing) (ask *question, refused error) {
	login := &question{authorizations.StageLogin, errLoginRequired}
	subject := r.Claims.Subject
	contradicts := false // no user is both
	if r.HintedSubject != "" && (r.HintedSubject != "?" || r.Asks(authorizations.PromptNone)) {
		contradicts = subject != "" && subject != r.HintedSubject
		subject = r.HintedSubject
	}
	fresh := st.proved || st.confirmed
	unmet := !satisfies(r, l.Class)
	if r.Asks(authorizations.PromptNone) && len(r.Claims.Classes) == 0 {
		unmet = false // acr_values is a wish, which fails no request where nobody can be asked (OpenID Connect Core section 5.5.1.1)
	}
	switch {
	case !known:
		return login, nil
	case contradicts:
		return nil, errLoginRequired
	case l.Class != logins.TwoFactors && s.logins.Demands(l.Admin): // since the login, by the operator or for an admin
		return login, nil
	case r.Asks(authorizations.PromptLogin) && !fresh, r.MaxAge != nil && !fresh && l.Now.Sub(l.Time) >= *r.MaxAge:
		return login, nil
	case subject != "" && subject != l.UserID:
		if fresh {
			return nil, errLoginRequired // it is not the one that the client means
		}
		return login, nil
	case unmet && needsTwo(r) && !fresh:
		return &question{authorizations.StageLogin, errUnmetClass}, nil
	case unmet:
		return nil, errUnmetClass
	case r.Asks(authorizations.PromptAccount) && !st.chosen && !fresh:
		return &question{authorizations.StageAccount, errAccountRequired}, nil
	case slices.Contains(r.Scope, clients.ScopeAdmin) && !l.Admin:
		return nil, badRequest("invalid_scope", "the scope "+clients.ScopeAdmin+" is for admins")
	case st.confirmed:
		return nil, nil
	case r.Asks(authorizations.PromptConsent), !client.SkipConsent && (r.Device == "" && authorizations.Impersonable(client, r.RedirectURI) || !allowed.Covers(r)):
		return &question{authorizations.StageConsent, errConsentRequired}, nil
	}
	return nil, nil
}

// refuse answers a request that is not granted: the client by a redirect, or the device when it asks again, and its user by a page. Who
// does not log in for a page of their own account is asked there anew.
func (s *Server) refuse(c *gin.Context, r *authorizations.Request, err error) {
	ctx := c.Request.Context()
	switch {
	case r.Page != "":
		request.From(ctx).Err = err
		c.Redirect(http.StatusSeeOther, s.base+r.Page)
		return
	case r.Device == "":
		s.answerError(c, targetOf(r), err)
		return
	}
	request.From(ctx).Err = err
	denied, failed := s.authorizations.Refuse(ctx, r)
	switch {
	case failed != nil:
		s.fail(c, r, failed)
	case !errors.Is(err, errAccessDenied):
		s.refusePage(c, r.Locales, err)
	case !denied: // as by the browser's back button, after it was allowed: it is too late to say that nothing was shared
		s.pages.Device(c, http.StatusBadRequest, pages.Device{Problem: pages.BadUserCode})
	default:
		s.pages.Say(c, http.StatusOK, pages.DeviceDenied)
	}
}

// fail answers a request that could not be decided, for the database's sake.
func (s *Server) fail(c *gin.Context, r *authorizations.Request, err error) {
	request.From(c.Request.Context()).Err = err
	if r.Asks(authorizations.PromptNone) {
		s.answer(c, targetOf(r), [][2]string{{"error", "temporarily_unavailable"}, {"error_description", "the server cannot answer at the moment; try again"}})
		return
	}
	s.unavailable(c, r.Locales)
}
