package logins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"

	"signet/audit"
	"signet/users"
)

// Kind is what a factor is.
type Kind string

// The kinds of factors. Recovery codes are none of their own: they stand in for one that was lost.
const (
	TOTP    Kind = "totp"
	Passkey Kind = "passkey"
)

// Factor is something that a user has and proves that they have. Secrets leave this package sealed or not at all.
type Factor struct {
	ID         string     `json:"id"`
	Type       Kind       `json:"type"`
	Name       string     `json:"name"`
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at"` // null: never

	UserID       string `json:"-"`
	UserEpoch    int64  `json:"-"` // of one that is to be added: the user's, as they were when they were asked who they are
	First        bool   `json:"-"` // of one that is to be added: the user is to have none, for they have proved the password alone
	Material     []byte `json:"-"` // TOTP: the sealed secret; a passkey: its public record, in JSON
	CredentialID []byte `json:"-"` // of a passkey
	Counter      int64  `json:"-"` // TOTP: the last step that a code was taken of; a passkey: its signature counter
}

// Factors are what a user can prove who they are with, beside the password.
type Factors struct {
	List          []Factor
	RecoveryCodes int // that are left
	Now           time.Time
}

// Any tells whether there is a second factor, so that the password alone is not enough.
func (f Factors) Any() bool { return len(f.List) > 0 }

// Has tells whether there is one of that kind.
func (f Factors) Has(k Kind) bool {
	return slices.ContainsFunc(f.List, func(x Factor) bool { return x.Type == k })
}

// FactorStore is what factors need of a database. Every event is written in the same transaction as what it tells of.
type FactorStore interface {
	// Factors returns the factors of the user, oldest first.
	Factors(ctx context.Context, userID string) (Factors, error)
	// PasskeyOwner returns the id of the user that a credential is of; ok is false for an unknown one.
	PasskeyOwner(ctx context.Context, credentialID []byte) (userID string, ok bool, err error)
	// AddFactor inserts a factor of a user of that epoch, and the digests of the recovery codes if it is the first. It returns when
	// it was created, and gave, if the codes are now the user's; or ErrTooManyFactors where the user has that many, and ErrFactorExists
	// where there is one like it (a second TOTP or the same credential), any at all where it has to be the first, or the user has changed.
	AddFactor(ctx context.Context, f Factor, most int, codes [][]byte, e audit.Event) (created time.Time, gave bool, err error)
	// UseStep makes the step the last one that the factor was used in, if that was an earlier one. It is not repeatable.
	UseStep(ctx context.Context, factorID string, step int64) (bool, error)
	// UsePasskey takes a challenge, which may be taken once, and moves the factor's counter: to a greater one, or from 0 to 0. It is
	// not repeatable.
	UsePasskey(ctx context.Context, f Factor, counter int64, challenge []byte, ttl time.Duration) (bool, error)
	// UseRecoveryCode deletes the digest, if the user has it. It is not repeatable.
	UseRecoveryCode(ctx context.Context, userID string, digest []byte) (bool, error)
	// ReplaceRecoveryCodes makes these the user's codes instead of those that there were, if they have a factor.
	ReplaceRecoveryCodes(ctx context.Context, userID string, digests [][]byte, e audit.Event) (bool, error)
	// RemoveFactor deletes a factor of the user, and the recovery codes with the last one; all, where the id is empty.
	RemoveFactor(ctx context.Context, userID, factorID string, e audit.Event) (bool, error)
	// Reseal replaces the material of a factor, if it is still the old one.
	Reseal(ctx context.Context, factorID string, old, sealed []byte) error
	// SealedFactors returns TOTP factors behind the one with that id.
	SealedFactors(ctx context.Context, after string, limit int) ([]Factor, error)

	// CountTry counts a guess at the user's second factor before it is looked at. Beyond the cap in the window it counts nothing and
	// returns how long to wait. Reached says that this was the last one.
	CountTry(ctx context.Context, userID string, most int, window time.Duration) (wait time.Duration, reached bool, err error)
	// ForgetTries forgets them, after a login as a whole.
	ForgetTries(ctx context.Context, userID string) error

	// RecordEvent writes an event that stands for itself.
	RecordEvent(ctx context.Context, e audit.Event) error
}

// Policy is who has to have a second factor.
type Policy string

// The policies.
const (
	Optional Policy = "optional"
	Admins   Policy = "admins"
	Required Policy = "required"
)

// Demands tells whether a user has to have a second factor, who may be an admin.
func (p Policy) Demands(admin bool) bool { return p == Required || p == Admins && admin }

// Fresh is how long ago a login may be for its user to change a factor or the password.
const Fresh = 10 * time.Minute

// Errors of factors. ErrWrongFactor is the one answer to a wrong code, a used one, and a passkey that does not do.
var (
	ErrWrongFactor  = errors.New("the code, or the passkey, is not one that can be used now")
	ErrNeedsFactor  = errors.New("the password alone is not enough for this user")
	ErrFactorExists = errors.New("the user has this factor already")
	ErrNoFactor     = errors.New("no such factor")
	ErrFactorName   = errors.New("name: must be 1 to 64 characters, none of them control characters, without spaces around it")
	ErrEnrolment    = errors.New("the enrolment is of another login, or was begun too long ago: begin anew")
)

// maxFactors bounds the factors of a user.
const maxFactors = 20

// ErrTooManyFactors says that a user has as many factors as may be.
var ErrTooManyFactors = fmt.Errorf("the user has %d factors, and may have no more", maxFactors)

// Factors returns the factors of a user.
func (s *Service) Factors(ctx context.Context, userID string) (Factors, error) {
	return s.store.Factors(ctx, userID)
}

// Demands tells whether the operator wants that a user has a second factor, who may be an admin.
func (s *Service) Demands(admin bool) bool { return s.cfg.Policy.Demands(admin) }

// PasswordAlone returns nil if the user has no factor beside the password, else ErrNeedsFactor. It is for saying why: the stores refuse
// by themselves what a password alone may not begin.
func (s *Service) PasswordAlone(ctx context.Context, u users.User) error {
	f, err := s.store.Factors(ctx, u.ID)
	if err == nil && f.Any() {
		err = ErrNeedsFactor
	}
	return err
}

// CheckCode checks a code of an authenticator app, or a recovery code, of a user whose password was right. It returns how they proved
// who they are, ErrWrongFactor, a users.ThrottledError, or the database's error.
func (s *Service) CheckCode(ctx context.Context, u users.User, code, clientID string, o audit.Origin) (Proof, error) {
	wait, reached, err := s.store.CountTry(ctx, u.ID, s.cfg.MaxFailures, s.cfg.Window)
	if err != nil {
		return Proof{}, err
	}
	if wait > 0 {
		return Proof{}, &users.ThrottledError{RetryAfter: min(wait, s.cfg.Window)}
	}
	f, err := s.store.Factors(ctx, u.ID)
	if err != nil {
		return Proof{}, err
	}
	code = bare(code)
	what, use := "a recovery code", func() (bool, error) { return s.useRecoveryCode(ctx, u.ID, code) }
	if digits(code) {
		what, use = "an authenticator code", func() (bool, error) { return s.useTOTP(ctx, f, code) }
	}
	ok, err := use()
	if err != nil {
		return Proof{}, err
	}
	if !ok {
		return Proof{}, s.failed(ctx, u.ID, clientID, what, reached, o)
	}
	return Proof{[]string{"pwd", "otp", "mfa"}, TwoFactors}, nil
}

// ProofOf is what the user has proved who has just added the factor, after the right password.
func ProofOf(f Factor) Proof {
	var c webauthn.Credential
	if f.Type == Passkey && json.Unmarshal(f.Material, &c) == nil {
		return Proof{slices.Concat([]string{"pwd"}, methodsOf(&c), []string{"mfa"}), TwoFactors}
	}
	return Proof{[]string{"pwd", "otp", "mfa"}, TwoFactors}
}

// failed records a factor that did not do, and returns the error to answer it with.
func (s *Service) failed(ctx context.Context, userID, clientID, what string, reached bool, o audit.Origin) error {
	e := audit.New(audit.FactorFailed, o)
	e.UserID, e.ClientID, e.Detail = userID, clientID, what
	events := []audit.Event{e}
	if reached {
		t := audit.New(audit.LoginThrottled, o)
		t.UserID, t.ClientID, t.Detail = userID, clientID, fmt.Sprintf("%d second factors", s.cfg.MaxFailures)
		events = append(events, t)
	}
	for _, e := range events {
		if err := s.store.RecordEvent(ctx, e); err != nil {
			return err
		}
		e.Log(ctx, s.log)
	}
	return ErrWrongFactor
}

// RemoveFactor removes a factor of a user, or returns ErrNoFactor.
func (s *Service) RemoveFactor(ctx context.Context, userID, factorID string, o audit.Origin) error {
	if _, err := uuid.Parse(factorID); err != nil {
		return ErrNoFactor
	}
	f, err := s.store.Factors(ctx, userID)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(f.List, func(x Factor) bool { return x.ID == factorID })
	if i < 0 {
		return ErrNoFactor
	}
	return s.remove(ctx, userID, factorID, string(f.List[i].Type)+" "+factorID, o)
}

// RemoveFactors removes all factors of a user and their recovery codes, for somebody who has lost them. It returns ErrNoFactor if there
// were none.
func (s *Service) RemoveFactors(ctx context.Context, userID string, o audit.Origin) error {
	return s.remove(ctx, userID, "", "all", o)
}

func (s *Service) remove(ctx context.Context, userID, factorID, detail string, o audit.Origin) error {
	e := audit.New(audit.FactorRemoved, o)
	e.UserID, e.Detail = userID, detail
	ok, err := s.store.RemoveFactor(ctx, userID, factorID, e)
	switch {
	case err != nil:
		return err
	case !ok:
		return ErrNoFactor
	}
	e.Log(ctx, s.log)
	return nil
}

// add stores a factor. The codes are the recovery codes, if they are the first ones.
func (s *Service) add(ctx context.Context, f Factor, o audit.Origin) (added Factor, codes []string, err error) {
	if f.Name, err = factorName(f.Name); err != nil {
		return Factor{}, nil, err
	}
	codes, digests := newRecoveryCodes(f.UserID)
	e := audit.New(audit.FactorAdded, o)
	e.UserID, e.Detail = f.UserID, string(f.Type)+" "+f.ID
	if e.Actor == "" {
		e.Actor = f.UserID
	}
	created, gave, err := s.store.AddFactor(ctx, f, maxFactors, digests, e)
	if err != nil {
		return Factor{}, nil, err
	}
	if !gave {
		codes = nil
	}
	e.Log(ctx, s.log)
	f.CreatedAt = created
	return f, codes, nil
}

func factorName(name string) (string, error) {
	if n := utf8.RuneCountInString(name); n < 1 || n > 64 || !utf8.ValidString(name) || strings.TrimSpace(name) != name ||
		strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }) {
		return "", ErrFactorName
	}
	return name, nil
}
