package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"signet/storage/storagetest"
)

// behind is a database that can be looked at and aged while servers use it.
func behind(database string) *storagetest.Backend {
	name, _, _ := strings.Cut(database, ":")
	return &storagetest.Backend{Name: name, URL: database}
}

// wantRetried presents a spent token, which has to be taken for a retry, and returns its successor.
func (p *process) wantRetried(a account, token, what string) string {
	p.t.Helper()
	got, err := p.refresh(a, token)
	if err != nil || got.status != http.StatusOK || got.RefreshToken == "" {
		p.t.Fatalf("%s: %v, %d %s", what, err, got.status, got.raw)
	}
	return got.RefreshToken
}

// The answer to a rotation is lost with the server that was to give it, or with the database; everything is away for far longer
// than the retry window, which is ten seconds unless a test waits for its end: a break that is too short to be recorded counts, and on a busy
// machine two of them are more than two seconds. Nobody is logged out, whichever replica is asked first; and a theft is still one.
func TestLostAnswersOfAnOutage(t *testing.T) {
	t.Parallel()
	const away = time.Hour
	t.Run("the only server is killed", func(t *testing.T) {
		t.Parallel()
		database := storagetest.Postgres(t)
		in, db := install(t, database, "SIGNET_REFRESH_RETRY_WINDOW=2s"), behind(database)
		a := in.open(t)
		p := in.serve(t)
		lost, stolen := p.login(a).RefreshToken, p.login(a).RefreshToken
		p.wantRetried(a, stolen, "a use")
		eventually(t, "that use is out of the window", patience, func() bool {
			return db.Int(t, `SELECT count(*) FROM sessions WHERE sequence = 1 AND last_used_at < now() - interval '4 seconds'`) == 1
		})
		p.wantRetried(a, lost, "a use whose answer nobody got")
		p.kill()
		db.Age(t, away)
		p = in.serve(t)
		next := p.wantRetried(a, lost, "the token whose answer was lost")
		if again := p.wantRetried(a, lost, "once more"); again != next {
			t.Error("the retries have different successors")
		}
		p.wantRetried(a, next, "the successor")
		if got, err := p.refresh(a, stolen); err != nil || got.Error != "invalid_grant" {
			t.Errorf("a token spent long before: %v, %d %s", err, got.status, got.raw)
		}
		eventually(t, "one interruption is recorded", patience, func() bool {
			return db.Int(t, `SELECT count(*) FROM audit_events WHERE type = 'service.interrupted'`) == 1
		})
	})
	t.Run("the database crashes, and a replica that was never away is asked first", func(t *testing.T) {
		t.Parallel()
		database, stop, err := storagetest.StartCluster(true)
		check(t, err)
		defer stop()
		px, through := newProxy(t, database)
		px.open()
		in, db := install(t, through), behind(database)
		a := in.open(t)
		direct := in.with("SIGNET_DATABASE_URL=" + database) // its connections break with the crash, and no more than that
		p, other := in.serve(t), direct.serve(t)
		lost := p.login(a).RefreshToken
		p.wantRetried(a, lost, "a use whose answer nobody got")
		px.close()
		crash(t, database)
		eventually(t, "the database is back", patience, func() bool { return other.ready() == http.StatusOK })
		db.Age(t, away)
		next := other.wantRetried(a, lost, "on the other replica")
		px.open()
		p.awaitReady()
		if again := p.wantRetried(a, lost, "on this one"); again != next {
			t.Error("the replicas have different successors")
		}
	})
	t.Run("a backup is restored", func(t *testing.T) {
		t.Parallel()
		onEachDatabase(t, func(t *testing.T, database string) {
			in, db := install(t, database), behind(database)
			a := in.open(t)
			p := in.serve(t)
			used, lost := p.login(a).RefreshToken, p.login(a).RefreshToken
			p.wantRetried(a, lost, "a use whose answer nobody got")
			p.kill()
			backup := copyTables(t, db)
			p = in.serve(t)
			later := p.wantRetried(a, used, "a use after the backup")
			p.kill()
			backup()
			db.Age(t, away)
			p = in.serve(t)
			p.wantRetried(a, lost, "the token that was spent when the backup was made")
			p.wantRetried(a, later, "the token that the backup does not know of")
		})
	})
	t.Run("a server is killed under load", func(t *testing.T) {
		t.Parallel()
		onEachDatabase(t, func(t *testing.T, database string) {
			in, db := install(t, database), behind(database)
			a := in.open(t)
			const sessions = 8
			var last [sessions]string
			for round := range 3 {
				p := in.serve(t)
				var working sync.WaitGroup
				var uses atomic.Int64
				for i := range sessions {
					if last[i] == "" {
						last[i] = p.login(a).RefreshToken
					}
					working.Go(func() {
						for {
							got, err := p.refresh(a, last[i])
							if err != nil {
								return
							}
							if got.status != http.StatusOK {
								t.Errorf("round %d: %d %s", round, got.status, got.raw)
								return
							}
							last[i] = got.RefreshToken
							uses.Add(1)
						}
					})
				}
				eventually(t, "every session was used", patience, func() bool { return uses.Load() >= 2*sessions || t.Failed() })
				p.kill()
				working.Wait()
				db.Age(t, time.Minute)
			}
		})
	})
}

// crash kills one of the processes of the database server, which makes it end all others and recover from its log, and waits for
// that.
func crash(t *testing.T, database string) {
	t.Helper()
	ctx := context.Background()
	var conns [2]*pgx.Conn
	for i := range conns {
		var err error
		conns[i], err = pgx.Connect(ctx, database)
		check(t, err)
		defer conns[i].Close(ctx)
	}
	var pid int
	check(t, conns[0].QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid))
	check(t, syscall.Kill(pid, syscall.SIGKILL))
	eventually(t, "the server has ended its other processes", patience, func() bool { return conns[1].Ping(ctx) != nil })
	eventually(t, "the server has recovered", patience, func() bool {
		c, err := pgx.Connect(ctx, database)
		if err == nil {
			_ = c.Close(ctx)
		}
		return err == nil
	})
}

// copyTables makes a backup of the sessions and of the heartbeat, and returns what restores it.
func copyTables(t *testing.T, db *storagetest.Backend) (restore func()) {
	t.Helper()
	tables := []string{"sessions", "heartbeat", "interruptions"}
	for _, table := range tables {
		db.Exec(t, fmt.Sprintf(`CREATE TABLE saved_%s AS SELECT * FROM %s`, table, table))
	}
	return func() {
		for _, table := range tables {
			db.Exec(t, `DELETE FROM `+table)
			db.Exec(t, fmt.Sprintf(`INSERT INTO %s SELECT * FROM saved_%s`, table, table))
			db.Exec(t, `DROP TABLE saved_`+table)
		}
	}
}

// A rolling restart behind a load balancer that asks /readyz leaves no request without an answer.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	in := install(t, storagetest.Postgres(t), "SIGNET_DRAIN_DELAY=1s")
	a := in.open(t)
	var b balancer
	var replicas [3]*process
	for i := range replicas {
		replicas[i] = in.serve(t)
		b.add(t, i, replicas[i])
	}
	front := &http.Server{Handler: &b, ReadHeaderTimeout: patience}
	port, err := unusedPort()
	check(t, err)
	front.Addr = fmt.Sprintf("127.0.0.1:%d", port)
	served := make(chan error, 1)
	go func() { served <- front.ListenAndServe() }()
	defer func() {
		_ = front.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	eventually(t, "the balancer listens", patience, func() bool {
		res, err := web.Get("http://" + front.Addr + "/livez")
		if err == nil {
			_ = res.Body.Close()
		}
		return err == nil
	})

	ctx, cancel := context.WithCancel(t.Context())
	var working sync.WaitGroup
	var answered atomic.Int64
	through := process{t: t, url: "http://" + front.Addr}
	for range 4 {
		token := through.login(a).RefreshToken
		working.Go(func() {
			for ctx.Err() == nil {
				got, err := through.refresh(a, token)
				if err != nil || got.status != http.StatusOK {
					t.Errorf("%v, %d %s", err, got.status, got.raw)
					return
				}
				token = got.RefreshToken
				answered.Add(1)
			}
		})
	}
	for i, p := range replicas {
		began := time.Now()
		p.terminate()
		if took := time.Since(began); took < time.Second {
			t.Errorf("it ended after %s, before the load balancer could notice", took)
		}
		replicas[i] = in.serve(t)
		b.add(t, i, replicas[i])
	}
	cancel()
	working.Wait()
	if answered.Load() < 100 {
		t.Errorf("%d answers: too few to tell anything", answered.Load())
	}
	for _, p := range replicas {
		p.kill()
	}
}

// balancer is a load balancer: it asks every replica ten times a second whether it is ready, and keeps connections to them.
type balancer struct {
	mu      sync.Mutex
	targets [3]*httputil.ReverseProxy // nil: out of rotation
	next    int
}

func (b *balancer) add(t *testing.T, i int, p *process) {
	u, err := url.Parse(p.url)
	check(t, err)
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, fmt.Sprintf("%q", err))
	}
	b.set(i, proxy)
	go func() {
		for p.ready() == http.StatusOK {
			time.Sleep(100 * time.Millisecond)
		}
		b.drop(i, proxy)
	}()
}

func (b *balancer) set(i int, proxy *httputil.ReverseProxy) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.targets[i] = proxy
}

func (b *balancer) drop(i int, proxy *httputil.ReverseProxy) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.targets[i] == proxy {
		b.targets[i] = nil
	}
}

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	var target *httputil.ReverseProxy
	for range b.targets {
		b.next = (b.next + 1) % len(b.targets)
		if target = b.targets[b.next]; target != nil {
			break
		}
	}
	b.mu.Unlock()
	if target == nil {
		http.Error(w, `{"error":"no replica"}`, http.StatusBadGateway)
		return
	}
	target.ServeHTTP(w, r)
}

// A second signal does not wait for the drain delay.
func TestSecondSignalEndsIt(t *testing.T) {
	t.Parallel()
	p := install(t, "", "SIGNET_DRAIN_DELAY=10m").serve(t)
	check(t, p.cmd.Process.Signal(syscall.SIGTERM))
	eventually(t, "it is no more ready, and answers still", patience, func() bool { return p.ready() == http.StatusServiceUnavailable })
	res, err := web.Get(p.url + "/livez")
	check(t, err)
	_ = res.Body.Close()
	if !res.Close {
		t.Error("the answer does not ask for another connection")
	}
	eventually(t, "it says what it waits for", patience, func() bool {
		return len(p.logged(`"msg":"stopping; a second signal ends it at once","drain_delay":"10m0s"`)) == 1
	})
	check(t, p.cmd.Process.Signal(syscall.SIGTERM))
	p.exit()
}

// Behind a pooler in transaction mode statements cannot be prepared. That is noticed, and said once; nothing fails for it.
func TestPoolerInTransactionMode(t *testing.T) {
	t.Parallel()
	database := storagetest.Postgres(t)
	through := pgBouncer(t, database)
	in := install(t, through)
	p := in.serve(t) // migrates through the pooler
	a := in.open(t)
	var working sync.WaitGroup
	for range 8 {
		issued := p.login(a)
		working.Go(func() {
			for range 10 {
				got, err := p.refresh(a, issued.RefreshToken)
				if err != nil || got.status != http.StatusOK || !p.active(a, got.AccessToken) {
					t.Errorf("%v, %d %s", err, got.status, got.raw)
					return
				}
				issued = got
			}
		})
	}
	working.Wait()
	if n := len(p.logged("described from now on")); n != 1 {
		t.Errorf("it is said %d times", n)
	}
	other := in.serve(t)
	if got := other.login(a); !p.active(a, got.AccessToken) {
		t.Error("what one replica issued is not active on the other")
	}
	if lines := p.logged(`"level":"ERROR"`); len(lines) > 0 {
		t.Errorf("%s", lines[0])
	}
}

// pgBouncer starts a PgBouncer in transaction mode before the database, with two connections to it, and returns the database's URL
// through it.
func pgBouncer(t *testing.T, database string) string {
	t.Helper()
	u, err := url.Parse(database)
	check(t, err)
	port, err := unusedPort()
	check(t, err)
	dir, err := os.MkdirTemp("", "signet-pgbouncer-")
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o755)) //nolint:gosec // it runs as another user, and finds no secret here
	password, _ := u.User.Password()
	check(t, os.WriteFile(filepath.Join(dir, "users"), fmt.Appendf(nil, "%q %q\n", u.User.Username(), password), 0o644))
	name := strings.TrimPrefix(u.Path, "/")
	check(t, os.WriteFile(filepath.Join(dir, "ini"), fmt.Appendf(nil, `[databases]
%s = host=%s port=%s dbname=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s
pool_mode = transaction
default_pool_size = 2
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
`, name, u.Hostname(), u.Port(), name, port, filepath.Join(dir, "users")), 0o644))
	startPgBouncer(t, filepath.Join(dir, "ini"))
	u.Host = fmt.Sprintf("127.0.0.1:%d", port)
	eventually(t, "PgBouncer answers", patience, func() bool {
		c, err := pgx.Connect(context.Background(), u.String())
		if err == nil {
			_ = c.Close(context.Background())
		}
		return err == nil
	})
	return u.String()
}

// startPgBouncer starts it for as long as the test lasts.
func startPgBouncer(t *testing.T, config string) {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer" // which is not in everybody's PATH
	}
	cmd := exec.Command(program, config)
	if os.Geteuid() == 0 { // it refuses to run as root
		cmd = exec.Command(program, "-u", "nobody", config)
	}
	var log logbook
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatalf("PgBouncer does not start: %v (scripts/need pgbouncer installs it)", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("PgBouncer's log:\n%s", log.String())
		}
	})
}
