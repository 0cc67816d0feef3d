package api

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"

	"signet/clients"
)

// createRegistrationToken answers POST /admin/registration-tokens.
func (s *Server) createRegistrationToken(c *call) (reply, error) {
	given := struct {
		Uses *int   `json:"uses"`
		TTL  string `json:"ttl"`
	}{}
	if err := c.decodeAny(&given); err != nil {
		return reply{}, err
	}
	uses, ttl := clients.InitialTokenUses, clients.InitialTokenTTL
	if given.Uses != nil {
		uses = *given.Uses
	}
	if given.TTL != "" {
		var err error
		if ttl, err = clients.ParseTTL(given.TTL); err != nil {
			return reply{}, bad("ttl", err.Error())
		}
	}
	made, err := s.clients.NewRegistrationToken(c.Request.Context(), uses, ttl, c.origin)
	if field := (*clients.FieldError)(nil); errors.As(err, &field) {
		err = badRequest(field.Error())
	}
	return reply{http.StatusCreated, made}, err
}

// listRegistrationTokens answers GET /admin/registration-tokens: those that are good.
func (s *Server) listRegistrationTokens(c *call) (reply, error) {
	limit, after, err := c.page(clients.ValidID)
	if err != nil {
		return reply{}, err
	}
	from, _ := base64.RawURLEncoding.DecodeString(after)
	found, err := s.clients.RegistrationTokens(c.Request.Context())
	found = slices.DeleteFunc(found, func(t clients.InitialToken) bool { return bytes.Compare(t.Digest, from) <= 0 })
	return pageOf(found, limit, func(t clients.InitialToken) string { return t.ID }), err
}

// revokeRegistrationToken answers DELETE /admin/registration-tokens/{id}.
func (s *Server) revokeRegistrationToken(c *call) (reply, error) {
	return noContent, s.clients.RevokeRegistrationToken(c.Request.Context(), c.id(), c.origin)
}
