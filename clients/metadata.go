package clients

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
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

// Decode reads one JSON object of which v knows every member. Its errors are FieldErrors.
func Decode(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if mistyped := (*json.UnmarshalTypeError)(nil); errors.As(err, &mistyped) && mistyped.Field != "" {
		field, _, _ := strings.Cut(mistyped.Field, ".")
		return invalid(field, "must not be a JSON %s", mistyped.Value)
	}
	if err != nil {
		if name, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); unknown {
			return invalid(strings.Trim(name, `"`), "is not a member that is known here")
		}
	}
	if err != nil || bytes.Equal(bytes.TrimSpace(text), []byte("null")) {
		return invalid("", "a JSON object is wanted")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return invalid("", "one JSON object is wanted, and nothing behind it")
	}
	return nil
}
