package logins

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"

	"signet/audit"
	"signet/keys"
	"signet/users"
)

// Authentication is how and when a user proved who they are (OpenID Connect Core section 2).
type Authentication struct {
	Time    time.Time
	Methods []string // amr (RFC 8176)
	Class   string   // acr
}

// Proof is how a user has just proved who they are.
type Proof struct {
	Methods []string // amr
	Class   string   // acr
}

// The values of acr: one factor; two, or a passkey that has verified its user.
const (
	OneFactor  = "aal1"
	TwoFactors = "aal2"
)

// ByPassword is what a password alone proves.
var ByPassword = Proof{[]string{"pwd"}, OneFactor}

// Classes lists the values of acr.
var Classes = []string{OneFactor, TwoFactors}

// Login is a browser in which a user is logged in. Times are the database's.
type Login struct {
	Authentication

	ID        string // the sid of its ID tokens
	UserID    string
	UserEpoch int64
	Username  string
	Admin     bool
	ExpiresAt time.Time
	Now       time.Time
}

// Ref names a login and proves that its secret is known.
type Ref struct {
	ID     uuid.UUID
	Digest []byte // SHA-256 of the secret
}

// NewLogin is what the store makes a login of.
type NewLogin struct {
	Ref

	UserID    string
	UserEpoch int64
	Methods   []string
	Class     string
	TTL       time.Duration
	Address   string
	UserAgent string
}

// Store is what this package needs of a database. Every event is written in the same transaction as what it tells of. A login is
// live until it was ended or has expired, or its user is deleted, disabled, or in another epoch.
type Store interface {
	// CreateLogin inserts a login, or returns ErrUserChanged if its user changed meanwhile, or has more factors than the one of OneFactor.
	CreateLogin(ctx context.Context, n NewLogin, e audit.Event) (Login, error)
	// RenewLogin gives the live login that old names a new secret and makes its authentication a new one, if it is n's user's, and of
	// as many factors as CreateLogin wants.
	RenewLogin(ctx context.Context, old Ref, n NewLogin, e audit.Event) (l Login, ok bool, err error)
	// Login returns the login if it is live.
	Login(ctx context.Context, r Ref) (l Login, ok bool, err error)
	// EndLogin ends a login and revokes those of its sessions that end with it. Every client that is to hear of it is put down to
	// be told. It returns false for one that has ended before.
	EndLogin(ctx context.Context, id uuid.UUID, e audit.Event) (bool, error)
	// LoginsOf returns the live logins of the user, the latest first.
	LoginsOf(ctx context.Context, userID string, limit int) ([]Place, error)

	FactorStore
}

// Place is a browser that somebody is logged in with, as they see it.
type Place struct {
	ID        string    `json:"id"`
	Time      time.Time `json:"auth_time"`
	CreatedAt time.Time `json:"created_at"`
	Address   string    `json:"address"`
	UserAgent string    `json:"user_agent"`
}

// ErrUserChanged says that the user was disabled, deleted or given a new password since they proved who they are.
var ErrUserChanged = errors.New("the user changed since the password was checked")

// Config is what the operator decides about logins.
type Config struct {
	Secret  keys.Secret
	StayTTL time.Duration // how long a login lasts for those who want to stay logged in

	Issuer      string        // passkeys are made for its host
	Brand       string        // the name that authenticators show
	Policy      Policy        // who has to have a second factor
	MaxFailures int           // second factors that are wrong before more are throttled
	Window      time.Duration // for how long they count
}

// BrowserTTL is how long a login lasts at the most that ends with the browser.
const BrowserTTL = 12 * time.Hour

// Stays tells whether the login outlives its browser, for its user wanted to stay logged in.
func (l *Login) Stays() bool { return l.ExpiresAt.Sub(l.Time) > BrowserTTL+time.Minute }

// Service begins and ends logins.
type Service struct {
	store  Store
	cfg    Config
	tagger keys.Tagger
	sealer keys.Sealer // of what is stored
	forms  keys.Sealer // of what waits in a form
	party  *webauthn.WebAuthn
	log    *slog.Logger
}

// New returns a service on the store.
func New(store Store, cfg Config, log *slog.Logger) *Service {
	return &Service{
		store: store, cfg: cfg, tagger: cfg.Secret.Tagger("login cookie tag v1"), sealer: cfg.Secret.Sealer("second factor v1"),
		forms: cfg.Secret.Sealer("enrolment and challenge v1"), party: newRelyingParty(cfg.Issuer, cfg.Brand), log: log,
	}
}

// The written form of a login's cookie is that of a keys.Tagger, of
//
//	login (16) ‖ secret (18)
const (
	cookiePrefix = "sgl_"
	secretSize   = 18
	bodySize     = 16 + secretSize
)

// StayTTL is how long a login lasts for those who want to stay logged in.
func (s *Service) StayTTL() time.Duration { return s.cfg.StayTTL }

// Read returns which login a cookie is of; ok is false for one that is not Signet's.
func (s *Service) Read(cookie string) (r Ref, ok bool) {
	b, ok := s.tagger.Read(cookiePrefix, cookie, bodySize)
	if !ok {
		return Ref{}, false
	}
	sum := sha256.Sum256(b[16:])
	return Ref{ID: uuid.UUID(b[:16]), Digest: sum[:]}, true
}

// Current returns the login that a cookie is of, if it is live.
func (s *Service) Current(ctx context.Context, cookie string) (l Login, ok bool, err error) {
	r, ok := s.Read(cookie)
	if !ok {
		return Login{}, false, nil
	}
	return s.store.Login(ctx, r)
}

// Begin logs a user in who has just proved who they are. The cookie is a new one at each login, whatever the
// browser held before: previous, which may be empty. If that is of the same user, the login goes on, with the sessions that
// depend on it; somebody else's ends. It returns ErrNeedsFactor where OneFactor was proved by who has another, ErrUserChanged, or the
// database's error.
func (s *Service) Begin(ctx context.Context, u users.User, p Proof, stay bool, previous string, o audit.Origin) (l Login, cookie string, err error) {
	if l, cookie, err = s.begin(ctx, u, p, stay, previous, o); err == nil && p.Class == TwoFactors {
		err = s.store.ForgetTries(ctx, u.ID)
	}
	return l, cookie, err
}

func (s *Service) begin(ctx context.Context, u users.User, p Proof, stay bool, previous string, o audit.Origin) (l Login, cookie string, err error) {
	n := NewLogin{
		UserID: u.ID, UserEpoch: u.Epoch, Methods: p.Methods, Class: p.Class, TTL: BrowserTTL,
		Address: o.Address, UserAgent: o.Agent(),
	}
	if stay {
		n.TTL = s.cfg.StayTTL
	}
	old, replaces := s.Read(previous)
	if n.ID = old.ID; replaces {
		cookie = s.renew(&n)
		e := event(audit.LoginSucceeded, u.ID, n.ID, o)
		l, ok, err := s.store.RenewLogin(ctx, old, n, e)
		if err != nil {
			return Login{}, "", err
		}
		if ok {
			e.Log(ctx, s.log)
			return l, cookie, nil
		}
		if err := s.enough(ctx, u, p); err != nil {
			return Login{}, "", err
		}
		if l, ok, err = s.store.Login(ctx, old); err == nil && ok {
			err = s.End(ctx, l, o)
		}
		if err != nil {
			return Login{}, "", err
		}
	}
	n.ID = uuid.New()
	cookie = s.renew(&n)
	e := event(audit.LoginSucceeded, u.ID, n.ID, o)
	if l, err = s.store.CreateLogin(ctx, n, e); err != nil {
		if errors.Is(err, ErrUserChanged) {
			err = cmp.Or(s.enough(ctx, u, p), err)
		}
		return Login{}, "", err
	}
	e.Log(ctx, s.log)
	return l, cookie, nil
}

// enough returns nil if the user has no factor beyond what was proved.
func (s *Service) enough(ctx context.Context, u users.User, p Proof) error {
	if p.Class != OneFactor {
		return nil
	}
	return s.PasswordAlone(ctx, u)
}

// renew makes a secret for the login and returns its cookie.
func (s *Service) renew(n *NewLogin) (cookie string) {
	body := make([]byte, bodySize, bodySize+sha256.Size)
	copy(body, n.ID[:])
	_, _ = rand.Read(body[16:])
	sum := sha256.Sum256(body[16:])
	n.Digest = sum[:]
	return s.tagger.Write(cookiePrefix, body)
}

// End ends the login on all replicas, with its sessions but those that outlive it. One that has ended before is no error.
func (s *Service) End(ctx context.Context, l Login, o audit.Origin) error {
	id, err := uuid.Parse(l.ID)
	if err != nil {
		return err
	}
	e := event(audit.Logout, l.UserID, id, o)
	ok, err := s.store.EndLogin(ctx, id, e)
	if err == nil && ok {
		e.Log(ctx, s.log)
	}
	return err
}

// Places returns where a user is logged in.
func (s *Service) Places(ctx context.Context, userID string) ([]Place, error) {
	return s.store.LoginsOf(ctx, userID, 100)
}

// EndOf ends a login of the user, as End does. It returns false if they have none of that id.
func (s *Service) EndOf(ctx context.Context, userID, id string, o audit.Origin) (bool, error) {
	places, err := s.store.LoginsOf(ctx, userID, 100)
	if err != nil || !slices.ContainsFunc(places, func(p Place) bool { return p.ID == id }) {
		return false, err
	}
	return true, s.End(ctx, Login{ID: id, UserID: userID}, o)
}

func event(t audit.Type, userID string, login uuid.UUID, o audit.Origin) audit.Event {
	e := audit.New(t, o)
	e.UserID, e.SessionID = userID, login.String()
	if e.Actor == "" {
		e.Actor = userID
	}
	return e
}
