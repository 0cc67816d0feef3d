package users

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"signet/audit"
)

// Purpose is what a link is for. It is good for nothing else.
type Purpose string

// The purposes.
const (
	ResetPassword Purpose = "reset"   // to set a new password
	NewAccount    Purpose = "account" // to make an account: an invitation, or a sign-up whose address is to be confirmed
)

// SignUp is who may make an account by themselves.
type SignUp string

// Who may. An invitation is a link that is handed or mailed to somebody, and good whatever this says.
const (
	SignUpOff     SignUp = "off"
	SignUpInvited SignUp = "invited" // who was invited may ask for the link again
	SignUpOpen    SignUp = "open"    // anybody with an address
)

// SignUps lists them, the default first.
var SignUps = []SignUp{SignUpOff, SignUpInvited, SignUpOpen}

// SignUp tells who may make an account.
func (s *Service) SignUp() SignUp { return cmp.Or(s.cfg.SignUp, SignUpOff) }

// How long links are good.
const (
	ResetTTL      = 30 * time.Minute
	SignUpTTL     = 24 * time.Hour
	InvitationTTL = 7 * 24 * time.Hour
)

// ErrLink is the one answer to a link that is unknown, used, replaced by another one, too old, or made for something else.
var ErrLink = errors.New("the link is not good any more; ask for a new one")

// ErrForeignAddress says that somebody who makes an account wants to be called by an address that is not the one of their link.
var ErrForeignAddress = errors.New("username: an e-mail address has to be the one that the link is for")

// ErrDisabled says that a disabled user cannot be given a link.
var ErrDisabled = errors.New("the user is disabled; enable it first")

// Link is a link that is good once, as the database knows it. There is one at a time of each purpose for whom it is for.
type Link struct {
	Purpose   Purpose
	Subject   string // whom it is for: a user's id, or an address in lower case
	UserEpoch int64  // the user's: it is good only in this one
	Email     string // the address that it was mailed to, as it is written; empty: it was handed out
	Invited   bool   // somebody of ours asked for it, not whoever has the address
	ExpiresAt time.Time
}

// LinkRef is what a link says: which row is its own, and the digest of its secret.
type LinkRef struct {
	ID     uuid.UUID
	Digest []byte
}

// The written form of a link's secret part is that of a keys.Tagger, of
//
//	id (16) ‖ secret (18)
const (
	linkPrefix   = "sgo_"
	linkBodySize = 16 + 18
)

// newLink makes the secret part of a link, and what is kept of it.
func (s *Service) newLink() (text string, ref LinkRef) {
	ref.ID = uuid.New()
	body := make([]byte, linkBodySize, linkBodySize+sha256.Size)
	copy(body, ref.ID[:])
	_, _ = rand.Read(body[16:])
	ref.Digest = linkDigest(body)
	return s.linkTagger.Write(linkPrefix, body), ref
}

// parseLink reads the secret part of a link that this server made; ok is false for anything else.
func (s *Service) parseLink(text string) (ref LinkRef, ok bool) {
	body, ok := s.linkTagger.Read(linkPrefix, text, linkBodySize)
	if !ok {
		return LinkRef{}, false
	}
	return LinkRef{ID: uuid.UUID(body[:16]), Digest: linkDigest(body)}, true
}

func linkDigest(body []byte) []byte {
	sum := sha256.Sum256(append([]byte("signet link "), body[16:]...))
	return sum[:]
}

// ValidEmail tells whether s is an address that a mail can be sent to.
func ValidEmail(s string) bool {
	p := Profile{Email: s}
	return s != "" && p.validate() == nil
}

// FindByEmail returns the user whose verified address it is, or ErrNotFound.
func (s *Service) FindByEmail(ctx context.Context, email string) (User, error) {
	if !ValidEmail(email) {
		return User{}, ErrNotFound
	}
	return s.store.UserByEmail(ctx, strings.ToLower(email))
}

// NewResetLink makes the secret part of a link by which the user can set a new password, in place of any other. Email is the address
// that it is about to be mailed to; empty: it is handed out. It returns ErrNotFound where the user changed meanwhile, or ErrDisabled.
func (s *Service) NewResetLink(ctx context.Context, u User, email string, o audit.Origin) (text string, expires time.Time, err error) {
	if u.Disabled {
		return "", time.Time{}, ErrDisabled
	}
	e := event(audit.PasswordResetRequested, o, u.ID)
	return s.createLink(ctx, Link{Purpose: ResetPassword, Subject: u.ID, UserEpoch: u.Epoch, Email: email}, ResetTTL, e)
}

// Invite makes the secret part of a link by which whoever has the address can make an account, in place of any other. Mailed says that it
// goes to the address, and so proves it, and nowhere else. It returns a ProfileError for what is no address, or ErrEmailTaken.
func (s *Service) Invite(ctx context.Context, email string, mailed bool, o audit.Origin) (text string, expires time.Time, err error) {
	return s.newAccountLink(ctx, email, mailed, true, InvitationTTL, o)
}

// NewSignUpLink is Invite for somebody who asked for an account, and is about to be mailed the link. Where the address was invited it is
// still.
func (s *Service) NewSignUpLink(ctx context.Context, email string, o audit.Origin) (text string, expires time.Time, err error) {
	return s.newAccountLink(ctx, email, true, false, SignUpTTL, o)
}

func (s *Service) newAccountLink(ctx context.Context, email string, mailed, invited bool, ttl time.Duration, o audit.Origin) (string, time.Time, error) {
	if !ValidEmail(email) {
		return "", time.Time{}, &ProfileError{"email", "must be an e-mail address such as ann@example.com"}
	}
	_, err := s.FindByEmail(ctx, email)
	if err == nil {
		return "", time.Time{}, ErrEmailTaken
	}
	if !errors.Is(err, ErrNotFound) {
		return "", time.Time{}, err
	}
	n := Link{Purpose: NewAccount, Subject: strings.ToLower(email), Invited: invited}
	if mailed {
		n.Email = email
	}
	e := audit.Event{}
	if invited {
		e = audit.New(audit.UserInvited, o)
		e.Detail = email
	}
	return s.createLink(ctx, n, ttl, e)
}

// createLink stores the link with its event, if that has a type.
func (s *Service) createLink(ctx context.Context, n Link, ttl time.Duration, e audit.Event) (string, time.Time, error) {
	text, ref := s.newLink()
	expires, err := s.store.CreateLink(ctx, ref, n, ttl, e)
	if err != nil {
		return "", time.Time{}, err
	}
	if e.Type != "" {
		e.Log(ctx, s.log)
	}
	return text, expires, nil
}

// Invited tells whether an invitation of the address is open.
func (s *Service) Invited(ctx context.Context, email string) (bool, error) {
	return s.store.Invited(ctx, strings.ToLower(email))
}

// Link returns what a link is about, without using it, or ErrLink.
func (s *Service) Link(ctx context.Context, text string, p Purpose) (Link, error) {
	ref, ok := s.parseLink(text)
	if !ok {
		return Link{}, ErrLink
	}
	l, ok, err := s.store.Link(ctx, ref)
	if err == nil && (!ok || l.Purpose != p || p == NewAccount && !l.Invited && s.cfg.SignUp != SignUpOpen) {
		err = ErrLink
	}
	return l, err
}

// ResetByLink sets the password of the user whom the link is for, and ends all of their sessions. Failed logins of that name are
// forgotten: who could not remember the password has tried some. It returns ErrLink, ErrPassword, or ErrOverloaded; in the latter two
// cases the link is good still.
func (s *Service) ResetByLink(ctx context.Context, text, password string, o audit.Origin) (User, error) {
	l, err := s.Link(ctx, text, ResetPassword)
	if err != nil {
		return User{}, err
	}
	if err := checkPassword(password); err != nil {
		return User{}, err
	}
	u, err := s.store.User(ctx, l.Subject)
	if errors.Is(err, ErrNotFound) {
		err = ErrLink
	}
	if err != nil {
		return User{}, err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return User{}, err
	}
	o.Actor = u.ID
	events := []audit.Event{event(audit.PasswordResetUsed, o, u.ID), event(audit.UserPasswordChanged, o, u.ID)}
	ref, _ := s.parseLink(text)
	u, err = s.store.UseResetLink(ctx, ref, l, hash, s.attempt(Canonical(u.Username), "", "").Username, events)
	if err == nil {
		for _, e := range events {
			e.Log(ctx, s.log)
		}
	}
	return u, err
}

// Join makes an account by a link. An address that the link was mailed to is the new user's, verified. It returns ErrLink, ErrUsername,
// ErrForeignAddress, ErrPassword, ErrExists, ErrEmailTaken, or ErrOverloaded; but for the first the link is good still.
func (s *Service) Join(ctx context.Context, text, username, password string, o audit.Origin) (User, error) {
	l, err := s.Link(ctx, text, NewAccount)
	if err != nil {
		return User{}, err
	}
	if err := checkUsername(username); err != nil {
		return User{}, err
	}
	if name := Canonical(username); ValidEmail(name) && name != Canonical(l.Subject) {
		return User{}, ErrForeignAddress
	}
	if err := checkPassword(password); err != nil {
		return User{}, err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return User{}, err
	}
	u := User{ID: uuid.NewString(), Username: username, PasswordHash: hash, Profile: Profile{Email: l.Subject}}
	if l.Email != "" {
		u.Email, u.EmailVerified = l.Email, true
	}
	o.Actor = u.ID
	e := event(audit.UserCreated, o, u.ID)
	e.Detail = "by a link"
	ref, _ := s.parseLink(text)
	u, err = s.store.UseAccountLink(ctx, ref, u, Canonical(username), e)
	return u, s.done(ctx, e, err)
}

// CountRequest counts that a mail was asked for, for a recipient and from an address: who asks for too many has to wait, and nobody's
// mailbox is filled. It returns a ThrottledError, or the database's error.
func (s *Service) CountRequest(ctx context.Context, recipient string, o audit.Origin) error {
	a := Attempt{
		Username: s.digest("mail to", Canonical(recipient)), Address: s.digest("mail from", network(o.Address)),
		Password: []byte(uuid.NewString()), Max: maxRequests, Window: requestWindow,
	}
	counted, err := s.store.CountLoginFailure(ctx, a, audit.Event{}, audit.Event{})
	if err == nil && counted.Wait > 0 {
		err = &ThrottledError{RetryAfter: min(counted.Wait, requestWindow)}
	}
	return err
}

// CountGuess counts that somebody has typed a user code, before it is looked up: of the codes of others no more than a few can be tried by a
// user, who may be nobody yet, and from an address. The same code counts once. It returns a ThrottledError, or the database's error.
func (s *Service) CountGuess(ctx context.Context, userID, code string, o audit.Origin) error {
	counted, err := s.store.CountLoginFailure(ctx, s.guess(userID, code, o), audit.Event{}, audit.Event{})
	if err == nil && counted.Wait > 0 {
		err = s.throttled(counted.Wait)
	}
	return err
}

// TakeBackGuess takes back what CountGuess has counted, for a code that was right, and nothing of what was counted for others.
func (s *Service) TakeBackGuess(ctx context.Context, userID, code string, o audit.Origin) error {
	return s.store.TakeBackFailure(ctx, s.guess(userID, code, o))
}

func (s *Service) guess(userID, code string, o audit.Origin) Attempt {
	a := Attempt{
		Address: s.digest("user code from", network(o.Address)), Password: s.digest("user code", code),
		Max: s.cfg.MaxFailures, Window: s.cfg.Window,
	}
	if a.Username = a.Address; userID != "" {
		a.Username = s.digest("user code by", userID)
	}
	return a
}

// CountRegistration counts that a client registers itself from an address, of which only so many may in a day. It returns a
// ThrottledError, or the database's error.
func (s *Service) CountRegistration(ctx context.Context, o audit.Origin) error {
	return s.countFrom(ctx, "registration from", maxRegistrations, LongestWindow, o)
}

// CountPending counts that somebody who need not prove who they are has something kept that is only asked for, a pushed request or a
// device code, or a client's metadata document fetched, from an address. It returns a ThrottledError, or the database's error.
func (s *Service) CountPending(ctx context.Context, o audit.Origin) error {
	return s.countFrom(ctx, "pending from", maxPending, pendingWindow, o)
}

func (s *Service) countFrom(ctx context.Context, what string, most int, window time.Duration, o audit.Origin) error {
	subject := s.digest(what, network(o.Address))
	counted, err := s.store.CountLoginFailure(ctx, Attempt{
		Username: subject, Address: subject, Password: []byte(uuid.NewString()), Max: most, Window: window,
	}, audit.Event{}, audit.Event{})
	if err == nil && counted.Wait > 0 {
		err = &ThrottledError{RetryAfter: min(counted.Wait, window)}
	}
	return err
}

// How many mails may be asked for, for one recipient or from one address, in how long; and how many clients may register themselves from
// one address in the longest of the times in which anything is counted. Pushed requests and device codes of public clients, and documents,
// are few enough not to fill the database or to make Signet a nuisance elsewhere, and enough for an office behind one address.
const (
	maxRequests      = 10
	requestWindow    = time.Hour
	maxRegistrations = 50
	maxPending       = 300
	pendingWindow    = 15 * time.Minute

	LongestWindow = 24 * time.Hour
)
