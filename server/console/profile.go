package console

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"signet/users"
)

// profileField is a member of a profile that is a text, in the form.
type profileField struct{ Name, Label, Type, Value, Hint string }

// profileForm is the form of a user's profile.
type profileForm struct {
	User                         users.User
	Texts                        []profileField
	EmailVerified, PhoneVerified bool
	Groups, Claims               string
	Version                      string            // of the profile that the form was begun with
	Problems                     map[string]string // by the member's name
}

// profileVersion tells apart what a profile was at different times.
func profileVersion(p users.Profile) string { return p.UpdatedAt.Format(time.RFC3339Nano) }

// fieldsOf are the fields of a profile's texts, before anybody has touched them.
func fieldsOf(p users.Profile) []profileField {
	return []profileField{
		{"name", "Full name", "", p.Name, ""},
		{"given_name", "Given name", "", p.GivenName, ""},
		{"family_name", "Family name", "", p.FamilyName, ""},
		{"email", "E-mail address", "", p.Email, "One that changes has to be verified anew."},
		{"phone_number", "Phone number", "", p.PhoneNumber, "Such as +15551234567."},
		{"picture", "Picture", "", p.Picture, "An https URL."},
		{"locale", "Language", "", p.Locale, "Such as de or pt-BR."},
		{"zoneinfo", "Time zone", "", p.Zoneinfo, "Such as Europe/Berlin."},
	}
}

func (s *Console) showProfile(v *visit) error {
	u, err := s.Users.Find(v.ctx(), v.Query("id"))
	if err != nil {
		return err
	}
	f := profileForm{
		User: u, Texts: fieldsOf(u.Profile), EmailVerified: u.EmailVerified, PhoneVerified: u.PhoneNumberVerified,
		Groups: strings.Join(u.Groups, "\n"), Version: profileVersion(u.Profile),
	}
	if len(u.Claims) > 0 {
		text, err := json.MarshalIndent(u.Claims, "", "  ")
		if err != nil {
			return err
		}
		f.Claims = string(text)
	}
	return s.showProfileForm(v, http.StatusOK, f)
}

func (s *Console) showProfileForm(v *visit, status int, f profileForm) error {
	return s.show(v, status, "user-profile", page{Title: "Profile of " + f.User.Username, Section: "Users", Data: f})
}

// changeProfile saves the form. What makes a profile good is for the users to say.
func (s *Console) changeProfile(v *visit) error {
	u, err := s.target(v)
	if err != nil {
		return err
	}
	f := profileForm{
		User: u, Texts: fieldsOf(u.Profile), EmailVerified: v.form("email_verified") != "", PhoneVerified: v.form("phone_number_verified") != "",
		Groups: v.form("groups"), Claims: v.form("claims"), Version: v.form("version"),
	}
	members := map[string]json.RawMessage{}
	set := func(name string, value any) {
		if err == nil {
			members[name], err = json.Marshal(value)
		}
	}
	for i := range f.Texts {
		f.Texts[i].Value = strings.TrimSpace(v.form(f.Texts[i].Name))
		set(f.Texts[i].Name, f.Texts[i].Value)
	}
	// Left as it was, a box says nothing about an address that is new.
	if f.EmailVerified != u.EmailVerified {
		set("email_verified", f.EmailVerified)
	}
	if f.PhoneVerified != u.PhoneNumberVerified {
		set("phone_number_verified", f.PhoneVerified)
	}
	set("groups", lines(f.Groups))
	if err != nil {
		return err
	}
	members["claims"] = json.RawMessage("null")
	if text := strings.TrimSpace(f.Claims); text != "" {
		members["claims"] = json.RawMessage(text)
	}
	if f.Version != profileVersion(u.Profile) { // the form says something of every member: it would take back what is new
		f.Problems = map[string]string{"": "Somebody else changed this profile meanwhile. What you see is what you entered: open the profile anew to see what it is now."}
		return s.showProfileForm(v, http.StatusUnprocessableEntity, f)
	}
	_, err = s.Users.Update(v.ctx(), u.ID, users.Change{Profile: members}, v.origin())
	var problem *users.ProfileError
	switch {
	case errors.As(err, &problem):
		f.Problems = map[string]string{problem.Member: sentence(err)}
	case errors.Is(err, users.ErrEmailTaken):
		f.Problems = map[string]string{"email": sentence(err)}
	case err != nil:
		return err
	default:
		s.redirect(v.Context, "/user", "id", u.ID, "done", "user-saved")
		return nil
	}
	return s.showProfileForm(v, http.StatusUnprocessableEntity, f)
}

// lines are the lines of a text that say something.
func lines(text string) []string {
	list := []string{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}
