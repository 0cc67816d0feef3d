package api

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"

	"signet/audit"
	"signet/clients"
	"signet/proofs"
	"signet/server/oauth"
	"signet/server/request"
	"signet/tokens"
)

// call is a request that speaks for somebody who may make it.
type call struct {
	*gin.Context

	query  url.Values
	access tokens.Access
	origin audit.Origin
}

// admit authorizes a call of the admin API.
func (s *Server) admit(c *gin.Context) (*call, error) {
	token, byProof, err := presented(c.Request)
	if err != nil {
		return nil, err
	}
	return s.authorize(c, token, byProof, clients.ScopeAdmin)
}

// admitUser authorizes a call of the account API, by header or by cookie. A browser sends its cookies whoever makes it call:
// what changes something, and what a script of another origin would read, has to come from an origin of the client.
func (s *Server) admitUser(c *gin.Context) (*call, error) {
	token, byProof, err := presented(c.Request)
	cookie, cookieErr := c.Request.Cookie(oauth.AccessCookie)
	byCookie := len(c.Request.Header.Values("Authorization")) == 0 && cookieErr == nil
	if byCookie {
		token, err = cookie.Value, nil
	}
	if err != nil {
		return nil, err
	}
	in, err := s.authorize(c, token, byProof, clients.ScopeAccount)
	if err != nil {
		return nil, err
	}
	if in.access.UserID == "" {
		return nil, insufficient(clients.ScopeAccount)
	}
	if byCookie && (c.Request.Method != http.MethodGet || c.GetHeader("Origin") != "") {
		client, err := s.clients.Known(c.Request.Context(), in.access.ClientID)
		if err != nil {
			return nil, err
		}
		if !oauth.FromOrigin(c.Request, client) {
			return nil, oauth.ErrForeignOrigin
		}
	}
	return in, nil
}

// authorize tells whom the token speaks for.
func (s *Server) authorize(c *gin.Context, token string, byProof bool, scope string) (*call, error) {
	ctx := c.Request.Context()
	var key proofs.Key
	if byProof {
		var err error
		if key, err = oauth.Holder(s.proofs, c.Writer, c.Request, token); err != nil {
			return nil, err
		}
	}
	access, err := s.tokens.Authorize(ctx, token, scope, key)
	if err != nil {
		return nil, denied(oauth.AtResource(err), scope)
	}
	info := request.From(ctx)
	info.ClientID, info.UserID, info.SessionID = access.ClientID, access.UserID, access.SessionID
	origin := info.Origin
	if origin.Actor = access.UserID; origin.Actor == "" {
		origin.Actor = access.ClientID
	}
	return &call{Context: c, access: access, origin: origin}, nil
}

// presented returns the token in the Authorization header (RFC 6750 section 2.1), and whether its scheme is DPoP (RFC 9449 section 7.1).
func presented(r *http.Request) (token string, byProof bool, err error) {
	switch values := r.Header.Values("Authorization"); len(values) {
	case 0:
		return "", false, &oauth.Error{ // without an error code: nothing was tried (RFC 6750 section 3.1)
			Status: http.StatusUnauthorized, Code: "invalid_token", Description: "an access token is needed, in the header Authorization: Bearer",
			Challenge: `Bearer realm="signet"`, OrByProof: true,
		}
	case 1:
		scheme, token := oauth.Authorization(values[0])
		byProof = strings.EqualFold(scheme, tokens.DPoP)
		if !byProof && !strings.EqualFold(scheme, tokens.Bearer) || token == "" {
			return "", false, denied(tokens.ErrInvalidToken, "")
		}
		return token, byProof, nil
	default:
		return "", false, badRequest("more than one Authorization header")
	}
}
