package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/cors"

	"signet/activity"
	"signet/audit"
	"signet/clients"
	"signet/keys"
	"signet/mail"
	"signet/proofs"
	"signet/server/api"
	"signet/server/console"
	"signet/server/oauth"
	"signet/server/pages"
	"signet/server/playground"
	"signet/server/request"
	"signet/tokens"
)

// Config is what the operator decides about HTTP.
type Config struct {
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed
	CORSOrigins    []string       // browser origins that may call /token, /revoke and /par
	CookieDomain   string         // of the cookie with a browser session's access token; empty: the issuer's host alone

	Pages      *pages.Pages           // what users see
	Playground *playground.Playground // for those who try Signet; may be nil
	DrainDelay time.Duration          // how long requests are still taken after the order to stop

	Activity *activity.Counter // is told what happens; may be nil
}

// Database is what the server needs of the database itself.
type Database interface {
	activity.Store
	audit.Store
	Ping(ctx context.Context) error
	PoolStats() (inUse, idle, limit int, waits int64)
}

// Server answers requests. New returns one.
type Server struct {
	cfg      Config
	log      *slog.Logger
	db       Database
	keys     *keys.Service
	clients  *clients.Service
	oauth    *oauth.Server
	api      *api.Server
	console  *console.Console
	registry *prometheus.Registry
	duration *prometheus.HistogramVec
	outages  prometheus.Counter
	outage   prometheus.Counter // seconds
	refused  *prometheus.CounterVec
	draining atomic.Bool
}

// New returns a server on the domain's services.
func New(cfg Config, db Database, d oauth.Services, log *slog.Logger) *Server {
	registry := prometheus.NewRegistry()
	o := oauth.New(d, cfg.Pages, registry, cfg.Activity, cfg.CookieDomain)
	c, u, t, k := d.Clients, d.Users, d.Tokens, d.Keys
	s := &Server{
		cfg: cfg, log: log, db: db, clients: c, keys: k, registry: registry,
		oauth: o,
		api:   api.New(d, db, o.LoginFailed),
		console: console.New(console.Domain{
			Clients: c, Users: u, Tokens: t, Keys: k, Mails: d.Mails, Logins: d.Logins, Audit: db, Activity: db, EndLogin: o.EndLogin,
		}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signet_http_request_duration_seconds", Help: "Time taken to answer, by route, method and status.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "method", "status"}),
		outages: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signet_interruptions_total", Help: "Times in which the database, or every replica, was away, seen first by this replica.",
		}),
		outage: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signet_interruption_seconds_total", Help: "How long those times were together.",
		}),
	}
	s.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "signet_proofs_refused_total", Help: "Client assertions and DPoP proofs that proved nothing; dpop_nonce: that lacked a good nonce.",
	}, []string{"proof"})
	for _, proof := range []string{"assertion", "dpop", "dpop_nonce"} {
		s.refused.WithLabelValues(proof)
	}
	deliveries := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "signet_deliveries_total", Help: "Attempts to send mails and to tell clients of log-outs; failed: to be made again.",
	}, []string{"kind", "outcome"})
	for _, kind := range []string{"mail", "logout"} {
		for _, outcome := range []string{"delivered", "failed", "refused"} {
			deliveries.WithLabelValues(kind, outcome)
		}
	}
	d.Mails.Count(func(outcome string) { deliveries.WithLabelValues("mail", outcome).Inc() })
	t.CountNotices(func(outcome string) { deliveries.WithLabelValues("logout", outcome).Inc() })
	registry.MustRegister(s.duration, s.outages, s.outage, s.refused, deliveries, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&poolCollector{db}, &keyCollector{k}, &outboxCollector{d.Mails, t})
	return s
}

// Interrupted counts a time in which the database, or every replica, was away.
func (s *Server) Interrupted(i tokens.Interruption) {
	s.outages.Inc()
	s.outage.Add(i.Length().Seconds())
	s.cfg.Activity.Add(activity.Interruptions)
}

// Public returns the handler of the public listener.
func (s *Server) Public() http.Handler {
	r := s.router()
	r.Use(s.fromBrowsers())
	s.oauth.Routes(r)
	s.api.Routes(r)
	s.console.Routes(r)
	if s.cfg.Playground != nil {
		s.cfg.Playground.Routes(r)
	}
	s.health(r)
	describe(r)
	r.NoRoute(func(c *gin.Context) {
		if console.Owns(c.Request.URL.Path) {
			s.console.NotFound(c)
			return
		}
		if c.Request.Method == http.MethodGet && c.NegotiateFormat(gin.MIMEJSON, gin.MIMEHTML) == gin.MIMEHTML { // somebody at a browser
			s.cfg.Pages.Error(c, http.StatusNotFound, nil, pages.Error{Kind: pages.NotFound})
			return
		}
		notFound(c)
	})
	return r
}

// fromBrowsers lets scripts of other origins call what is for them (Fetch standard, CORS protocol): those of the configured
// origins, and of the pages that public clients are sent back to, /token, /revoke and /par; those of any origin /userinfo, /register and the documents; those of
// the clients' browser_origins, with cookies, /session and /account. Which client's page may do what is for those endpoints to say.
func (s *Server) fromBrowsers() gin.HandlerFunc {
	options := cors.Options{
		AllowedMethods: []string{http.MethodPost}, AllowedHeaders: []string{"Authorization", "Content-Type", "DPoP", "X-Request-Id"},
		ExposedHeaders: []string{"DPoP-Nonce", "Retry-After", "WWW-Authenticate", "X-Request-Id"}, MaxAge: 600,
	}
	options.AllowOriginVaryRequestFunc = func(r *http.Request, origin string) (bool, []string) {
		if slices.Contains(s.cfg.CORSOrigins, origin) {
			return true, nil
		}
		known, err := s.clients.TokenOrigin(r.Context(), origin)
		return known && err == nil, nil // without a database nothing is allowed, nor would anything be done
	}
	tokens := cors.New(options)
	options.AllowedMethods = []string{http.MethodGet, http.MethodPost, http.MethodDelete}
	options.AllowCredentials = true
	options.AllowOriginVaryRequestFunc = func(r *http.Request, origin string) (bool, []string) {
		known, err := s.clients.OriginRegistered(r.Context(), origin)
		return known && err == nil, nil
	}
	cookies := cors.New(options)
	options.AllowedMethods = []string{http.MethodGet, http.MethodPost}
	options.AllowCredentials, options.AllowOriginVaryRequestFunc, options.AllowedOrigins = false, nil, []string{"*"}
	anybody := cors.New(options)
	options.AllowedMethods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}
	registration := cors.New(options)
	options.AllowedMethods, options.AllowedHeaders = []string{http.MethodGet, http.MethodHead}, []string{"*"} // such as MCP-Protocol-Version
	documents := cors.New(options)
	return func(c *gin.Context) {
		preflight := c.Request.Method == http.MethodOptions && c.GetHeader("Access-Control-Request-Method") != ""
		var protocol *cors.Cors
		switch first, _, _ := strings.Cut(strings.TrimPrefix(c.Request.URL.Path, "/"), "/"); first {
		case "token", "revoke", "par":
			protocol = tokens
		case "userinfo":
			protocol = anybody
		case "register": // by pages as well: whoever knows the token, or where anybody may
			if s.clients.Registration() == clients.RegistrationOff {
				return
			}
			protocol = registration
		case "session", "account":
			protocol = cookies
		case ".well-known", "openapi.yaml": // whose answers say themselves that any origin may read them
			if !preflight {
				return
			}
			protocol = documents
		default:
			return
		}
		asBrowsersAsk(c.Request.Header)
		protocol.HandlerFunc(c.Writer, c.Request)
		if preflight {
			c.Abort() // it is answered
		}
	}
}

// asBrowsersAsk writes the names of headers that a preflight asks for as the Fetch standard has browsers do it, in lower case and sorted:
// rs/cors knows no other form, and other callers do not keep to it.
func asBrowsersAsk(h http.Header) {
	const asked = "Access-Control-Request-Headers"
	if len(h.Values(asked)) == 0 {
		return
	}
	names := strings.FieldsFunc(strings.ToLower(strings.Join(h.Values(asked), ",")), func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
	slices.Sort(names)
	h.Set(asked, strings.Join(slices.Compact(names), ","))
}

// Management returns the handler of the management listener.
func (s *Server) Management() http.Handler {
	r := s.router()
	s.health(r)
	r.GET("/metrics", gin.WrapH(promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{})))
	return r
}

// router returns a router that answers what it does not know like everything else: with an error object.
func (s *Server) router() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.HandleMethodNotAllowed = true
	r.RedirectTrailingSlash = false
	r.UseEscapedPath, r.UnescapePathValues = true, false // the id of a client may hold a slash; package api unescapes it
	r.RemoteIPHeaders = []string{"X-Forwarded-For"}
	trusted := make([]string, len(s.cfg.TrustedProxies))
	for i, p := range s.cfg.TrustedProxies {
		trusted[i] = p.String()
	}
	if err := r.SetTrustedProxies(trusted); err != nil {
		panic(err) // only for what is not a prefix
	}
	r.Use(request.Handle(s.log, s.observe), s.letGo)
	r.NoRoute(notFound)
	r.NoMethod(func(c *gin.Context) { // the router has set Allow
		oauth.WriteError(c.Writer, http.StatusMethodNotAllowed, "invalid_request", "this path takes another method")
	})
	return r
}

// letGo has clients open another connection for their next request once the server is to stop: a load balancer's goes elsewhere.
func (s *Server) letGo(c *gin.Context) {
	if s.draining.Load() {
		c.Header("Connection", "close")
	}
}

func notFound(c *gin.Context) {
	oauth.WriteError(c.Writer, http.StatusNotFound, "not_found", "there is nothing at this path")
}

// observe records how long an answer took, and which proof was refused. Labels are bounded: the path is the route's, and unknown methods are one.
func (s *Server) observe(route, method string, status int, took time.Duration, err error) {
	if route == "" {
		route = "none"
	}
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		method = "other"
	}
	s.duration.WithLabelValues(route, method, strconv.Itoa(status)).Observe(took.Seconds())
	switch {
	case errors.Is(err, proofs.ErrAssertion):
		s.refused.WithLabelValues("assertion").Inc()
	case errors.Is(err, proofs.ErrNonce):
		s.refused.WithLabelValues("dpop_nonce").Inc()
	case errors.Is(err, proofs.ErrProof), errors.Is(err, proofs.ErrReplayed):
		s.refused.WithLabelValues("dpop").Inc()
	}
}

// poolCollector reads the state of the database's connection pool when it is asked for.
type poolCollector struct{ db Database }

var (
	poolConnections = prometheus.NewDesc("signet_db_pool_connections", "Connections to the database, by state.", []string{"state"}, nil)
	poolLimit       = prometheus.NewDesc("signet_db_pool_max_connections", "The most connections to the database.", nil, nil)
	poolWaits       = prometheus.NewDesc("signet_db_pool_waits_total", "How often a request had to wait for a connection.", nil, nil)
)

// Describe implements prometheus.Collector.
func (p *poolCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- poolConnections
	ch <- poolLimit
	ch <- poolWaits
}

// Collect implements prometheus.Collector.
func (p *poolCollector) Collect(ch chan<- prometheus.Metric) {
	inUse, idle, limit, waits := p.db.PoolStats()
	ch <- prometheus.MustNewConstMetric(poolConnections, prometheus.GaugeValue, float64(inUse), "in_use")
	ch <- prometheus.MustNewConstMetric(poolConnections, prometheus.GaugeValue, float64(idle), "idle")
	ch <- prometheus.MustNewConstMetric(poolLimit, prometheus.GaugeValue, float64(limit))
	ch <- prometheus.MustNewConstMetric(poolWaits, prometheus.CounterValue, float64(waits))
}

// outboxCollector looks what waits in the outboxes when it is asked for: on each replica it is that of all.
type outboxCollector struct {
	mails  *mail.Service
	tokens *tokens.Service
}

var (
	outboxWaiting = prometheus.NewDesc("signet_deliveries_waiting", "Mails that are to be sent, and clients that are to be told of log-outs, on all replicas together.", []string{"kind"}, nil)
	outboxOldest  = prometheus.NewDesc("signet_deliveries_oldest_seconds", "For how long the oldest of them has waited.", []string{"kind"}, nil)
)

// Describe implements prometheus.Collector.
func (o *outboxCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- outboxWaiting
	ch <- outboxOldest
}

// Collect implements prometheus.Collector. What is not known is left out: there may be no database. So are mails that nobody sends.
func (o *outboxCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for kind, waiting := range map[string]func(context.Context) (int64, time.Duration, error){"mail": o.mails.Waiting, "logout": o.tokens.WaitingNotices} {
		if kind == "mail" && !o.mails.Enabled() {
			continue
		}
		if n, oldest, err := waiting(ctx); err == nil {
			ch <- prometheus.MustNewConstMetric(outboxWaiting, prometheus.GaugeValue, float64(n), kind)
			ch <- prometheus.MustNewConstMetric(outboxOldest, prometheus.GaugeValue, oldest.Seconds(), kind)
		}
	}
}

// keyCollector reads how old the current signing key is when it is asked for.
type keyCollector struct{ keys *keys.Service }

var (
	keyAge      = prometheus.NewDesc("signet_signing_key_age_seconds", "For how long the current signing key has signed.", nil, nil)
	keyRotation = prometheus.NewDesc("signet_signing_key_rotation_seconds", "For how long a signing key signs until the next one takes over.", nil, nil)
)

// Describe implements prometheus.Collector.
func (k *keyCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- keyAge
	ch <- keyRotation
}

// Collect implements prometheus.Collector. What is not so is left out: there is no age before the keys are loaded, and no
// rotation of an HS256 secret.
func (k *keyCollector) Collect(ch chan<- prometheus.Metric) {
	since, every := k.keys.Rotation()
	if !since.IsZero() {
		ch <- prometheus.MustNewConstMetric(keyAge, prometheus.GaugeValue, time.Since(since).Seconds())
	}
	if every > 0 {
		ch <- prometheus.MustNewConstMetric(keyRotation, prometheus.GaugeValue, every.Seconds())
	}
}
