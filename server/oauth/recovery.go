package oauth

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"

	"signet/mail"
	"signet/server/pages"
	"signet/server/request"
	"signet/users"
)

// recoveryRoutes adds the pages for who has forgotten their password, was invited, or wants an account. Links are looked at by GET, as
// mail scanners do too, and used by POST alone. Nobody is logged in by them.
func (s *Server) recoveryRoutes(r gin.IRouter) {
	r.GET("/forgotten", s.askForReset)
	r.POST("/forgotten", s.mailReset)
	r.GET("/reset", s.askForPassword)
	r.POST("/reset", s.resetPassword)
	r.GET("/sign-up", s.askForEmail)
	r.POST("/sign-up", s.mailSignUp)
	r.GET("/join", s.askForAccount)
	r.POST("/join", s.join)
}

func (s *Server) askForReset(c *gin.Context) {
	if !s.mails.Enabled() {
		s.pages.Error(c, http.StatusNotFound, nil, pages.Error{Kind: pages.NoMail})
		return
	}
	s.pages.Forgotten(c, http.StatusOK, pages.Asking{})
}

// mailReset answers POST /forgotten. The answer, and what it costs, is the same whether there is such a user or not: that is found out when
// the mail is sent.
func (s *Server) mailReset(c *gin.Context) {
	if !s.mails.Enabled() {
		s.askForReset(c)
		return
	}
	s.post(c, "username", mail.Reset, s.pages.Forgotten, pages.ResetSent)
}

func (s *Server) askForEmail(c *gin.Context) {
	if !s.signUp() {
		s.pages.Error(c, http.StatusNotFound, nil, pages.Error{Kind: pages.NotFound})
		return
	}
	s.pages.SignUp(c, http.StatusOK, pages.Asking{})
}

// mailSignUp answers POST /sign-up, in the same way.
func (s *Server) mailSignUp(c *gin.Context) {
	if !s.signUp() {
		s.askForEmail(c)
		return
	}
	s.post(c, "email", mail.SignUp, s.pages.SignUp, pages.SignUpSent)
}

// signUp tells whether there is a page to make an account.
func (s *Server) signUp() bool { return s.mails.Enabled() && s.users.SignUp() != users.SignUpOff }

// post puts a mail into the outbox to whom a field of the form names, or shows the form again.
func (s *Server) post(c *gin.Context, field string, kind mail.Kind, again func(*gin.Context, int, pages.Asking), sent pages.Said) {
	form, ok := s.formOf(c)
	if !ok {
		return
	}
	ctx := c.Request.Context()
	info := request.From(ctx)
	v := pages.Asking{Recipient: strings.TrimSpace(form.Get(field))}
	status := http.StatusBadRequest
	switch {
	case kind == mail.SignUp && !users.ValidEmail(v.Recipient):
		v.Problem = pages.NoEmail
	case !users.ValidUsername(v.Recipient):
		v.Problem = pages.NoName
	default:
		err := s.users.CountRequest(ctx, v.Recipient, info.Origin)
		if err == nil {
			err = s.mails.Post(ctx, kind, v.Recipient, []string{s.pages.Language(c)})
		}
		info.Err = err
		var throttled *users.ThrottledError
		switch {
		case errors.As(err, &throttled):
			status, v.Problem, v.RetryAfter = http.StatusTooManyRequests, pages.TooManyRequests, throttled.RetryAfter
			setRetryAfter(c, throttled.RetryAfter)
		case err != nil:
			s.unavailable(c, nil)
			return
		default:
			s.pages.Say(c, http.StatusOK, sent)
			return
		}
	}
	again(c, status, v)
}

// askForPassword answers GET /reset.
func (s *Server) askForPassword(c *gin.Context) {
	v := pages.ByLink{Link: linkIn(c.Request.URL)}
	l, err := s.users.Link(c.Request.Context(), v.Link, users.ResetPassword)
	if err == nil {
		v.Username, err = s.nameOf(c, l)
	}
	if err != nil {
		s.refuseLink(c, err)
		return
	}
	s.pages.Reset(c, http.StatusOK, v)
}

// nameOf returns the name of the user whom a link is for.
func (s *Server) nameOf(c *gin.Context, l users.Link) (string, error) {
	u, err := s.users.Get(c.Request.Context(), l.Subject)
	if errors.Is(err, users.ErrNotFound) {
		err = users.ErrLink
	}
	return u.Username, err
}

// resetPassword answers POST /reset.
func (s *Server) resetPassword(c *gin.Context) {
	form, ok := s.formOf(c)
	if !ok {
		return
	}
	ctx := c.Request.Context()
	info := request.From(ctx)
	u, err := s.users.ResetByLink(ctx, form.Get("link"), form.Get("password"), info.Origin)
	info.Err = err
	if errors.Is(err, users.ErrPassword) {
		v := pages.ByLink{Link: form.Get("link"), Problem: pages.BadPassword}
		l, err := s.users.Link(ctx, v.Link, users.ResetPassword)
		if err == nil {
			v.Username, err = s.nameOf(c, l)
		}
		if err == nil {
			s.pages.Reset(c, http.StatusBadRequest, v)
			return
		}
	}
	if err != nil {
		s.refuseLink(c, err)
		return
	}
	info.UserID = u.ID
	s.pages.Say(c, http.StatusOK, pages.PasswordSet)
}

// askForAccount answers GET /join.
func (s *Server) askForAccount(c *gin.Context) {
	link := linkIn(c.Request.URL)
	l, err := s.users.Link(c.Request.Context(), link, users.NewAccount)
	if err != nil {
		s.refuseLink(c, err)
		return
	}
	s.pages.Join(c, http.StatusOK, pages.ByLink{Link: link, Email: l.Subject, Username: l.Subject})
}

// join answers POST /join.
func (s *Server) join(c *gin.Context) {
	form, ok := s.formOf(c)
	if !ok {
		return
	}
	ctx := c.Request.Context()
	info := request.From(ctx)
	v := pages.ByLink{Link: form.Get("link"), Username: strings.TrimSpace(form.Get("username"))}
	u, err := s.users.Join(ctx, v.Link, v.Username, form.Get("password"), info.Origin)
	info.Err = err
	for _, problem := range []struct {
		err error
		is  pages.Problem
	}{
		{users.ErrUsername, pages.BadUsername}, {users.ErrForeignAddress, pages.ForeignAddress}, {users.ErrPassword, pages.BadPassword},
		{users.ErrExists, pages.NameTaken}, {users.ErrEmailTaken, pages.EmailTaken},
	} {
		if !errors.Is(err, problem.err) {
			continue
		}
		l, err := s.users.Link(ctx, v.Link, users.NewAccount)
		if err != nil {
			s.refuseLink(c, err)
			return
		}
		v.Email, v.Problem = l.Subject, problem.is
		s.pages.Join(c, http.StatusBadRequest, v)
		return
	}
	if err != nil {
		s.refuseLink(c, err)
		return
	}
	info.UserID = u.ID
	s.pages.Say(c, http.StatusOK, pages.Joined)
}

// linkIn returns the secret part of the link that somebody has followed.
func linkIn(u *url.URL) string {
	if links := u.Query()["link"]; len(links) == 1 {
		return links[0]
	}
	return ""
}

// refuseLink says that a link is not good, or that it cannot be used at the moment.
func (s *Server) refuseLink(c *gin.Context, err error) {
	request.From(c.Request.Context()).Err = err
	if errors.Is(err, users.ErrLink) {
		s.pages.Error(c, http.StatusGone, nil, pages.Error{Kind: pages.DeadLink})
		return
	}
	s.unavailable(c, nil)
}
