package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"signet/tokens"
)

func sessionCommand() *cobra.Command {
	return group("session", "See who is logged in where, and end it", sessionListCommand(), sessionRevokeCommand())
}

func sessionListCommand() *cobra.Command {
	var userName, client string
	cmd := &cobra.Command{Use: "list", Short: "List the sessions that are alive, newest first", Args: cobra.NoArgs}
	cmd.Flags().StringVar(&userName, "user", "", "those of this user alone, by `name` or id")
	cmd.Flags().StringVar(&client, "client", "", "those on this client alone, by `id`")
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, _ []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			f := tokens.Filter{ClientID: client}
			if client != "" {
				if _, err := a.clients.Get(ctx, client); err != nil {
					return unknownClient(err, client)
				}
			}
			if userName != "" {
				u, err := findUser(ctx, a, userName)
				if err != nil {
					return err
				}
				f.UserID = u.ID
			}
			all, err := everything(func(last *tokens.Session, limit int) ([]tokens.Session, error) {
				f.Limit = limit
				if last != nil {
					f.After = last.Place()
				}
				return a.tokens.Sessions(ctx, f)
			})
			if err != nil {
				return err
			}
			return printList(out.printer(cmd), all, []string{"ID", "USER", "CLIENT", "ADDRESS", "CREATED", "LAST USED", "EXPIRES"}, func(s tokens.Session) []string {
				return []string{s.ID, s.Username, s.ClientID, s.Address, stamp(s.CreatedAt), stamp(s.LastUsedAt), stamp(s.ExpiresAt)}
			})
		})
	})
	return cmd
}

func sessionRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "End a session, with all its tokens", Args: namedArgs,
		RunE: run(func(cmd *cobra.Command, args []string) error {
			return withApp(cmd, func(ctx context.Context, a *app) error {
				err := a.tokens.EndSession(ctx, args[0], cliOrigin())
				if errors.Is(err, tokens.ErrNoSession) {
					return fmt.Errorf("no session has the id %q; signet session list shows those that are alive", args[0])
				}
				return err
			})
		}),
	}
}
