package oauth

import (
	"net/http"
	"net/url"

	"signet/clients"
	"signet/proofs"
)

// assertClient authenticates a client by its assertion (RFC 7521 section 4.2, RFC 7523 section 2.2).
func (s *Server) assertClient(r *http.Request, form url.Values, known knower) (*clients.Client, error) {
	switch {
	case form.Has("client_secret"), len(r.Header.Values("Authorization")) > 0:
		return nil, invalidRequest("two client authentications at once: an assertion and a secret")
	case form.Get("client_assertion_type") != proofs.AssertionType:
		return nil, invalidClient("the client_assertion_type has to be " + proofs.AssertionType)
	case !form.Has("client_assertion"):
		return nil, invalidClient("the parameter client_assertion is missing")
	}
	a, err := proofs.ParseAssertion(form.Get("client_assertion"))
	if err != nil {
		return nil, err
	}
	if form.Has("client_id") && form.Get("client_id") != a.ClientID() {
		return nil, invalidClient("the client assertion and client_id name different clients")
	}
	client, err := known(r.Context(), a.ClientID())
	if err != nil {
		return nil, err
	}
	if client.AuthMethod != clients.PrivateKeyJWT {
		return nil, clients.ErrUnauthenticated
	}
	return client, s.proofs.Check(r.Context(), a, client, r.URL.EscapedPath())
}
