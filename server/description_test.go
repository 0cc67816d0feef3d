package server_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"signet/docs"
)

// description is docs/openapi.yaml, made ready to hold requests and answers against it.
type description struct {
	doc      *openapi3.T
	compiler *jsonschema.Compiler
	schemas  sync.Map // compiled schemas, by their place in the document
	mu       sync.Mutex
}

const specURL = "https://signet.example/openapi.json"

// spec loads the description once.
var spec = sync.OnceValue(func() *description {
	s := &description{compiler: jsonschema.NewCompiler()}
	err := func() (err error) {
		loader := openapi3.NewLoader()
		if s.doc, err = loader.LoadFromData(docs.OpenAPI); err != nil {
			return err
		}
		if err = s.doc.Validate(loader.Context); err != nil {
			return err
		}
		text, err := s.doc.MarshalJSON()
		if err != nil {
			return err
		}
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return err
		}
		s.compiler.DefaultDraft(jsonschema.Draft2020)
		s.compiler.AssertFormat()
		return s.compiler.AddResource(specURL, document)
	}()
	if err != nil {
		panic("docs/openapi.yaml: " + err.Error())
	}
	return s
})

// schema compiles the schema at the place in the document: a JSON pointer, as a reference has it.
func (s *description) schema(place string) *jsonschema.Schema {
	if known, ok := s.schemas.Load(place); ok {
		return known.(*jsonschema.Schema)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	schema, err := s.compiler.Compile(specURL + place)
	if err != nil {
		panic("docs/openapi.yaml: " + err.Error())
	}
	s.schemas.Store(place, schema)
	return schema
}

var pointerStep = strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D")

// below is the JSON pointer to what is below a place.
func below(place string, path ...string) string {
	for _, step := range path {
		place += "/" + pointerStep.Replace(step)
	}
	return place
}

// at is where the thing at a place is described: there, or where its reference leads. Schemas need none of it: what stands
// beside a reference counts there, and the compiler follows them itself.
func at(ref, place string) string {
	if ref != "" {
		return ref
	}
	return place
}

// find returns the path of the document that a request's path is one of, and the values in it.
func (s *description) find(u *url.URL) (path string, item *openapi3.PathItem, values map[string]string) {
	for _, path := range s.doc.Paths.InMatchingOrder() {
		want, got := strings.Split(path, "/"), strings.Split(u.EscapedPath(), "/")
		values := map[string]string{}
		if len(got) == len(want) && !slices.ContainsFunc(want, func(segment string) bool {
			value := got[0]
			got = got[1:]
			if name, ok := strings.CutPrefix(segment, "{"); ok {
				values[strings.TrimSuffix(name, "}")], _ = url.PathUnescape(value)
				return value == ""
			}
			return value != segment
		}) {
			return path, s.doc.Paths.Value(path), values
		}
	}
	return "", nil, nil
}

// undescribed tells whether a path is none of the description's: pages are no API.
func undescribed(path string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return slices.Contains([]string{"console", "authorize", "login", "consent", "logout", "static", "device", "forgotten", "reset", "sign-up", "join", "me", "playground"}, first)
}

// conform tells what of an answer, or of a request that succeeded, is not as the description says.
func (s *description) conform(req *http.Request, status int, header http.Header, body []byte) error {
	if undescribed(req.URL.Path) {
		return nil
	}
	path, item, values := s.find(req.URL)
	if item == nil {
		if status != http.StatusNotFound {
			return fmt.Errorf("the path is not described, and the answer is not 404")
		}
		if strings.HasPrefix(req.Header.Get("Accept"), "text/html") && strings.HasPrefix(header.Get("Content-Type"), "text/html") {
			return nil // a page for somebody at a browser
		}
		return s.answers(req.Method, "#/components/responses/NotFound", s.doc.Components.Responses["NotFound"].Value, header, body)
	}
	operations := item.Operations()
	operation := operations[req.Method]
	if status == http.StatusMethodNotAllowed {
		delete(operations, http.MethodOptions) // what is described are preflights, which may be off
		allowed := strings.Split(header.Get("Allow"), ", ")
		slices.Sort(allowed)
		if methods := slices.Sorted(maps.Keys(operations)); !slices.Equal(allowed, methods) || operations[req.Method] != nil {
			return fmt.Errorf("the answer allows %q, and %q are described", allowed, methods)
		}
		return s.answers(req.Method, "#/components/responses/MethodNotAllowed", s.doc.Components.Responses["MethodNotAllowed"].Value, header, body)
	}
	if operation == nil {
		return errors.New("the method is not described, and the answer is not 405")
	}
	place := below("#/paths", path, strings.ToLower(req.Method))
	response := operation.Responses.Value(strconv.Itoa(status))
	if response == nil {
		return fmt.Errorf("the status %d is not described", status)
	}
	err := s.answers(req.Method, at(response.Ref, below(place, "responses", strconv.Itoa(status))), response.Value, header, body)
	if err == nil && status/100 == 2 {
		err = s.parameters(path, item, operation, values, req)
	}
	if err == nil && status/100 == 2 {
		err = s.body(place, operation.RequestBody, req)
	}
	return err
}

// everywhere are headers that HTTP itself brings.
var everywhere = []string{"Connection", "Content-Length", "Content-Type", "Date"}

// answers tells what of an answer is not as the response at the place says.
func (s *description) answers(method, place string, response *openapi3.Response, header http.Header, body []byte) error {
	unknown := header.Clone()
	for _, name := range everywhere {
		unknown.Del(name)
	}
	for name, h := range response.Headers {
		unknown.Del(name)
		got := header.Values(name)
		if len(got) == 0 && !h.Value.Required {
			continue
		}
		if len(got) != 1 && (name != "Set-Cookie" && name != "WWW-Authenticate" || len(got) == 0) { // one for each cookie or scheme
			return fmt.Errorf("the header %s is there %d times", name, len(got))
		}
		schema := s.schema(below(at(h.Ref, below(place, "headers", name)), "schema"))
		for _, value := range got {
			if err := schema.Validate(typed(h.Value.Schema.Value, value)); err != nil {
				return fmt.Errorf("the header %s: %w", name, err)
			}
		}
	}
	switch {
	case len(unknown) > 0:
		return fmt.Errorf("headers that are not described: %v", unknown)
	case method == http.MethodHead:
		return nil
	case len(response.Content) == 0 && (len(body) > 0 || header.Get("Content-Type") != ""):
		return errors.New("the answer has a body, and none is described")
	case len(response.Content) == 0:
		return nil
	}
	mediaType, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	content := response.Content[mediaType]
	if err != nil || content == nil {
		return fmt.Errorf("the content type %q is not described", header.Get("Content-Type"))
	}
	if content.Schema == nil {
		return nil
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	return s.schema(below(place, "content", mediaType, "schema")).Validate(value)
}

// parameters tells what of the parameters in a request's path and query is not as the description says.
func (s *description) parameters(path string, item *openapi3.PathItem, operation *openapi3.Operation, inPath map[string]string, req *http.Request) error {
	query := req.URL.Query()
	check := func(place string, parameters openapi3.Parameters) error {
		for i, p := range parameters {
			value := inPath[p.Value.Name]
			if p.Value.In == openapi3.ParameterInQuery {
				value = query.Get(p.Value.Name)
				query.Del(p.Value.Name)
			}
			if value == "" { // which is as good as none
				continue
			}
			schema := s.schema(below(at(p.Ref, below(place, "parameters", strconv.Itoa(i))), "schema"))
			if err := schema.Validate(typed(p.Value.Schema.Value, value)); err != nil {
				return fmt.Errorf("the parameter %s: %w", p.Value.Name, err)
			}
		}
		return nil
	}
	place := below("#/paths", path)
	if err := check(place, item.Parameters); err != nil {
		return err
	}
	if err := check(below(place, strings.ToLower(req.Method)), operation.Parameters); err != nil {
		return err
	}
	if len(query) > 0 && len(operation.Parameters) > 0 { // elsewhere the query is not looked at
		return fmt.Errorf("parameters that are not described: %v", query)
	}
	return nil
}

// body tells what of a request's body is not as the operation at the place says.
func (s *description) body(place string, body *openapi3.RequestBodyRef, req *http.Request) error {
	sent, err := bodyOf(req)
	switch {
	case err != nil:
		return err
	case body == nil && len(sent) > 0:
		return errors.New("the request has a body, and none is described")
	case body == nil || len(sent) == 0 && !body.Value.Required:
		return nil
	}
	mediaType, _, _ := mime.ParseMediaType(req.Header.Get("Content-Type"))
	content := body.Value.Content[mediaType]
	if content == nil {
		return fmt.Errorf("the request's content type %q is not described", req.Header.Get("Content-Type"))
	}
	value, err := decodeBody(mediaType, sent)
	if err != nil {
		return err
	}
	schema := s.schema(below(at(body.Ref, below(place, "requestBody")), "content", mediaType, "schema"))
	if err := schema.Validate(value); err != nil {
		return fmt.Errorf("the request: %w", err)
	}
	return nil
}

// typed is the value of a header or a parameter as what its schema is about.
func typed(schema *openapi3.Schema, text string) any {
	if schema.Type.Is(openapi3.TypeInteger) && json.Valid([]byte(text)) {
		return json.Number(text)
	}
	return text
}

func bodyOf(req *http.Request) ([]byte, error) {
	if req.GetBody == nil {
		return nil, nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(body)
}

// decodeBody decodes a form or JSON, without what counts as left out: empty parameters, and members that are null.
func decodeBody(mediaType string, body []byte) (any, error) {
	if mediaType == "application/json" {
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
		if object, ok := value.(map[string]any); ok {
			maps.DeleteFunc(object, func(_ string, v any) bool { return v == nil })
		}
		return value, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	object := map[string]any{}
	for name, values := range form {
		list := []any{}
		for _, v := range values {
			if v != "" {
				list = append(list, v)
			}
		}
		switch {
		case len(list) == 0:
		case name == "resource": // alone may be repeated
			object[name] = list
		default:
			object[name] = list[0]
		}
	}
	return object, nil
}

// described is a transport that lets no answer pass that is not as docs/openapi.yaml says.
type described struct{ http.RoundTripper }

func (d described) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := d.RoundTripper.RoundTrip(req)
	if err != nil {
		return res, err
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	if err := spec().conform(req, res.StatusCode, res.Header, body); err != nil {
		return nil, fmt.Errorf("not as docs/openapi.yaml says: %d %s: %w", res.StatusCode, body, err)
	}
	return res, nil
}
