package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"signet/audit"
	"signet/clients"
	"signet/keys"
	"signet/server/playground"
	"signet/users"
)

// demo is the name of the client and of a user that signet dev makes; admin is the one of the user for the console.
const demo, admin = "demo", "admin"

func devCommand() *cobra.Command {
	return &cobra.Command{
		Use: "dev", Short: "Try it: no set-up, a demo client and user, curl lines to paste", Args: cobra.NoArgs,
		Long: `Run the server on the embedded database in SIGNET_DATA_DIR, with a client and a user called "demo" and an admin called
"admin" for the console. Show at /playground what happens when somebody logs in by browser, and print curl lines that show the rest. Not for production: signet serve is.`,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig()
			if err != nil {
				return err
			}
			cfg.DrainDelay = 0 // nobody balances load between demos
			if !cfg.issuerGiven {
				cfg.Issuer = devIssuer(cfg) // where 8080 is taken, people choose another port and nothing else
			}
			out := cmd.OutOrStdout()
			cfg.terminal, cfg.playground = out, playgroundOf(cfg)
			if !cfg.embedded() {
				fmt.Fprintln(out, "signet dev uses the embedded database and its secret; the configured ones are left alone. (signet serve uses those.)")
				cfg.DatabaseURL, cfg.Secret = cfg.embeddedURL(), ""
			}
			if err := cfg.needSecret(); err != nil {
				return err
			}
			d := demoCredentials(cfg.secret)
			return serve(cmd.Context(), cfg, func(ctx context.Context, a *app) error {
				if err := a.makeDemo(ctx, d, *cfg.playground); err != nil {
					return err
				}
				if err := printDemo(out, cfg, d); err != nil {
					return err
				}
				return a.checkDemo(ctx, out, d)
			})
		}),
	}
}

// demoSecrets are the demo client's secret and the passwords of the two users.
type demoSecrets struct{ client, demo, admin string }

// demoCredentials derives them, so that every start can print them and nothing holds them in the clear.
func demoCredentials(s keys.Secret) demoSecrets {
	derive := func(label string) string { return base64.RawURLEncoding.EncodeToString(s.Derive(label)[0]) }
	return demoSecrets{"sgs_" + derive("demo client v1"), derive("demo user v1")[:20], derive("demo admin v1")[:20]}
}

// devIssuer is the issuer at the port that is listened on. It is localhost, for browsers keep passkeys for names alone.
func devIssuer(cfg config) string {
	scheme, _, _ := strings.Cut(localURL(cfg), ":")
	_, port, _ := net.SplitHostPort(cfg.Listen) // checked when it was read
	return scheme + "://" + net.JoinHostPort("localhost", port)
}

// playgroundOf is where the playground is: at the issuer's address, and at those that people type.
func playgroundOf(cfg config) *playground.Config {
	local := localURL(cfg)
	scheme, _, _ := strings.Cut(local, ":")
	_, port, _ := net.SplitHostPort(cfg.Listen) // checked when it was read
	addresses := []string{cfg.Issuer}
	for _, host := range []string{"localhost", "127.0.0.1"} {
		if address := scheme + "://" + net.JoinHostPort(host, port); address != cfg.Issuer {
			addresses = append(addresses, address)
		}
	}
	return &playground.Config{Addresses: addresses, Local: local}
}

// makeDemo makes the demo client and the users if they are not there, and the client of the playground.
func (a *app) makeDemo(ctx context.Context, d demoSecrets, play playground.Config) error {
	origin := audit.Origin{Actor: "signet dev"}
	_, err := a.clients.Get(ctx, demo)
	if errors.Is(err, clients.ErrNotFound) {
		_, err = a.clients.CreateWithSecret(ctx, clients.Client{ID: demo, Name: "Demo", Scope: clients.Scope{"read", "write"}}, d.client, origin)
	}
	if err == nil {
		err = playground.Register(ctx, a.clients, play, origin)
	}
	known := users.Profile{Name: "Dana Demo", GivenName: "Dana", FamilyName: "Demo", Email: "demo@example.com", EmailVerified: true} // for apps to see
	for _, u := range []struct {
		name, password string
		profile        users.Profile
	}{{demo, d.demo, known}, {admin, d.admin, users.Profile{}}} {
		if err != nil {
			return err
		}
		if _, err = a.users.Find(ctx, u.name); errors.Is(err, users.ErrNotFound) {
			_, err = a.users.Create(ctx, u.name, u.password, u.name == admin, u.profile, origin)
		}
	}
	return err
}

// checkDemo says so if the printed credentials are not the ones in the database: then they, or SIGNET_SECRET, were changed.
func (a *app) checkDemo(ctx context.Context, w io.Writer, d demoSecrets) error {
	_, err := a.clients.Authenticate(ctx, demo, d.client)
	if errors.Is(err, clients.ErrUnauthenticated) {
		_, err = fmt.Fprintln(w, "The demo client was changed since it was made: give it to CLIENT above with the secret that you know, or delete it\n"+
			"(signet client delete demo) and start again.")
	}
	for _, u := range []struct{ name, password, hint string }{
		{demo, d.demo, "The demo user was changed since it was made: give PASSWORD above the one that you know, or set it anew\n(signet user set-password demo)."},
		{admin, d.admin, "The user admin has another password than the one above. To set it anew: signet user set-password admin"},
	} {
		if err != nil {
			return err
		}
		_, err = a.users.Authenticate(ctx, u.name, u.password, demo, audit.Origin{Actor: "signet dev"})
		if throttled := (*users.ThrottledError)(nil); errors.Is(err, users.ErrBadCredentials) || errors.As(err, &throttled) {
			_, err = fmt.Fprintln(w, u.hint)
		}
	}
	return err
}

// printDemo prints the tour. The lines are for any POSIX shell and need nothing but curl and sed.
func printDemo(w io.Writer, cfg config, d demoSecrets) error {
	database := strings.TrimPrefix(cfg.DatabaseURL, "sqlite:")
	pages := localURL(cfg)
	if u, err := url.Parse(cfg.Issuer); err == nil && clients.Loopback(u.Hostname()) {
		pages = cfg.Issuer // a passkey is good there alone
	}
	bold, plain := "", ""
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		bold, plain = "\x1b[1m", "\x1b[0m"
	}
	steps := strings.NewReplacer(
		"{base}", localURL(cfg), "{pages}", pages, "{issuer}", cfg.Issuer, "{secret}", d.client, "{password}", d.demo, "{admin}", d.admin, "{bold}", bold, "{plain}", plain,
		"{database}", database,
	).Replace(demoText)
	_, err := io.WriteString(w, steps)
	return err
}

const demoText = `
{bold}Signet is running at {base}{plain}   (database: {database}; stop with Ctrl-C)
{bold}The playground: {pages}/playground{plain}   (log in with your browser as demo, password {password})
{bold}The console: {pages}/console/{plain}   (log in as admin, password {admin})
{bold}The issuer: {issuer}{plain}   (what the OpenID Connect library of an app of yours is told; register the app in the console)
Paste these lines into another terminal, from the top.

{bold}# 1. Get a token: a user logs in on a client.{plain}
get() { sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/"; }
URL={base} CLIENT=demo:{secret} PASSWORD={password}
R=$(curl -s -u $CLIENT $URL/token -d grant_type=password -d username=demo -d password=$PASSWORD); echo "$R"

{bold}# 2. Introspect it, as an API would.{plain}
curl -s -u $CLIENT $URL/introspect -d token=$(echo "$R" | get access_token); echo

{bold}# 3. Refresh: a new access token, and a new refresh token in place of the one used.{plain}
STOLEN=$(echo "$R" | get refresh_token)
R=$(curl -s -u $CLIENT $URL/token -d grant_type=refresh_token -d refresh_token=$STOLEN); echo "$R"

{bold}# 4. Play the thief: the owner goes on, then the spent token is presented again, and the whole session is dead.{plain}
R=$(curl -s -u $CLIENT $URL/token -d grant_type=refresh_token -d refresh_token=$(echo "$R" | get refresh_token))
curl -s -u $CLIENT $URL/token -d grant_type=refresh_token -d refresh_token=$STOLEN; echo
curl -s -u $CLIENT $URL/introspect -d token=$(echo "$R" | get access_token); echo

{bold}# 5. Log in again.{plain}
R=$(curl -s -u $CLIENT $URL/token -d grant_type=password -d username=demo -d password=$PASSWORD); echo "$R"

{bold}# 6. Revoke: log out. The access token is dead at once.{plain}
curl -s -u $CLIENT $URL/revoke -d token=$(echo "$R" | get refresh_token); echo
curl -s -u $CLIENT $URL/introspect -d token=$(echo "$R" | get access_token); echo

`
