package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"signet/users"
)

// maxShownBad is how many bad rows the JSON repeats. Standard error has all of them.
const maxShownBad = 10_000

func userImportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Create users with the password hashes that they have elsewhere", Args: namedArgs,
		Long: `Create users with the password hashes that they have elsewhere: bcrypt ($2a$, $2b$, $2y$), argon2id or scrypt (PHC).

FILE, or standard input for -, is CSV with a header, or JSON lines:

  username,password_hash
  ann,$2b$12$…

  {"username": "ann", "password_hash": "$2b$12$…"}

What is known of a user may come along: name, given_name, family_name, picture, locale, zoneinfo, email, email_verified,
phone_number, phone_number_verified, groups and claims, as in the admin API. In CSV each is a column. email_verified and
phone_number_verified are true or false, groups are separated by semicolons or a JSON array, claims are a JSON object,
and an empty field is left out:

  username,password_hash,email,email_verified,groups
  ann,$2b$12$…,ann@example.com,true,staff;admins

A user who exists is left alone, so the same file may be imported again. A bad row is named by its line and left out;
the others go in, and the exit code is 1.`,
	}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, args []string) error {
		in, name, err := openInput(args[0])
		if err != nil {
			return err
		}
		defer in.Close()
		return withApp(cmd, func(ctx context.Context, a *app) error {
			return importUsers(ctx, a, cmd, out.printer(cmd), in, name)
		})
	})
	return cmd
}

// openInput opens the file, or standard input for "-".
func openInput(path string) (f *os.File, name string, err error) {
	f, name = os.Stdin, "standard input"
	if path != "-" {
		name = path
		if f, err = os.Open(path); err != nil {
			return nil, "", err
		}
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory", name)
	}
	if err != nil {
		_ = f.Close()
		return nil, "", err
	}
	return f, name, nil
}

// imported is what the command prints.
type imported struct {
	users.ImportResult

	BadRows []users.BadRow `json:"bad_rows"`
}

func importUsers(ctx context.Context, a *app, cmd *cobra.Command, p printer, in *os.File, name string) error {
	bar := newProgress(in)
	r, stop := interruptible(ctx, io.TeeReader(in, bar))
	defer stop()
	result := imported{BadRows: []users.BadRow{}}
	var err error
	result.ImportResult, err = a.users.Import(ctx, r, cliOrigin(), func(bad users.BadRow) {
		_ = bar.Clear()
		fmt.Fprintf(cmd.ErrOrStderr(), "line %d: %s\n", bad.Line, bad.Reason)
		if len(result.BadRows) < maxShownBad {
			result.BadRows = append(result.BadRows, bad)
		}
	})
	_ = bar.Clear()
	if err != nil && result.ImportResult == (users.ImportResult{}) {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := p.object(result,
		[2]string{"imported", strconv.Itoa(result.Imported)}, [2]string{"already there", strconv.Itoa(result.Existing)},
		[2]string{"bad", strconv.Itoa(result.Bad)}); err != nil {
		return err
	}
	if err == nil && result.Bad > 0 {
		err = fmt.Errorf("%d of %d rows are bad and were left out; mend them and import them again",
			result.Bad, result.Imported+result.Existing+result.Bad)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// newProgress returns a bar that counts the bytes written to it. Only a terminal shows it, and not while the file is being
// typed there.
func newProgress(in *os.File) *progressbar.ProgressBar {
	size := int64(-1)
	if info, err := in.Stat(); err == nil && info.Mode().IsRegular() {
		size = info.Size()
	}
	visible := term.IsTerminal(int(os.Stderr.Fd())) && !term.IsTerminal(int(in.Fd()))
	return progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetVisibility(visible),
		progressbar.OptionSetDescription("importing"), progressbar.OptionShowBytes(true), progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(100*time.Millisecond))
}

// interruptible is r, but reading ends when the context does: a read from a pipe that nobody writes to would go on.
func interruptible(ctx context.Context, r io.Reader) (_ io.Reader, stop func()) {
	out, in := io.Pipe()
	go func() {
		_, err := io.Copy(in, r)
		_ = in.CloseWithError(err)
	}()
	unregister := context.AfterFunc(ctx, func() { _ = in.CloseWithError(ctx.Err()) })
	return out, func() { unregister(); _ = out.Close() }
}
