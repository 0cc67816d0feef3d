package oauth

import (
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"signet/clients"
	"signet/keys"
	"signet/tokens"
)

// introspectionType is the type of an introspection's answer that is a JWT (RFC 9701 section 5).
const introspectionType = "token-introspection+jwt"

// asksForJWT tells whether the caller wants the answer signed.
func asksForJWT(accept []string) bool {
	return slices.ContainsFunc(strings.Split(strings.Join(accept, ","), ","), func(part string) bool {
		mediaType, params, err := mime.ParseMediaType(part)
		q, weighed := params["q"]
		return err == nil && mediaType == "application/"+introspectionType && (!weighed || strings.Trim(q, "0.") != "")
	})
}

// introspectSigned answers with a JWT that the caller can show to others (RFC 9701 section 5).
func (s *Server) introspectSigned(c *gin.Context, client *clients.Client, answer tokens.Introspection) {
	ctx := c.Request.Context()
	signed, err := s.keys.SignAs(ctx, keys.RS256, introspectionType, struct {
		Issuer        string               `json:"iss"`
		Audience      string               `json:"aud"`
		IssuedAt      int64                `json:"iat"`
		Introspection tokens.Introspection `json:"token_introspection"`
	}{s.tokens.Issuer(), client.ID, time.Now().Unix(), answer})
	if err != nil {
		Fail(ctx, c.Writer, err)
		return
	}
	c.Header("Content-Type", "application/"+introspectionType)
	c.Status(http.StatusOK)
	_, _ = c.Writer.WriteString(signed)
}
