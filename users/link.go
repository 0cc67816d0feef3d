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
