package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signet/audit"
	"signet/users"
)

func auditCommand() *cobra.Command {
	return group("audit", "Read the record of security events", auditListCommand(), auditFollowCommand())
}

// auditFlags select events.
type auditFlags struct {
	eventType, user, client string
	since                   duration
}

func (f *auditFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.eventType, "type", "", "events of this `type` alone, such as refresh_token.reused")
	cmd.Flags().StringVar(&f.user, "user", "", "events of this user alone, by `name` or id")
	cmd.Flags().StringVar(&f.client, "client", "", "events of this client alone, by `id`")
}

// filter turns the flags into a filter. A user who is gone may still be named by id.
func (f *auditFlags) filter(ctx context.Context, a *app) (audit.Filter, error) {
	filter := audit.Filter{Type: audit.Type(f.eventType), ClientID: f.client, Since: time.Duration(f.since)}
	if f.eventType != "" && !slices.Contains(audit.Types, filter.Type) {
		names := make([]string, len(audit.Types))
		for i, t := range audit.Types {
			names[i] = string(t)
		}
		return filter, usageError{fmt.Errorf("--type: %q is no event type; there are %s", f.eventType, strings.Join(names, ", "))}
	}
	if f.user != "" {
		u, err := a.users.Find(ctx, f.user)
		switch filter.UserID = u.ID; {
		case errors.Is(err, users.ErrNotFound):
			filter.UserID = f.user
		case err != nil:
			return filter, err
		}
	}
	return filter, nil
}

func auditListCommand() *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{Use: "list", Short: "List security events, newest first", Args: cobra.NoArgs}
	f.add(cmd)
	cmd.Flags().Var(&f.since, "since", "events of the last while alone, such as 24h (default all)")
	cmd.Flags().Lookup("since").DefValue = "" // not 0s, which is none
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, _ []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			filter, err := f.filter(ctx, a)
			if err != nil {
				return err
			}
			all, err := everything(func(last *audit.Event, limit int) ([]audit.Event, error) {
				filter.Limit = limit
				if last != nil {
					filter.Before = last.ID
				}
				return a.store.Events(ctx, filter)
			})
			if err != nil {
				return err
			}
			return printList(out.printer(cmd), all, []string{"TIME", "TYPE", "ACTOR", "CLIENT", "USER", "SESSION", "ADDRESS", "DETAIL"}, func(e audit.Event) []string {
				return []string{stamp(e.Time), string(e.Type), e.Actor, e.ClientID, e.UserID, e.SessionID, e.Address, e.Detail}
			})
		})
	})
	return cmd
}

// Following polls, and looks further back than the last poll: events are numbered when they happen and seen when their
// transactions end, so that an older one may turn up after a newer one.
const (
	followInterval = time.Second
	followOverlap  = 30 * time.Second
)

func auditFollowCommand() *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{Use: "follow", Short: "Print security events as they happen, until interrupted", Args: cobra.NoArgs}
	f.add(cmd)
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, _ []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			filter, err := f.filter(ctx, a)
			if err != nil {
				return err
			}
			return follow(ctx, a, filter, cmd.OutOrStdout(), cmd.ErrOrStderr(), *out == "json")
		})
	})
	return cmd
}

// follow prints each event once; those that were there before it began are not printed. A database that goes away is waited for,
// and what happened meanwhile is printed then.
func follow(ctx context.Context, a *app, filter audit.Filter, w, complaints io.Writer, asJSON bool) error {
	var seen map[string]bool
	said := ""
	looked := time.Now()
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	for {
		now := time.Now()
		filter.Since = followOverlap + now.Sub(looked)
		events, err := recent(ctx, a, filter)
		switch {
		case ctx.Err() != nil:
			return nil // interrupted: that is how following ends
		case err != nil && seen == nil:
			return err
		case err == nil:
			if seen, err = printNew(w, events, seen, asJSON); err != nil {
				return err
			}
			looked, said = now, ""
		case err.Error() != said:
			said = err.Error()
			fmt.Fprintln(complaints, "signet: the database does not answer; going on:", oneLine(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// printNew prints the events that were not seen, the oldest first, and none if nothing was seen before. It returns what has been
// seen now.
func printNew(w io.Writer, events []audit.Event, seen map[string]bool, asJSON bool) (map[string]bool, error) {
	latest := make(map[string]bool, len(events))
	for _, e := range slices.Backward(events) {
		latest[e.ID] = true
		if seen != nil && !seen[e.ID] {
			if err := printEvent(w, e, asJSON); err != nil {
				return nil, err
			}
		}
	}
	return latest, nil
}

// recent returns all of the selected events, however many came since the last look, newest first.
func recent(ctx context.Context, a *app, filter audit.Filter) ([]audit.Event, error) {
	return everything(func(last *audit.Event, limit int) ([]audit.Event, error) {
		f := filter
		if f.Limit = limit; last != nil {
			f.Before = last.ID
		}
		return a.store.Events(ctx, f)
	})
}

func printEvent(w io.Writer, e audit.Event, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(e)
	}
	fields := []string{stamp(e.Time), string(e.Type)}
	for _, f := range [][2]string{{"actor", e.Actor}, {"client", e.ClientID}, {"user", e.UserID}, {"session", e.SessionID}, {"address", e.Address}, {"detail", e.Detail}} {
		if f[1] != "" {
			fields = append(fields, f[0]+"="+f[1])
		}
	}
	_, err := fmt.Fprintln(w, strings.Join(fields, "  "))
	return err
}
