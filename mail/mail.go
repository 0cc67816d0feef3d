package mail

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"signet/audit"
	"signet/users"
)

// Kind is what a mail is about.
type Kind string

// The kinds of mails.
const (
	Reset      Kind = "reset"      // a link to set a new password, to a user by name or address
	Invitation Kind = "invitation" // a link to make an account, to an address that somebody of ours has invited
	SignUp     Kind = "sign_up"    // the same, to an address whose owner, or whoever, asked for it
)

// The kinds of mails that tell of what has happened to an account, sent to its address.
const (
	PasswordChanged Kind = "password_changed"
	PasskeyAdded    Kind = "passkey_added"
	PasskeyRemoved  Kind = "passkey_removed"
	AppAdded        Kind = "app_added"
	AppRemoved      Kind = "app_removed"
	RecoveryCodes   Kind = "recovery_codes"
	FactorsRemoved  Kind = "factors_removed"
)

// NoticeOf returns what the user of an event is told of it by mail; empty: nothing. A store puts that into the outbox in the transaction of
// the change, for the verified address that the user has before it.
func NoticeOf(e audit.Event) Kind {
	switch what, _, _ := strings.Cut(e.Detail, " "); e.Type {
	case audit.UserPasswordChanged:
		return PasswordChanged
	case audit.FactorAdded:
		return map[string]Kind{"passkey": PasskeyAdded, "totp": AppAdded, "recovery": RecoveryCodes}[what]
	case audit.FactorRemoved:
		return map[string]Kind{"passkey": PasskeyRemoved, "totp": AppRemoved, "all": FactorsRemoved}[what]
	}
	return ""
}

// Mail is a mail that is still to be sent.
type Mail struct {
	ID        uuid.UUID
	Kind      Kind
	Recipient string   // an address or a username, as somebody typed it
	Locales   []string // the languages that it is wanted in, best first
	Attempts  int      // with this one
}

// Store is what this package needs of a database.
type Store interface {
	// CreateMail puts the mail into the outbox.
	CreateMail(ctx context.Context, m Mail) error
	// DueMails returns mails that are due, and puts the next attempt down: no other replica gets the same ones before Pause of the
	// attempts.
	DueMails(ctx context.Context, limit int) ([]Mail, error)
	// DeleteMail forgets a mail that was sent, or that there is no use in trying again.
	DeleteMail(ctx context.Context, id uuid.UUID) error
	// WaitingMails tells how many mails are still to be sent, and for how long the oldest has been.
	WaitingMails(ctx context.Context) (n int64, oldest time.Duration, err error)
}

const (
	// TTL is for how long a mail is tried to be sent.
	TTL = 24 * time.Hour
	// firstPause is how long after the first attempt the second one is made; each pause is twice the one before, up to longestPause.
	// It is longer than an attempt may take, so that no two replicas make the same one.
	firstPause, longestPause = time.Minute, time.Hour

	interval    = time.Second
	batch       = 8
	sendTimeout = 45 * time.Second
)

// Pause is how long after an attempt the next one is made.
func Pause(attempts int) time.Duration {
	pause := firstPause
	for range attempts - 1 {
		if pause *= 2; pause >= longestPause {
			return longestPause
		}
	}
	return pause
}

// Message is a mail as it is sent.
type Message struct {
	To, Subject string
	Text, HTML  string
}

// Sender sends messages. An error that is ErrRefused is for good.
type Sender interface {
	Send(ctx context.Context, m Message) error
}

// ErrRefused says that a mail server will not take the message, today or tomorrow.
var ErrRefused = errors.New("the mail server refused it for good")

// Config is what the operator decides about mails.
type Config struct {
	Issuer string // the base of all links
	Brand  string // the name that mails are signed with
	Sender Sender // nil: no mail can be sent
}

// Service writes mails.
type Service struct {
	store Store
	users *users.Service
	cfg   Config
	log   *slog.Logger

	attempted func(outcome string) // that an attempt was made to send a mail
}

// New returns a service on the store that makes links for u.
func New(store Store, u *users.Service, cfg Config, log *slog.Logger) *Service {
	return &Service{store: store, users: u, cfg: cfg, log: log, attempted: func(string) {}}
}

// Count has each attempt to send a mail counted, as delivered, refused for good, or failed, to be made again. It is called before the first.
func (s *Service) Count(attempted func(outcome string)) { s.attempted = attempted }

// Waiting tells how many mails are still to be sent, and for how long the oldest has been.
func (s *Service) Waiting(ctx context.Context) (n int64, oldest time.Duration, err error) {
	return s.store.WaitingMails(ctx)
}

// Enabled tells whether mails can be sent.
func (s *Service) Enabled() bool { return s.cfg.Sender != nil }

// Post puts a mail into the outbox. Whether there is anybody to get it is found out when it is sent: the caller cannot tell.
func (s *Service) Post(ctx context.Context, k Kind, recipient string, locales []string) error {
	return s.store.CreateMail(ctx, Mail{ID: uuid.New(), Kind: k, Recipient: recipient, Locales: locales})
}

// Handed is a link that was made for somebody.
type Handed struct {
	Email     string    `json:"email,omitempty"` // whom it invites
	URL       string    `json:"url,omitempty"`   // to be handed on; empty: it is mailed
	Mailed    bool      `json:"mailed"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Invite invites somebody to make an account: by mail, which proves the address, or, where none can be sent, by a link to be handed on. It
// returns a users.ProfileError for what is no address, or users.ErrEmailTaken.
func (s *Service) Invite(ctx context.Context, email string, locales []string, o audit.Origin) (Handed, error) {
	link, expires, err := s.users.Invite(ctx, email, s.Enabled(), o)
	h := Handed{Email: email, Mailed: s.Enabled(), ExpiresAt: expires}
	switch {
	case err != nil:
		return Handed{}, err
	case !h.Mailed:
		h.URL = s.JoinURL(link)
		return h, nil
	}
	return h, s.Post(ctx, Invitation, email, locales) // with a link of its own
}

// ResetLink makes a link by which the user can set a new password, to be handed to them. It returns users.ErrNotFound, or users.ErrDisabled.
func (s *Service) ResetLink(ctx context.Context, u users.User, o audit.Origin) (Handed, error) {
	link, expires, err := s.users.NewResetLink(ctx, u, "", o)
	if err != nil {
		return Handed{}, err
	}
	return Handed{URL: s.ResetURL(link), ExpiresAt: expires}, nil
}

// Follow sends what is due until ctx ends.
func (s *Service) Follow(ctx context.Context) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := s.SendDue(ctx); err != nil && ctx.Err() == nil {
			s.log.DebugContext(ctx, "cannot look which mails are to be sent", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// SendDue makes the attempts that are due.
func (s *Service) SendDue(ctx context.Context) error {
	for {
		due, err := s.store.DueMails(ctx, batch)
		if err != nil || len(due) == 0 {
			return err
		}
		var sending sync.WaitGroup
		for _, m := range due {
			sending.Go(func() {
				if s.send(ctx, m) {
					if err := s.store.DeleteMail(context.WithoutCancel(ctx), m.ID); err != nil {
						s.log.DebugContext(ctx, "cannot forget a mail that was sent", "error", err)
					}
				}
			})
		}
		sending.Wait()
		if len(due) < batch || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// send makes an attempt and returns whether there is no use in another one.
func (s *Service) send(ctx context.Context, m Mail) (done bool) {
	log := s.log.With(slog.String("mail", string(m.Kind)), slog.Int("attempt", m.Attempts))
	message, err := s.compose(ctx, m)
	if errors.Is(err, errNobody) {
		log.InfoContext(ctx, "a mail was asked for that is for nobody")
		return true
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, sendTimeout)
		defer cancel()
		err = s.cfg.Sender.Send(ctx, message)
	}
	switch {
	case err == nil:
		log.InfoContext(ctx, "mail sent")
		s.attempted("delivered")
		return true
	case ctx.Err() != nil:
		return false
	case errors.Is(err, ErrRefused):
		log.WarnContext(ctx, "a mail cannot be delivered", "error", err)
		s.attempted("refused")
		return true
	default:
		log.WarnContext(ctx, "a mail could not be sent; trying again", "error", err, "pause", Pause(m.Attempts).String())
		s.attempted("failed")
		return false
	}
}

// errNobody says that there is nobody to write to: no such user, no address that is known to be theirs, no invitation.
var errNobody = errors.New("nobody to write to")

// compose makes the link that the mail is about, and the message.
func (s *Service) compose(ctx context.Context, m Mail) (Message, error) {
	origin := audit.Origin{Actor: "server"}
	switch m.Kind {
	case Reset:
		u, err := s.users.FindByEmail(ctx, m.Recipient)
		if errors.Is(err, users.ErrNotFound) {
			u, err = s.users.Find(ctx, m.Recipient)
		}
		if err != nil {
			return Message{}, orNobody(err)
		}
		if !u.EmailVerified {
			return Message{}, errNobody // it may be anybody's
		}
		link, _, err := s.users.NewResetLink(ctx, u, u.Email, origin)
		if err != nil {
			return Message{}, orNobody(err)
		}
		return s.write(letter{kind: "reset", to: u.Email, user: u.Username, url: s.ResetURL(link)}, append([]string{u.Locale}, m.Locales...))
	case Invitation, SignUp:
		return s.composeAccount(ctx, m, origin)
	case PasswordChanged, PasskeyAdded, PasskeyRemoved, AppAdded, AppRemoved, RecoveryCodes, FactorsRemoved:
		// To where the user was then, whoever has the address now: somebody else may have changed it.
		u, err := s.users.FindByEmail(ctx, m.Recipient)
		if err != nil && !errors.Is(err, users.ErrNotFound) {
			return Message{}, err
		}
		return s.write(letter{kind: string(m.Kind), to: m.Recipient, user: u.Username, url: s.url("/me/", ""), notice: true}, m.Locales)
	}
	return Message{}, errNobody
}

func (s *Service) composeAccount(ctx context.Context, m Mail, origin audit.Origin) (Message, error) {
	if u, err := s.users.FindByEmail(ctx, m.Recipient); err == nil {
		return s.write(letter{kind: "known", to: u.Email, user: u.Username, url: s.url("/forgotten", "")}, append([]string{u.Locale}, m.Locales...))
	} else if !errors.Is(err, users.ErrNotFound) {
		return Message{}, err
	}
	invited, err := s.users.Invited(ctx, m.Recipient)
	if err != nil {
		return Message{}, err
	}
	if !invited && (m.Kind == Invitation || s.users.SignUp() != users.SignUpOpen) {
		return Message{}, errNobody // it was withdrawn, has expired, or never was
	}
	link, _, err := s.users.NewSignUpLink(ctx, m.Recipient, origin)
	if err != nil {
		return Message{}, err
	}
	kind := "sign_up"
	if m.Kind == Invitation {
		kind = "invitation"
	}
	return s.write(letter{kind: kind, to: m.Recipient, url: s.JoinURL(link)}, m.Locales)
}

func orNobody(err error) error {
	if errors.Is(err, users.ErrNotFound) || errors.Is(err, users.ErrDisabled) {
		return errNobody
	}
	return err
}

// ResetURL is the address of a link to set a new password.
func (s *Service) ResetURL(link string) string { return s.url("/reset", link) }

// JoinURL is the address of a link to make an account.
func (s *Service) JoinURL(link string) string { return s.url("/join", link) }

// url is an address of ours. Its host is that of the configuration, whatever a request says.
func (s *Service) url(path, link string) string {
	address := s.cfg.Issuer + path
	if link != "" {
		address += "?link=" + url.QueryEscape(link)
	}
	return address
}
