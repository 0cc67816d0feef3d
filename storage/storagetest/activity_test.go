package storagetest_test

import (
	"testing"
	"time"

	"signet/activity"
	"signet/audit"
)

// shiftActivity makes what was counted older.
func (w *world) shiftActivity(t testing.TB, by time.Duration) {
	t.Helper()
	// In two steps: rows that move one by one must not meet those that have not moved.
	w.Exec(t, `UPDATE activity SET bucket = -bucket`)
	w.Exec(t, `UPDATE activity SET bucket = -bucket - $1`, int64(by/time.Second))
}

// happened sums up what happened in the last hour.
func (w *world) happened(t testing.TB) map[activity.Kind]int64 {
	t.Helper()
	total := map[activity.Kind]int64{}
	for _, p := range ok[[]activity.Point](t)(w.Activity(t.Context(), time.Hour, activity.Bucket)) {
		for k, n := range p.Counts {
			total[k] += n
		}
	}
	return total
}

func TestAddActivity(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		pair := w.pair(t)
		counts := map[activity.Kind]int64{activity.Logins: 2, activity.Refreshes: 3, activity.Reuses: 1}
		atOnce(t, 20, func(i int) (bool, error) { return true, pair[i%2].AddActivity(t.Context(), counts) })
		equal(t, "counts", w.happened(t), map[activity.Kind]int64{activity.Logins: 40, activity.Refreshes: 60, activity.Reuses: 20})
		for _, p := range ok[[]activity.Point](t)(w.Activity(t.Context(), time.Hour, activity.Bucket)) {
			if since := time.Since(p.Start); p.Start.Unix()%300 != 0 || since < -5*time.Second || since > 2*activity.Bucket {
				t.Errorf("a bucket starts at %s", p.Start)
			}
		}
	})
}

func TestSampleSessions(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		sample := func() bool { return ok[bool](t)(w.SampleSessions(t.Context())) }
		for range 2 {
			if sample() {
				t.Error("there are some")
			}
		}
		equal(t, "live", w.happened(t), map[activity.Kind]int64{activity.LiveSessions: 0})
		c, u, bob := w.addClient(t, "one"), w.addUser(t, "ann"), w.addUser(t, "bob")
		for range 3 {
			w.addSession(t, c, u)
		}
		w.addSession(t, c, bob)
		revoked := w.addSession(t, c, u)
		_, err := w.RevokeSession(t.Context(), revoked.ID, "", "test", newEvent(audit.SessionRevoked))
		check(t, err)
		check(t, w.DeleteUser(t.Context(), bob.ID, newEvent(audit.UserDeleted)))
		for range 2 {
			if !sample() {
				t.Error("there are none")
			}
			equal(t, "live", w.happened(t), map[activity.Kind]int64{activity.LiveSessions: 3})
			w.addSession(t, c, u) // counted in the next bucket
		}

		w.shiftActivity(t, 2*time.Hour)
		pair := w.pair(t)
		atOnce(t, 10, func(i int) (bool, error) { return pair[i%2].SampleSessions(t.Context()) })
		points := ok[[]activity.Point](t)(w.Activity(t.Context(), time.Hour, activity.Bucket))
		for _, p := range points { // two, if one bucket ended meanwhile
			equal(t, "live", p.Counts, map[activity.Kind]int64{activity.LiveSessions: 5})
		}
		if len(points) < 1 || len(points) > 2 {
			t.Errorf("%d samples", len(points))
		}
	})
}

func TestActivitySteps(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		equal(t, "of nothing", ok[[]activity.Point](t)(w.Activity(t.Context(), time.Hour, time.Hour)), []activity.Point(nil))
		day := time.Now().UTC().Truncate(24 * time.Hour).Add(-48 * time.Hour)
		for _, r := range []activity.Row{
			{Start: day.Unix(), Kind: activity.Logins, Count: 1},
			{Start: day.Add(5 * time.Minute).Unix(), Kind: activity.Logins, Count: 2},
			{Start: day.Add(5 * time.Minute).Unix(), Kind: activity.LiveSessions, Count: 7},
			{Start: day.Add(55 * time.Minute).Unix(), Kind: activity.LiveSessions, Count: 5},
			{Start: day.Add(60 * time.Minute).Unix(), Kind: activity.Logins, Count: 4},
		} {
			w.Exec(t, `INSERT INTO activity (bucket, kind, count) VALUES ($1, $2, $3)`, r.Start, string(r.Kind), r.Count)
		}
		got := ok[[]activity.Point](t)(w.Activity(t.Context(), 7*24*time.Hour, time.Hour))
		equal(t, "by the hour", got, []activity.Point{
			{Start: day, Counts: map[activity.Kind]int64{activity.Logins: 3, activity.LiveSessions: 7}},
			{Start: day.Add(time.Hour), Counts: map[activity.Kind]int64{activity.Logins: 4}},
		})
		equal(t, "of the last hour", ok[[]activity.Point](t)(w.Activity(t.Context(), time.Hour, time.Hour)), []activity.Point(nil))
	})
}

func TestDeleteActivity(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		now := time.Now().Unix() / 300 * 300
		for i := range int64(1200) {
			w.Exec(t, `INSERT INTO activity (bucket, kind, count) VALUES ($1, 'logins', 1)`, now-7200-i*300)
		}
		check(t, w.AddActivity(t.Context(), map[activity.Kind]int64{activity.Logins: 5}))
		if n := ok[int64](t)(w.DeleteActivity(t.Context(), time.Hour)); n != 1200 {
			t.Errorf("%d deleted", n)
		}
		equal(t, "left", w.happened(t), map[activity.Kind]int64{activity.Logins: 5})
	})
}
