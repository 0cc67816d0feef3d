package clients

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"unicode/utf8"
)

// wire is the client object of the public contract, with RFC 7591's names where it has one.
type wire struct {
	ID              string     `json:"client_id"`
	Secret          string     `json:"client_secret,omitempty"`
	IssuedAt        int64      `json:"client_id_issued_at"`
	SecretExpiresAt int64      `json:"client_secret_expires_at"`
	Name            string     `json:"client_name"`
	Grants          []Grant    `json:"grant_types"`
	AuthMethod      AuthMethod `json:"token_endpoint_auth_method"`
	Scope           string     `json:"scope"`
	Audience        []string   `json:"audience"`
	RedirectURIs    []string   `json:"redirect_uris"`
	BrowserOrigins  []string   `json:"browser_origins"`
	ResourceServer  bool       `json:"resource_server"`
	Disabled        bool       `json:"disabled"`
}

// MarshalJSON writes the client object, without the digests.
func (c Client) MarshalJSON() ([]byte, error) {
	return json.Marshal(wire{
		ID: c.ID, Secret: c.Secret, IssuedAt: c.CreatedAt.Unix(), Name: c.Name, Grants: orEmpty(c.Grants), AuthMethod: c.AuthMethod,
		Scope: c.Scope.String(), Audience: orEmpty(c.Audience), RedirectURIs: orEmpty(c.RedirectURIs),
		BrowserOrigins: orEmpty(c.BrowserOrigins), ResourceServer: c.ResourceServer, Disabled: c.Disabled,
	})
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// ParseMetadata reads a client object. Members that only the server sets, and those that are left out or null, are ignored; the
// secret is taken over, for the caller to refuse or to check. Its errors are FieldErrors, of an empty field where the text is no
// JSON object at all.
func ParseMetadata(text []byte) (Client, error) {
	var w wire
	if err := Decode(text, &w); err != nil {
		return Client{}, err
	}
	c := Client{
		ID: w.ID, Secret: w.Secret, Name: w.Name, Grants: w.Grants, AuthMethod: w.AuthMethod, Audience: w.Audience,
		RedirectURIs: w.RedirectURIs, BrowserOrigins: w.BrowserOrigins, ResourceServer: w.ResourceServer, Disabled: w.Disabled,
	}
	if w.Scope != "" {
		scope, err := ParseScope(w.Scope)
		if err != nil {
			return Client{}, invalid("scope", "%v", err)
		}
		c.Scope = scope
	}
	return c, nil
}

// Decode reads one JSON object into the struct that v points to, which knows every member. Names are what they are, in that
// case, and once: to the decoder of the standard library that is all the same. Its errors are FieldErrors.
func Decode(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return invalid("", "a JSON object is wanted")
	}
	fields := reflect.TypeOf(v).Elem()
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		name, isName := token.(string)
		var value json.RawMessage
		if err != nil || !isName || d.Decode(&value) != nil {
			return invalid("", "a JSON object is wanted")
		}
		if !isMember(fields, name) {
			return invalid(name, "is not a member that is known here")
		}
		if seen[name] {
			return invalid(name, "is there twice")
		}
		if !isText(value) {
			return invalid(name, "is not Unicode text")
		}
		seen[name] = true
	}
	err := json.Unmarshal(text, v)
	if mistyped := (*json.UnmarshalTypeError)(nil); errors.As(err, &mistyped) && mistyped.Field != "" {
		field, _, _ := strings.Cut(mistyped.Field, ".")
		return invalid(field, "must not be a JSON %s", mistyped.Value)
	}
	if err != nil {
		return invalid("", "one JSON object is wanted, and nothing behind it")
	}
	return nil
}

// isMember tells whether a struct has a field of that name in JSON.
func isMember(fields reflect.Type, name string) bool {
	for f := range fields.Fields() {
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag == name {
			return true
		}
	}
	return false
}

// isText tells whether a JSON value is UTF-8 and its escapes are characters: for what is not, the decoder puts in U+FFFD.
func isText(value json.RawMessage) bool {
	var decoded any
	if !utf8.Valid(value) || json.Unmarshal(value, &decoded) != nil {
		return false
	}
	const replacement = "\ufffd"
	if bytes.Contains(value, []byte(replacement)) || bytes.Contains(bytes.ToLower(value), []byte(`\ufffd`)) {
		return true // it is meant
	}
	written, err := json.Marshal(decoded)
	return err == nil && !bytes.Contains(written, []byte(replacement))
}
