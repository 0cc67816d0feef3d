package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"signet/clients"
)

func clientCommand() *cobra.Command {
	return group("client", "Register and look after client applications",
		clientCreateCommand(), clientListCommand(), clientShowCommand(), clientUpdateCommand(), clientApplyCommand(), clientRotateSecretCommand(),
		clientSetDisabledCommand("disable", "Disable a client; its sessions and tokens end for good", true),
		clientSetDisabledCommand("enable", "Enable a disabled client", false), clientDeleteCommand(),
		clientRegistrationTokenCommand())
}

// clientFlags are the flags that describe a client.
type clientFlags struct {
	name                                            string
	grants, scopes, audience, redirectURIs, origins []string
	public, resourceServer                          bool

	applicationType, clientURI, logoURI, policyURI, tosURI        string
	contacts, postLogoutURIs                                      []string
	requirePKCE, skipConsent, requireAuthTime, backchannelSession bool
	backchannelURI, idTokenAlg, maxAge                            string
	accessTTL, refreshTTL, sessionTTL                             string

	profile, authMethod, jwks, jwksURI, assertionAlg string
	requirePAR, requireDPoP                          bool
}

func (f *clientFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.name, "name", "", "the `name` that people see")
	fl.BoolVar(&f.public, "public", false, "a client without a secret: a single-page or a native app")
	fl.StringVar(&f.applicationType, "application-type", "", "the `type`: web, or native for an app on a device (default web)")
	fl.BoolVar(&f.resourceServer, "resource-server", false, "an API: it may introspect the access tokens for its audience")

	fl.StringArrayVar(&f.grants, "grant", nil, "a `grant` type: authorization_code, password, refresh_token, client_credentials, device_code or token_exchange; repeatable\n(default authorization_code and refresh_token with a redirect URI, else password and refresh_token)")
	fl.StringArrayVar(&f.scopes, "scope", nil, "the `scopes` that it may ask for, as in \"read write\"; repeatable\n(default \"openid profile email offline_access\" with authorization_code)")
	fl.StringArrayVar(&f.audience, "audience", nil, "the `URI` of an API that its tokens are for; repeatable (default the issuer)")

	fl.StringArrayVar(&f.redirectURIs, "redirect-uri", nil, "the `URI` that users are sent back to: https, http on loopback, or a native app's own scheme,\nsuch as com.example.app:/callback; repeatable")
	fl.StringArrayVar(&f.postLogoutURIs, "post-logout-redirect-uri", nil, "a `URI` that users may be sent to after logging out; repeatable")
	fl.BoolVar(&f.requirePKCE, "require-pkce", true, "each login needs PKCE; =false for libraries that cannot, with a secret")
	fl.BoolVar(&f.skipConsent, "skip-consent", false, "a first-party app: users are not asked whether it may")
	fl.StringVar(&f.maxAge, "default-max-age", "", "the `time` after which a login has to be renewed, such as 12h; \"\" for never")
	fl.BoolVar(&f.requireAuthTime, "require-auth-time", false, "ID tokens always say when the user logged in")
	fl.StringVar(&f.idTokenAlg, "id-token-signed-response-alg", "", "the `algorithm` of ID tokens: RS256, ES256, PS256 or EdDSA (default RS256; with the profile fapi2 ES256)")
	fl.StringVar(&f.backchannelURI, "backchannel-logout-uri", "", "the `URI` at which the app is told that a user has logged out")
	fl.BoolVar(&f.backchannelSession, "backchannel-logout-session-required", false, "it has to be told of which session")
	fl.StringArrayVar(&f.origins, "browser-origin", nil, "the `origin` of a first-party web app that keeps its tokens in cookies, such as\nhttps://app.example.com; repeatable")

	fl.StringVar(&f.clientURI, "client-uri", "", "the `URI` of its home page")
	fl.StringVar(&f.logoURI, "logo-uri", "", "the `URI` of its logo")
	fl.StringVar(&f.policyURI, "policy-uri", "", "the `URI` of its privacy policy")
	fl.StringVar(&f.tosURI, "tos-uri", "", "the `URI` of its terms of service")
	fl.StringArrayVar(&f.contacts, "contact", nil, "an `address` to ask about it, such as an e-mail address; repeatable")

	fl.StringVar(&f.authMethod, "token-endpoint-auth-method", "", "the `method`: client_secret_basic, client_secret_post, private_key_jwt or none")
	fl.StringVar(&f.jwks, "jwks", "", "a `file` with its public keys, as a JWK Set; \"\" for none")
	fl.StringVar(&f.jwksURI, "jwks-uri", "", "the `URI` that they are at, instead")
	fl.StringVar(&f.assertionAlg, "token-endpoint-auth-signing-alg", "", "the `algorithm` of its assertions: RS256, PS256, ES256 or EdDSA (default any)")
	fl.BoolVar(&f.requirePAR, "require-pushed-authorization-requests", false, "its login requests have to be pushed to /par")
	fl.BoolVar(&f.requireDPoP, "dpop-bound-access-tokens", false, "its tokens have to be bound to a key by DPoP")
	fl.StringVar(&f.profile, "profile", "", "the `profile` that it is held to: fapi2; \"\" for none")

	fl.StringVar(&f.accessTTL, "access-token-ttl", "", "the `life` of its access tokens, such as 5m (default the server's)")
	fl.StringVar(&f.refreshTTL, "refresh-token-ttl", "", "the idle `life` of its sessions, such as 12h (default the server's)")
	fl.StringVar(&f.sessionTTL, "session-ttl", "", "the absolute `life` of its sessions, such as 30d (default the server's)")
	groupFlags(cmd, []flagGroup{
		{"What it is", []string{"id", "name", "public", "application-type", "resource-server"}},
		{"What it may do", []string{"grant", "scope", "audience"}},
		{"How it logs users in", []string{
			"redirect-uri", "post-logout-redirect-uri", "require-pkce", "skip-consent", "default-max-age", "require-auth-time",
			"id-token-signed-response-alg", "backchannel-logout-uri", "backchannel-logout-session-required", "browser-origin",
		}},
		{"How it proves itself", []string{
			"token-endpoint-auth-method", "jwks", "jwks-uri", "token-endpoint-auth-signing-alg", "require-pushed-authorization-requests",
			"dpop-bound-access-tokens", "profile",
		}},
		{"What users are told of it", []string{"client-uri", "logo-uri", "policy-uri", "tos-uri", "contact"}},
		{"How long what it gets is good", []string{"access-token-ttl", "refresh-token-ttl", "session-ttl"}},
	})
}

// flagGroup is some of a command's flags, under a heading of its help.
type flagGroup struct {
	title string
	names []string
}

// groupFlags has the command's help show its flags in groups, and the others behind them. All of them have to be there by now.
func groupFlags(cmd *cobra.Command, groups []flagGroup) {
	cmd.SetUsageFunc(func(cmd *cobra.Command) error {
		w := cmd.OutOrStderr()
		fmt.Fprintf(w, "Usage:\n  %s\n", cmd.UseLine())
		if cmd.HasExample() {
			fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
		}
		rest := pflag.NewFlagSet("", pflag.ContinueOnError)
		rest.AddFlagSet(cmd.LocalFlags())
		shown := map[string]bool{}
		for _, g := range groups {
			set := pflag.NewFlagSet("", pflag.ContinueOnError)
			set.SortFlags = false
			for _, name := range g.names {
				if f := rest.Lookup(name); f != nil {
					set.AddFlag(f)
					shown[name] = true
				}
			}
			fmt.Fprintf(w, "\n%s:\n%s", g.title, set.FlagUsages())
		}
		others := pflag.NewFlagSet("", pflag.ContinueOnError)
		rest.VisitAll(func(f *pflag.Flag) {
			if !shown[f.Name] {
				others.AddFlag(f)
			}
		})
		fmt.Fprintf(w, "\nOther flags:\n%s", others.FlagUsages())
		return nil
	})
}

// memberFlags are the flags that are not called like the member of a client, with dashes.
var memberFlags = map[string]string{
	"client_id": "id", "client_name": "name", "grant_types": "grant", "redirect_uris": "redirect-uri", "contacts": "contact",
	"post_logout_redirect_uris": "post-logout-redirect-uri", "browser_origins": "browser-origin",
}

// flagWords are what problems call what has another name here.
var flagWords = strings.NewReplacer(
	" application_type", " --application-type", " jwks_uri", " --jwks-uri", " dpop_bound_access_tokens", " --dpop-bound-access-tokens",
	string(clients.DeviceCode), "device_code", string(clients.TokenExchange), "token_exchange")

// inFlags says what cannot be of a client in the words of the command's flags.
func inFlags(cmd *cobra.Command, err error) error {
	var field *clients.FieldError
	if !errors.As(err, &field) {
		return err
	}
	name, ok := memberFlags[field.Field]
	if !ok {
		name = strings.ReplaceAll(field.Field, "_", "-")
	}
	if cmd.Flags().Lookup(name) == nil {
		return err
	}
	return fmt.Errorf("--%s: %s", name, flagWords.Replace(field.Problem))
}

// shortGrants are quicker to type than their URNs.
var shortGrants = map[string]clients.Grant{"device_code": clients.DeviceCode, "token_exchange": clients.TokenExchange}

// apply sets what the flags say, and leaves alone what they do not mention.
func (f *clientFlags) apply(cmd *cobra.Command, c *clients.Client) error {
	set := cmd.Flags().Changed
	if set("name") {
		if c.Name = f.name; c.Name == "" {
			return errors.New("--name: must not be empty")
		}
	}
	if set("grant") {
		c.Grants = []clients.Grant{}
		for _, g := range nonEmpty(f.grants) {
			if urn, ok := shortGrants[g]; ok {
				g = string(urn)
			}
			c.Grants = append(c.Grants, clients.Grant(g))
		}
	}
	if set("scope") {
		scope, err := clients.ParseScope(strings.Join(nonEmpty(f.scopes), " "))
		if err != nil {
			return fmt.Errorf("--scope: %w", err)
		}
		c.Scope = scope
	}
	if set("audience") {
		c.Audience = nonEmpty(f.audience)
	}
	if set("redirect-uri") {
		c.RedirectURIs = nonEmpty(f.redirectURIs)
	}
	if set("browser-origin") {
		c.BrowserOrigins = nonEmpty(f.origins)
	}
	for _, flag := range []struct {
		name   string
		list   *[]string
		values []string
	}{
		{"post-logout-redirect-uri", &c.PostLogoutRedirectURIs, f.postLogoutURIs}, {"contact", &c.Contacts, f.contacts},
	} {
		if set(flag.name) {
			*flag.list = nonEmpty(flag.values)
		}
	}
	for _, flag := range []struct {
		name  string
		text  *string
		value string
	}{
		{"application-type", (*string)(&c.ApplicationType), f.applicationType}, {"client-uri", &c.ClientURI, f.clientURI},
		{"logo-uri", &c.LogoURI, f.logoURI}, {"policy-uri", &c.PolicyURI, f.policyURI}, {"tos-uri", &c.TOSURI, f.tosURI},
		{"backchannel-logout-uri", &c.BackchannelLogoutURI, f.backchannelURI}, {"id-token-signed-response-alg", (*string)(&c.IDTokenAlg), f.idTokenAlg},
		{"token-endpoint-auth-method", (*string)(&c.AuthMethod), f.authMethod}, {"jwks-uri", &c.JWKSURI, f.jwksURI},
		{"token-endpoint-auth-signing-alg", (*string)(&c.AssertionAlg), f.assertionAlg}, {"profile", (*string)(&c.Profile), f.profile},
	} {
		if set(flag.name) {
			*flag.text = flag.value
		}
	}
	for _, flag := range []struct {
		name  string
		is    *bool
		value bool
	}{
		{"resource-server", &c.ResourceServer, f.resourceServer}, {"require-pkce", &c.OptionalPKCE, !f.requirePKCE}, {"skip-consent", &c.SkipConsent, f.skipConsent},
		{"require-auth-time", &c.RequireAuthTime, f.requireAuthTime}, {"backchannel-logout-session-required", &c.BackchannelLogoutSessionRequired, f.backchannelSession},
		{"require-pushed-authorization-requests", &c.RequirePAR, f.requirePAR}, {"dpop-bound-access-tokens", &c.RequireDPoP, f.requireDPoP},
	} {
		if set(flag.name) {
			*flag.is = flag.value
		}
	}
	if set("jwks") {
		c.JWKS = nil
		if f.jwks != "" {
			keys, err := os.ReadFile(f.jwks)
			if err != nil {
				return fmt.Errorf("--jwks: %w", err)
			}
			c.JWKS = keys
		}
	}
	if set("public") && f.public != c.Public() {
		if set("token-endpoint-auth-method") {
			return usageError{fmt.Errorf("--public and --token-endpoint-auth-method %s contradict each other", f.authMethod)}
		}
		c.AuthMethod = clients.SecretBasic
		if f.public {
			c.AuthMethod = clients.None
		}
	}
	return f.applyTimes(set, c)
}

// applyTimes sets the durations that the flags say.
func (f *clientFlags) applyTimes(set func(name string) bool, c *clients.Client) (err error) {
	for _, flag := range []struct {
		name string
		ttl  *time.Duration
		text string
	}{
		{"access-token-ttl", &c.AccessTTL, f.accessTTL}, {"refresh-token-ttl", &c.RefreshTTL, f.refreshTTL}, {"session-ttl", &c.SessionTTL, f.sessionTTL},
	} {
		if set(flag.name) {
			if *flag.ttl, err = clients.ParseTTL(flag.text); err != nil {
				return fmt.Errorf("--%s: %q %w", flag.name, flag.text, err)
			}
		}
	}
	if set("default-max-age") {
		if c.DefaultMaxAge, err = clients.ParseMaxAge(f.maxAge); err != nil {
			return fmt.Errorf("--default-max-age: %q %w", f.maxAge, err)
		}
	}
	return nil
}

// notes tell of flags that do less than may be meant.
func (f *clientFlags) notes(cmd *cobra.Command, c clients.Client) {
	if cmd.Flags().Changed("redirect-uri") && len(c.RedirectURIs) > 0 && !c.May(clients.AuthorizationCode) {
		note(cmd, "users cannot be sent there yet: add --grant authorization_code --grant refresh_token; they replace the grants that it has")
	}
	for token := range strings.FieldsSeq(strings.Join(f.scopes, " ")) {
		if strings.Contains(token, ",") {
			note(cmd, "scopes are separated by spaces; %q is one scope", token)
		}
	}
}

// nonEmpty leaves out empty values, so that --audience "" empties the list.
func nonEmpty(values []string) []string {
	kept := []string{}
	for _, v := range values {
		if v != "" {
			kept = append(kept, v)
		}
	}
	return kept
}

func printClient(p printer, c clients.Client) error {
	grants := make([]string, len(c.Grants))
	for i, g := range c.Grants {
		grants[i] = string(g)
	}
	err := p.object(c,
		[2]string{"client_id", c.ID}, [2]string{"client_secret", c.Secret}, [2]string{"previous_secret", yes(c.PreviousDigest != nil, "good still")}, [2]string{"name", c.Name},
		[2]string{"authentication", string(c.AuthMethod)}, [2]string{"application_type", string(c.ApplicationType)}, [2]string{"grants", strings.Join(grants, " ")},
		[2]string{"scope", c.Scope.String()}, [2]string{"audience", strings.Join(c.Audience, " ")},
		[2]string{"redirect_uris", strings.Join(c.RedirectURIs, " ")}, [2]string{"post_logout_redirect_uris", strings.Join(c.PostLogoutRedirectURIs, " ")},
		[2]string{"require_pkce", yes(c.OptionalPKCE, "no")}, [2]string{"skip_consent", yes(c.SkipConsent, "yes")},
		[2]string{"default_max_age", clients.FormatMaxAge(c.DefaultMaxAge)}, [2]string{"require_auth_time", yes(c.RequireAuthTime, "yes")},
		[2]string{"id_token_alg", string(c.IDTokenAlg)},
		[2]string{"backchannel_logout_uri", c.BackchannelLogoutURI}, [2]string{"backchannel_session", yes(c.BackchannelLogoutSessionRequired, "required")},
		[2]string{"browser_origins", strings.Join(c.BrowserOrigins, " ")}, [2]string{"client_uri", c.ClientURI}, [2]string{"logo_uri", c.LogoURI},
		[2]string{"policy_uri", c.PolicyURI}, [2]string{"tos_uri", c.TOSURI}, [2]string{"contacts", strings.Join(c.Contacts, ", ")},
		[2]string{"access_token_ttl", clients.FormatTTL(c.AccessTTL)}, [2]string{"refresh_token_ttl", clients.FormatTTL(c.RefreshTTL)},
		[2]string{"session_ttl", clients.FormatTTL(c.SessionTTL)},
		[2]string{"profile", string(c.Profile)}, [2]string{"jwks", string(c.JWKS)}, [2]string{"jwks_uri", c.JWKSURI},
		[2]string{"assertion_alg", string(c.AssertionAlg)}, [2]string{"pushed_requests", yes(c.RequirePAR, "required")}, [2]string{"dpop", yes(c.RequireDPoP, "required")},
		[2]string{"resource_server", yes(c.ResourceServer, "yes")}, [2]string{"came_by_itself", yes(c.Registered, "yes")}, [2]string{"disabled", yes(c.Disabled, "yes")},
		[2]string{"registered", stamp(c.CreatedAt)})
	if err == nil && c.Secret != "" && !p.json {
		_, err = fmt.Fprintln(p.w, "\nThis is the only time that the secret is shown.")
	}
	return err
}

// withApp runs f on the configured database.
func withApp(cmd *cobra.Command, f func(ctx context.Context, a *app) error) error {
	a, err := openApp(cmd.Context())
	if err != nil {
		return err
	}
	defer a.store.Close()
	return f(cmd.Context(), a)
}

func clientCreateCommand() *cobra.Command {
	var f clientFlags
	var id string
	cmd := &cobra.Command{
		Use: "create --name NAME", Short: "Register a client and print it, its secret this once", Args: cobra.NoArgs,
		Example: `  signet client create --name "Web shop" --redirect-uri https://shop.example.com/callback
  signet client create --name "Web shop in the browser" --public --redirect-uri https://shop.example.com/
  signet client create --name "Shop for phones" --public --application-type native --redirect-uri com.example.shop:/callback
  signet client create --name "Orders API" --resource-server --audience https://api.example.com --grant ""
  signet client create --name "Nightly job" --grant client_credentials --scope reports:write
  signet client create --name "Bank app" --redirect-uri https://bank.example.com/callback --profile fapi2 \
      --token-endpoint-auth-method private_key_jwt --jwks keys.json`,
	}
	cmd.Flags().StringVar(&id, "id", "", "the client `id` (default a random one)")
	f.add(cmd)
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, _ []string) error {
		if !cmd.Flags().Changed("name") {
			return usageError{errors.New(`--name is needed, such as --name "Web shop"`)}
		}
		if cmd.Flags().Changed("id") && id == "" {
			return usageError{errors.New("--id is empty; leave it out for a random one")}
		}
		if slices.Contains(f.redirectURIs, "") { // there is no list yet to be emptied; it may be a variable of a script that is not set
			return usageError{errors.New("--redirect-uri is empty; leave it out for a client that logs nobody in by browser")}
		}
		return withApp(cmd, func(ctx context.Context, a *app) error {
			c := clients.Client{ID: id}
			if err := f.apply(cmd, &c); err != nil {
				return err
			}
			c, err := a.clients.Create(ctx, c, cliOrigin())
			if errors.Is(err, clients.ErrExists) {
				return fmt.Errorf("a client with the id %q exists already; signet client update changes it", id)
			}
			if err != nil {
				return inFlags(cmd, err)
			}
			if !cmd.Flags().Changed("grant") && len(c.RedirectURIs) == 0 && !c.Public() && !c.ResourceServer {
				note(cmd, "without --redirect-uri this client gets tokens by the password grant; apps that log users in by browser need one")
			}
			f.notes(cmd, c)
			return printClient(out.printer(cmd), c)
		})
	})
	return cmd
}

func clientListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the clients", Args: cobra.NoArgs}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, _ []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			all, err := everything(func(last *clients.Client, limit int) ([]clients.Client, error) {
				f := clients.Filter{Limit: limit}
				if last != nil {
					f.After = last.ID
				}
				return a.clients.List(ctx, f)
			})
			if err != nil {
				return err
			}
			return printList(out.printer(cmd), all, []string{"CLIENT ID", "NAME", "AUTHENTICATION", "SCOPE", "STATE"}, func(c clients.Client) []string {
				return []string{c.ID, c.Name, string(c.AuthMethod), c.Scope.String(), yes(c.Disabled, "disabled")}
			})
		})
	})
	return cmd
}

// unknownClient names the client where the error is that there is none.
func unknownClient(err error, id string) error {
	if errors.Is(err, clients.ErrNotFound) {
		return fmt.Errorf("no client has the id %q; signet client list shows them", id)
	}
	return err
}

// onClient returns a command on the client that its argument names. It prints the client that f returns.
func onClient(use, short string, f func(ctx context.Context, cmd *cobra.Command, a *app, id string) (clients.Client, error)) *cobra.Command {
	cmd := &cobra.Command{Use: use + " ID", Short: short, Args: namedArgs}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, args []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			c, err := f(ctx, cmd, a, args[0])
			if err != nil {
				return unknownClient(err, args[0])
			}
			return printClient(out.printer(cmd), c)
		})
	})
	return cmd
}

func clientShowCommand() *cobra.Command {
	return onClient("show", "Show a client", func(ctx context.Context, _ *cobra.Command, a *app, id string) (clients.Client, error) {
		return a.clients.Get(ctx, id)
	})
}

func clientUpdateCommand() *cobra.Command {
	var f clientFlags
	cmd := onClient("update", "Change what the flags mention, and nothing else", func(ctx context.Context, cmd *cobra.Command, a *app, id string) (clients.Client, error) {
		mentioned := false
		cmd.Flags().Visit(func(fl *pflag.Flag) { mentioned = mentioned || fl.Name != "output" })
		if !mentioned {
			return clients.Client{}, errNothingToChange
		}
		for {
			c, err := a.clients.Get(ctx, id)
			if err != nil {
				return c, err
			}
			if err := f.apply(cmd, &c); err != nil {
				return c, err
			}
			// Where somebody else changed the client in between, what the flags say is said of that one.
			c, err = a.clients.Update(ctx, c, cliOrigin())
			if err == nil {
				f.notes(cmd, c)
			}
			if !errors.Is(err, clients.ErrChanged) {
				return c, inFlags(cmd, err)
			}
		}
	})
	f.add(cmd)
	return cmd
}

func clientRotateSecretCommand() *cobra.Command {
	var overlap duration
	cmd := onClient("rotate-secret", "Give a client a new secret", func(ctx context.Context, cmd *cobra.Command, a *app, id string) (clients.Client, error) {
		before, err := a.clients.Get(ctx, id)
		if err != nil {
			return before, err
		}
		c, err := a.clients.RotateSecret(ctx, id, time.Duration(overlap), cliOrigin())
		if errors.Is(err, clients.ErrOverlap) {
			return c, fmt.Errorf("--%w", err) // it begins with the flag's name
		}
		if err == nil && before.PreviousDigest != nil {
			note(cmd, "an earlier rotation's overlap was not over: the secret from before that has ended, too")
		}
		return c, err
	})
	cmd.Flags().Var(&overlap, "overlap", "for how long the old secret stays good, such as 24h; one from before that ends at once")
	return cmd
}

func clientSetDisabledCommand(use, short string, disabled bool) *cobra.Command {
	return onClient(use, short, func(ctx context.Context, _ *cobra.Command, a *app, id string) (clients.Client, error) {
		return a.clients.SetDisabled(ctx, id, disabled, cliOrigin())
	})
}

func clientDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete ID", Short: "Delete a client; its sessions and tokens end", Args: namedArgs,
		RunE: run(func(cmd *cobra.Command, args []string) error {
			return withApp(cmd, func(ctx context.Context, a *app) error {
				return unknownClient(a.clients.Delete(ctx, args[0], cliOrigin()), args[0])
			})
		}),
	}
}
