package users

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"signet/audit"
	"signet/keys"
)

// Errors of this package. Their texts are for the people who look after users.
var (
	ErrNotFound = errors.New("no such user")
	ErrExists   = errors.New("a user with this name exists already")
	ErrUsername = errors.New("username: must be 1 to 255 characters, none of them control characters, without spaces around it")
	ErrPassword = errors.New("password: must be 8 to 1024 bytes of UTF-8")
)

// User is a resource owner.
type User struct {
	ID        string    `json:"id"` // the subject (sub) of the user's tokens
	Username  string    `json:"username"`
	Admin     bool      `json:"admin"`
	Disabled  bool      `json:"disabled"`
	CreatedAt time.Time `json:"created_at"`

	// Epoch is raised to end all of the user's sessions at once: each remembers the epoch in which it began.
	Epoch        int64  `json:"-"`
	PasswordHash string `json:"-"`

	Profile
}

// Store is what this package needs of a database. Every change writes its audit event in the same transaction.
type Store interface {
	// User returns the user with that canonical name (see Canonical) or id, or ErrNotFound.
	User(ctx context.Context, nameOrID string) (User, error)
	// Users returns the selected users in the order of their canonical names.
	Users(ctx context.Context, f Filter) ([]User, error)
	// CreateUser inserts u under its canonical name, or returns ErrExists.
	CreateUser(ctx context.Context, u User, canonical string, e audit.Event) (User, error)
	// ImportUsers inserts those of the users whose canonical names and verified addresses are free, with their events, in one
	// transaction. It returns how many, and which places in the list have a free name, but another user's address.
	ImportUsers(ctx context.Context, list []NewUser) (imported int, taken []int, err error)
	// Rehash replaces the hash of an unchanged password, if it is still the old one.
	Rehash(ctx context.Context, id, oldHash, newHash string) error
	// ChangeUser makes the changes, and writes the events, or returns ErrNotFound.
	ChangeUser(ctx context.Context, id string, ch Changes, events []audit.Event) (User, error)
	// DeleteUser deletes the user.
	DeleteUser(ctx context.Context, id string, e audit.Event) error

	// LoginCandidate returns the user with that canonical name, nil for an unknown one, and how long the attempt has to
	// wait because of earlier failures: 0 if it may go on. StandIn is the hash of whichever user a.Username falls on, empty if there
	// is none: what an unknown user's check is made to cost.
	LoginCandidate(ctx context.Context, canonical string, a Attempt) (u *User, standIn string, wait time.Duration, err error)
	// UserByEmail returns the user whose verified address that is, in lower case, or ErrNotFound.
	UserByEmail(ctx context.Context, email string) (User, error)

	// CreateLink stores the link in the place of any other one of its purpose for its subject, with the event, if that has a type, and
	// returns its end. A link to make an account is an invitation if the one before was, and lives as long as that one at least. It returns
	// ErrNotFound for a reset unless the user is in the link's epoch and enabled.
	CreateLink(ctx context.Context, r LinkRef, n Link, ttl time.Duration, e audit.Event) (expires time.Time, err error)
	// Link returns the link, if it has not expired and, if it is for a user, that one is as they were.
	Link(ctx context.Context, r LinkRef) (l Link, ok bool, err error)
	// Invited tells whether there is an invitation, not expired, for the address, which is in lower case.
	Invited(ctx context.Context, email string) (bool, error)
	// UseResetLink deletes the link, replaces the user's password hash, raises their epoch, and forgets the failures of the subject, or
	// returns ErrLink.
	UseResetLink(ctx context.Context, r LinkRef, l Link, hash string, failures []byte, events []audit.Event) (User, error)
	// UseAccountLink deletes the link and inserts the user, or returns ErrLink, ErrExists or ErrEmailTaken and changes nothing.
	UseAccountLink(ctx context.Context, r LinkRef, u User, canonical string, e audit.Event) (User, error)

	// CountLoginFailure counts the failed attempt for its username and its address, the same password once, and writes
	// the events of what it changed. Beyond the cap it counts nothing and tells how long to wait.
	CountLoginFailure(ctx context.Context, a Attempt, failed, throttled audit.Event) (Counted, error)
	// TakeBackFailure forgets the attempt's password among the failures of its username and its address, and nothing else of them.
	TakeBackFailure(ctx context.Context, a Attempt) error
	// ClearLoginFailures forgets the failures of the username, unless the cap was reached meanwhile, by guesses made
	// at the same time: then it returns how long to wait.
	ClearLoginFailures(ctx context.Context, a Attempt) (time.Duration, error)
}

// Filter selects users. Zero members select everything.
type Filter struct {
	Query string // what the name contains, without regard to case
	After string // users whose names are behind this one
	Limit int
}

// Changes are what is to become of a user, for the store. Nil members are left as they are. A new hash, disabling and
// EndSessions raise the epoch.
type Changes struct {
	PasswordHash *string
	Disabled     *bool
	Admin        *bool
	EndSessions  bool
	Except       string // the id of a session of the user that lives on; none if empty
	Epoch        *int64 // nothing is changed, and ErrNotFound returned, unless it is still this one

	Profile, OldProfile *Profile // a new profile in place of that one, else ErrProfileChanged; a verified address of another user ErrEmailTaken
}

// RaisesEpoch tells whether the changes end all of the user's sessions and logins.
func (ch *Changes) RaisesEpoch() bool {
	return ch.EndSessions || ch.PasswordHash != nil || ch.Disabled != nil && *ch.Disabled
}

// Config is what the operator decides about logins.
type Config struct {
	Secret      keys.Secret
	MaxFailures int           // failed logins for one username or address before they are throttled
	Window      time.Duration // for how long failures count
	SignUp      SignUp        // who may make an account; empty: off
	HashMemory  uint32        // what a password's hash takes, in KiB; 0: what is recommended
}

// Service looks after users and checks their passwords.
type Service struct {
	store   Store
	cfg     Config
	log     *slog.Logger
	hasher  *hasher
	failKey []byte // keys what is stored of failed logins

	linkTagger keys.Tagger
}

// New returns a service on the store.
func New(store Store, cfg Config, log *slog.Logger) *Service {
	return &Service{
		store: store, cfg: cfg, log: log, hasher: newHasher(cmp.Or(cfg.HashMemory, argonMemory)),
		failKey: cfg.Secret.Derive("failed login v1")[0], linkTagger: cfg.Secret.Tagger("link tag v1"),
	}
}

// Canonical returns the form of a username under which it is unique: without regard to case and to how its characters
// are composed.
func Canonical(username string) string {
	// Lower case first: a few letters fold to their upper case, and only from the lower one.
	return norm.NFC.String(cases.Fold().String(strings.ToLower(norm.NFC.String(username))))
}

// ValidUsername tells whether s is 1 to 255 characters, none of them control characters, without spaces around it.
func ValidUsername(s string) bool {
	n := utf8.RuneCountInString(s)
	return n >= 1 && n <= 255 && utf8.ValidString(s) && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, unicode.IsControl)
}

// checkUsername refuses a name that nobody is to have from now on: also one with characters that turn the writing direction, by which it can
// be made to look like another's.
func checkUsername(name string) error {
	if !ValidUsername(name) || strings.ContainsFunc(name, func(r rune) bool { return unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp) }) {
		return ErrUsername
	}
	return nil
}

// NewPassword returns a random password of 120 bits.
func NewPassword() string {
	b := make([]byte, 15)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

func checkPassword(password string) error {
	if len(password) < 8 || len(password) > 1024 || !utf8.ValidString(password) {
		return ErrPassword
	}
	return nil
}

// Create makes a user. It returns ErrUsername, ErrPassword or ErrExists.
func (s *Service) Create(ctx context.Context, username, password string, admin bool, profile Profile, o audit.Origin) (User, error) {
	if err := checkUsername(username); err != nil {
		return User{}, err
	}
	if err := checkPassword(password); err != nil {
		return User{}, err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return User{}, err
	}
	u := User{ID: uuid.NewString(), Username: username, Admin: admin, PasswordHash: hash, Profile: profile}
	e := event(audit.UserCreated, o, u.ID)
	u, err = s.store.CreateUser(ctx, u, Canonical(username), e)
	return u, s.done(ctx, e, err)
}

// Change is what is to become of a user. Nil members are left as they are.
type Change struct {
	Password *string // a new one ends all of the user's sessions
	Disabled *bool   // disabling ends them as well, for good
	Admin    *bool
	Profile  map[string]json.RawMessage // members of the profile, as With takes them
}

// ErrProfileChanged says that somebody else changed the profile meanwhile.
var ErrProfileChanged = errors.New("the profile changed")

// Update makes the change as a whole, or returns ErrNotFound, ErrPassword, a ProfileError or ErrEmailTaken.
func (s *Service) Update(ctx context.Context, id string, ch Change, o audit.Origin) (u User, err error) {
	for range 5 {
		if u, err = s.update(ctx, id, ch, o); !errors.Is(err, ErrProfileChanged) {
			break
		}
	}
	return u, err
}

func (s *Service) update(ctx context.Context, id string, ch Change, o audit.Origin) (User, error) {
	changes := Changes{Disabled: ch.Disabled, Admin: ch.Admin}
	var events []audit.Event
	if ch.Password != nil {
		if err := checkPassword(*ch.Password); err != nil {
			return User{}, err
		}
		hash, err := s.hasher.hash(ctx, *ch.Password)
		if err != nil {
			return User{}, err
		}
		changes.PasswordHash = &hash
		events = append(events, event(audit.UserPasswordChanged, o, id))
	}
	if ch.Disabled != nil {
		t := audit.UserEnabled
		if *ch.Disabled {
			t = audit.UserDisabled
		}
		events = append(events, event(t, o, id))
	}
	if len(ch.Profile) > 0 {
		u, err := s.store.User(ctx, id)
		if err != nil {
			return User{}, err
		}
		profile, err := u.With(ch.Profile)
		if err != nil {
			return User{}, err
		}
		changes.Profile, changes.OldProfile = &profile, &u.Profile
		e := event(audit.UserUpdated, o, id)
		e.Detail = "profile: " + strings.Join(slices.Sorted(maps.Keys(ch.Profile)), ", ")
		events = append(events, e)
	}
	if ch.Admin != nil {
		e := event(audit.UserUpdated, o, id)
		if e.Detail = "no admin"; *ch.Admin {
			e.Detail = "admin"
		}
		events = append(events, e)
	}
	return s.change(ctx, id, changes, events...)
}

// change makes the changes and logs their events.
func (s *Service) change(ctx context.Context, id string, ch Changes, events ...audit.Event) (User, error) {
	u, err := s.store.ChangeUser(ctx, id, ch, events)
	if err == nil {
		for _, e := range events {
			e.Log(ctx, s.log)
		}
	}
	return u, err
}

// ChangePassword replaces a password by one that its user chose, who has to know the current one: that is checked like a
// login. It ends all of the user's sessions but the one given. It returns ErrPassword, ErrBadCredentials, a ThrottledError,
// ErrOverloaded, or the database's error.
func (s *Service) ChangePassword(ctx context.Context, username, current, password, session, clientID string, o audit.Origin) error {
	if err := checkPassword(password); err != nil {
		return err
	}
	u, err := s.Authenticate(ctx, username, current, clientID, o)
	if err != nil {
		return err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	e := event(audit.UserPasswordChanged, o, u.ID)
	e.ClientID, e.SessionID = clientID, session
	_, err = s.change(ctx, u.ID, Changes{PasswordHash: &hash, Except: session, Epoch: &u.Epoch}, e)
	if errors.Is(err, ErrNotFound) {
		err = ErrBadCredentials // changed, or disabled, since it was checked
	}
	return err
}

// EndSessions ends all of the user's sessions, on every client.
func (s *Service) EndSessions(ctx context.Context, id string, o audit.Origin) error {
	_, err := s.change(ctx, id, Changes{EndSessions: true}, event(audit.UserLoggedOut, o, id))
	return err
}

// EndOtherSessions ends all of the user's sessions but the one given.
func (s *Service) EndOtherSessions(ctx context.Context, id, session string, o audit.Origin) error {
	e := event(audit.UserLoggedOut, o, id)
	e.Detail = "all sessions but " + session
	_, err := s.change(ctx, id, Changes{EndSessions: true, Except: session}, e)
	return err
}

// Delete deletes the user; its sessions are dead.
func (s *Service) Delete(ctx context.Context, id string, o audit.Origin) error {
	e := event(audit.UserDeleted, o, id)
	return s.done(ctx, e, s.store.DeleteUser(ctx, id, e))
}

// Find returns the user with that name or id, or ErrNotFound.
func (s *Service) Find(ctx context.Context, nameOrID string) (User, error) {
	if !ValidUsername(nameOrID) {
		return User{}, ErrNotFound
	}
	return s.store.User(ctx, Canonical(nameOrID))
}

// Get returns the user with that id, or ErrNotFound, though a user may have it for a name.
func (s *Service) Get(ctx context.Context, id string) (User, error) {
	u, err := s.Find(ctx, id)
	if err == nil && u.ID != id {
		return User{}, ErrNotFound
	}
	return u, err
}

// List returns the selected users in the order of their names.
func (s *Service) List(ctx context.Context, f Filter) ([]User, error) {
	f.Query, f.After = Canonical(f.Query), Canonical(f.After)
	return s.store.Users(ctx, f)
}

func event(t audit.Type, o audit.Origin, id string) audit.Event {
	e := audit.New(t, o)
	e.UserID = id
	return e
}

// done logs the event of a change that went through.
func (s *Service) done(ctx context.Context, e audit.Event, err error) error {
	if err == nil {
		e.Log(ctx, s.log)
	}
	return err
}
