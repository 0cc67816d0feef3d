// Package examples tests the examples: it starts each by its one command, as a newcomer would, and holds it to its promises.
package examples

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything may take: packages are fetched, on a machine that has other things to do.
const patience = 3 * time.Minute

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// signet is the program, built once for all examples but the one that builds it itself.
var signet = sync.OnceValues(func() (string, error) {
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-pgo=off", "-ldflags=-s -w", "-o", temporary, "./cmd/signet")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return filepath.Join(temporary, "signet"), nil
})

// temporary is a directory for all tests.
var temporary string

func TestMain(m *testing.M) {
	var err error
	if temporary, err = os.MkdirTemp("", "signet-examples-"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(temporary)
	os.Exit(code)
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

// example is one of them, on ports and with data of its own.
type example struct {
	t     testing.TB
	name  string
	env   []string
	data  string
	ports map[string]string // by those that README.md has

	cmd    *exec.Cmd
	out    *logbook
	exited chan struct{}
}

// prepare makes an example ready. Its settings for ports, and their values in README.md, are given in pairs.
func prepare(t testing.TB, name string, ports ...string) *example {
	t.Helper()
	lookAtFiles(t)
	e := &example{t: t, name: name, data: filepath.Join(t.TempDir(), "data"), ports: map[string]string{}}
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "SIGNET_") && !strings.HasPrefix(entry, "DATABASE_URL=") {
			e.env = append(e.env, entry)
		}
	}
	e.env = append(e.env, "SIGNET=", "DATA="+e.data, "TOKEN_FILE="+filepath.Join(t.TempDir(), "token.json"))
	for i := 0; i < len(ports); i += 2 {
		port := unusedPort(t)
		e.ports[ports[i+1]] = port
		e.env = append(e.env, ports[i]+"="+port)
	}
	return e
}

// lookAtFiles looks at all that the examples are made of. What their processes read, go test does not know of, and it would
// take an old result for a new one.
func lookAtFiles(t testing.TB) {
	t.Helper()
	check(t, filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch name := filepath.Base(path); {
		case err != nil:
			return err
		case d.IsDir() && len(name) > 2 && (name[0] == '.' || name == "node_modules" || name == "bin" || name == "signet-data"):
			return filepath.SkipDir
		case !d.IsDir() && (strings.HasSuffix(name, ".go") || strings.HasPrefix(path, "../../docs/examples/")):
			_, err = os.Stat(path)
		}
		return err
	}))
}

var handedOut sync.Map

// unusedPort returns a port that nobody listens on, and that no connection is given meanwhile: systems take the ports of
// those that are made from 32768 on.
func unusedPort(t testing.TB) string {
	t.Helper()
	for {
		port := 10_000 + rand.IntN(20_000) //nolint:gosec // any will do
		if _, taken := handedOut.LoadOrStore(port, true); taken {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		check(t, err)
		check(t, l.Close())
		return fmt.Sprint(port)
	}
}

// prebuilt has the example use the program of the tests.
func (e *example) prebuilt() *example {
	e.t.Helper()
	path, err := signet()
	check(e.t, err)
	e.env = append(e.env, "SIGNET="+path)
	return e
}

// start starts the example, with more settings, and waits until all its servers answer. It may be started again.
func (e *example) start(env ...string) *example {
	e.t.Helper()
	cmd, out, exited := exec.Command(filepath.Join(e.name, "run")), new(logbook), make(chan struct{})
	e.cmd, e.out, e.exited = cmd, out, exited
	cmd.Env = slices.Concat(e.env, env)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	check(e.t, cmd.Start())
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	e.t.Cleanup(func() {
		select {
		case <-exited:
		default:
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-exited
		}
		if e.t.Failed() {
			log, _ := os.ReadFile(filepath.Join(e.data, "signet.log"))
			e.t.Logf("%s/run:\n%s%s", e.name, out, log)
		}
	})
	running := func() {
		select {
		case <-exited:
			e.t.Fatalf("%s/run has ended", e.name)
		default:
		}
	}
	// The script waits for Signet, and says at the end that all has been made.
	eventually(e.t, "it says that it has started", func() bool {
		running()
		return strings.Contains(out.String(), "Ctrl-C")
	})
	for port := range e.ports {
		eventually(e.t, "port "+port+" is served", func() bool {
			running()
			return e.listening(port)
		})
	}
	return e
}

// listening tells whether the server that README.md has on the port takes connections.
func (e *example) listening(port string) bool {
	c, err := net.Dial("tcp", "127.0.0.1:"+e.ports[port])
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

// stop does what Ctrl-C does, after which nothing may be left.
func (e *example) stop() {
	e.t.Helper()
	check(e.t, syscall.Kill(-e.cmd.Process.Pid, syscall.SIGINT))
	select {
	case <-e.exited:
	case <-time.After(patience):
		e.t.Fatal("it does not stop")
	}
	if code := e.cmd.ProcessState.ExitCode(); code != 0 {
		e.t.Errorf("after Ctrl-C the exit code is %d", code)
	}
	if err := syscall.Kill(-e.cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
		e.t.Errorf("after Ctrl-C processes are left: %v", err)
	}
}

// at returns the address of the server that README.md has on the port.
func (e *example) at(port string) string { return "http://127.0.0.1:" + e.ports[port] }

// signet runs a command of the command line on the example's data, and returns what it prints.
func (e *example) signet(args ...string) string {
	e.t.Helper()
	path, err := signet()
	check(e.t, err)
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Env = e.data, slices.Concat(e.env, []string{"SIGNET_DATA_DIR=" + e.data})
	out, err := cmd.CombinedOutput()
	if err != nil {
		e.t.Fatalf("signet %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// try runs the shell lines that README.md has to try, and returns what they print.
func (e *example) try() string {
	e.t.Helper()
	out := new(logbook)
	e.tryInto(out)
	return out.String()
}

// tryInto is try for lines that wait for a person, who has to read what they print.
func (e *example) tryInto(out *logbook) {
	e.t.Helper()
	page, err := os.ReadFile(filepath.Join(e.name, "README.md"))
	check(e.t, err)
	_, after, _ := strings.Cut(string(page), "## Try it\n")
	_, after, _ = strings.Cut(after, "```sh\n")
	script, _, found := strings.Cut(after, "```\n")
	if !found {
		e.t.Fatal("README.md has nothing to try")
	}
	for documented := range e.ports {
		script = strings.ReplaceAll(script, "http://127.0.0.1:"+documented, e.at(documented))
	}
	cmd := exec.Command("sh", "-c", strings.ReplaceAll(script, "docs/examples/"+e.name+"/.data", e.data))
	cmd.Env, cmd.Dir = e.env, "../.."
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		e.t.Errorf("what README.md has to try: %v\n%s", err, out)
	}
}

// shows checks that there are as many lines as texts, and that each contains its text.
func shows(t testing.TB, out string, want ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines instead of %d:\n%s", len(lines), len(want), out)
	}
	for i, line := range lines {
		if !strings.Contains(line, want[i]) {
			t.Errorf("line %d is %q, without %q", i+1, line, want[i])
		}
	}
}

func eventually(t testing.TB, what string, ask func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ask(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
