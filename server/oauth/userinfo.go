package oauth

import (
	"errors"
	"mime"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"signet/clients"
	"signet/proofs"
	"signet/tokens"
)

// userinfo answers GET and POST /userinfo (OpenID Connect Core section 5.3).
func (s *Server) userinfo(c *gin.Context) {
	ctx := c.Request.Context()
	token, byProof, err := presented(c)
	var malformed *Error
	if errors.As(err, &malformed) && malformed.Status == http.StatusBadRequest { // RFC 6750 section 3.1
		malformed.Challenge = `Bearer realm="signet", error="` + malformed.Code + `"`
	}
	var key proofs.Key
	if err == nil && byProof {
		key, err = Holder(s.proofs, c.Writer, c.Request, token)
	}
	var claims map[string]any
	if err == nil {
		claims, err = s.tokens.UserInfo(ctx, token, key)
		err = AtResource(err)
	}
	switch {
	case errors.Is(err, tokens.ErrInvalidToken):
		err = &Error{
			Status: http.StatusUnauthorized, Code: "invalid_token", Challenge: `Bearer realm="signet", error="invalid_token"`, OrByProof: true,
			Description: "the access token is unknown, expired or revoked, or it is bound to a key (DPoP) that the request does not prove",
		}
	case errors.Is(err, tokens.ErrInsufficientScope):
		description := "the access token does not hold the scope " + clients.ScopeOpenID
		if errors.Is(err, tokens.ErrOfNoUser) {
			description = "the access token is of no user: it was issued to the client itself"
		}
		err = &Error{
			Status: http.StatusForbidden, Code: "insufficient_scope", Description: description,
			Challenge: `Bearer realm="signet", error="insufficient_scope", scope="openid"`,
		}
	}
	if err != nil {
		FailResource(c, err)
		return
	}
	writeJSON(c.Writer, http.StatusOK, claims)
}

// presented returns the access token of a request: from the header, or from the form of a POST (RFC 6750 section 2), never from the query.
// ByProof tells whether its scheme is DPoP (RFC 9449 section 7.1).
func presented(c *gin.Context) (token string, byProof bool, err error) {
	if c.Request.URL.Query().Has("access_token") {
		return "", false, invalidRequest("an access token is taken from the header or the body, never from the query string")
	}
	headers := c.Request.Header.Values("Authorization")
	inBody := ""
	if mediaType, _, err := mime.ParseMediaType(c.GetHeader("Content-Type")); err == nil && mediaType == "application/x-www-form-urlencoded" && c.Request.Method == http.MethodPost {
		body, err := ReadBody(c.Writer, c.Request)
		if err != nil {
			return "", false, err
		}
		form, err := parseForm(string(body))
		if err != nil {
			return "", false, err
		}
		inBody = form.Get("access_token")
	}
	switch {
	case len(headers) > 1, len(headers) == 1 && inBody != "":
		return "", false, invalidRequest("more than one access token is sent")
	case inBody != "":
		return inBody, false, nil
	case len(headers) == 1:
		scheme, token := Authorization(headers[0])
		if byProof = strings.EqualFold(scheme, tokens.DPoP); token != "" && (byProof || strings.EqualFold(scheme, tokens.Bearer)) {
			return token, byProof, nil
		}
	}
	return "", false, &Error{
		Status: http.StatusUnauthorized, Code: "invalid_token", Challenge: `Bearer realm="signet"`, OrByProof: true, Description: "an access token is wanted in the Authorization header",
	}
}
