package logins

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"signet/audit"
	"signet/users"
)

// What authenticator apps take for granted (RFC 6238).
const (
	totpPeriod = 30 // seconds
	totpDigits = 6
	totpSkew   = 1 // steps
)

var base32NoPadding = base32.StdEncoding.WithPadding(base32.NoPadding)

// Enrolment is an authenticator app that is about to be added. It is nothing until a code of it was right.
type Enrolment struct {
	URI    string // otpauth:
	Secret string // the same for those who type it, in base32
	Sealed string // comes back with the code
}

// sealedEnrolment is what an enrolment is remembered by, in the form.
type sealedEnrolment struct {
	Secret []byte    `json:"secret"`
	At     time.Time `json:"at"`
}

// enrolmentTTL is how long an enrolment may take.
const enrolmentTTL = 30 * time.Minute

// EnrolTOTP makes up a secret for an authenticator app of the user. The enrolment can be finished by the same user in the same place,
// such as a browser, alone.
func (s *Service) EnrolTOTP(u users.User, place string) Enrolment {
	secret := make([]byte, 20)
	_, _ = rand.Read(secret)
	return s.enrolment(u, secret, s.seal(sealedEnrolment{secret, time.Now()}, "totp "+u.ID+" "+place))
}

// ResumeTOTP is the enrolment that was begun, to be shown again after a wrong code.
func (s *Service) ResumeTOTP(u users.User, place, sealed string) (Enrolment, bool) {
	read, ok := s.openEnrolment(u.ID, place, sealed)
	return s.enrolment(u, read.Secret, sealed), ok
}

func (s *Service) enrolment(u users.User, secret []byte, sealed string) Enrolment {
	text := base32NoPadding.EncodeToString(secret)
	query := url.Values{"secret": {text}, "issuer": {s.cfg.Brand}, "algorithm": {"SHA1"}, "digits": {"6"}, "period": {"30"}}
	return Enrolment{
		URI:    "otpauth://totp/" + url.PathEscape(s.cfg.Brand+":"+u.Username) + "?" + strings.ReplaceAll(query.Encode(), "+", "%20"),
		Secret: text, Sealed: sealed,
	}
}

func (s *Service) openEnrolment(userID, place, sealed string) (read sealedEnrolment, ok bool) {
	ok = s.open(sealed, "totp "+userID+" "+place, &read) && time.Since(read.At).Abs() <= enrolmentTTL
	return read, ok
}

// AddTOTP adds the authenticator app, if the code is one of it. It returns the user's first recovery codes, if these are; ErrEnrolment,
// ErrWrongFactor, ErrFactorExists, ErrFactorName, or the database's error. A guess here is no help to anybody: the secret is known to who asks.
func (s *Service) AddTOTP(ctx context.Context, u users.User, place, sealed, code, name string, first bool, o audit.Origin) (Factor, []string, error) {
	read, ok := s.openEnrolment(u.ID, place, sealed)
	if !ok {
		return Factor{}, nil, ErrEnrolment
	}
	step, ok := stepOf(read.Secret, bare(code), time.Now(), -1)
	if !ok {
		return Factor{}, nil, ErrWrongFactor
	}
	id := uuid.NewString()
	f := Factor{
		ID: id, Type: TOTP, Name: name, UserID: u.ID, UserEpoch: u.Epoch, First: first, Counter: step,
		Material: s.sealer.Seal(read.Secret, totpIdentity(u.ID, id)),
	}
	return s.add(ctx, f, o)
}

// totpIdentity is what a sealed secret is bound to: its row.
func totpIdentity(userID, factorID string) string { return "factors/" + factorID + "/" + userID }

// bare is a code without the blanks and dashes that apps show, and people type, between its characters.
func bare(code string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.Is(unicode.Dash, r) {
			return -1
		}
		return r
	}, code)
}

// digits tells whether a code is one that an authenticator app shows.
func digits(code string) bool {
	if len(code) != totpDigits {
		return false
	}
	for _, c := range []byte(code) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// stepOf returns the step that the code is of: the one at hand or a neighbour, and a later one than the last that was used. Every step is
// looked at, whichever it is.
func stepOf(secret []byte, code string, now time.Time, last int64) (step int64, ok bool) {
	if !digits(code) {
		return 0, false
	}
	current := now.Unix() / totpPeriod
	text := base32.StdEncoding.EncodeToString(secret)
	for candidate := current - totpSkew; candidate <= current+totpSkew; candidate++ {
		right, err := hotp.ValidateCustom(code, uint64(candidate), text, hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1}) //nolint:gosec // a step is not negative
		if err == nil && right && candidate > last && !ok {
			step, ok = candidate, true
		}
	}
	return step, ok
}

// useTOTP takes a code of an authenticator app once.
func (s *Service) useTOTP(ctx context.Context, f Factors, code string) (bool, error) {
	for _, x := range f.List {
		if x.Type != TOTP {
			continue
		}
		secret, old, err := s.sealer.Open(x.Material, totpIdentity(x.UserID, x.ID))
		if err != nil {
			s.log.ErrorContext(ctx, "a TOTP secret does not open under SIGNET_SECRET", "factor", x.ID)
			continue
		}
		step, ok := stepOf(secret, code, f.Now, x.Counter)
		if !ok {
			continue
		}
		if old {
			if err := s.store.Reseal(ctx, x.ID, x.Material, s.sealer.Seal(secret, totpIdentity(x.UserID, x.ID))); err != nil {
				return false, err
			}
		}
		return s.store.UseStep(ctx, x.ID, step)
	}
	return false, nil
}

// Reseal seals the secrets anew that are sealed under an older value of SIGNET_SECRET, and returns how many: after that the older value
// can go.
func (s *Service) Reseal(ctx context.Context) (n int, err error) {
	const batch = 500
	for after := ""; ; {
		list, err := s.store.SealedFactors(ctx, after, batch)
		if err != nil {
			return n, err
		}
		for _, f := range list {
			after = f.ID
			secret, old, err := s.sealer.Open(f.Material, totpIdentity(f.UserID, f.ID))
			if err != nil || !old {
				continue
			}
			if err := s.store.Reseal(ctx, f.ID, f.Material, s.sealer.Seal(secret, totpIdentity(f.UserID, f.ID))); err != nil {
				return n, err
			}
			n++
		}
		if len(list) < batch {
			return n, nil
		}
	}
}

// seal turns what a form carries into text that opens with the same identity alone.
func (s *Service) seal(v any, identity string) string {
	plain, err := json.Marshal(v)
	if err != nil {
		panic(err) // only for types that JSON does not know
	}
	return base64.RawURLEncoding.EncodeToString(s.forms.Seal(plain, identity))
}

// maxSealed bounds what open looks at, in bytes.
const maxSealed = 16 << 10

func (s *Service) open(text, identity string, v any) bool {
	if len(text) > maxSealed {
		return false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return false
	}
	plain, _, err := s.forms.Open(b, identity)
	return err == nil && json.Unmarshal(plain, v) == nil
}
