package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signet/clients"
)

func clientCommand() *cobra.Command {
	return group("client", "Register and look after client applications",
		clientCreateCommand(), clientListCommand(), clientShowCommand(), clientUpdateCommand(), clientApplyCommand(), clientRotateSecretCommand(),
		clientSetDisabledCommand("disable", "Disable a client; its sessions and tokens end for good", true),
		clientSetDisabledCommand("enable", "Enable a disabled client", false), clientDeleteCommand())
}

// clientFlags are the flags that describe a client.
type clientFlags struct {
	name                                            string
	grants, scopes, audience, redirectURIs, origins []string
	public, resourceServer                          bool
}

func (f *clientFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.name, "name", "", "the name that people see")
	fl.StringArrayVar(&f.grants, "grant", nil, "a grant type: password, refresh_token or client_credentials; repeatable (default password and refresh_token)")
	fl.StringArrayVar(&f.scopes, "scope", nil, `the scopes that it may ask for, as in "read write"; repeatable`)
	fl.StringArrayVar(&f.audience, "audience", nil, "the URI of an API that its tokens are for; repeatable (default the issuer)")
	fl.BoolVar(&f.public, "public", false, "a client without a secret, such as a mobile app")
	fl.BoolVar(&f.resourceServer, "resource-server", false, "an API: it may introspect the access tokens for its audience")
	fl.StringArrayVar(&f.redirectURIs, "redirect-uri", nil, "a redirect URI: https, or http on loopback; repeatable")
	fl.StringArrayVar(&f.origins, "browser-origin", nil, "the origin of a first-party web app, such as https://app.example.com; repeatable")
}

// apply sets what the flags say, and leaves alone what they do not mention.
func (f *clientFlags) apply(cmd *cobra.Command, c *clients.Client) error {
	set := cmd.Flags().Changed
	if set("name") {
		if c.Name = f.name; c.Name == "" {
			return errors.New("client_name: must not be empty")
		}
	}
	if set("grant") {
		c.Grants = []clients.Grant{}
		for _, g := range nonEmpty(f.grants) {
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
	if set("resource-server") {
		c.ResourceServer = f.resourceServer
	}
	if set("public") && f.public != c.Public() {
		c.AuthMethod = clients.SecretBasic
		if f.public {
			c.AuthMethod = clients.None
		}
	}
	return nil
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
		[2]string{"client_id", c.ID}, [2]string{"client_secret", c.Secret}, [2]string{"name", c.Name},
		[2]string{"authentication", string(c.AuthMethod)}, [2]string{"grants", strings.Join(grants, " ")},
		[2]string{"scope", c.Scope.String()}, [2]string{"audience", strings.Join(c.Audience, " ")},
		[2]string{"redirect_uris", strings.Join(c.RedirectURIs, " ")}, [2]string{"browser_origins", strings.Join(c.BrowserOrigins, " ")},
		[2]string{"resource_server", yes(c.ResourceServer, "yes")}, [2]string{"disabled", yes(c.Disabled, "yes")},
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
		Example: `  signet client create --name "Web shop" --scope "orders:read orders:write" --audience https://api.example.com
  signet client create --name "Orders API" --resource-server --audience https://api.example.com
  signet client create --name "Nightly job" --grant client_credentials --scope reports:write`,
	}
	f.add(cmd)
	cmd.Flags().StringVar(&id, "id", "", "the client id (default a random one)")
	_ = cmd.MarkFlagRequired("name")
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, _ []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			c := clients.Client{ID: id}
			if err := f.apply(cmd, &c); err != nil {
				return err
			}
			c, err := a.clients.Create(ctx, c, cliOrigin())
			if err != nil {
				return err
			}
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

// onClient returns a command on the client that its argument names. It prints the client that f returns.
func onClient(use, short string, f func(ctx context.Context, cmd *cobra.Command, a *app, id string) (clients.Client, error)) *cobra.Command {
	cmd := &cobra.Command{Use: use + " ID", Short: short, Args: cobra.ExactArgs(1)}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, args []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			c, err := f(ctx, cmd, a, args[0])
			if errors.Is(err, clients.ErrNotFound) {
				return fmt.Errorf("no client has the id %q; signet client list shows them", args[0])
			}
			if err != nil {
				return err
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
		for {
			c, err := a.clients.Get(ctx, id)
			if err != nil {
				return c, err
			}
			if err := f.apply(cmd, &c); err != nil {
				return c, err
			}
			// Where somebody else changed the client in between, what the flags say is said of that one.
			if c, err = a.clients.Update(ctx, c, cliOrigin()); !errors.Is(err, clients.ErrChanged) {
				return c, err
			}
		}
	})
	f.add(cmd)
	return cmd
}

func clientRotateSecretCommand() *cobra.Command {
	var overlap duration
	cmd := onClient("rotate-secret", "Give a client a new secret", func(ctx context.Context, _ *cobra.Command, a *app, id string) (clients.Client, error) {
		return a.clients.RotateSecret(ctx, id, time.Duration(overlap), cliOrigin())
	})
	cmd.Flags().Var(&overlap, "overlap", "for how long the old secret stays good, such as 24h")
	return cmd
}

func clientSetDisabledCommand(use, short string, disabled bool) *cobra.Command {
	return onClient(use, short, func(ctx context.Context, _ *cobra.Command, a *app, id string) (clients.Client, error) {
		return a.clients.SetDisabled(ctx, id, disabled, cliOrigin())
	})
}

func clientDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete ID", Short: "Delete a client; its sessions and tokens end", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			return withApp(cmd, func(ctx context.Context, a *app) error {
				err := a.clients.Delete(ctx, args[0], cliOrigin())
				if errors.Is(err, clients.ErrNotFound) {
					return fmt.Errorf("no client has the id %q; signet client list shows them", args[0])
				}
				return err
			})
		}),
	}
}
