package oauth

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"signet/activity"
	"signet/clients"
	"signet/logins"
	"signet/tokens"
	"signet/users"
)

// metrics count what the endpoints did. No label holds a client, a user or a session.
type metrics struct {
	tokensIssued   *prometheus.CounterVec
	refreshes      *prometheus.CounterVec
	logins         prometheus.Counter
	loginFailures  prometheus.Counter
	factorFailures prometheus.Counter
	activity       *activity.Counter
}

func newMetrics(reg prometheus.Registerer, counter *activity.Counter) *metrics {
	m := &metrics{
		activity: counter,
		tokensIssued: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_tokens_issued_total", Help: "Access tokens issued, by grant.",
		}, []string{"grant"}),
		refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signet_refresh_total", Help: "Uses of refresh tokens, by outcome.",
		}, []string{"outcome"}),
		logins: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signet_logins_total", Help: "Logins that succeeded, by browser or by the password grant.",
		}),
		loginFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signet_login_failures_total", Help: "Logins refused for a wrong password, an unknown or disabled user, or too many failures.",
		}),
		factorFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signet_factor_failures_total", Help: "Second factors refused after the right password: wrong, used, or too many.",
		}),
	}
	// Every series is there from the start, so that an alert on it sees its first increase.
	for _, grant := range clients.Grants {
		m.tokensIssued.WithLabelValues(string(grant))
	}
	for _, outcome := range []tokens.Outcome{tokens.Rotated, tokens.Retried, tokens.Reused, tokens.CaughtUp, tokens.Rejected} {
		m.refreshes.WithLabelValues(string(outcome))
	}
	reg.MustRegister(m.tokensIssued, m.refreshes, m.logins, m.loginFailures, m.factorFailures)
	return m
}

func (m *metrics) issued(grant string) {
	m.tokensIssued.WithLabelValues(grant).Inc()
	if grant == string(clients.Password) { // logins by browser are counted when they happen
		m.loggedIn()
	}
}

func (m *metrics) loggedIn() {
	m.logins.Inc()
	m.activity.Add(activity.Logins)
}

func (m *metrics) refreshed(outcome tokens.Outcome) {
	m.refreshes.WithLabelValues(string(outcome)).Inc()
	switch outcome {
	case tokens.Reused:
		m.activity.Add(activity.Reuses)
	case tokens.Rejected:
	default:
		m.activity.Add(activity.Refreshes)
	}
}

// LoginFailed counts a login that failed elsewhere than at these endpoints, for the caller's sake and not the server's.
func (s *Server) LoginFailed(err error) { s.metrics.loginFailed(err) }

// loginFailed counts a login that failed for the caller's sake, not the server's.
func (m *metrics) loginFailed(err error) {
	var throttled *users.ThrottledError
	if errors.Is(err, users.ErrBadCredentials) || errors.As(err, &throttled) {
		m.loginFailures.Inc()
		m.activity.Add(activity.LoginFailures)
	}
}

// factorFailed counts a second factor that was refused.
func (m *metrics) factorFailed(err error) {
	var throttled *users.ThrottledError
	if errors.Is(err, logins.ErrWrongFactor) || errors.As(err, &throttled) {
		m.factorFailures.Inc()
	}
}
