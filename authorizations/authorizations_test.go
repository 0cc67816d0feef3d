package authorizations

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"signet/clients"
	"signet/keys"
)

func newService(t testing.TB) *Service {
	t.Helper()
	secret, err := keys.ParseSecret(keys.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	return New(nil, secret, slog.New(slog.DiscardHandler))
}

var request = &Request{
	ClientID: "shop", RedirectURI: "https://shop.example.com/cb", RedirectSent: true, ResponseMode: Query, State: []byte("\x00\xff"),
	Scope: clients.Scope{"openid"}, Audience: []string{"https://api.example.com"}, MaxAge: new(time.Minute), Claims: Claims{UserInfo: []string{"name"}},
}

// A sealed request opens in the browser and at the stage that it was made for, unchanged, and nowhere else.
func TestSealedRequest(t *testing.T) {
	t.Parallel()
	s, stranger := newService(t), newService(t)
	at := time.Now().UTC()
	sealed := s.Seal(StageConsent, "browser", Pending{Request: request, Login: "login", AuthTime: at})
	p, ok := s.Open(StageConsent, "browser", sealed)
	if diff := cmp.Diff(Pending{Request: request, Login: "login", AuthTime: at}, p); !ok || diff != "" {
		t.Errorf("%v: %s", ok, diff)
	}
	if strings.Contains(sealed, "shop") || sealed == s.Seal(StageConsent, "browser", p) {
		t.Error("it can be read, or is the same twice")
	}
	for name, open := range map[string]func() (Pending, bool){
		"another stage":   func() (Pending, bool) { return s.Open(StageLogin, "browser", sealed) },
		"another browser": func() (Pending, bool) { return s.Open(StageConsent, "other", sealed) },
		"no browser":      func() (Pending, bool) { return s.Open(StageConsent, "", sealed) },
		"another secret":  func() (Pending, bool) { return stranger.Open(StageConsent, "browser", sealed) },
		"too long":        func() (Pending, bool) { return s.Open(StageConsent, "browser", sealed+strings.Repeat("A", maxSealed)) },
		"cut off":         func() (Pending, bool) { return s.Open(StageConsent, "browser", sealed[:len(sealed)-4]) },
	} {
		if _, ok := open(); ok {
			t.Errorf("%s: it opens", name)
		}
	}
	for i := range len(sealed) {
		for bit := range 8 {
			spoilt := []byte(sealed)
			spoilt[i] ^= 1 << bit
			if _, ok := s.Open(StageConsent, "browser", string(spoilt)); ok {
				t.Fatalf("it opens with bit %d of character %d changed", bit, i)
			}
		}
	}
}

// A form that lay open for a day begins anew: what was asked is still known.
func TestSealedRequestExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newService(t)
		sealed := s.Seal(StageLogin, "browser", Pending{Request: request})
		time.Sleep(sealTTL - time.Second)
		if p, ok := s.Open(StageLogin, "browser", sealed); !ok || p.Expired {
			t.Error("it expires too early")
		}
		time.Sleep(24 * time.Hour)
		if p, ok := s.Open(StageLogin, "browser", sealed); !ok || !p.Expired || p.Request.ClientID != "shop" {
			t.Errorf("a day later: %+v, %v", p, ok)
		}
	})
}

func FuzzOpen(f *testing.F) {
	s := newService(f)
	genuine := s.Seal(StageLogin, "browser", Pending{Request: request})
	f.Add(genuine)
	f.Add(genuine[:40])
	f.Fuzz(func(t *testing.T, text string) {
		if _, ok := s.Open(StageLogin, "browser", text); ok && text != genuine {
			t.Fatalf("%q opens", text)
		}
	})
}

// The secret of the session follows from the code, and not the reverse; codes are read as they were written, and no others.
func TestCode(t *testing.T) {
	t.Parallel()
	s := newService(t)
	c := newCode()
	text := s.writeCode(c)
	if got, ok := s.ParseCode(text); !ok || got != c {
		t.Errorf("%+v, want %+v", got, c)
	}
	if slices.Equal(c.SessionSecret(), c.Digest()[:16]) || slices.Equal(c.SessionSecret(), c.secret[:16]) || len(c.SessionSecret()) != 16 {
		t.Error("the session's secret tells of the code's")
	}
}

func FuzzParseCode(f *testing.F) {
	s := newService(f)
	genuine := s.writeCode(newCode())
	f.Add(genuine)
	f.Add("sgc_" + strings.Repeat("A", 88))
	f.Fuzz(func(t *testing.T, text string) {
		if _, ok := s.ParseCode(text); ok && text != genuine {
			t.Fatalf("%q is a code", text)
		}
	})
}

func TestChallenge(t *testing.T) {
	t.Parallel()
	// RFC 7636, appendix B.
	if got, ok := Challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"); !ok || got != "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" || !ValidChallenge(got) {
		t.Errorf("%q, %v", got, ok)
	}
	for _, verifier := range []string{"", strings.Repeat("a", 42), strings.Repeat("a", 129), strings.Repeat("a", 43) + "+", strings.Repeat("ä", 30), strings.Repeat("a", 43) + "\n"} {
		if _, ok := Challenge(verifier); ok {
			t.Errorf("%q is a verifier", verifier)
		}
	}
}

func TestParseClaims(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Claims{
		`{}`: {}, `{"userinfo":null,"other":1}`: {}, `{"userinfo":{"name":null,"email":{"essential":true}}}`: {UserInfo: []string{"email", "name"}},
		`{"id_token":{"auth_time":{"essential":true},"acr":{"values":["1","2"]},"sub":{"value":"x"}}}`: {IDToken: []string{"acr", "auth_time"}, Subject: "x"},
		`{"id_token":{"sub":{"values":["x"]}},"userinfo":{"sub":{"value":"x"}}}`:                       {Subject: "x"},
	} {
		if got, err := ParseClaims(text); err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "null", "[]", `"x"`, "{", "{}{}", `{"userinfo":[]}`, `{"userinfo":{"name":1}}`, `{"id_token":{"sub":{"value":1}}}`, `{"id_token":{"sub":{"values":["a","b"]}}}`,
		`{"id_token":{"sub":{"value":"a"}},"userinfo":{"sub":{"value":"b"}}}`, strings.Repeat(`{"a":`, 9) + "1" + strings.Repeat("}", 9), `{"a":"` + strings.Repeat("x", 17<<10) + `"}`,
	} {
		if got, err := ParseClaims(text); err == nil {
			t.Errorf("%.60q: %+v", text, got)
		}
	}
}

func FuzzParseClaims(f *testing.F) {
	f.Add(`{"userinfo":{"name":{"essential":true}},"id_token":{"sub":{"value":"x"}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseClaims(text)
		if err != nil {
			return
		}
		stored, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var again Claims
		if err := json.Unmarshal(stored, &again); err != nil || cmp.Diff(c.IDToken, again.IDToken) != "" && len(c.IDToken) > 0 {
			t.Fatalf("%q: %s, %v", text, stored, err)
		}
	})
}
