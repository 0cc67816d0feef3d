package examples

import (
	"os/exec"
	"strings"
	"testing"
)

// The script comes to its end by itself, and fails where a token lives on.
func TestKillSwitch(t *testing.T) {
	t.Parallel()
	e := prepare(t, "kill-switch", "AUTH_PORT", "8080").prebuilt()
	run := exec.Command("kill-switch/run")
	run.Env = e.env
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const live, dead = "active true    at the refresh: new tokens", "active false   at the refresh: invalid_grant"
	login := []string{"Alice logs in", live, live, live, live, live}
	killed := []string{dead, dead, dead, dead}
	want := []string{"Auth server: " + e.at("8080")}
	want = append(append(append(want, login...), "user logout", "all sessions of alice have ended", dead), killed...)
	want = append(append(append(want, login...), "set-password", dead), killed...)
	want = append(append(append(want, login...), "DELETE", live), killed...)
	said, record, found := strings.Cut(string(out), "The record of it")
	shows(t, said, want...)
	if !found || !strings.Contains(record, "user.logged_out") || !strings.Contains(record, "user.password_changed") {
		t.Errorf("the record: %s", record)
	}
}
