package api

import (
	"encoding/json"
	"net/http"
	"reflect"

	"github.com/google/uuid"

	"signet/users"
)

// user returns the user whose id is in the path.
func (s *Server) user(c *call) (users.User, error) {
	id, err := uuid.Parse(c.id())
	if err != nil {
		return users.User{}, users.ErrNotFound
	}
	return s.users.Get(c.Request.Context(), id.String())
}

// profileBody are the members of a user's profile in a body. Those that are left out are nil; null removes one.
type profileBody struct {
	Name                json.RawMessage `json:"name"`
	GivenName           json.RawMessage `json:"given_name"`
	FamilyName          json.RawMessage `json:"family_name"`
	Picture             json.RawMessage `json:"picture"`
	Locale              json.RawMessage `json:"locale"`
	Zoneinfo            json.RawMessage `json:"zoneinfo"`
	Email               json.RawMessage `json:"email"`
	EmailVerified       json.RawMessage `json:"email_verified"`
	PhoneNumber         json.RawMessage `json:"phone_number"`
	PhoneNumberVerified json.RawMessage `json:"phone_number_verified"`
	Groups              json.RawMessage `json:"groups"`
	Claims              json.RawMessage `json:"claims"`
}

func (b *profileBody) members() map[string]json.RawMessage {
	members := map[string]json.RawMessage{}
	v := reflect.ValueOf(*b)
	for i := range v.NumField() {
		if value := v.Field(i).Bytes(); value != nil {
			members[v.Type().Field(i).Tag.Get("json")] = value
		}
	}
	return members
}

// createUser answers POST /admin/users.
func (s *Server) createUser(c *call) (reply, error) {
	var given struct {
		Username *string `json:"username"`
		Password *string `json:"password"`
		Admin    bool    `json:"admin"`
		profileBody
	}
	if err := c.decode(&given); err != nil {
		return reply{}, err
	}
	switch {
	case given.Username == nil:
		return reply{}, bad("username", "is missing")
	case given.Password == nil:
		return reply{}, bad("password", "is missing")
	}
	profile, err := users.Profile{}.With(given.members())
	if err != nil {
		return reply{}, err
	}
	created, err := s.users.Create(c.Request.Context(), *given.Username, *given.Password, given.Admin, profile, c.origin)
	return reply{http.StatusCreated, created}, err
}

// listUsers answers GET /admin/users.
func (s *Server) listUsers(c *call) (reply, error) {
	limit, after, err := c.page(users.ValidUsername)
	if err != nil {
		return reply{}, err
	}
	found, err := s.users.List(c.Request.Context(), users.Filter{After: after, Limit: limit + 1})
	return pageOf(found, limit, func(u users.User) string { return u.Username }), err
}

// getUser answers GET /admin/users/{id}.
func (s *Server) getUser(c *call) (reply, error) {
	u, err := s.user(c)
	return ok(u), err
}

// changeUser answers PATCH /admin/users/{id}.
func (s *Server) changeUser(c *call) (reply, error) {
	var given struct {
		Password *string `json:"password"`
		Disabled *bool   `json:"disabled"`
		Admin    *bool   `json:"admin"`
		profileBody
	}
	if err := c.decode(&given); err != nil {
		return reply{}, err
	}
	u, err := s.user(c)
	if err != nil {
		return reply{}, err
	}
	u, err = s.users.Update(c.Request.Context(), u.ID, users.Change{
		Password: given.Password, Disabled: given.Disabled, Admin: given.Admin, Profile: given.members(),
	}, c.origin)
	return ok(u), err
}

// deleteUser answers DELETE /admin/users/{id}.
func (s *Server) deleteUser(c *call) (reply, error) {
	u, err := s.user(c)
	if err != nil {
		return reply{}, err
	}
	return noContent, s.users.Delete(c.Request.Context(), u.ID, c.origin)
}

// endUserSessions answers DELETE /admin/users/{id}/sessions.
func (s *Server) endUserSessions(c *call) (reply, error) {
	u, err := s.user(c)
	if err != nil {
		return reply{}, err
	}
	return noContent, s.users.EndSessions(c.Request.Context(), u.ID, c.origin)
}

// makeResetLink answers POST /admin/users/{id}/reset-link.
func (s *Server) makeResetLink(c *call) (reply, error) {
	if err := c.decodeAny(&struct{}{}); err != nil {
		return reply{}, err
	}
	u, err := s.user(c)
	if err != nil {
		return reply{}, err
	}
	h, err := s.mails.ResetLink(c.Request.Context(), u, c.origin)
	return reply{http.StatusCreated, h}, err
}

// invite answers POST /admin/invitations.
func (s *Server) invite(c *call) (reply, error) {
	var given struct {
		Email  string `json:"email"`
		Locale string `json:"locale"`
	}
	if err := c.decode(&given); err != nil {
		return reply{}, err
	}
	h, err := s.mails.Invite(c.Request.Context(), given.Email, []string{given.Locale}, c.origin)
	return reply{http.StatusCreated, h}, err
}
