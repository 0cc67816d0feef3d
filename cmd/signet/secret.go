package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"signet/keys"
)

func secretCommand() *cobra.Command {
	return &cobra.Command{
		Use: "secret", Short: "Print a new SIGNET_SECRET", Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), keys.NewSecret())
			return err
		}),
	}
}
