package server_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/gin-gonic/gin"

	"signet/clients"
	"signet/docs"
)

// TestDescriptionHolds makes sure that nothing which the description does not know would pass unseen.
func TestDescriptionHolds(t *testing.T) {
	t.Parallel()
	const uuid = "54d60187-399d-4f09-811f-00f11787432f"
	tokens := `{"access_token":"a.b.c","token_type":"Bearer","expires_in":900,"refresh_token":"sgr_x","scope":"read"}`
	user := `{"id":"` + uuid + `","username":"alice","admin":false,"disabled":false,"created_at":"2026-01-31T12:00:00Z"}`
	type exchange struct {
		method, path, sent string
		status             int
		header             http.Header
		body               string
	}
	good := map[string]exchange{
		"tokens": {"POST", "/token", "grant_type=client_credentials", 200, nil, tokens},
		"user":   {"POST", "/admin/users", `{"username":"alice","password":"correct horse"}`, 201, nil, user},
		"users":  {"GET", "/admin/users?limit=1", "", 200, nil, `{"items":[` + user + `],"next_cursor":"eA"}`},
		"done":   {"DELETE", "/admin/sessions/" + uuid, "", 204, nil, ""},
		"nobody": {"DELETE", "/admin/users/" + uuid, "", 404, nil, `{"error":"not_found","error_description":"there is no such user"}`},
		"wait":   {"POST", "/token", "", 503, http.Header{"Retry-After": {"2"}}, `{"error":"temporarily_unavailable","error_description":"try again"}`},
		"none":   {"GET", "/nothing", "", 404, nil, `{"error":"not_found","error_description":"there is nothing at this path"}`},
		"method": {"PUT", "/token", "", 405, http.Header{"Allow": {"POST"}}, `{"error":"invalid_request","error_description":"this path takes another method"}`},
	}
	judge := func(e exchange) error {
		req := httptest.NewRequest(e.method, e.path, nil)
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(e.sent)), nil }
		if req.Header.Set("Content-Type", "application/x-www-form-urlencoded"); strings.HasPrefix(e.path, "/admin") {
			req.Header.Set("Content-Type", "application/json")
		}
		header := http.Header{
			"X-Request-Id": {"x"}, "Cache-Control": {"no-store"}, "Pragma": {"no-cache"}, "X-Content-Type-Options": {"nosniff"},
			"Content-Type": {"application/json"},
		}
		if e.status == http.StatusNoContent {
			header.Del("Content-Type")
		}
		for name, values := range e.header {
			header[name] = values
			if values == nil {
				delete(header, name)
			}
		}
		return spec().conform(req, e.status, header, []byte(e.body))
	}
	for name, e := range good {
		if err := judge(e); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		of     string
		change func(e *exchange)
	}{
		"another status":                 {"tokens", func(e *exchange) { e.status = 202 }},
		"a status of another operation":  {"tokens", func(e *exchange) { e.status = 201 }},
		"another path":                   {"tokens", func(e *exchange) { e.path = "/tokens" }},
		"another method":                 {"tokens", func(e *exchange) { e.method = "PATCH" }},
		"another header":                 {"tokens", func(e *exchange) { e.header = http.Header{"Server": {"x"}} }},
		"a header that is missing":       {"tokens", func(e *exchange) { e.header = http.Header{"Cache-Control": nil} }},
		"a header twice":                 {"tokens", func(e *exchange) { e.header = http.Header{"Pragma": {"no-cache", "no-cache"}} }},
		"a header of another value":      {"tokens", func(e *exchange) { e.header = http.Header{"Cache-Control": {"public"}} }},
		"a number that is none":          {"wait", func(e *exchange) { e.header = http.Header{"Retry-After": {"soon"}} }},
		"no time to wait":                {"wait", func(e *exchange) { e.header = nil }},
		"a method that may be used":      {"tokens", func(e *exchange) { e.status, e.header = 405, http.Header{"Allow": {"POST"}} }},
		"other methods in Allow":         {"method", func(e *exchange) { e.header = http.Header{"Allow": {"POST, PUT"}} }},
		"no Allow":                       {"method", func(e *exchange) { e.header = nil }},
		"another content type":           {"tokens", func(e *exchange) { e.header = http.Header{"Content-Type": {"text/plain"}} }},
		"no JSON":                        {"tokens", func(e *exchange) { e.body = "tokens" }},
		"another member":                 {"tokens", func(e *exchange) { e.body = strings.Replace(tokens, "{", `{"id_token":"x",`, 1) }},
		"a member that is missing":       {"tokens", func(e *exchange) { e.body = strings.Replace(tokens, `,"scope":"read"`, "", 1) }},
		"a member of another type":       {"tokens", func(e *exchange) { e.body = strings.Replace(tokens, "900", `"900"`, 1) }},
		"a member of another value":      {"tokens", func(e *exchange) { e.body = strings.Replace(tokens, "Bearer", "bearer", 1) }},
		"a password hash":                {"users", func(e *exchange) { e.body = strings.Replace(e.body, `"id"`, `"password_hash":"x","id"`, 1) }},
		"no date":                        {"user", func(e *exchange) { e.body = strings.Replace(user, "T12:00:00Z", "", 1) }},
		"no UUID":                        {"user", func(e *exchange) { e.body = strings.Replace(user, uuid, "1", 1) }},
		"an error code of another place": {"nobody", func(e *exchange) { e.body = strings.Replace(e.body, "not_found", "invalid_grant", 1) }},
		"an error object with more":      {"none", func(e *exchange) { e.body = strings.Replace(e.body, "{", `{"path":"/nothing",`, 1) }},
		"a 404 that is a page":           {"none", func(e *exchange) { e.body = "404 page not found" }},
		"a body where none belongs":      {"done", func(e *exchange) { e.body = "{}" }},
		"a filter that is not described": {"users", func(e *exchange) { e.path += "&name=alice" }},
		"a limit beyond the greatest":    {"users", func(e *exchange) { e.path = "/admin/users?limit=201" }},
		"an id that is none":             {"done", func(e *exchange) { e.path = "/admin/sessions/1" }},
		"a request that lacks a member":  {"user", func(e *exchange) { e.sent = `{"username":"alice"}` }},
		"a request with another member":  {"user", func(e *exchange) { e.sent = strings.Replace(e.sent, "{", `{"id":"x",`, 1) }},
		"a request with a body":          {"done", func(e *exchange) { e.sent = "{}" }},
		"a form with another grant":      {"tokens", func(e *exchange) { e.sent = "grant_type=implicit" }},
	} {
		e := good[c.of]
		if c.change(&e); judge(e) == nil {
			t.Errorf("%s passes", name)
		}
	}
}

// TestDescriptionIsStrict makes sure that every object in an answer names all its members.
func TestDescriptionIsStrict(t *testing.T) {
	t.Parallel()
	forms := []string{"TokenRequest", "TokenForm", "DeviceForm", "RegistrationRequest", "Registration", "UserInfo", "OwnClaims", "PushedRequest", "ClientKey"} // further parameters are ignored, and users have claims of their own
	err := spec().doc.WalkSchemas(func(place string, ref *openapi3.SchemaRef) error {
		open := ref.Value.AdditionalProperties.Has == nil || *ref.Value.AdditionalProperties.Has
		if ref.Ref == "" && ref.Value.Type.Is(openapi3.TypeObject) && open && !slices.ContainsFunc(forms, func(name string) bool { return strings.HasSuffix(place, "/"+name) }) {
			t.Errorf("%s may hold any member", place)
		}
		return nil
	})
	check(t, err)
}

// TestDescriptionIsComplete compares the routes that are served with those that are described.
func TestDescriptionIsComplete(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		served := map[string]bool{}
		for _, route := range r.public.(*gin.Engine).Routes() {
			path := strings.Replace(route.Path, "/.well-known/oauth-authorization-server/auth", "/.well-known/oauth-authorization-server/{issuer_path}", 1)
			if undescribed(path) {
				continue
			}
			served[route.Method+" "+template(path)] = true
		}
		described := map[string]bool{}
		for path, item := range spec().doc.Paths.Map() {
			for method := range item.Operations() {
				if method != http.MethodOptions { // no route: see fromBrowsers
					described[method+" "+template(path)] = true
				}
			}
		}
		equal(t, "the routes of docs/openapi.yaml", described, served)
	}, func(s *settings) { s.issuer, s.registration = "https://example.com/auth", clients.RegistrationOpen })
}

// template names the parameters of a path alike, whichever way they are written.
func template(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if strings.HasPrefix(s, ":") || strings.HasPrefix(s, "{") {
			segments[i] = "*"
		}
	}
	return strings.Join(segments, "/")
}

func TestOpenAPI(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		a := r.get(t, "/openapi.yaml").want(t, http.StatusOK, "")
		if a.body != string(docs.OpenAPI) || a.header.Get("Content-Type") != "application/yaml" {
			t.Errorf("got %q: %.100s", a.header.Get("Content-Type"), a.body)
		}
		for name, want := range map[string]string{"Cache-Control": "public, max-age=300", "Access-Control-Allow-Origin": "*", "Pragma": ""} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
	})
}
