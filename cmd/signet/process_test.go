package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"signet/keys"
	"signet/storage/storagetest"
)

// patience is how long anything may take on a machine that has other things to do.
const patience = 30 * time.Second

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// built is the program as it is released: what these tests measure, and kill, is no test binary.
var built struct {
	once sync.Once
	dir  string
	err  error
}

func binary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "signet-binary-"); built.err != nil {
			return
		}
		build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-pgo=off", "-ldflags=-s -w", "-o", filepath.Join(built.dir, "signet"), ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build does, whose packages it finds in the cache
		if out, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	check(t, built.err)
	return filepath.Join(built.dir, "signet")
}

// logbook is what a process has written so far.
type logbook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// installation is a directory and an environment to run the program in.
type installation struct {
	dir string
	env []string
}

// install makes an installation on the database, "" for the embedded one.
func install(t testing.TB, database string, env ...string) installation {
	t.Helper()
	in := installation{t.TempDir(), []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "SIGNET_MANAGEMENT_LISTEN=", "SIGNET_DRAIN_DELAY=0"}}
	if database != "" {
		in.env = append(in.env, "SIGNET_DATABASE_URL="+database, "SIGNET_SECRET="+keys.NewSecret())
	}
	in.env = append(in.env, env...)
	return in
}

// with is the installation with more, or other, settings.
func (in installation) with(env ...string) installation {
	in.env = slices.Concat(in.env, env)
	return in
}

func (in installation) command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(binary(t), args...)
	cmd.Dir, cmd.Env = in.dir, in.env
	return cmd
}

// run runs a command to its end, and reads the JSON that it prints, if that is asked for.
func (in installation) run(t testing.TB, answer any, args ...string) {
	t.Helper()
	if answer != nil {
		args = append(args, "-o", "json")
	}
	cmd := in.command(t, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil && answer != nil {
		err = json.Unmarshal(out, answer)
	}
	if err != nil {
		t.Fatalf("signet %s: %v\n%s%s", strings.Join(args, " "), err, out, &stderr)
	}
}

// process is a running server.
type process struct {
	t              testing.TB
	cmd            *exec.Cmd
	url            string
	stdout, stderr logbook
	exited         chan struct{}
	err            error // of its end
}

// start starts "signet serve", or another command, on a free port, and does not wait until it is ready.
func (in installation) start(t testing.TB, args ...string) *process {
	t.Helper()
	if len(args) == 0 {
		args = []string{"serve"}
	}
	port, err := unusedPort()
	check(t, err)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	p := &process{t: t, cmd: in.with("SIGNET_LISTEN="+address).command(t, args...), url: "http://" + address, exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	check(t, p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the server's log:\n%s", p.stderr.String())
		}
	})
	return p
}

// serve starts a server and waits until it is ready.
func (in installation) serve(t testing.TB) *process {
	t.Helper()
	p := in.start(t)
	p.awaitReady()
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // of a process that has ended, it does nothing
	<-p.exited
}

// exit waits for the end of the process and returns its exit code.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatal("the process does not end")
		return 0
	}
}

func (p *process) terminate() {
	p.t.Helper()
	check(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	if code := p.exit(); code != 0 {
		p.t.Errorf("after SIGTERM the exit code is %d", code)
	}
}

// eventually asks until the answer is yes.
func eventually(t testing.TB, what string, within time.Duration, ask func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ask(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %s, not yet: %s", within, what)
		}
	}
}

func (p *process) awaitReady() {
	p.t.Helper()
	eventually(p.t, "the server is ready", patience, func() bool {
		select {
		case <-p.exited:
			p.t.Fatalf("the server has ended: %v\n%s", p.err, p.stderr.String())
		default:
		}
		return p.ready() == http.StatusOK
	})
}

// web is the tests' HTTP client. Connections are not kept: a server that is told to stop would wait for idle ones' next request.
var web = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

// ready returns the status of /readyz, 0 for none.
func (p *process) ready() int { return p.status("/readyz") }

func (p *process) status(path string) int {
	res, err := web.Get(p.url + path)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// answer is what the server said.
type answer struct {
	status     int
	retryAfter string
	raw        string

	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	Error        string `json:"error"`
	Active       bool   `json:"active"`
}

// account is a client and a user of it.
type account struct{ id, secret, username, password string }

const password = "correct horse battery"

// open registers a client and a user with the command line.
func (in installation) open(t testing.TB) account {
	t.Helper()
	var c struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	in.run(t, &c, "client", "create", "--name", "App", "--scope", "read write")
	a := account{c.ID, c.Secret, "ann", password}
	create := in.command(t, "user", "create", a.username, "--password-stdin")
	create.Stdin = strings.NewReader(a.password + "\n")
	if out, err := create.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return a
}

// call posts a form of names and values.
func (p *process) call(a account, path string, pairs ...string) (got answer, err error) {
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	req, err := http.NewRequest(http.MethodPost, p.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		return got, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(a.id, a.secret)
	res, err := web.Do(req)
	if err != nil {
		return got, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	got.status, got.retryAfter, got.raw = res.StatusCode, res.Header.Get("Retry-After"), string(body)
	if err == nil {
		err = json.Unmarshal(body, &got)
	}
	return got, err
}

// mustCall is call, and wants that status.
func (p *process) mustCall(status int, a account, path string, pairs ...string) answer {
	p.t.Helper()
	got, err := p.call(a, path, pairs...)
	if err != nil || got.status != status {
		p.t.Fatalf("%s: %v, %d %s; want %d", path, err, got.status, got.raw, status)
	}
	return got
}

func (p *process) login(a account) answer {
	p.t.Helper()
	return p.mustCall(http.StatusOK, a, "/token", "grant_type", "password", "username", a.username, "password", a.password)
}

func (p *process) refresh(a account, token string) (answer, error) {
	return p.call(a, "/token", "grant_type", "refresh_token", "refresh_token", token)
}

func (p *process) active(a account, token string) bool {
	p.t.Helper()
	return p.mustCall(http.StatusOK, a, "/introspect", "token", token).Active
}

// What signet dev prints does, pasted into a shell, what it promises; also at the second start, on the same database, after another one was
// configured for signet serve.
func TestDevTour(t *testing.T) {
	t.Parallel()
	in := install(t, "")
	for _, more := range [][]string{nil, {"SIGNET_DATABASE_URL=postgres://nobody@127.0.0.1:1/nothing", "SIGNET_SECRET=" + keys.NewSecret()}} {
		p := in.with(more...).start(t, "dev")
		p.awaitReady()
		eventually(t, "the tour is printed", patience, func() bool { return strings.Count(p.stdout.String(), "\n\n") >= 7 })
		_, tour, found := strings.Cut(p.stdout.String(), "from the top.\n")
		if !found || !strings.Contains(p.stdout.String(), "Signet is running at "+p.url) || !strings.Contains(p.stdout.String(), "signet-data/signet.db") {
			t.Fatalf("it prints:\n%s", p.stdout.String())
		}
		issuer := strings.Replace(p.url, "127.0.0.1", "localhost", 1) // at the port that was chosen
		if !strings.Contains(p.stdout.String(), "The playground: "+issuer+"/playground") || p.status("/playground") != http.StatusOK {
			t.Errorf("there is no playground:\n%s", p.stdout.String())
		}
		if !strings.Contains(p.stdout.String(), "The issuer: "+issuer+" ") {
			t.Errorf("another issuer:\n%s", p.stdout.String())
		}
		sh := exec.Command("sh", "-s")
		sh.Stdin = strings.NewReader(tour)
		out, err := sh.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s\nof\n%s", err, out, tour)
		}
		var said []map[string]any
		for line := range strings.Lines(string(out)) {
			var v map[string]any
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				t.Fatalf("%v: %q", err, line)
			}
			said = append(said, v)
		}
		if len(said) != 8 {
			t.Fatalf("%d answers:\n%s", len(said), out)
		}
		var known struct{ Email string }
		if in.run(t, &known, "user", "show", "demo"); known.Email != "demo@example.com" {
			t.Errorf("apps see nothing of the user but %+v", known)
		}
		isToken := func(v map[string]any) bool {
			return v["token_type"] == "Bearer" && v["access_token"] != nil && v["refresh_token"] != nil
		}
		inactive := func(v map[string]any) bool { return len(v) == 1 && v["active"] == false }
		for i, good := range []bool{
			isToken(said[0]), said[1]["active"] == true && said[1]["username"] == "demo", isToken(said[2]) && said[2]["refresh_token"] != said[0]["refresh_token"],
			said[3]["error"] == "invalid_grant", inactive(said[4]), isToken(said[5]), len(said[6]) == 0, inactive(said[7]),
		} {
			if !good {
				t.Errorf("answer %d is %v", i+1, said[i])
			}
		}
		p.terminate()
	}
}

// onEachDatabase runs f on a fresh database of either kind.
func onEachDatabase(t *testing.T, f func(t *testing.T, database string)) {
	t.Helper()
	for name, fresh := range map[string]func(testing.TB) string{"postgres": storagetest.Postgres, "sqlite": storagetest.SQLite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, fresh(t))
		})
	}
}

// A server killed at any moment has lost no rotation that it answered, and leaves none that cannot be retried.
func TestKilledServerLosesNothing(t *testing.T) {
	t.Parallel()
	onEachDatabase(t, func(t *testing.T, database string) {
		in := install(t, database, "SIGNET_REFRESH_RETRY_WINDOW=10m")
		a := in.open(t)
		const sessions = 4
		var last, spent [sessions]string
		for round := range 8 {
			p := in.serve(t)
			for i := range sessions {
				if last[i] == "" {
					last[i] = p.login(a).RefreshToken
				}
			}
			var wg sync.WaitGroup
			var uses atomic.Int64
			for i := range sessions {
				wg.Go(func() {
					for {
						got, err := p.refresh(a, last[i])
						if err != nil {
							return // the server is gone; whether it did what was asked for is unknown
						}
						if got.status != http.StatusOK {
							t.Errorf("round %d: a token that was the last one answered: %d %s", round, got.status, got.raw)
							return
						}
						spent[i], last[i] = last[i], got.RefreshToken
						uses.Add(1)
					}
				})
			}
			eventually(t, "every session was used", patience, func() bool { return uses.Load() >= 2*sessions || t.Failed() })
			time.Sleep(rand.N(50 * time.Millisecond)) //nolint:gosec // not for synchronisation: the kill is to come at any moment
			p.kill()
			wg.Wait()
		}
		p := in.serve(t)
		for i := range sessions {
			got, err := p.refresh(a, last[i])
			if err != nil || got.status != http.StatusOK || !p.active(a, got.AccessToken) {
				t.Fatalf("the last token answered: %v, %d %s", err, got.status, got.raw)
			}
			// And what was spent is spent: the restart has forgotten nothing.
			if again, err := p.refresh(a, spent[i]); err != nil || again.Error != "invalid_grant" || p.active(a, got.AccessToken) {
				t.Errorf("a token spent before the restart: %v, %d %s", err, again.status, again.raw)
			}
		}
		p.terminate()
	})
}

// proxy stands between a server and its database, and can be closed, or stop to pass anything on.
type proxy struct {
	t       testing.TB
	address string
	target  string

	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
	flow     *sync.Cond
	stopped  bool
	passed   atomic.Int64 // bytes that came for the database, passed on or not
}

// newProxy returns a closed proxy to the database, and the database's URL through it.
func newProxy(t testing.TB, database string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(database)
	check(t, err)
	port, err := unusedPort()
	check(t, err)
	p := &proxy{t: t, address: fmt.Sprintf("127.0.0.1:%d", port), target: u.Host}
	p.flow = sync.NewCond(&p.mu)
	u.Host = p.address
	t.Cleanup(p.close)
	return p, u.String()
}

func (p *proxy) open() {
	p.t.Helper()
	l, err := net.Listen("tcp", p.address)
	check(p.t, err)
	p.mu.Lock()
	p.listener = l
	p.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			db, err := net.Dial("tcp", p.target)
			if err != nil {
				_ = c.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, c, db)
			p.mu.Unlock()
			go p.pass(db, c, true)
			go p.pass(c, db, false)
		}
	}()
}

func (p *proxy) pass(to, from net.Conn, count bool) {
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if count {
			p.passed.Add(int64(n))
		}
		p.mu.Lock()
		for p.stopped {
			p.flow.Wait()
		}
		p.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// close refuses connections, and breaks those that there are.
func (p *proxy) close() {
	p.hold(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close()
	}
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// hold keeps what comes, as a network does that drops everything, or lets it go on.
func (p *proxy) hold(stopped bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = stopped
	p.flow.Broadcast()
}

// logged returns the lines of the log that hold the text.
func (p *process) logged(text string) (lines []string) {
	s := bufio.NewScanner(strings.NewReader(p.stderr.String()))
	for s.Scan() {
		if strings.Contains(s.Text(), text) {
			lines = append(lines, s.Text())
		}
	}
	return lines
}

// A server that starts before its database says so once, answers 503, and serves as soon as the database is there.
func TestDatabaseDownAtStart(t *testing.T) {
	t.Parallel()
	px, through := newProxy(t, storagetest.Postgres(t))
	p := install(t, strings.Replace(through, "postgres@", "postgres:hidden-password@", 1)).start(t)
	eventually(t, "the server answers", patience, func() bool { return p.ready() == http.StatusServiceUnavailable })
	res, err := web.Get(p.url + "/readyz")
	check(t, err)
	defer res.Body.Close()
	var parts map[string]string
	check(t, json.NewDecoder(res.Body).Decode(&parts))
	if parts["status"] != "unavailable" || parts["database"] != "unreachable" || parts["signing_key"] != "not loaded" || res.Header.Get("Retry-After") == "" {
		t.Errorf("not ready: %v, Retry-After %q", parts, res.Header.Get("Retry-After"))
	}
	for _, path := range []string{"/token", "/introspect", "/revoke"} {
		if got := p.mustCall(http.StatusServiceUnavailable, account{id: "app", secret: "sgs_x"}, path, "token", "x", "grant_type", "client_credentials"); got.retryAfter == "" || got.Error != "temporarily_unavailable" {
			t.Errorf("%s: %s, Retry-After %q", path, got.raw, got.retryAfter)
		}
	}
	if res, err := web.Get(p.url + "/livez"); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("/livez: %v", err)
	}
	eventually(t, "a warning", patience, func() bool { return len(p.logged("waiting for the database")) > 0 })
	time.Sleep(time.Second) // several attempts more: a repetition would show
	if lines := p.logged("waiting for the database"); len(lines) != 1 || !strings.Contains(lines[0], `"level":"WARN"`) || !strings.Contains(lines[0], "connection refused") {
		t.Errorf("%d warnings: %q", len(lines), lines)
	}
	px.open()
	p.awaitReady()
	if strings.Contains(p.stderr.String(), "hidden-password") {
		t.Error("the log holds the database's password")
	}
	p.terminate()
}

// A database that goes away, by breaking connections or by silence, makes answers 503 within seconds, and nothing worse.
func TestDatabaseGoesAway(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct{ begin, end func(px *proxy) }{
		"refused": {func(px *proxy) { px.close() }, func(px *proxy) { px.open() }},
		"silent":  {func(px *proxy) { px.hold(true) }, func(px *proxy) { px.hold(false) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			px, through := newProxy(t, storagetest.Postgres(t))
			px.open()
			in := install(t, through, "SIGNET_REFRESH_RETRY_WINDOW=10m")
			a := in.open(t)
			p := in.serve(t)
			issued := p.login(a)
			fault.begin(px)
			const most = 12 * time.Second
			var wg sync.WaitGroup
			for range 4 {
				for path, pairs := range map[string][]string{
					"/token":      {"grant_type", "refresh_token", "refresh_token", issued.RefreshToken},
					"/introspect": {"token", issued.AccessToken},
					"/revoke":     {"token", issued.RefreshToken},
				} {
					wg.Go(func() {
						began := time.Now()
						got, err := p.call(a, path, pairs...)
						if err != nil || got.status != http.StatusServiceUnavailable || got.Error != "temporarily_unavailable" || got.retryAfter == "" {
							t.Errorf("%s: %v, %d %s, Retry-After %q", path, err, got.status, got.raw, got.retryAfter)
						}
						if took := time.Since(began); took > most {
							t.Errorf("%s took %s", path, took)
						}
						for _, detail := range []string{"127.0.0.1", "connect", "postgres", "SELECT", "context", "timeout"} {
							if strings.Contains(got.raw, detail) {
								t.Errorf("%s shows %q: %s", path, detail, got.raw)
							}
						}
					})
				}
			}
			wg.Wait()
			if p.ready() != http.StatusServiceUnavailable {
				t.Error("/readyz says that the server can serve")
			}
			fault.end(px)
			p.awaitReady()
			// What was held back may have reached the database after all, as a revocation: then it stands. Nothing else may have
			// happened to the session, and a new one works.
			if got, err := p.refresh(a, issued.RefreshToken); err != nil || got.status != http.StatusOK && got.Error != "invalid_grant" || name == "refused" && got.status != http.StatusOK {
				t.Errorf("afterwards: %v, %d %s", err, got.status, got.raw)
			}
			fresh := p.login(a)
			if got, err := p.refresh(a, fresh.RefreshToken); err != nil || got.status != http.StatusOK {
				t.Errorf("a new session: %v, %d %s", err, got.status, got.raw)
			}
			p.terminate()
		})
	}
}

// A server that is told to stop finishes what it is doing, accepts nothing more, and ends with 0.
func TestTerminationDrains(t *testing.T) {
	t.Parallel()
	px, through := newProxy(t, storagetest.Postgres(t))
	px.open()
	in := install(t, through)
	a := in.open(t)
	p := in.serve(t)
	p.login(a) // connections are there
	px.hold(true)
	before := px.passed.Load()
	done := make(chan answer, 1)
	go func() {
		got, err := p.call(a, "/token", "grant_type", "password", "username", a.username, "password", a.password)
		if err != nil {
			got.raw = err.Error()
		}
		done <- got
	}()
	eventually(t, "the login is in flight", patience, func() bool { return px.passed.Load() > before })
	check(t, p.cmd.Process.Signal(syscall.SIGTERM))
	eventually(t, "the port is closed", patience, func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	select {
	case <-p.exited:
		t.Fatal("it ended before the login did")
	default:
	}
	px.hold(false)
	if got := <-done; got.status != http.StatusOK || got.AccessToken == "" {
		t.Errorf("the login: %d %s", got.status, got.raw)
	}
	if code := p.exit(); code != 0 {
		t.Errorf("the exit code is %d", code)
	}
	if len(p.logged(`"msg":"stopped"`)) != 1 {
		t.Error("it does not say that it stopped")
	}
}

// Without automatic migration the server waits for somebody to migrate, and says what to run.
func TestWaitsForMigration(t *testing.T) {
	t.Parallel()
	onEachDatabase(t, func(t *testing.T, database string) {
		in := install(t, database, "SIGNET_AUTO_MIGRATE=false")
		p := in.start(t)
		eventually(t, "it says what to run", patience, func() bool { return len(p.logged("run signet migrate")) > 0 })
		if status := p.ready(); status != http.StatusServiceUnavailable {
			t.Errorf("/readyz is %d", status)
		}
		var steps struct{ From, To int }
		in.run(t, &steps, "migrate")
		if steps.From != 0 || steps.To < 1 {
			t.Errorf("migrated %+v", steps)
		}
		p.awaitReady()
		if n := len(p.logged("run signet migrate")); n != 1 {
			t.Errorf("it said so %d times", n)
		}
	})
}

// What waiting would not mend stops the server with 1, and one line for a person.
func TestServerDoesNotStart(t *testing.T) {
	t.Parallel()
	stops := func(t *testing.T, p *process, says string) {
		t.Helper()
		if code := p.exit(); code != exitFailed {
			t.Errorf("the exit code is %d", code)
		}
		if lines := p.logged("signet: "); len(lines) != 1 || len(p.logged(`"stopped"`)) > 0 || !strings.Contains(lines[0], says) || !strings.HasSuffix(strings.TrimSpace(p.stderr.String()), lines[0]) {
			t.Errorf("it said:\n%s", p.stderr.String())
		}
	}
	t.Run("wrong secret", func(t *testing.T) {
		t.Parallel()
		onEachDatabase(t, func(t *testing.T, database string) {
			in := install(t, database)
			in.serve(t).terminate()
			wrong := keys.NewSecret()
			p := in.with("SIGNET_SECRET=" + wrong).start(t)
			stops(t, p, "SIGNET_SECRET does not open the signing keys in this database")
			if strings.Contains(p.stderr.String(), wrong) {
				t.Error("the secret is repeated")
			}
			in.serve(t).terminate() // no harm was done
		})
	})
	t.Run("port in use", func(t *testing.T) {
		t.Parallel()
		in := install(t, "")
		first := in.serve(t)
		address := strings.TrimPrefix(first.url, "http://")
		for name, second := range map[string]installation{"SIGNET_LISTEN": install(t, ""), "SIGNET_MANAGEMENT_LISTEN": install(t, "", "SIGNET_MANAGEMENT_LISTEN="+address)} {
			cmd := second.command(t, "serve")
			if name == "SIGNET_LISTEN" {
				cmd.Env = append(cmd.Env, "SIGNET_LISTEN="+address)
			} else {
				cmd.Env = append(cmd.Env, "SIGNET_LISTEN=127.0.0.1:0")
			}
			out, err := cmd.CombinedOutput()
			exit := new(exec.ExitError)
			if !errors.As(err, &exit) || exit.ExitCode() != exitFailed || bytes.Count(out, []byte("\n")) != 1 || !bytes.Contains(out, []byte(name)) || !bytes.Contains(out, []byte("in use")) {
				t.Errorf("%v: %s", err, out)
			}
		}
	})
}

// From its start to its first answer the server takes a moment.
func TestStartIsQuick(t *testing.T) {
	t.Parallel()
	binary(t)
	for name, fresh := range map[string]func(testing.TB) string{"postgres": storagetest.Postgres, "sqlite": storagetest.SQLite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			best := map[string]time.Duration{"empty": time.Hour, "existing": time.Hour}
			for range 3 { // whatever else this machine does, one of them is quick
				in := install(t, fresh(t))
				for _, what := range []string{"empty", "existing"} {
					began := time.Now()
					p := in.serve(t)
					best[what] = min(best[what], time.Since(began))
					p.terminate()
				}
			}
			for what, took := range best {
				t.Logf("ready after %s on an %s database", took.Round(time.Millisecond), what)
				if took > 3*time.Second {
					t.Errorf("it takes %s on an %s database", took, what)
				}
			}
		})
	}
}

// keyIDs returns the ids of the published keys.
func (p *process) keyIDs() (ids []string) {
	p.t.Helper()
	res, err := web.Get(p.url + "/.well-known/jwks.json")
	check(p.t, err)
	defer res.Body.Close()
	var set struct {
		Keys []struct{ Kid string }
	}
	check(p.t, json.NewDecoder(res.Body).Decode(&set))
	for _, k := range set.Keys {
		ids = append(ids, k.Kid)
	}
	slices.Sort(ids)
	return ids
}

// keyOf returns the id of the key that signed the access token.
func keyOf(t testing.TB, token string) string {
	t.Helper()
	head, _, _ := strings.Cut(token, ".")
	b, err := base64.RawURLEncoding.DecodeString(head)
	check(t, err)
	var header struct{ Kid string }
	check(t, json.Unmarshal(b, &header))
	return header.Kid
}

// What the command line changes binds both of two running servers as soon as the contract says.
func TestReplicasFollowTheCommandLine(t *testing.T) {
	t.Parallel()
	onEachDatabase(t, func(t *testing.T, database string) {
		in := install(t, database)
		a := in.open(t)
		both := []*process{in.serve(t), in.serve(t)}

		// Sessions, at once.
		for _, command := range [][]string{{"user", "logout", "ann"}, {"user", "disable", "ann"}, {"client", "disable", a.id}} {
			issued := both[0].login(a)
			for _, p := range both {
				if !p.active(a, issued.AccessToken) || !p.active(a, issued.RefreshToken) {
					t.Error("a replica does not know the other's token")
				}
			}
			in.run(t, nil, command...)
			for _, p := range both {
				// A disabled client is answered as one for a second more, and told nothing.
				got, err := p.call(a, "/introspect", "token", issued.AccessToken)
				if err != nil || got.status == http.StatusOK && got.raw != `{"active":false}` || got.status != http.StatusOK && command[0] != "client" {
					t.Errorf("after %v: %v, %d %s", command, err, got.status, got.raw)
				}
				if got, err := p.refresh(a, issued.RefreshToken); err != nil || got.status == http.StatusOK {
					t.Errorf("after %v a refresh: %v, %d %s", command, err, got.status, got.raw)
				}
			}
			if command[1] == "disable" && command[0] == "user" {
				in.run(t, nil, "user", "enable", "ann")
			}
		}

		// Client authentication, within two seconds.
		refused := func(a account) func() bool {
			return func() bool {
				for _, p := range both {
					if got, err := p.call(a, "/introspect", "token", "x"); err != nil || got.Error != "invalid_client" {
						return false
					}
				}
				return true
			}
		}
		eventually(t, "the disabled client is refused", 2*time.Second, refused(a))
		in.run(t, nil, "client", "enable", a.id)
		eventually(t, "the enabled client is let in", 2*time.Second, func() bool { return !refused(a)() })
		var rotated struct {
			Secret string `json:"client_secret"`
		}
		in.run(t, &rotated, "client", "rotate-secret", a.id)
		eventually(t, "the old secret is refused", 2*time.Second, refused(a))
		a.secret = rotated.Secret
		issued := both[0].login(a)

		// Signing keys, within half a minute; and nobody is ever told a key too late.
		var key struct{ Kid string }
		in.run(t, &key, "key", "rotate")
		for _, p := range both {
			eventually(t, "the server signs with the new key", patience, func() bool {
				got, err := p.refresh(a, issued.RefreshToken)
				if err != nil || got.status != http.StatusOK {
					t.Fatalf("a refresh: %v, %d %s", err, got.status, got.raw)
				}
				issued = got
				if !slices.Contains(p.keyIDs(), keyOf(t, got.AccessToken)) {
					t.Error("a token is signed with a key that is not published")
				}
				for _, other := range both {
					if !other.active(a, got.AccessToken) {
						t.Error("a token is not accepted by both")
					}
				}
				return keyOf(t, got.AccessToken) == key.Kid
			})
		}
		eventually(t, "both publish the same keys", patience, func() bool { return slices.Equal(both[0].keyIDs(), both[1].keyIDs()) })
		for _, p := range both {
			p.terminate()
		}
	})
}

// However much is logged, and whatever goes wrong: no secret, no token and no password is in it.
func TestLogHoldsNoSecrets(t *testing.T) {
	t.Parallel()
	onEachDatabase(t, func(t *testing.T, database string) {
		in := install(t, strings.Replace(database, "postgres@", "postgres:database-password@", 1), "SIGNET_LOG_LEVEL=debug", "SIGNET_REFRESH_RETRY_WINDOW=1m")
		a := in.open(t)
		p := in.serve(t)
		secrets := map[string]string{"client secret": a.secret, "password": a.password, "database password": "database-password"}
		for _, entry := range in.env {
			if name, value, _ := strings.Cut(entry, "="); name == "SIGNET_SECRET" {
				secrets["SIGNET_SECRET"] = value
			}
		}
		keep := func(name string, got answer) answer {
			if got.AccessToken != "" {
				secrets[name+"'s access token"] = got.AccessToken
			}
			if got.RefreshToken != "" {
				secrets[name+"'s refresh token"] = got.RefreshToken
			}
			return got
		}
		first := keep("the login", p.login(a))
		refresh := func(name, token string) answer {
			got, err := p.refresh(a, token)
			check(t, err)
			return keep(name, got)
		}
		second := refresh("the refresh", first.RefreshToken)
		refresh("the retry", first.RefreshToken)
		third := refresh("the second refresh", second.RefreshToken)
		p.active(a, third.AccessToken)
		p.mustCall(http.StatusOK, a, "/revoke", "token", third.AccessToken)
		refresh("the theft", first.RefreshToken)
		refresh("the dead one", third.RefreshToken)

		secrets["mistyped password"], secrets["wrong secret"] = "mistyped password", "sgs_wrong_secret_of_a_client"
		p.mustCall(http.StatusBadRequest, a, "/token", "grant_type", "password", "username", a.username, "password", secrets["mistyped password"])
		p.mustCall(http.StatusBadRequest, a, "/token", "grant_type", "password", "username", secrets["mistyped password"], "password", "x")
		p.mustCall(http.StatusUnauthorized, account{a.id, secrets["wrong secret"], "", ""}, "/introspect", "token", first.AccessToken)
		p.mustCall(http.StatusUnauthorized, account{secrets["wrong secret"], a.id, "", ""}, "/introspect", "token", first.AccessToken)
		garbled := first.RefreshToken[:60]
		secrets["garbled token"] = garbled
		refresh("the garbled one", garbled)
		for _, misplaced := range []string{
			"/token?client_secret=" + url.QueryEscape(a.secret) + "&password=" + url.QueryEscape(a.password), "/introspect?token=" + third.AccessToken,
			"/" + third.RefreshToken, "/revoke/" + third.AccessToken,
		} {
			if _, err := p.call(a, misplaced, "token", third.AccessToken); err != nil {
				t.Errorf("%s: %v", misplaced, err)
			}
		}
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, p.url+"/readyz", nil)
		check(t, err)
		req.Header.Set("X-Request-Id", third.AccessToken[:100]+" "+a.secret)
		req.Header.Set("User-Agent", a.secret)
		res, err := web.Do(req)
		check(t, err)
		_ = res.Body.Close()
		p.terminate()

		log := p.stderr.String() + p.stdout.String()
		if strings.Count(log, `"msg":"request"`) < 10 || !strings.Contains(log, "refresh_token.reused") {
			t.Errorf("the log is not what this test is about:\n%s", log)
		}
		for name, secret := range secrets {
			basic := base64.StdEncoding.EncodeToString([]byte(a.id + ":" + secret))
			for _, form := range []string{secret, url.QueryEscape(secret), basic} {
				if strings.Contains(log, form) {
					t.Errorf("the log holds the %s", name)
				}
			}
		}
	})
}

// Whoever follows the record is told what happens also after the database was away for a while, and of everything once.
func TestFollowOutlivesTheDatabase(t *testing.T) {
	t.Parallel()
	database := storagetest.Postgres(t)
	px, through := newProxy(t, database)
	px.open()
	direct := install(t, database)
	cmd := direct.with("SIGNET_DATABASE_URL="+through).command(t, "audit", "follow", "--type", "user.created", "-o", "json")
	var stdout, stderr logbook
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	direct.run(t, nil, "migrate")
	check(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	create := func(name string) (id string) {
		t.Helper()
		var u struct{ ID string }
		direct.run(t, &u, "user", "create", name)
		return u.ID
	}
	told := func(id string) bool { return strings.Contains(stdout.String(), id) }
	var first string
	for i := 0; first == "" || !told(first); i++ { // what happens before its first look is not told
		first = create(fmt.Sprint("first ", i))
		for waited := 0; waited < 20 && !told(first); waited++ {
			time.Sleep(100 * time.Millisecond)
		}
		if i == 10 {
			t.Fatalf("it tells nothing: %s", stderr.String())
		}
	}
	px.close()
	eventually(t, "a complaint", patience, func() bool { return strings.Contains(stderr.String(), "the database does not answer; going on") })
	second := create("second")
	px.open()
	eventually(t, "the second one is told of", patience, func() bool { return told(second) })
	if strings.Count(stdout.String(), first) != 1 || strings.Count(stdout.String(), second) != 1 {
		t.Errorf("told twice:\n%s", stdout.String())
	}
	check(t, cmd.Process.Signal(os.Interrupt))
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v: %s", err, stderr.String())
	}
}
