package examples

import (
	"os/exec"
	"strings"
	"testing"
)

// The script comes to its end by itself.
func TestMigration(t *testing.T) {
	t.Parallel()
	e := prepare(t, "migration", "AUTH_PORT", "8080", "API_PORT", "4000").prebuilt()
	run := exec.Command("migration/run")
	run.Env = e.env
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	user := `{"user":"` + strings.Fields(e.signet("user", "show", "alice"))[1] + `"}`
	_, steps, _ := strings.Cut(string(out), "  the old")
	shows(t, steps, `{"user":"alice"}`, user, "2.", "Unauthorized", user, user, "3.", "Unauthorized", user)
	if !strings.Contains(string(out), "imported       2\n") {
		t.Errorf("the import:\n%s", out)
	}
}
