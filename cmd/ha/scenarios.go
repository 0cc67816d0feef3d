package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// scenario is something that goes wrong.
type scenario struct {
	name         string
	limit        time.Duration // of the gap: what the cluster manager takes, and five seconds
	asynchronous bool
	prepare      func(*exercise, context.Context) error // may be nil
	do           func(*exercise, context.Context) error // under load; returns when all is mended
}

const grace = 5 * time.Second

var scenarios = []scenario{
	{"upgrade", 0, false, (*exercise).downgrade, (*exercise).upgrade},
	{"switchover", ttl + grace, false, nil, (*exercise).switchover},
	{"kill", ttl + loopWait + grace, false, nil, (*exercise).killPrimary},
	{"kill-asynchronous", ttl + loopWait + grace, true, nil, (*exercise).killPrimary},
	{"pgbouncer", time.Second + grace, false, nil, (*exercise).killPool},
	{"frozen", 8*time.Second + grace, false, nil, (*exercise).freeze},
	{"restore", grace, false, nil, (*exercise).restore},
	{"partition", ttl + loopWait + grace, false, nil, (*exercise).partition},
	{"full-disk", ttl + loopWait + grace, false, nil, (*exercise).fillDisk},
	{"clock", 0, false, (*exercise).buildClock, (*exercise).clock},
}

func scenarioNames() (names []string) {
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return names
}

// exercise runs scenarios, one after the other, on one stand.
type exercise struct {
	*stand
	load    *load
	program string
}

// run runs a scenario, prints its figures, and says which promise was broken.
func (x *exercise) run(ctx context.Context, sc scenario) error {
	if err := x.healthy(ctx, 2*time.Minute); err != nil {
		return err
	}
	if err := x.synchronous(ctx, !sc.asynchronous); err != nil {
		return err
	}
	if sc.prepare != nil {
		if err := sc.prepare(x, ctx); err != nil {
			return err
		}
	}
	l := x.load
	since := time.Now()
	l.patient = sc.limit > 0
	stop := l.begin(ctx)
	pause(ctx, 3*time.Second)
	err := sc.do(x, ctx)
	pause(ctx, 5*time.Second) // for whatever was not noticed yet
	stop()
	if err != nil {
		return fmt.Errorf("%s: %w", sc.name, err)
	}
	alive := l.settle(ctx)
	caughtUp, theft, err := x.audit(ctx, since)
	if err != nil {
		return err
	}
	c := l.counts
	fmt.Printf("%-24s %6.1f %6.0f %9d  errors %s; chains %d refused, %d caught up, %d of %d alive; codes %d, %d lost, %d twice; logins %d, log-outs %d, %d undone\n",
		sc.name, c.gap.Seconds(), sc.limit.Seconds(), c.requests, list(c.failures), c.refused, caughtUp, alive, len(l.chains),
		c.codes, c.lostCodes, c.twice, c.logins, c.logouts, c.undone)
	var broken []string
	promise := func(kept bool, what string) {
		if !kept {
			broken = append(broken, what)
		}
	}
	promise(c.refused == 0 && alive == len(l.chains), "somebody was logged out")
	promise(theft == 0, "a false alarm of theft")
	promise(c.gap <= sc.limit, "the gap is too long")
	promise(sc.asynchronous || c.twice == 0 && c.undone == 0, "what was answered did not last")
	for what, n := range c.failures {
		promise(l.patient && harmless(what), fmt.Sprintf("%d × %s", n, what))
	}
	if len(broken) > 0 {
		return fmt.Errorf("%s (%s)", strings.Join(broken, "; "), c.firstBroken)
	}
	return ctx.Err()
}

func list(failures map[string]int) string {
	var all []string
	for _, what := range slices.Sorted(maps.Keys(failures)) {
		all = append(all, fmt.Sprintf("%d × %s", failures[what], what))
	}
	if all == nil {
		return "none"
	}
	return strings.Join(all, ", ")
}

// audit counts the events of rows that caught up, and of thefts.
func (x *exercise) audit(ctx context.Context, since time.Time) (caughtUp, theft int, err error) {
	for _, of := range []struct {
		kind string
		n    *int
	}{{"refresh_token.caught_up", &caughtUp}, {"refresh_token.reused", &theft}} {
		var page struct {
			Items []json.RawMessage `json:"items"`
		}
		err = errors.Join(err, x.stand.run(ctx, x.program, "", &page, "audit", "list", "--type", of.kind, "--since", time.Since(since).Round(time.Second).String()))
		*of.n = len(page.Items)
	}
	return caughtUp, theft, err
}

// switchover makes another node the primary, as before maintenance.
func (x *exercise) switchover(ctx context.Context) error {
	n, err := x.primary(ctx)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "patronictl", "-c", n.config, "switchover", "--leader", n.name, "--force", "signet").CombinedOutput()
	if err != nil {
		return fmt.Errorf("patronictl: %w\n%s", err, out)
	}
	return x.healthy(ctx, time.Minute)
}

// killPrimary ends the primary and its agent as a power failure does. They come back later.
func (x *exercise) killPrimary(ctx context.Context) error {
	n, err := x.primary(ctx)
	if err != nil {
		return err
	}
	n.kill()
	if err := x.replaced(ctx, n); err != nil {
		return err
	}
	pause(ctx, 3*time.Second)
	if err := x.startAgent(n); err != nil {
		return err
	}
	return x.healthy(ctx, 90*time.Second)
}

// replaced waits until another node is the primary.
func (x *exercise) replaced(ctx context.Context, old *node) error {
	return eventually("another node is the primary", time.Minute, func() error {
		n, err := x.primary(ctx)
		if err == nil && n == old {
			err = errors.New("it is still " + n.name)
		}
		return err
	})
}

// killPool ends PgBouncer; a second later it is started again, as by systemd.
func (x *exercise) killPool(ctx context.Context) error {
	x.pool.kill()
	if !sleep(ctx, time.Second) {
		return ctx.Err()
	}
	return x.startPool()
}

// freeze stops every process of the primary for eight seconds, but not the agent: a hypervisor or a disk that hangs.
func (x *exercise) freeze(ctx context.Context) error {
	n, err := x.primary(ctx)
	if err != nil {
		return err
	}
	frozen := tree(n.postmaster())
	for _, pid := range frozen {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
	sleep(ctx, 8*time.Second)
	for _, pid := range frozen {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	return x.healthy(ctx, time.Minute)
}

// restore takes a backup, and puts it back five seconds later.
func (x *exercise) restore(ctx context.Context) error {
	n, err := x.primary(ctx)
	if err != nil {
		return err
	}
	to := []string{"-h", "127.0.0.1", "-p", strconv.Itoa(n.port), "-U", "postgres", "-d", "signet"}
	backup := filepath.Join(x.dir, "backup")
	x.load.mu.Lock()
	x.load.forget = time.Now()
	x.load.mu.Unlock()
	if out, err := exec.CommandContext(ctx, filepath.Join(x.bin, "pg_dump"), append(to, "--format=custom", "--file="+backup)...).CombinedOutput(); err != nil {
		return fmt.Errorf("pg_dump: %w\n%s", err, out)
	}
	sleep(ctx, 5*time.Second)
	out, err := exec.CommandContext(ctx, filepath.Join(x.bin, "pg_restore"), append(to, "--clean", "--single-transaction", backup)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("pg_restore: %w\n%s", err, out)
	}
	return nil
}

// partition stops the primary's agent: the cluster manager takes that for the node's end and makes another one the primary, while
// the old one lives on, still taking statements from whoever is connected. Later the agent goes on, and learns of it.
func (x *exercise) partition(ctx context.Context) error {
	n, err := x.primary(ctx)
	if err != nil {
		return err
	}
	_ = n.agent.cmd.Process.Signal(syscall.SIGSTOP) // alone: not what it has started
	err = x.replaced(ctx, n)
	if err == nil {
		sleep(ctx, 5*time.Second)
		if n.postmaster() == 0 {
			err = errors.New("the old primary has ended by itself")
		}
	}
	_ = n.agent.cmd.Process.Signal(syscall.SIGCONT)
	return errors.Join(err, x.healthy(ctx, 90*time.Second))
}

// fillDisk makes every write of the primary fail, as a full disk does, and of whatever the agent starts in its place. Later there is
// room again.
func (x *exercise) fillDisk(ctx context.Context) error {
	n, err := x.primary(ctx)
	if err != nil {
		return err
	}
	limit := func(pids []int, bytes string) error {
		for _, pid := range pids {
			// By a program, as their user: root need not be allowed to.
			cmd := exec.CommandContext(ctx, "prlimit", "--pid", strconv.Itoa(pid), "--fsize="+bytes+":unlimited")
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: x.owner}
			if out, err := cmd.CombinedOutput(); err != nil && syscall.Kill(pid, 0) == nil {
				return fmt.Errorf("prlimit: %w\n%s", err, out)
			}
		}
		return nil
	}
	all := func() (pids []int) {
		pids = tree(n.agent.cmd.Process.Pid)
		if pid := n.postmaster(); pid != 0 {
			pids = append(pids, tree(pid)...)
		}
		return pids
	}
	err = limit(all(), "0")
	if err == nil {
		err = x.replaced(ctx, n)
	}
	return errors.Join(err, limit(all(), "unlimited"), x.healthy(ctx, 2*time.Minute))
}

// downgrade begins anew: with the version of the commit began, on a fresh database.
func (x *exercise) downgrade(ctx context.Context) (err error) {
	old := filepath.Join(x.dir, "signet-"+began)
	if _, err := os.Stat(old); err != nil {
		if old, err = buildAt(ctx, began, x.dir); err != nil {
			return err
		}
	}
	for _, p := range x.replicas {
		p.kill()
	}
	n, err := x.primary(ctx)
	if err != nil {
		return err
	}
	for _, sql := range []string{"DROP DATABASE signet WITH (FORCE)", "CREATE DATABASE signet"} {
		if err := x.psql(ctx, n.port, "postgres", sql); err != nil {
			return err
		}
	}
	for i := range x.replicas {
		if err := x.serve(ctx, i, old); err != nil {
			return err
		}
	}
	x.load, err = newLoad(ctx, x.stand, old, len(x.load.chains), len(x.load.visitors))
	return err
}

// upgrade replaces the replicas by this version, one after the other. The first one brings the schema up to date, beneath the others.
func (x *exercise) upgrade(ctx context.Context) error {
	for i := range x.replicas {
		if err := x.replace(ctx, i, x.program); err != nil {
			return err
		}
	}
	return nil
}

// replace replaces a replica.
func (x *exercise) replace(ctx context.Context, i int, program string, env ...string) error {
	if err := x.replicas[i].terminate(); err != nil {
		return err
	}
	if err := x.serve(ctx, i, program, env...); err != nil {
		return err
	}
	sleep(ctx, 2*time.Second) // until the load balancer has noticed
	return nil
}

// A clock that is off, for a statically linked program: package time of the build adds to what the system says.
const clockSource = `package time

import "syscall"

var clockIsOff = func() int64 {
	switch v, _ := syscall.Getenv("CLOCK"); v {
	case "ahead":
		return 600
	case "behind":
		return -600
	}
	return 0
}()
`

// buildClock builds a signet whose clock is ten minutes off.
func (x *exercise) buildClock(ctx context.Context) error {
	program := filepath.Join(x.dir, "signet-clock")
	if _, err := os.Stat(program); err == nil {
		return nil
	}
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	lib := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	source, err := os.ReadFile(filepath.Join(lib, "time.go"))
	if err != nil {
		return err
	}
	const now = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if !strings.Contains(string(source), now) {
		return errors.New("time.Now is not what it was in Go 1.26")
	}
	patched := strings.Replace(string(source), now, now+"\tsec += clockIsOff\n", 1)
	overlay := map[string]map[string]string{"Replace": {
		filepath.Join(lib, "time.go"): filepath.Join(x.dir, "time.go"), filepath.Join(lib, "clock.go"): filepath.Join(x.dir, "clock.go"),
	}}
	description, err := json.Marshal(overlay)
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(filepath.Join(x.dir, "time.go"), []byte(patched), 0o644),
		os.WriteFile(filepath.Join(x.dir, "clock.go"), []byte(clockSource), 0o644),
		os.WriteFile(filepath.Join(x.dir, "overlay.json"), description, 0o644)); err != nil {
		return err
	}
	return build(ctx, ".", program, "-overlay", filepath.Join(x.dir, "overlay.json"))
}

// clock gives one replica a clock that is ten minutes ahead, then one that is ten minutes behind, then a right one again.
func (x *exercise) clock(ctx context.Context) error {
	for _, way := range []string{"ahead", "behind"} {
		if err := x.replace(ctx, 0, filepath.Join(x.dir, "signet-clock"), "CLOCK="+way); err != nil {
			return err
		}
		sleep(ctx, 5*time.Second)
	}
	return x.replace(ctx, 0, x.program)
}

// sleep is false if it was interrupted.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
