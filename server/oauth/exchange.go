package oauth

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"signet/clients"
	"signet/tokens"
)

// The token types of RFC 8693 section 3 that can be exchanged here, or be had for it. An access token is a JWT, too.
const (
	accessTokenType = "urn:ietf:params:oauth:token-type:access_token" //nolint:gosec // a name
	jwtType         = "urn:ietf:params:oauth:token-type:jwt"
)

// checkExchange refuses what is wrong with a call for an exchange before the token is looked at (RFC 8693 section 2.1).
func (t *tokenCall) checkExchange(issuer string) error {
	kind, wanted := t.form.Get("subject_token_type"), t.form.Get("requested_token_type")
	switch {
	case t.form.Has("actor_token") || t.form.Has("actor_token_type"):
		return invalidRequest("an actor_token is not supported: the client itself is the one that acts")
	case kind != accessTokenType && kind != jwtType:
		return invalidRequest("the subject_token_type has to be " + accessTokenType)
	case wanted != "" && wanted != accessTokenType && wanted != jwtType:
		return invalidRequest("the requested_token_type has to be " + accessTokenType)
	}
	if err := t.readReach(); err != nil {
		return err
	}
	if audience := t.form.Get("audience"); audience != "" && !slices.Contains(t.audience, audience) {
		t.audience = append(t.audience, audience)
	}
	if t.scope != nil && !t.scope.Within(t.client.Scope) {
		return unregisteredScope(t.scope, t.client.Scope)
	}
	if i := slices.IndexFunc(t.scope, clients.Reserved); i >= 0 {
		return badRequest("invalid_scope", "the scope "+t.scope[i]+" cannot be had by an exchange")
	}
	if !clients.Scope(t.audience).Within(t.client.Resources(issuer)) {
		return errUnregisteredResource
	}
	return nil
}

// exchangeGrant answers a call of /token with an access token to be exchanged (RFC 8693). The library knows no such grant.
func (s *Server) exchangeGrant(c *gin.Context, call *tokenCall) {
	ctx := c.Request.Context()
	issued, err := s.tokens.Exchange(ctx, call.client, call.form.Get("subject_token"), call.scope, call.audience, call.key)
	switch {
	case errors.Is(err, tokens.ErrSubjectScope):
		err = badRequest("invalid_scope", err.Error())
	case errors.Is(err, tokens.ErrNoAudience):
		err = badRequest("invalid_target", err.Error())
	case errors.Is(err, tokens.ErrSubjectToken), errors.Is(err, tokens.ErrBoundSubject), errors.Is(err, tokens.ErrTooManyActed):
		err = invalidRequest(err.Error()) // RFC 8693 section 2.2.2
	}
	if err != nil {
		Fail(ctx, c.Writer, err)
		return
	}
	s.metrics.issued(call.info.GrantType)
	call.info.SessionID = issued.SessionID
	writeJSON(c.Writer, http.StatusOK, map[string]any{
		"access_token": issued.AccessToken, "issued_token_type": accessTokenType, "token_type": issued.Type,
		"expires_in": int64(issued.ExpiresIn / time.Second), "scope": issued.Scope,
	})
}
