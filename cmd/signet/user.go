package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"signet/logins"
	"signet/users"
)

func userCommand() *cobra.Command {
	return group("user", "Look after users",
		userCreateCommand(), userUpdateCommand(), userImportCommand(), userSetPasswordCommand(), userListCommand(),
		onUser("show", "Show a user", func(_ context.Context, _ *cobra.Command, _ *app, u users.User) (users.User, error) { return u, nil }),
		userSetDisabledCommand("disable", "Disable a user; all its sessions end for good", true),
		userSetDisabledCommand("enable", "Enable a disabled user", false),
		onUser("logout", "End all of a user's sessions, on every client", func(ctx context.Context, cmd *cobra.Command, a *app, u users.User) (users.User, error) {
			err := a.users.EndSessions(ctx, u.ID, cliOrigin())
			if err == nil {
				note(cmd, "all sessions of %s have ended", u.Username)
			}
			return u, err
		}),
		userResetLinkCommand(), userInviteCommand(), userFactorsCommand(), userResetFactorsCommand(), userDeleteCommand())
}

// userWithPassword is a user whose password was made up, and is shown this once.
type userWithPassword struct {
	users.User
	Password string `json:"password,omitempty"`
}

func printUser(p printer, u userWithPassword) error {
	rows := [][2]string{
		{"id", u.ID}, {"username", u.Username}, {"password", u.Password},
		{"admin", yes(u.Admin, "yes")}, {"disabled", yes(u.Disabled, "yes")}, {"created", stamp(u.CreatedAt)},
		{"name", u.Name}, {"given name", u.GivenName}, {"family name", u.FamilyName}, {"picture", u.Picture}, {"locale", u.Locale},
		{"zoneinfo", u.Zoneinfo}, {"email", u.Email + yes(u.EmailVerified, " (verified)")},
		{"phone number", u.PhoneNumber + yes(u.PhoneNumberVerified, " (verified)")}, {"groups", strings.Join(u.Groups, ", ")},
	}
	for _, name := range slices.Sorted(maps.Keys(u.Claims)) {
		rows = append(rows, [2]string{"claim " + name, string(u.Claims[name])})
	}
	return p.object(u, rows...)
}

// readPassword takes the password from standard input, asks for it on a terminal, or makes one up, which it says.
func readPassword(cmd *cobra.Command, fromStdin bool) (password string, made bool, err error) {
	if fromStdin {
		const most = 4096 // more than any password, less than a mistake
		b, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), most))
		b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
		return string(b), false, err
	}
	stdin := int(os.Stdin.Fd())
	if !term.IsTerminal(stdin) {
		return users.NewPassword(), true, nil
	}
	ask := func(prompt string) ([]byte, error) {
		fmt.Fprint(cmd.ErrOrStderr(), prompt)
		defer fmt.Fprintln(cmd.ErrOrStderr())
		return readHidden(cmd.Context(), stdin)
	}
	first, err := ask("Password: ")
	if err != nil {
		return "", false, err
	}
	again, err := ask("Again: ")
	if err == nil && !bytes.Equal(first, again) {
		err = errors.New("the two passwords are not the same; nothing was changed")
	}
	return string(first), false, err
}

// readHidden reads a line from the terminal without showing it. When ctx ends, by an interrupt, it shows again what is typed, and returns
// an error.
func readHidden(ctx context.Context, terminal int) ([]byte, error) {
	before, err := term.GetState(terminal)
	if err != nil {
		return nil, err
	}
	type line struct {
		text []byte
		err  error
	}
	read := make(chan line, 1)
	go func() {
		text, err := term.ReadPassword(terminal)
		read <- line{text, err}
	}()
	select {
	case l := <-read:
		return l.text, l.err
	case <-ctx.Done():
		return nil, errors.Join(errors.New("interrupted; nothing was changed"), term.Restore(terminal, before))
	}
}

func userCreateCommand() *cobra.Command {
	var admin, stdin bool
	cmd := &cobra.Command{Use: "create NAME", Short: "Create a user", Args: namedArgs}
	cmd.Flags().BoolVar(&admin, "admin", false, "may be granted the scope signet:admin")
	cmd.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input; else it is asked for on a terminal, or made up and printed")
	profile := addProfile(cmd)
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, args []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			password, made, err := readPassword(cmd, stdin)
			if err != nil {
				return err
			}
			members, err := profile.members(cmd, users.Profile{})
			if err != nil {
				return err
			}
			known, err := users.Profile{}.With(members)
			if err != nil {
				return err
			}
			u, err := a.users.Create(ctx, args[0], password, admin, known, cliOrigin())
			if errors.Is(err, users.ErrExists) {
				return fmt.Errorf("a user with the name %q exists already; signet user update changes it", args[0])
			}
			if err != nil {
				return err
			}
			shown := userWithPassword{User: u}
			if made {
				shown.Password = password
			}
			return printUser(out.printer(cmd), shown)
		})
	})
	return cmd
}

// findUser returns the user of that name or id, or an error that names it.
func findUser(ctx context.Context, a *app, name string) (users.User, error) {
	u, err := a.users.Find(ctx, name)
	if errors.Is(err, users.ErrNotFound) {
		err = fmt.Errorf("no user is called %q; signet user list shows them", name)
	}
	return u, err
}

func userSetPasswordCommand() *cobra.Command {
	var stdin bool
	cmd := &cobra.Command{Use: "set-password NAME", Short: "Give a user a new password; all its sessions end", Args: namedArgs}
	cmd.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input; else it is asked for on a terminal, or made up and printed")
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, args []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			u, err := findUser(ctx, a, args[0])
			if err != nil {
				return err
			}
			password, made, err := readPassword(cmd, stdin)
			if err != nil {
				return err
			}
			if _, err := a.users.Update(ctx, u.ID, users.Change{Password: &password}, cliOrigin()); err != nil {
				return err
			}
			shown := userWithPassword{User: u}
			if made {
				shown.Password = password
			}
			return printUser(out.printer(cmd), shown)
		})
	})
	return cmd
}

func userListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the users", Args: cobra.NoArgs}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, _ []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			all, err := everything(func(last *users.User, limit int) ([]users.User, error) {
				f := users.Filter{Limit: limit}
				if last != nil {
					f.After = last.Username
				}
				return a.users.List(ctx, f)
			})
			if err != nil {
				return err
			}
			return printList(out.printer(cmd), all, []string{"USERNAME", "ID", "CREATED", "STATE"}, func(u users.User) []string {
				return []string{u.Username, u.ID, stamp(u.CreatedAt), yes(u.Admin, "admin ") + yes(u.Disabled, "disabled")}
			})
		})
	})
	return cmd
}

// onUser returns a command on the user that its argument names. It prints the user that f returns.
func onUser(use, short string, f func(ctx context.Context, cmd *cobra.Command, a *app, u users.User) (users.User, error)) *cobra.Command {
	cmd := &cobra.Command{Use: use + " NAME", Short: short, Args: namedArgs}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, args []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			u, err := findUser(ctx, a, args[0])
			if err == nil {
				u, err = f(ctx, cmd, a, u)
			}
			if err != nil {
				return err
			}
			return printUser(out.printer(cmd), userWithPassword{User: u})
		})
	})
	return cmd
}

func userSetDisabledCommand(use, short string, disabled bool) *cobra.Command {
	return onUser(use, short, func(ctx context.Context, _ *cobra.Command, a *app, u users.User) (users.User, error) {
		return a.users.Update(ctx, u.ID, users.Change{Disabled: &disabled}, cliOrigin())
	})
}

func userDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Delete a user; all its sessions end", Args: namedArgs,
		RunE: run(func(cmd *cobra.Command, args []string) error {
			return withApp(cmd, func(ctx context.Context, a *app) error {
				u, err := findUser(ctx, a, args[0])
				if err != nil {
					return err
				}
				return a.users.Delete(ctx, u.ID, cliOrigin())
			})
		}),
	}
}

func userFactorsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "factors NAME", Short: "List a user's passkeys and authenticator apps", Args: namedArgs}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, args []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			u, err := findUser(ctx, a, args[0])
			if err != nil {
				return err
			}
			f, err := a.logins.Factors(ctx, u.ID)
			if err != nil {
				return err
			}
			return printList(out.printer(cmd), f.List, []string{"ID", "TYPE", "NAME", "ADDED", "LAST USED"}, func(x logins.Factor) []string {
				used := "never"
				if x.LastUsedAt != nil {
					used = stamp(*x.LastUsedAt)
				}
				return []string{x.ID, string(x.Type), x.Name, stamp(x.CreatedAt), used}
			})
		})
	})
	return cmd
}

func userResetFactorsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reset-factors NAME", Short: "Remove all passkeys, authenticator apps and recovery codes of a user who has lost them", Args: namedArgs,
		RunE: run(func(cmd *cobra.Command, args []string) error {
			return withApp(cmd, func(ctx context.Context, a *app) error {
				u, err := findUser(ctx, a, args[0])
				if err == nil {
					err = a.logins.RemoveFactors(ctx, u.ID, cliOrigin())
				}
				if errors.Is(err, logins.ErrNoFactor) {
					err = fmt.Errorf("%s has no second factor", u.Username)
				}
				return err
			})
		}),
	}
}
