package oauth

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"unicode/utf8"
)

// maxBody bounds the body of a request, in bytes.
const maxBody = 64 << 10

// parameters are the names that may not stand in the query string, where servers and proxies log them.
var parameters = []string{
	"grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "username", "password", "scope", "resource",
	"refresh_token", "access_token", "token", "token_type_hint", "code", "code_verifier", "redirect_uri", "assertion",
	"request_uri", "state", "nonce", "code_challenge", "dpop_jkt", "id_token_hint", "login_hint", "claims",
	"device_code", "user_code", "subject_token", "subject_token_type", "actor_token", "actor_token_type", "requested_token_type", "audience",
}

// readForm reads the parameters of a request from its body, and refuses them in the query string.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.URL.RawQuery != "" {
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil || slices.ContainsFunc(parameters, query.Has) {
			return nil, invalidRequest("parameters are taken from the body alone, never from the query string")
		}
	}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/x-www-form-urlencoded" {
		return nil, invalidRequest("the Content-Type must be application/x-www-form-urlencoded")
	}
	body, err := ReadBody(w, r)
	if err != nil {
		return nil, err
	}
	return parseForm(string(body))
}

// ReadBody reads the body of a request, or returns the answer to one that is too large or cannot be read.
func ReadBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, &Error{Status: http.StatusRequestEntityTooLarge, Code: "invalid_request", Description: "the body is larger than 64 KiB"}
	}
	if err != nil {
		e := invalidRequest("the body could not be read")
		e.Cause = err
		return nil, e
	}
	return body, nil
}

// parseForm reads a form. Each parameter but resource (RFC 8707 section 2) may be there once; one without a value counts
// as left out (RFC 6749 section 3.2).
func parseForm(body string) (url.Values, error) {
	form, err := url.ParseQuery(body)
	if err != nil {
		return nil, invalidRequest("the body is not a well-formed form")
	}
	for name, values := range form {
		if len(values) > 1 && name != "resource" {
			if slices.Contains(parameters, name) {
				return nil, invalidRequest("the parameter " + name + " is repeated")
			}
			return nil, invalidRequest("a parameter is repeated")
		}
		if slices.ContainsFunc(append(values, name), func(v string) bool { return !utf8.ValidString(v) }) {
			return nil, invalidRequest("the body is not UTF-8")
		}
		if values = slices.DeleteFunc(values, func(v string) bool { return v == "" }); len(values) == 0 {
			delete(form, name)
		} else {
			form[name] = values
		}
	}
	return form, nil
}
