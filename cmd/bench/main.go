// Command bench measures the server under load, and beside it the least that the same work costs on the same machine.
//
//	go run ./cmd/bench
//	go run ./cmd/bench -scenario refresh -connections 16 -scale=false -cleanup=false
//
// It builds signet, starts a PostgreSQL of its own whose commits are durable, runs `signet serve` on it and drives it over
// loopback: each connection sends its next request as soon as the answer to the one before is there. Server, database and
// load share the machine's cores, so that the numbers are those of a small machine, not of the server alone. All of it is
// gone afterwards. An answer other than the wanted one makes the exit code 1. It needs Linux's /proc.
//
// How to read the table:
//
//   - floor/s is the rate of the least that the work cannot do without, measured right before with nothing else running:
//     for refresh an UPDATE of one row by primary key through as many connections to the database, for introspect such a
//     SELECT, for client_credentials an ES256 signature and for password and login an Argon2id hash on each core. Disks and
//     processors differ and have bad minutes; ratio, which is req/s over floor/s, is what to compare between machines and
//     between versions. It cannot reach 1: a refresh also signs, and speaks HTTP.
//   - bare/s is the rate of a server that does only what cannot be left out, on the same libraries and beside the same load: Gin
//     reads a form, one statement is made as for the floor, an ES256 signature is made or checked. It knows no clients, no
//     reuse and no revocation. The ratio behind it is req/s over bare/s: what all the rest costs, or gathering gains.
//   - p50 and p99 are how long an answer took, as the client saw it. Where there are more connections than cores can serve,
//     most of it is waiting: p50 is then about connections divided by req/s.
//   - The CPU columns are microseconds of processor time for each request: of the server, of all of the database's
//     processes, and of the load itself; floor db is the database's for each step of the floor. They say what a request costs
//     wherever it is not limited by a disk.
//   - others is the share of the machine that went to something else while the cell was measured. More than a few percent
//     spoil the rates and the times; the CPU columns suffer less.
//   - RSS is the server's resident memory after the cell, and the most it ever was.
//   - WAL is how many bytes of log the database wrote for each request. Every session was refreshed once since the last
//     checkpoint, so that it holds no images of whole pages; after a checkpoint the first refresh on each page adds one.
//   - HOT is the share of the updates of sessions that touched no index: anything below 100% is a regression.
//
// A refresh-dpop is a refresh by a public client whose refresh tokens are bound to its key; the load makes a proof for each. An
// authorize is two requests: the way of a browser that is logged in through /authorize, and its client's to /token, for an ID token
// among others. A login is the form with the password.
//
// The scale rows show whether a refresh costs more with a hundred times the sessions, or late in the life of a session. The
// clean-up rows show what the deletion of expired sessions does to the requests that it runs beside.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"signet/storage/storagetest"
)

// options are the flags.
type options struct {
	scenarios   []string
	connections []int
	duration    time.Duration
	rounds      int
	sessions    int
	scale       bool
	largest     int
	cleanup     bool
	program     string
	profile     string
}

var scenarioNames = []string{"refresh", "refresh-dpop", "introspect", "client_credentials", "password", "authorize", "login"}

func parseFlags() (o options, err error) {
	names := flag.String("scenario", strings.Join(scenarioNames, ","), "what to `run`, separated by commas")
	connections := flag.String("connections", "1,16,64", "`numbers` of connections to run each scenario with")
	flag.DurationVar(&o.duration, "duration", 5*time.Second, "how long each scenario, and each floor, is measured")
	flag.IntVar(&o.rounds, "rounds", 1, "how often all is measured; the table shows medians")
	flag.IntVar(&o.sessions, "sessions", 4000, "how many sessions are refreshed and introspected")
	flag.BoolVar(&o.scale, "scale", true, "also refresh among 10,000 and 1,000,000 sessions, and sessions of great age")
	flag.IntVar(&o.largest, "largest", manySessions, "among how many sessions the last of them is, such as 10000000, for which there have to be 20 GB of disk")
	flag.BoolVar(&o.cleanup, "cleanup", true, "also refresh while a million expired sessions are being deleted")
	flag.StringVar(&o.program, "program", "", "measure this signet `binary`, instead of building one")
	flag.StringVar(&o.profile, "profile", "", "write a profile of the server's CPU time to this `file`")
	flag.Parse()
	if flag.NArg() > 0 {
		return o, fmt.Errorf("unexpected %q", flag.Arg(0))
	}
	if o.largest < manySessions {
		return o, fmt.Errorf("-largest must be %d or more", manySessions)
	}
	if o.duration <= 0 || o.rounds < 1 || o.sessions < 1 {
		return o, errors.New("-duration, -rounds and -sessions must be above zero")
	}
	for name := range strings.SplitSeq(*names, ",") {
		if name != "" && !slices.Contains(scenarioNames, name) {
			return o, fmt.Errorf("-scenario: %q is none of %s", name, strings.Join(scenarioNames, ", "))
		}
		o.scenarios = append(o.scenarios, name)
	}
	for text := range strings.SplitSeq(*connections, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 200 {
			return o, fmt.Errorf("-connections: %q is not a number from 1 to 200", text)
		}
		o.connections = append(o.connections, n)
	}
	if o.program != "" && o.profile != "" {
		return o, errors.New("-profile needs a server of its own; leave out -program")
	}
	for _, path := range []*string{&o.program, &o.profile} { // the server runs in another directory
		if *path != "" {
			if *path, err = filepath.Abs(*path); err != nil {
				return o, err
			}
		}
	}
	return o, nil
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == bareCommand {
		fmt.Fprintln(os.Stderr, "bench:", serveBare(context.Background(), os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	o, err := parseFlags()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	// SIGPIPE as well: a reader of the report that goes away must not leave the server behind.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	err = run(ctx, o)
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is a run.
type bench struct {
	options
	world  *world
	floors *floors
	conn   *pgx.Conn // for what the bench itself wants to know of the database
	server int       // process id
	master int       // of the database's parent process
	failed int       // errors so far
	filled int       // up to how many sessions the table was filled; 0: it was not
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "signet-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	progress("building the server, starting the database")
	if o.program == "" {
		if o.program, err = build(ctx, dir, o.profile != ""); err != nil {
			return err
		}
	}
	// No checkpoint falls into a run by itself: it would hit one cell and spare the next.
	databaseURL, stop, err := storagetest.StartCluster(true, "shared_buffers=256MB", "max_wal_size=64GB", "checkpoint_timeout=1h")
	if err != nil {
		return err
	}
	defer stop()
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	b := &bench{options: o}
	if b.world, err = newWorld(ctx, databaseURL, addr, max(64, slices.Max(o.connections))); err != nil {
		return err
	}
	defer b.world.store.Close()
	if b.conn, err = pgx.Connect(ctx, databaseURL); err != nil {
		return err
	}
	defer b.conn.Close(context.WithoutCancel(ctx))
	if err := b.prepare(ctx, databaseURL); err != nil {
		return err
	}
	bareCtx, stopBare := context.WithCancel(ctx)
	defer stopBare()
	if b.floors.bare, err = startBare(bareCtx, databaseURL); err != nil {
		return err
	}
	running, err := b.start(ctx, dir, databaseURL)
	if err != nil {
		return err
	}
	defer running.stop()
	b.server = running.cmd.Process.Pid
	err = b.sections(ctx)
	if err == nil && b.failed > 0 {
		err = fmt.Errorf("%d requests failed; the end of the server's log:\n%s", b.failed, running.lastWords())
	}
	return err
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// prepare makes the sessions and the floors' table, and finds the database's processes.
func (b *bench) prepare(ctx context.Context, databaseURL string) (err error) {
	if err := b.world.crowd(ctx, b.conn); err != nil {
		return err
	}
	progress("making %d sessions", b.sessions)
	if err := b.world.begin(ctx, b.sessions); err != nil {
		return err
	}
	if err := b.world.beginProven(ctx, min(b.sessions, provenSessions)); err != nil {
		return err
	}
	if b.floors, err = newFloors(ctx, databaseURL, b.conn); err != nil {
		return err
	}
	// A connection is served by a child of the first process, whichever user they run as and wherever the data is.
	var backend int
	if err := b.conn.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&backend); err != nil {
		return err
	}
	s, err := readStat(backend)
	b.master = s.parent
	return err
}

// start reports the machine, times the server's start, and leaves it running on the prepared database.
func (b *bench) start(ctx context.Context, dir, databaseURL string) (*server, error) {
	if err := b.reportMachine(ctx); err != nil {
		return nil, err
	}
	const times = 3
	settings := b.world.settings(databaseURL)
	var embedded, existing []time.Duration
	for i := range times {
		s, err := startServer(ctx, b.program, dir, b.world.addr, "SIGNET_DATA_DIR="+filepath.Join(dir, strconv.Itoa(i)))
		if err != nil {
			return nil, err
		}
		s.stop()
		embedded = append(embedded, s.startup)
		if s, err = startServer(ctx, b.program, dir, b.world.addr, settings...); err != nil {
			return nil, err
		}
		s.stop()
		existing = append(existing, s.startup)
	}
	reportStartup(median(existing), median(embedded))
	if b.profile != "" {
		settings = append(settings, "CPUPROFILE="+b.profile)
	}
	return startServer(ctx, b.program, dir, b.world.addr, settings...)
}

// sections measures everything and prints a table for each section.
func (b *bench) sections(ctx context.Context) error {
	if err := b.settle(ctx); err != nil {
		return err
	}
	all := map[string]scenario{
		"refresh": b.world.refresh(b.floors), "introspect": b.world.introspect(b.floors),
		"client_credentials": b.world.clientCredentials(), "password": b.world.password(),
		"refresh-dpop": b.world.refreshProven(b.floors), "authorize": b.world.authorize(), "login": b.world.login(),
	}
	var cells []*cell
	for _, name := range b.scenarios {
		for _, n := range b.connections {
			if name != "" {
				cells = append(cells, &cell{scenario: all[name], connections: n})
			}
		}
	}
	if err := b.measureAll(ctx, cells); err != nil {
		return err
	}
	reportCells("Scenarios", cells)
	if b.scale {
		if err := b.measureScale(ctx); err != nil {
			return err
		}
	}
	if b.cleanup {
		return b.measureCleanup(ctx)
	}
	return nil
}

// measureAll measures the cells, each as often as there are rounds.
func (b *bench) measureAll(ctx context.Context, cells []*cell) error {
	for range b.rounds {
		for _, c := range cells {
			if err := b.measure(ctx, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// manyConnections is what scale and clean-up are measured with, among many sessions or few.
const (
	manyConnections = 16
	fewSessions     = 10_000
	manySessions    = 1_000_000
	greatAge        = 1_000_000
)

// measureScale refreshes the same sessions alone, among a million others or more, and late in their life.
func (b *bench) measureScale(ctx context.Context) error {
	if err := b.world.begin(ctx, fewSessions); err != nil {
		return err
	}
	counts := []int{fewSessions, manySessions}
	if b.largest > manySessions {
		counts = append(counts, b.largest)
	}
	var cells []*cell
	measure := func(name string) error {
		s := b.world.refresh(b.floors)
		s.name = name
		c := &cell{scenario: s, connections: manyConnections}
		cells = append(cells, c)
		return errors.Join(b.settle(ctx), b.measureAll(ctx, []*cell{c}))
	}
	for _, n := range counts {
		name := fmt.Sprintf("refresh, %d sessions", n)
		progress("preparing: %s", name)
		if err := b.fillUp(ctx, n); err != nil {
			return err
		}
		if err := measure(name); err != nil {
			return err
		}
	}
	size, err := b.sessionSize(ctx)
	if err != nil {
		return err
	}
	progress("preparing: the same, old")
	if err := b.world.age(ctx, b.conn, greatAge); err != nil {
		return err
	}
	if err := measure("the same, each refreshed 1,000,000 times"); err != nil {
		return err
	}
	reportCells("Scale", cells)
	fmt.Printf("\nA session takes %.0f bytes of disk, %.0f of them in indexes.\n", size.all, size.indexes)
	return nil
}

// fillUp makes the sessions so many.
func (b *bench) fillUp(ctx context.Context, n int) error {
	b.filled = n
	return b.world.fill(ctx, b.conn, n-len(b.world.sessions))
}

// sessionSize is what a session takes of the disk, in bytes.
func (b *bench) sessionSize(ctx context.Context) (size struct{ all, indexes float64 }, err error) {
	err = b.conn.QueryRow(ctx, `SELECT pg_total_relation_size('sessions') / count(*)::float8, pg_indexes_size('sessions') / count(*)::float8 FROM sessions`).
		Scan(&size.all, &size.indexes)
	return size, err
}

// measureCleanup refreshes among a million expired sessions that are left alone, and while they are being deleted.
func (b *bench) measureCleanup(ctx context.Context) error {
	progress("preparing: %d expired sessions", manySessions)
	if b.filled != manySessions {
		if err := errors.Join(b.world.begin(ctx, fewSessions), b.fillUp(ctx, manySessions)); err != nil {
			return err
		}
	}
	if err := errors.Join(b.world.expire(ctx, b.conn), b.settle(ctx)); err != nil {
		return err
	}
	s := b.world.refresh(nil)
	s.floor, s.bare, s.name = nil, nil, "refresh, no clean-up"
	idle := &cell{scenario: s, connections: manyConnections}
	s.name = "refresh, during clean-up"
	busy := &cell{scenario: s, connections: manyConnections}
	if err := b.measureAll(ctx, []*cell{idle}); err != nil {
		return err
	}

	type deletion struct {
		rows int64
		took time.Duration
		err  error
	}
	cleaning, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan deletion, 1)
	go func() {
		began := time.Now()
		rows, err := b.world.store.DeleteEndedSessions(cleaning, accessTTL)
		ended <- deletion{rows, time.Since(began), err}
	}()
	err := b.measureAll(ctx, []*cell{busy})
	var done deletion
	select {
	case done = <-ended: // on a fast machine with a long duration: the numbers are then of both
	default:
		stop()
		done = <-ended
	}
	if err = errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	if done.err != nil && !errors.Is(done.err, context.Canceled) && cleaning.Err() == nil {
		return done.err
	}
	reportCells("Clean-up", []*cell{idle, busy})
	reportDeletion(done.rows, done.took, done.err == nil)
	return nil
}

// settle makes the database what it is when it has been running for a while: statistics are there, and no page that a
// refresh or its floor changes is due to be logged as a whole.
func (b *bench) settle(ctx context.Context) error {
	if err := execAll(ctx, b.conn, `VACUUM (ANALYZE)`, `CHECKPOINT`); err != nil {
		return err
	}
	s := b.world.refresh(b.floors)
	for _, pass := range []struct {
		open  func() ([]step, func(), error)
		count int
	}{
		{func() ([]step, func(), error) { return s.workers(ctx, b.world.addr, manyConnections) }, len(s.requests)},
		{func() ([]step, func(), error) { return b.floors.update(ctx, manyConnections) }, floorRows},
	} {
		steps, closeAll, err := pass.open()
		if err != nil {
			return err
		}
		o := drive(ctx, steps, 0, (pass.count+manyConnections-1)/manyConnections)
		closeAll()
		if o.errors > 0 {
			return fmt.Errorf("warming up: %w", o.sample)
		}
	}
	return ctx.Err()
}
