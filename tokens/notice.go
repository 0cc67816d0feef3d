package tokens

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"signet/clients"
)

// Notice is a client that is still to be told that a login has ended (OpenID Connect Back-Channel Logout 1.0).
type Notice struct {
	ClientID string
	UserID   string
	LoginID  string
	Attempts int // with this one
	Now      time.Time
}

const (
	// NoticeTTL is for how long a client is tried to be told.
	NoticeTTL = 24 * time.Hour
	// firstPause is how long after the first attempt the second one is made; each pause is twice the one before, up to longestPause.
	// It is longer than an attempt may take, so that no two replicas make the same one.
	firstPause, longestPause = 10 * time.Second, time.Hour

	noticeInterval = time.Second
	noticeBatch    = 32
	noticesAtOnce  = 4 // to one client
)

// NoticePause is how long after an attempt the next one is made.
func NoticePause(attempts int) time.Duration {
	pause := firstPause
	for range attempts - 1 {
		if pause *= 2; pause >= longestPause {
			return longestPause
		}
	}
	return pause
}

// Poster posts a form, and returns the status of the answer.
type Poster interface {
	PostForm(ctx context.Context, address string, form url.Values) (status int, err error)
}

// TellOfLogouts tells clients that logins have ended, until ctx ends. What is to be told is in the database, so that it outlives this
// process, and of all replicas one at a time tells it.
func (s *Service) TellOfLogouts(ctx context.Context, known *clients.Service, p Poster) {
	tick := time.NewTicker(noticeInterval)
	defer tick.Stop()
	for {
		if err := s.TellDue(ctx, known, p); err != nil && ctx.Err() == nil {
			s.log.DebugContext(ctx, "cannot look whom to tell of log-outs", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// CountNotices has each attempt to tell a client counted, as delivered, refused for good, or failed, to be made again. It is called before
// the first.
func (s *Service) CountNotices(attempted func(outcome string)) { s.noticed = attempted }

// WaitingNotices tells how many clients are still to be told of the end of a login, and for how long the first of them has been.
func (s *Service) WaitingNotices(ctx context.Context) (n int64, oldest time.Duration, err error) {
	return s.store.WaitingNotices(ctx)
}

// TellDue makes the attempts that are due. A client that does not answer is left alone until its next turn, so that it holds up the
// others once and no more, however much it is to be told.
func (s *Service) TellDue(ctx context.Context, known *clients.Service, p Poster) error {
	var silent sync.Map // ids of clients
	for {
		due, err := s.store.DueNotices(ctx, noticeBatch)
		if err != nil || len(due) == 0 {
			return err
		}
		byClient := map[string][]Notice{}
		for _, n := range due {
			byClient[n.ClientID] = append(byClient[n.ClientID], n)
		}
		began := time.Now()
		var telling sync.WaitGroup
		for id, notices := range byClient {
			for first := range min(noticesAtOnce, len(notices)) {
				telling.Go(func() {
					for i := first; i < len(notices); i += noticesAtOnce {
						// What is not begun in time is another replica's by the time that it ends.
						if _, skip := silent.Load(id); skip || time.Since(began) > firstPause/2 {
							return
						}
						if !s.tell(ctx, known, p, notices[i]) {
							silent.Store(id, nil)
						} else if err := s.store.DeleteNotice(context.WithoutCancel(ctx), notices[i]); err != nil {
							s.log.DebugContext(ctx, "cannot forget a log-out that was told", "error", err)
						}
					}
				})
			}
		}
		telling.Wait()
		if len(due) < noticeBatch || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// tell makes an attempt and returns whether there is no use in another one. Each has a token of its own: they are short-lived.
func (s *Service) tell(ctx context.Context, known *clients.Service, p Poster, n Notice) (done bool) {
	log := s.log.With(slog.String("client_id", n.ClientID), slog.String("session_id", n.LoginID), slog.Int("attempt", n.Attempts))
	c, err := known.Get(ctx, n.ClientID)
	if errors.Is(err, clients.ErrNotFound) || err == nil && (c.Disabled || c.BackchannelLogoutURI == "") {
		return true
	}
	var token string
	if err == nil {
		token, err = s.LogoutToken(ctx, &c, n.UserID, n.LoginID, n.Now)
	}
	status := 0
	if err == nil {
		status, err = p.PostForm(ctx, c.BackchannelLogoutURI, url.Values{"logout_token": {token}})
	}
	switch {
	case ctx.Err() != nil:
		return false
	case err == nil && status < http.StatusBadRequest:
		log.InfoContext(ctx, "told of a log-out")
		s.noticed("delivered")
		return true
	case err == nil && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests && (status < http.StatusInternalServerError || status == http.StatusNotImplemented):
		log.WarnContext(ctx, "a client did not take a log-out", "status", status)
		s.noticed("refused")
		return true
	default:
		log.WarnContext(ctx, "a client could not be told of a log-out; trying again", "status", status, "error", err, "pause", NoticePause(n.Attempts).String())
		s.noticed("failed")
		return false
	}
}
