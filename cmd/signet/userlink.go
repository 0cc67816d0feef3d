package main

import (
	"context"

	"github.com/spf13/cobra"

	"signet/mail"
)

func printLink(p printer, h mail.Handed) error {
	return p.object(h, [2]string{"email", h.Email}, [2]string{"link", h.URL}, [2]string{"mailed", yes(h.Mailed, "yes, by the server, to that address alone")},
		[2]string{"good until", stamp(h.ExpiresAt)})
}

func userResetLinkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "reset-link NAME", Short: "Make a link by which a user who has forgotten their password can set a new one", Args: namedArgs,
		Long: `Make a link for one use within 30 minutes, in place of any other, and print it. Hand it to nobody but the user: whoever has it can set the
password. It ends all of the user's sessions when it is used, and changes nothing before.`,
	}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, args []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			u, err := findUser(ctx, a, args[0])
			if err != nil {
				return err
			}
			if _, err := a.keys.Check(ctx); err != nil { // the server would take no link that is made under another secret
				return err
			}
			h, err := a.mails.ResetLink(ctx, u, cliOrigin())
			if err != nil {
				return err
			}
			return printLink(out.printer(cmd), h)
		})
	})
	return cmd
}

func userInviteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "invite EMAIL", Short: "Invite somebody to make an account", Args: namedArgs,
		Long: `Make a link for one use within 7 days by which somebody can choose a name and a password. It is mailed to the address where
SIGNET_SMTP_URL is set, by the server, and the account's address is verified by it; else it is printed, for you to hand on.`,
	}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, args []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			if _, err := a.keys.Check(ctx); err != nil { // as of a reset link
				return err
			}
			h, err := a.mails.Invite(ctx, args[0], nil, cliOrigin())
			if err != nil {
				return err
			}
			return printLink(out.printer(cmd), h)
		})
	})
	return cmd
}
