package api

import (
	"errors"
	"net/http"

	"signet/authorizations"
	"signet/logins"
	"signet/server/oauth"
	"signet/users"
)

// fresh refuses a call that changes how a user can log in, unless the session of the token began with a login of the last minutes, by two
// factors where the user has a second one (RFC 9470 section 3). First: they had none, when that was decided.
func (s *Server) fresh(c *call) (first bool, err error) {
	f, err := s.logins.Factors(c.Request.Context(), c.access.UserID)
	if err != nil {
		return false, err
	}
	recent, err := s.tokens.LoggedInWithin(c.Request.Context(), c.access, logins.Fresh)
	if err != nil || recent {
		return !f.Any(), err
	}
	description, classes := "this needs a login of the last 10 minutes: authorize anew with max_age=600", ""
	if f.Any() {
		description, classes = "this needs a login of the last 10 minutes by two factors: authorize anew with max_age=600 and acr_values=aal2", `, acr_values="aal2"`
	}
	return false, &oauth.Error{
		Status: http.StatusUnauthorized, Code: "insufficient_user_authentication", Description: description,
		Challenge: `Bearer error="insufficient_user_authentication", error_description="` + description + `", max_age="600"` + classes,
	}
}

// ownFactors is the answer about factors: what there is, and how many recovery codes are left.
type ownFactors struct {
	Items         []logins.Factor `json:"items"`
	RecoveryCodes int             `json:"recovery_codes_left"`
}

func (s *Server) factorsOf(c *call, userID string) (reply, error) {
	f, err := s.logins.Factors(c.Request.Context(), userID)
	return ok(ownFactors{f.List, f.RecoveryCodes}), err
}

// listOwnFactors answers GET /account/factors.
func (s *Server) listOwnFactors(c *call) (reply, error) { return s.factorsOf(c, c.access.UserID) }

// enrolment is an authenticator app that waits for its first code.
type enrolment struct {
	Type      logins.Kind `json:"type"`
	Secret    string      `json:"secret"`
	URI       string      `json:"uri"`
	Enrolment string      `json:"enrolment"`
}

// newFactor is a factor that was added, with the recovery codes where they are the user's first, or new.
type newFactor struct {
	Factor *logins.Factor `json:"factor,omitempty"`
	Codes  []string       `json:"recovery_codes,omitempty"`
}

// addOwnFactor answers POST /account/factors. An authenticator app takes two calls: the first one gives a secret, the second one a code of it.
func (s *Server) addOwnFactor(c *call) (reply, error) {
	var given struct {
		Type      string  `json:"type"`
		Name      *string `json:"name"`
		Enrolment *string `json:"enrolment"`
		Code      *string `json:"code"`
	}
	if err := c.decode(&given); err != nil {
		return reply{}, err
	}
	first, err := s.fresh(c)
	if err != nil {
		return reply{}, err
	}
	ctx, place := c.Request.Context(), "session "+c.access.SessionID
	switch {
	case given.Type == "recovery_codes":
		codes, err := s.logins.NewRecoveryCodes(ctx, c.access.UserID, c.origin)
		if errors.Is(err, logins.ErrNoFactor) {
			err = badRequest("recovery codes are for users who have a factor")
		}
		return reply{http.StatusCreated, newFactor{Codes: codes}}, err
	case given.Type != string(logins.TOTP):
		return reply{}, bad("type", "has to be totp or recovery_codes; passkeys are added by browser, at /me/")
	case (given.Enrolment == nil) != (given.Code == nil):
		return reply{}, badRequest("enrolment and code go together")
	}
	u, err := s.users.Get(ctx, c.access.UserID)
	if err != nil {
		return reply{}, err
	}
	if given.Enrolment == nil {
		e := s.logins.EnrolTOTP(u, place)
		return ok(enrolment{logins.TOTP, e.Secret, e.URI, e.Sealed}), nil
	}
	name := "Authenticator app"
	if given.Name != nil {
		name = *given.Name
	}
	added, codes, err := s.logins.AddTOTP(ctx, u, place, *given.Enrolment, *given.Code, name, first, c.origin)
	return reply{http.StatusCreated, newFactor{&added, codes}}, err
}

// removeOwnFactor answers DELETE /account/factors/{id}.
func (s *Server) removeOwnFactor(c *call) (reply, error) {
	if _, err := s.fresh(c); err != nil {
		return reply{}, err
	}
	return noContent, s.logins.RemoveFactor(c.Request.Context(), c.access.UserID, c.id(), c.origin)
}

// listConsents answers GET /account/consents.
func (s *Server) listConsents(c *call) (reply, error) {
	list, err := s.authorizations.Consents(c.Request.Context(), c.access.UserID)
	return ok(struct {
		Items []authorizations.Allowance `json:"items"`
	}{list}), err
}

// withdrawConsent answers DELETE /account/consents/{client_id}: the app's sessions end with it.
func (s *Server) withdrawConsent(c *call) (reply, error) {
	withdrawn, err := s.authorizations.Withdraw(c.Request.Context(), c.access.UserID, c.id(), c.origin)
	if err == nil && !withdrawn {
		err = notFound("nothing is allowed to such a client")
	}
	return noContent, err
}

// listFactors answers GET /admin/users/{id}/factors.
func (s *Server) listFactors(c *call) (reply, error) {
	u, err := s.user(c)
	if err != nil {
		return reply{}, err
	}
	return s.factorsOf(c, u.ID)
}

// resetFactors answers DELETE /admin/users/{id}/factors, for a user who has lost them.
func (s *Server) resetFactors(c *call) (reply, error) {
	return s.ofUser(c, func(u users.User) error { return s.logins.RemoveFactors(c.Request.Context(), u.ID, c.origin) })
}

// resetFactor answers DELETE /admin/users/{id}/factors/{factor_id}.
func (s *Server) resetFactor(c *call) (reply, error) {
	return s.ofUser(c, func(u users.User) error {
		return s.logins.RemoveFactor(c.Request.Context(), u.ID, c.Param("factor"), c.origin)
	})
}

func (s *Server) ofUser(c *call, do func(u users.User) error) (reply, error) {
	u, err := s.user(c)
	if err == nil {
		err = do(u)
	}
	return noContent, err
}
