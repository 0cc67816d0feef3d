package clients_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"signet/clients"
)

func FuzzParseMetadata(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, `[]`, `{"client_id": "a", "client_name": "A", "grant_types": [], "scope": "a b"}`, `{"scope": "a  b"}`, `{"grant_types": null}`,
		`{"audience": ["https://api.example.com"], "redirect_uris": ["https://app.example.com/cb"], "browser_origins": ["https://app.example.com"]}`,
		`{"unknown": 1}`, `{"client_id": 1}`, `{"client_id": "a", "client_id": "b"}`, `{} {}`, `{"CLIENT_ID": "a"}`, `{"scope": "\ud800"}`, "{\"client_name\": \"\xff\"}",
		`{"client_id_issued_at": 1e400}`, `{"disabled": true, "resource_server": true, "token_endpoint_auth_method": "none"}`, `{"audience": [[[]]]}`,
		`{"client_id": "a", "client_name": "A", "token_endpoint_auth_method": "none", "application_type": "native", "id_token_signed_response_alg": "RS256",
		 "redirect_uris": ["com.example.app:/cb"], "default_max_age": 1, "access_token_ttl": "90m", "require_pkce": true, "contacts": ["x"], "logo_uri": "https://a"}`,
		`{"response_types": []}`, `{"default_max_age": "x"}`, `{"require_pkce": null, "session_ttl": ""}`, `{"details": {}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := clients.ParseMetadata(text)
		var field *clients.FieldError
		if err != nil {
			if !errors.As(err, &field) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if err := c.Validate(); err != nil {
			if !errors.As(err, &field) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		// What is good is written as it was read.
		written, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := clients.ParseMetadata(written)
		if err != nil {
			t.Fatalf("%v: %s", err, written)
		}
		if diff := cmp.Diff(c, again, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

// Where a number is wanted, another kind of number is not refused for being one.
func TestDecodeNumbers(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		`1.5`: "default_max_age: must be a whole number", `1e3`: "default_max_age: must be a whole number",
		`99999999999999999999`: "default_max_age: must be a whole number", `"1h"`: "default_max_age: must not be a JSON string",
	} {
		if _, err := clients.ParseMetadata([]byte(`{"default_max_age": ` + value + `}`)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", value, err, want)
		}
	}
}
