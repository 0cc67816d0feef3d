package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/joho/godotenv"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"signet/keys"
	"signet/storage/storagetest"
)

// root is the repository's directory, seen from this package's.
const root = "../.."

// replicas are the services of docker-compose.yml that are Signet.
var replicas = []string{"signet-1", "signet-2"}

// image is what the Dockerfile says of the image's last stage.
type image struct {
	entrypoint, cmd, healthcheck []string
	env                          map[string]string
	user                         string
}

// readDockerfile reads the instructions of the last stage that this test is about. Those in exec form are JSON.
func readDockerfile(t *testing.T) image {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	stages := regexp.MustCompile(`(?m)^FROM `).Split(string(content), -1)
	im := image{env: map[string]string{}}
	execForm := func(s string) (list []string) {
		if err := json.Unmarshal([]byte(s), &list); err != nil {
			t.Fatalf("Dockerfile: %q is not in exec form: %v", s, err)
		}
		return list
	}
	for line := range strings.Lines(stages[len(stages)-1]) {
		instruction, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch instruction {
		case "ENTRYPOINT":
			im.entrypoint = execForm(rest)
		case "CMD":
			im.cmd = execForm(rest)
		case "HEALTHCHECK":
			_, rest, _ = strings.Cut(rest, "CMD ")
			im.healthcheck = execForm(rest)
		case "USER":
			im.user = rest
		case "ENV":
			for pair := range strings.FieldsSeq(rest) {
				name, value, _ := strings.Cut(pair, "=")
				im.env[name] = value
			}
		}
	}
	return im
}

// TestImageIsBuiltOfAllItNeeds holds what the program is built of against what .dockerignore lets into the build.
func TestImageIsBuiltOfAllItNeeds(t *testing.T) {
	t.Parallel()
	f, err := os.Open(filepath.Join(root, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	patterns, err := ignorefile.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	list := exec.Command("go", "list", "-deps", "-f", `{{if not .Standard}}{{if .Module.Main}}{{$d := .Dir}}{{range .GoFiles}}{{$d}}/{{.}}
{{end}}{{range .EmbedFiles}}{{$d}}/{{.}}
{{end}}{{end}}{{end}}`, ".")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	files := []string{"go.mod", "go.sum", "cmd/signet/default.pgo"}
	for path := range strings.FieldsSeq(string(out)) {
		file, err := filepath.Rel(top, path)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	if len(files) < 100 {
		t.Fatalf("the program is built of %q", files)
	}
	for _, file := range files {
		if out, err := ignored.MatchesOrParentMatches(file); err != nil || out {
			t.Errorf(".dockerignore leaves out %s (%v)", file, err)
		}
	}
}

// loadCompose reads docker-compose.yml as Docker Compose does, with these variables.
func loadCompose(t *testing.T, env map[string]string) (*types.Project, error) {
	t.Helper()
	var list []string
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")}, cli.WithEnv(list))
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(t.Context())
}

// exampleEnv is .env.example with its secrets filled in.
func exampleEnv(t *testing.T) map[string]string {
	t.Helper()
	env, err := godotenv.Read(filepath.Join(root, ".env.example"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"SIGNET_SECRET", "POSTGRES_PASSWORD"} {
		if value, ok := env[name]; !ok || value != "" {
			t.Errorf(".env.example: %s must be there and empty, not %q", name, value)
		}
		env[name] = keys.NewSecret()
	}
	return env
}

func mustLoadCompose(t *testing.T) *types.Project {
	t.Helper()
	project, err := loadCompose(t, exampleEnv(t))
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestComposeAsksForSecrets(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"SIGNET_SECRET", "POSTGRES_PASSWORD"} {
		env := exampleEnv(t)
		env[name] = ""
		if _, err := loadCompose(t, env); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "make .env") {
			t.Errorf("without %s: got %v, want an error that names it and says what to do", name, err)
		}
	}
}

func TestMakeWritesEnv(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("make"); err != nil {
		t.Fatal("this test needs make: apt-get install make")
	}
	dir := t.TempDir()
	for _, name := range []string{"Makefile", ".env.example"} {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("make", "-s", ".env")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	env, err := godotenv.Read(filepath.Join(dir, ".env"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.ParseSecret(env["SIGNET_SECRET"]); err != nil {
		t.Errorf("SIGNET_SECRET: %v", err)
	}
	if len(env["POSTGRES_PASSWORD"]) < 32 || env["POSTGRES_PASSWORD"] == env["SIGNET_SECRET"] {
		t.Error("POSTGRES_PASSWORD is not a secret of its own")
	}
	if info, err := os.Stat(filepath.Join(dir, ".env")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf(".env: got mode %v (%v), want 0600", info.Mode(), err)
	}
	if _, err := loadCompose(t, env); err != nil {
		t.Error(err)
	}
}

func TestComposeIsHardened(t *testing.T) {
	t.Parallel()
	project, im := mustLoadCompose(t), readDockerfile(t)
	if len(project.Services) != len(replicas)+2 {
		t.Errorf("got services %v", project.ServiceNames())
	}
	for name, s := range project.Services {
		uid, _, _ := strings.Cut(s.User, ":")
		for what, ok := range map[string]bool{
			"read_only": s.ReadOnly, "cap_drop": slices.Equal(s.CapDrop, []string{"ALL"}), "cap_add": len(s.CapAdd) == 0,
			"privileged": !s.Privileged, "security_opt": slices.Contains(s.SecurityOpt, "no-new-privileges:true"),
			"user": regexp.MustCompile(`^[1-9][0-9]*$`).MatchString(uid), "restart": s.Restart == types.RestartPolicyUnlessStopped,
			"healthcheck":       s.HealthCheck != nil && !s.HealthCheck.Disable && len(s.HealthCheck.Test) > 1,
			"stop_grace_period": s.StopGracePeriod != nil && time.Duration(*s.StopGracePeriod) > 20*time.Second,
		} {
			if !ok {
				t.Errorf("%s: %s is not as it should be", name, what)
			}
		}
		if published := len(s.Ports) > 0; published != (name == "load-balancer") {
			t.Errorf("%s: got the published ports %v", name, s.Ports)
		}
		for other, dependency := range s.DependsOn {
			if dependency.Condition != types.ServiceConditionHealthy {
				t.Errorf("%s starts before %s is healthy", name, other)
			}
		}
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind {
				if _, err := os.Stat(v.Source); err != nil || !v.ReadOnly {
					t.Errorf("%s mounts %s: it must be there and read-only (%v)", name, v.Source, err)
				}
			}
		}
	}
	for _, port := range project.Services["load-balancer"].Ports {
		if port.HostIP != "127.0.0.1" {
			t.Errorf("plain HTTP is published at %q", port.HostIP)
		}
	}

	balancer, err := os.ReadFile(filepath.Join(root, "deploy", "haproxy.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range replicas {
		s := project.Services[name]
		if s.User != im.user || s.Entrypoint != nil || s.Command != nil {
			t.Errorf("%s: got user %q, entrypoint %q, command %q; want the image's", name, s.User, s.Entrypoint, s.Command)
		}
		if want := append([]string{"CMD"}, im.healthcheck...); s.HealthCheck == nil || !slices.Equal(s.HealthCheck.Test, want) {
			t.Errorf("%s: the health check is not the image's, %q", name, want)
		}
		subnet := project.Networks["front"].Ipam.Config[0].Subnet
		if trusted := s.Environment["SIGNET_TRUSTED_PROXIES"]; trusted == nil || *trusted != subnet {
			t.Errorf("%s trusts %v; the load balancer is in %s", name, trusted, subnet)
		}
		_, port, _ := strings.Cut(im.env["SIGNET_LISTEN"], ":")
		if server := fmt.Sprintf("server %s %s:%s\n", name, name, port); !bytes.Contains(balancer, []byte(server)) {
			t.Errorf("deploy/haproxy.cfg has no line %q", server)
		}
		if _, reachable := s.Networks["front"]; !reachable {
			t.Errorf("%s is not in the load balancer's network", name)
		}
	}
	if _, reachable := project.Services["postgres"].Networks["front"]; reachable || !project.Networks["back"].Internal {
		t.Error("the database can be reached from elsewhere than Signet")
	}
	if !bytes.Contains(balancer, []byte("http-request set-header X-Forwarded-For %[src]\n")) {
		t.Error("deploy/haproxy.cfg lets clients say what their address is")
	}
}

// container is a replica as docker-compose.yml describes it, run as a process: the image's command, the service's
// environment and nothing of this one's. Only what must differ where all of it is on one machine was rewritten: the ports
// that it listens on, and host, user and name of the database.
type container struct {
	binary string
	image  image
	env    map[string]string
	dir    string
}

func newContainer(t *testing.T, s types.ServiceConfig, im image, binary, database string) *container {
	t.Helper()
	c := &container{binary: binary, image: im, env: maps.Clone(im.env), dir: t.TempDir()}
	for name, value := range s.Environment {
		if value != nil {
			c.env[name] = *value
		}
	}
	for _, name := range []string{"SIGNET_LISTEN", "SIGNET_MANAGEMENT_LISTEN"} {
		host, _, err := net.SplitHostPort(c.env[name])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c.env[name] = net.JoinHostPort(host, freePort(t))
	}
	configured, err := url.Parse(c.env["SIGNET_DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	there, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	configured.Host, configured.User, configured.Path = there.Host, there.User, there.Path
	c.env["SIGNET_DATABASE_URL"] = configured.String()
	return c
}

// command returns what runs when the container is asked to run args, the first of which is the image's entrypoint.
func (c *container) command(t *testing.T, args []string) *exec.Cmd {
	t.Helper()
	if len(args) == 0 || len(c.image.entrypoint) != 1 || args[0] != c.image.entrypoint[0] {
		t.Fatalf("%q does not run the image's entrypoint %q", args, c.image.entrypoint)
	}
	cmd := exec.Command(c.binary, args[1:]...)
	cmd.Dir = c.dir
	cmd.Env = []string{}
	for name, value := range c.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// url is that of a listener.
func (c *container) url(t *testing.T, listener, path string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(c.env[listener])
	if err != nil {
		t.Fatal(err)
	}
	return "http://127.0.0.1:" + port + path
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// start runs the container's command and returns what stops it as Docker does, and checks that it exits with 0.
func (c *container) start(t *testing.T) (stop func()) {
	t.Helper()
	var log bytes.Buffer
	cmd := c.command(t, slices.Concat(c.image.entrypoint, c.image.cmd))
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var result error
	exited := make(chan struct{})
	go func() {
		result = cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // if it still runs
		<-exited
		if t.Failed() {
			t.Logf("the replica's log:\n%s", log.String())
		}
	})
	return func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select {
		case <-exited:
			if result != nil {
				t.Errorf("after SIGTERM: %v", result)
			}
		case <-time.After(30 * time.Second):
			t.Error("it does not stop")
		}
	}
}

// awaitHealthy runs the health check until it says 0.
func (c *container) awaitHealthy(t *testing.T, check []string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		out, err := c.command(t, check).CombinedOutput()
		if err == nil {
			return
		}
		if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 || time.Now().After(deadline) {
			t.Fatalf("the health check: %v\n%s", err, out)
		}
	}
}

func TestComposeDeployment(t *testing.T) {
	t.Parallel()
	project, im, database := mustLoadCompose(t), readDockerfile(t), storagetest.Postgres(t)

	var containers []*container
	var stops []func()
	for _, name := range replicas { // both at once, on an empty database
		c := newContainer(t, project.Services[name], im, binary(t), database)
		if out, err := c.command(t, project.Services[name].HealthCheck.Test[1:]).CombinedOutput(); err == nil {
			t.Errorf("the health check of %s succeeds before it runs\n%s", name, out)
		}
		containers, stops = append(containers, c), append(stops, c.start(t))
	}
	for i, name := range replicas {
		containers[i].awaitHealthy(t, project.Services[name].HealthCheck.Test[1:])
	}
	first, second := containers[0], containers[1]

	var client struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	// As in docker compose exec signet-1 …
	out, err := first.command(t, append(im.entrypoint, "client", "create", "--name", "Job", "--grant", "client_credentials", "--scope", "read", "-o", "json")).Output()
	if err == nil {
		err = json.Unmarshal(out, &client)
	}
	if err != nil {
		t.Fatalf("client create: %v\n%s", err, out)
	}
	var issued struct {
		AccessToken string `json:"access_token"`
	}
	post(t, first.url(t, "SIGNET_LISTEN", "/token"), client.ID, client.Secret, url.Values{"grant_type": {"client_credentials"}}, &issued)
	var introspection struct {
		Active bool   `json:"active"`
		Issuer string `json:"iss"`
	}
	post(t, second.url(t, "SIGNET_LISTEN", "/introspect"), client.ID, client.Secret, url.Values{"token": {issued.AccessToken}}, &introspection)
	if !introspection.Active || introspection.Issuer != first.env["SIGNET_ISSUER"] {
		t.Errorf("the second replica says of the first one's token: %+v", introspection)
	}
	for listener, want := range map[string]int{"SIGNET_LISTEN": http.StatusNotFound, "SIGNET_MANAGEMENT_LISTEN": http.StatusOK} {
		res, err := http.Get(second.url(t, listener, "/metrics"))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("/metrics at %s: got %d, want %d", listener, res.StatusCode, want)
		}
	}

	for i, stop := range stops {
		stop()
		left, err := os.ReadDir(containers[i].dir)
		if err != nil || len(left) > 0 {
			t.Errorf("%s wrote %v (%v); its disk is read-only", replicas[i], left, err)
		}
	}
}

// post sends a form with HTTP Basic authentication and reads the answer, which must be 200.
func post(t *testing.T, to, user, password string, form url.Values, answer any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(user), url.QueryEscape(password))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	if err == nil {
		err = json.Unmarshal(body, answer)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", to, err, body)
	}
}

// systemd starts the service again after a crash, which ends a program in Go with the same status as wrong usage.
func TestUnitRestarts(t *testing.T) {
	t.Parallel()
	unit, err := os.ReadFile(filepath.Join(root, "deploy/systemd/signet.service"))
	if err != nil {
		t.Fatal(err)
	}
	if text := string(unit); !strings.Contains(text, "\nRestart=on-failure\n") || strings.Contains(text, "RestartPreventExitStatus=") {
		t.Error("the unit does not say so")
	}
}
