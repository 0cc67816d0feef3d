package oauth

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// refusal checks that an error is one that a caller may be told.
func refusal(t *testing.T, err error, statuses ...int) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is not an answer", err)
	}
	for _, status := range statuses {
		if e.Status == status && e.Description != "" && !strings.ContainsAny(e.Description, `"\`) {
			return
		}
	}
	t.Errorf("refused with %d %s", e.Status, e.Description)
}

func FuzzParseForm(f *testing.F) {
	for _, seed := range []string{
		"", "&", "=", "a", "a=", "a=b", "a=b&a=c", "a=&a=b", "a=b&&c=d", "resource=a&resource=b", "resource=&resource=a", "resource=&resource=",
		"grant_type=password&username=alice&password=correct+horse", "token=a%20b", "token=%zz", "token=%", "a=b;c=d", "a=%ff", "%ff=a",
		"a=%00", "a=\x00", "é=é", "=a&=b", "scope=a+b&scope=", "+=+", "a%3Db=c", strings.Repeat("a&", 1000),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		form, err := parseForm(body)
		if err != nil {
			refusal(t, err, http.StatusBadRequest)
			return
		}
		sent, err := url.ParseQuery(body)
		if err != nil {
			t.Fatalf("a malformed form was read: %v", err)
		}
		for name, values := range sent {
			if len(values) > 1 && name != "resource" {
				t.Errorf("%q is there %d times", name, len(values))
			}
			if got, want := form.Get(name), strings.Join(values, ""); name != "resource" && got != want {
				t.Errorf("%q became %q, was %q", name, got, want)
			}
		}
		for name, values := range form {
			if len(values) == 0 || !sent.Has(name) {
				t.Errorf("%q is there, with the values %q", name, values)
			}
			for _, v := range values {
				if v == "" || !utf8.ValidString(v) || !utf8.ValidString(name) {
					t.Errorf("the parameter %q has the value %q", name, v)
				}
			}
		}
		again, err := parseForm(form.Encode())
		if err != nil {
			t.Fatalf("what was read does not pass: %v", err)
		}
		if diff := cmp.Diff(form, again); diff != "" {
			t.Errorf("read again it is another form (-first +second):\n%s", diff)
		}
	})
}

func FuzzParseBasic(f *testing.F) {
	encode := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, seed := range []string{
		"", "Basic", "Basic ", "basic " + base64.StdEncoding.EncodeToString([]byte("a:b")), encode("a:b"), encode("a:"), encode(":b"), encode(":"),
		encode("a"), encode("a:b:c"), encode("a%3Ab:c%20d"), encode("a+b:c"), encode("%zz:c"), encode("a:%zz"), encode("%:%"), encode("\xff:\xff"),
		encode("\x00:\x00"), "Basic YTpi\n", "Bearer YTpi", "Basic  YTpi", "Basic YTpi YTpi", "Basic YTpi=", "BasicYTpi",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		id, secret, ok := parseBasic(header)
		if !ok {
			return
		}
		if id == "" {
			t.Error("a client without an id")
		}
		if len(header) < len("Basic ") || !strings.EqualFold(header[:len("Basic ")], "Basic ") {
			t.Errorf("%q is another scheme", header)
		}
		gotID, gotSecret, ok := parseBasic(encode(url.QueryEscape(id) + ":" + url.QueryEscape(secret)))
		if !ok || gotID != id || gotSecret != secret {
			t.Errorf("%q and %q became %q and %q", id, secret, gotID, gotSecret)
		}
	})
}

func FuzzCredentials(f *testing.F) {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("app:secret"))
	for _, body := range []string{
		"", "client_id=app", "client_id=app&client_secret=secret", "client_secret=secret", "client_id=other", "client_assertion=x",
		"client_assertion_type=x&client_id=app", "client_id=&client_secret=",
	} {
		f.Add("", "", body)
		f.Add(basic, "", body)
		f.Add("Bearer x", "", body)
		f.Add(basic, basic, body)
	}
	f.Fuzz(func(t *testing.T, first, second, body string) {
		form, err := parseForm(body)
		if err != nil || form.Has("client_assertion") || form.Has("client_assertion_type") { // which is read elsewhere, and goes with nothing beside it
			return
		}
		var authorization []string
		for _, h := range []string{first, second} {
			if h != "" {
				authorization = append(authorization, h)
			}
		}
		id, secret, err := credentials(authorization, form)
		if err != nil {
			refusal(t, err, http.StatusBadRequest, http.StatusUnauthorized)
			return
		}
		switch {
		case id == "":
			t.Error("nobody was let through")
		case form.Has("client_id") && form.Get("client_id") != id:
			t.Errorf("the body names %q, and %q was let through", form.Get("client_id"), id)
		case len(authorization) > 1:
			t.Error("one of two authentications was passed over")
		case len(authorization) == 1 && form.Has("client_secret"):
			t.Error("one of two secrets was passed over")
		case len(authorization) == 0 && secret != form.Get("client_secret"):
			t.Errorf("the secret became %q", secret)
		}
	})
}
