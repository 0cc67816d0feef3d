package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/semconv/v1.37.0"

	"signet/activity"
	"signet/keys"
	"signet/server"
	"signet/server/oauth"
	"signet/server/pages"
	"signet/server/playground"
	"signet/users"
)

func serveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "serve", Short: "Run the server", Args: cobra.NoArgs,
		Long: "Run the server, until SIGTERM or an interrupt: then it goes on for SIGNET_DRAIN_DELAY while /readyz says 503, and requests in\nflight are finished. A second signal ends it at once.\n\n" + settingsHelp(),
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig()
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, nil)
		}),
	}
}

// serve runs the server until ctx ends. Once it can serve it calls ready, if that is not nil.
func serve(ctx context.Context, cfg config, ready func(context.Context, *app) error) (err error) {
	paceGarbage()
	log := cfg.logger()
	for _, name := range cfg.unknown {
		log.WarnContext(ctx, "unknown setting; signet serve --help lists them all", "name", name)
	}
	tracing, tracer, err := startTracing(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tracing()) }()

	if err := cfg.needMailer(); err != nil {
		return err
	}
	a, err := newApp(ctx, cfg, log, tracer)
	if err != nil {
		return err
	}
	defer a.store.Close()
	defer a.caller.Close()
	counter := activity.NewCounter(a.store, log)
	look, err := cfg.pages(a.mails.Enabled(), a.mails.Enabled() && a.users.SignUp() != users.SignUpOff)
	if err != nil {
		return err
	}
	var play *playground.Playground
	if cfg.playground != nil {
		play = playground.New(*cfg.playground, look)
	}
	s := server.New(server.Config{
		TrustedProxies: []netip.Prefix(cfg.TrustedProxies), CORSOrigins: cfg.CORSOrigins, CookieDomain: cfg.CookieDomain,
		Pages: look, Playground: play, DrainDelay: time.Duration(cfg.DrainDelay), Activity: counter,
	}, a.store, oauth.Services{
		Clients: a.clients, Users: a.users, Tokens: a.tokens, Keys: a.keys, Logins: a.logins, Authorizations: a.authorizations, Mails: a.mails, Proofs: a.proofs,
	}, log)
	listeners, err := server.Listen(ctx, cfg.Listen, cfg.ManagementListen, cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		return err
	}

	// The listeners answer from the start, with 503 while there is no database. What runs beside them ends with them.
	ctx, cancel := context.WithCancelCause(ctx)
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var working sync.WaitGroup
	working.Go(func() {
		booted, err := a.boot(background)
		if booted && ready != nil {
			err = ready(background, a)
		}
		if err != nil {
			cancel(err)
		}
		if err != nil || !booted {
			return
		}
		log.InfoContext(ctx, "ready", "issuer", cfg.Issuer, "listen", listeners.Public.Addr().String())
		if !cfg.issuerGiven && !strings.HasSuffix(cfg.Listen, cfg.Issuer[strings.LastIndexByte(cfg.Issuer, ':'):]) {
			log.WarnContext(ctx, "SIGNET_ISSUER is not set: apps are sent to another port than this server's; set it to where they reach this one",
				"issuer", cfg.Issuer, "listen", cfg.Listen)
		}
		working.Go(func() { a.keys.Follow(background) })
		working.Go(func() { a.tokens.Watch(background, s.Interrupted) })
		working.Go(func() { a.tokens.TellOfLogouts(background, a.clients, a.caller) })
		if a.mails.Enabled() {
			working.Go(func() { a.mails.Follow(background) })
		}
		working.Go(func() { a.reseal(background) })
		working.Go(func() { a.keepClean(background) })
		working.Go(func() { counter.Follow(background) })
	})
	public := s.Public()
	if tracer != nil {
		public = otelhttp.NewHandler(public, "signet")
	}
	err = s.Serve(ctx, listeners, public, s.Management())
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = errors.Join(cause, err)
	}
	stop()
	working.Wait()
	cancel(nil)
	if err == nil { // else the error is the one line that says so
		log.InfoContext(ctx, "stopped")
	}
	return err
}

// pages makes the pages that people see. Only with mails can they ask for links, and sign up.
func (c *config) pages(mails, signUp bool) (*pages.Pages, error) {
	return pages.New(pages.Config{
		Issuer: c.Issuer, BrandName: c.BrandName, BrandLogo: c.BrandLogo, BrandColor: c.BrandColor, Mail: mails, SignUp: signUp,
	})
}

// reseal seals the secrets of authenticator apps under the current SIGNET_SECRET, where they are sealed under the one before.
func (a *app) reseal(ctx context.Context) {
	n, err := a.logins.Reseal(ctx)
	if err != nil && ctx.Err() == nil {
		a.log.ErrorContext(ctx, "cannot seal the secrets of authenticator apps anew; the next start tries again", "error", err)
	}
	if n > 0 {
		a.log.InfoContext(ctx, "secrets of authenticator apps are sealed under the current SIGNET_SECRET", "count", n)
	}
}

// boot makes the database ready and loads the signing keys, for as long as that takes. It returns false if the server was
// told to stop before that, or, with an error, if waiting would not help.
func (a *app) boot(ctx context.Context) (bool, error) {
	const firstPause, longestPause, silence = 200 * time.Millisecond, 5 * time.Second, 30 * time.Second
	said, when := "", time.Time{}
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := a.prepareSchema(ctx)
		if err == nil {
			err = a.keys.Load(ctx)
		}
		if err == nil || errors.Is(err, keys.ErrWrongSecret) {
			return err == nil, err
		}
		if ctx.Err() != nil {
			return false, nil
		}
		if err.Error() != said || time.Since(when) > silence {
			said, when = err.Error(), time.Now()
			a.log.WarnContext(ctx, "waiting for the database", "error", oneLine(unusable(err)))
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-time.After(pause):
		}
	}
}

// startTracing exports traces if OTEL_EXPORTER_OTLP_ENDPOINT says where to, and returns what ends it. The tracer of database
// statements is nil if it does not.
func startTracing(ctx context.Context) (stop func() error, tracer pgx.QueryTracer, err error) {
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" {
		return func() error { return nil }, nil, nil
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
	}
	service, err := resource.New(ctx, resource.WithAttributes(semconv.ServiceName("signet")), resource.WithFromEnv())
	if err != nil {
		return nil, nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(service))
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return provider.Shutdown(ctx)
	}, otelpgx.NewTracer(), nil
}
