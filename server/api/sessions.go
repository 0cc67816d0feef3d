package api

import (
	"context"
	"errors"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/xhit/go-str2duration/v2"

	"signet/audit"
	"signet/clients"
	"signet/keys"
	"signet/tokens"
	"signet/users"
)

// isUUID tells whether text is a UUID in the form that ids have.
func isUUID(text string) bool { return len(text) == 36 && uuid.Validate(text) == nil }

// userID returns the id of the user that a filter names by id or username. A user who is gone can still be named by id, for
// the record; any other name is nobody's, and selects nothing.
func (s *Server) userID(ctx context.Context, name string) (id string, known bool, err error) {
	u, err := s.users.Find(ctx, name)
	if errors.Is(err, users.ErrNotFound) {
		return name, isUUID(name), nil
	}
	return u.ID, err == nil, err
}

// listSessions answers GET /admin/sessions.
func (s *Server) listSessions(c *call) (reply, error) {
	limit, after, err := c.page(isSessionPlace)
	if err != nil {
		return reply{}, err
	}
	f := tokens.Filter{ClientID: c.query.Get("client"), After: after, Limit: limit + 1}
	if f.ClientID != "" && !clients.ValidID(f.ClientID) {
		return ok(list[tokens.Session]{Items: []tokens.Session{}}), nil
	}
	if name := c.query.Get("user"); name != "" {
		var known bool
		if f.UserID, known, err = s.userID(c.Request.Context(), name); err != nil || !known {
			return ok(list[tokens.Session]{Items: []tokens.Session{}}), err
		}
	}
	found, err := s.tokens.Sessions(c.Request.Context(), f)
	return pageOf(found, limit, tokens.Session.Place), err
}

func isSessionPlace(text string) bool {
	_, _, ok := tokens.ParsePlace(text)
	return ok
}

// endSession answers DELETE /admin/sessions/{id}.
func (s *Server) endSession(c *call) (reply, error) {
	return noContent, s.tokens.EndSession(c.Request.Context(), c.id(), c.origin)
}

// listKeys answers GET /admin/keys.
func (s *Server) listKeys(c *call) (reply, error) {
	limit, after, err := c.page(utf8.ValidString)
	if err != nil {
		return reply{}, err
	}
	found, err := s.keys.List(c.Request.Context())
	if i := slices.IndexFunc(found, func(k keys.Key) bool { return k.ID == after }); i >= 0 {
		found = found[i+1:]
	}
	return pageOf(found, limit, func(k keys.Key) string { return k.ID }), err
}

// rotateKey answers POST /admin/keys/rotate.
func (s *Server) rotateKey(c *call) (reply, error) {
	if err := c.decodeAny(&struct{}{}); err != nil {
		return reply{}, err
	}
	current, err := s.keys.Rotate(c.Request.Context(), c.origin)
	return ok(current), err
}

// revokeKey answers DELETE /admin/keys/{kid}.
func (s *Server) revokeKey(c *call) (reply, error) {
	return noContent, s.keys.Revoke(c.Request.Context(), c.id(), c.origin)
}

// listEvents answers GET /admin/audit.
func (s *Server) listEvents(c *call) (reply, error) {
	limit, before, err := c.page(isUUID)
	if err != nil {
		return reply{}, err
	}
	f := audit.Filter{Type: audit.Type(c.query.Get("type")), ClientID: c.query.Get("client"), Before: before, Limit: limit + 1}
	if f.ClientID != "" && !clients.ValidID(f.ClientID) {
		return ok(list[audit.Event]{Items: []audit.Event{}}), nil
	}
	if f.Type != "" && !slices.Contains(audit.Types, f.Type) {
		return reply{}, bad("type", "is no event type; docs/operations.md lists them")
	}
	if name := c.query.Get("user"); name != "" {
		var known bool
		if f.UserID, known, err = s.userID(c.Request.Context(), name); err != nil || !known {
			return ok(list[audit.Event]{Items: []audit.Event{}}), err
		}
	}
	if f.Since, err = since(c.query.Get("since")); err != nil {
		return reply{}, err
	}
	found, err := s.audit.Events(c.Request.Context(), f)
	return pageOf(found, limit, func(e audit.Event) string { return e.ID }), err
}

// since reads how far back to look: a duration, or a time.
func since(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return max(time.Since(at), time.Microsecond), nil
	}
	d, err := str2duration.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, bad("since", "must be a duration such as 24h or 7d, or a time such as 2026-01-31T00:00:00Z")
	}
	return d, nil
}
