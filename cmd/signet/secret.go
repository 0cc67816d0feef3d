package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"signet/keys"
)

func secretCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "secret", Short: "Print a new SIGNET_SECRET", Args: cobra.NoArgs}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, _ []string) error {
		p, secret := out.printer(cmd), keys.NewSecret()
		if p.json {
			return p.encode(map[string]string{"secret": secret})
		}
		_, err := fmt.Fprintln(p.w, secret)
		return err
	})
	return cmd
}
