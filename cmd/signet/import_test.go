package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// An interrupt ends an import at once, also while it waits for a pipe that nobody writes to, and what is in stays in.
func TestImportInterrupted(t *testing.T) {
	t.Parallel()
	in := install(t, "")
	cmd := in.command(t, "user", "import", "-")
	stdin, err := cmd.StdinPipe()
	check(t, err)
	var stdout, stderr logbook
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	check(t, cmd.Start())
	_, err = io.WriteString(stdin, "username,password_hash\nann,none\nbob,$2b$12$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuvwxyz01234\n")
	check(t, err)
	for deadline := time.Now().Add(patience); !strings.Contains(stderr.String(), "line 2: "); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing is said of a bad row: %s", &stderr)
		}
	}
	began := time.Now()
	check(t, cmd.Process.Signal(os.Interrupt))
	err = cmd.Wait()
	exit := new(exec.ExitError)
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailed || time.Since(began) > patience {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	if said := stderr.String(); !strings.HasSuffix(said, "signet: standard input: stopped before line 3: interrupted; "+
		"the users in the lines before it are in, and running it again goes on from there\n") || strings.Count(said, "\n") != 2 {
		t.Errorf("said %q", said)
	}
	if !strings.Contains(stdout.String(), "imported       0\n") {
		t.Errorf("printed %q", &stdout)
	}
}
