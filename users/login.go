package users

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"signet/audit"
)

// ErrBadCredentials is the one answer to a wrong password, an unknown user and a disabled one.
var ErrBadCredentials = errors.New("wrong username or password")

// ThrottledError says that there were too many failures for the username or the address.
type ThrottledError struct {
	RetryAfter time.Duration
}

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("too many failed logins; try again in %s", e.RetryAfter.Round(time.Second))
}

// Attempt is a login as the store counts it: keyed digests, from which neither a name nor a password can be told.
type Attempt struct {
	Username []byte // of the canonical username
	Address  []byte // of the client's address
	Password []byte // of username and password together, so that the same wrong password tried again counts once
	Max      int
	Window   time.Duration
}

// Authenticate returns the user that the username and password belong to. It returns ErrBadCredentials, a ThrottledError,
// ErrOverloaded, or the database's error. Every path that takes a password goes through here.
func (s *Service) Authenticate(ctx context.Context, username, password, clientID string, o audit.Origin) (User, error) {
	canonical := Canonical(username)
	a := s.attempt(canonical, password, o.Address)
	candidate, standIn, wait, err := s.store.LoginCandidate(ctx, lookup(username, canonical), a)
	if err != nil {
		return User{}, err
	}
	if wait > 0 {
		return User{}, a.throttled(wait)
	}
	var u User
	if candidate != nil {
		u = *candidate
	}
	hash := u.PasswordHash
	if u.Disabled {
		hash, standIn = "", u.PasswordHash // like a wrong password: a right one would be hashed anew, where its hash is of another kind
	}
	ok, rehash, err := s.hasher.verify(ctx, hash, standIn, password)
	if err != nil {
		return User{}, err
	}
	if !ok || u.Disabled {
		return User{}, s.fail(ctx, a, u.ID, clientID, o)
	}
	if wait, err = s.store.ClearLoginFailures(ctx, a); err != nil {
		return User{}, err
	}
	if wait > 0 {
		return User{}, a.throttled(wait)
	}
	if rehash != "" {
		if err := s.store.Rehash(ctx, u.ID, u.PasswordHash, rehash); err != nil {
			return User{}, err
		}
	}
	return u, nil
}

// throttled bounds the wait by the window: a database counts from when a transaction began, which may then have waited.
func (a Attempt) throttled(wait time.Duration) error {
	return &ThrottledError{RetryAfter: min(wait, a.Window)}
}

// lookup returns the name to look up: nothing for what cannot be a username, and a database may refuse to compare with.
func lookup(username, canonical string) string {
	if !ValidUsername(username) {
		return ""
	}
	return canonical
}

// fail counts a failed login and returns the error to answer it with.
func (s *Service) fail(ctx context.Context, a Attempt, userID, clientID string, o audit.Origin) error {
	failed, throttled := event(audit.LoginFailed, o, userID), event(audit.LoginThrottled, o, userID)
	failed.ClientID, throttled.ClientID = clientID, clientID
	if userID == "" {
		failed.Detail = "unknown username"
	}
	throttled.Detail = fmt.Sprintf("%d failures", a.Max)
	counted, err := s.store.CountLoginFailure(ctx, a, failed, throttled)
	if err != nil {
		return err
	}
	if counted.Wait > 0 {
		return a.throttled(counted.Wait)
	}
	for _, e := range counted.Events(failed, throttled) {
		e.Log(ctx, s.log)
	}
	return ErrBadCredentials
}

// attempt digests a login. The key is derived from SIGNET_SECRET: a copy of the database does not give passwords that
// were mistyped to whoever tries words on it.
func (s *Service) attempt(canonical, password, address string) Attempt {
	return Attempt{
		Username: s.digest("username", canonical), Address: s.digest("address", network(address)),
		Password: s.digest("password", canonical, password),
		Max:      s.cfg.MaxFailures, Window: s.cfg.Window,
	}
}

func (s *Service) digest(parts ...string) []byte {
	mac := hmac.New(sha256.New, s.failKey)
	for _, p := range parts {
		fmt.Fprintf(mac, "%d:%s", len(p), p)
	}
	return mac.Sum(nil)[:16]
}

// network returns what failures are counted for: an IPv4 address, or the /64 that one IPv6 subscriber has to himself.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	ip = ip.Unmap()
	if ip.Is4() {
		return ip.String()
	}
	prefix, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return address
	}
	return prefix.String()
}

// Failures is what is stored of the failed logins of one username or address: the digests of the distinct wrong
// passwords, and how much of the window in which they count remains.
type Failures struct {
	Subject   []byte
	Attempts  [][]byte
	Remaining time.Duration
}

// Counted is what a failed attempt changes.
type Counted struct {
	Wait    time.Duration // the cap was reached before; nothing changes
	Changed []Failures    // Remaining is not above zero where a new window begins
	reached bool          // the cap is reached now
}

// Subjects returns what the attempt counts for.
func (a Attempt) Subjects() [][]byte {
	if bytes.Equal(a.Username, a.Address) {
		return [][]byte{a.Address}
	}
	return [][]byte{a.Username, a.Address}
}

// Count decides what the failed attempt changes of what is known of its subjects. The store calls it while it holds their
// rows, so that of any number of guesses made at once no more than the cap are answered.
func (a Attempt) Count(known []Failures) Counted {
	var c Counted
	for _, f := range known {
		if f.Remaining <= 0 {
			f.Attempts = nil
		}
		if slices.ContainsFunc(f.Attempts, func(d []byte) bool { return bytes.Equal(d, a.Password) }) {
			continue // the same wrong password tried again
		}
		if len(f.Attempts) >= a.Max {
			c.Wait = max(c.Wait, f.Remaining)
			continue
		}
		f.Attempts = append(f.Attempts, a.Password)
		c.Changed = append(c.Changed, f)
		c.reached = c.reached || len(f.Attempts) == a.Max
	}
	if c.Wait > 0 {
		c.Changed = nil
	}
	return c
}

// Events returns which of the events of a failed attempt are to be recorded: none for one that counts once already.
func (c Counted) Events(failed, throttled audit.Event) []audit.Event {
	switch {
	case len(c.Changed) == 0, failed.Type == "":
		return nil
	case c.reached:
		return []audit.Event{failed, throttled}
	default:
		return []audit.Event{failed}
	}
}
