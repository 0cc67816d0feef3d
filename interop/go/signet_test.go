// Package interop tests Signet, the program as it is released, with the client libraries that people use.
package interop

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	patience = 30 * time.Second
	username = "ann"
	password = "correct horse battery"
	audience = "https://api.example.com"
	other    = "https://other.example.com" // another audience of the same client
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// built is the program, unless SIGNET_BIN names one.
var built = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("SIGNET_BIN"); path != "" {
		return filepath.Abs(path)
	}
	return "", errors.New("SIGNET_BIN is not set; run make interop")
})

// signet is a running server with an embedded database, a client and a user.
type signet struct {
	url              string // and issuer
	clientID, secret string
	expired          string // an access token that once was good

	dir string
	env []string
}

// start starts a server that signs with the algorithm, and has these settings besides.
func start(t *testing.T, algorithm string, settings ...string) *signet {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	address := l.Addr().String()
	check(t, l.Close())

	s := &signet{url: "http://" + address, dir: t.TempDir()}
	s.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "SIGNET_ISSUER=" + s.url, "SIGNET_LISTEN=" + address,
		"SIGNET_MANAGEMENT_LISTEN=", "SIGNET_DRAIN_DELAY=0", "SIGNET_SIGNING_ALG=" + algorithm,
	}
	s.env = append(s.env, settings...)
	var client struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	check(t, json.Unmarshal(s.run(t, "", "client", "create", "--name", "App", "--scope", "read write", "--audience", audience,
		"--audience", other, "--grant", "password", "--grant", "refresh_token", "--grant", "client_credentials", "-o", "json"), &client))
	s.clientID, s.secret = client.ID, client.Secret
	s.run(t, password, "user", "create", username, "--password-stdin")

	// A server whose tokens live for a second goes before the one that is tested, on the same database.
	stop := s.serve(t, "SIGNET_ACCESS_TOKEN_TTL=1s")
	s.expired = s.login(t, audience)
	stop()
	t.Cleanup(s.serve(t))
	return s
}

// run runs a command of the command line.
func (s *signet) run(t *testing.T, stdin string, args ...string) []byte {
	t.Helper()
	program, err := built()
	check(t, err)
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env, cmd.Stdin = s.dir, s.env, strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("signet %s: %v\n%s%s", strings.Join(args, " "), err, out, &stderr)
	}
	return out
}

// serve starts the server, waits until it is ready, and returns what stops it.
func (s *signet) serve(t *testing.T, env ...string) (stop func()) {
	t.Helper()
	program, err := built()
	check(t, err)
	log, err := os.Create(filepath.Join(s.dir, "log"))
	check(t, err)
	cmd := exec.Command(program, "serve")
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.dir, append(s.env, env...), log, log
	check(t, cmd.Start())
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("the server's log:\n%s", text)
		}
		_ = log.Close()
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if res, err := http.Get(s.url + "/readyz"); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return stop
			}
		}
		if time.Now().After(deadline) {
			t.Fail()
			stop()
			t.Fatal("the server does not become ready")
		}
	}
}

// login returns an access token of the user for the resource, "" for all of the client's audiences.
func (s *signet) login(t *testing.T, resource string) string {
	t.Helper()
	return s.token(t, url.Values{"grant_type": {"password"}, "username": {username}, "password": {password}, "resource": {resource}})
}

func (s *signet) token(t *testing.T, form url.Values) string {
	t.Helper()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	s.post(t, "/token", &answer, form)
	return answer.AccessToken
}

// active asks about a token at introspection.
func (s *signet) active(t *testing.T, token string) bool {
	t.Helper()
	var answer struct {
		Active bool `json:"active"`
	}
	s.post(t, "/introspect", &answer, url.Values{"token": {token}})
	return answer.Active
}

func (s *signet) post(t *testing.T, path string, answer any, form url.Values) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, s.url+path, strings.NewReader(form.Encode()))
	check(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(s.clientID, s.secret)
	res, err := http.DefaultClient.Do(req)
	check(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", path, res.Status, body)
	}
	check(t, err)
	check(t, json.Unmarshal(body, answer))
}

// rotate makes the next signing key current, and returns the first token that is signed with it.
func (s *signet) rotate(t *testing.T) string {
	t.Helper()
	signedWith := func() any { // costs less than a login, and the server is asked often
		return header(t, s.token(t, url.Values{"grant_type": {"client_credentials"}}))["kid"]
	}
	before := signedWith()
	s.run(t, "", "key", "rotate")
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		if signedWith() != before {
			return s.login(t, audience)
		}
		if time.Now().After(deadline) {
			t.Fatal("the server does not follow the rotation")
		}
	}
}
