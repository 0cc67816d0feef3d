package interop

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const apacheModules = "/usr/lib/apache2/modules"

// apache starts Debian's Apache, as a relying party of the client whose pages below /secure/ are for those who are logged in. They
// tell who that is in the header X-User.
func (s *signet) apache(t *testing.T, addr, id, secret string) (url string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "signet-apache-") // which the server's own user can read, unlike the test's
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o755))                                 //nolint:gosec // likewise
	check(t, os.MkdirAll(filepath.Join(dir, "www/secure"), 0o755)) //nolint:gosec // likewise
	for path, text := range map[string]string{"www/index.html": "home", "www/secure/index.html": "inside"} {
		check(t, os.WriteFile(filepath.Join(dir, path), []byte(text), 0o644)) //nolint:gosec // likewise
	}
	url = "http://" + addr
	var conf strings.Builder
	for _, module := range []string{"mpm_event", "authn_core", "authz_core", "authz_user", "dir", "headers", "auth_openidc"} {
		fmt.Fprintf(&conf, "LoadModule %s_module %s/mod_%s.so\n", module, apacheModules, module)
	}
	if os.Getuid() == 0 {
		conf.WriteString("User www-data\nGroup www-data\n")
	}
	fmt.Fprintf(&conf, `
ServerRoot %[1]s
ServerName 127.0.0.1
Listen %[2]s
PidFile %[1]s/pid
Mutex file:%[1]s
ErrorLog %[1]s/errors
DocumentRoot %[1]s/www
DirectoryIndex index.html
StartServers 1

OIDCProviderMetadataURL %[3]s/.well-known/openid-configuration
OIDCClientID %[4]s
OIDCClientSecret %[5]s
OIDCRedirectURI http://%[2]s/secure/callback
OIDCCryptoPassphrase "what its cookies are sealed with"
OIDCScope "openid profile"
OIDCPKCEMethod S256
OIDCRemoteUserClaim preferred_username

<Location /secure/>
  AuthType openid-connect
  Require valid-user
  Header set X-User expr=%%{REMOTE_USER}
</Location>
`, dir, addr, s.url, id, secret)
	path := filepath.Join(dir, "apache.conf")
	check(t, os.WriteFile(path, []byte(conf.String()), 0o644)) //nolint:gosec // likewise
	cmd := exec.Command("/usr/sbin/apache2", "-f", path, "-DFOREGROUND")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			errors, _ := os.ReadFile(filepath.Join(dir, "errors"))
			t.Logf("Apache: %s%s", out.String(), errors)
		}
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if res, err := http.Get(url); err == nil {
			_ = res.Body.Close()
			return url
		}
		if time.Now().After(deadline) {
			t.Fatal("Apache does not answer")
		}
	}
}

func TestModAuthOpenIDC(t *testing.T) {
	t.Parallel()
	s := start(t, "ES256", "SIGNET_FETCH_ALLOW=127.0.0.0/8") // Apache is at a loopback address, to which Signet sends nothing otherwise
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	addr := l.Addr().String()
	check(t, l.Close())
	app := "http://" + addr
	id, secret := s.register(t, "--name", "Apache", "--redirect-uri", app+"/secure/callback", "--post-logout-redirect-uri", app+"/",
		"--backchannel-logout-uri", app+"/secure/callback?logout=backchannel")
	s.apache(t, addr, id, secret)
	b := newBrowser(t, "")
	inside := func(p page) bool { return p.body == "inside" && p.header.Get("X-User") == username }
	asked := func() page {
		t.Helper()
		p := b.open(t, app+"/secure/")
		if !p.fields.Has("password") {
			t.Fatalf("nobody is asked who they are: %d %s", p.status, p.body)
		}
		return p
	}

	if p := b.obey(t, asked()); !inside(p) {
		t.Fatalf("logged in: %d %v %s", p.status, p.header, p.body)
	}
	if p := b.open(t, app+"/secure/"); !inside(p) {
		t.Fatalf("once more: %d %s", p.status, p.body)
	}

	// From here: Apache ends its session, and the login at Signet.
	if p := b.open(t, app+"/secure/callback?logout="+app+"/"); p.body != "home" {
		t.Fatalf("logged out: %s %d %s", p.url, p.status, p.body)
	}

	// From there: the login ends at Signet, and Apache is told.
	if p := b.obey(t, asked()); !inside(p) {
		t.Fatalf("logged in again: %d %s", p.status, p.body)
	}
	s.run(t, "", "user", "logout", username)
	for deadline := time.Now().Add(patience); inside(b.open(t, app+"/secure/")); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("Apache is not told that the user has logged out")
		}
	}
	asked()
}
