// Package storagetest gives tests fresh databases of either kind, PostgreSQL and SQLite, and a way to let time pass in them.
package storagetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Postgres returns the URL of a fresh, empty database, which is dropped when the test ends. It is made on the server at
// TEST_DATABASE_URL, or else on a cluster that the test process starts for itself.
func Postgres(t testing.TB) string {
	t.Helper()
	return newDatabase(t, serverURL(t), "template0")
}

// SQLite returns the URL of an embedded database that is not there yet.
func SQLite(t testing.TB) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "signet.db")
}

// cluster is the test process's own. It is never stopped explicitly: it ends when the process does.
var cluster = sync.OnceValues(func() (started, error) {
	u, stop, err := StartCluster(false)
	return started{u, stop}, err
})

type started struct {
	url  string
	stop func() // holds on to the pipe that keeps the cluster going
}

func serverURL(t testing.TB) string {
	t.Helper()
	if u := os.Getenv("TEST_DATABASE_URL"); u != "" {
		return u
	}
	c, err := cluster()
	if err != nil {
		t.Fatal(err)
	}
	return c.url
}

// newDatabase makes a database from the template on the server and returns its URL.
func newDatabase(t testing.TB, server, template string) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatalf("TEST_DATABASE_URL is not a URL: %v", err)
	}
	name := "test_" + strings.ToLower(rand.Text())
	if err := administer(server, "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := administer(server, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	u.Path = "/" + name
	return u.String()
}

// administer runs one statement on a connection of its own.
func administer(server, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

// supervisor makes a cluster and runs its server for as long as somebody holds the other end of its standard input, so
// that nothing is left behind whichever way the test process ends. A line on its input says that the server is gone:
// its process id may be somebody else's by now. Descriptor 3 is held by the server, and tells by its end that it exited.
const supervisor = `
dir=$1 bin=$2
shift 2
pid=
if "$bin/initdb" --no-sync -A trust -U postgres -E UTF8 --locale=C -D "$dir/data" </dev/null; then
	"$bin/postgres" -D "$dir/data" "$@" </dev/null &
	pid=$!
fi
exec 3>&-
while read -r gone; do pid=; done
if [ -n "$pid" ]; then
	kill -INT "$pid"
	tenths=0
	while [ $tenths -lt 100 ] && kill -0 "$pid"; do
		sleep 0.1
		tenths=$((tenths + 1))
	done
	if [ $tenths -eq 100 ]; then kill -QUIT "$pid"; fi
fi
wait
cd /
rm -rf "$dir"
`

// errPortTaken says that somebody else was faster to listen on the port that was free a moment ago.
var errPortTaken = errors.New("the port is taken")

// StartCluster makes a PostgreSQL cluster in a temporary directory, starts its server on a free port of 127.0.0.1 and
// returns the URL of its database postgres. A durable one survives a loss of power, and is as slow as that takes; one
// for tests is not. Settings are of the form name=value. The cluster is gone after stop, or when the process ends.
func StartCluster(durable bool, settings ...string) (url string, stop func(), err error) {
	bin, err := findServer()
	if err != nil {
		return "", nil, err
	}
	for range 5 {
		if url, stop, err = startCluster(bin, durable, settings); !errors.Is(err, errPortTaken) {
			break
		}
	}
	return url, stop, err
}

func startCluster(bin string, durable bool, settings []string) (url string, stop func(), err error) {
	owner, err := serverUser()
	if err != nil {
		return "", nil, err
	}
	parent := tempDir(owner)
	if !durable && inMemory() {
		parent = memory
	}
	dir, err := os.MkdirTemp(parent, "signet-postgres-")
	if err != nil {
		return "", nil, err
	}
	port, err := freePort()
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	logPath := filepath.Join(dir, "log")
	server, err := supervise(owner, dir, logPath, append([]string{bin}, serverArgs(dir, port, durable, settings)...))
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	url = fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
	if err := server.await(url); err != nil {
		output, _ := os.ReadFile(logPath)
		server.stop()
		if bytes.Contains(output, []byte("could not create any TCP/IP sockets")) {
			return "", nil, errPortTaken
		}
		return "", nil, fmt.Errorf("PostgreSQL does not start: %w; the end of its log:\n%s", err, output[max(0, len(output)-4000):])
	}
	return url, server.stop, nil
}

// serverArgs are the options that the server is started with.
func serverArgs(dir string, port int, durable bool, settings []string) []string {
	all := []string{
		"listen_addresses=127.0.0.1", "port=" + strconv.Itoa(port), "unix_socket_directories=" + dir,
		"max_connections=300", "shared_buffers=128MB", "synchronous_commit=on", "logging_collector=off",
	}
	if !durable {
		all = append(all, "fsync=off", "full_page_writes=off")
	}
	var args []string
	for _, s := range append(all, settings...) {
		args = append(args, "-c", s)
	}
	return args
}

// supervised is a running supervisor.
type supervised struct {
	stop   func()
	exited chan struct{} // closed when the server is gone
}

// supervise starts the supervisor for a cluster in dir.
func supervise(owner *syscall.Credential, dir, logPath string, args []string) (*supervised, error) {
	log, err := os.Create(logPath)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if owner != nil {
		for _, path := range []string{dir, logPath} {
			if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
				return nil, err
			}
		}
	}
	life, held, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer held.Close()
	cmd := exec.Command("/bin/sh", append([]string{"-c", supervisor, "sh", dir}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = log, log // files: whoever waits for this process's output does not wait for the server's
	cmd.ExtraFiles = []*os.File{held}
	// A group of its own keeps the terminal's Ctrl-C from the server: it is to be stopped in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: owner}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		life.Close()
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		life.Close()
		return nil, err
	}
	s := &supervised{exited: make(chan struct{})}
	go func() {
		_, _ = io.Copy(io.Discard, life)
		life.Close()
		_, _ = io.WriteString(stdin, "\n")
		close(s.exited)
	}()
	s.stop = sync.OnceFunc(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir) // the server's user may not have been allowed to remove the directory itself
	})
	return s, nil
}

// await returns when the server accepts connections.
func (s *supervised) await(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, url)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.exited:
			return errors.New("it exited")
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// serverUser is whom the server runs as, nil for this process's own user. The server refuses to run as root.
func serverUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// memory is where Linux has a file system without a disk.
const memory = "/dev/shm"

// inMemory tells whether a cluster has room in memory. A new database is hundreds of files, which takes a disk's file system longer than
// PostgreSQL itself.
func inMemory() bool {
	const room = 4 << 30
	var fs syscall.Statfs_t
	return syscall.Statfs(memory, &fs) == nil && fs.Bavail*uint64(fs.Bsize) >= room //nolint:gosec // a size
}

// tempDir is where temporary files go, in a place that the server's user can reach.
func tempDir(owner *syscall.Credential) string {
	if owner == nil {
		return os.TempDir()
	}
	for dir := filepath.Clean(os.TempDir()); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o001 == 0 {
			return "/tmp"
		}
		if dir == filepath.Dir(dir) {
			return os.TempDir()
		}
	}
}

// findServer returns the directory of PostgreSQL's programs.
func findServer() (string, error) {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
		dirs = append(dirs, found...)
	}
	for _, dir := range dirs {
		if isProgram(filepath.Join(dir, "initdb")) && isProgram(filepath.Join(dir, "postgres")) {
			return dir, nil
		}
	}
	return "", errors.New("install PostgreSQL's server, e.g. apt-get install postgresql, or set TEST_DATABASE_URL")
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// version is the number in the path of an installation, 0 if there is none.
func version(path string) int {
	digits := strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, path)
	n, _ := strconv.Atoi(digits)
	return n
}
