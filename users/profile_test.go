package users

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func change(t testing.TB, p Profile, text string) (Profile, error) {
	t.Helper()
	var members map[string]json.RawMessage
	check(t, json.Unmarshal([]byte(text), &members))
	return p.With(members)
}

func TestProfile(t *testing.T) {
	t.Parallel()
	p, err := change(t, Profile{}, `{"name":"Ann","email":"ann@example.com","email_verified":true,"phone_number":"+15551234567","phone_number_verified":true,
		"groups":["staff"],"claims":{"tier":"gold","none":null},"locale":"pt-BR","zoneinfo":"Europe/Berlin","picture":"https://example.com/a.png"}`)
	check(t, err)
	p.UpdatedAt = time.Unix(1000, 0)
	u := User{Username: "ann", Profile: p}
	for scope, want := range map[string]map[string]any{
		"": {}, "openid": {}, "email": {"email": "ann@example.com", "email_verified": true}, "phone": {"phone_number": "+15551234567", "phone_number_verified": true},
		"groups": {"groups": []string{"staff"}},
		"profile": {
			"name": "Ann", "preferred_username": "ann", "locale": "pt-BR", "zoneinfo": "Europe/Berlin", "picture": "https://example.com/a.png",
			"updated_at": int64(1000), "tier": json.RawMessage(`"gold"`),
		},
	} {
		if diff := cmp.Diff(want, u.ClaimsOf([]string{scope})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", scope, diff)
		}
	}
	p, err = change(t, p, `{"email":"other@example.com","phone_number":"+15550000000"}`)
	if check(t, err); p.EmailVerified || p.PhoneNumberVerified {
		t.Error("a new address, or a new number, is verified")
	}
	if p, err = change(t, p, `{"name":null,"email":"","phone_number":null,"groups":[],"claims":null}`); err != nil || p.Name != "" || p.Email != "" || len(p.Groups) > 0 || len(p.Claims) > 0 || p.Locale != "pt-BR" {
		t.Errorf("%+v, %v", p, err)
	}
	for _, bad := range []string{
		`{"nickname":"x"}`, `{"name":1}`, `{"name":"a\u0000"}`, `{"name":"a\u202eb"}`, `{"name":"` + strings.Repeat("x", 256) + `"}`, `{"picture":"http://example.com/a"}`,
		`{"picture":"javascript:alert(1)"}`, `{"locale":"no language"}`, `{"zoneinfo":"../../etc"}`, `{"email":"Ann <ann@example.com>"}`, `{"email":"ann"}`,
		`{"email_verified":true}`, `{"phone_number":"12"}`, `{"phone_number_verified":true}`, `{"groups":[""]}`, `{"groups":["a","a"]}`, `{"groups":"a"}`,
		`{"claims":{"sub":"x"}}`, `{"claims":{"email":"x"}}`, `{"claims":{"groups":["x"]}}`, `{"claims":{"a b":1}}`, `{"claims":{"":1}}`, `{"claims":[]}`,
		`{"claims":{"a":` + strings.Repeat("[", 9) + strings.Repeat("]", 9) + `}}`, `{"claims":{"a":"` + strings.Repeat("x", 9000) + `"}}`,
		`{"claims":{"a":1e400}}`, `{"claims":{"a":[{"b":-1e309}]}}`, `{"claims":{"a":1e-400}}`, `{"claims":{"a":[1e400,` + strings.Repeat("[", 9) + strings.Repeat("]", 9) + `]}}`,
		`{"claims":{"a":"\u0000"}}`, `{"claims":{"a":{"\ud800":1}}}`,
	} {
		var problem *ProfileError
		if _, err := change(t, Profile{}, bad); !errors.As(err, &problem) {
			t.Errorf("%.60s: %v", bad, err)
		}
	}
	for _, good := range []string{`0.000e-999`, `1.7976931348623157e308`, `123456789012345678901234567890`, `5e-324`, `"\ufffd"`, `"\ud83d\ude00"`} {
		if _, err := change(t, Profile{}, `{"claims":{"a":`+good+`}}`); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, name := range StandardClaims {
		if !Reserved(name) {
			t.Errorf("a user's own claim may be called %s", name)
		}
	}
}

// What was stored before a name was reserved is not shown.
func TestReservedClaimsAreNotShown(t *testing.T) {
	t.Parallel()
	u := User{Username: "ann", Profile: Profile{Claims: map[string]json.RawMessage{"sub": json.RawMessage(`"x"`), "iss": json.RawMessage(`"x"`)}}}
	if diff := cmp.Diff(map[string]any{"preferred_username": "ann"}, u.ClaimsOf([]string{"profile"})); diff != "" {
		t.Error(diff)
	}
}

// FuzzProfile changes a profile by what may be no members at all: it is good, or refused, and stays what it is when it is stored.
func FuzzProfile(f *testing.F) {
	f.Add(`{"name":"Ann","claims":{"a":[1,{"b":null}]}}`)
	f.Add(`{"claims":{"a":"` + "\xff" + `"},"groups":["\u202e"]}`)
	f.Fuzz(func(t *testing.T, text string) {
		var members map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &members) != nil {
			return
		}
		p, err := Profile{}.With(members)
		if err != nil {
			return
		}
		again, err := ParseProfile([]byte(p.Stored()))
		if err != nil || again.Stored() != p.Stored() {
			t.Fatalf("%q is stored as %s, and read as %s: %v", text, p.Stored(), again.Stored(), err)
		}
	})
}
