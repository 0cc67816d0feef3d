package console

import (
	"errors"
	"net/http"

	"signet/mail"
	"signet/users"
)

// makeResetLink makes a link by which a user can set a new password, and shows it once.
func (s *Console) makeResetLink(v *visit) error {
	u, err := s.target(v)
	if err != nil {
		return err
	}
	h, err := s.Mails.ResetLink(v.ctx(), u, v.origin())
	if errors.Is(err, users.ErrDisabled) {
		return s.showUserPage(v, http.StatusConflict, u, map[string]string{"": sentence(err)})
	}
	if err != nil {
		return err
	}
	return s.showLink(v, h, u.Username, s.url("/user", "id", u.ID))
}

func (s *Console) newInvitation(v *visit) error {
	return s.showInvitation(v, http.StatusOK, "", nil)
}

func (s *Console) showInvitation(v *visit, status int, email string, problems map[string]string) error {
	return s.show(v, status, "invite", page{Title: "Invite somebody", Section: "Users", Data: map[string]any{
		"Email": email, "Problems": problems, "Mailed": s.Mails.Enabled(),
	}})
}

// invite invites somebody to make an account, by mail or by a link that it shows once.
func (s *Console) invite(v *visit) error {
	email := v.form("email")
	h, err := s.Mails.Invite(v.ctx(), email, nil, v.origin())
	var member *users.ProfileError
	if errors.As(err, &member) || errors.Is(err, users.ErrEmailTaken) {
		return s.showInvitation(v, http.StatusUnprocessableEntity, email, map[string]string{"email": sentence(err)})
	}
	if err != nil {
		return err
	}
	if h.Mailed {
		s.redirect(v.Context, "/users", "done", "invited")
		return nil
	}
	return s.showLink(v, h, email, s.url("/users"))
}

// showLink shows a link, once.
func (s *Console) showLink(v *visit, h mail.Handed, whose, back string) error {
	return s.show(v, http.StatusOK, "link", page{Title: "A link for " + whose, Section: "Users", Back: back, Data: map[string]any{
		"Link": h, "Whose": whose, "Reset": h.Email == "",
	}})
}
