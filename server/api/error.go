package api

import (
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"signet/clients"
	"signet/keys"
	"signet/logins"
	"signet/server/oauth"
	"signet/tokens"
	"signet/users"
)

// denied is the answer to a token that does not do (RFC 6750 section 3.1).
func denied(err error, scope string) error {
	switch {
	case errors.Is(err, tokens.ErrInvalidToken):
		description := "the access token is unknown, expired or revoked, its audience is not this server, or it is bound to a key (DPoP) that the request does not prove"
		return &oauth.Error{
			Status: http.StatusUnauthorized, Code: "invalid_token", Description: description,
			Challenge: `Bearer error="invalid_token", error_description="` + description + `"`, OrByProof: true,
		}
	case errors.Is(err, tokens.ErrInsufficientScope):
		return insufficient(scope)
	default:
		return err
	}
}

func insufficient(scope string) error {
	description := "the access token must hold the scope " + scope
	if scope == clients.ScopeAdmin {
		description += ", and its user must be an admin"
	}
	return &oauth.Error{
		Status: http.StatusForbidden, Code: "insufficient_scope", Description: description,
		Challenge: `Bearer error="insufficient_scope", error_description="` + description + `", scope="` + scope + `"`,
	}
}

func badRequest(description string) error {
	return &oauth.Error{Status: http.StatusBadRequest, Code: "invalid_request", Description: description}
}

// bad says what is wrong with a member of the body or a parameter of the query.
func bad(name, problem string) error { return badRequest(name + ": " + problem) }

func notFound(description string) error {
	return &oauth.Error{Status: http.StatusNotFound, Code: "not_found", Description: description}
}

// fail answers with the error. What is none of these is the same for every endpoint.
func fail(c *gin.Context, err error) {
	var field *clients.FieldError
	var member *users.ProfileError
	switch {
	case errors.As(err, &member):
		err = bad(member.Member, member.Problem)
	case errors.Is(err, users.ErrEmailTaken):
		err = badRequest(err.Error())
	case errors.As(err, &field):
		err = &oauth.Error{Status: http.StatusBadRequest, Code: "invalid_client_metadata", Description: field.Error()}
	case errors.Is(err, clients.ErrExists):
		err = &oauth.Error{Status: http.StatusBadRequest, Code: "invalid_client_metadata", Description: "client_id: a client with this id exists already"}
	case errors.Is(err, clients.ErrNotFound):
		err = notFound("there is no such client")
	case errors.Is(err, clients.ErrNoInitialToken):
		err = notFound("there is no such initial access token that is good")
	case errors.Is(err, clients.ErrNoScope):
		err = notFound("there is no such scope that is described")
	case errors.Is(err, users.ErrNotFound):
		err = notFound("there is no such user")
	case errors.Is(err, users.ErrExists):
		err = bad("username", "a user with this name exists already")
	case errors.Is(err, users.ErrUsername), errors.Is(err, users.ErrPassword), errors.Is(err, users.ErrDisabled), errors.Is(err, keys.ErrNotRotatable):
		err = badRequest(err.Error()) // the first two begin with the member's name
	case errors.Is(err, logins.ErrNoFactor):
		err = notFound("there is no such factor")
	case errors.Is(err, logins.ErrWrongFactor):
		err = bad("code", "is not one that the app shows now")
	case errors.Is(err, logins.ErrEnrolment):
		err = bad("enrolment", "is of another session, or too old: begin anew")
	case errors.Is(err, logins.ErrFactorExists), errors.Is(err, logins.ErrFactorName), errors.Is(err, logins.ErrTooManyFactors):
		err = badRequest(err.Error())
	case errors.Is(err, keys.ErrNoKey):
		err = notFound("there is no such signing key")
	case errors.Is(err, tokens.ErrNoSession):
		err = notFound("there is no such session")
	}
	oauth.FailResource(c, err)
}
