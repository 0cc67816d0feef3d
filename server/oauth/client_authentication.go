package oauth

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"signet/audit"
	"signet/clients"
	"signet/server/request"
)

// call is a request whose form was read and whose client was authenticated.
type call struct {
	client *clients.Client
	form   url.Values
	info   *request.Info
}

// origin is where the call came from, for the record.
func (c *call) origin() audit.Origin { return c.info.Origin }

// admit reads the form and authenticates the client. Nothing else of the request is looked at before.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) (*call, error) {
	return s.admitAmong(w, r, s.clients.Known)
}

// admitAmong is admit for the clients that known knows.
func (s *Server) admitAmong(w http.ResponseWriter, r *http.Request, known knower) (*call, error) {
	form, err := readForm(w, r)
	if err != nil {
		return nil, err
	}
	client, err := s.authenticateClient(r, form, known)
	if err != nil {
		return nil, err
	}
	info := request.From(r.Context())
	info.ClientID = client.ID
	return &call{client: client, form: form, info: info}, nil
}

// knower returns the client with the id before it has proved anything, or clients.ErrUnauthenticated.
type knower func(ctx context.Context, id string) (*clients.Client, error)

// authenticateClient finds out who calls, by what the client is registered to prove itself with.
func (s *Server) authenticateClient(r *http.Request, form url.Values, known knower) (*clients.Client, error) {
	if form.Has("client_assertion") || form.Has("client_assertion_type") {
		return s.assertClient(r, form, known)
	}
	id, secret, err := credentials(r.Header.Values("Authorization"), form)
	if err != nil {
		return nil, err
	}
	client, err := known(r.Context(), id)
	if err == nil && !client.Authenticates(secret) {
		err = fmt.Errorf("%w: the client %s sent no secret, a wrong one, or one that it does not have", clients.ErrUnauthenticated, client.ID)
	}
	return client, err
}

// credentials finds what the client proves itself with: one of client_secret_basic, client_secret_post and none
// (RFC 6749 section 2.3.1).
func credentials(authorization []string, form url.Values) (id, secret string, err error) {
	switch len(authorization) {
	case 0:
		if id = form.Get("client_id"); id == "" {
			return "", "", invalidClient("no client authentication: send client_id and client_secret, by HTTP Basic or in the body")
		}
		return id, form.Get("client_secret"), nil
	case 1:
		id, secret, ok := parseBasic(authorization[0])
		switch {
		case !ok:
			return "", "", invalidClient("the Authorization header is not HTTP Basic with a form-urlencoded client id and secret")
		case form.Has("client_secret"):
			return "", "", invalidRequest("two client authentications at once: HTTP Basic and client_secret in the body")
		case form.Has("client_id") && form.Get("client_id") != id:
			return "", "", invalidRequest("HTTP Basic and client_id in the body name different clients")
		}
		return id, secret, nil
	default:
		return "", "", invalidRequest("more than one Authorization header")
	}
}

// Authorization splits an Authorization header into the scheme and what follows it, after one space or more (RFC 9110 section 11.4).
func Authorization(header string) (scheme, credentials string) {
	scheme, credentials, _ = strings.Cut(header, " ")
	return scheme, strings.TrimLeft(credentials, " ")
}

// parseBasic reads an Authorization header of the Basic scheme, whose user and password are form-urlencoded.
func parseBasic(header string) (id, secret string, ok bool) {
	scheme, credentials := Authorization(header)
	r := http.Request{Header: http.Header{"Authorization": {scheme + " " + credentials}}}
	id, secret, ok = r.BasicAuth()
	if !ok {
		return "", "", false
	}
	id, err := url.QueryUnescape(id)
	if err != nil || id == "" {
		return "", "", false
	}
	secret, err = url.QueryUnescape(secret)
	return id, secret, err == nil
}
