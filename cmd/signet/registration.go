package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

func clientRegistrationTokenCommand() *cobra.Command {
	ttl, uses := duration(24*time.Hour), 1
	cmd := &cobra.Command{
		Use: "registration-token", Short: "Make an initial access token, with which a client may register itself", Args: cobra.NoArgs,
		Long: `Make an initial access token (RFC 7591 section 3) and print it, once. Whoever has it may register clients at /register, where SIGNET_REGISTRATION
is token.`,
	}
	cmd.Flags().Var(&ttl, "ttl", "how long it is good")
	cmd.Flags().IntVar(&uses, "uses", 1, "how many clients may register with it, 1 to 10000")
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, _ []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			token, expires, err := a.clients.NewRegistrationToken(ctx, uses, time.Duration(ttl), cliOrigin())
			if err != nil {
				return err
			}
			return out.printer(cmd).object(map[string]any{"initial_access_token": token, "uses": uses, "expires_at": expires},
				[2]string{"token", token}, [2]string{"good until", stamp(expires)})
		})
	})
	return cmd
}
