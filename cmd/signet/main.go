// Command signet is an OAuth 2.0 authorization server in one binary, with the commands to run and to administer it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	os.Exit(execute())
}

// execute runs the command line and returns the exit code.
func execute() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	cmd, err := newRoot().ExecuteContextC(ctx)
	var failed failure
	switch {
	case err == nil:
		return 0
	case errors.As(err, &failed):
		fmt.Fprintln(os.Stderr, "signet: "+oneLine(err))
		return exitFailed
	default: // everything that is not a command's own failure is about how it was called
		fmt.Fprintln(os.Stderr, "signet: "+oneLine(err)+"; see "+cmd.CommandPath()+" --help")
		return exitUsage
	}
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// failure marks the error of a command that was called correctly and could not do its work.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// usageError is the error of a command whose flags say what cannot be.
type usageError struct{ error }

// run makes a command's function one whose errors are failures, unless they are about how it was called.
func run(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := f(cmd, args)
		if usage := (usageError{}); err == nil || errors.As(err, &usage) {
			return err
		}
		return failure{err}
	}
}

// namedArgs wants an argument for each name in the command's usage line, and no more.
func namedArgs(cmd *cobra.Command, args []string) error {
	names := strings.Fields(cmd.Use)[1:]
	switch {
	case len(args) > len(names):
		return fmt.Errorf("%s takes %s alone, and %q is one too many", cmd.CommandPath(), strings.Join(names, " and "), args[len(names)])
	case len(args) < len(names):
		article := "a"
		if strings.ContainsRune("AEIOU", rune(names[len(args)][0])) {
			article = "an"
		}
		return fmt.Errorf("%s needs %s %s", cmd.CommandPath(), article, names[len(args)])
	}
	return nil
}

// unknownCommand says that there is no such command, and which one may be meant.
func unknownCommand(cmd *cobra.Command, name string) error {
	cmd.SuggestionsMinimumDistance = 1 // with more, short names are like all others
	hint := ""
	if similar := cmd.SuggestionsFor(name); len(similar) > 0 {
		hint = "; perhaps you mean " + strings.Join(similar, " or ")
	}
	return fmt.Errorf("unknown command %q for %q%s", name, cmd.CommandPath(), hint)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "signet",
		Short: "An OAuth 2.0 authorization server in one binary",
		Long: `Signet is an OAuth 2.0 authorization server: it issues, refreshes, introspects and revokes tokens.

  signet dev      try it: no set-up, a demo client and user, curl lines to paste
  signet serve    run it
  signet doctor   find what is wrong with its configuration and surroundings
  signet client, scope, user, session, key, audit    administer it, while it runs`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
	}
	showVersion := root.Flags().BoolP("version", "v", false, "print the version")
	root.RunE = run(func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > 0:
			return usageError{unknownCommand(cmd, args[0])}
		case *showVersion:
			return printVersion(printer{w: cmd.OutOrStdout()})
		}
		return cmd.Help()
	})
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if args := cmd.Flags().Args(); cmd.HasSubCommands() && len(args) > 0 { // the flag is for the command that is misspelt
			return unknownCommand(cmd, args[0])
		}
		if strings.HasPrefix(err.Error(), "unknown shorthand flag") {
			return fmt.Errorf("%w: what begins with - and is no flag goes behind --", err)
		}
		return err
	})
	root.AddCommand(devCommand(), serveCommand(), migrateCommand(), secretCommand(), healthcheckCommand(), doctorCommand(), cleanupCommand(),
		clientCommand(), scopeCommand(), userCommand(), sessionCommand(), keyCommand(), auditCommand(), versionCommand())
	root.SetHelpCommand(&cobra.Command{
		Use: "help [COMMAND]", Short: "Help about a command",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			switch {
			case err != nil:
				return err
			case len(rest) > 0:
				return unknownCommand(cmd, rest[0])
			}
			return cmd.Help()
		},
	})
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			needShell(c)
		}
	}
	return root
}

// needShell makes the library's completion command one that has to be told a shell that it knows.
func needShell(completion *cobra.Command) {
	var shells []string
	for _, c := range completion.Commands() {
		shells = append(shells, c.Name())
	}
	completion.Use, completion.Args = "completion SHELL", cobra.ArbitraryArgs
	completion.RunE = func(_ *cobra.Command, args []string) error {
		given := "none is given"
		if len(args) > 0 {
			given = fmt.Sprintf("%q is none of them", args[0])
		}
		return fmt.Errorf("signet completion needs a shell: %s; %s", strings.Join(shells, ", "), given)
	}
}

// group returns a command that only holds others. Its name may be written in the plural.
func group(name, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{
		Use: name + " COMMAND", Aliases: []string{name + "s"}, Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			names := make([]string, 0, len(commands))
			for _, c := range commands {
				names = append(names, c.Name())
			}
			return fmt.Errorf("%q needs a command: %s", cmd.CommandPath(), strings.Join(names, ", "))
		},
	}
	g.AddCommand(commands...)
	return g
}
