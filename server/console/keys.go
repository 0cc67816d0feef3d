package console

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"signet/keys"
)

func (s *Console) listKeys(v *visit) error {
	return s.showKeys(v, http.StatusOK, "")
}

func (s *Console) showKeys(v *visit, status int, problem string) error {
	rows, err := s.Keys.List(v.ctx())
	if err != nil {
		return err
	}
	order := []keys.State{keys.Current, keys.Next, keys.Retired}
	slices.SortStableFunc(rows, func(a, b keys.Key) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.State()), slices.Index(order, b.State())), b.RetiredAt.Compare(a.RetiredAt))
	})
	return s.show(v, status, "keys", page{Title: "Keys", Section: "Keys", Data: map[string]any{
		"Rows": rows, "Shared": shared(rows), "Problem": problem, "JWKS": strings.TrimSuffix(s.base, "/console") + "/.well-known/jwks.json",
	}})
}

// shared tells whether tokens are signed with a secret that programs share, which is not rotated here.
func shared(rows []keys.Key) bool {
	return slices.ContainsFunc(rows, func(k keys.Key) bool { return k.State() == keys.Current && k.Algorithm == keys.HS256 })
}

func (s *Console) confirmRotation(v *visit) error {
	return s.show(v, http.StatusOK, "confirm", page{Title: "Rotate the keys", Section: "Keys", Data: confirmation{
		Question: "Rotate the signing keys?",
		Consequence: "The next key signs from now on, and a new next one is published. The current one stays published until the last token " +
			"that it signed has expired, so that nobody is logged out. Twice within a few minutes is too often: verifiers keep the published keys for that long.",
		Action: s.url("/keys/rotate"), Button: "Rotate the keys", Cancel: s.url("/keys"), Harmless: true,
	}})
}

func (s *Console) rotateKeys(v *visit) error {
	rows, err := s.Keys.List(v.ctx())
	if err != nil {
		return err
	}
	if shared(rows) {
		return s.showKeys(v, http.StatusConflict, "HS256 has no key to rotate: change SIGNET_SIGNING_SECRET and restart the server.")
	}
	if _, err := s.Keys.Rotate(v.ctx(), v.origin()); err != nil {
		return err
	}
	s.redirect(v.Context, "/keys", "done", "keys-rotated")
	return nil
}
