package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"signet/keys"
)

// What the cluster manager may take: the leader's key lasts ttl, and who notices that it is gone wakes up every loopWait.
const (
	ttl      = 20 * time.Second
	loopWait = 5 * time.Second
)

// stand is the whole of it: etcd; three nodes of PostgreSQL, each with its agent of Patroni; HAProxy in front of the primary;
// PgBouncer in front of that; replicas of Signet in front of that, and HAProxy in front of these.
type stand struct {
	dir     string
	bin     string // of PostgreSQL's programs
	owner   *syscall.Credential
	running []*process
	nodes   [3]node

	etcdPort, etcdPeerPort           int
	primaryPort, poolPort, frontPort int
	pool                             *process
	replicas                         [3]*process
	replicaPorts                     [3]int
	secret                           string
	databaseURL                      string // as Signet is told
}

// node is a server of PostgreSQL and its agent.
type node struct {
	name                 string
	port, agentPort      int
	agent                *process
	config, dataDir, log string
}

// newStand starts everything but Signet.
func newStand(ctx context.Context, dir string) (*stand, error) {
	s := &stand{dir: dir, secret: keys.NewSecret()}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(found) == 0 {
		return nil, errors.New("PostgreSQL's server is not in /usr/lib/postgresql: apt-get install postgresql")
	}
	s.bin = found[len(found)-1]
	var err error
	if s.owner, err = databaseUser(); err != nil {
		return nil, err
	}
	ports, err := freePorts(14)
	if err != nil {
		return nil, err
	}
	s.etcdPort, s.etcdPeerPort, s.primaryPort, s.poolPort, s.frontPort = ports[0], ports[1], ports[2], ports[3], ports[4]
	s.databaseURL = fmt.Sprintf("postgres://postgres@127.0.0.1:%d/signet?sslmode=disable&pool_max_conns=8", s.poolPort)
	for i := range s.nodes {
		name := "pg" + strconv.Itoa(i+1)
		s.nodes[i] = node{
			name: name, port: ports[5+2*i], agentPort: ports[6+2*i], config: filepath.Join(dir, name+".yml"),
			dataDir: filepath.Join(dir, name), log: name + ".log",
		}
	}
	s.replicaPorts = [3]int(ports[11:14])
	if s.owner != nil {
		if err := os.Chown(dir, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
			return nil, err
		}
	}
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", s.etcdPort), fmt.Sprintf("http://127.0.0.1:%d", s.etcdPeerPort)
	if _, err := s.start("etcd.log", s.owner, nil, "etcd", "--name", "one", "--data-dir", filepath.Join(dir, "etcd"),
		"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
		"--initial-advertise-peer-urls", peer, "--initial-cluster", "one="+peer); err != nil {
		return s, err
	}
	if err := eventually("etcd answers", 20*time.Second, func() error { return get(ctx, s.etcdPort, "/health", nil) }); err != nil {
		return s, err
	}
	for i := range s.nodes {
		if err := s.startAgent(&s.nodes[i]); err != nil {
			return s, err
		}
		if i == 0 { // the first one makes the cluster
			if err := eventually("there is a primary", 60*time.Second, func() error { return get(ctx, s.nodes[0].agentPort, "/primary", nil) }); err != nil {
				return s, err
			}
		}
	}
	if err := s.healthy(ctx, 90*time.Second); err != nil {
		return s, err
	}
	if err := s.psql(ctx, s.nodes[0].port, "postgres", "CREATE DATABASE signet"); err != nil {
		return s, err
	}
	if err := s.startProxies(); err != nil {
		return s, err
	}
	return s, eventually("the primary is reached by way of PgBouncer", 20*time.Second, func() error {
		return s.psql(ctx, s.poolPort, "signet", "SELECT 1")
	})
}

func (s *stand) startAgent(n *node) (err error) {
	config := fmt.Sprintf(`scope: signet
name: %[1]s
restapi: {listen: "127.0.0.1:%[2]d", connect_address: "127.0.0.1:%[2]d"}
etcd3: {hosts: "127.0.0.1:%[3]d"}
bootstrap:
  dcs:
    ttl: %[4]d
    loop_wait: %[5]d
    retry_timeout: 5
    maximum_lag_on_failover: 1048576
    primary_start_timeout: 10
    master_start_timeout: 10
    synchronous_mode: true
    postgresql: {use_pg_rewind: true}
  initdb: [{encoding: UTF8}, {locale: C}, data-checksums]
postgresql:
  listen: "127.0.0.1:%[6]d"
  connect_address: "127.0.0.1:%[6]d"
  data_dir: %[7]s
  bin_dir: %[8]s
  pgpass: %[7]s.pgpass
  authentication:
    superuser: {username: postgres, password: postgres}
    replication: {username: replicator, password: replicator}
  pg_hba: ["local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"]
  parameters: {unix_socket_directories: %[9]s, shared_buffers: 64MB, max_connections: 100, wal_log_hints: "on", wal_keep_size: 512MB}
watchdog: {mode: "off"}
`, n.name, n.agentPort, s.etcdPort, int(ttl.Seconds()), int(loopWait.Seconds()), n.port, n.dataDir, s.bin, s.dir)
	if err := os.WriteFile(n.config, []byte(config), 0o644); err != nil {
		return err
	}
	n.agent, err = s.start(n.log, s.owner, nil, "patroni", n.config)
	return err
}

func (s *stand) startProxies() error {
	var servers, members strings.Builder
	for _, n := range s.nodes {
		fmt.Fprintf(&servers, "    server %s 127.0.0.1:%d check port %d\n", n.name, n.port, n.agentPort)
	}
	for i, port := range s.replicaPorts {
		fmt.Fprintf(&members, "    server signet-%d 127.0.0.1:%d\n", i+1, port)
	}
	haproxy := fmt.Sprintf(`global
    maxconn 2000
defaults
    timeout connect 2s
    timeout check 2s
    timeout queue 5s

# The primary: which one it is, the agents know.
listen primary
    bind 127.0.0.1:%d
    mode tcp
    timeout client 1h
    timeout server 1h
    option httpchk GET /primary
    http-check expect status 200
    default-server inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
%s
# As in deploy/haproxy.cfg.
listen signet
    bind 127.0.0.1:%d
    mode http
    timeout client 30s
    timeout server 35s
    timeout http-keep-alive 10s
    retries 3
    retry-on conn-failure empty-response
    option redispatch 1
    balance leastconn
    option httpchk GET /readyz
    http-check expect status 200
    default-server check inter 1s fastinter 500ms downinter 500ms fall 2 rise 1 observe layer4 error-limit 1 on-error mark-down
%s`, s.primaryPort, servers.String(), s.frontPort, members.String())
	pgbouncer := fmt.Sprintf(`[databases]
signet = host=127.0.0.1 port=%d dbname=signet user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_client_conn = 200
default_pool_size = 30
server_connect_timeout = 3
server_login_retry = 1
ignore_startup_parameters = extra_float_digits
`, s.primaryPort, s.poolPort)
	if err := errors.Join(os.WriteFile(filepath.Join(s.dir, "haproxy.cfg"), []byte(haproxy), 0o644),
		os.WriteFile(filepath.Join(s.dir, "pgbouncer.ini"), []byte(pgbouncer), 0o644)); err != nil {
		return err
	}
	if _, err := s.start("haproxy.log", nil, nil, "/usr/sbin/haproxy", "-db", "-f", "haproxy.cfg"); err != nil {
		return err
	}
	return s.startPool()
}

func (s *stand) startPool() (err error) {
	s.pool, err = s.start("pgbouncer.log", s.owner, nil, "/usr/sbin/pgbouncer", "pgbouncer.ini")
	return err
}

// settings is the environment of a replica, and of the commands.
func (s *stand) settings() []string {
	return []string{
		"SIGNET_ISSUER=http://localhost:" + strconv.Itoa(s.frontPort), "SIGNET_SECRET=" + s.secret,
		"SIGNET_DATABASE_URL=" + s.databaseURL, "SIGNET_DATA_DIR=" + s.dir,
		"SIGNET_MANAGEMENT_LISTEN=", "SIGNET_LOG_LEVEL=warn", "SIGNET_LOGIN_MAX_FAILURES=1000",
	}
}

// serve starts the replica of that number with a program and waits until it is ready.
func (s *stand) serve(ctx context.Context, i int, program string, more ...string) (err error) {
	env := append(slices.Concat(s.settings(), more), fmt.Sprintf("SIGNET_LISTEN=127.0.0.1:%d", s.replicaPorts[i]))
	if s.replicas[i], err = s.start(fmt.Sprintf("signet-%d.log", i+1), nil, env, program, "serve"); err != nil {
		return err
	}
	return eventually("the replica is ready", 30*time.Second, func() error { return get(ctx, s.replicaPorts[i], "/readyz", nil) })
}

// command is one of Signet's.
func (s *stand) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = s.dir, s.settings()
	return cmd
}

// run runs a command of Signet, and reads the JSON that it prints.
func (s *stand) run(ctx context.Context, program, stdin string, answer any, args ...string) error {
	cmd := s.command(ctx, program, append(args, "-o", "json")...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil && answer != nil {
		err = json.Unmarshal(out, answer)
	}
	if err != nil {
		return fmt.Errorf("signet %s: %w\n%s", strings.Join(args, " "), err, &stderr)
	}
	return nil
}

func (s *stand) psql(ctx context.Context, port int, database, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(s.bin, "psql"), "-XqAt", "-h", "127.0.0.1", "-p", strconv.Itoa(port),
		"-U", "postgres", "-d", database, "-c", sql).CombinedOutput()
	if err != nil {
		return fmt.Errorf("psql: %w\n%s", err, out)
	}
	return nil
}

// members is what an agent says of the cluster.
type members struct {
	Members []struct{ Name, Role, State string } `json:"members"`
}

// primary is the node that leads.
func (s *stand) primary(ctx context.Context) (*node, error) {
	for i := range s.nodes {
		if get(ctx, s.nodes[i].agentPort, "/primary", nil) == nil {
			return &s.nodes[i], nil
		}
	}
	return nil, errors.New("there is no primary")
}

// healthy waits until there is a primary, and all others follow it.
func (s *stand) healthy(ctx context.Context, within time.Duration) error {
	return eventually("three nodes run", within, func() error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n, err := s.primary(ctx)
		if err != nil {
			return err
		}
		var m members
		if err := get(ctx, n.agentPort, "/cluster", &m); err != nil {
			return err
		}
		running := 0
		for _, member := range m.Members {
			if member.State == "running" || member.State == "streaming" {
				running++
			}
		}
		var config struct {
			Synchronous bool `json:"synchronous_mode"`
		}
		if err := get(ctx, n.agentPort, "/config", &config); err != nil {
			return err
		}
		synchronous := slices.ContainsFunc(m.Members, func(m struct{ Name, Role, State string }) bool { return m.Role == "sync_standby" })
		if running != len(s.nodes) || synchronous != config.Synchronous {
			return fmt.Errorf("they are %v", m.Members)
		}
		return nil
	})
}

// synchronous turns synchronous replication on or off.
func (s *stand) synchronous(ctx context.Context, on bool) error {
	n, err := s.primary(ctx)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, fmt.Sprintf("http://127.0.0.1:%d/config", n.agentPort),
		strings.NewReader(fmt.Sprintf(`{"synchronous_mode":%t}`, on)))
	if err != nil {
		return err
	}
	res, err := asking.Do(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	return s.healthy(ctx, time.Minute)
}

// postmaster is the id of a node's first process of PostgreSQL, 0 for none.
func (n *node) postmaster() int {
	content, _ := os.ReadFile(filepath.Join(n.dataDir, "postmaster.pid"))
	first, _, _ := strings.Cut(string(content), "\n")
	pid, _ := strconv.Atoi(first)
	if target, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || target != n.dataDir {
		return 0 // somebody else's by now
	}
	return pid
}

// kill ends a node's agent, and all of its PostgreSQL, at once.
func (n *node) kill() {
	n.agent.kill()
	if pid := n.postmaster(); pid != 0 {
		for _, p := range tree(pid) {
			_ = syscall.Kill(p, syscall.SIGKILL)
		}
	}
}

// stop ends everything that was started.
func (s *stand) stop() {
	for i := range s.nodes {
		if n := &s.nodes[i]; n.agent != nil {
			n.agent.signal(syscall.SIGCONT)
			n.kill()
		}
	}
	for _, p := range s.running {
		p.kill()
	}
}

var asking = &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// get wants a 200, and reads the JSON that comes with it.
func get(ctx context.Context, port int, path string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), nil)
	if err != nil {
		return err
	}
	res, err := asking.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, res.Status)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(res.Body).Decode(answer)
}
