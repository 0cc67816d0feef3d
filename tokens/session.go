package tokens

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"signet/audit"
	"signet/authorizations"
	"signet/clients"
	"signet/keys"
	"signet/proofs"
	"signet/users"
)

// Session is one login of a user on a client.
type Session struct {
	ID         string    `json:"id"` // the sid of its access tokens
	ClientID   string    `json:"client_id"`
	UserID     string    `json:"user_id"`
	Username   string    `json:"username"`
	Scope      string    `json:"scope"`
	CreatedAt  time.Time `json:"created_at"`
	LastUsedAt time.Time `json:"last_used_at"`
	ExpiresAt  time.Time `json:"expires_at"` // the sooner of its idle and its absolute end
	Address    string    `json:"address"`
	UserAgent  string    `json:"user_agent"`
}

// Place is where the session stands in lists, which goes for one that has ended since, too.
func (n Session) Place() string { return n.CreatedAt.Format(time.RFC3339Nano) + "/" + n.ID }

// ParsePlace reads a Session's Place.
func ParsePlace(place string) (createdAt time.Time, id string, ok bool) {
	at, id, _ := strings.Cut(place, "/")
	createdAt, err := time.Parse(time.RFC3339Nano, at)
	return createdAt, id, err == nil && len(id) == 36 && uuid.Validate(id) == nil
}

// NewSession is what the store makes a session of.
type NewSession struct {
	ID           uuid.UUID
	ClientID     string
	ClientEpoch  int64
	UserID       string
	UserEpoch    int64
	Scope        clients.Scope
	Audience     []string
	SecretDigest []byte
	IdleTTL      time.Duration
	TTL          time.Duration
	Address      string
	UserAgent    string
	JKT          *string // of the key that the refresh tokens are bound to; nil: none
}

// Use is one use of a refresh token, as the store compares and sets it.
type Use struct {
	Session      uuid.UUID
	ClientID     string
	SecretDigest []byte
	From, To     int64         // the row's sequence number before and after
	Scope        clients.Scope // what the access token is narrowed to; nil: not narrowed
	Audience     []string      // likewise
	IdleTTL      time.Duration
	Address      string
	UserAgent    string
	Key          proofs.Key // that the sender proves to hold; a session that is bound to one needs it
	Repeatable   bool       // a second try after a lost connection finds a retry window, and so does no harm
}

// Grant is what a live session holds, and the database's time.
type Grant struct {
	UserID   string
	Scope    clients.Scope
	Audience []string
	Now      time.Time
	End      time.Time // the session's absolute end

	// Of a session of OpenID Connect, or with the scope groups:
	User    users.User            // name and profile alone
	LoginID string                // empty: the session began without a browser
	Facts   *authorizations.Facts // nil: without OpenID Connect
}

// Complete fills in what is stored as text: the login, if any, the facts, and the user's name and profile.
func (g *Grant) Complete(login, facts *string, shown []byte) (err error) {
	if login != nil {
		g.LoginID = *login
	}
	g.User, g.Facts, err = ParseShown(facts, shown)
	return err
}

// ParseShown reads the facts of a session, which has none without OpenID Connect, and what may be shown of its user, as they are
// stored.
func ParseShown(facts *string, shown []byte) (u users.User, f *authorizations.Facts, err error) {
	if facts != nil {
		if err = json.Unmarshal([]byte(*facts), &f); err != nil {
			return u, nil, fmt.Errorf("the facts of a session cannot be read: %w", err)
		}
	}
	if shown != nil {
		var user struct {
			Username string          `json:"username"`
			Profile  json.RawMessage `json:"profile"`
		}
		if err = json.Unmarshal(shown, &user); err == nil {
			u.Username = user.Username
			u.Profile, err = users.ParseProfile(user.Profile)
		}
	}
	return u, f, err
}

// CodeGrant is what a session that a code began holds.
type CodeGrant struct {
	Grant

	Nonce string // of the request
}

// State is what became of a session.
type State struct {
	Grant
	ClientID   string
	Genuine    bool // the secret is the session's
	Live       bool // it has not ended
	InWindow   bool // the last use was within the retry window
	Sequence   int64
	Username   string
	LastUsedAt time.Time
	IdleEnd    time.Time
	Address    string // of the last use
	UserAgent  string
	JKT        string // of the key that the refresh tokens are bound to; empty: none
}

// AccessToken is what the store needs to know of a verified access token.
type AccessToken struct {
	ID          string
	ClientID    string
	ExpiresAt   time.Time
	SessionID   uuid.UUID // zero for a client's own token
	UserID      string
	Exchanged   bool  // the client has got it for another token of the session, which may be another client's
	ClientEpoch int64 // of a client's own token, and of one that was exchanged
}

// Holder is what the database says of an active access token.
type Holder struct {
	Username   string        // of the session's user; empty for a client's own token
	Admin      bool          // the user is one
	Scope      clients.Scope // what the session was granted, or the client is registered for
	Audience   []string      // likewise; none: the issuer
	SessionEnd time.Time     // the absolute end of the session; zero for a client's own token
	Now        time.Time

	// Of a session of OpenID Connect:
	User  users.User            // name and profile alone
	Facts *authorizations.Facts // nil: without OpenID Connect
}

// Filter selects sessions. Zero members select everything.
type Filter struct {
	UserID   string
	ClientID string
	After    string // sessions behind the one with this Place
	Limit    int
}

// Store is what this package needs of a database. Time is the database's everywhere, and every event is written in the
// same transaction as what it tells of.
//
// A session is live unless it was revoked, its absolute end has come, or its user or its client is deleted, disabled
// or in another epoch than when the session began. To be used it must not have been idle for too long, either.
type Store interface {
	proofs.Store

	// CreateSession inserts a session at sequence 0, or returns ErrInvalidGrant if its user or client changed meanwhile, or the user has
	// a second factor: it is for who has proved a password and nothing else.
	CreateSession(ctx context.Context, n NewSession, e audit.Event) (Grant, error)
	// RedeemCode deletes the code and begins its session if all that r says of it is true, it has not expired, and its user,
	// client, login and consent are as they were when it was issued.
	RedeemCode(ctx context.Context, r Redemption, e audit.Event) (g CodeGrant, ok bool, err error)
	// RefuseCode tells what is wrong with a redemption that was refused, counts it if the code does not fit, and, if the code was
	// redeemed before, revokes the session that came of it, with the event, and returns its user.
	RefuseCode(ctx context.Context, r Redemption, e audit.Event) (why Refusal, userID string, err error)
	// Rotate moves the session from one sequence number to the next if all that u says of it is true and it can be used.
	// The event, if any, is written if it did. Without an event, the proof of a key, if any, is used up by the same statement, and nothing is
	// rotated if it was used before.
	Rotate(ctx context.Context, u Use, e *audit.Event) (Grant, bool, error)
	// SessionState returns what a use that Rotate refused is to be judged by; ok is false for an unknown session. The window does
	// not run in interruptions, which begin InterruptionLead before their last heartbeat, nor while the heartbeat is stale.
	SessionState(ctx context.Context, u Use, window time.Duration) (st State, ok bool, err error)
	// DueNotices returns clients that are due to be told of the end of a login, and puts the next attempt down: no other replica
	// gets the same ones before NoticePause of the attempts.
	DueNotices(ctx context.Context, limit int) ([]Notice, error)
	// DeleteNotice forgets a notice that was taken, or that there is no use in repeating.
	DeleteNotice(ctx context.Context, n Notice) error
	// WaitingNotices tells how many clients are still to be told of the end of a login, and for how long the first of them has been.
	WaitingNotices(ctx context.Context) (n int64, oldest time.Duration, err error)
	// Beat renews the heartbeat if nobody has in the last second. One that comes more than HeartbeatGap late writes the interruption
	// down, with the event, whose detail is its length, and returns it: of any number of replicas one does.
	Beat(ctx context.Context, e audit.Event) (i Interruption, ok bool, err error)
	// RevokeReused revokes the session if the token with the sequence number u.From is spent and no retry: it is not the
	// last one used, or was used longer than the window ago. It returns false if that is no longer so.
	RevokeReused(ctx context.Context, u Use, window time.Duration, e audit.Event) (bool, error)
	// RevokeSession revokes the session if it has not been, whatever its state otherwise, and is of that user, if one is given.
	RevokeSession(ctx context.Context, id uuid.UUID, userID, reason string, e audit.Event) (bool, error)
	// RevokeAccessToken revokes the token if it is active. It returns false if it was not.
	RevokeAccessToken(ctx context.Context, t AccessToken, e audit.Event) (bool, error)
	// AccessTokenActive tells whether the token has neither expired nor been revoked and its session, or for want of one
	// its client, is live. The username is that of the session's user.
	AccessTokenActive(ctx context.Context, t AccessToken) (username string, active bool, err error)
	// AccessTokenHolder returns what the database says of an active access token, by the same decision as AccessTokenActive.
	AccessTokenHolder(ctx context.Context, t AccessToken) (h Holder, active bool, err error)
	// LoggedInWithin tells whether the session began in that time and, if by browser, its login is live and was proved in that time;
	// by two factors, where the user has a second one.
	LoggedInWithin(ctx context.Context, sessionID string, d time.Duration) (bool, error)
	// Sessions returns the selected sessions that can be used, newest first.
	Sessions(ctx context.Context, f Filter) ([]Session, error)
	// RecordEvent writes an event that stands for itself.
	RecordEvent(ctx context.Context, e audit.Event) error
}

// Errors of this package: what a token request is refused with.
var (
	ErrInvalidGrant  = errors.New("the grant is unknown, expired, revoked, or another client's")
	ErrInvalidScope  = errors.New("more scope than was granted")
	ErrInvalidTarget = errors.New("a resource that was not granted")
	ErrOtherClient   = errors.New("the token belongs to another client")
	ErrNoSession     = errors.New("no such session")
)

// Config is what the operator decides about tokens.
type Config struct {
	Issuer      string
	Secret      keys.Secret
	AccessTTL   time.Duration
	RefreshTTL  time.Duration // idle life of a session
	SessionTTL  time.Duration // absolute life of a session
	RetryWindow time.Duration // 0: no retries
}

// Service issues, rotates, introspects and revokes tokens.
type Service struct {
	store Store
	keys  *keys.Service
	cfg   Config
	codec refreshCodec
	codes *authorizations.Service
	log   *slog.Logger

	verified *lru.Cache[[sha256.Size]byte, verified]

	noticed func(outcome string) // that an attempt was made to tell a client of a log-out
}

// New returns a service on the store that signs with k and redeems the codes of a.
func New(store Store, k *keys.Service, a *authorizations.Service, cfg Config, log *slog.Logger) *Service {
	cache, err := lru.New[[sha256.Size]byte, verified](maxVerified)
	if err != nil {
		panic(err) // only for a size below one
	}
	return &Service{store: store, keys: k, cfg: cfg, codec: newRefreshCodec(cfg.Secret), codes: a, log: log, verified: cache, noticed: func(string) {}}
}

// Issuer is the iss of every token.
func (s *Service) Issuer() string { return s.cfg.Issuer }

// StartSession begins a session of the user on the client, whose password was checked, and issues its first tokens: a
// refresh token where the client is registered for that grant. It returns ErrInvalidGrant if the user or client changed since, or the
// password is not enough for the user, who has a second factor.
//
// A proof of a key binds the tokens to it and is used up; proofs.ErrReplayed says that it was before.
func (s *Service) StartSession(ctx context.Context, c *clients.Client, u users.User, scope clients.Scope, audience []string, key proofs.Key, o audit.Origin) (Issued, error) {
	if err := s.Spend(ctx, key, c.ID, u.ID, ""); err != nil {
		return Issued{}, err
	}
	first := newRefreshToken()
	e := audit.New(audit.SessionCreated, o)
	e.ClientID, e.UserID, e.SessionID = c.ID, u.ID, first.session.String()
	g, err := s.store.CreateSession(ctx, NewSession{
		ID: first.session, ClientID: c.ID, ClientEpoch: c.Epoch, UserID: u.ID, UserEpoch: u.Epoch,
		Scope: scope, Audience: audience, SecretDigest: first.digest(),
		IdleTTL: s.refreshTTL(c), TTL: s.sessionTTL(c), Address: o.Address, UserAgent: o.Agent(),
		JKT: refreshKey(c, key.JKT),
	}, e)
	if err != nil {
		return Issued{}, err
	}
	e.Log(ctx, s.log)
	issued, err := s.issueFor(first.session, c, g, nil, nil, key.JKT)
	if err == nil && c.May(clients.RefreshToken) {
		issued.RefreshToken = s.codec.format(first)
	}
	return issued, err
}

// Spend uses up the proof of a key, if there is one. It returns proofs.ErrReplayed where that was used before, which is recorded with what
// the proof came with: a client, and a user and a session where there are.
func (s *Service) Spend(ctx context.Context, key proofs.Key, clientID, userID, sessionID string) error {
	if !key.Proven() {
		return nil
	}
	fresh, err := s.store.Spend(ctx, key.Once)
	if err != nil || fresh {
		return err
	}
	e := audit.New(audit.ProofReplayed, key.Sender)
	e.ClientID, e.UserID, e.SessionID = clientID, userID, sessionID
	if err := s.store.RecordEvent(ctx, e); err != nil {
		return err
	}
	e.Log(ctx, s.log)
	return proofs.ErrReplayed
}

// refreshKey is what the refresh tokens of a session are bound to: those of a public client to the key that began it (RFC 9449 section 5).
// Those of others are bound to the client, which proves itself.
func refreshKey(c *clients.Client, jkt string) *string {
	if jkt == "" || !c.Public() {
		return nil
	}
	return &jkt
}

// issueFor signs an access token of a session, narrowed to the scope and audience if they are not nil, and bound to the key
// with the thumbprint, if there is one.
func (s *Service) issueFor(session uuid.UUID, c *clients.Client, g Grant, scope clients.Scope, audience []string, jkt string) (Issued, error) {
	if scope == nil {
		scope = g.Scope
	}
	if audience == nil {
		audience = g.Audience
	}
	claims := accessClaims{
		Subject: g.UserID, Audience: audience, ID: newTokenID(), ClientID: c.ID, Scope: scope.String(), SessionID: session.String(),
		Confirmation: confirmation(jkt),
	}
	if slices.Contains(scope, clients.ScopeGroups) {
		claims.Groups = g.User.Groups
	}
	issued, err := s.issue(claims, s.accessTTL(c), g.Now, g.End)
	issued.SessionID = session.String()
	issued.SessionExpiresIn = min(s.refreshTTL(c), g.End.Sub(g.Now))
	return issued, err
}

// The lives of a client's tokens and sessions: its own, or else the configured ones.
func (s *Service) accessTTL(c *clients.Client) time.Duration {
	return cmp.Or(c.AccessTTL, s.cfg.AccessTTL)
}
func (s *Service) refreshTTL(c *clients.Client) time.Duration {
	return cmp.Or(c.RefreshTTL, s.cfg.RefreshTTL)
}
func (s *Service) sessionTTL(c *clients.Client) time.Duration {
	return cmp.Or(c.SessionTTL, s.cfg.SessionTTL)
}

// Sessions returns the selected sessions that can be used, newest first.
func (s *Service) Sessions(ctx context.Context, f Filter) ([]Session, error) {
	return s.store.Sessions(ctx, f)
}

// EndSession revokes the session with that id, or returns ErrNoSession where there is none to revoke.
func (s *Service) EndSession(ctx context.Context, id string, o audit.Origin) error {
	return s.EndSessionOf(ctx, "", id, o)
}

// EndSessionOf is EndSession for a session that has to be that user's.
func (s *Service) EndSessionOf(ctx context.Context, userID, id string, o audit.Origin) error {
	session, err := uuid.Parse(id)
	if err != nil {
		return ErrNoSession
	}
	e := audit.New(audit.SessionRevoked, o)
	e.SessionID = session.String()
	ok, err := s.store.RevokeSession(ctx, session, userID, "ended by "+o.Actor, e)
	if err != nil {
		return err
	}
	if !ok {
		return ErrNoSession
	}
	e.Log(ctx, s.log)
	return nil
}
