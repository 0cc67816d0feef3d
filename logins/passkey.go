package logins

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/url"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"

	"signet/audit"
	"signet/users"
)

// challengeTTL is how long a challenge is good for.
const challengeTTL = 5 * time.Minute

// Ceremony is a question to an authenticator (Web Authentication Level 3).
type Ceremony struct {
	Options string // for the browser, in JSON
	Sealed  string // comes back with the answer
}

// newRelyingParty is this server as authenticators know it: by the host of its issuer.
func newRelyingParty(issuer, brand string) *webauthn.WebAuthn {
	u, err := url.Parse(issuer)
	if err != nil || u.Hostname() == "" {
		return nil
	}
	if brand == "" {
		brand = "Signet"
	}
	timeout := webauthn.TimeoutConfig{Enforce: true, Timeout: challengeTTL, TimeoutUVD: challengeTTL}
	rp, err := webauthn.New(&webauthn.Config{
		RPID: u.Hostname(), RPDisplayName: brand, RPOrigins: []string{u.Scheme + "://" + u.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		Timeouts:              webauthn.TimeoutsConfig{Login: timeout, Registration: timeout},
		// A browser's extension may add outputs that nobody asked for; none is read.
		ExtensionsUnsolicitedOutputPolicy: protocol.UnsolicitedOutputPolicyIgnore,
	})
	if err != nil {
		return nil // a host that can have no passkeys, such as an address
	}
	return rp
}

// HasPasskeys tells whether this server's address is one that passkeys can be made for.
func (s *Service) HasPasskeys() bool { return s.party != nil }

// holder is a user as the library wants one.
type holder struct {
	id, name    string
	credentials []webauthn.Credential
}

func (h *holder) WebAuthnID() []byte {
	id, err := uuid.Parse(h.id)
	if err != nil {
		return nil
	}
	return id[:]
}
func (h *holder) WebAuthnName() string                       { return h.name }
func (h *holder) WebAuthnDisplayName() string                { return h.name }
func (h *holder) WebAuthnCredentials() []webauthn.Credential { return h.credentials }

func holderOf(userID, name string, f Factors) *holder {
	h := &holder{id: userID, name: name}
	for _, x := range f.List {
		var c webauthn.Credential
		if x.Type == Passkey && json.Unmarshal(x.Material, &c) == nil {
			c.Authenticator.SignCount = uint32(x.Counter) //nolint:gosec // it came from one
			h.credentials = append(h.credentials, c)
		}
	}
	return h
}

// ceremony seals what the library has to remember.
func (s *Service) ceremony(options any, session *webauthn.SessionData, identity string) (Ceremony, error) {
	text, err := json.Marshal(options)
	return Ceremony{string(text), s.seal(session, identity)}, err
}

// AskNewPasskey asks for a new passkey of the user.
func (s *Service) AskNewPasskey(ctx context.Context, u users.User, browser string) (Ceremony, error) {
	if s.party == nil {
		return Ceremony{}, ErrNoFactor
	}
	f, err := s.store.Factors(ctx, u.ID)
	if err != nil {
		return Ceremony{}, err
	}
	h := holderOf(u.ID, u.Username, f)
	var known []protocol.CredentialDescriptor
	for _, c := range h.credentials {
		known = append(known, c.Descriptor())
	}
	options, session, err := s.party.BeginRegistration(h, webauthn.WithExclusions(known), webauthn.WithAuthenticatorSelection(
		protocol.AuthenticatorSelection{ResidentKey: protocol.ResidentKeyRequirementPreferred, UserVerification: protocol.VerificationPreferred}))
	if err != nil {
		return Ceremony{}, err
	}
	return s.ceremony(options.Response, session, "new passkey "+u.ID+" "+browser)
}

// AddPasskey adds the passkey that the authenticator has answered with. It returns the user's first recovery codes, if these are;
// ErrWrongFactor, ErrFactorExists, ErrFactorName, or the database's error.
func (s *Service) AddPasskey(ctx context.Context, u users.User, browser, sealed, answer, name string, first bool, o audit.Origin) (Factor, []string, error) {
	var session webauthn.SessionData
	if s.party == nil || !s.open(sealed, "new passkey "+u.ID+" "+browser, &session) {
		return Factor{}, nil, ErrEnrolment
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes([]byte(answer))
	if err != nil {
		return Factor{}, nil, wrongPasskey(err)
	}
	c, err := s.party.CreateCredential(holderOf(u.ID, u.Username, Factors{}), session, parsed)
	if err != nil {
		return Factor{}, nil, wrongPasskey(err)
	}
	counter := int64(c.Authenticator.SignCount)
	c.Attestation = webauthn.CredentialAttestation{} // nothing of it is looked at again
	record, err := json.Marshal(c)
	if err != nil {
		return Factor{}, nil, err
	}
	return s.add(ctx, Factor{
		ID: uuid.NewString(), Type: Passkey, Name: name, UserID: u.ID, UserEpoch: u.Epoch, First: first, Material: record, CredentialID: c.ID, Counter: counter,
	}, o)
}

// wrongPasskey keeps the library's reason for the log.
func wrongPasskey(err error) error {
	var e *protocol.Error
	if errors.As(err, &e) {
		return errors.Join(ErrWrongFactor, errors.New(e.Details+": "+e.DevInfo))
	}
	return errors.Join(ErrWrongFactor, err)
}

// AskPasskey asks for a passkey of anybody, to log in with instead of the password. What it asks tells nothing of any user.
func (s *Service) AskPasskey(browser string) (Ceremony, error) {
	if s.party == nil {
		return Ceremony{}, nil
	}
	options, session, err := s.party.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return Ceremony{}, err
	}
	return s.ceremony(options.Response, session, "passkey "+browser)
}

// CheckPasskey checks an answer to AskPasskey, and returns whose it is. The user has to be looked up, as they are now.
func (s *Service) CheckPasskey(ctx context.Context, browser, sealed, answer, clientID string, o audit.Origin) (userID string, p Proof, err error) {
	var session webauthn.SessionData
	if s.party == nil || !s.open(sealed, "passkey "+browser, &session) {
		return "", Proof{}, ErrWrongFactor
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes([]byte(answer))
	if err != nil {
		return "", Proof{}, wrongPasskey(err)
	}
	userID, ok, err := s.store.PasskeyOwner(ctx, parsed.RawID)
	if err != nil {
		return "", Proof{}, err
	}
	if !ok {
		return "", Proof{}, ErrWrongFactor
	}
	f, err := s.store.Factors(ctx, userID)
	if err != nil {
		return "", Proof{}, err
	}
	h := holderOf(userID, "", f)
	_, c, err := s.party.ValidatePasskeyLogin(func(_, handle []byte) (webauthn.User, error) {
		if !bytes.Equal(handle, h.WebAuthnID()) {
			return nil, ErrWrongFactor
		}
		return h, nil
	}, session, parsed)
	if err != nil {
		return userID, Proof{}, s.notThisPasskey(ctx, userID, clientID, err, o)
	}
	if err := s.usePasskey(ctx, f, c, session, clientID, o); err != nil {
		return userID, Proof{}, err
	}
	return userID, Proof{append(methodsOf(c), "mfa"), TwoFactors}, nil
}

// AskSecondPasskey asks for a passkey of the user whose password was right.
func (s *Service) AskSecondPasskey(u users.User, f Factors, browser string) (Ceremony, error) {
	if s.party == nil || !f.Has(Passkey) {
		return Ceremony{}, nil
	}
	options, session, err := s.party.BeginLogin(holderOf(u.ID, u.Username, f), webauthn.WithUserVerification(protocol.VerificationDiscouraged))
	if err != nil {
		return Ceremony{}, err
	}
	return s.ceremony(options.Response, session, "second passkey "+u.ID+" "+browser)
}

// CheckSecondPasskey checks an answer to AskSecondPasskey.
func (s *Service) CheckSecondPasskey(ctx context.Context, u users.User, browser, sealed, answer, clientID string, o audit.Origin) (Proof, error) {
	var session webauthn.SessionData
	if s.party == nil || !s.open(sealed, "second passkey "+u.ID+" "+browser, &session) {
		return Proof{}, ErrWrongFactor
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes([]byte(answer))
	if err != nil {
		return Proof{}, wrongPasskey(err)
	}
	f, err := s.store.Factors(ctx, u.ID)
	if err != nil {
		return Proof{}, err
	}
	c, err := s.party.ValidateLogin(holderOf(u.ID, u.Username, f), session, parsed)
	if err != nil {
		return Proof{}, s.notThisPasskey(ctx, u.ID, clientID, err, o)
	}
	if err := s.usePasskey(ctx, f, c, session, clientID, o); err != nil {
		return Proof{}, err
	}
	return Proof{append([]string{"pwd"}, append(methodsOf(c), "mfa")...), TwoFactors}, nil
}

// methodsOf are the values of amr that a passkey stands for: one that can be copied to other devices is not bound to hardware.
func methodsOf(c *webauthn.Credential) []string {
	if c.Flags.BackupEligible {
		return []string{"swk", "user"}
	}
	return []string{"hwk", "user"}
}

// notThisPasskey records a passkey that did not do.
func (s *Service) notThisPasskey(ctx context.Context, userID, clientID string, reason error, o audit.Origin) error {
	if err := s.failed(ctx, userID, clientID, "a passkey", false, o); !errors.Is(err, ErrWrongFactor) {
		return err
	}
	return wrongPasskey(reason)
}

// usePasskey takes the challenge, once, and moves the counter. A counter that does not grow is that of a copy.
func (s *Service) usePasskey(ctx context.Context, f Factors, c *webauthn.Credential, session webauthn.SessionData, clientID string, o audit.Origin) error {
	for _, x := range f.List {
		if x.Type != Passkey || !bytes.Equal(x.CredentialID, c.ID) {
			continue
		}
		if c.Authenticator.CloneWarning {
			if err := s.failed(ctx, x.UserID, clientID, "a passkey whose counter went back: "+x.ID, false, o); !errors.Is(err, ErrWrongFactor) {
				return err
			}
			return ErrWrongFactor
		}
		digest := sha256.Sum256([]byte("challenge " + session.Challenge))
		ok, err := s.store.UsePasskey(ctx, x, int64(c.Authenticator.SignCount), digest[:], challengeTTL)
		if err == nil && !ok {
			err = ErrWrongFactor
		}
		return err
	}
	return ErrWrongFactor
}
