package main

import (
	"context"

	"github.com/spf13/cobra"

	"signet/keys"
)

func keyCommand() *cobra.Command {
	return group("key", "See and rotate the signing keys", keyListCommand(), keyRotateCommand())
}

func keyListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the signing keys: next, current, and retired ones that are still needed", Args: cobra.NoArgs}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, _ []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			all, err := a.keys.List(ctx)
			if err != nil {
				return err
			}
			return printList(out.printer(cmd), all, []string{"KID", "ALG", "STATE", "CREATED", "ACTIVE FROM", "RETIRED"}, func(k keys.Key) []string {
				return []string{k.ID, string(k.Algorithm), string(k.State()), stamp(k.CreatedAt), stamp(k.ActiveFrom), stamp(k.RetiredAt)}
			})
		})
	})
	return cmd
}

func keyRotateCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "rotate", Short: "Make the next signing key current and publish a new next one", Args: cobra.NoArgs}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, _ []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			k, err := a.keys.Rotate(ctx, cliOrigin())
			if err != nil {
				return err
			}
			return out.printer(cmd).object(k, [2]string{"kid", k.ID}, [2]string{"alg", string(k.Algorithm)},
				[2]string{"state", string(k.State())}, [2]string{"active_from", stamp(k.ActiveFrom)})
		})
	})
	return cmd
}
