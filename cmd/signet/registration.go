package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"signet/clients"
)

func clientRegistrationTokenCommand() *cobra.Command {
	ttl, uses := duration(clients.InitialTokenTTL), clients.InitialTokenUses
	cmd := &cobra.Command{
		Use: "registration-token", Short: "Make an initial access token, with which a client may register itself", Args: cobra.NoArgs,
		Long: `Make an initial access token (RFC 7591 section 3) and print it, once. Whoever has it may register clients at /register, where SIGNET_REGISTRATION
is token.`,
	}
	cmd.Flags().Var(&ttl, "ttl", "how long it is good")
	cmd.Flags().IntVar(&uses, "uses", uses, "the `number` of clients that may register with it, 1 to 10000")
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, _ []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			made, err := a.clients.NewRegistrationToken(ctx, uses, time.Duration(ttl), cliOrigin())
			if err != nil {
				return inFlags(cmd, err)
			}
			if a.clients.Registration() == clients.RegistrationOff { // it may be another one's for the server
				fmt.Fprintln(cmd.ErrOrStderr(), "SIGNET_REGISTRATION is off here. If it is so for the server, this token is good for nothing.")
			}
			return out.printer(cmd).object(made, [2]string{"token", made.Token}, [2]string{"good until", stamp(made.ExpiresAt)}, [2]string{"id", made.ID})
		})
	})
	cmd.AddCommand(clientRegistrationTokenListCommand(), clientRegistrationTokenRevokeCommand())
	return cmd
}

func clientRegistrationTokenListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the initial access tokens that are good", Args: cobra.NoArgs}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, _ []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			all, err := a.clients.RegistrationTokens(ctx)
			if err != nil {
				return err
			}
			return printList(out.printer(cmd), all, []string{"ID", "USES LEFT", "GOOD UNTIL"}, func(t clients.InitialToken) []string {
				return []string{t.ID, strconv.Itoa(t.Uses), stamp(t.ExpiresAt)}
			})
		})
	})
	return cmd
}

func clientRegistrationTokenRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Revoke an initial access token; the clients that have registered with it stay", Args: namedArgs,
		RunE: run(func(cmd *cobra.Command, args []string) error {
			return withApp(cmd, func(ctx context.Context, a *app) error {
				err := a.clients.RevokeRegistrationToken(ctx, args[0], cliOrigin())
				if errors.Is(err, clients.ErrNoInitialToken) {
					return errors.New("there is no such initial access token that is good; signet client registration-token list shows those that are")
				}
				return err
			})
		}),
	}
}
