package console

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"signet/clients"
)

// scopeForm is the form of a scope's description.
type scopeForm struct {
	Name, Description string
	Problems          map[string]string // by the field's name
}

func (s *Console) listScopes(v *visit) error {
	return s.showScopes(v, http.StatusOK, scopeForm{Name: v.Query("name")})
}

// showScopes shows the scopes that are described, and the form, which is filled in with what is known of its scope.
func (s *Console) showScopes(v *visit, status int, f scopeForm) error {
	rows, err := s.Clients.Scopes(v.ctx())
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(rows, func(d clients.Described) bool { return d.Name == f.Name }); i >= 0 && f.Description == "" {
		f.Description = rows[i].Description
	}
	return s.show(v, status, "scopes", page{Title: "Scopes", Section: "Scopes", Data: map[string]any{"Rows": rows, "Form": f}})
}

func (s *Console) describeScope(v *visit) error {
	f := scopeForm{Name: strings.TrimSpace(v.form("name")), Description: strings.TrimSpace(v.form("description"))}
	_, err := s.Clients.DescribeScope(v.ctx(), f.Name, f.Description, v.origin())
	if field := (*clients.FieldError)(nil); errors.As(err, &field) {
		called := map[string]string{"name": "Scope: ", "description": "Description: "}
		f.Problems = map[string]string{field.Field: called[field.Field] + field.Problem}
		return s.showScopes(v, http.StatusUnprocessableEntity, f)
	}
	if err == nil {
		s.redirect(v.Context, "/scopes", "done", "scope-saved")
	}
	return err
}

func (s *Console) forgetScope(v *visit) error {
	err := s.Clients.ForgetScope(v.ctx(), v.form("name"), v.origin())
	if err == nil {
		s.redirect(v.Context, "/scopes", "done", "scope-deleted")
	}
	return err
}
