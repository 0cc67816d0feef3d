package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"signet/keys"
)

func keyCommand() *cobra.Command {
	return group("key", "See, rotate and revoke the signing keys", keyListCommand(), keyRotateCommand(), keyRevokeCommand())
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
	cmd := &cobra.Command{Use: "rotate", Short: "Make the next signing key of every algorithm current, and publish new next ones", Args: cobra.NoArgs}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, _ []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			k, err := a.keys.Rotate(ctx, cliOrigin())
			if err != nil {
				return err
			}
			note(cmd, "the keys of every algorithm in use were rotated, not this one alone; signet key list shows them")
			return out.printer(cmd).object(k, [2]string{"kid", k.ID}, [2]string{"alg", string(k.Algorithm)},
				[2]string{"state", string(k.State())}, [2]string{"active_from", stamp(k.ActiveFrom)})
		})
	})
	return cmd
}

func keyRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke KID", Short: "Cut off a signing key that has leaked: every token that it signed is dead", Args: namedArgs,
		Long: `Take a signing key out of use for good, on all replicas within 30 seconds. Every access token and ID token that it signed is refused
from then on, the genuine ones too: apps refresh, and nobody is logged out. The current key's place is taken by the next one.

Programs that check tokens against the published keys by themselves go on taking the key's tokens until they fetch the keys anew,
which most do within minutes: restart them.`,
		RunE: run(func(cmd *cobra.Command, args []string) error {
			return withApp(cmd, func(ctx context.Context, a *app) error {
				if err := a.keys.Revoke(ctx, args[0], cliOrigin()); errors.Is(err, keys.ErrNoKey) {
					return fmt.Errorf("no signing key %q; signet key list shows them", args[0])
				} else if err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "Revoked %s: tokens that it signed are dead within 30 seconds on all replicas.\n", args[0])
				return err
			})
		}),
	}
}
