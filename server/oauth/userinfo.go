package oauth

import (
	"errors"
	"mime"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"signet/clients"
	"signet/tokens"
)

// userinfo answers GET and POST /userinfo (OpenID Connect Core section 5.3).
func (s *Server) userinfo(c *gin.Context) {
	ctx := c.Request.Context()
	token, err := bearer(c)
	var claims map[string]any
	if err == nil {
		claims, err = s.tokens.UserInfo(ctx, token)
	}
	switch {
	case errors.Is(err, tokens.ErrInvalidToken):
		err = &Error{
			Status: http.StatusUnauthorized, Code: "invalid_token", Challenge: `Bearer realm="signet", error="invalid_token"`,
			Description: "the access token is unknown, expired or revoked",
		}
	case errors.Is(err, tokens.ErrInsufficientScope):
		err = &Error{
			Status: http.StatusForbidden, Code: "insufficient_scope", Description: "the access token does not hold the scope " + clients.ScopeOpenID,
			Challenge: `Bearer realm="signet", error="insufficient_scope", scope="openid"`,
		}
	}
	if err != nil {
		Fail(ctx, c.Writer, err)
		return
	}
	writeJSON(c.Writer, http.StatusOK, claims)
}

// bearer returns the access token of a request: from the header, or from the form of a POST (RFC 6750 section 2), never from the query.
func bearer(c *gin.Context) (string, error) {
	if c.Request.URL.Query().Has("access_token") {
		return "", invalidRequest("an access token is taken from the header or the body, never from the query string")
	}
	headers := c.Request.Header.Values("Authorization")
	inBody := ""
	if mediaType, _, err := mime.ParseMediaType(c.GetHeader("Content-Type")); err == nil && mediaType == "application/x-www-form-urlencoded" && c.Request.Method == http.MethodPost {
		body, err := ReadBody(c.Writer, c.Request)
		if err != nil {
			return "", err
		}
		form, err := parseForm(string(body))
		if err != nil {
			return "", err
		}
		inBody = form.Get("access_token")
	}
	switch {
	case len(headers) > 1, len(headers) == 1 && inBody != "":
		return "", invalidRequest("more than one access token is sent")
	case inBody != "":
		return inBody, nil
	case len(headers) == 1:
		if scheme, token, ok := strings.Cut(headers[0], " "); ok && strings.EqualFold(scheme, "Bearer") {
			return strings.TrimSpace(token), nil
		}
	}
	return "", &Error{
		Status: http.StatusUnauthorized, Code: "invalid_token", Challenge: `Bearer realm="signet"`, Description: "an access token is wanted in the Authorization header",
	}
}
