package users

import (
	"context"
	"time"

	"github.com/google/uuid"

	"signet/audit"
)

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

// CountRequest counts that a mail was asked for, for a recipient and from an address: who asks for too many has to wait, and nobody's
// mailbox is filled. It returns a ThrottledError, or the database's error.
func (s *Service) CountRequest(ctx context.Context, recipient string, o audit.Origin) error {
	return s.count(ctx, Attempt{
		Username: s.digest("mail to", Canonical(recipient)), Address: s.digest("mail from", network(o.Address)),
		Password: anew(), Max: maxRequests, Window: requestWindow,
	})
}

// CountGuess counts that somebody has typed a user code, before it is looked up: of the codes of others no more than a few can be tried by a
// user, who may be nobody yet, and from an address. The same code counts once. It returns a ThrottledError, or the database's error.
func (s *Service) CountGuess(ctx context.Context, userID, code string, o audit.Origin) error {
	return s.count(ctx, s.guess(userID, code, o))
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
	return s.count(ctx, Attempt{Username: subject, Address: subject, Password: anew(), Max: most, Window: window})
}

// anew is a password of an attempt that counts each time.
func anew() []byte { return []byte(uuid.NewString()) }

// count counts an attempt that is not a login's, and of which nothing is recorded. It returns a ThrottledError beyond the cap.
func (s *Service) count(ctx context.Context, a Attempt) error {
	counted, err := s.store.CountLoginFailure(ctx, a, audit.Event{}, audit.Event{})
	if err == nil && counted.Wait > 0 {
		err = a.throttled(counted.Wait)
	}
	return err
}
