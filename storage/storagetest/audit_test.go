package storagetest_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"signet/audit"
)

func TestRecordEvent(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		full, bare := newEvent(audit.RefreshTokenRetriedElsewhere), audit.New(audit.KeyRotated, audit.Origin{})
		w.writes(t, func() {
			check(t, w.RecordEvent(t.Context(), full))
			check(t, w.RecordEvent(t.Context(), bare))
		}, full, bare)
	})
}

func TestEvents(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		record := func(kind audit.Type, client, user string) string {
			e := audit.New(kind, audit.Origin{})
			e.ClientID, e.UserID = client, user
			check(t, w.RecordEvent(t.Context(), e))
			return e.ID
		}
		a := record(audit.LoginFailed, "one", "ann")
		b := record(audit.LoginFailed, "two", "")
		w.Age(t, time.Hour)
		c := record(audit.SessionCreated, "one", "bob")
		d := record(audit.SessionCreated, "", "ann")
		e := record(audit.KeyRotated, "", "")
		for name, step := range map[string]struct {
			filter audit.Filter
			want   []string
		}{
			"everything":   {audit.Filter{}, []string{e, d, c, b, a}},
			"type":         {audit.Filter{Type: audit.LoginFailed}, []string{b, a}},
			"user":         {audit.Filter{UserID: "ann"}, []string{d, a}},
			"client":       {audit.Filter{ClientID: "one"}, []string{c, a}},
			"since":        {audit.Filter{Since: 30 * time.Minute}, []string{e, d, c}},
			"since before": {audit.Filter{Since: 2 * time.Hour}, []string{e, d, c, b, a}},
			"before":       {audit.Filter{Before: d}, []string{c, b, a}},
			"all of them":  {audit.Filter{Type: audit.LoginFailed, UserID: "ann", ClientID: "one", Since: 2 * time.Hour, Before: b}, []string{a}},
			"none":         {audit.Filter{Type: audit.LoginFailed, UserID: "bob"}, nil},
			"limit":        {audit.Filter{Limit: 2}, []string{e, d}},
		} {
			t.Run(name, func(t *testing.T) {
				f := step.filter
				if f.Limit == 0 {
					f.Limit = all
				}
				var got []string
				for _, e := range ok[[]audit.Event](t)(w.Events(t.Context(), f)) {
					got = append(got, e.ID)
				}
				equal(t, "ids", got, step.want)
			})
		}
	})
}

// Whoever reads page by page while events are being written sees each of the earlier ones once.
func TestEventsPaging(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		var want []string
		for range 50 {
			e := newEvent(audit.LoginFailed)
			check(t, w.RecordEvent(t.Context(), e))
			want = append([]string{e.ID}, want...)
		}
		newest := want[0]
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := w.RecordEvent(ctx, newEvent(audit.LoginFailed)); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
		var got []string
		for f := (audit.Filter{Limit: 7}); ; f.Before = got[len(got)-1] {
			page := ok[[]audit.Event](t)(w.Events(t.Context(), f))
			if len(page) == 0 {
				break
			}
			for _, e := range page {
				got = append(got, e.ID)
			}
		}
		stop()
		wg.Wait()
		seen := map[string]bool{}
		var earlier []string
		for _, id := range got {
			if seen[id] {
				t.Errorf("%s twice", id)
			}
			if seen[id] = true; id <= newest {
				earlier = append(earlier, id)
			}
		}
		equal(t, "ids", earlier, want)
	})
}
