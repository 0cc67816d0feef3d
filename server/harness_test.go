package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"signet/audit"
	"signet/authorizations"
	"signet/clients"
	"signet/fetch"
	"signet/keys"
	"signet/logins"
	"signet/mail"
	"signet/proofs"
	"signet/server"
	"signet/server/oauth"
	"signet/server/pages"
	"signet/server/playground"
	"signet/storage"
	"signet/storage/storagetest"
	"signet/tokens"
	"signet/users"
)

type (
	backend = storagetest.Backend
	client  = clients.Client
)

// settings are what a test may want to be otherwise.
type settings struct {
	issuer        string
	secret        string
	alg           keys.Algorithm
	signingSecret string
	accessTTL     time.Duration
	refreshTTL    time.Duration
	sessionTTL    time.Duration
	retryWindow   time.Duration
	maxFailures   int
	hashMemory    uint32
	loginWindow   time.Duration
	proxies       []netip.Prefix
	origins       []string
	cookieDomain  string
	secondFactor  logins.Policy
	keysNotLoaded bool
	mailer        mail.Sender
	signUp        users.SignUp
	registration  clients.RegistrationMode
	documents     bool
	playground    bool
	log           *slog.Logger
	tracer        pgx.QueryTracer
}

const (
	issuer = "https://auth.example.com"
	api    = "https://api.example.com"
)

// origin is where what a test does to the domain's services comes from.
var origin = audit.Origin{Actor: "test"}

// sharedSecret is a SIGNET_SECRET: all replicas of a test have the same one unless it says otherwise.
var sharedSecret = keys.NewSecret()

// replica is one server: its own services and its own pool on the test's database, behind real HTTP.
type replica struct {
	url        string
	http       *http.Client
	public     http.Handler
	management http.Handler
	store      storage.Store
	clients    *clients.Service
	users      *users.Service
	keys       *keys.Service
	tokens     *tokens.Service

	logins         *logins.Service
	authorizations *authorizations.Service
	mails          *mail.Service
	proofs         *proofs.Service

	close      func()
	closeStore func()
}

// start starts a replica on the backend. Unless a test is about them, failed logins are unlimited, as most tests share one address, and
// passwords cheap.
func start(t testing.TB, b *backend, change ...func(*settings)) *replica {
	t.Helper()
	set := settings{
		issuer: issuer, secret: sharedSecret, alg: keys.ES256, accessTTL: 15 * time.Minute, refreshTTL: 30 * 24 * time.Hour,
		sessionTTL: 90 * 24 * time.Hour, retryWindow: 10 * time.Second, maxFailures: 1 << 20, hashMemory: 8, loginWindow: 15 * time.Minute,
		log: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&set)
	}
	secret, err := keys.ParseSecret(set.secret)
	check(t, err)
	store, err := storage.Open(t.Context(), b.URL, set.tracer)
	check(t, err)
	r := &replica{store: store, closeStore: sync.OnceFunc(store.Close)}
	t.Cleanup(r.closeStore)
	check(t, store.Migrate(t.Context()))
	known := clients.Config{
		AllowHTTP: func(host string) bool { return host == "127.0.0.1" },
		Issuer:    set.issuer, Registration: set.registration, RegistrationScopes: clients.Scope{"openid", "profile", "email", "offline_access"},
	}
	caller := fetch.New(fetch.Policy{netip.MustParsePrefix("127.0.0.1/32")}, "test")
	if set.documents {
		known.Documents = caller
	}
	r.clients = clients.New(r.store, known, set.log)
	r.users = users.New(r.store, users.Config{Secret: secret, MaxFailures: set.maxFailures, Window: set.loginWindow, SignUp: set.signUp, HashMemory: set.hashMemory}, set.log)
	r.mails = mail.New(r.store, r.users, mail.Config{Issuer: set.issuer, Brand: "Example", Sender: set.mailer}, set.log)
	r.keys = keys.New(r.store, keys.Config{
		Secret: secret, Algorithm: set.alg, SigningSecret: []byte(set.signingSecret), TokenTTL: set.accessTTL, RotateEvery: 30 * 24 * time.Hour,
	}, set.log)
	r.logins = logins.New(r.store, logins.Config{
		Secret: secret, StayTTL: 30 * 24 * time.Hour, Issuer: set.issuer, Brand: "Signet", Policy: set.secondFactor,
		MaxFailures: min(set.maxFailures, 10), Window: set.loginWindow,
	}, set.log)
	r.authorizations = authorizations.New(r.store, secret, set.log)
	r.tokens = tokens.New(r.store, r.keys, r.authorizations, tokens.Config{
		Issuer: set.issuer, Secret: secret, AccessTTL: set.accessTTL, RefreshTTL: set.refreshTTL, SessionTTL: set.sessionTTL,
		RetryWindow: set.retryWindow,
	}, set.log)
	r.proofs = proofs.New(r.store, proofs.Config{Issuer: set.issuer, Secret: secret, Getter: caller})
	if !set.keysNotLoaded {
		check(t, r.keys.Load(t.Context()))
	}
	look := lookOf(t, pages.Config{Issuer: set.issuer, Mail: r.mails.Enabled(), SignUp: r.users.SignUp() != users.SignUpOff})
	srv := httptest.NewUnstartedServer(nil)
	address := "http://" + srv.Listener.Addr().String()
	var play *playground.Playground
	if set.playground {
		cfg := playground.Config{Addresses: []string{set.issuer, address, strings.Replace(address, "127.0.0.1", "localhost", 1)}, Local: address}
		play = playground.New(cfg, look)
		check(t, playground.Register(t.Context(), r.clients, cfg, origin))
	}
	s := server.New(server.Config{
		TrustedProxies: set.proxies, CORSOrigins: set.origins, CookieDomain: set.cookieDomain, Pages: look, Playground: play,
	}, r.store, oauth.Services{
		Clients: r.clients, Users: r.users, Tokens: r.tokens, Keys: r.keys, Logins: r.logins, Authorizations: r.authorizations, Mails: r.mails, Proofs: r.proofs,
	}, set.log)
	r.public = s.Public()
	srv.Config.Handler = r.public
	srv.Start()
	r.close = srv.Close
	t.Cleanup(srv.Close)
	r.url, r.management, r.http = srv.URL, s.Management(), srv.Client()
	r.http.Transport.(*http.Transport).MaxIdleConnsPerHost = 100 // races would run out of ports
	r.http.Transport = described{r.http.Transport}
	return r
}

// looks are the pages by their configuration. To parse the templates takes longer than most tests.
var looks sync.Map

func lookOf(t testing.TB, cfg pages.Config) *pages.Pages {
	t.Helper()
	if known, ok := looks.Load(cfg); ok {
		return known.(*pages.Pages)
	}
	look, err := pages.New(cfg)
	check(t, err)
	known, _ := looks.LoadOrStore(cfg, look)
	return known.(*pages.Pages)
}

// dearPasswords makes the hash of a password as dear as it is in earnest.
func dearPasswords(s *settings) { s.hashMemory = 0 }

// each runs f on a fresh server on either kind of database.
func each(t *testing.T, f func(t *testing.T, r *replica), change ...func(*settings)) {
	t.Helper()
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *backend) { f(t, start(t, b, change...)) })
}

// onBackends runs f on either kind of database; it starts its servers itself.
func onBackends(t *testing.T, f func(t *testing.T, b *backend)) {
	t.Helper()
	t.Parallel()
	storagetest.Each(t, f)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// app registers a client: confidential, for all that there is, unless it is changed.
func (r *replica) app(t testing.TB, id string, change ...func(*clients.Client)) *clients.Client {
	t.Helper()
	c := clients.Client{
		ID: id, Name: "App " + id, AuthMethod: clients.SecretBasic, Scope: clients.Scope{"read", "write"},
		Grants: []clients.Grant{clients.Password, clients.RefreshToken, clients.ClientCredentials},
	}
	for _, f := range change {
		f(&c)
	}
	c, err := r.clients.Create(t.Context(), c, origin)
	check(t, err)
	return &c
}

func public(c *clients.Client) {
	c.AuthMethod = clients.None
	c.Grants = []clients.Grant{clients.Password, clients.RefreshToken}
}

func resourceServer(audience ...string) func(*clients.Client) {
	return func(c *clients.Client) { c.ResourceServer, c.Audience = true, audience }
}

func audience(uris ...string) func(*clients.Client) {
	return func(c *clients.Client) { c.Audience = uris }
}

func grants(g ...clients.Grant) func(*clients.Client) {
	return func(c *clients.Client) { c.Grants = g }
}

func scope(s ...string) func(*clients.Client) {
	return func(c *clients.Client) { c.Scope = s }
}

// password is that of every user that user makes. Its hash is a cheap one, so that a test with many logins does not take
// seconds; the first right login replaces it.
const (
	password     = "correct horse battery staple"
	passwordHash = "$argon2id$v=19$m=8,t=1,p=1$cpgE+GO47GD9eIfI7RL41Q$OH58VsDfEpSoF/jphA4Uv7r6RawOIRO1jFz2AHcMv2M"
)

// user makes a user with the password.
func (r *replica) user(t testing.TB, name string, admin ...bool) users.User {
	t.Helper()
	u, err := r.store.CreateUser(t.Context(), users.User{
		ID: uuid.NewString(), Username: name, PasswordHash: passwordHash, Admin: len(admin) > 0 && admin[0],
	}, users.Canonical(name), audit.New(audit.UserCreated, origin))
	check(t, err)
	return u
}

// login begins a session as a password grant from 127.0.0.1 would, without the price of a password.
func (r *replica) login(t testing.TB, c *clients.Client, u users.User) tokens.Issued {
	t.Helper()
	issued, err := r.tokens.StartSession(t.Context(), c, u, c.Scope.Default(), c.Resources(r.tokens.Issuer()), proofs.Key{},
		audit.Origin{Actor: u.ID, Address: "127.0.0.1", UserAgent: "Go-http-client/1.1"})

	check(t, err)
	return issued
}

// answer is an answer, its body decoded where it is a JSON object.
type answer struct {
	status int
	header http.Header
	body   string
	json   map[string]any
}

func (a answer) text(member string) string {
	s, _ := a.json[member].(string)
	return s
}

// want checks the status and, where it is one of an error, its code.
func (a answer) want(t testing.TB, status int, code string) answer {
	t.Helper()
	if a.status != status || a.text("error") != code {
		t.Errorf("got %d %s, want %d %s", a.status, a.body, status, code)
	}
	return a
}

// issued checks that the answer is a token answer.
func (a answer) issued(t testing.TB) answer {
	t.Helper()
	if a.status != http.StatusOK || a.text("access_token") == "" {
		t.Fatalf("got %d %s, want tokens", a.status, a.body)
	}
	return a
}

// do sends a request and reads the whole answer.
func (r *replica) do(t testing.TB, req *http.Request) answer {
	t.Helper()
	a, err := r.try(req)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// try is do for goroutines, which cannot end a test.
func (r *replica) try(req *http.Request) (answer, error) {
	res, err := r.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	a := answer{status: res.StatusCode, header: res.Header, body: string(body)}
	if bytes.HasPrefix(body, []byte("{")) && err == nil {
		err = json.Unmarshal(body, &a.json)
	}
	return a, err
}

// form makes a form of pairs of names and values.
func form(pairs ...string) url.Values {
	f := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		f.Add(pairs[i], pairs[i+1])
	}
	return f
}

// option changes a request before it is sent.
type option func(*http.Request)

func header(name, value string) option {
	return func(r *http.Request) { r.Header.Add(name, value) }
}

// rawBasic is Basic authentication as it is written, without form-encoding.
func rawBasic(id, secret string) option {
	return func(r *http.Request) { r.SetBasicAuth(id, secret) }
}

func basic(id, secret string) option { return rawBasic(url.QueryEscape(id), url.QueryEscape(secret)) }

// request makes the POST of a body, as a form unless an option says otherwise.
func (r *replica) request(ctx context.Context, path, body string, options ...option) *http.Request {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+path, strings.NewReader(body))
	if err != nil {
		panic(err) // only for a path that is none
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, o := range options {
		o(req)
	}
	return req
}

// as authenticates as the client: by Basic, or by client_id where it is public.
func as(c *clients.Client, f url.Values) (body string, auth option) {
	if c.Public() {
		f = maps.Clone(f)
		f.Set("client_id", c.ID)
		return f.Encode(), func(*http.Request) {}
	}
	return f.Encode(), basic(c.ID, c.Secret)
}

// post sends a form as the client.
func (r *replica) post(t testing.TB, path string, c *clients.Client, f url.Values, options ...option) answer {
	t.Helper()
	body, auth := as(c, f)
	return r.do(t, r.request(t.Context(), path, body, slices.Insert(options, 0, auth)...))
}

func (r *replica) token(t testing.TB, c *clients.Client, pairs ...string) answer {
	t.Helper()
	return r.post(t, "/token", c, form(pairs...))
}

func (r *replica) passwordGrant(t testing.TB, c *clients.Client, username, password string, more ...string) answer {
	t.Helper()
	return r.token(t, c, append([]string{"grant_type", "password", "username", username, "password", password}, more...)...)
}

func (r *replica) refresh(t testing.TB, c *clients.Client, token string, more ...string) answer {
	t.Helper()
	return r.token(t, c, append([]string{"grant_type", "refresh_token", "refresh_token", token}, more...)...)
}

func (r *replica) introspect(t testing.TB, c *clients.Client, token string) answer {
	t.Helper()
	return r.post(t, "/introspect", c, form("token", token))
}

func (r *replica) revoke(t testing.TB, c *clients.Client, token string) answer {
	t.Helper()
	return r.post(t, "/revoke", c, form("token", token))
}

func (r *replica) get(t testing.TB, path string, options ...option) answer {
	t.Helper()
	return r.do(t, r.request(t.Context(), path, "", slices.Insert(options, 0, func(req *http.Request) {
		req.Method = http.MethodGet
		req.Header.Del("Content-Type")
	})...))
}

const inactive = `{"active":false}`

// alive checks that the caller is told that the token is active.
func (r *replica) alive(t testing.TB, what string, c *clients.Client, token string) {
	t.Helper()
	if a := r.introspect(t, c, token); a.status != http.StatusOK || a.json["active"] != true {
		t.Errorf("%s: got %d %s, want it active", what, a.status, a.body)
	}
}

// dead checks that the caller is told nothing but that the token is not active.
func (r *replica) dead(t testing.TB, what string, c *clients.Client, token string) {
	t.Helper()
	if a := r.introspect(t, c, token); a.status != http.StatusOK || a.body != inactive {
		t.Errorf("%s: got %d %s, want %s", what, a.status, a.body, inactive)
	}
}

// events returns the recorded events of the type, newest first.
func (r *replica) events(t testing.TB, typ audit.Type) []audit.Event {
	t.Helper()
	events, err := r.store.Events(t.Context(), audit.Filter{Type: typ, Limit: 1000})
	check(t, err)
	return events
}
