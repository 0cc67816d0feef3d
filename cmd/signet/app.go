package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/term"

	"signet/audit"
	"signet/authorizations"
	"signet/clients"
	"signet/fetch"
	"signet/keys"
	"signet/logins"
	"signet/mail"
	"signet/proofs"
	"signet/storage"
	"signet/tokens"
	"signet/users"
)

// app is the domain's services, wired to the configured database.
type app struct {
	cfg     config
	log     *slog.Logger
	store   storage.Store
	clients *clients.Service
	users   *users.Service
	keys    *keys.Service
	tokens  *tokens.Service

	logins         *logins.Service
	authorizations *authorizations.Service
	mails          *mail.Service
	proofs         *proofs.Service
	caller         *fetch.Client // of what clients name
}

// newApp wires the services. Postgres is not connected to yet. The tracer may be nil.
func newApp(ctx context.Context, cfg config, log *slog.Logger, tracer pgx.QueryTracer) (*app, error) {
	slog.SetDefault(log) // for what has none of its own to say something in
	if err := cfg.needSecret(); err != nil {
		return nil, err
	}
	mailer, err := cfg.mailer()
	if err != nil {
		return nil, err
	}
	store, err := storage.Open(ctx, cfg.DatabaseURL, tracer)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.databaseSetting, err)
	}
	a := &app{cfg: cfg, log: log, store: store, caller: fetch.New(fetch.Policy(cfg.FetchAllow), version)}
	known := clients.Config{
		AllowHTTP: fetch.Policy(cfg.FetchAllow).AllowsHTTP, Registration: clients.RegistrationMode(cfg.Registration),
		Issuer: cfg.Issuer, RegistrationScopes: clients.Scope(cfg.RegistrationScopes), RegistrationAudiences: cfg.RegistrationAudiences,
	}
	if cfg.ClientDocuments {
		known.Documents = a.caller
	}
	a.clients = clients.New(store, known, log)
	a.users = users.New(store, users.Config{
		Secret: cfg.secret, MaxFailures: cfg.LoginMaxFailures, Window: time.Duration(cfg.LoginWindow),
		SignUp: users.SignUp(cfg.SignUp),
	}, log)
	a.mails = mail.New(store, a.users, mail.Config{Issuer: cfg.Issuer, Brand: cfg.BrandName, Sender: mailer}, log)
	a.keys = keys.New(store, keys.Config{
		Secret: cfg.secret, Algorithm: keys.Algorithm(cfg.SigningAlg), SigningSecret: []byte(cfg.SigningSecret),
		TokenTTL: time.Duration(cfg.AccessTTL), HintTTL: time.Duration(cfg.SessionTTL), RotateEvery: time.Duration(cfg.KeyRotation),
		Wanted: a.signingNeeds,
	}, log)
	a.logins = logins.New(store, logins.Config{
		Secret: cfg.secret, StayTTL: time.Duration(cfg.LoginTTL), Issuer: cfg.Issuer, Brand: cfg.BrandName, Policy: logins.Policy(cfg.SecondFactor),
		MaxFailures: cfg.LoginMaxFailures, Window: time.Duration(cfg.LoginWindow),
	}, log)
	a.authorizations = authorizations.New(store, cfg.secret, log)
	a.tokens = tokens.New(store, a.keys, a.authorizations, tokens.Config{
		Issuer: cfg.Issuer, Secret: cfg.secret, AccessTTL: time.Duration(cfg.AccessTTL), RefreshTTL: time.Duration(cfg.RefreshTTL),
		SessionTTL: time.Duration(cfg.SessionTTL), RetryWindow: time.Duration(cfg.RetryWindow),
	}, log)
	a.proofs = proofs.New(store, proofs.Config{Issuer: cfg.Issuer, Secret: cfg.secret, Getter: a.caller})
	return a, nil
}

// signingNeeds are the algorithms of ID tokens, RS256 among them, which every client takes unless it asks for another one, and the longest
// life of an access token that a client has for itself.
func (a *app) signingNeeds(ctx context.Context) (algorithms []keys.Algorithm, ttl time.Duration, err error) {
	needs, err := a.store.SigningNeeds(ctx)
	algorithms = []keys.Algorithm{keys.RS256}
	for _, n := range needs {
		if n.IDTokenAlg != "" {
			algorithms = append(algorithms, n.IDTokenAlg)
		}
		if own, err := clients.ParseTTL(n.AccessTTL); err == nil {
			ttl = max(ttl, own)
		}
	}
	return algorithms, ttl, err
}

// openApp is newApp for a command that works on the database and ends. The caller closes the store.
func openApp(ctx context.Context) (*app, error) {
	cfg, err := loadConfig()
	if err != nil {
		return nil, err
	}
	if term.IsTerminal(int(os.Stderr.Fd())) { // programs read one line there, and after a failure alone
		for _, remark := range cfg.remarks() {
			fmt.Fprintln(os.Stderr, "signet: "+remark)
		}
	}
	// What the command does is in the audit record, and what it says on the terminal.
	a, err := newApp(ctx, cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return nil, err
	}
	if err := a.prepareSchema(ctx); err != nil {
		a.store.Close()
		return nil, unusable(err)
	}
	return a, nil
}

// unusable says in one line what a database's error means to the one who runs Signet.
func unusable(err error) error {
	if errors.Is(err, errSchema) {
		return err
	}
	var failed *pgconn.ConnectError
	var refused *pgconn.PgError
	if errors.As(err, &failed) && errors.As(err, &refused) {
		err = refused // without the tries beside it, such as the one with TLS
	}
	return fmt.Errorf("cannot use the database; check SIGNET_DATABASE_URL and that it is up: %w", err)
}

var errSchema = errors.New("the schema is not up to date and SIGNET_AUTO_MIGRATE is false: run signet migrate")

// prepareSchema brings the schema up to date, or says that somebody has to.
func (a *app) prepareSchema(ctx context.Context) error {
	if a.cfg.AutoMigrate {
		return a.store.Migrate(ctx)
	}
	have, want, err := a.store.Schema(ctx)
	if err == nil && have < want {
		err = errSchema
	}
	return err
}

// cliOrigin is the origin of what is done on the command line.
func cliOrigin() audit.Origin {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return audit.Origin{Actor: "cli:" + name}
}
