package examples

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

func TestDevice(t *testing.T) {
	t.Parallel()
	e := prepare(t, "device", "AUTH_PORT", "8080").prebuilt()
	s := system{e.start("SIGNET_REFRESH_RETRY_WINDOW=5m"), "box"} // however slow this machine is
	alice := meet(t, "alice")
	run := func(screen *logbook) (done chan error) {
		cmd := exec.Command(filepath.Join(s.data, "box"))
		cmd.Dir, cmd.Env = s.data, slices.Concat(s.env, []string{"ISSUER=" + s.at("8080")})
		cmd.Stdout, cmd.Stderr = screen, screen
		done = make(chan error, 1)
		go func() { done <- cmd.Run() }()
		return done
	}
	file := ""
	for _, entry := range s.env {
		if name, value, _ := strings.Cut(entry, "="); name == "TOKEN_FILE" {
			file = value
		}
	}
	// What users see: a picture, and the code for those who have no camera.
	read := func(screen *logbook) (address, code string) {
		t.Helper()
		shown := regexp.MustCompile(`open (\S+) and enter the code  (\S{4}-\S{4})\n`)
		eventually(t, "the code is shown", func() bool { return shown.MatchString(screen.String()) })
		m := shown.FindStringSubmatch(screen.String())
		if m[1] != s.at("8080")+"/device" {
			t.Errorf("the address is %s", m[1])
		}
		return m[1], m[2]
	}

	screen, tried := new(logbook), make(chan struct{})
	go func() {
		defer close(tried)
		s.tryInto(screen)
	}()
	address, code := read(screen)
	width := 0
	for line := range strings.Lines(screen.String()) {
		if picture, ok := strings.CutPrefix(line, "\033[97;40m"); ok {
			n := utf8.RuneCountInString(strings.TrimSuffix(picture, "\033[0m\n"))
			if width != 0 && n != width {
				t.Errorf("a line of the picture is %d wide, the others %d", n, width)
			}
			width = n
		}
	}
	if width < 29 {
		t.Errorf("the picture is %d wide", width)
	}
	at := alice.send(alice.get(address), "user_code", strings.ToLower(code))
	at = alice.send(at, "username", "alice", "password", passwords["alice"])
	alice.says(at, 200, code)
	alice.says(at, 200, "The box in the living room")
	alice.says(alice.send(at, "decision", "allow"), 200, "The device is connected")
	<-tried
	if n := strings.Count(screen.String(), "Hello, alice.\n"); n != 2 {
		t.Errorf("it says hello %d times:\n%s", n, screen)
	}

	// It stays logged in: an expired token is refreshed, and saved.
	kept := func() (kept tokens) {
		content, err := os.ReadFile(file)
		check(t, err)
		check(t, json.Unmarshal(content, &kept))
		if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
			t.Errorf("the file: %v, %v", info, err)
		}
		return kept
	}
	expire := func(kept tokens) {
		content, err := json.Marshal(map[string]any{
			"access_token": kept.AccessToken, "refresh_token": kept.RefreshToken, "expiry": time.Now().Add(-time.Minute),
		})
		check(t, err)
		check(t, os.WriteFile(file, content, 0o600))
	}
	first := kept()
	expire(first)
	check(t, <-run(screen))
	if kept().RefreshToken == first.RefreshToken {
		t.Error("the token was not refreshed")
	}

	// Logged out elsewhere, it shows another code; and the user may say no.
	s.signet("user", "logout", "alice")
	expire(kept())
	screen = new(logbook)
	done := run(screen)
	address, code = read(screen)
	if !strings.Contains(screen.String(), "has been logged out") {
		t.Errorf("it says %s", screen)
	}
	at = alice.send(alice.get(address+"?user_code="+code), "user_code", code) // as the picture leads there
	if at.asksFor("password") {
		at = alice.send(at, "username", "alice", "password", passwords["alice"])
	}
	alice.says(alice.send(at, "decision", "deny"), 200, "Not allowed")
	if err := <-done; err == nil || !strings.Contains(screen.String(), "box: you did not allow it") {
		t.Errorf("%v: %s", err, screen)
	}
	asksOnAndOn(t, filepath.Join(s.data, "box"))
	s.stop()
}

// A server that is away for a moment, or that is asked too often, is asked more and more seldom.
func asksOnAndOn(t *testing.T, program string) {
	t.Helper()
	var mu sync.Mutex
	var polls []time.Time
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/device_authorization" {
			_, _ = io.WriteString(w, `{"device_code":"d","user_code":"BBBB-BBBB","verification_uri":"/","verification_uri_complete":"/","expires_in":600,"interval":1}`)
			return
		}
		polls = append(polls, time.Now())
		w.WriteHeader([]int{503, 400, 400}[min(len(polls), 3)-1])
		_, _ = io.WriteString(w, []string{`{"error":"temporarily_unavailable"}`, `{"error":"slow_down"}`, `{"error":"access_denied"}`}[min(len(polls), 3)-1])
	}))
	defer server.Close()
	began := time.Now()
	cmd := exec.Command(program)
	cmd.Dir, cmd.Env = t.TempDir(), []string{"ISSUER=" + server.URL}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "you did not allow it") {
		t.Errorf("%v: %s", err, out)
	}
	if len(polls) != 3 {
		t.Fatalf("it asked %d times", len(polls))
	}
	for i, want := range []time.Duration{time.Second, 2 * time.Second, 7 * time.Second} {
		if gap := polls[i].Sub(began); gap < want-time.Second/2 {
			t.Errorf("it asked %s after the time before, want %s", gap, want)
		}
		began = polls[i]
	}
}
