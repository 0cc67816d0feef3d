package api

import (
	"errors"
	"slices"
	"strings"

	"signet/clients"
)

// listScopes answers GET /admin/scopes: the scopes that are described.
func (s *Server) listScopes(c *call) (reply, error) {
	limit, after, err := c.page(clients.ValidID)
	if err != nil {
		return reply{}, err
	}
	found, err := s.clients.Scopes(c.Request.Context())
	found = slices.DeleteFunc(found, func(d clients.Described) bool { return strings.Compare(d.Name, after) <= 0 })
	return pageOf(found, limit, func(d clients.Described) string { return d.Name }), err
}

// getScope answers GET /admin/scopes/{name}.
func (s *Server) getScope(c *call) (reply, error) {
	found, err := s.clients.Scopes(c.Request.Context())
	if err != nil {
		return reply{}, err
	}
	i := slices.IndexFunc(found, func(d clients.Described) bool { return d.Name == c.id() })
	if i < 0 {
		return reply{}, clients.ErrNoScope
	}
	return ok(found[i]), nil
}

// describeScope answers PUT /admin/scopes/{name}.
func (s *Server) describeScope(c *call) (reply, error) {
	var given clients.Described
	if err := c.decode(&given); err != nil {
		return reply{}, err
	}
	if given.Name != "" && given.Name != c.id() {
		return reply{}, bad("name", "must be the one in the path, or left out")
	}
	described, err := s.clients.DescribeScope(c.Request.Context(), c.id(), given.Description, c.origin)
	if field := (*clients.FieldError)(nil); errors.As(err, &field) {
		err = badRequest(field.Error())
	}
	return ok(described), err
}

// forgetScope answers DELETE /admin/scopes/{name}.
func (s *Server) forgetScope(c *call) (reply, error) {
	return noContent, s.clients.ForgetScope(c.Request.Context(), c.id(), c.origin)
}
