package examples

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMCP(t *testing.T) {
	t.Parallel()
	e := prepare(t, "mcp", "AUTH_PORT", "8080", "MCP_PORT", "4100").prebuilt()
	e.env = append(e.env, "BROWSER="+meet(t, "alice").asBrowser())
	s := system{e.start("SIGNET_ACCESS_TOKEN_TTL=3s"), "posts-app"}
	notes := s.at("4100") + "/mcp"
	const opened = "Log in with your browser. If none opens, open this yourself:"
	shows(t, s.try(), `resource_metadata="`+s.at("4100")+`/.well-known/oauth-protected-resource/mcp"`, opened, s.at("8080")+"/authorize?", "kept, with 0 others", "buy milk")

	// The command, as somebody whose browser is that one; "" for nobody's.
	run := func(browser, file string, args ...string) (string, error) {
		cmd := exec.Command("node", append([]string{filepath.Join("mcp", "client.js")}, args...)...)
		cmd.Env = slices.Concat(s.env, []string{"MCP_SERVER=" + notes, "TOKEN_FILE=" + file, "BROWSER=" + browser})
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	type state struct {
		Client struct {
			ID string `json:"client_id"`
		}
		Tokens tokens
	}
	read := func(file string) (kept state) {
		t.Helper()
		content, err := os.ReadFile(file)
		check(t, err)
		check(t, json.Unmarshal(content, &kept))
		if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
			t.Errorf("the file: %v, %v", info, err)
		}
		return kept
	}
	expect := func(out string, err error, want string) {
		t.Helper()
		if err != nil || out != want && !strings.HasSuffix(out, "\n"+want) {
			t.Errorf("%v: %s, want %s", err, out, want)
		}
	}

	// Each user has their own notes. A token that has expired is refreshed without the user.
	file, nobody := filepath.Join(t.TempDir(), "client.json"), "/bin/false"
	out, err := run(meet(t, "bob").asBrowser(), file, "add", "fix the roof")
	expect(out, err, "kept, with 0 others")
	first := read(file)
	if first.Client.ID == "" || first.Tokens.RefreshToken == "" {
		t.Fatalf("it keeps %+v", first)
	}
	time.Sleep(3 * time.Second)
	out, err = run(nobody, file, "list")
	expect(out, err, "fix the roof")
	second := read(file)
	if second.Client != first.Client || second.Tokens.RefreshToken == first.Tokens.RefreshToken {
		t.Error("the token was not refreshed")
	}

	// Who has no good token is told where to get one, and what for.
	call := func(token string) (status int, challenge string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, notes, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))
		check(t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := http.DefaultClient.Do(req)
		check(t, err)
		defer res.Body.Close()
		return res.StatusCode, res.Header.Get("WWW-Authenticate")
	}
	refused := func(what, token string) {
		t.Helper()
		status, challenge := call(token)
		if status != 401 || !strings.Contains(challenge, `resource_metadata="`) || !strings.Contains(challenge, `scope="notes"`) {
			t.Errorf("%s: %d %s", what, status, challenge)
		}
	}
	out, err = run(nobody, file, "list")
	expect(out, err, "fix the roof")
	fresh := func() string {
		renewed := system{s.example, second.Client.ID}
		return renewed.issued(renewed.refresh(read(file).Tokens.RefreshToken)).AccessToken
	}
	refused("no token", "")
	if status, _ := call(fresh()); status != 200 {
		t.Errorf("a good token: %d", status)
	}
	for what, token := range forgeries(t, fresh()) {
		refused(what, token)
	}
	s.signet("client", "create", "--id", "posts-app", "--name", "Posts", "--public", "--scope", "notes", "--audience", "https://posts.example.com")
	refused("another server's token", s.login("alice").AccessToken)
	s.signet("client", "create", "--id", "reader", "--name", "Reader", "--public", "--scope", "other", "--audience", notes)
	if status, challenge := call(system{s.example, "reader"}.login("alice").AccessToken); status != 403 || !strings.Contains(challenge, "insufficient_scope") {
		t.Errorf("without the scope: %d %s", status, challenge)
	}

	// Nobody registers for more than is open to registration.
	for _, metadata := range []string{
		`{"redirect_uris":["http://127.0.0.1/"],"scope":"signet:account"}`, `{"redirect_uris":["http://127.0.0.1/"],"scope":"other"}`,
		`{"redirect_uris":["http://127.0.0.1/"],"audience":["https://posts.example.com"]}`, `{"grant_types":["password"]}`,
	} {
		res, err := http.Post(s.at("8080")+"/register", "application/json", strings.NewReader(metadata))
		check(t, err)
		_ = res.Body.Close()
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", metadata, res.StatusCode)
		}
	}

	// Logged out, it has the user log in again. A client that is gone registers once more.
	s.signet("user", "logout", "bob")
	time.Sleep(3 * time.Second)
	bob := meet(t, "bob").asBrowser()
	out, err = run(bob, file, "list")
	expect(out, err, "fix the roof")
	if kept := read(file); kept.Client != first.Client || !strings.Contains(out, opened) {
		t.Errorf("after the log-out: %s", out)
	}
	s.signet("client", "delete", first.Client.ID)
	time.Sleep(3 * time.Second)
	out, err = run(bob, file, "list")
	expect(out, err, "fix the roof")
	if read(file).Client == first.Client {
		t.Error("it did not register again")
	}
	s.stop()
}
