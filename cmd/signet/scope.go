package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"signet/clients"
)

func scopeCommand() *cobra.Command {
	return group("scope", "Say in words what scopes let a client do", scopeSetCommand(), scopeListCommand(), scopeDeleteCommand())
}

func scopeSetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "set NAME DESCRIPTION", Short: "Describe a scope for the users who are asked whether an app may have it", Args: namedArgs,
		Example: `  signet scope set orders:read "see your orders"`,
	}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, args []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			d, err := a.clients.DescribeScope(ctx, args[0], args[1], cliOrigin())
			if err != nil {
				return err
			}
			return out.printer(cmd).object(d, [2]string{"name", d.Name}, [2]string{"description", d.Description})
		})
	})
	return cmd
}

func scopeListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the scopes that are described", Args: cobra.NoArgs}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, _ []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			all, err := a.clients.Scopes(ctx)
			if err != nil {
				return err
			}
			return printList(out.printer(cmd), all, []string{"NAME", "DESCRIPTION"}, func(d clients.Described) []string {
				return []string{d.Name, d.Description}
			})
		})
	})
	return cmd
}

func scopeDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Delete the description of a scope; clients keep the scope", Args: namedArgs,
		RunE: run(func(cmd *cobra.Command, args []string) error {
			return withApp(cmd, func(ctx context.Context, a *app) error {
				err := a.clients.ForgetScope(ctx, args[0], cliOrigin())
				if errors.Is(err, clients.ErrNoScope) {
					return fmt.Errorf("the scope %q is not described; signet scope list shows those that are", args[0])
				}
				return err
			})
		}),
	}
}
