package proofs_test

import (
	"context"
	"strings"
	"testing"

	"signet/keys"
	"signet/proofs"
)

// nothingSpent is a store for what is refused before anything is used up.
type nothingSpent struct{ t *testing.T }

// Spend implements proofs.Store.
func (n nothingSpent) Spend(context.Context, proofs.Once) (bool, error) {
	n.t.Error("something was used up")
	return false, nil
}

// Whatever comes as a DPoP proof or a client assertion, none of it is believed unless somebody signed it.
func FuzzProofs(f *testing.F) {
	secret, err := keys.ParseSecret(keys.NewSecret())
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		"", ".", "..", "e30.e30.", "eyJhbGciOiJub25lIn0.e30.", `{"payload":"","signatures":[]}`, strings.Repeat("A", 1000) + ".e30.x",
		"eyJhbGciOiJFUzI1NiIsInR5cCI6ImRwb3Arand0IiwiandrIjp7Imt0eSI6IkVDIiwiY3J2IjoiUC0yNTYiLCJ4IjoiQSIsInkiOiJBIn19.e30.AAAA",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := proofs.New(nothingSpent{t}, proofs.Config{Issuer: "https://auth.example.com", Secret: secret})
		if key, err := s.ReadProof(text, proofs.Demand{Method: "POST", Path: "/token"}); err == nil || key.Proven() {
			t.Errorf("%q proves a key", text)
		}
		if a, err := proofs.ParseAssertion(text); err == nil && a.ClientID() == "" {
			t.Errorf("%q is an assertion of nobody", text)
		}
	})
}
