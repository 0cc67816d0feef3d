package api

import (
	"errors"
	"net/http"
	"time"

	"signet/server/oauth"
	"signet/tokens"
	"signet/users"
)

// getAccount answers GET /account.
func (s *Server) getAccount(c *call) (reply, error) {
	u, err := s.users.Get(c.Request.Context(), c.access.UserID)
	return ok(struct {
		ID        string    `json:"id"`
		Username  string    `json:"username"`
		CreatedAt time.Time `json:"created_at"`
	}{u.ID, u.Username, u.CreatedAt}), err
}

// changePassword answers POST /account/password.
func (s *Server) changePassword(c *call) (reply, error) {
	var given struct {
		Current *string `json:"current_password"`
		New     *string `json:"new_password"`
	}
	if err := c.decode(&given); err != nil {
		return reply{}, err
	}
	switch {
	case given.Current == nil:
		return reply{}, bad("current_password", "is missing")
	case given.New == nil:
		return reply{}, bad("new_password", "is missing")
	}
	a := c.access
	f, err := s.logins.Factors(c.Request.Context(), a.UserID)
	if err == nil && f.Any() { // the password alone is no login of theirs
		_, err = s.fresh(c)
	}
	if err != nil {
		return reply{}, err
	}
	err = s.users.ChangePassword(c.Request.Context(), a.Username, *given.Current, *given.New, a.SessionID, a.ClientID, c.origin)
	s.loginFailed(err)
	switch {
	case errors.Is(err, users.ErrPassword):
		err = badRequest("new_" + err.Error())
	case errors.Is(err, users.ErrBadCredentials):
		err = &oauth.Error{Status: http.StatusBadRequest, Code: "invalid_grant", Description: "current_password: is wrong"}
	}
	return noContent, err
}

// ownSession is a session as its user sees it.
type ownSession struct {
	tokens.Session

	Current bool `json:"current"` // the one that the call was made in
}

// listOwnSessions answers GET /account/sessions.
func (s *Server) listOwnSessions(c *call) (reply, error) {
	limit, after, err := c.page(isSessionPlace)
	if err != nil {
		return reply{}, err
	}
	found, err := s.tokens.Sessions(c.Request.Context(), tokens.Filter{UserID: c.access.UserID, After: after, Limit: limit + 1})
	own := make([]ownSession, len(found))
	for i, n := range found {
		own[i] = ownSession{n, n.ID == c.access.SessionID}
	}
	return pageOf(own, limit, func(n ownSession) string { return n.Place() }), err
}

// endOwnSession answers DELETE /account/sessions/{id}.
func (s *Server) endOwnSession(c *call) (reply, error) {
	return noContent, s.tokens.EndSessionOf(c.Request.Context(), c.access.UserID, c.id(), c.origin)
}

// endOtherSessions answers DELETE /account/sessions.
func (s *Server) endOtherSessions(c *call) (reply, error) {
	return noContent, s.users.EndOtherSessions(c.Request.Context(), c.access.UserID, c.access.SessionID, c.origin)
}
