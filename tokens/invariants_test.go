package tokens_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"signet/audit"
	"signet/authorizations"
	"signet/clients"
	"signet/keys"
	"signet/logins"
	"signet/proofs"
	"signet/storage"
	"signet/storage/storagetest"
	"signet/tokens"
	"signet/users"
)

const issuer = "https://auth.example.com"

// The times are apart from the steps in which tests let time pass, so that the moments that a test itself takes decide
// nothing.
const (
	accessTTL   = 15 * time.Minute
	refreshTTL  = 30*time.Hour + 30*time.Second
	sessionTTL  = 72*time.Hour + 30*time.Second
	retryWindow = 10*time.Minute + 30*time.Second
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newSecret(t testing.TB) keys.Secret {
	t.Helper()
	return parseSecret(t, keys.NewSecret())
}

func parseSecret(t testing.TB, text string) keys.Secret {
	t.Helper()
	s, err := keys.ParseSecret(text)
	check(t, err)
	return s
}

// replica is one server's services.
type replica struct {
	store   storage.Store
	tokens  *tokens.Service
	users   *users.Service
	clients *clients.Service

	logins         *logins.Service
	authorizations *authorizations.Service
}

// newReplica wires services on the store. The caller closes it.
func newReplica(ctx context.Context, store storage.Store, secret keys.Secret, window time.Duration) (replica, error) {
	log := slog.New(slog.DiscardHandler)
	k := keys.New(store, keys.Config{Secret: secret, Algorithm: keys.EdDSA, TokenTTL: accessTTL, RotateEvery: time.Hour}, log)
	a := authorizations.New(store, secret, log)
	return replica{
		logins: logins.New(store, logins.Config{Secret: secret, StayTTL: time.Hour}, log), authorizations: a,
		store: store, users: users.New(store, users.Config{Secret: secret, MaxFailures: 10, Window: time.Hour}, log), clients: clients.New(store, clients.Config{}, log),
		tokens: tokens.New(store, k, a, tokens.Config{
			Issuer: issuer, Secret: secret, AccessTTL: accessTTL, RefreshTTL: refreshTTL, SessionTTL: sessionTTL, RetryWindow: window,
		}, log),
	}, k.Load(ctx)
}

// fixture is a database with a server on it, a user, and two clients.
type fixture struct {
	*storagetest.Backend
	replica

	secret  keys.Secret
	user    users.User
	client  clients.Client
	another clients.Client
}

// onEach runs f on a fixture on either backend.
func onEach(t *testing.T, f func(t *testing.T, f *fixture)) {
	t.Helper()
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		x := &fixture{Backend: b, secret: newSecret(t)}
		x.replica = x.open(t, x.secret, retryWindow)
		x.user = addUser(t, x.store)
		x.client, x.another = addClient(t, x.replica), addClient(t, x.replica)
		f(t, x)
	})
}

// open starts another server on the database, with a pool of its own.
func (x *fixture) open(t testing.TB, secret keys.Secret, window time.Duration) replica {
	t.Helper()
	r, err := newReplica(t.Context(), x.Open(t), secret, window)
	check(t, err)
	return r
}

// addUser makes a user, without the time that a password takes.
func addUser(t testing.TB, store users.Store) users.User {
	t.Helper()
	id := uuid.NewString()
	u, err := store.CreateUser(t.Context(), users.User{ID: id, Username: "user " + id, PasswordHash: "none"}, "user "+id, audit.New(audit.UserCreated, audit.Origin{}))
	check(t, err)
	return u
}

func addClient(t testing.TB, r replica) clients.Client {
	t.Helper()
	c, err := r.clients.Create(t.Context(), clients.Client{Name: "App", Scope: clients.Scope{"read", "write"}, IDTokenAlg: keys.EdDSA}, audit.Origin{})
	check(t, err)
	return c
}

// login starts a session of the user on the client.
func (x *fixture) login(t testing.TB) tokens.Issued {
	t.Helper()
	issued, err := x.tokens.StartSession(t.Context(), &x.client, x.user, x.client.Scope, []string{issuer}, proofs.Key{}, home)
	check(t, err)
	return issued
}

var (
	home      = audit.Origin{Address: "192.0.2.1", UserAgent: "browser"}
	elsewhere = audit.Origin{Address: "203.0.113.9", UserAgent: "browser"}
)

// refresh uses the token, and wants that outcome.
func (x *fixture) refresh(t testing.TB, r replica, token string, want tokens.Outcome) tokens.Issued {
	t.Helper()
	issued, outcome, err := r.tokens.Refresh(t.Context(), &x.client, token, nil, nil, proofs.Key{}, home)
	refused := want == tokens.Rejected || want == tokens.Reused
	if outcome != want || errors.Is(err, tokens.ErrInvalidGrant) != refused || !refused && err != nil {
		t.Fatalf("the use was %s (%v), want %s", outcome, err, want)
	}
	return issued
}

func (x *fixture) active(t testing.TB, token string) bool {
	t.Helper()
	answer, err := x.tokens.Introspect(t.Context(), &x.client, token)
	check(t, err)
	return answer.Active
}

func (x *fixture) wantActive(t testing.TB, what, token string, want bool) {
	t.Helper()
	if got := x.active(t, token); got != want {
		t.Errorf("%s is active: %v, want %v", what, got, want)
	}
}

// session is the session as a list shows it.
func (x *fixture) session(t testing.TB, id string) tokens.Session {
	t.Helper()
	all, err := x.tokens.Sessions(t.Context(), tokens.Filter{Limit: 100})
	check(t, err)
	i := slices.IndexFunc(all, func(s tokens.Session) bool { return s.ID == id })
	if i < 0 {
		t.Fatal("the session is not listed")
	}
	return all[i]
}

// events returns how many events of the type there are.
func (x *fixture) events(t testing.TB, kind audit.Type) int64 {
	t.Helper()
	return x.Int(t, "SELECT count(*) FROM audit_events WHERE type = $1", string(kind))
}

// save and restore do to a session what a backup and its restoration do to all.
func (x *fixture) save(t testing.TB, session string) {
	t.Helper()
	x.Exec(t, "CREATE TABLE IF NOT EXISTS saved AS SELECT * FROM sessions WHERE false")
	x.Exec(t, "DELETE FROM saved WHERE id = $1", session)
	x.Exec(t, "INSERT INTO saved SELECT * FROM sessions WHERE id = $1", session)
}

func (x *fixture) restore(t testing.TB, session string) {
	t.Helper()
	x.Exec(t, "DELETE FROM sessions WHERE id = $1", session)
	x.Exec(t, "INSERT INTO sessions SELECT * FROM saved WHERE id = $1", session)
}

// Invariant 1.
func TestExactlyOneRefreshTokenIsCurrent(t *testing.T) {
	onEach(t, func(t *testing.T, x *fixture) {
		first := x.login(t)
		chain := []string{first.RefreshToken}
		for i := range 8 {
			current := 0
			for _, token := range chain {
				if x.active(t, token) {
					current++
				}
			}
			if current != 1 || !x.active(t, chain[i]) {
				t.Errorf("after %d uses, %d tokens are current, the last one among them: %v", i, current, x.active(t, chain[i]))
			}
			chain = append(chain, x.refresh(t, x.replica, chain[i], tokens.Rotated).RefreshToken)
		}
		if unique := slices.Compact(slices.Sorted(slices.Values(chain))); len(unique) != len(chain) {
			t.Errorf("of %d tokens, %d differ", len(chain), len(unique))
		}
	})
}

// Invariant 2.
func TestAtMostOneSuccessorOnTwoReplicas(t *testing.T) {
	onEach(t, func(t *testing.T, x *fixture) {
		replicas := []replica{x.replica, x.open(t, x.secret, retryWindow)}
		token := x.login(t).RefreshToken
		for range 4 {
			outcomes, successors := map[tokens.Outcome]int{}, map[string]bool{}
			access := map[string]bool{}
			var mu sync.Mutex
			var wg sync.WaitGroup
			start := make(chan struct{})
			for i := range 32 {
				wg.Go(func() {
					<-start
					issued, outcome, err := replicas[i%2].tokens.Refresh(t.Context(), &x.client, token, nil, nil, proofs.Key{}, home)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					outcomes[outcome]++
					successors[issued.RefreshToken] = true
					access[issued.AccessToken] = true
				})
			}
			close(start)
			wg.Wait()
			if diff := cmp.Diff(map[tokens.Outcome]int{tokens.Rotated: 1, tokens.Retried: 31}, outcomes); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
			if len(successors) != 1 || len(access) != 32 {
				t.Errorf("%d successors and %d access tokens, want 1 and 32", len(successors), len(access))
			}
			for successor := range successors {
				token = successor
			}
		}
	})
}

// Invariant 2, across a restart and a change of SIGNET_SECRET.
func TestSuccessorIsDeterministic(t *testing.T) {
	onEach(t, func(t *testing.T, x *fixture) {
		oldText, newText := keys.NewSecret(), keys.NewSecret()
		x.Exec(t, "DELETE FROM signing_keys") // they are sealed under the fixture's secret
		before := x.open(t, parseSecret(t, oldText), retryWindow)
		first, err := before.tokens.StartSession(t.Context(), &x.client, x.user, nil, []string{issuer}, proofs.Key{}, home)
		check(t, err)
		successor := x.refresh(t, before, first.RefreshToken, tokens.Rotated).RefreshToken
		for range 3 {
			restarted := x.open(t, parseSecret(t, oldText), retryWindow)
			if again := x.refresh(t, restarted, first.RefreshToken, tokens.Retried).RefreshToken; again != successor {
				t.Error("the same use gave another successor")
			}
		}
		changed := x.open(t, parseSecret(t, newText+","+oldText), retryWindow)
		again := x.refresh(t, changed, first.RefreshToken, tokens.Retried).RefreshToken
		if again == successor {
			t.Error("a successor was made with the old secret, though there is a new one")
		}
		// Both are the same token in two spellings: to use the one is to spend the other.
		third := x.refresh(t, changed, successor, tokens.Rotated).RefreshToken
		if retried := x.refresh(t, changed, again, tokens.Retried).RefreshToken; retried != third {
			t.Error("two spellings of one token have two successors")
		}
		x.refresh(t, x.open(t, parseSecret(t, newText), retryWindow), third, tokens.Rotated)
		x.refresh(t, x.open(t, parseSecret(t, newText), retryWindow), successor, tokens.Rejected) // under the old secret alone
	})
}

// Invariant 3: what is stored of a session does not make a token.
func TestDatabaseHoldsOnlyDigests(t *testing.T) {
	onEach(t, func(t *testing.T, x *fixture) {
		issued := x.login(t)
		next := x.refresh(t, x.replica, issued.RefreshToken, tokens.Rotated)
		raw := decode(t, issued.RefreshToken)
		secret, digest := raw[24:40], sha256.Sum256(raw[24:40])
		hidden := map[string][]byte{
			"session secret": secret, "its hex": []byte(hex.EncodeToString(secret)), "its base64": []byte(base64.StdEncoding.EncodeToString(secret)),
			"its base64url": []byte(base64.RawURLEncoding.EncodeToString(secret)), "tag": raw[40:], "refresh token": []byte(issued.RefreshToken[4:]),
			"successor": []byte(next.RefreshToken[4:]), "access token": []byte(next.AccessToken), "client secret": []byte(x.client.Secret),
		}
		if x.Name == "sqlite" {
			files, err := filepath.Glob(strings.TrimPrefix(x.URL, "sqlite:") + "*")
			check(t, err)
			var content []byte
			for _, file := range files {
				b, err := os.ReadFile(file)
				check(t, err)
				content = append(content, b...)
			}
			if !strings.Contains(string(content), string(digest[:])) {
				t.Error("the files do not hold the digest: this test looks in the wrong place")
			}
			for what, value := range hidden {
				if strings.Contains(string(content), string(value)) {
					t.Errorf("the files hold the %s", what)
				}
			}
			return
		}
		holds := func(value string) (found int64) {
			for _, table := range []string{"sessions", "clients", "users", "audit_events", "revoked_access_tokens", "login_failures", "signing_keys"} {
				found += x.Int(t, "SELECT count(*) FROM "+table+" r WHERE r::text LIKE '%' || $1::text || '%'", value)
			}
			return found
		}
		if holds(hex.EncodeToString(digest[:])) != 1 {
			t.Error("no row holds the digest: this test looks in the wrong place")
		}
		for what, value := range hidden {
			if holds(hex.EncodeToString(value)) != 0 || strings.ToValidUTF8(string(value), "") == string(value) && !strings.Contains(string(value), "\x00") && holds(string(value)) != 0 {
				t.Errorf("a row holds the %s", what)
			}
		}
	})
}

// decode returns the bytes of a refresh token: session (16), sequence (8), secret (16), tag (32).
func decode(t testing.TB, token string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, "sgr_"))
	check(t, err)
	if len(raw) != 72 {
		t.Fatalf("a refresh token of %d bytes", len(raw))
	}
	return raw
}

// mac is the tag of a refresh token, made without the code under test.
func mac(key, body []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(body)
	return m.Sum(nil)
}

// Invariant 3: neither the database, nor SIGNET_SECRET, nor both together make a token.
func TestForgeriesFail(t *testing.T) {
	onEach(t, func(t *testing.T, x *fixture) {
		issued := x.login(t)
		current := x.refresh(t, x.replica, issued.RefreshToken, tokens.Rotated)
		genuine := decode(t, current.RefreshToken)
		digest := sha256.Sum256(genuine[24:40])
		tagKey := x.secret.Derive("refresh token tag v1")[0]
		forge := func(key, secret []byte, sequence byte) string {
			body := slices.Concat(genuine[:23], []byte{sequence}, secret)
			return "sgr_" + base64.RawURLEncoding.EncodeToString(append(body, mac(key, body)...))
		}
		if forge(tagKey, genuine[24:40], 1) != current.RefreshToken {
			t.Fatal("this test does not make tokens as the server does")
		}
		for sequence := range byte(4) {
			for name, forged := range map[string]string{
				"from the database":                   forge(make([]byte, 32), digest[:16], sequence),
				"from the database, digest as key":    forge(digest[:], digest[:16], sequence),
				"from SIGNET_SECRET":                  forge(tagKey, make([]byte, 16), sequence),
				"from both":                           forge(tagKey, digest[:16], sequence),
				"from a token, but not SIGNET_SECRET": forge(make([]byte, 32), genuine[24:40], sequence+2),
			} {
				_, outcome, err := x.tokens.Refresh(t.Context(), &x.client, forged, nil, nil, proofs.Key{}, elsewhere)
				if outcome != tokens.Rejected || !errors.Is(err, tokens.ErrInvalidGrant) {
					t.Errorf("%s: %s, %v", name, outcome, err)
				}
				x.wantActive(t, name, forged, false)
				check(t, x.tokens.Revoke(t.Context(), &x.client, forged, elsewhere))
			}
		}
		x.wantActive(t, "the genuine token after all forgeries", current.RefreshToken, true)
		if n := x.events(t, audit.RefreshTokenReused) + x.events(t, audit.SessionRevoked) + x.events(t, audit.RefreshTokenCaughtUp); n != 0 {
			t.Errorf("forgeries left %d events", n)
		}
		x.refresh(t, x.replica, current.RefreshToken, tokens.Rotated)
	})
}

// untouchable is a database that must not be used: every call of it panics.
type untouchable struct{ tokens.Store }

// Invariant 4: what this server did not issue never reaches the database.
func TestUnissuedTokensDoNotReachTheDatabase(t *testing.T) {
	onEach(t, func(t *testing.T, x *fixture) {
		issued := x.login(t)
		log := slog.New(slog.DiscardHandler)
		k := keys.New(x.store, keys.Config{Secret: x.secret, Algorithm: keys.EdDSA, TokenTTL: accessTTL, RotateEvery: time.Hour}, log)
		check(t, k.Load(t.Context()))
		apart := tokens.New(untouchable{}, k, authorizations.New(nil, x.secret, log), tokens.Config{Issuer: issuer, Secret: x.secret, AccessTTL: accessTTL, RefreshTTL: refreshTTL, SessionTTL: sessionTTL, RetryWindow: retryWindow}, log)

		var bad []string
		whole := issued.RefreshToken
		for i := range len(whole) {
			bad = append(bad, whole[:i])
			for bit := range 8 {
				flipped := []byte(whole)
				flipped[i] ^= 1 << bit
				bad = append(bad, string(flipped))
			}
		}
		bad = append(bad, whole+"=", whole+"A", " "+whole, whole+"\n", whole[:50]+"\n"+whole[50:], "sgr_"+whole, strings.ToUpper(whole), strings.Repeat(whole, 1000))
		for _, token := range bad {
			if _, outcome, err := apart.Refresh(t.Context(), &x.client, token, nil, nil, proofs.Key{}, home); outcome != tokens.Rejected || !errors.Is(err, tokens.ErrInvalidGrant) {
				t.Fatalf("%q: %s, %v", token, outcome, err)
			}
		}
		// At introspection and revocation an access token may stand there as well. A flipped bit may name another key, which
		// is looked for at most once a second; the payload and the signature are judged here alone.
		jwt := issued.AccessToken
		for i := strings.Index(jwt, ".") + 1; i < len(jwt); i++ {
			flipped := []byte(jwt)
			flipped[i] ^= 1 << (i % 8)
			bad = append(bad, string(flipped), jwt[:i])
		}
		for _, token := range bad {
			answer, err := apart.Introspect(t.Context(), &x.client, token)
			if diff := cmp.Diff(tokens.Introspection{}, answer); err != nil || diff != "" {
				t.Fatalf("%q: %v, %s", token, err, diff)
			}
			if err := apart.Revoke(t.Context(), &x.client, token, home); err != nil {
				t.Fatalf("%q: %v", token, err)
			}
		}
	})
}

// Invariant 6.
func TestRestoredDatabaseLogsOutNobody(t *testing.T) {
	onEach(t, func(t *testing.T, x *fixture) {
		for lost := range 6 {
			issued := x.login(t)
			x.save(t, issued.SessionID)
			token := issued
			for range lost {
				token = x.refresh(t, x.replica, token.RefreshToken, tokens.Rotated)
			}
			x.restore(t, issued.SessionID)
			want, caughtUp := tokens.CaughtUp, x.events(t, audit.RefreshTokenCaughtUp)
			if lost == 0 {
				want, caughtUp = tokens.Rotated, caughtUp-1
			}
			next := x.refresh(t, x.replica, token.RefreshToken, want)
			if got := x.events(t, audit.RefreshTokenCaughtUp); got != caughtUp+1 {
				t.Errorf("%d lost: %d events of catching up, want %d", lost, got, caughtUp+1)
			}
			x.wantActive(t, "the refresh token after the restoration", next.RefreshToken, true)
			x.wantActive(t, "the access token after the restoration", next.AccessToken, true)
			// The row is up to date again: what was spent before it is spent.
			x.refresh(t, x.replica, next.RefreshToken, tokens.Rotated)
			x.refresh(t, x.replica, token.RefreshToken, tokens.Reused)
		}
	})
}

// Invariant 5: a retry gives what was lost, and neither a longer life nor a longer window.
func TestRetryExtendsNothing(t *testing.T) {
	onEach(t, func(t *testing.T, x *fixture) {
		first := x.login(t)
		second := x.refresh(t, x.replica, first.RefreshToken, tokens.Rotated)
		for range 5 { // every two minutes of a window of ten and a half
			x.Age(t, 2*time.Minute)
			before := x.session(t, first.SessionID)
			if again := x.refresh(t, x.replica, first.RefreshToken, tokens.Retried); again.RefreshToken != second.RefreshToken {
				t.Error("the retry gave another token")
			}
			if diff := cmp.Diff(before, x.session(t, first.SessionID)); diff != "" {
				t.Errorf("the retry changed the session (-before +after):\n%s", diff)
			}
		}
		x.Age(t, time.Minute)
		x.wantActive(t, "the successor before the theft", second.RefreshToken, true)
		x.refresh(t, x.replica, first.RefreshToken, tokens.Reused)
		x.wantActive(t, "the successor after the theft", second.RefreshToken, false)
	})
}

// Invariant 7: outside of the window, and once the successor was used, a second use is theft.
func TestReuseIsDetected(t *testing.T) {
	onEach(t, func(t *testing.T, x *fixture) {
		for name, presented := range map[string]func(t *testing.T, chain []tokens.Issued) (token string, by replica){
			"the token before the last one used": func(_ *testing.T, chain []tokens.Issued) (string, replica) { return chain[1].RefreshToken, x.replica },
			"the first token":                    func(_ *testing.T, chain []tokens.Issued) (string, replica) { return chain[0].RefreshToken, x.replica },
			"the last one used, too late": func(t *testing.T, chain []tokens.Issued) (string, replica) {
				x.Age(t, 11*time.Minute)
				return chain[2].RefreshToken, x.replica
			},
			"the last one used, where retries are off": func(t *testing.T, chain []tokens.Issued) (string, replica) {
				return chain[2].RefreshToken, x.open(t, x.secret, 0)
			},
			"after a restart": func(t *testing.T, chain []tokens.Issued) (string, replica) {
				return chain[1].RefreshToken, x.open(t, x.secret, retryWindow)
			},
		} {
			chain := []tokens.Issued{x.login(t)}
			for range 3 {
				chain = append(chain, x.refresh(t, x.replica, chain[len(chain)-1].RefreshToken, tokens.Rotated))
			}
			token, by := presented(t, chain)
			events := x.events(t, audit.RefreshTokenReused)
			x.refresh(t, by, token, tokens.Reused)
			for i, issued := range chain {
				x.wantActive(t, name+": a refresh token", issued.RefreshToken, false)
				x.wantActive(t, name+": an access token", issued.AccessToken, false)
				x.refresh(t, x.replica, chain[i].RefreshToken, tokens.Rejected) // dead is dead: no second event
			}
			if got := x.events(t, audit.RefreshTokenReused); got != events+1 {
				t.Errorf("%s: %d events, want one", name, got-events)
			}
		}
	})
}

// Another client neither uses a token, nor ends its session by trying.
func TestAnotherClientChangesNothing(t *testing.T) {
	onEach(t, func(t *testing.T, x *fixture) {
		first := x.login(t)
		second := x.refresh(t, x.replica, first.RefreshToken, tokens.Rotated)
		x.Age(t, 11*time.Minute)
		for _, token := range []string{first.RefreshToken, second.RefreshToken} {
			if _, outcome, err := x.tokens.Refresh(t.Context(), &x.another, token, nil, nil, proofs.Key{}, home); outcome != tokens.Rejected || !errors.Is(err, tokens.ErrInvalidGrant) {
				t.Errorf("%s, %v", outcome, err)
			}
			if answer, err := x.tokens.Introspect(t.Context(), &x.another, token); err != nil || answer.Active {
				t.Errorf("another client is shown the token: %v, %v", answer, err)
			}
		}
		for token, want := range map[string]error{first.RefreshToken: nil, second.RefreshToken: tokens.ErrOtherClient, second.AccessToken: tokens.ErrOtherClient} {
			if err := x.tokens.Revoke(t.Context(), &x.another, token, home); !errors.Is(err, want) {
				t.Errorf("revoked by another client: %v, want %v", err, want)
			}
		}
		x.wantActive(t, "the access token", second.AccessToken, true)
		x.refresh(t, x.replica, second.RefreshToken, tokens.Rotated)
	})
}

// No token survives a revocation that was answered, whatever raced it.
func TestNoTokenSurvivesARevocation(t *testing.T) {
	onEach(t, func(t *testing.T, x *fixture) {
		other := x.open(t, x.secret, retryWindow)
		for range 25 {
			first := x.login(t)
			var refreshed tokens.Issued
			var wg sync.WaitGroup
			wg.Go(func() {
				var err error
				if refreshed, _, err = other.tokens.Refresh(t.Context(), &x.client, first.RefreshToken, nil, nil, proofs.Key{}, home); err != nil && !errors.Is(err, tokens.ErrInvalidGrant) {
					t.Error(err)
				}
			})
			check(t, x.tokens.Revoke(t.Context(), &x.client, first.RefreshToken, home))
			x.wantActive(t, "the revoked token", first.RefreshToken, false)
			wg.Wait()
			for _, token := range []string{first.AccessToken, refreshed.AccessToken, refreshed.RefreshToken} {
				x.wantActive(t, "a token of the revoked session", token, false)
			}
			if refreshed.RefreshToken != "" {
				x.refresh(t, other, refreshed.RefreshToken, tokens.Rejected)
			}
		}
	})
}

// An answer that was lost in an outage logs nobody out, however long the outage was, and whoever is asked first after it; the
// window that follows is as long as any, and a use that was answered long before is theft as ever.
func TestOutageLogsNobodyOut(t *testing.T) {
	onEach(t, func(t *testing.T, x *fixture) {
		other := x.open(t, x.secret, retryWindow)
		beat := func(r replica) {
			t.Helper()
			_, _, err := r.store.Beat(t.Context(), audit.New(audit.ServiceInterrupted, home))
			check(t, err)
		}
		beat(x.replica)
		for name, back := range map[string]func(){
			"before the first heartbeat": func() {},
			"after it":                   func() { beat(other) },
		} {
			lost, stolen := x.login(t).RefreshToken, x.login(t).RefreshToken
			x.refresh(t, x.replica, stolen, tokens.Rotated)
			x.Age(t, retryWindow+time.Minute)
			beat(x.replica)
			x.Exec(t, `DELETE FROM interruptions`) // that was no outage
			answer := x.refresh(t, x.replica, lost, tokens.Rotated)
			x.Age(t, 20*time.Hour)
			back()
			again := x.refresh(t, other, lost, tokens.Retried)
			if again.RefreshToken != answer.RefreshToken {
				t.Errorf("%s: the retry has another successor", name)
			}
			x.wantActive(t, name+": the successor", again.RefreshToken, true)
			x.refresh(t, other, stolen, tokens.Reused)
			beat(x.replica)
			x.Age(t, retryWindow+time.Minute)
			x.Exec(t, `DELETE FROM heartbeat`) // nor was that
			beat(x.replica)
			x.refresh(t, other, lost, tokens.Reused)
		}
	})
}

// A narrower scope is the access token's alone, and a wider one leaves the refresh token as it is.
func TestScopeOfARefresh(t *testing.T) {
	onEach(t, func(t *testing.T, x *fixture) {
		token := x.login(t).RefreshToken
		for _, wrong := range []struct {
			scope    clients.Scope
			audience []string
			want     error
		}{
			{clients.Scope{"read", "admin"}, nil, tokens.ErrInvalidScope},
			{clients.Scope{"READ"}, nil, tokens.ErrInvalidScope},
			{nil, []string{"https://other.example.com"}, tokens.ErrInvalidTarget},
			{clients.Scope{"admin"}, []string{"https://other.example.com"}, tokens.ErrInvalidScope},
		} {
			if _, outcome, err := x.tokens.Refresh(t.Context(), &x.client, token, wrong.scope, wrong.audience, proofs.Key{}, home); outcome != tokens.Rejected || !errors.Is(err, wrong.want) {
				t.Errorf("%v: %s, %v", wrong, outcome, err)
			}
		}
		narrow, outcome, err := x.tokens.Refresh(t.Context(), &x.client, token, clients.Scope{"read"}, nil, proofs.Key{}, home)
		if err != nil || outcome != tokens.Rotated || narrow.Scope != "read" {
			t.Fatalf("narrowed: %s, %v, scope %q", outcome, err, narrow.Scope)
		}
		if wide := x.refresh(t, x.replica, narrow.RefreshToken, tokens.Rotated); wide.Scope != "read write" {
			t.Errorf("afterwards the scope is %q", wide.Scope)
		}
	})
}

// Every reason for which a session ends is looked at by refresh and introspection alike.
func TestEveryReasonEndsASession(t *testing.T) {
	onEach(t, func(t *testing.T, x *fixture) {
		mine := map[string]func(issued tokens.Issued) error{
			"revoked by a refresh token":  func(i tokens.Issued) error { return x.tokens.Revoke(t.Context(), &x.client, i.RefreshToken, home) },
			"revoked by an administrator": func(i tokens.Issued) error { return x.tokens.EndSession(t.Context(), i.SessionID, home) },
			"logged out everywhere":       func(tokens.Issued) error { return x.users.EndSessions(t.Context(), x.user.ID, home) },
			"user disabled": func(tokens.Issued) error {
				_, err := x.users.Update(t.Context(), x.user.ID, users.Change{Disabled: new(true)}, home)
				return err
			},
			"user disabled and enabled": func(tokens.Issued) error {
				_, err := x.users.Update(t.Context(), x.user.ID, users.Change{Disabled: new(true)}, home)
				_, again := x.users.Update(t.Context(), x.user.ID, users.Change{Disabled: new(false)}, home)
				return errors.Join(err, again)
			},
			"new password": func(tokens.Issued) error {
				_, err := x.store.ChangeUser(t.Context(), x.user.ID, users.Changes{PasswordHash: new("none")}, nil)
				return err
			},
			"user deleted": func(tokens.Issued) error { return x.users.Delete(t.Context(), x.user.ID, home) },
			"client disabled": func(tokens.Issued) error {
				_, err := x.clients.SetDisabled(t.Context(), x.client.ID, true, home)
				return err
			},
			"client disabled and enabled": func(tokens.Issued) error {
				_, err := x.clients.SetDisabled(t.Context(), x.client.ID, true, home)
				_, again := x.clients.SetDisabled(t.Context(), x.client.ID, false, home)
				return errors.Join(err, again)
			},
			"client deleted": func(tokens.Issued) error { return x.clients.Delete(t.Context(), x.client.ID, home) },
			"too old":        func(tokens.Issued) error { x.Age(t, 73*time.Hour); return nil },
		}
		for _, name := range slices.Sorted(maps.Keys(mine)) {
			x.user, x.client = addUser(t, x.store), addClient(t, x.replica)
			issued := x.login(t)
			x.wantActive(t, name+": the access token before", issued.AccessToken, true)
			check(t, mine[name](issued))
			x.wantActive(t, name+": the access token", issued.AccessToken, false)
			x.wantActive(t, name+": the refresh token", issued.RefreshToken, false)
			x.refresh(t, x.replica, issued.RefreshToken, tokens.Rejected)
		}
	})
}
