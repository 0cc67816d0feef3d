package examples

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// system is an example with an auth server and an app, which the tests are.
type system struct {
	*example

	client string // the app's id
}

// reply is what a server said.
type reply struct {
	status    int
	body      string
	challenge string // WWW-Authenticate
}

// is checks the status.
func (r reply) is(t testing.TB, status int) reply {
	t.Helper()
	if r.status != status {
		t.Fatalf("%d %s, want %d", r.status, r.body, status)
	}
	return r
}

// call makes a request with those headers, which alternate names and values.
func call(t testing.TB, method, address, body string, headers ...string) reply {
	t.Helper()
	req, err := http.NewRequest(method, address, strings.NewReader(body))
	check(t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	check(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	check(t, err)
	return reply{res.StatusCode, string(text), res.Header.Get("WWW-Authenticate")}
}

type tokens struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	ExpiresIn    int    `json:"expires_in"`
}

// post sends a form to the auth server, for the system's client.
func (s system) post(path string, pairs ...string) reply {
	s.t.Helper()
	form := url.Values{"client_id": {s.client}}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return call(s.t, http.MethodPost, s.at("8080")+path, form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
}

func (s system) login(user string, more ...string) tokens {
	s.t.Helper()
	return s.issued(s.post("/token", append([]string{"grant_type", "password", "username", user, "password", passwords[user]}, more...)...))
}

func (s system) issued(r reply) (got tokens) {
	s.t.Helper()
	check(s.t, json.Unmarshal([]byte(r.is(s.t, http.StatusOK).body), &got))
	return got
}

func (s system) refresh(token string) reply {
	s.t.Helper()
	return s.post("/token", "grant_type", "refresh_token", "refresh_token", token)
}

// get calls an API with the access token, "" for none.
func (s system) get(address, token string) reply {
	s.t.Helper()
	if token == "" {
		return call(s.t, http.MethodGet, address, "")
	}
	return call(s.t, http.MethodGet, address, "", "Authorization", "Bearer "+token)
}

// want calls an API and checks the status, and that the text is in the answer.
func (s system) want(status int, text, address, token string) {
	s.t.Helper()
	if got := s.get(address, token); got.status != status || !strings.Contains(got.body, text) {
		s.t.Errorf("%s: %d %s, want %d %s", address, got.status, got.body, status, text)
	}
}

// lives checks that an API takes an access token while it lives, and not when it has expired. One that expires on its way to
// the API, on a machine that has other things to do, gets a successor.
func (s system) lives(fresh func() string, address string, refused int) {
	s.t.Helper()
	for range 20 {
		token := fresh()
		var claims struct{ Exp int64 }
		decode(s.t, strings.Split(token, ".")[1], &claims)
		end := time.Unix(claims.Exp, 0)
		got := s.get(address, token)
		if got.status != http.StatusOK && !time.Now().Before(end) {
			continue
		}
		got.is(s.t, http.StatusOK)
		time.Sleep(time.Until(end))
		s.get(address, token).is(s.t, refused)
		return
	}
	s.t.Error("every token expires before it arrives")
}

// refuses checks that an API refuses forged tokens, and those for another API.
func (s system) refuses(address, token string, status int) {
	s.t.Helper()
	for name, forged := range forgeries(s.t, token) {
		if got := s.get(address, forged); got.status != status && forged != token {
			s.t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	var other struct {
		ID string `json:"client_id"`
	}
	check(s.t, json.Unmarshal([]byte(s.signet("client", "create", "--name", "Other", "--public", "--audience", "https://other.example.com", "-o", "json")), &other))
	s.want(status, "", address, system{s.example, other.ID}.login("alice").AccessToken)
}

func decode(t testing.TB, part string, v any) {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(part)
	check(t, err)
	check(t, json.Unmarshal(b, v))
}

// forgeries returns tokens that say what the given one says, by name.
func forgeries(t testing.TB, token string) map[string]string {
	t.Helper()
	parts := strings.Split(token, ".")
	var header map[string]any
	decode(t, parts[0], &header)
	with := func(name, value string) string {
		h := maps.Clone(header)
		h[name] = value
		b, err := json.Marshal(h)
		check(t, err)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	check(t, err)
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return map[string]string{
		"nonsense":         "nonsense",
		"no signature":     with("alg", "none") + "." + parts[1] + ".",
		"another's key":    parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(signature),
		"an unknown key":   with("kid", "unknown") + "." + parts[1] + "." + parts[2],
		"another kind":     with("typ", "JWT") + "." + parts[1] + "." + parts[2],
		"another protocol": with("alg", "HS256") + "." + parts[1] + "." + parts[2],
	}
}

func TestPosts(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"posts-go", "posts-express"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := system{prepare(t, name, "AUTH_PORT", "8080", "API_PORT", "4000"), "posts-app"}
			if name != "posts-go" { // which builds Signet itself, as all do on a fresh clone
				s.prebuilt()
			}
			s.start()
			shows(t, s.try(), `"Down the rabbit hole"`, `{"error":"log in first"}`, `{"error":"the token is bad or has expired"}`, `{}`, `{"error":"invalid_grant"`)
			posts := s.at("4000") + "/posts"

			alice, bob := s.login("alice"), s.login("bob")
			if alice.ExpiresIn != 15 {
				t.Errorf("access tokens live %d s", alice.ExpiresIn)
			}
			s.want(http.StatusUnauthorized, "log in", posts, "")
			for _, user := range []struct{ token, own, others string }{
				{alice.AccessToken, "A mad tea party", "Yes we can"}, {bob.AccessToken, "Yes we can", "A mad tea party"},
			} {
				if got := s.get(posts, user.token).is(t, http.StatusOK); !strings.Contains(got.body, user.own) || strings.Contains(got.body, user.others) {
					t.Errorf("%s, want %s", got.body, user.own)
				}
			}
			s.refuses(posts, alice.AccessToken, http.StatusUnauthorized)
			s.want(http.StatusForbidden, "posts:read", posts, s.login("alice", "scope", "posts:write").AccessToken)
			s.want(http.StatusUnauthorized, "bad", posts, bob.RefreshToken)
			if got := s.get(posts, "nonsense").challenge; got != `Bearer error="invalid_token"` {
				t.Errorf("a bad token: WWW-Authenticate: %s", got)
			}

			// A refresh gives new tokens, until the log-out.
			second := s.issued(s.refresh(alice.RefreshToken))
			if second.RefreshToken == alice.RefreshToken {
				t.Error("the refresh token did not change")
			}
			s.want(http.StatusOK, "rabbit", posts, second.AccessToken)
			s.post("/revoke", "token", second.RefreshToken).is(t, http.StatusOK)
			if dead := s.refresh(second.RefreshToken).is(t, http.StatusBadRequest); !strings.Contains(dead.body, `"invalid_grant"`) {
				t.Errorf("after the log-out: %s", dead.body)
			}
			s.stop()

			// Started again, it has forgotten nobody. Its tokens expire.
			s.start("SIGNET_ACCESS_TOKEN_TTL=2s")
			s.lives(func() string {
				bob = s.issued(s.refresh(bob.RefreshToken))
				return bob.AccessToken
			}, posts, http.StatusUnauthorized)
			s.stop()
		})
	}
}

func TestPassport(t *testing.T) {
	t.Parallel()
	s := system{prepare(t, "passport", "AUTH_PORT", "8080", "API_PORT", "4000").prebuilt().start(), "recipes-app"}
	shows(t, s.try(), `{"id":1,"title":"Currant tarts"}`, `[{"id":1,"title":"Currant tarts"}]`, `[]`, `Unauthorized`)
	recipes := s.at("4000") + "/recipes"
	alice, bob := s.login("alice"), s.login("bob")
	s.want(http.StatusUnauthorized, "", recipes, "")
	s.refuses(recipes, alice.AccessToken, http.StatusUnauthorized)
	add := func(body string) reply {
		return call(t, http.MethodPost, recipes, body, "Content-Type", "application/json", "Authorization", "Bearer "+bob.AccessToken)
	}
	add(`{"title": "Bob's \"; DROP TABLE", "owner": "alice"}`).is(t, http.StatusCreated)
	add(`{"title": 1}`).is(t, http.StatusBadRequest)
	for _, header := range []string{`{"alg":"ES256","kid":"unknown","typ":"at+jwt"}`, `{"alg":"ES256","typ":"at+jwt"}`} {
		s.want(http.StatusUnauthorized, "", recipes, base64.RawURLEncoding.EncodeToString([]byte(header))+".e30.c2lnbmF0dXJl")
	}
	s.want(http.StatusOK, "", recipes, alice.AccessToken) // it lives
	s.stop()

	s.start("SIGNET_ACCESS_TOKEN_TTL=2s")
	s.want(http.StatusOK, `[{"id":1,"title":"Currant tarts"}]`, recipes, alice.AccessToken)
	s.want(http.StatusOK, `[{"id":2,"title":"Bob's \"; DROP TABLE"}]`, recipes, bob.AccessToken)
	s.lives(func() string {
		bob = s.issued(s.refresh(bob.RefreshToken))
		return bob.AccessToken
	}, recipes, http.StatusUnauthorized)
	s.stop()
}

func TestBank(t *testing.T) {
	t.Parallel()
	s := system{prepare(t, "bank", "AUTH_PORT", "8080", "BANK_PORT", "4001", "RETIREMENT_PORT", "4002").prebuilt(), "my-money"}
	bank, retirement := s.at("4001")+"/balance", s.at("4002")+"/balance"
	for _, alg := range []string{"ES256", "HS256"} {
		s.start("SIGNET_SIGNING_ALG=" + alg)
		shows(t, s.try(), `{"balance":1250}`, `{"balance":98000}`, `{}`, `logged out`, `{"balance":1250}`)
		bob := s.login("bob")
		var header struct{ Alg string }
		if decode(t, strings.Split(bob.AccessToken, ".")[0], &header); header.Alg != alg {
			t.Errorf("the token is signed with %s, not %s", header.Alg, alg)
		}
		for api, balance := range map[string]string{bank: `{"balance":40}`, retirement: `{"balance":0}`} {
			s.want(http.StatusOK, balance, api, bob.AccessToken)
			s.want(http.StatusUnauthorized, "log in first", api, "")
			s.want(http.StatusUnauthorized, "bad", api, bob.RefreshToken)
			s.refuses(api, bob.AccessToken, http.StatusUnauthorized)
		}
		s.want(http.StatusUnauthorized, "bad", retirement, s.login("bob", "resource", "https://bank.example.com").AccessToken)
		s.want(http.StatusUnauthorized, "bad", bank, s.login("bob", "resource", "https://retirement.example.com").AccessToken)
		s.stop()

		// After a log-out one refuses at once, the other within the token's life.
		s.start("SIGNET_SIGNING_ALG="+alg, "SIGNET_ACCESS_TOKEN_TTL=2s")
		s.lives(func() string {
			bob := s.login("bob")
			s.post("/revoke", "token", bob.RefreshToken).is(t, http.StatusOK)
			s.want(http.StatusUnauthorized, "logged out", retirement, bob.AccessToken)
			return bob.AccessToken
		}, bank, http.StatusUnauthorized)
		s.stop()
	}
}

func TestCommandLineProgram(t *testing.T) {
	t.Parallel()
	e := prepare(t, "cli", "AUTH_PORT", "8080").prebuilt()
	e.env = append(e.env, "BROWSER="+meet(t, "alice").asBrowser())
	s := system{e.start("SIGNET_REFRESH_RETRY_WINDOW=5m"), "whoami"} // however slow this machine is
	opened := "Log in with your browser. If none opens, open this yourself:"
	shows(t, s.try(), opened, s.at("8080")+"/authorize?", "alice", "alice", "alice", "whoami: nobody is logged in", "has to log in again")

	run := func(file string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, filepath.Join(s.data, "whoami"), args...)
		cmd.Env = slices.Concat(s.env, []string{"ISSUER=" + s.at("8080"), "TOKEN_FILE=" + file})
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	atOnce := func(files ...string) {
		t.Helper()
		var wg sync.WaitGroup
		for _, file := range files {
			wg.Go(func() {
				if out, err := run(file); err != nil || out != "alice" {
					t.Errorf("one of several at once: %v, %s", err, out)
				}
			})
		}
		wg.Wait()
	}
	read := func(file string) (kept tokens) {
		t.Helper()
		content, err := os.ReadFile(file)
		check(t, err)
		check(t, json.Unmarshal(content, &kept))
		if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
			t.Errorf("the file: %v, %v", info, err)
		}
		return kept
	}
	expire := func(file string, kept tokens) {
		t.Helper()
		content, err := json.Marshal(map[string]any{
			"access_token": kept.AccessToken, "refresh_token": kept.RefreshToken, "expiry": time.Now().Add(-time.Minute),
		})
		check(t, err)
		check(t, os.WriteFile(file, content, 0o600))
	}
	calls := func() int {
		log, err := os.ReadFile(filepath.Join(s.data, "signet.log"))
		check(t, err)
		return bytes.Count(log, []byte(`"path":"/token"`))
	}

	file := filepath.Join(t.TempDir(), "new", "token.json")
	if out, err := run(file, "login"); err != nil {
		t.Fatalf("the login: %v, %s", err, out)
	}
	first := read(file)
	atOnce(file)
	if read(file) != first {
		t.Error("a token that lives was refreshed")
	}

	// An expired token is refreshed by one of those that run at once.
	before := calls()
	expire(file, first)
	atOnce(file, file, file, file, file, file)
	second := read(file)
	if second.RefreshToken == first.RefreshToken || second.AccessToken == first.AccessToken {
		t.Error("the token was not refreshed")
	}
	if n := calls() - before; n != 1 {
		t.Errorf("it was refreshed %d times", n)
	}

	// Where there is no common lock, as between two machines, Signet gives both the same successor.
	copied := filepath.Join(t.TempDir(), "copy.json")
	expire(file, second)
	expire(copied, second)
	atOnce(file, copied, file, copied)
	third := read(file)
	if third.RefreshToken == second.RefreshToken || read(copied).RefreshToken != third.RefreshToken {
		t.Error("the chain forks")
	}

	// Killed before it saved what it got, it gets the same again.
	expire(file, third)
	atOnce(file)
	fourth := read(file)
	expire(file, third)
	atOnce(file)
	if read(file).RefreshToken != fourth.RefreshToken {
		t.Error("a lost answer is not repeated")
	}

	if out, err := run(file, "logout"); err != nil {
		t.Errorf("the log-out: %v, %s", err, out)
	}
	if left, err := filepath.Glob(file + "*"); err != nil || len(left) != 1 {
		t.Errorf("after the log-out there are %v, %v; want the lock alone", left, err)
	}
	if out, err := run(copied); err == nil || !strings.Contains(out, "401") {
		t.Errorf("an access token after the log-out: %v, %s", err, out)
	}
	expire(copied, third)
	if out, err := run(copied); err == nil || !strings.Contains(out, "log in again") {
		t.Errorf("a refresh token after the log-out: %v, %s", err, out)
	}
	s.stop()
}

// What an example installs is the same for everybody, and comes from the public registry.
func TestPackagesArePinned(t *testing.T) {
	t.Parallel()
	locks, err := filepath.Glob("*/package-lock.json")
	check(t, err)
	if len(locks) == 0 {
		t.Error("there is no package-lock.json")
	}
	for _, path := range locks {
		text, err := os.ReadFile(path)
		check(t, err)
		for _, m := range regexp.MustCompile(`"resolved": "([^"]*)"`).FindAllSubmatch(text, -1) {
			if !bytes.HasPrefix(m[1], []byte("https://registry.npmjs.org/")) {
				t.Errorf("%s: %s", path, m[1])
			}
		}
		text, err = os.ReadFile(filepath.Join(filepath.Dir(path), "package.json"))
		check(t, err)
		var manifest struct{ Dependencies map[string]string }
		check(t, json.Unmarshal(text, &manifest))
		for name, version := range manifest.Dependencies {
			if !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(version) {
				t.Errorf("%s: %s is of version %q", path, name, version)
			}
		}
	}
}

// A screen has some forty lines.
func TestEveryExampleHasAShortReadme(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("*/run")
	check(t, err)
	index, err := os.ReadFile("README.md")
	check(t, err)
	for _, script := range scripts {
		dir := filepath.Dir(script)
		page, err := os.ReadFile(filepath.Join(dir, "README.md"))
		check(t, err)
		if n := bytes.Count(page, []byte("\n")); n > 40 {
			t.Errorf("%s/README.md has %d lines", dir, n)
		}
		if !bytes.Contains(page, []byte("./docs/examples/"+dir+"/run")) || !bytes.Contains(index, []byte(dir+"/README.md")) {
			t.Errorf("%s: its README does not say how to start it, or README.md does not know it", dir)
		}
		for _, m := range regexp.MustCompile(`\]\(([^):#]+)`).FindAllSubmatch(page, -1) {
			if _, err := os.Stat(filepath.Join(dir, string(m[1]))); err != nil {
				t.Errorf("%s/README.md: %v", dir, err)
			}
		}
	}
}
