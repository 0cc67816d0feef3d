package server_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"signet/clients"
	"signet/keys"
	"signet/mail"
	"signet/server"
	"signet/server/oauth"
	"signet/server/pages"
	"signet/tokens"
)

// noDatabase is a database that is always there.
type noDatabase struct{ server.Database }

func (noDatabase) Ping(context.Context) error            { return nil }
func (noDatabase) PoolStats() (a, b, c int, waits int64) { return 0, 0, 0, 0 }

// bare returns a server without services, which logs to w: what is tested here is around its handlers.
func bare(w io.Writer) *server.Server {
	log := slog.New(slog.NewTextHandler(w, nil))
	k := keys.New(nil, keys.Config{}, log)
	look, err := pages.New(pages.Config{Issuer: issuer})
	if err != nil {
		panic(err)
	}
	return server.New(server.Config{Pages: look}, noDatabase{}, oauth.Services{
		Mails: mail.New(nil, nil, mail.Config{}, log), Clients: clients.New(nil, clients.Config{}, log), Tokens: tokens.New(nil, k, nil, tokens.Config{Issuer: issuer}, log), Keys: k,
	}, log)
}

// served is a server that Serve is running.
type served struct {
	listeners server.Listeners
	stop      context.CancelFunc
	done      chan error
}

func serve(t *testing.T, public http.Handler, certFile, keyFile string, log io.Writer) *served {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	l, err := server.Listen(ctx, "127.0.0.1:0", "127.0.0.1:0", certFile, keyFile)
	check(t, err)
	s := bare(log)
	run := &served{listeners: l, stop: stop, done: make(chan error, 1)}
	if public == nil {
		public = s.Public()
	}
	go func() { run.done <- s.Serve(ctx, l, public, s.Management()) }()
	return run
}

func (s *served) address() string { return s.listeners.Public.Addr().String() }

func (s *served) ended(t *testing.T) {
	t.Helper()
	select {
	case err := <-s.done:
		check(t, err)
	case <-time.After(30 * time.Second):
		t.Fatal("the server does not stop")
	}
}

// leakFree checks at its end that the test left no goroutine behind. Such a test is not parallel: others would start some.
func leakFree(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

func TestServeAndShutdown(t *testing.T) {
	leakFree(t)
	s := serve(t, nil, "", "", io.Discard)
	c := &http.Client{Transport: &http.Transport{}}
	for _, url := range []string{"http://" + s.address() + "/livez", "http://" + s.listeners.Management.Addr().String() + "/livez"} {
		res, err := c.Get(url)
		check(t, err)
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", url, res.StatusCode)
		}
	}
	s.stop()
	s.ended(t)
	if res, err := c.Get("http://" + s.address() + "/livez"); err == nil {
		_ = res.Body.Close()
		t.Error("it still answers")
	}
	c.CloseIdleConnections()
}

func TestShutdownDrains(t *testing.T) {
	leakFree(t)
	arrived, finish := make(chan struct{}), make(chan struct{})
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-finish
		if r.Context().Err() != nil {
			http.Error(w, "cancelled", http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, "finished")
	}), "", "", io.Discard)
	c := &http.Client{Transport: &http.Transport{}}
	type result struct {
		body string
		err  error
	}
	answered := make(chan result, 1)
	go func() {
		res, err := c.Get("http://" + s.address())
		if err != nil {
			answered <- result{err: err}
			return
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		answered <- result{string(body), err}
	}()
	<-arrived
	s.stop()
	// The listener is closed while the request is in flight, and the management listener tells that it is going.
	for {
		conn, err := net.Dial("tcp", s.address())
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	res, err := c.Get("http://" + s.listeners.Management.Addr().String() + "/readyz")
	check(t, err)
	body, err := io.ReadAll(res.Body)
	check(t, err)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), `"server":"shutting down"`) {
		t.Errorf("readyz while it drains: %d %s", res.StatusCode, body)
	}
	select {
	case err := <-s.done:
		t.Fatalf("it did not wait for the request: %v", err)
	default:
	}
	close(finish)
	if got := <-answered; got.err != nil || got.body != "finished" {
		t.Errorf("the request in flight: %q, %v", got.body, got.err)
	}
	s.ended(t)
	c.CloseIdleConnections()
}

// Serve returns what made it stop, where that was not the caller.
func TestServeTellsOfAFailure(t *testing.T) {
	leakFree(t)
	ctx := t.Context()
	l, err := server.Listen(ctx, "127.0.0.1:0", "", "", "")
	check(t, err)
	check(t, l.Public.Close())
	s := bare(io.Discard)
	if err := s.Serve(ctx, l, s.Public(), s.Management()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want what became of the listener", err)
	}
}

func TestListenErrors(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer taken.Close()
	dir := t.TempDir()
	writeCertificate(t, dir, "one")
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for _, c := range []struct {
		names, public, management, cert, key string
	}{
		{"SIGNET_LISTEN", taken.Addr().String(), "", "", ""},
		{"SIGNET_LISTEN", "nonsense", "", "", ""},
		{"port of 0 to 65535", "127.0.0.1:99999", "", "", ""},
		{`SIGNET_MANAGEMENT_LISTEN: "127.0.0.1:-1" must be`, "127.0.0.1:0", "127.0.0.1:-1", "", ""},
		{"SIGNET_MANAGEMENT_LISTEN", "127.0.0.1:0", taken.Addr().String(), "", ""},
		{"SIGNET_TLS_CERT", "127.0.0.1:0", "", filepath.Join(dir, "missing.pem"), key},
		{"SIGNET_TLS_KEY", "127.0.0.1:0", "", cert, cert},
	} {
		if _, err := server.Listen(ctx, c.public, c.management, c.cert, c.key); err == nil || !strings.Contains(err.Error(), c.names) {
			t.Errorf("got %v, want an error that names %s", err, c.names)
		}
	}
}

// writeCertificate puts a certificate for 127.0.0.1 and its key into the directory.
func writeCertificate(t *testing.T, dir, name string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	check(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
}

func TestTLS(t *testing.T) {
	leakFree(t)
	dir := t.TempDir()
	writeCertificate(t, dir, "one")
	var log journal
	s := serve(t, nil, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), &log)
	shown := func() string {
		conn, err := tls.Dial("tcp", s.address(), &tls.Config{InsecureSkipVerify: true})
		check(t, err)
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := shown(); got != "one" {
		t.Errorf("it shows the certificate %q", got)
	}
	c := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	res, err := c.Get("https://" + s.address() + "/livez")
	check(t, err)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK || res.ProtoMajor != 2 {
		t.Errorf("got %d over %s, want 200 over HTTP/2", res.StatusCode, res.Proto)
	}
	if _, err := tls.Dial("tcp", s.address(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}

	writeCertificate(t, dir, "two")
	deadline, look := time.After(30*time.Second), time.NewTicker(50*time.Millisecond)
	defer look.Stop()
	for shown() != "two" {
		select {
		case <-deadline:
			t.Fatal("the certificate that replaced the first one is not shown")
		case <-look.C:
		}
	}
	check(t, os.WriteFile(filepath.Join(dir, "cert.pem"), []byte("half a file"), 0o600))
	for checked := time.Now(); time.Since(checked) < 2500*time.Millisecond; <-look.C {
		if got := shown(); got != "two" {
			t.Fatalf("with a file that cannot be read it shows %q", got)
		}
	}
	if n := strings.Count(log.String(), "WARN"); n != 1 {
		t.Errorf("%d warnings, want one for the change:\n%s", n, &log)
	}
	check(t, os.Remove(filepath.Join(dir, "key.pem")))
	for strings.Count(log.String(), "WARN") < 2 {
		select {
		case <-deadline:
			t.Fatal("nothing is logged of a file that is gone")
		case <-look.C:
			shown()
		}
	}
	c.CloseIdleConnections()
	s.stop()
	s.ended(t)
}

// Who does not finish a header is shown the door, and one that is too long is not read.
func TestHeaderLimits(t *testing.T) {
	t.Parallel()
	s := serve(t, nil, "", "", io.Discard)
	slow, err := net.Dial("tcp", s.address())
	check(t, err)
	defer slow.Close()
	_, err = io.WriteString(slow, "POST /token HTTP/1.1\r\nHost: a\r\nX-Slow: ")
	check(t, err)
	long, err := net.Dial("tcp", s.address())
	check(t, err)
	defer long.Close()
	go func() {
		_, _ = io.WriteString(long, "GET /livez HTTP/1.1\r\nHost: a\r\nX-Long: "+strings.Repeat("a", 1<<20)+"\r\n\r\n")
	}()
	line, _ := bufio.NewReader(long).ReadString('\n')
	if !strings.Contains(line, "431") {
		t.Errorf("a header of a megabyte is answered %q, want 431", line)
	}
	check(t, slow.SetReadDeadline(time.Now().Add(20*time.Second)))
	if _, err := io.ReadAll(slow); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a header that never ends is waited for")
	}
	s.stop()
	s.ended(t)
}
