package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"signet/clients"
)

// maxClientsFile bounds a file of clients, in bytes.
const maxClientsFile = 64 << 20

func clientApplyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "apply FILE", Aliases: []string{"import"}, Short: "Make clients be what a file says; print what changed", Args: namedArgs,
		Long: `Make clients be what a file says, so that they can be kept in git. A client that is not there is registered, one that is
different is changed, and one that is as it should be is left alone; clients that the file does not name are, too. Members
that are left out have their defaults. The file holds no secrets: that of a new client is printed, once.

FILE, or standard input for -, is JSON: a client object, a list of them, or what signet client list -o json prints.
A bad client is named and left out; the others go in, and the exit code is 1.`,
		Example: `  signet client list -o json > clients.json
  signet client apply clients.json`,
	}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, args []string) error {
		in, name, err := openInput(args[0])
		if err != nil {
			return err
		}
		defer in.Close()
		objects, err := readClients(in)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return withApp(cmd, func(ctx context.Context, a *app) error {
			applied, bad := []clients.Applied{}, 0
			var stopped error
			earlier := map[string]bool{}
			for i, object := range objects {
				done, err := applyClient(ctx, a, object, earlier)
				var field *clients.FieldError
				switch {
				case errors.As(err, &field):
					bad++
					fmt.Fprintf(cmd.ErrOrStderr(), "client %d%s: %v\n", i+1, named(object), err)
				case err != nil:
					stopped = fmt.Errorf("client %d%s: %w; those before it are done", i+1, named(object), err)
				default:
					applied = append(applied, done)
				}
				if stopped != nil {
					break // what was done is printed all the same: the secrets of new clients are shown this once
				}
			}
			if err := printApplied(out.printer(cmd), applied); err != nil {
				return err
			}
			if stopped != nil {
				return stopped
			}
			if bad > 0 {
				return fmt.Errorf("%s: %d of %d clients are bad and were left out; mend them and apply the file again", name, bad, len(objects))
			}
			return nil
		})
	})
	return cmd
}

// readClients splits the file into its client objects.
func readClients(r io.Reader) ([]json.RawMessage, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxClientsFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxClientsFile {
		return nil, fmt.Errorf("the file is larger than %d MiB", maxClientsFile>>20)
	}
	text = bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\ufeff")))
	var objects []json.RawMessage
	if bytes.HasPrefix(text, []byte("[")) {
		err = json.Unmarshal(text, &objects)
	} else {
		var list struct {
			Items *[]json.RawMessage `json:"items"`
		}
		if err = json.Unmarshal(text, &list); err == nil {
			if objects = []json.RawMessage{text}; list.Items != nil {
				objects = *list.Items
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("this is no JSON with clients: %w", err)
	}
	return objects, nil
}

// applyClient makes a client be what its object says. It takes no second object for one of the earlier ids: each would change what the
// other one said, each time that the file is applied.
func applyClient(ctx context.Context, a *app, object json.RawMessage, earlier map[string]bool) (clients.Applied, error) {
	c, err := clients.ParseMetadata(object)
	if err != nil {
		return clients.Applied{}, err
	}
	if earlier[c.ID] {
		return clients.Applied{}, &clients.FieldError{Field: "client_id", Problem: "is that of a client before it in the file, too"}
	}
	earlier[c.ID] = c.ID != ""
	return a.clients.Apply(ctx, c, cliOrigin())
}

// named is the id in a client object that may be bad.
func named(object json.RawMessage) string {
	var c struct {
		ID string `json:"client_id"`
	}
	if json.Unmarshal(object, &c) != nil || c.ID == "" {
		return ""
	}
	return fmt.Sprintf(" (%q)", c.ID)
}

func printApplied(p printer, applied []clients.Applied) error {
	err := printList(p, applied, []string{"CLIENT ID", "OUTCOME", "CHANGED", "NEW SECRET"}, func(d clients.Applied) []string {
		return []string{d.ID, d.Outcome, strings.Join(d.Changed, " "), d.Secret}
	})
	for _, d := range applied {
		if err == nil && d.Secret != "" && !p.json {
			_, err = fmt.Fprintln(p.w, "\nThis is the only time that the secrets are shown.")
			break
		}
	}
	return err
}
