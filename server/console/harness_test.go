package console_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/net/html"

	"signet/activity"
	"signet/audit"
	"signet/authorizations"
	"signet/clients"
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

type backend = storagetest.Backend

// settings are what a test may want to be otherwise.
type settings struct {
	issuer      string // none: the address of the test's server, as for the one who tries Signet at home
	accessTTL   time.Duration
	maxFailures int
	alg         keys.Algorithm
	mailer      mail.Sender
	signUp      users.SignUp
	playground  bool
}

// site is a server with a console, behind real HTTP.
type site struct {
	url        string
	issuer     string
	backend    *backend
	store      storage.Store
	closeStore func()
	clients    *clients.Service
	users      *users.Service
	tokens     *tokens.Service
	keys       *keys.Service
	counter    *activity.Counter
	management http.Handler
	log        *journal
}

// journal is a log that a test can read while the server writes it.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

var (
	origin       = audit.Origin{Actor: "test", Address: "192.0.2.1"}
	sharedSecret = keys.NewSecret()
)

// start starts a site on the backend.
func start(t testing.TB, b *backend, change ...func(*settings)) *site {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	set := settings{issuer: "http://" + srv.Listener.Addr().String(), accessTTL: 15 * time.Minute, maxFailures: 1 << 20, alg: keys.ES256}
	for _, f := range change {
		f(&set)
	}
	secret, err := keys.ParseSecret(sharedSecret)
	check(t, err)
	store, err := storage.Open(t.Context(), b.URL, nil)
	check(t, err)
	s := &site{url: "http://" + srv.Listener.Addr().String(), issuer: set.issuer, backend: b, store: store, closeStore: sync.OnceFunc(store.Close), log: &journal{}}
	t.Cleanup(s.closeStore)
	check(t, store.Migrate(t.Context()))
	log := slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.clients = clients.New(store, clients.Config{}, log)
	s.users = users.New(store, users.Config{Secret: secret, MaxFailures: set.maxFailures, Window: 15 * time.Minute, SignUp: set.signUp, HashMemory: 8}, log)
	s.keys = keys.New(store, keys.Config{
		Secret: secret, Algorithm: set.alg, SigningSecret: []byte(strings.Repeat("s", 32)), TokenTTL: set.accessTTL, RotateEvery: 30 * 24 * time.Hour,
	}, log)
	codes := authorizations.New(store, secret, log)
	s.tokens = tokens.New(store, s.keys, codes, tokens.Config{
		Issuer: set.issuer, Secret: secret, AccessTTL: set.accessTTL, RefreshTTL: 30 * 24 * time.Hour, SessionTTL: 90 * 24 * time.Hour, RetryWindow: 10 * time.Second,
	}, log)
	check(t, s.keys.Load(t.Context()))
	s.counter = activity.NewCounter(store, log)
	look, err := pages.New(pages.Config{Issuer: set.issuer, Mail: set.mailer != nil, SignUp: set.signUp != ""})
	check(t, err)
	var play *playground.Playground
	if set.playground {
		cfg := playground.Config{Addresses: []string{set.issuer}, Local: s.url}
		play = playground.New(cfg, look)
		check(t, playground.Register(t.Context(), s.clients, cfg, origin))
	}
	all := server.New(server.Config{Activity: s.counter, Pages: look, Playground: play}, store, oauth.Services{
		Clients: s.clients, Users: s.users, Tokens: s.tokens, Keys: s.keys, Authorizations: codes,
		Mails:  mail.New(store, s.users, mail.Config{Issuer: set.issuer, Brand: "Example", Sender: set.mailer}, log),
		Proofs: proofs.New(store, proofs.Config{Issuer: set.issuer, Secret: secret}),
		Logins: logins.New(store, logins.Config{
			Secret: secret, StayTTL: 30 * 24 * time.Hour, Issuer: set.issuer, Brand: "Example", MaxFailures: set.maxFailures, Window: 15 * time.Minute,
		}, log),
	}, log)
	srv.Config.Handler, s.management = all.Public(), all.Management()
	srv.Start()
	t.Cleanup(srv.Close)
	return s
}

// each runs f on a fresh site on either kind of database.
func each(t *testing.T, f func(t *testing.T, s *site), change ...func(*settings)) {
	t.Helper()
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *backend) { f(t, start(t, b, change...)) })
}

// embedded starts a site on the embedded database, for what has nothing to do with databases.
func embedded(t *testing.T, change ...func(*settings)) *site {
	t.Helper()
	t.Parallel()
	return start(t, &backend{Name: "sqlite", URL: storagetest.MigratedSQLite(t)}, change...)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// password is that of every user that user makes; its hash is a cheap one.
const (
	password     = "correct horse battery staple"
	passwordHash = "$argon2id$v=19$m=8,t=1,p=1$cpgE+GO47GD9eIfI7RL41Q$OH58VsDfEpSoF/jphA4Uv7r6RawOIRO1jFz2AHcMv2M"
)

// user makes a user with the password.
func (s *site) user(t testing.TB, name string, admin bool) users.User {
	t.Helper()
	u, err := s.store.CreateUser(t.Context(), users.User{ID: uuid.NewString(), Username: name, PasswordHash: passwordHash, Admin: admin},
		users.Canonical(name), audit.New(audit.UserCreated, origin))
	check(t, err)
	return u
}

// app registers a confidential client.
func (s *site) app(t testing.TB, id string, change ...func(*clients.Client)) clients.Client {
	t.Helper()
	c := clients.Client{ID: id, Name: "App " + id, Scope: clients.Scope{"read", "write"}}
	for _, f := range change {
		f(&c)
	}
	c, err := s.clients.Create(t.Context(), c, origin)
	check(t, err)
	return c
}

// session begins a session of the user on the client.
func (s *site) session(t testing.TB, c clients.Client, u users.User, agent string) tokens.Issued {
	t.Helper()
	issued, err := s.tokens.StartSession(t.Context(), &c, u, c.Scope, []string{s.tokens.Issuer()}, proofs.Key{},
		audit.Origin{Actor: u.ID, Address: "198.51.100.7", UserAgent: agent})

	check(t, err)
	return issued
}

// events returns the recorded events of the type, newest first.
func (s *site) events(t testing.TB, typ audit.Type) []audit.Event {
	t.Helper()
	events, err := s.store.Events(t.Context(), audit.Filter{Type: typ, Limit: 1000})
	check(t, err)
	return events
}

// surfer is a browser without a script: it keeps cookies, and follows redirects only when told to.
type surfer struct {
	s    *site
	http *http.Client
}

// proxy leads requests for the issuer to the site's server, as a proxy does that ends TLS and takes the issuer's path away.
type proxy struct{ s *site }

func (p proxy) RoundTrip(req *http.Request) (*http.Response, error) {
	issuer, server := p.s.issuer, p.s.url
	if rest, ok := strings.CutPrefix(req.URL.String(), issuer); ok && issuer != server {
		to, err := url.Parse(server + rest)
		if err != nil {
			return nil, err
		}
		inner := req.Clone(req.Context())
		inner.URL = to
		return http.DefaultTransport.RoundTrip(inner)
	}
	return http.DefaultTransport.RoundTrip(req)
}

func (s *site) surfer(t testing.TB) *surfer {
	t.Helper()
	jar, err := cookiejar.New(nil)
	check(t, err)
	client := &http.Client{Jar: jar, Transport: proxy{s}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &surfer{s, client}
}

// answer is an answer and its text.
type answer struct {
	*http.Response

	text string
}

// want checks the status and that the page holds each of the texts, as HTML.
func (a answer) want(t testing.TB, status int, texts ...string) answer {
	t.Helper()
	if a.StatusCode != status {
		t.Errorf("%s %s: status %d, want %d\n%s", a.Request.Method, a.Request.URL.Path, a.StatusCode, status, a.text)
	}
	for _, text := range texts {
		if !strings.Contains(a.text, text) {
			t.Errorf("%s %s: there is no %q in\n%s", a.Request.Method, a.Request.URL.Path, text, a.text)
		}
	}
	return a
}

// leads checks that the answer is a redirect to the path, which may have a query, below the console.
func (a answer) leads(t testing.TB, to string) answer {
	t.Helper()
	if got := a.Header.Get("Location"); a.StatusCode != http.StatusSeeOther || got != "/console"+to {
		t.Errorf("%s %s: status %d to %q, want 303 to %q\n%s", a.Request.Method, a.Request.URL.Path, a.StatusCode, got, "/console"+to, a.text)
	}
	return a
}

// form returns what a browser would send of the page's form with that action, had nobody touched it.
func (a answer) form(t testing.TB, action string) url.Values {
	t.Helper()
	root, err := html.Parse(strings.NewReader(a.text))
	check(t, err)
	values := url.Values{}
	attribute := func(n *html.Node, name string) (string, bool) {
		i := slices.IndexFunc(n.Attr, func(at html.Attribute) bool { return at.Key == name })
		if i < 0 {
			return "", false
		}
		return n.Attr[i].Val, true
	}
	for f := range root.Descendants() {
		if to, _ := attribute(f, "action"); f.Data != "form" || to != action {
			continue
		}
		for n := range f.Descendants() {
			name, _ := attribute(n, "name")
			value, _ := attribute(n, "value")
			kind, _ := attribute(n, "type")
			_, checked := attribute(n, "checked")
			switch {
			case n.Data == "input" && (kind != "checkbox" || checked):
				values.Add(name, value)
			case n.Data == "textarea" && n.FirstChild != nil:
				values.Add(name, n.FirstChild.Data)
			case n.Data == "select":
				for option := range n.Descendants() {
					if _, selected := attribute(option, "selected"); selected {
						chosen, _ := attribute(option, "value")
						values.Add(name, chosen)
					}
				}
			}
		}
	}
	return values
}

func (w *surfer) do(t testing.TB, method, path string, form url.Values, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, w.s.issuer+"/console"+path, strings.NewReader(form.Encode()))
	check(t, err)
	return w.send(t, req, form != nil, headers...)
}

func (w *surfer) send(t testing.TB, req *http.Request, form bool, headers ...string) answer {
	t.Helper()
	if form {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := w.http.Do(req)
	check(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	check(t, err)
	return answer{res, string(body)}
}

func (w *surfer) get(t testing.TB, path string, headers ...string) answer {
	t.Helper()
	return w.do(t, http.MethodGet, path, nil, headers...)
}

// post sends a form of pairs of names and values.
func (w *surfer) post(t testing.TB, path string, pairs ...string) answer {
	t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	return w.do(t, http.MethodPost, path, form)
}

// logIn goes through the login pages, from the console's own one to where the console leads in the end.
func (w *surfer) logIn(t testing.TB, name string) answer {
	t.Helper()
	return w.logInAs(t, name, password, "")
}

func (w *surfer) logInAs(t testing.TB, name, password, query string) answer {
	t.Helper()
	a := w.along(t, w.get(t, "/login"+query))
	if a.StatusCode != http.StatusOK || !strings.Contains(a.text, `name="password"`) {
		return a
	}
	form := a.form(t, w.path()+"/login")
	form.Set("username", name)
	form.Set("password", password)
	return w.along(t, w.visit(t, http.MethodPost, w.s.issuer+"/login", form))
}

// path is that of the issuer.
func (w *surfer) path() string {
	u, err := url.Parse(w.s.issuer)
	if err != nil {
		panic(err)
	}
	return strings.TrimSuffix(u.Path, "/")
}

func (w *surfer) visit(t testing.TB, method, address string, form url.Values) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, address, strings.NewReader(form.Encode()))
	check(t, err)
	return w.send(t, req, form != nil)
}

// along follows redirects as long as they are part of a login.
func (w *surfer) along(t testing.TB, a answer) answer {
	t.Helper()
	for a.StatusCode == http.StatusSeeOther {
		to, err := a.Request.URL.Parse(a.Header.Get("Location"))
		check(t, err)
		path := strings.TrimPrefix(to.Path, w.path())
		if path != "/authorize" && path != "/console/login/start" && path != "/console/login/callback" {
			return a
		}
		a = w.visit(t, http.MethodGet, to.String(), nil)
	}
	return a
}

// admin returns a surfer who is logged in as a new admin.
func (s *site) admin(t testing.TB, name string) (*surfer, users.User) {
	t.Helper()
	u := s.user(t, name, true)
	w := s.surfer(t)
	w.logIn(t, name).leads(t, "/")
	return w, u
}

// cookie returns the console's cookie that the answer sets, or nil.
func (a answer) cookie() *http.Cookie {
	for _, c := range a.Cookies() {
		if c.Name == "signet_console" {
			return c
		}
	}
	return nil
}
