package console

import (
	"cmp"
	"errors"
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

func (s *Console) confirmKeyRevocation(v *visit) error {
	rows, err := s.Keys.List(v.ctx())
	if err != nil {
		return err
	}
	i := slices.IndexFunc(rows, func(k keys.Key) bool { return k.ID == v.Query("id") })
	if i < 0 {
		s.redirect(v.Context, "/keys", "done", "key-gone")
		return nil
	}
	return s.show(v, http.StatusOK, "confirm", page{Title: "Revoke a key", Section: "Keys", Data: confirmation{
		Question: "Revoke the " + string(rows[i].State()) + " key " + rows[i].ID + "?",
		Consequence: "For a key that has leaked. Every access token and ID token that it signed is refused from then on, the genuine ones too, on all " +
			"replicas within 30 seconds. Apps refresh, and nobody is logged out. APIs that check tokens by themselves go on taking the key's tokens until " +
			"they fetch the keys anew: restart them.",
		Action: s.url("/keys/revoke"), ID: rows[i].ID, Button: "Revoke the key", Cancel: s.url("/keys"),
	}})
}

func (s *Console) revokeKey(v *visit) error {
	word := "key-revoked"
	err := s.Keys.Revoke(v.ctx(), v.form("id"), v.origin())
	switch {
	case errors.Is(err, keys.ErrNotRotatable):
		return s.showKeys(v, http.StatusConflict, "The secret of HS256 cannot be revoked here: change SIGNET_SIGNING_SECRET and restart the server, then revoke the old one.")
	case errors.Is(err, keys.ErrNoKey):
		word = "key-gone"
	case err != nil:
		return err
	}
	s.redirect(v.Context, "/keys", "done", word)
	return nil
}
