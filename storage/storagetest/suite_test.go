// Package storagetest_test holds what every storage has to do, tested on each with the same assertions.
package storagetest_test

import (
	"crypto/sha256"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"signet/audit"
	"signet/clients"
	"signet/keys"
	"signet/storage"
	"signet/storage/storagetest"
	"signet/tokens"
	"signet/users"
)

// world is a fresh database with a store on it.
type world struct {
	*storagetest.Backend
	storage.Store
}

// each runs f on a world of either kind.
func each(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		f(t, &world{Backend: b, Store: b.Open(t)})
	})
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ok takes the results of a call that has to succeed.
func ok[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		check(t, err)
		return v
	}
}

// equal compares; a list without elements equals one that is not there.
func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func recent(t testing.TB, what string, at time.Time) {
	t.Helper()
	if since := time.Since(at); since < -5*time.Second || since > time.Minute {
		t.Errorf("%s is %s, which is not now", what, at)
	}
}

// all is more than any of these tests has of anything.
const all = 10_000

func (w *world) eventCount(t testing.TB) int {
	t.Helper()
	return int(w.Int(t, `SELECT count(*) FROM audit_events`))
}

// latest returns the last n events, oldest first.
func (w *world) latest(t testing.TB, n int) []audit.Event {
	t.Helper()
	if n == 0 {
		return nil
	}
	events := ok[[]audit.Event](t)(w.Events(t.Context(), audit.Filter{Limit: n}))
	slices.Reverse(events)
	return events
}

// writes checks that f adds exactly these events to the record, and nothing else does.
func (w *world) writes(t testing.TB, f func(), want ...audit.Event) {
	t.Helper()
	before := w.eventCount(t)
	f()
	added := w.latest(t, w.eventCount(t)-before)
	for i := range added {
		recent(t, "the time of the event", added[i].Time)
		added[i].Time = time.Time{}
	}
	equal(t, "events", added, want)
}

// newEvent is an event with everything in it.
func newEvent(kind audit.Type) audit.Event {
	e := audit.New(kind, audit.Origin{Actor: "cli:tester", Address: "192.0.2.1", RequestID: "request"})
	e.ClientID, e.UserID, e.SessionID, e.Detail = "a client", "a user", "a session", "a detail with 'quotes' and ünïcode"
	return e
}

func digest(of string) []byte {
	sum := sha256.Sum256([]byte(of))
	return sum[:]
}

func newClient(id string) clients.Client {
	age := 90 * time.Second
	return clients.Client{
		ID: id, Name: "Client " + id, Grants: []clients.Grant{clients.Password, clients.RefreshToken}, AuthMethod: clients.SecretPost,
		Scope: clients.Scope{"read", "write", `odd'{},\`}, Audience: []string{"https://a.example", "https://b.example"},
		RedirectURIs: []string{"https://app.example/back"}, BrowserOrigins: []string{"https://app.example"},
		ResourceServer: true, Epoch: 1 << 61, SecretDigest: digest("secret"),
		ApplicationType: clients.Native, OptionalPKCE: true, SkipConsent: true, ClientURI: "https://app.example", LogoURI: "https://app.example/'\"{}.png",
		PolicyURI: "https://app.example/p", TOSURI: "https://app.example/t", Contacts: []string{"ünïcode@app.example", "b"},
		PostLogoutRedirectURIs: []string{"com.example.app:/bye"}, BackchannelLogoutURI: "https://app.example/logout", BackchannelLogoutSessionRequired: true,
		IDTokenAlg: keys.EdDSA, DefaultMaxAge: &age, RequireAuthTime: true, AccessTTL: time.Minute, RefreshTTL: 36 * time.Hour, SessionTTL: 30 * 24 * time.Hour,
	}
}

func (w *world) addClient(t testing.TB, id string) clients.Client {
	t.Helper()
	return ok[clients.Client](t)(w.CreateClient(t.Context(), newClient(id), newEvent(audit.ClientCreated)))
}

func newUser(name string) users.User {
	return users.User{ID: uuid.NewString(), Username: name, PasswordHash: "$hash$of " + name}
}

func (w *world) addUser(t testing.TB, name string) users.User {
	t.Helper()
	return ok[users.User](t)(w.CreateUser(t.Context(), newUser(name), users.Canonical(name), newEvent(audit.UserCreated)))
}

func newSession(c clients.Client, u users.User) tokens.NewSession {
	id := uuid.New()
	return tokens.NewSession{
		ID: id, ClientID: c.ID, ClientEpoch: c.Epoch, UserID: u.ID, UserEpoch: u.Epoch,
		Scope: c.Scope, Audience: c.Audience, SecretDigest: digest(id.String()),
		IdleTTL: 24 * time.Hour, TTL: 72 * time.Hour, Address: "192.0.2.7", UserAgent: "browser",
	}
}

func (w *world) addSession(t testing.TB, c clients.Client, u users.User) tokens.NewSession {
	t.Helper()
	n := newSession(c, u)
	_, err := w.CreateSession(t.Context(), n, newEvent(audit.SessionCreated))
	check(t, err)
	return n
}

// use is the use of the session's refresh token with the sequence number.
func use(n tokens.NewSession, sequence int64) tokens.Use {
	return tokens.Use{
		Session: n.ID, ClientID: n.ClientID, SecretDigest: n.SecretDigest, From: sequence, To: sequence + 1,
		IdleTTL: n.IdleTTL, Address: "192.0.2.8", UserAgent: "another browser", Repeatable: true,
	}
}

// accessToken is an access token of the session.
func accessToken(n tokens.NewSession) tokens.AccessToken {
	return tokens.AccessToken{
		ID: uuid.NewString(), ClientID: n.ClientID, ExpiresAt: time.Now().Add(time.Hour), SessionID: n.ID, UserID: n.UserID,
	}
}

// clientToken is an access token of the client's own.
func clientToken(c clients.Client) tokens.AccessToken {
	return tokens.AccessToken{ID: uuid.NewString(), ClientID: c.ID, ExpiresAt: time.Now().Add(time.Hour), ClientEpoch: c.Epoch}
}

// rotate uses the session's refresh token and tells whether it was good.
func (w *world) rotate(t testing.TB, u tokens.Use) bool {
	t.Helper()
	_, rotated, err := w.Rotate(t.Context(), u, nil)
	check(t, err)
	return rotated
}

func (w *world) state(t testing.TB, u tokens.Use, window time.Duration) tokens.State {
	t.Helper()
	st, known, err := w.SessionState(t.Context(), u, window)
	check(t, err)
	if !known {
		t.Fatal("the session is unknown")
	}
	return st
}

func (w *world) active(t testing.TB, at tokens.AccessToken) bool {
	t.Helper()
	_, active, err := w.AccessTokenActive(t.Context(), at)
	check(t, err)
	if _, held, err := w.AccessTokenHolder(t.Context(), at); err != nil || held != active {
		t.Errorf("active is %t, but the holder is found: %t, %v", active, held, err)
	}
	return active
}

// atOnce runs f n times at the same time, and returns how many of them said yes.
func atOnce(t testing.TB, n int, f func(i int) (bool, error)) (yes int) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			said, err := f(i)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("number %d: %v", i, err)
			}
			if said {
				yes++
			}
		})
	}
	close(start)
	wg.Wait()
	return yes
}

// pair is the store and a second one with a pool of its own.
func (w *world) pair(t testing.TB) [2]storage.Store { return [2]storage.Store{w.Store, w.Open(t)} }

func TestMigrate(t *testing.T) {
	t.Parallel()
	for name, fresh := range map[string]func(testing.TB) string{"postgres": storagetest.Postgres, "sqlite": storagetest.SQLite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := fresh(t)
			open := func() storage.Store {
				s := ok[storage.Store](t)(storage.Open(t.Context(), url, nil))
				t.Cleanup(s.Close)
				return s
			}
			first := open()
			check(t, first.Ping(t.Context()))
			have, want, err := first.Schema(t.Context())
			if err != nil || have != 0 || want < 1 {
				t.Errorf("of an empty database: schema %d, want %d, %v", have, want, err)
			}
			atOnce(t, 10, func(int) (bool, error) { return true, open().Migrate(t.Context()) })
			check(t, first.Migrate(t.Context()))
			have, want, err = first.Schema(t.Context())
			if err != nil || have != want {
				t.Errorf("after the migration: schema %d, want %d, %v", have, want, err)
			}
			if _, _, limit, _ := first.PoolStats(); limit < 1 {
				t.Errorf("the pool allows %d connections", limit)
			}
		})
	}
}
