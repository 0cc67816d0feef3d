package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"signet/users"
)

// cleanupInterval is how often the server deletes what has expired, give or take a fifth, so that replicas take turns.
const cleanupInterval = 10 * time.Minute

// keepInterruptions is longer than any that still bears on a retry: the window, once the service is back.
const keepInterruptions = 30 * 24 * time.Hour

// cleaned is how many rows a clean-up deleted.
type cleaned struct {
	Sessions      int64 `json:"sessions"`
	Logins        int64 `json:"logins"`
	Revocations   int64 `json:"revoked_access_tokens"`
	LoginFailures int64 `json:"login_failures"`
	Events        int64 `json:"audit_events"`
	Keys          int64 `json:"signing_keys"`
	Interruptions int64 `json:"interruptions"`
	Links         int64 `json:"links"`
	Clients       int64 `json:"unused_clients"`
	UsedOnce      int64 `json:"used_once"`
	Pushed        int64 `json:"pushed_requests"`
	Mails         int64 `json:"unsent_mails"`
	Activity      int64 `json:"activity"`
}

// cleanup deletes what has expired. One thing that cannot be deleted, such as by a statement that takes too long, does not keep the others.
func (a *app) cleanup(ctx context.Context) (done cleaned, err error) {
	// The access tokens of a session that has merely been idle for too long are good until they expire.
	keep, err := a.keys.LongestTokenTTL(ctx)
	if err != nil {
		return done, err
	}
	keep += time.Minute
	for _, step := range []struct {
		rows *int64
		run  func() (int64, error)
	}{
		{&done.Sessions, func() (int64, error) { return a.store.DeleteEndedSessions(ctx, keep) }},
		{&done.Logins, func() (int64, error) { return a.store.DeleteEndedLogins(ctx) }},
		{&done.Revocations, func() (int64, error) { return a.store.DeleteExpiredRevocations(ctx) }},
		{&done.LoginFailures, func() (int64, error) {
			return a.store.DeleteLoginFailures(ctx, max(time.Duration(a.cfg.LoginWindow), users.LongestWindow))
		}},
		{&done.Events, func() (int64, error) { return a.store.DeleteEvents(ctx, time.Duration(a.cfg.AuditRetention)) }},
		{&done.Keys, func() (int64, error) { return a.store.DeleteRetiredKeys(ctx, a.keys.KeepForHints()) }},
		{&done.Interruptions, func() (int64, error) { return a.store.DeleteInterruptions(ctx, keepInterruptions) }},
		{&done.Clients, func() (int64, error) { return a.store.DeleteUnusedClients(ctx) }},
		{&done.Links, func() (int64, error) { return a.store.DeleteExpiredLinks(ctx) }},
		{&done.UsedOnce, func() (int64, error) { return a.store.DeleteUsedOnce(ctx) }},
		{&done.Pushed, func() (int64, error) { return a.store.DeletePushedRequests(ctx) }},
		{&done.Mails, func() (int64, error) { return a.store.DeleteUnsentMails(ctx) }},
		{&done.Activity, func() (int64, error) { return a.store.DeleteActivity(ctx, time.Duration(a.cfg.AuditRetention)) }},
	} {
		var failed error
		*step.rows, failed = step.run()
		if err = errors.Join(err, failed); ctx.Err() != nil {
			break
		}
	}
	return done, err
}

// keepClean cleans up now and then until ctx ends.
func (a *app) keepClean(ctx context.Context) {
	for {
		pause := cleanupInterval*4/5 + rand.N(cleanupInterval*2/5) //nolint:gosec // jitter
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		done, err := a.cleanup(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			a.log.WarnContext(ctx, "the clean-up could not delete everything", "error", oneLine(err))
		case done != cleaned{}:
			a.log.InfoContext(ctx, "cleaned up", "deleted", done)
		}
	}
}

func cleanupCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "cleanup", Short: "Delete what has expired, as the server does now and then", Args: cobra.NoArgs}
	out := addOutput(cmd)
	cmd.RunE = run(func(cmd *cobra.Command, _ []string) error {
		return withApp(cmd, func(ctx context.Context, a *app) error {
			done, err := a.cleanup(ctx)
			if err != nil {
				return err
			}
			count := func(n int64) string { return strconv.FormatInt(n, 10) + " deleted" }
			return out.printer(cmd).object(done,
				[2]string{"sessions", count(done.Sessions)}, [2]string{"logins", count(done.Logins)}, [2]string{"revoked access tokens", count(done.Revocations)},
				[2]string{"login failures", count(done.LoginFailures)}, [2]string{"audit events", count(done.Events)},
				[2]string{"signing keys", count(done.Keys)}, [2]string{"interruptions", count(done.Interruptions)},
				[2]string{"unused clients", count(done.Clients)}, [2]string{"links", count(done.Links)}, [2]string{"used once", count(done.UsedOnce)},
				[2]string{"pushed requests", count(done.Pushed)}, [2]string{"unsent mails", count(done.Mails)},
				[2]string{"activity counts", count(done.Activity)})
		})
	})
	return cmd
}
