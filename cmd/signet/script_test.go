package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the program itself callable as "signet", by scripts and by tests.
func TestMain(m *testing.M) {
	testscript.Main(testRun{m}, map[string]func(){"signet": func() { os.Exit(execute()) }})
}

// testRun clears away what the tests have built.
type testRun struct{ *testing.M }

func (r testRun) Run() int {
	code := r.M.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	return code
}

// quickExit keeps a program with the race detector in it from waiting, for a second, before it exits.
const quickExit = "GORACE=atexit_sleep_ms=0"

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			for _, name := range []string{"PORT", "MANAGEMENT_PORT"} {
				port, err := unusedPort()
				if err != nil {
					return err
				}
				env.Setenv(name, strconv.Itoa(port))
			}
			env.Vars = append(env.Vars, quickExit)
			env.Setenv("SIGNET_LISTEN", "127.0.0.1:"+env.Getenv("PORT"))
			env.Setenv("SIGNET_MANAGEMENT_LISTEN", "127.0.0.1:"+env.Getenv("MANAGEMENT_PORT"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"fails": scriptFails, "member": scriptMember, "mode": scriptMode, "post": scriptPost, "await": scriptAwait,
		},
	})
}

// scriptFails is "fails CODE PROGRAM ARG…": the program exits with that code, prints nothing, and says why in one line.
func scriptFails(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	exit := new(exec.ExitError)
	if !errors.As(err, &exit) || strconv.Itoa(exit.ExitCode()) != args[0] {
		ts.Fatalf("%q: %v, want exit code %s", args[1:], err, args[0])
	}
	said := ts.ReadFile("stderr")
	if strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, "signet: ") || ts.ReadFile("stdout") != "" {
		ts.Fatalf("%q said %q, printed %q; want one line", args[1:], said, ts.ReadFile("stdout"))
	}
}

// scriptMember is "member PATH VALUE", which compares a member of the JSON on standard output, or "member PATH => NAME",
// which keeps it in a variable. A path is like items.0.client_id; "items.length" is how many there are. A value is as JSON writes it, a
// text without its quotes. "! member PATH" wants that there is none.
func scriptMember(ts *testscript.TestScript, neg bool, args []string) {
	var v any
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &v); err != nil {
		ts.Fatalf("standard output is no JSON: %v", err)
	}
	found := true
	for part := range strings.SplitSeq(args[0], ".") {
		switch node := v.(type) {
		case map[string]any:
			v, found = node[part]
		case []any:
			i, err := strconv.Atoi(part)
			switch {
			case part == "length":
				v = float64(len(node))
			case err == nil && i < len(node):
				v = node[i]
			default:
				found = false
			}
		default:
			found = false
		}
		if !found {
			break
		}
	}
	if found == neg {
		ts.Fatalf("%s is there: %v", args[0], found)
	}
	if neg {
		return
	}
	text, ok := v.(string)
	if !ok {
		b, err := json.Marshal(v)
		ts.Check(err)
		text = string(b)
	}
	if len(args) == 3 && args[1] == "=>" {
		ts.Setenv(args[2], text)
	} else if text != args[1] {
		ts.Fatalf("%s is %s, want %s", args[0], text, args[1])
	}
}

// scriptMode is "mode OCTAL FILE…".
func scriptMode(ts *testscript.TestScript, _ bool, args []string) {
	for _, file := range args[1:] {
		info, err := os.Stat(ts.MkAbs(file))
		ts.Check(err)
		if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", file, got, args[0])
		}
	}
}

// scriptPost is "post STATUS PATH USER:PASSWORD NAME=VALUE…", to the server of this script.
func scriptPost(ts *testscript.TestScript, _ bool, args []string) {
	form := url.Values{}
	for _, pair := range args[3:] {
		name, value, _ := strings.Cut(pair, "=")
		form.Add(name, value)
	}
	req, err := http.NewRequest(http.MethodPost, "http://127.0.0.1:"+ts.Getenv("PORT")+args[1], strings.NewReader(form.Encode()))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	user, password, _ := strings.Cut(args[2], ":")
	req.SetBasicAuth(user, password)
	res, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ts.Check(err)
	if strconv.Itoa(res.StatusCode) != args[0] {
		ts.Fatalf("%s answers %s: %s", args[1], res.Status, body)
	}
	_, err = ts.Stdout().Write(body)
	ts.Check(err)
}

// scriptAwait is "await PROGRAM ARG…", which runs the program until it succeeds.
func scriptAwait(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%q: %v", args, err)
		}
	}
}

// handedOut are the ports that tests of this process have, or had.
var handedOut sync.Map

// unusedPort returns a port that nobody listens on, and that no connection is given meanwhile: systems take the ports of
// those that are made from 32768 on.
func unusedPort() (int, error) {
	for {
		port := 10_000 + rand.IntN(20_000) //nolint:gosec // any will do
		if _, taken := handedOut.LoadOrStore(port, true); taken {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return 0, err
		}
		return port, l.Close()
	}
}

// Every value that cannot be stops every command with one line that names the setting, and does not repeat a secret.
func TestBadConfiguration(t *testing.T) {
	t.Parallel()
	const secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	for name, values := range map[string][]string{
		"SIGNET_COOKIE_DOMAIN": {".example.com", "EXAMPLE.com", "127.0.0.1", "a b", "https://example.com", "example.com:443", "*.example.com"},
		"SIGNET_ISSUER": {"auth.example.com", "http://auth.example.com", "https://auth.example.com/", "https://auth.example.com?x", "https://auth.example.com#x", "https://ann@auth.example.com", "ftp://auth.example.com", "https://", "://",
			"https://auth.example.com:", "https://auth.example.com:0", "https://auth.example.com:65536", "https://*", "https://auth.example.com#", "https://auth.example.com?",
			"https://auth.example.com/%2e", "https://auth.example.com/:id", "https://auth.example.com/*all", "https://auth.example.com//a", "https://auth.example.com/a/../b"},
		"SIGNET_LISTEN":               {"8080", "127.0.0.1", "localhost", "[::1]", "a:b:c"},
		"SIGNET_MANAGEMENT_LISTEN":    {"8080", "127.0.0.1"},
		"SIGNET_TRUSTED_PROXIES":      {"10.0.0.0/33", "proxy", "10.0.0.0/8,", "10.0.0.0/8 10.1.0.0/16"},
		"SIGNET_SIGN_UP":              {"yes", "open"},
		"SIGNET_DATABASE_URL":         {"postgres://signet:hidden/#@localhost/signet", "postgres://signet:p@hidden#w@localhost/signet?sslmode=disable", "mysql://localhost/signet", "localhost/signet", "/var/lib/signet.db"},
		"SIGNET_AUTO_MIGRATE":         {"yes", "2", "on"},
		"SIGNET_SECRET":               {"short", "AAAA,", secret + "A", secret + "," + secret + "," + secret},
		"SIGNET_ACCESS_TOKEN_TTL":     {"0", "0s", "-1m", "15", "15 m", "forever", "500ms", "1000000000d", "1m-1s"},
		"SIGNET_REFRESH_TOKEN_TTL":    {"0", "-30d", "30", "30days"},
		"SIGNET_SESSION_TTL":          {"0", "-1d", "x"},
		"SIGNET_REFRESH_RETRY_WINDOW": {"-10s", "10", "x", "1000000d"},
		"SIGNET_SIGNING_ALG":          {"none", "es256", "RS512", "ES256,RS256"},
		"SIGNET_KEY_ROTATION":         {"0", "-1d", "monthly"},
		"SIGNET_LOGIN_MAX_FAILURES":   {"0", "-1", "1001", "ten", "1.5"},
		"SIGNET_LOGIN_WINDOW":         {"0", "-1m", "15"},
		"SIGNET_AUDIT_RETENTION":      {"0", "-90d", "90"},
		"SIGNET_CORS_ORIGINS":         {"*", "app.example.com", "https://app.example.com/", "http://app.example.com", "https://app.example.com,*"},
		"SIGNET_LOG_FORMAT":           {"xml", "JSON"},
		"SIGNET_LOG_LEVEL":            {"trace", "INFO", "0"},
		"SIGNET_TLS_CERT":             {"cert.pem"},
		"SIGNET_TLS_KEY":              {"key.pem"},
		"SIGNET_SECRET_FILE":          {"missing", "."},
		"SIGNET_SIGNING_SECRET_FILE":  {"missing"},
		"SIGNET_DATABASE_URL_FILE":    {"missing"},
	} {
		for _, value := range values {
			wantRefused(t, name, name+"="+value)
		}
	}
	wantRefused(t, "SIGNET_SIGNING_SECRET", "SIGNET_SIGNING_ALG=HS256")
	wantRefused(t, "SIGNET_SIGNING_SECRET", "SIGNET_SIGNING_ALG=HS256", "SIGNET_SIGNING_SECRET="+strings.Repeat("x", 31))
	wantRefused(t, "SIGNET_SIGNING_SECRET", "SIGNET_SIGNING_SECRET="+strings.Repeat("x", 31))
	wantRefused(t, "SIGNET_SECRET", "SIGNET_DATABASE_URL=postgres://localhost/signet")
	wantRefused(t, "SIGNET_DATABASE_URL", "SIGNET_SECRET="+secret, "SIGNET_DATABASE_URL=postgres://ann:hidden@localhost:port/x")
	wantRefused(t, "SIGNET_SECRET_FILE", "SIGNET_SECRET="+secret, "SIGNET_SECRET_FILE=missing")
	wantRefused(t, "SIGNET_DATA_DIR", "SIGNET_DATA_DIR=/proc/none")
	wantRefused(t, "SIGNET_TLS_CERT", "SIGNET_TLS_CERT=missing.pem", "SIGNET_TLS_KEY=missing.pem")
	wantRefused(t, "SIGNET_COOKIE_DOMAIN", "SIGNET_COOKIE_DOMAIN=example.org", "SIGNET_ISSUER=https://auth.example.com")
	wantRefused(t, "signet: DATABASE_URL: ", "DATABASE_URL=mysql://localhost/signet")
	wantRefused(t, "at most 36500d", "SIGNET_SESSION_TTL=36501d")
}

// wantRefused starts the server with the settings, and wants that it does not.
func wantRefused(t *testing.T, name string, settings ...string) {
	t.Helper()
	label := strings.Join(settings, " ")
	t.Run(strings.ReplaceAll(label, "/", "|"), func(t *testing.T) {
		t.Parallel()
		cmd := exec.Command("signet", "serve")
		cmd.Dir = t.TempDir()
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), quickExit, "GOCOVERDIR=" + flag.Lookup("test.gocoverdir").Value.String()}, settings...)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		exit := new(exec.ExitError)
		if !errors.As(err, &exit) || exit.ExitCode() != exitFailed || strings.Count(stderr.String(), "\n") != 1 || stdout.Len() > 0 || !strings.Contains(stderr.String(), name) {
			t.Errorf("%v: %s%s", err, &stderr, &stdout)
		}
		for _, s := range settings {
			if n, value, _ := strings.Cut(s, "="); n == "SIGNET_SECRET" && len(value) > 4 && strings.Contains(stderr.String(), value) || strings.Contains(stderr.String(), "hidden") {
				t.Errorf("the secret is repeated: %s", &stderr)
			}
		}
	})
}

// The help names every setting there is, with its default.
func TestHelpListsEverySetting(t *testing.T) {
	t.Parallel()
	help := settingsHelp()
	tagged := 0
	for _, f := range reflect.VisibleFields(reflect.TypeFor[config]()) {
		if !f.IsExported() {
			continue
		}
		tagged++
		name := f.Tag.Get("env")
		if !strings.HasPrefix(name, "SIGNET_") || f.Tag.Get("help") == "" || !strings.Contains(help, "  "+name+" ") || !strings.Contains(help, f.Tag.Get("help")) {
			t.Errorf("%s is not described: %q", f.Name, name)
		}
		if value := f.Tag.Get("envDefault"); value != "" && !strings.Contains(help, "(default "+value+")") {
			t.Errorf("the default of %s is not told", name)
		}
	}
	if tagged != len(settings()) {
		t.Errorf("%d settings are listed, %d are there", len(settings()), tagged)
	}
	for _, name := range fileSettings {
		if !strings.Contains(help, name) {
			t.Errorf("%s_FILE is not mentioned", name)
		}
	}
}

// FuzzDuration wants that a duration that is read is not negative, is within bounds, and is read again as it is printed.
func FuzzDuration(f *testing.F) {
	for _, seed := range []string{
		"", "0", "15m", "12h", "30d", "1w", "1.5h", "-1m", "--1m", "1m-1s", "1h30m", "100ms", "1us", "1µs", "1ns", "36500d", "36501d", "9223372036854775807ns", "106752d",
		"1e3s", "0x10s", " 1m", "1m ", "+1m", "m", "1", ".5h", "1d1d", "999999999999999999999d", "\x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var d duration
		if err := d.UnmarshalText([]byte(s)); err != nil {
			if d != 0 || !strings.Contains(err.Error(), "15m, 12h or 30d") && !strings.Contains(err.Error(), "at most 36500d") {
				t.Fatalf("%q: %v, %d", s, err, d)
			}
			return
		}
		if d < 0 || time.Duration(d) > maxDuration {
			t.Fatalf("%q is read as %d", s, d)
		}
		again := duration(-1)
		if err := again.Set(d.String()); err != nil || again != d {
			t.Fatalf("%q is printed as %q, and read again as %d, %v", s, d.String(), again, err)
		}
		var p positive
		if err := p.UnmarshalText([]byte(s)); (err == nil) != (time.Duration(d) >= time.Second) || err == nil && time.Duration(p) != time.Duration(d) {
			t.Fatalf("%q at the least a second: %d, %v", s, p, err)
		}
	})
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "1s": time.Second, "15m": 15 * time.Minute, "12h": 12 * time.Hour, "30d": 30 * 24 * time.Hour, "1h30m": 90 * time.Minute, "1w": 7 * 24 * time.Hour, "36500d": maxDuration,
	} {
		var d duration
		if err := d.UnmarshalText([]byte(s)); err != nil || time.Duration(d) != want {
			t.Errorf("%q: %s, %v", s, time.Duration(d), err)
		}
	}
}
