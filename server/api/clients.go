package api

import (
	"errors"
	"net/http"
	"time"

	"github.com/xhit/go-str2duration/v2"

	"signet/clients"
)

// readClient reads the client object in the body.
func (c *call) readClient() (clients.Client, error) {
	text, err := c.body()
	if err != nil {
		return clients.Client{}, err
	}
	return clients.ParseMetadata(text)
}

// createClient answers POST /admin/clients.
func (s *Server) createClient(c *call) (reply, error) {
	given, err := c.readClient()
	if err != nil {
		return reply{}, err
	}
	created, err := s.clients.Create(c.Request.Context(), given, c.origin)
	return reply{http.StatusCreated, created}, err
}

// listClients answers GET /admin/clients.
func (s *Server) listClients(c *call) (reply, error) {
	limit, after, err := c.page(clients.ValidID)
	if err != nil {
		return reply{}, err
	}
	found, err := s.clients.List(c.Request.Context(), clients.Filter{After: after, Limit: limit + 1})
	return pageOf(found, limit, func(c clients.Client) string { return c.ID }), err
}

// getClient answers GET /admin/clients/{id}.
func (s *Server) getClient(c *call) (reply, error) {
	found, err := s.clients.Get(c.Request.Context(), c.id())
	return ok(found), err
}

// replaceClient answers PUT /admin/clients/{id}.
func (s *Server) replaceClient(c *call) (reply, error) {
	given, err := c.readClient()
	if err != nil {
		return reply{}, err
	}
	if given.ID != "" && given.ID != c.id() {
		return reply{}, &clients.FieldError{Field: "client_id", Problem: "must be the one in the path, or left out: it never changes"}
	}
	given.ID = c.id()
	updated, err := s.clients.Update(c.Request.Context(), given, c.origin)
	return ok(updated), err
}

// deleteClient answers DELETE /admin/clients/{id}.
func (s *Server) deleteClient(c *call) (reply, error) {
	return noContent, s.clients.Delete(c.Request.Context(), c.id(), c.origin)
}

// rotateSecret answers POST /admin/clients/{id}/secret.
func (s *Server) rotateSecret(c *call) (reply, error) {
	var given struct {
		Overlap string `json:"overlap"`
	}
	if err := c.decodeAny(&given); err != nil {
		return reply{}, err
	}
	var overlap time.Duration
	if given.Overlap != "" {
		var err error
		if overlap, err = str2duration.ParseDuration(given.Overlap); err != nil {
			return reply{}, badRequest(clients.ErrOverlap.Error())
		}
	}
	rotated, err := s.clients.RotateSecret(c.Request.Context(), c.id(), overlap, c.origin)
	if errors.Is(err, clients.ErrOverlap) {
		err = badRequest(err.Error())
	}
	return ok(rotated), err
}
