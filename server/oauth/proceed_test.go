package oauth

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"signet/authorizations"
	"signet/clients"
	"signet/logins"
)

// Where a code is issued without a look at the login first, a look would have led to the same code, whosever login it is.
func TestAnyLoginDoes(t *testing.T) {
	t.Parallel()
	some := func(of ...string) *rapid.Generator[[]string] {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(of), 0, 2, rapid.ID)
	}
	subject := rapid.SampledFrom([]string{"", "", "", "alice", "bob", "?"})
	done := map[bool]int{}
	property := func(r *rapid.T) {
		now := time.Now()
		s := &Server{logins: logins.New(nil, logins.Config{
			Issuer: "https://auth.example.com",
			Policy: rapid.SampledFrom([]logins.Policy{logins.Optional, logins.Optional, logins.Admins, logins.Required}).Draw(r, "policy"),
		}, nil)}
		client := &clients.Client{
			ApplicationType: rapid.SampledFrom([]clients.ApplicationType{clients.Web, clients.Native}).Draw(r, "type"),
			AuthMethod:      rapid.SampledFrom([]clients.AuthMethod{clients.None, clients.SecretBasic}).Draw(r, "method"),
			SkipConsent:     rapid.Bool().Draw(r, "skips consent"),
			Registered:      rapid.Bool().Draw(r, "registered"),
		}
		req := &authorizations.Request{
			RedirectURI:   rapid.SampledFrom([]string{"https://app.example.com/cb", "http://127.0.0.1/cb"}).Draw(r, "redirect URI"),
			Scope:         some("openid", "read", clients.ScopeAdmin).Draw(r, "scope"),
			Prompt:        some("", "none", "login", "consent", "select_account").Draw(r, "prompt"),
			MaxAge:        rapid.SampledFrom([]*time.Duration{nil, nil, new(time.Duration), new(time.Hour)}).Draw(r, "max_age"),
			Classes:       some(logins.Classes...).Draw(r, "acr_values"),
			HintedSubject: subject.Draw(r, "hint"),
			Claims:        authorizations.Claims{Subject: subject.Draw(r, "sub"), Classes: some(logins.Classes...).Draw(r, "acr")},
		}
		st := standing{proved: rapid.Bool().Draw(r, "proved"), chosen: rapid.Bool().Draw(r, "chosen")}
		does := s.anyLoginDoes(client, req, st)
		done[does]++
		if !does {
			return
		}
		l := logins.Login{
			Authentication: logins.Authentication{
				Time:  now.Add(-time.Duration(rapid.IntRange(0, 1e6).Draw(r, "age")) * time.Second),
				Class: rapid.SampledFrom(logins.Classes).Draw(r, "class"),
			},
			UserID: rapid.SampledFrom([]string{"alice", "bob"}).Draw(r, "user"), Admin: rapid.Bool().Draw(r, "admin"), Now: now,
		}
		allowed := authorizations.Consent{Scope: req.ConsentScope(), Audience: req.Audience}
		if ask, refused := s.wanted(req, client, l, allowed, true, st); ask != nil || refused != nil {
			r.Fatalf("it is asked %v, refused %v", ask, refused)
		}
	}
	for range 50 { // of 100 each: what matters is rare
		rapid.Check(t, property)
	}
	if done[true] == 0 || done[false] == 0 {
		t.Errorf("of each: %v", done)
	}
}
