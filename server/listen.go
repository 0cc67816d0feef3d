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
}

// Listen opens the sockets. With a certificate the public one speaks TLS; the files are read again when they change. An empty
// management address opens none.
func Listen(ctx context.Context, public, management, certFile, keyFile string) (Listeners, error) {
	var lc net.ListenConfig
	var l Listeners
	var err error
	if l.Public, err = lc.Listen(ctx, "tcp", public); err != nil {
		return Listeners{}, fmt.Errorf("SIGNET_LISTEN: %w", err)
	}
	if certFile != "" {
		cert := &certificate{certFile: certFile, keyFile: keyFile}
		if _, err := cert.get(nil); err != nil {
			_ = l.Public.Close()
			return Listeners{}, fmt.Errorf("SIGNET_TLS_CERT, SIGNET_TLS_KEY: %w", err)
		}
		l.Public = tls.NewListener(l.Public, &tls.Config{
			MinVersion: tls.VersionTLS12, GetCertificate: cert.get, NextProtos: []string{"h2", "http/1.1"},
		})
	}
	if management != "" {
		if l.Management, err = lc.Listen(ctx, "tcp", management); err != nil {
			_ = l.Public.Close()
			return Listeners{}, fmt.Errorf("SIGNET_MANAGEMENT_LISTEN: %w", err)
		}
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

	mu      sync.Mutex
	loaded  *tls.Certificate
	modTime [2]time.Time
	checked time.Time
}

// certCheckInterval is how often the files are looked at, at the most.
const certCheckInterval = time.Second

// get is a tls.Config's GetCertificate. Files that cannot be read, or do not fit together because one of them was replaced
// a moment ago, leave the certificate before in use.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loaded != nil && time.Since(c.checked) < certCheckInterval {
		return c.loaded, nil
	}
	c.checked = time.Now()
	modTime, err := modTimes(c.certFile, c.keyFile)
	if err == nil && modTime != c.modTime {
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(c.certFile, c.keyFile); err == nil {
			c.loaded, c.modTime = &pair, modTime
		}
	}
	if c.loaded != nil {
		return c.loaded, nil
	}
	return nil, err
}

func modTimes(certFile, keyFile string) (times [2]time.Time, err error) {
	for i, name := range []string{certFile, keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return times, err
		}
		times[i] = info.ModTime()
	}
	return times, nil
}
