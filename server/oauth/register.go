package oauth

import (
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"

	"signet/clients"
	"signet/server/request"
	"signet/users"
)

const registerPath = "/register"

// registerRoutes adds the endpoints by which clients register themselves, if they may.
func (s *Server) registerRoutes(r gin.IRouter) {
	if s.clients.Registration() == clients.RegistrationOff {
		return
	}
	r.POST(registerPath, s.register)
	r.GET(registerPath+"/:id", s.registration)
	r.PUT(registerPath+"/:id", s.reregister)
	r.DELETE(registerPath+"/:id", s.deregister)
}

// register answers POST /register (RFC 7591 section 3).
func (s *Server) register(c *gin.Context) {
	ctx := c.Request.Context()
	info := request.From(ctx)
	initial, err := s.registrationToken(c, s.clients.Registration() == clients.RegistrationToken)
	var asked clients.Client
	if err == nil {
		asked, err = readRegistration(c)
	}
	count := func() error {
		if s.clients.Registration() != clients.RegistrationOpen {
			return nil // the token says how many
		}
		return s.users.CountRegistration(ctx, info.Origin)
	}
	var registered clients.Client
	var token string
	if err == nil {
		registered, token, err = s.clients.Register(ctx, asked, initial, count, info.Origin)
	}
	if err != nil {
		failRegistration(c, err)
		return
	}
	info.ClientID = registered.ID
	s.writeRegistration(c, http.StatusCreated, registered, token)
}

// registration answers GET /register/{client_id} (RFC 7592 section 2.1).
func (s *Server) registration(c *gin.Context) {
	token, err := s.registrationToken(c, true)
	var client clients.Client
	if err == nil {
		client, err = s.clients.Registered(c.Request.Context(), idIn(c), token)
	}
	if err != nil {
		failRegistration(c, err)
		return
	}
	s.writeRegistration(c, http.StatusOK, client, token)
}

// reregister answers PUT /register/{client_id} (RFC 7592 section 2.2).
func (s *Server) reregister(c *gin.Context) {
	ctx := c.Request.Context()
	token, err := s.registrationToken(c, true)
	if err == nil {
		_, err = s.clients.Registered(ctx, idIn(c), token) // whose it is comes first
	}
	var asked, updated clients.Client
	if err == nil {
		asked, err = readRegistration(c)
	}
	if err == nil {
		updated, token, err = s.clients.Reregister(ctx, idIn(c), token, asked, request.From(ctx).Origin)
	}
	if err != nil {
		failRegistration(c, err)
		return
	}
	s.writeRegistration(c, http.StatusOK, updated, token)
}

// deregister answers DELETE /register/{client_id} (RFC 7592 section 2.3).
func (s *Server) deregister(c *gin.Context) {
	ctx := c.Request.Context()
	token, err := s.registrationToken(c, true)
	if err == nil {
		err = s.clients.Deregister(ctx, idIn(c), token, request.From(ctx).Origin)
	}
	if err != nil {
		failRegistration(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

// idIn is the id in the path.
func idIn(c *gin.Context) string {
	id, err := url.PathUnescape(c.Param("id"))
	if err != nil {
		return "" // nobody's
	}
	return id
}

// registrationToken returns the token of the Authorization header (RFC 6750 section 2.1), if it has to be there.
func (s *Server) registrationToken(c *gin.Context, wanted bool) (string, error) {
	headers := c.Request.Header.Values("Authorization")
	if len(headers) == 1 {
		if scheme, token, ok := strings.Cut(headers[0], " "); ok && strings.EqualFold(scheme, "Bearer") {
			return strings.TrimSpace(token), nil
		}
	}
	if !wanted {
		return "", nil
	}
	return "", &Error{
		Status: http.StatusUnauthorized, Code: "invalid_token", Challenge: `Bearer realm="signet"`, Description: "a token is wanted in the Authorization header",
	}
}

// readRegistration reads the metadata in the body.
func readRegistration(c *gin.Context) (clients.Client, error) {
	body, err := ReadBody(c.Writer, c.Request)
	if err != nil {
		return clients.Client{}, err
	}
	if mediaType, _, err := mime.ParseMediaType(c.GetHeader("Content-Type")); err != nil || mediaType != "application/json" {
		return clients.Client{}, badRequest("invalid_client_metadata", "the Content-Type must be application/json")
	}
	return clients.ParseRegistration(body)
}

// writeRegistration answers with the client information response (RFC 7591 section 3.2.1).
func (s *Server) writeRegistration(c *gin.Context, status int, client clients.Client, token string) {
	text, err := json.Marshal(client)
	var members map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(text, &members)
	}
	if err != nil {
		Fail(c.Request.Context(), c.Writer, err)
		return
	}
	// What is not theirs to decide is not theirs to read, either.
	for _, name := range []string{"disabled", "resource_server", "browser_origins", "registered", "skip_consent"} {
		delete(members, name)
	}
	answer := make(map[string]any, len(members)+2)
	for name, value := range members {
		answer[name] = value
	}
	answer["registration_access_token"] = token
	answer["registration_client_uri"] = s.tokens.Issuer() + registerPath + "/" + url.PathEscape(client.ID)
	writeJSON(c.Writer, status, answer)
}

// failRegistration answers with the error (RFC 7591 section 3.2.2, RFC 7592 section 2).
func failRegistration(c *gin.Context, err error) {
	var field *clients.FieldError
	var throttled *users.ThrottledError
	switch {
	case errors.Is(err, clients.ErrRegistrationToken):
		const what = "the token is unknown, used up, expired or another client's"
		err = &Error{
			Status: http.StatusUnauthorized, Code: "invalid_token", Challenge: `Bearer error="invalid_token", error_description="` + what + `"`, Description: what,
		}
	case errors.Is(err, clients.ErrSoftwareStatement):
		err = badRequest("invalid_software_statement", "software statements are not supported")
	case errors.As(err, &throttled):
		err = &Error{
			Status: http.StatusTooManyRequests, Code: "temporarily_unavailable", RetryAfter: throttled.RetryAfter,
			Description: "too many clients have registered from this address; try again later",
		}
	case errors.As(err, &field) && field.Field == "redirect_uris":
		err = badRequest("invalid_redirect_uri", printable(field.Error()))
	case errors.As(err, &field):
		err = badRequest("invalid_client_metadata", printable(field.Error()))
	}
	Fail(c.Request.Context(), c.Writer, err)
}

// printable makes text fit for an error_description (RFC 6749 section 5.2).
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"' || r == '\\':
			return '\''
		case r < ' ' || r > '~':
			return '?'
		}
		return r
	}, s)
}
