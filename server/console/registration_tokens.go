package console

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"signet/clients"
)

// tokenForm is the form of an initial access token that is to be made.
type tokenForm struct {
	Uses, TTL string
	Problems  map[string]string // by the field's name
}

func (s *Console) listRegistrationTokens(v *visit) error {
	return s.showRegistrationTokens(v, http.StatusOK, tokenForm{strconv.Itoa(clients.InitialTokenUses), clients.FormatTTL(clients.InitialTokenTTL), nil})
}

func (s *Console) showRegistrationTokens(v *visit, status int, f tokenForm) error {
	rows, err := s.Clients.RegistrationTokens(v.ctx())
	if err != nil {
		return err
	}
	return s.show(v, status, "registration-tokens", page{Title: "Initial access tokens", Section: "Clients", Data: map[string]any{
		"Rows": rows, "Form": f, "Mode": string(s.Clients.Registration()),
	}})
}

// makeRegistrationToken makes an initial access token, and shows it once.
func (s *Console) makeRegistrationToken(v *visit) error {
	f := tokenForm{strings.TrimSpace(v.form("uses")), strings.TrimSpace(v.form("ttl")), map[string]string{}}
	uses, err := strconv.Atoi(f.Uses)
	if err != nil {
		f.Problems["uses"] = "Uses: must be a number"
	}
	ttl, err := clients.ParseTTL(f.TTL)
	if err != nil {
		f.Problems["ttl"] = "Good for: " + err.Error()
	}
	if len(f.Problems) > 0 {
		return s.showRegistrationTokens(v, http.StatusUnprocessableEntity, f)
	}
	made, err := s.Clients.NewRegistrationToken(v.ctx(), uses, ttl, v.origin())
	if field := (*clients.FieldError)(nil); errors.As(err, &field) {
		called := map[string]string{"uses": "Uses: ", "ttl": "Good for: "}
		f.Problems[field.Field] = called[field.Field] + field.Problem
		return s.showRegistrationTokens(v, http.StatusUnprocessableEntity, f)
	}
	if err != nil {
		return err
	}
	return s.show(v, http.StatusOK, "registration-token", page{
		Title: "Initial access token", Section: "Clients", Back: s.url("/registration-tokens"), Data: map[string]any{"Made": made, "Endpoint": s.Tokens.Issuer() + "/register"},
	})
}

func (s *Console) revokeRegistrationToken(v *visit) error {
	err := s.Clients.RevokeRegistrationToken(v.ctx(), v.form("id"), v.origin())
	switch {
	case errors.Is(err, clients.ErrNoInitialToken):
		s.redirect(v.Context, "/registration-tokens", "done", "registration-gone")
		return nil
	case err != nil:
		return err
	}
	s.redirect(v.Context, "/registration-tokens", "done", "registration-revoked")
	return nil
}
