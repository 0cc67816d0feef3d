package users

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"log/slog"
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
}

// Store is what this package needs of a database. Every change writes its audit event in the same transaction.
type Store interface {
	// User returns the user with that canonical name (see Canonical) or id, or ErrNotFound.
	User(ctx context.Context, nameOrID string) (User, error)
	// Users returns up to limit users in the order of their canonical names, those behind the name after.
	Users(ctx context.Context, after string, limit int) ([]User, error)
	// CreateUser inserts u under its canonical name, or returns ErrExists.
	CreateUser(ctx context.Context, u User, canonical string, e audit.Event) (User, error)
	// ImportUsers inserts those of the users whose canonical names are free, with their events, in one transaction, and
	// returns how many.
	ImportUsers(ctx context.Context, list []NewUser) (imported int, err error)
	// SetPassword replaces the hash and raises the epoch.
	SetPassword(ctx context.Context, id, hash string, e audit.Event) error
	// Rehash replaces the hash of an unchanged password, if it is still the old one.
	Rehash(ctx context.Context, id, oldHash, newHash string) error
	// SetUserDisabled disables or enables the user. Disabling raises the epoch.
	SetUserDisabled(ctx context.Context, id string, disabled bool, e audit.Event) (User, error)
	// EndSessions raises the epoch.
	EndSessions(ctx context.Context, id string, e audit.Event) error
	// DeleteUser deletes the user.
	DeleteUser(ctx context.Context, id string, e audit.Event) error

	// LoginCandidate returns the user with that canonical name, nil for an unknown one, and how long the attempt has to
	// wait because of earlier failures: 0 if it may go on.
	LoginCandidate(ctx context.Context, canonical string, a Attempt) (*User, time.Duration, error)
	// CountLoginFailure counts the failed attempt for its username and its address, the same password once, and writes
	// the events of what it changed. Beyond the cap it counts nothing and tells how long to wait.
	CountLoginFailure(ctx context.Context, a Attempt, failed, throttled audit.Event) (Counted, error)
	// ClearLoginFailures forgets the failures of the username, unless the cap was reached meanwhile, by guesses made
	// at the same time: then it returns how long to wait.
	ClearLoginFailures(ctx context.Context, a Attempt) (time.Duration, error)
}

// Config is what the operator decides about logins.
type Config struct {
	Secret      keys.Secret
	MaxFailures int           // failed logins for one username or address before they are throttled
	Window      time.Duration // for how long failures count
}

// Service looks after users and checks their passwords.
type Service struct {
	store   Store
	cfg     Config
	log     *slog.Logger
	hasher  *hasher
	failKey []byte // keys what is stored of failed logins
}

// New returns a service on the store.
func New(store Store, cfg Config, log *slog.Logger) *Service {
	return &Service{
		store: store, cfg: cfg, log: log, hasher: newHasher(),
		failKey: cfg.Secret.Derive("failed login v1")[0],
	}
}

// Canonical returns the form of a username under which it is unique: without regard to case and to how its characters
// are composed.
func Canonical(username string) string {
	// Lower case first: a few letters fold to their upper case, and only from the lower one.
	return norm.NFC.String(cases.Fold().String(strings.ToLower(norm.NFC.String(username))))
}

func validUsername(s string) bool {
	n := utf8.RuneCountInString(s)
	return n >= 1 && n <= 255 && utf8.ValidString(s) && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, unicode.IsControl)
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
func (s *Service) Create(ctx context.Context, username, password string, admin bool, o audit.Origin) (User, error) {
	if !validUsername(username) {
		return User{}, ErrUsername
	}
	if err := checkPassword(password); err != nil {
		return User{}, err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return User{}, err
	}
	u := User{ID: uuid.NewString(), Username: username, Admin: admin, PasswordHash: hash}
	e := event(audit.UserCreated, o, u.ID)
	u, err = s.store.CreateUser(ctx, u, Canonical(username), e)
	return u, s.done(ctx, e, err)
}

// SetPassword replaces the password and ends all of the user's sessions.
func (s *Service) SetPassword(ctx context.Context, id, password string, o audit.Origin) error {
	if err := checkPassword(password); err != nil {
		return err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	e := event(audit.UserPasswordChanged, o, id)
	return s.done(ctx, e, s.store.SetPassword(ctx, id, hash, e))
}

// SetDisabled disables the user, which ends all of its sessions for good, or enables it again.
func (s *Service) SetDisabled(ctx context.Context, id string, disabled bool, o audit.Origin) (User, error) {
	t := audit.UserEnabled
	if disabled {
		t = audit.UserDisabled
	}
	e := event(t, o, id)
	u, err := s.store.SetUserDisabled(ctx, id, disabled, e)
	return u, s.done(ctx, e, err)
}

// EndSessions ends all of the user's sessions, on every client.
func (s *Service) EndSessions(ctx context.Context, id string, o audit.Origin) error {
	e := event(audit.UserLoggedOut, o, id)
	return s.done(ctx, e, s.store.EndSessions(ctx, id, e))
}

// Delete deletes the user; its sessions are dead.
func (s *Service) Delete(ctx context.Context, id string, o audit.Origin) error {
	e := event(audit.UserDeleted, o, id)
	return s.done(ctx, e, s.store.DeleteUser(ctx, id, e))
}

// Find returns the user with that name or id, or ErrNotFound.
func (s *Service) Find(ctx context.Context, nameOrID string) (User, error) {
	if !validUsername(nameOrID) {
		return User{}, ErrNotFound
	}
	return s.store.User(ctx, Canonical(nameOrID))
}

// List returns up to limit users in the order of their names, those behind the name after.
func (s *Service) List(ctx context.Context, after string, limit int) ([]User, error) {
	return s.store.Users(ctx, Canonical(after), limit)
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
