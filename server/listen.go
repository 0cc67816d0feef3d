package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// Limits of every connection. Bodies are bounded by the endpoints.
const (
	headerTimeout  = 5 * time.Second
	readTimeout    = 15 * time.Second
	writeTimeout   = 30 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 32 << 10

	// drainTimeout is how long requests in flight may take after the order to stop.
	drainTimeout = 20 * time.Second
)

// Listeners are the open sockets that Serve accepts on.
type Listeners struct {
	Public     net.Listener
	Management net.Listener // may be nil

	certificate *certificate // that Public shows; nil without TLS
}

// Listen opens the sockets. With a certificate the public one speaks TLS; the files are read again when they change. An empty
// management address opens none.
func Listen(ctx context.Context, public, management, certFile, keyFile string) (Listeners, error) {
	var l Listeners
	var err error
	if l.Public, err = listen(ctx, "SIGNET_LISTEN", public); err != nil {
		return Listeners{}, err
	}
	if certFile != "" {
		l.certificate = &certificate{certFile: certFile, keyFile: keyFile}
		if _, err := l.certificate.get(nil); err != nil {
			_ = l.Public.Close()
			return Listeners{}, fmt.Errorf("SIGNET_TLS_CERT, SIGNET_TLS_KEY: %w", err)
		}
		l.Public = tls.NewListener(l.Public, &tls.Config{
			MinVersion: tls.VersionTLS12, GetCertificate: l.certificate.get, NextProtos: []string{"h2", "http/1.1"},
		})
	}
	if management != "" {
		if l.Management, err = listen(ctx, "SIGNET_MANAGEMENT_LISTEN", management); err != nil {
			_ = l.Public.Close()
			return Listeners{}, err
		}
	}
	return l, nil
}

func listen(ctx context.Context, setting, address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if malformed := (*net.AddrError)(nil); errors.As(err, &malformed) {
		return nil, fmt.Errorf("%s: %q must be host:port with a port of 0 to 65535", setting, address)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return l, nil
}

// Serve answers requests until ctx ends, and for the drain delay after that, so that load balancers notice that it is to stop. Then it
// stops accepting, lets the requests in flight finish, and returns. There is no delay where the context's cause is an error.
func (s *Server) Serve(ctx context.Context, l Listeners, public, management http.Handler) error {
	errorLog := slog.NewLogLogger(s.log.Handler(), slog.LevelDebug) // what strangers send is no error of ours
	newServer := func(h http.Handler) *http.Server {
		return &http.Server{
			Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
			IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes, ErrorLog: errorLog,
		}
	}
	if l.certificate != nil {
		l.certificate.log = s.log
	}
	failed := make(chan error, 2)
	var serving sync.WaitGroup
	start := func(srv *http.Server, l net.Listener) {
		serving.Go(func() {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	pub, man := newServer(public), newServer(management)
	start(pub, l.Public)
	if l.Management != nil {
		start(man, l.Management)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.draining.Store(true)
	if err == nil && errors.Is(context.Cause(ctx), context.Canceled) {
		if s.cfg.DrainDelay > 0 {
			s.log.InfoContext(ctx, "stopping; a second signal ends it at once", "drain_delay", s.cfg.DrainDelay.String())
		}
		select {
		case <-time.After(s.cfg.DrainDelay):
		case err = <-failed:
		}
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	// The management listener goes last: it tells, as long as there is something to tell.
	for _, srv := range []*http.Server{pub, man} {
		if shutdownErr := srv.Shutdown(drain); shutdownErr != nil {
			_ = srv.Close()
			err = errors.Join(err, fmt.Errorf("requests were still in flight after %s: %w", drainTimeout, shutdownErr))
		}
	}
	serving.Wait()
	return err
}

// certificate is a TLS certificate in two files that may be replaced while the server runs.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger // Serve's

	mu      sync.Mutex
	loaded  *tls.Certificate
	modTime [2]time.Time // of the files that it was loaded from
	refused [2]time.Time // of those that could not be loaded
	checked time.Time
}

// certCheckInterval is how often the files are looked at, at the most.
const certCheckInterval = time.Second

// get is a tls.Config's GetCertificate. Files that cannot be read, or do not fit together because one of them was replaced
// a moment ago, leave the certificate before in use.
func (c *certificate) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loaded != nil && time.Since(c.checked) < certCheckInterval {
		return c.loaded, nil
	}
	c.checked = time.Now()
	modTime := modTimes(c.certFile, c.keyFile)
	if c.loaded != nil && modTime == c.modTime {
		return c.loaded, nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	switch {
	case err == nil:
		c.loaded, c.modTime, c.refused = &pair, modTime, modTime
	case c.loaded == nil:
		return nil, err
	case modTime != c.refused: // once for each change, not at each look
		c.refused = modTime
		c.log.WarnContext(hello.Context(), "SIGNET_TLS_CERT, SIGNET_TLS_KEY: the new certificate cannot be loaded; the one before stays in use", "error", err)
	}
	return c.loaded, nil
}

// modTimes are when the files were changed; zero for one that is not there.
func modTimes(names ...string) (times [2]time.Time) {
	for i, name := range names {
		if info, err := os.Stat(name); err == nil {
			times[i] = info.ModTime()
		}
	}
	return times
}
