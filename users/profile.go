package users

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/mail"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/language"
)

// Profile is what is known of a user besides the name, for those whom the user lets see it (OpenID Connect Core section 5.1). It is
// kept as JSON, and its members stand in the user object; those without a value are left out.
type Profile struct {
	Name                string                     `json:"name,omitempty"`
	GivenName           string                     `json:"given_name,omitempty"`
	FamilyName          string                     `json:"family_name,omitempty"`
	Picture             string                     `json:"picture,omitempty"`
	Locale              string                     `json:"locale,omitempty"`
	Zoneinfo            string                     `json:"zoneinfo,omitempty"`
	Email               string                     `json:"email,omitempty"`
	EmailVerified       bool                       `json:"email_verified,omitempty"`
	PhoneNumber         string                     `json:"phone_number,omitempty"`
	PhoneNumberVerified bool                       `json:"phone_number_verified,omitempty"`
	Groups              []string                   `json:"groups,omitempty"`
	Claims              map[string]json.RawMessage `json:"claims,omitempty"`
	UpdatedAt           time.Time                  `json:"updated_at,omitzero"` // set by the database
}

// profileMembers are the names of the members that can be changed.
var profileMembers = []string{
	"name", "given_name", "family_name", "picture", "locale", "zoneinfo", "email", "email_verified", "phone_number",
	"phone_number_verified", "groups", "claims",
}

// ErrEmailTaken says that another user has proved that the address is theirs.
var ErrEmailTaken = errors.New("email: another user has this address, and it is verified")

// ParseProfile reads a profile as it is stored.
func ParseProfile(text []byte) (p Profile, err error) {
	if len(text) > 0 {
		if err = json.Unmarshal(text, &p); err != nil {
			err = fmt.Errorf("a stored profile cannot be read: %w", err)
		}
	}
	return p, err
}

// Stored returns the profile as it is stored.
func (p Profile) Stored() string {
	p.UpdatedAt = time.Time{}
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // raw members were read as JSON
	}
	return string(text)
}

// VerifiedEmail is the address that no other user may have as well, in lower case; empty: none.
func (p Profile) VerifiedEmail() string {
	if !p.EmailVerified {
		return ""
	}
	return strings.ToLower(p.Email)
}

// ProfileError says which member of a profile cannot be, and why.
type ProfileError struct{ Member, Problem string }

func (e *ProfileError) Error() string { return e.Member + ": " + e.Problem }

// Empty tells whether nothing is known.
func (p Profile) Empty() bool { return reflect.ValueOf(p).IsZero() }

// With returns the profile after the members were changed: null, and what is empty, removes one. An address or a number that
// changes is not verified any more, unless the same change says that it is. Its errors are ProfileErrors.
func (p Profile) With(members map[string]json.RawMessage) (Profile, error) {
	before := p
	for name, value := range members {
		field, known := profileField(&p, name)
		if !known {
			return Profile{}, &ProfileError{name, "is not a member that is known here"}
		}
		field.SetZero()
		if string(value) == "null" {
			continue
		}
		if err := json.Unmarshal(value, field.Addr().Interface()); err != nil {
			return Profile{}, &ProfileError{name, "must be " + kinds[field.Kind()]}
		}
	}
	maps.DeleteFunc(p.Claims, func(_ string, v json.RawMessage) bool { return string(v) == "null" })
	if _, said := members["email_verified"]; p.Email != before.Email && !said {
		p.EmailVerified = false
	}
	if _, said := members["phone_number_verified"]; p.PhoneNumber != before.PhoneNumber && !said {
		p.PhoneNumberVerified = false
	}
	return p, p.validate()
}

var kinds = map[reflect.Kind]string{
	reflect.String: "a text", reflect.Bool: "true or false", reflect.Slice: "a list of texts", reflect.Map: "an object",
}

// profileField returns the field of the member of that name.
func profileField(p *Profile, name string) (reflect.Value, bool) {
	if !slices.Contains(profileMembers, name) {
		return reflect.Value{}, false
	}
	v := reflect.ValueOf(p).Elem()
	for i := range v.NumField() {
		if tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ","); tag == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// Bounds of a profile. Groups go into access tokens, which have to fit into headers.
const (
	maxText        = 255
	maxPicture     = 2048
	maxEmail       = 254
	maxGroups      = 100
	maxGroupsBytes = 4 << 10
	maxClaims      = 64
	maxClaimsBytes = 8 << 10
)

var (
	phone     = regexp.MustCompile(`^\+[1-9][0-9]{3,14}$`)
	zone      = regexp.MustCompile(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}$`)
	claimName = regexp.MustCompile(`^[!-~]{1,128}$`)
)

// validate checks a profile as a whole.
func (p *Profile) validate() error {
	wrong := func(member, problem string) error { return &ProfileError{member, problem} }
	for member, text := range map[string]string{
		"name": p.Name, "given_name": p.GivenName, "family_name": p.FamilyName, "locale": p.Locale, "zoneinfo": p.Zoneinfo,
	} {
		if !plainText(text, maxText) {
			return wrong(member, fmt.Sprintf("must be at most %d characters, none of them control characters", maxText))
		}
	}
	if u, err := url.Parse(p.Picture); p.Picture != "" && (err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || len(p.Picture) > maxPicture || !plainText(p.Picture, maxPicture)) {
		return wrong("picture", "must be an https URL")
	}
	if _, err := language.Parse(p.Locale); p.Locale != "" && err != nil {
		return wrong("locale", "must be a language tag such as en or pt-BR")
	}
	if p.Zoneinfo != "" && !zone.MatchString(p.Zoneinfo) {
		return wrong("zoneinfo", "must be the name of a time zone such as Europe/Berlin")
	}
	if p.Email != "" {
		if a, err := mail.ParseAddress(p.Email); err != nil || a.Address != p.Email || a.Name != "" || len(p.Email) > maxEmail || !plainText(p.Email, maxEmail) {
			return wrong("email", "must be an e-mail address such as ann@example.com")
		}
	} else if p.EmailVerified {
		return wrong("email_verified", "there is no email to be verified")
	}
	if p.PhoneNumber != "" && !phone.MatchString(p.PhoneNumber) {
		return wrong("phone_number", "must be of the form +15551234567 (E.164)")
	}
	if p.PhoneNumber == "" && p.PhoneNumberVerified {
		return wrong("phone_number_verified", "there is no phone_number to be verified")
	}
	if len(p.Groups) > maxGroups || len(strings.Join(p.Groups, " ")) > maxGroupsBytes {
		return wrong("groups", fmt.Sprintf("are too many: at most %d, and %d bytes together, for they go into access tokens", maxGroups, maxGroupsBytes))
	}
	for i, g := range p.Groups {
		if g == "" || !plainText(g, maxText) || slices.Contains(p.Groups[:i], g) {
			return wrong("groups", fmt.Sprintf("must each be 1 to %d characters, none of them control characters, and be there once", maxText))
		}
	}
	return validateClaims(p.Claims)
}

// plainText tells whether s is text of at most so many characters that shows as what it is.
func plainText(s string, most int) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= most &&
		!strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) })
}

func validateClaims(claims map[string]json.RawMessage) error {
	size := 0
	for name, value := range claims {
		if !claimName.MatchString(name) {
			return &ProfileError{"claims", "a name must be 1 to 128 visible ASCII characters"}
		}
		if Reserved(name) {
			return &ProfileError{"claims", fmt.Sprintf("%q has a meaning of its own: choose another name", name)}
		}
		size += len(name) + len(value)
		depth, flaw := inspect(value)
		switch {
		case flaw != "":
			return &ProfileError{"claims", fmt.Sprintf("%q %s", name, flaw)}
		case depth > 8:
			return &ProfileError{"claims", fmt.Sprintf("%q is nested deeper than 8 levels", name)}
		}
	}
	if len(claims) > maxClaims || size > maxClaimsBytes {
		return &ProfileError{"claims", fmt.Sprintf("are too many: at most %d, and %d bytes together", maxClaims, maxClaimsBytes)}
	}
	return nil
}

// inspect goes through a JSON value: how deep it is nested, and what is wrong with it though it is JSON; "" for nothing.
func inspect(value json.RawMessage) (depth int, flaw string) {
	if !utf8.Valid(value) {
		return 0, notText
	}
	meant := bytes.Contains(value, []byte("\ufffd")) || bytes.Contains(bytes.ToLower(value), []byte(`\ufffd`))
	level := 0
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err != nil { // the end
			return depth, ""
		}
		switch token := token.(type) {
		case json.Delim:
			if token == '{' || token == '[' {
				level++
				depth = max(depth, level)
			} else {
				level--
			}
		case json.Number: // most programs read it as a float64, and fail
			f, err := token.Float64()
			mantissa, _, _ := strings.Cut(strings.ToLower(token.String()), "e")
			if err != nil || f == 0 && strings.Trim(mantissa, "-0.") != "" {
				return depth, "holds a number that is too large, or too small, for a 64-bit float"
			}
		case string:
			if strings.ContainsRune(token, 0) {
				return depth, "holds a NUL character" // PostgreSQL keeps none
			}
			// Half of a surrogate pair is no letter; the decoder puts this one in its place.
			if strings.ContainsRune(token, utf8.RuneError) && !meant {
				return depth, notText
			}
		}
	}
}

const notText = "is not Unicode text"

// StandardClaims are the claims that scopes show, but for a user's own.
var StandardClaims = []string{
	"name", "given_name", "family_name", "preferred_username", "picture", "locale", "zoneinfo", "updated_at",
	"email", "email_verified", "phone_number", "phone_number_verified", "groups",
}

// reserved are names of claims that a user's own cannot have: other specifications have given them a meaning.
var reserved = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "azp", "nonce", "auth_time", "at_hash", "c_hash", "s_hash", "acr", "amr", "sid",
	"sub_jwk", "cnf", "act", "may_act", "scope", "client_id", "events", "toe", "txn", "typ", "token_type", "token_use", "active", "username",
	"middle_name", "nickname", "profile", "website", "gender", "birthdate", "address", "roles", "entitlements", "_claim_names", "_claim_sources",
}

// Reserved tells whether a user's own claim cannot have the name.
func Reserved(name string) bool {
	return slices.Contains(StandardClaims, name) || slices.Contains(reserved, name)
}

// ScopeOf returns the scope that shows a claim; empty for one that none does.
func ScopeOf(claim string) string {
	switch {
	case claim == "email", claim == "email_verified":
		return "email"
	case claim == "phone_number", claim == "phone_number_verified":
		return "phone"
	case claim == "groups":
		return "groups"
	case slices.Contains(reserved, claim):
		return ""
	default: // a user's own are among these
		return "profile"
	}
}

// ClaimsOf returns the claims that the scopes show (OpenID Connect Core section 5.4). What the user has not is left out.
func (u *User) ClaimsOf(scope []string) map[string]any {
	claims := map[string]any{}
	text := func(name, value string) {
		if value != "" {
			claims[name] = value
		}
	}
	p := u.Profile
	if slices.Contains(scope, "profile") {
		for name, value := range p.Claims {
			if !Reserved(name) {
				claims[name] = value
			}
		}
		text("name", p.Name)
		text("given_name", p.GivenName)
		text("family_name", p.FamilyName)
		text("preferred_username", u.Username)
		text("picture", p.Picture)
		text("locale", p.Locale)
		text("zoneinfo", p.Zoneinfo)
		if !p.UpdatedAt.IsZero() {
			claims["updated_at"] = p.UpdatedAt.Unix()
		}
	}
	if slices.Contains(scope, "email") && p.Email != "" {
		claims["email"], claims["email_verified"] = p.Email, p.EmailVerified
	}
	if slices.Contains(scope, "phone") && p.PhoneNumber != "" {
		claims["phone_number"], claims["phone_number_verified"] = p.PhoneNumber, p.PhoneNumberVerified
	}
	if slices.Contains(scope, "groups") && len(p.Groups) > 0 {
		claims["groups"] = p.Groups
	}
	return claims
}
