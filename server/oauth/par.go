package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"

	"signet/authorizations"
	"signet/clients"
	"signet/proofs"
	"signet/server/request"
	"signet/users"
)

const (
	parPath   = "/par"
	maxPushed = 16 << 10 // bytes of a pushed request, as a form
)

// push answers POST /par (RFC 9126 section 2): the client sends its authorization request ahead, and the browser brings a reference to it.
func (s *Server) push(c *gin.Context) {
	ctx := c.Request.Context()
	uri, err := s.pushed(c)
	if err != nil {
		Fail(ctx, c.Writer, err)
		return
	}
	writeJSON(c.Writer, http.StatusCreated, struct {
		RequestURI string `json:"request_uri"`
		ExpiresIn  int    `json:"expires_in"`
	}{uri, int(authorizations.PushedTTL / time.Second)})
}

func (s *Server) pushed(c *gin.Context) (requestURI string, err error) {
	ctx := c.Request.Context()
	call, err := s.admitAmong(c.Writer, c.Request, s.asking) // nobody may have allowed it anything yet
	if err != nil {
		return "", err
	}
	key, err := s.senderKey(c.Writer, c.Request, call.client)
	if err != nil {
		return "", err
	}
	form := url.Values{"client_id": {call.client.ID}}
	for name := range maxParameter { // and nothing of the client's authentication
		if values, has := call.form[name]; has && name != "client_id" {
			form[name] = values
		}
	}
	if form.Has("request_uri") {
		return "", invalidRequest("a pushed request is the request itself, not a request_uri")
	}
	if len(form.Encode()) > maxPushed {
		return "", invalidRequest(fmt.Sprintf("the request is longer than %d bytes", maxPushed))
	}
	if err := bindTo(form, key); err != nil {
		return "", err
	}
	client, target, err := s.target(ctx, form)
	if err != nil {
		return "", err
	}
	if _, err := s.readRequest(ctx, form, client, target); err != nil {
		return "", err
	}
	if err := s.countPending(ctx, call); err != nil {
		return "", err
	}
	if err := s.tokens.Spend(ctx, key, client.ID, "", ""); err != nil {
		return "", err
	}
	return s.authorizations.Push(ctx, client.ID, form)
}

// asking returns the client that an authorization request comes from. What has to be fetched for that is counted.
func (s *Server) asking(ctx context.Context, id string) (*clients.Client, error) {
	return s.clients.Asking(ctx, id, func() error { return s.countFrom(ctx) })
}

// countPending counts what a client that need not prove who it is has kept without anybody logged in.
func (s *Server) countPending(ctx context.Context, call *call) error {
	if call.client.AuthMethod != clients.None {
		return nil
	}
	return s.countFrom(ctx)
}

// countFrom counts what is kept, or fetched, for whoever is at the request's address.
func (s *Server) countFrom(ctx context.Context) error {
	err := s.users.CountPending(ctx, request.From(ctx).Origin)
	var throttled *users.ThrottledError
	if errors.As(err, &throttled) {
		return &Error{
			Status: http.StatusTooManyRequests, Code: "temporarily_unavailable",
			Description: "too many requests from this address are pending; try again later", RetryAfter: throttled.RetryAfter,
		}
	}
	return err
}

// bindTo has the request's code bound to the key that the sender of the pushed request has proved to hold (RFC 9449 section 10.1).
func bindTo(form url.Values, key proofs.Key) error {
	switch {
	case !key.Proven():
	case form.Has("dpop_jkt") && form.Get("dpop_jkt") != key.JKT:
		return badRequest("invalid_dpop_proof", "the DPoP proof is of another key than dpop_jkt names")
	default:
		form.Set("dpop_jkt", key.JKT)
	}
	return nil
}

// takeUp returns the pushed request that a request refers to, or the request itself. What stands beside a request_uri but for the
// client_id counts for nothing (RFC 9126 section 4). Digest is nil for one that was not pushed.
func (s *Server) takeUp(c *gin.Context, form url.Values) (taken url.Values, digest []byte, err error) {
	uri := value(form, "request_uri")
	if !authorizations.IsPushed(uri) || !clients.ValidID(value(form, "client_id")) {
		return form, nil, nil
	}
	p, ok, err := s.authorizations.TakeUp(c.Request.Context(), uri, value(form, "client_id"), s.browser(c))
	if err != nil {
		return nil, nil, err
	}
	if !ok {
		return nil, nil, errSpentRequest
	}
	taken, err = url.ParseQuery(p.Form)
	return taken, p.Digest, err
}
