package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"signet/clients"
	"signet/logins"
	"signet/server/request"
	"signet/tokens"
	"signet/users"
)

// Error is an error answer (RFC 6749 section 5.2). It is always handled by pointer: the library looks errors up in a map.
type Error struct {
	Status      int
	Code        string
	Description string // for the caller's developer; no detail of this server, and none of the characters " and \
	RetryAfter  time.Duration
	Challenge   string // the WWW-Authenticate of a 401 or 403; empty: HTTP Basic for a 401
	OrByProof   bool   // the scheme DPoP would do as well (RFC 9449 section 7.2)
	Cause       error  // for the log
}

func (e *Error) Error() string { return e.Code + ": " + e.Description }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

func badRequest(code, description string) *Error {
	return &Error{Status: http.StatusBadRequest, Code: code, Description: description}
}

func invalidRequest(description string) *Error { return badRequest("invalid_request", description) }

func invalidClient(description string) *Error {
	return &Error{Status: http.StatusUnauthorized, Code: "invalid_client", Description: description}
}

// retryAfter is what clients are told to wait when the database is gone or there is too much to do.
const retryAfter = 2 * time.Second

// explain turns the error of a room into the answer. Whatever is not one of the rooms' own errors came from the database.
func explain(err error) *Error {
	var answer *Error
	var throttled *users.ThrottledError
	if e := explainProof(err); e != nil && !errors.As(err, &answer) {
		return e
	}
	switch {
	case errors.As(err, &answer):
		return answer
	case errors.Is(err, clients.ErrUnauthenticated):
		return invalidClient("the client is unknown or disabled, or did not prove who it is")
	case errors.Is(err, clients.ErrDocument):
		return invalidClient(printable(err.Error()))
	case errors.Is(err, users.ErrBadCredentials):
		return badRequest("invalid_grant", "the username or the password is wrong")
	case errors.Is(err, logins.ErrNeedsFactor):
		return badRequest("invalid_grant", "this user has, or needs, a second factor: log in with a browser, at /authorize")
	case errors.As(err, &throttled):
		return &Error{
			Status: http.StatusTooManyRequests, Code: "temporarily_unavailable",
			Description: "too many failed logins; try again later", RetryAfter: throttled.RetryAfter,
		}
	case errors.Is(err, tokens.ErrUnfittingCode):
		return badRequest("invalid_grant", "the redirect_uri, the code_verifier or the DPoP key is not the one that the code was asked for with")
	case errors.Is(err, tokens.ErrReusedCode):
		return badRequest("invalid_grant", "the code was used before, and the session that it began has been ended: a code is good once")
	case errors.Is(err, tokens.ErrInvalidCode):
		return badRequest("invalid_grant", "the code is unknown, expired or used, or was issued to another client, or its user is logged in no more")
	case errors.Is(err, tokens.ErrInvalidGrant):
		return badRequest("invalid_grant", "the refresh token is unknown, expired, used or revoked, or belongs to another client")
	case errors.Is(err, tokens.ErrInvalidScope):
		return badRequest("invalid_scope", "the scope goes beyond what was granted")
	case errors.Is(err, tokens.ErrInvalidTarget):
		return badRequest("invalid_target", "the resource is not one that was granted")
	case errors.Is(err, tokens.ErrOtherClient):
		return badRequest("unauthorized_client", "the token was issued to another client")
	default:
		return &Error{
			Status: http.StatusServiceUnavailable, Code: "temporarily_unavailable",
			Description: "the server cannot answer at the moment; try again", RetryAfter: retryAfter, Cause: err,
		}
	}
}

// header returns the headers that the answer has beyond those of every answer.
func (e *Error) header() http.Header {
	h := http.Header{}
	switch {
	case e.Challenge != "":
		h.Set("WWW-Authenticate", e.Challenge)
		if e.OrByProof {
			h.Add("WWW-Authenticate", "DPoP "+proofAlgs)
		}
	case e.Status == http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Basic realm="signet"`)
	}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", inSeconds(e.RetryAfter))
	}
	return h
}

// setRetryAfter says on a page how long to wait.
func setRetryAfter(c *gin.Context, d time.Duration) { c.Header("Retry-After", inSeconds(d)) }

// inSeconds is a length of time as the header Retry-After has it.
func inSeconds(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }

// Fail answers with the error, which may be an *Error or one of a room's, and leaves it in the request's log line.
func Fail(ctx context.Context, w http.ResponseWriter, err error) {
	e := explain(err)
	request.From(ctx).Err = err
	if e == ErrForeignOrigin { // that page may be another client's: it learns nothing, not even why
		w.Header().Del("Access-Control-Allow-Origin")
		w.Header().Del("Access-Control-Allow-Credentials")
	}
	for name, values := range e.header() {
		w.Header()[name] = values
	}
	WriteError(w, e.Status, e.Code, e.Description)
}

// FailResource is Fail for what access tokens are presented to: the challenge is of the scheme that the token came with (RFC 9449 section 7.1).
func FailResource(c *gin.Context, err error) {
	e := explain(err)
	scheme, _, sent := strings.Cut(c.GetHeader("Authorization"), " ")
	if parameters, bearer := strings.CutPrefix(e.Challenge, "Bearer "); bearer && sent && strings.EqualFold(scheme, tokens.DPoP) {
		proven := *e
		proven.Challenge, proven.OrByProof = "DPoP "+parameters+", "+proofAlgs, false
		err = &proven
	}
	Fail(c.Request.Context(), c.Writer, err)
}

// WriteError answers with an error object.
func WriteError(w http.ResponseWriter, status int, code, description string) {
	writeJSON(w, status, struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}{code, description})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		slog.Error("cannot encode an answer", "error", err)
		status, body = http.StatusInternalServerError, []byte(`{"error":"server_error","error_description":"the answer could not be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // whoever hung up needs no answer
}
