package authorizations

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"signet/audit"
	"signet/clients"
	"signet/keys"
	"signet/logins"
)

// Consent is what a user has allowed a client.
type Consent struct {
	Scope    clients.Scope
	Audience []string
}

// Covers tells whether all that a request asks for was allowed.
func (c Consent) Covers(r *Request) bool {
	return r.ConsentScope().Within(c.Scope) && clients.Scope(r.Audience).Within(c.Audience)
}

// Party is a client as a consent remembers it: it is another one after it was disabled or made anew, or given other redirect URIs.
type Party struct {
	ClientID  string
	Epoch     int64
	Redirects []byte // digest of the redirect URIs
}

// partyOf returns the client as a consent remembers it.
func partyOf(c *clients.Client) Party {
	uris := slices.Clone(c.RedirectURIs)
	slices.Sort(uris)
	sum := sha256.Sum256([]byte(strings.Join(uris, "\n")))
	return Party{ClientID: c.ID, Epoch: c.Epoch, Redirects: sum[:]}
}

// NewCode is what the store makes a code of. User and authentication are the login's.
type NewCode struct {
	Code      Code
	Login     logins.Ref
	Party     Party
	Request   *Request
	Unasked   bool // no consent is needed
	Remember  bool // the user allowed it just now, and that is to be remembered
	Confirmed bool // the user allowed it just now
}

// Facts are what the ID tokens of a session say of how it began, and which claims were asked for one by one.
type Facts struct {
	AuthTime int64    `json:"auth_time"` // seconds since 1970
	Methods  []string `json:"amr"`
	Class    string   `json:"acr"`
	Claims   Claims   `json:"claims,omitzero"`
}

// AskedFacts returns how the JSON of the Facts ends, whose other members are the login's: with the claims, if any were asked for. It returns
// nil for a request that is none of OpenID Connect, of which there are no facts.
func (n *NewCode) AskedFacts() *string {
	if !n.Request.OpenID() {
		return nil
	}
	text, err := json.Marshal(struct {
		Claims Claims `json:"claims,omitzero"`
	}{n.Request.Claims})
	if err != nil {
		panic(err) // only for types that JSON does not know
	}
	end := string(text[1:])
	if end != "}" {
		end = "," + end
	}
	return &end
}

// Consented tells whether the code is good only as long as what the user allowed stands.
func (n *NewCode) Consented() bool { return !n.Unasked && (n.Remember || !n.Confirmed) }

// EndsWithLogin tells whether the session that the code begins ends with its login (offline access is for those that do not).
func (n *NewCode) EndsWithLogin() bool {
	return n.Request.OpenID() && !slices.Contains(n.Request.Scope, clients.ScopeOffline)
}

// Store is what this package needs of a database. Every event is written in the same transaction as what it tells of.
type Store interface {
	DeviceStore

	// Visitor returns the login, if it is live, and what its user has allowed the party.
	Visitor(ctx context.Context, r logins.Ref, p Party) (l logins.Login, c Consent, ok bool, err error)
	// CreateCode uses up the pushed request, if the request is one, and inserts the code if that was there and the login and the party's
	// client are live, and, where it has to be asked for, what is asked for was allowed. What is to be remembered is added to the consent
	// in the same transaction. The event, completed from the login, is written where the user allowed it just now. It returns the id of the
	// login's user.
	CreateCode(ctx context.Context, n NewCode, granted audit.Event) (userID string, ok bool, err error)
	// Consents returns what the user has allowed clients that are there still, by the clients' names.
	Consents(ctx context.Context, userID string) ([]Allowance, error)
	// PushRequest keeps a request that a client has pushed, for PushedTTL.
	PushRequest(ctx context.Context, p Pushed) error
	// TakeUpRequest returns a pushed request of the client that has not expired, unless another browser began with it.
	TakeUpRequest(ctx context.Context, digest []byte, clientID string, browser []byte) (p Pushed, ok bool, err error)
	// WithdrawConsent forgets what the user has allowed the client and revokes the sessions and codes that came of it. It returns
	// false if there was nothing.
	WithdrawConsent(ctx context.Context, userID, clientID string, e audit.Event) (bool, error)
}

// ErrChanged says that a code could not be issued, for the login has ended, or the client or the consent has changed, meanwhile.
var ErrChanged = errors.New("the login, the client or the consent changed meanwhile")

// Service seals requests and issues codes.
type Service struct {
	store  Store
	tagger keys.Tagger
	sealer keys.Sealer
	log    *slog.Logger

	deviceTagger keys.Tagger
	userCodeKey  []byte
}

// New returns a service on the store.
func New(store Store, secret keys.Secret, log *slog.Logger) *Service {
	return &Service{
		store: store, log: log,
		tagger: secret.Tagger("authorization code tag v1"), sealer: secret.Sealer("authorization request v1"),
		deviceTagger: secret.Tagger("device code tag v1"), userCodeKey: secret.Derive("user code v1")[0],
	}
}

// Visitor returns the login, if it is live, and what its user has allowed the client.
func (s *Service) Visitor(ctx context.Context, r logins.Ref, c *clients.Client) (l logins.Login, allowed Consent, ok bool, err error) {
	return s.store.Visitor(ctx, r, partyOf(c))
}

// Decision is how it came that a request is granted.
type Decision int

// The decisions.
const (
	Allowed   Decision = iota // the user allowed it before
	Unasked                   // the client needs no consent
	Confirmed                 // the user allowed it just now
)

// Issue returns a code for the request, which the login's user has granted, and the user's id. A confirmation is remembered unless
// anybody could pose as the client (RFC 8252 section 8.6). It returns ErrChanged, or the database's error.
func (s *Service) Issue(ctx context.Context, c *clients.Client, l logins.Ref, r *Request, d Decision, o audit.Origin) (code, userID string, err error) {
	n := NewCode{Code: newCode(), Login: l, Party: partyOf(c), Request: r, Unasked: d == Unasked, Confirmed: d == Confirmed}
	n.Remember = n.Confirmed && !Impersonable(c, r.RedirectURI)
	e := granted(n, r.ConsentScope().String(), o)
	userID, ok, err := s.store.CreateCode(ctx, n, e)
	if err != nil {
		return "", "", err
	}
	if !ok {
		return "", "", ErrChanged
	}
	if n.Confirmed {
		e.Actor, e.UserID = userID, userID
		e.Log(ctx, s.log)
	}
	return s.writeCode(n.Code), userID, nil
}

// granted is the event of a consent, but for whose it is.
func granted(n NewCode, detail string, o audit.Origin) audit.Event {
	e := audit.New(audit.ConsentGranted, o)
	e.ClientID, e.SessionID, e.Detail = n.Party.ClientID, n.Login.ID.String(), detail
	return e
}

// Impersonable tells whether any program on the user's device could receive what is sent to the client, and make something of it. Of a
// client that came by itself nobody knows that it is a web app's developer who has it on loopback.
func Impersonable(c *clients.Client, redirectURI string) bool {
	return (c.ApplicationType == clients.Native || c.AuthMethod == clients.None || c.Registered) && !strings.HasPrefix(redirectURI, "https:")
}

// Allowance is what a user has allowed a client, as they see it.
type Allowance struct {
	ClientID   string    `json:"client_id"`
	ClientName string    `json:"client_name"`
	Scope      string    `json:"scope"`
	Audience   []string  `json:"audience"`
	GrantedAt  time.Time `json:"granted_at"`
}

// Consents returns what a user has allowed which clients.
func (s *Service) Consents(ctx context.Context, userID string) ([]Allowance, error) {
	return s.store.Consents(ctx, userID)
}

// Withdraw forgets what the user has allowed the client, and ends their sessions on it. It returns false if there was nothing.
func (s *Service) Withdraw(ctx context.Context, userID, clientID string, o audit.Origin) (bool, error) {
	if _, err := uuid.Parse(userID); err != nil || !clients.ValidID(clientID) {
		return false, nil
	}
	e := audit.New(audit.ConsentWithdrawn, o)
	e.ClientID, e.UserID = clientID, userID
	ok, err := s.store.WithdrawConsent(ctx, userID, clientID, e)
	if err == nil && ok {
		e.Log(ctx, s.log)
	}
	return ok, err
}
