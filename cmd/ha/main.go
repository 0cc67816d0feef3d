// Command ha shows what outages do to those who are logged in: a whole installation on loopback, whose parts are killed, stopped
// and replaced under load.
//
//	make ha                                  # every scenario three times
//	make ha HA='-scenario kill -runs 1'
//
// There are etcd, three nodes of PostgreSQL under Patroni with synchronous replication, PgBouncer in transaction mode, HAProxy,
// and three replicas of Signet, all from Debian's packages but the last. The load knows each of its refresh tokens, codes and
// browsers. Whoever gets no answer, or 503, tries again with the same token. Each run prints a line:
//
//   - gap is the longest time in which /token answered no request well; limit is the longest that is allowed.
//   - errors are the requests that were not answered well, by status. "refused" is a connection that nobody took.
//   - chains are sessions that are refreshed all the time: refused, which would be a user logged out; caught up, whose last
//     rotation the new primary did not know; alive, by refresh and introspection, when all is over.
//   - codes are authorization codes that were redeemed. Lost ones are those whose answer was lost: the app asks for another,
//     and the user notices nothing. Twice is what may not be.
//   - logins and log-outs in browsers, and how many of them did not last.
//
// A promise that is broken makes the exit code 1: nobody is logged out, no alarm of theft without a thief, nothing but 503 or a
// refused connection, no restart needed, and the gap not longer than the cluster manager's and five seconds.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// began is the commit from which upgrades without an outage are shown.
const began = "72b7b1f"

func main() {
	names := flag.String("scenario", strings.Join(scenarioNames(), ","), "what to `run`, separated by commas")
	runs := flag.Int("runs", 3, "how often each is run")
	chains := flag.Int("chains", 200, "how many sessions are refreshed")
	keep := flag.Bool("keep", false, "keep the logs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	err := run(ctx, strings.Split(*names, ","), *runs, *chains, *keep)
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ha:", err)
		os.Exit(1)
	}
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func run(ctx context.Context, names []string, runs, chains int, keep bool) (err error) {
	for _, name := range names {
		if !slices.Contains(scenarioNames(), name) {
			return fmt.Errorf("-scenario: %q is none of %s", name, strings.Join(scenarioNames(), ", "))
		}
	}
	dir, err := os.MkdirTemp("/tmp", "signet-ha-")
	if err != nil {
		return err
	}
	if keep {
		progress("the logs are in %s", dir)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	progress("building signet, starting the cluster")
	program := filepath.Join(dir, "signet")
	if err := build(ctx, ".", program); err != nil {
		return err
	}
	s, err := newStand(ctx, dir)
	if s != nil {
		defer s.stop()
	}
	if err != nil {
		return err
	}
	for i := range s.replicas {
		if err := s.serve(ctx, i, program); err != nil {
			return err
		}
	}
	progress("making %d sessions", chains)
	l, err := newLoad(ctx, s, program, chains, 4)
	if err != nil {
		return err
	}
	x := &exercise{stand: s, load: l, program: program}
	failed := 0
	fmt.Printf("%-24s %6s %6s %9s  %s\n", "scenario", "gap", "limit", "requests", "errors; chains; codes; logins")
	for _, sc := range scenarios {
		if !slices.Contains(names, sc.name) {
			continue
		}
		for range runs {
			if err := x.run(ctx, sc); err != nil {
				if ctx.Err() != nil {
					return err
				}
				failed++
				fmt.Printf("  BROKEN: %v\n", err)
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d runs broke a promise", failed)
	}
	return nil
}

// build builds signet from a directory of sources; without the profile, which would take minutes and change nothing here.
func build(ctx context.Context, source, program string, flags ...string) error {
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-pgo=off", "-ldflags=-s -w", "-o", program}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/signet")...)
	cmd.Dir, cmd.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// buildAt builds signet as it was at a commit, which has to be in the clone.
func buildAt(ctx context.Context, commit, dir string) (program string, err error) {
	source := filepath.Join(dir, "source-"+commit)
	if err := os.MkdirAll(source, 0o755); err != nil {
		return "", err
	}
	archive := exec.CommandContext(ctx, "sh", "-c", `cd "$(git rev-parse --show-toplevel)" && git archive "$1" | tar -x -C "$2"`, "sh", commit, source)
	if out, err := archive.CombinedOutput(); err != nil || len(out) > 0 {
		return "", fmt.Errorf("commit %s is not here; a shallow clone gets it with git fetch --unshallow: %w\n%s", commit, err, out)
	}
	program = filepath.Join(dir, "signet-"+commit)
	return program, build(ctx, source, program)
}
