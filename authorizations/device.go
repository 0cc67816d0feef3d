package authorizations

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"math/big"
	"slices"
	"strings"
	"time"

	"signet/audit"
	"signet/clients"
	"signet/logins"
)

const (
	// DeviceTTL is how long a user has to approve what a device asks for (RFC 8628 section 3.2).
	DeviceTTL = 10 * time.Minute
	// DevicePause is what a device has to wait between two polls, and how much longer it has to each time that it did not.
	DevicePause = 5 * time.Second
	// PollSlack is how much too early a poll may come: clocks and networks are not exact.
	PollSlack = time.Second

	// PollAgain is how soon a library repeats what was refused, to find out how the server wants clients to authenticate:
	// golang.org/x/oauth2 does it at every poll, by HTTP Basic first, and then in the body.
	PollAgain = time.Second

	devicePrefix = "sgd_"

	// userCodeLetters have no vowels, so that they make no words, and none that look alike (RFC 8628 section 6.1).
	userCodeLetters = "BCDFGHJKLMNPQRSTVWXZ"
	userCodeLength  = 8
)

// DeviceRequest is what the store makes a device code of.
type DeviceRequest struct {
	Code      Code
	UserCode  []byte // keyed digest
	Client    *clients.Client
	Scope     clients.Scope
	Audience  []string
	Address   string
	UserAgent string
}

// Device is a device that waits for a user's approval, as the page shows it.
type Device struct {
	ClientID  string
	Scope     clients.Scope
	Audience  []string
	Address   string
	UserAgent string
	CreatedAt time.Time
}

// Poll is what a device that asks again is told.
type Poll int

// The answers to polls. An approved code is redeemed before anybody asks.
const (
	PollUnknown Poll = iota // never issued, another client's, used, or denied and said so
	PollPending
	PollTooSoon
	PollDenied
	PollExpired
)

// DeviceStore is what this package needs of a database for devices.
type DeviceStore interface {
	// CreateDeviceCode inserts the request, or returns false if the user code is another one's.
	CreateDeviceCode(ctx context.Context, d DeviceRequest) (bool, error)
	// PendingDevice returns the device that waits with that user code, for an enabled client.
	PendingDevice(ctx context.Context, userCode []byte) (d Device, ok bool, err error)
	// ApproveDevice makes an authorization code of the device's, which is good for as long, if it waits still and all else is as for
	// CreateCode.
	ApproveDevice(ctx context.Context, n NewCode, userCode []byte, granted audit.Event) (userID string, ok bool, err error)
	// DenyDevice writes down that a user does not allow it, and returns false if it was allowed before, or does not wait any more. Denied
	// twice is denied.
	DenyDevice(ctx context.Context, userCode []byte) (bool, error)
	// PollDevice tells what became of a device code that could not be redeemed. One that comes sooner than it may waits DevicePause
	// longer from then on; a denial is told once. One within PollAgain of another, by HTTP Basic where that was not or the other way
	// round, is that one once more.
	PollDevice(ctx context.Context, c Code, clientID string, basic bool) (Poll, error)
}

// UserCode is what a user types to tell which device they mean.
type UserCode string

// String is the code as it is shown: in two halves.
func (c UserCode) String() string {
	if len(c) != userCodeLength {
		return string(c)
	}
	return string(c[:userCodeLength/2] + "-" + c[userCodeLength/2:])
}

// ParseUserCode reads a code as people write it: in any case, with dashes and spaces or without. Ok is false for what cannot be one.
func ParseUserCode(text string) (c UserCode, ok bool) {
	if len(text) > 64 {
		return "", false
	}
	text = strings.ToUpper(strings.NewReplacer("-", "", " ", "", "\t", "", "\u2010", "", "\u2011", "", "\u2013", "", "\u2014", "", "\u00a0", "").Replace(text))
	if len(text) != userCodeLength || strings.Trim(text, userCodeLetters) != "" {
		return "", false
	}
	return UserCode(text), true
}

func newUserCode() UserCode {
	var b [userCodeLength]byte
	for i := range b {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(userCodeLetters))))
		if err != nil {
			panic(err) // the system's source of randomness does not fail
		}
		b[i] = userCodeLetters[n.Int64()]
	}
	return UserCode(b[:])
}

// digestOf is what the database knows of a user code.
func (s *Service) digestOf(c UserCode) []byte {
	mac := hmac.New(sha256.New, s.userCodeKey)
	mac.Write([]byte(c))
	return mac.Sum(nil)
}

// StartDevice puts a device's request down (RFC 8628 section 3.1), and returns the device code and the user code.
func (s *Service) StartDevice(ctx context.Context, c *clients.Client, scope clients.Scope, audience []string, o audit.Origin) (deviceCode string, userCode UserCode, err error) {
	d := DeviceRequest{Code: newCode(), Client: c, Scope: scope, Audience: audience, Address: o.Address, UserAgent: o.Agent()}
	for range 10 {
		userCode = newUserCode()
		d.UserCode = s.digestOf(userCode)
		ok, err := s.store.CreateDeviceCode(ctx, d)
		if err != nil {
			return "", "", err
		}
		if ok {
			return s.deviceTagger.Write(devicePrefix, d.Code.body()), userCode, nil
		}
	}
	return "", "", errors.New("no user code is free")
}

// ParseDeviceCode reads a device code that this server issued; ok is false for anything else.
func (s *Service) ParseDeviceCode(text string) (c Code, ok bool) {
	return readCode(s.deviceTagger, devicePrefix, text)
}

// Device returns the device that waits with the user code.
func (s *Service) Device(ctx context.Context, c UserCode) (Device, bool, error) {
	return s.store.PendingDevice(ctx, s.digestOf(c))
}

// Approve lets the device of the request begin a session, as its login's user has confirmed. It returns ErrChanged, or the database's
// error.
func (s *Service) Approve(ctx context.Context, c *clients.Client, l logins.Ref, r *Request, o audit.Origin) error {
	n := NewCode{Login: l, Party: partyOf(c), Request: r, Confirmed: true, Remember: true}
	e := granted(n, "a device: "+r.Scope.String(), o)
	userID, ok, err := s.store.ApproveDevice(ctx, n, s.digestOf(r.Device), e)
	if err == nil && !ok {
		err = ErrChanged
	}
	if err == nil {
		e.Actor, e.UserID = userID, userID
		e.Log(ctx, s.log)
	}
	return err
}

// Refuse tells the device of the request that its user does not allow it. It returns false if the device has been told otherwise, or
// does not ask any more.
func (s *Service) Refuse(ctx context.Context, r *Request) (bool, error) {
	return s.store.DenyDevice(ctx, s.digestOf(r.Device))
}

// PollDevice tells what became of a device code that could not be redeemed, by a client that has authenticated by HTTP Basic or not.
func (s *Service) PollDevice(ctx context.Context, c *clients.Client, code Code, basic bool) (Poll, error) {
	return s.store.PollDevice(ctx, code, c.ID, basic)
}

// NewDeviceRequest is the request that a user is asked about for a device. Every user is, whatever they have allowed before: whoever
// holds the device may have talked them into it (RFC 8628 section 5.4).
func NewDeviceRequest(c UserCode, d Device, locales []string) *Request {
	return &Request{ClientID: d.ClientID, Scope: slices.Clone(d.Scope), Audience: slices.Clone(d.Audience), Prompt: []string{PromptConsent}, Locales: locales, Device: c}
}
