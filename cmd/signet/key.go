package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"signet/keys"
)

func keyCommand() *cobra.Command {
	return group("key", "See and rotate the signing keys", keyListCommand(), keyRotateCommand())
}

// shownKey is a signing key as the command line prints it. Times that have not come are left out.
type shownKey struct {
	ID         string         `json:"kid"`
	Algorithm  keys.Algorithm `json:"alg"`
	State      keys.State     `json:"state"`
	CreatedAt  time.Time      `json:"created_at"`
	ActiveFrom time.Time      `json:"active_from,omitzero"`
	RetiredAt  time.Time      `json:"retired_at,omitzero"`
}

func showKey(k keys.Key) shownKey {
	return shownKey{k.ID, k.Algorithm, k.State(), k.CreatedAt, k.ActiveFrom, k.RetiredAt}
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
			shown := make([]shownKey, len(all))
			for i, k := range all {
				shown[i] = showKey(k)
			}
			return printList(out.printer(cmd), shown, []string{"KID", "ALG", "STATE", "CREATED", "ACTIVE FROM", "RETIRED"}, func(k shownKey) []string {
				return []string{k.ID, string(k.Algorithm), string(k.State), stamp(k.CreatedAt), stamp(k.ActiveFrom), stamp(k.RetiredAt)}
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
			shown := showKey(k)
			return out.printer(cmd).object(shown, [2]string{"kid", k.ID}, [2]string{"alg", string(k.Algorithm)},
				[2]string{"state", string(shown.State)}, [2]string{"active_from", stamp(k.ActiveFrom)})
		})
	})
	return cmd
}
