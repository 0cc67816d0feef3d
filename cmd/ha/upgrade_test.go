package main

import (
	"os/exec"
	"testing"

	"signet/keys"
	"signet/storage/storagetest"
)

// An older version works on today's schema, whatever is done with it: while replicas are replaced one after the other, both do.
func TestOldVersionOnNewSchema(t *testing.T) {
	if err := exec.Command("git", "cat-file", "-e", began+"^{commit}").Run(); err != nil {
		t.Skipf("commit %s is not in this clone; git fetch --unshallow brings it. make ha, which CI runs, fails without it", began)
	}
	builds := t.TempDir()
	old, err := buildAt(t.Context(), began, builds)
	if err != nil {
		t.Fatal(err)
	}
	today := builds + "/signet"
	if err := build(t.Context(), "../..", today); err != nil {
		t.Fatal(err)
	}
	each := func(t *testing.T, databaseURL string) {
		t.Parallel()
		ctx := t.Context()
		ports, err := freePorts(1)
		if err != nil {
			t.Fatal(err)
		}
		s := &stand{dir: t.TempDir(), secret: keys.NewSecret(), databaseURL: databaseURL, frontPort: ports[0], replicaPorts: [3]int{ports[0]}}
		t.Cleanup(s.stop)
		start := func(program string) {
			t.Helper()
			if p := s.replicas[0]; p != nil {
				if err := p.terminate(); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.serve(ctx, 0, program, "SIGNET_DRAIN_DELAY=0"); err != nil {
				t.Fatal(err)
			}
		}
		start(old)
		l, err := newLoad(ctx, s, old, 2, 1)
		if err != nil {
			t.Fatal(err)
		}
		l.patient = false
		for i, program := range []string{old, old, today, old} {
			if i == 1 { // beneath a server that runs, and has its statements prepared
				if out, err := s.command(ctx, today, "migrate").CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			} else if i > 1 {
				start(program)
			}
			if !l.refresh(ctx, l.chains[0]) || !l.visitors[0].visit(ctx) || !l.come(ctx, false) || !l.come(ctx, true) {
				t.Fatalf("step %d: %s", i, l.counts.firstBroken)
			}
			for _, command := range [][]string{
				{"client", "create", "--name", "Another"},
				{"client", "list"},
				{"user", "list"},
				{"session", "list"},
				{"audit", "list"},
				{"key", "rotate"},
				{"cleanup"},
			} {
				if err := s.run(ctx, program, "", nil, command...); err != nil {
					t.Error(err)
				}
			}
			if alive := l.settle(ctx); alive != len(l.chains) || l.counts.firstBroken != "" {
				t.Fatalf("step %d: %d of %d sessions are alive: %s", i, alive, len(l.chains), l.counts.firstBroken)
			}
		}
		if err := s.run(ctx, old, "another "+password+"\n", nil, "user", "set-password", "ann", "--password-stdin"); err != nil {
			t.Error(err)
		}
		if l.refresh(ctx, l.chains[0]) {
			t.Error("a session outlives the password's change by the old version")
		}
	}
	t.Run("postgres", func(t *testing.T) { each(t, storagetest.Postgres(t)) })
	t.Run("sqlite", func(t *testing.T) { each(t, storagetest.SQLite(t)) })
}
