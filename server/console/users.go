package console

import (
	"errors"
	"net/http"
	"strings"

	"signet/logins"
	"signet/tokens"
	"signet/users"
)

func (s *Console) listUsers(v *visit) error {
	query := strings.TrimSpace(v.Query("q"))
	rows, err := s.Users.List(v.ctx(), users.Filter{Query: query, After: v.Query("after"), Limit: pageSize + 1})
	if err != nil {
		return err
	}
	rows, more := cut(rows)
	var p pager
	if v.Query("after") != "" {
		p.First = s.url("/users", "q", query)
	}
	if more {
		p.Next = s.url("/users", "q", query, "after", rows[len(rows)-1].Username)
	}
	return s.show(v, http.StatusOK, "users", page{Title: "Users", Section: "Users", Data: map[string]any{
		"Query": query, "Rows": rows, "Pager": p, "Alone": len(rows) == 1 && query == "" && v.Query("after") == "",
	}})
}

// userForm is the form of a new user.
type userForm struct {
	Username string
	Admin    bool
	Problems map[string]string // by the field's name
}

func (s *Console) newUser(v *visit) error {
	return s.showNewUser(v, http.StatusOK, userForm{})
}

func (s *Console) showNewUser(v *visit, status int, f userForm) error {
	return s.show(v, status, "user-new", page{Title: "Create a user", Section: "Users", Data: f})
}

// blame returns what is wrong with a field of a form, or nothing for errors that are not about the form.
func blame(err error) map[string]string {
	switch {
	case errors.Is(err, users.ErrUsername):
		return map[string]string{"username": sentence(err)}
	case errors.Is(err, users.ErrPassword):
		return map[string]string{"password": sentence(err)}
	case errors.Is(err, users.ErrExists):
		return map[string]string{"username": "Username: a user with this name exists already"}
	default:
		return nil
	}
}

// sentence is an error of the rooms, which begins with a field's name, as it stands in a page.
func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}

func (s *Console) createUser(v *visit) error {
	f := userForm{Username: v.form("username"), Admin: v.form("admin") != ""}
	password, made := v.password()
	u, err := s.Users.Create(v.ctx(), f.Username, password, f.Admin, users.Profile{}, v.origin())
	if f.Problems = blame(err); f.Problems != nil {
		return s.showNewUser(v, http.StatusUnprocessableEntity, f)
	}
	if err != nil {
		return err
	}
	return s.showPassword(v, u, made, "The user is created.")
}

// password is the new password that was typed, or one that is made up in its place. Made is empty for one that was typed.
func (v *visit) password() (password, made string) {
	if password = v.form("password"); password == "" {
		made = users.NewPassword()
		password = made
	}
	return password, made
}

// showPassword shows, once, a password that was made; an empty one was typed, and whoever typed it knows it.
func (s *Console) showPassword(v *visit, u users.User, password, notice string) error {
	return s.show(v, http.StatusOK, "user-password", page{
		Title: u.Username, Section: "Users", Notice: notice, Back: s.url("/user", "id", u.ID),
		Data: map[string]any{"User": u, "Password": password, "Self": u.ID == v.access.UserID},
	})
}

// fewSessions is how many of a user's sessions the user's page shows.
const fewSessions = 10

func (s *Console) showUser(v *visit) error {
	u, err := s.Users.Find(v.ctx(), v.Query("id"))
	if err != nil {
		return err
	}
	return s.showUserPage(v, http.StatusOK, u, nil)
}

func (s *Console) showUserPage(v *visit, status int, u users.User, problems map[string]string) error {
	sessions, err := s.Tokens.Sessions(v.ctx(), tokens.Filter{UserID: u.ID, Limit: fewSessions + 1})
	if err != nil {
		return err
	}
	factors, err := s.Logins.Factors(v.ctx(), u.ID)
	if err != nil {
		return err
	}
	more := len(sessions) > fewSessions
	if more {
		sessions = sessions[:fewSessions]
	}
	return s.show(v, status, "user", page{Title: u.Username, Section: "Users", Data: map[string]any{
		"User": u, "Factors": factors, "Sessions": sessions, "More": more, "Problems": problems, "Current": v.access.SessionID,
		"Self": u.ID == v.access.UserID, "Back": "/user?id=" + u.ID,
	}})
}

// target is the user that a form is about.
func (s *Console) target(v *visit) (users.User, error) { return s.Users.Get(v.ctx(), v.form("id")) }

func (s *Console) newPassword(v *visit) error {
	u, err := s.target(v)
	if err != nil {
		return err
	}
	password, made := v.password()
	_, err = s.Users.Update(v.ctx(), u.ID, users.Change{Password: &password}, v.origin())
	if problems := blame(err); problems != nil {
		return s.showUserPage(v, http.StatusUnprocessableEntity, u, problems)
	}
	if err != nil {
		return err
	}
	return s.showPassword(v, u, made, "The user has a new password, and is logged out everywhere.")
}

// change makes a change to a user and goes back to the user's page.
func (s *Console) change(v *visit, ch users.Change, word string) error {
	u, err := s.target(v)
	if err == nil {
		_, err = s.Users.Update(v.ctx(), u.ID, ch, v.origin())
	}
	if err == nil {
		s.redirect(v.Context, "/user", "id", u.ID, "done", word)
	}
	return err
}

func (s *Console) enableUser(v *visit) error {
	return s.change(v, users.Change{Disabled: new(false)}, "user-enabled")
}

func (s *Console) disableUser(v *visit) error {
	return s.change(v, users.Change{Disabled: new(true)}, "user-disabled")
}

func (s *Console) makeAdmin(v *visit) error {
	return s.change(v, users.Change{Admin: new(true)}, "user-admin")
}

func (s *Console) unmakeAdmin(v *visit) error {
	return s.change(v, users.Change{Admin: new(false)}, "user-no-admin")
}

func (s *Console) logUserOut(v *visit) error {
	u, err := s.target(v)
	if err == nil {
		err = s.Users.EndSessions(v.ctx(), u.ID, v.origin())
	}
	if err == nil {
		s.redirect(v.Context, "/user", "id", u.ID, "done", "user-logout")
	}
	return err
}

func (s *Console) deleteUser(v *visit) error {
	u, err := s.target(v)
	if err == nil {
		err = s.Users.Delete(v.ctx(), u.ID, v.origin())
	}
	if err == nil {
		s.redirect(v.Context, "/users", "done", "user-deleted")
	}
	return err
}

// resetFactors removes the second factors of a user who has lost them.
func (s *Console) resetFactors(v *visit) error {
	u, err := s.target(v)
	if err == nil {
		err = s.Logins.RemoveFactors(v.ctx(), u.ID, v.origin())
	}
	if err == nil || errors.Is(err, logins.ErrNoFactor) {
		s.redirect(v.Context, "/user", "id", u.ID, "done", "user-factors")
		return nil
	}
	return err
}

// confirmUser asks before something is done to a user.
func (s *Console) confirmUser(what string) handler {
	return func(v *visit) error {
		u, err := s.Users.Get(v.ctx(), v.Query("id"))
		if err != nil {
			return err
		}
		q := confirmation{ID: u.ID, Cancel: s.url("/user", "id", u.ID)}
		switch what {
		case "user-disable":
			q.Question, q.Action, q.Button = "Disable "+u.Username+"?", s.url("/user/disable"), "Disable the user"
			q.Consequence = "All sessions of the user end at once and for good, and nobody can log in with this name until it is enabled again."
		case "user-logout":
			q.Question, q.Action, q.Button = "Log "+u.Username+" out everywhere?", s.url("/user/logout"), "Log out everywhere"
			q.Consequence = "All sessions of the user, on every client, end at once. The user can log in again."
		case "user-factors":
			q.Question, q.Action, q.Button = "Remove all second factors of "+u.Username+"?", s.url("/user/factors"), "Remove them"
			q.Consequence = "Passkeys, authenticator apps and recovery codes are worth nothing from now on, and the password alone is enough to log in, unless SIGNET_SECOND_FACTOR wants a new one. Make sure first that it is the user who asks."
		case "user-no-admin":
			q.Question, q.Action, q.Button = "Take the admin’s rights from "+u.Username+"?", s.url("/user/no-admin"), "Make it an ordinary user"
			q.Consequence = "The user can use the admin API and this console no more, from the next request on."
		default:
			q.Question, q.Action, q.Button = "Delete "+u.Username+"?", s.url("/user/delete"), "Delete the user"
			q.Consequence = "All sessions of the user end at once. A new user of the same name will be somebody else, with another id. This cannot be undone."
		}
		if u.ID == v.access.UserID && what != "user-factors" {
			q.Warning = "This is you. You will be logged out of this console"
			if what == "user-logout" {
				q.Warning += "."
			} else {
				q.Warning += ", and need another admin, or the command line, to come back."
			}
		}
		return s.show(v, http.StatusOK, "confirm", page{Title: q.Button, Section: "Users", Data: q})
	}
}
