// Package activity keeps how much happened in each five minutes, on all replicas together, for the charts of the console.
//
// It is for people who look at a picture. What has to be exact is in the audit record, and what alerts watch is in the
// metrics: a count that the database does not take in time is lost with the process, and no request ever waits for one.
package activity

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// Bucket is the length of time that counts are kept for, together.
const Bucket = 5 * time.Minute

// Kind is what is counted.
type Kind string

// The kinds. All but the last are added up.
const (
	Logins        Kind = "logins"
	LoginFailures Kind = "login_failures"
	Refreshes     Kind = "refreshes"
	Reuses        Kind = "reuses"        // spent refresh tokens that came back: theft
	Interruptions Kind = "interruptions" // times in which the database, or every replica, was away
	LiveSessions  Kind = "live_sessions" // how many there are, looked at once in each bucket
)

// counted are the kinds that are added up, in the order of a Counter's counts.
var counted = [...]Kind{Logins, LoginFailures, Refreshes, Reuses, Interruptions}

// Point is what happened in a span of time.
type Point struct {
	Start  time.Time
	Counts map[Kind]int64 // of LiveSessions the most that there were; a kind that is missing did not happen, or was not looked at
}

// Row is a count as a database reads it: of one kind, in the step that starts at so many seconds since 1970.
type Row struct {
	Start int64
	Kind  Kind
	Count int64
}

// Points gathers rows, which are in the order of time.
func Points(rows []Row) []Point {
	var points []Point
	for _, r := range rows {
		start := time.Unix(r.Start, 0).UTC()
		if n := len(points); n == 0 || !points[n-1].Start.Equal(start) {
			points = append(points, Point{Start: start, Counts: map[Kind]int64{}})
		}
		points[len(points)-1].Counts[r.Kind] = r.Count
	}
	return points
}

// Store is what this package needs of a database. Time is the database's.
type Store interface {
	// AddActivity adds the counts to those of the current bucket, with one statement.
	AddActivity(ctx context.Context, counts map[Kind]int64) error
	// SampleSessions keeps the number of live sessions as the current bucket's, unless somebody has found some in it. It tells
	// whether there are any.
	SampleSessions(ctx context.Context) (some bool, err error)
	// Activity returns what happened in the last while, in steps of a multiple of Bucket, oldest first. Steps in which nothing
	// happened are left out.
	Activity(ctx context.Context, last, step time.Duration) ([]Point, error)
	// DeleteActivity deletes, in small batches, what happened longer ago than the retention, and returns how many rows.
	DeleteActivity(ctx context.Context, retention time.Duration) (int64, error)
}

// Counter counts what happens in this process and hands it over to the database now and then. A nil Counter counts nothing.
type Counter struct {
	store  Store
	log    *slog.Logger
	counts [len(counted)]atomic.Int64

	sampled time.Time // the bucket that is done with
}

// NewCounter returns a counter for the store.
func NewCounter(store Store, log *slog.Logger) *Counter { return &Counter{store: store, log: log} }

// Add counts one more of the kind. It never waits.
func (c *Counter) Add(k Kind) {
	if c == nil {
		return
	}
	for i := range counted {
		if counted[i] == k {
			c.counts[i].Add(1)
		}
	}
}

const (
	flushInterval = 10 * time.Second
	flushTimeout  = 5 * time.Second
	// slowCount is how long a count of no live sessions may take to be made again in the same bucket.
	slowCount = 100 * time.Millisecond
)

// Follow writes what was counted every few seconds until ctx ends, and then a last time.
func (c *Counter) Follow(ctx context.Context) {
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	for {
		c.Sample(ctx)
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
			defer cancel()
			c.Flush(last)
			return
		case <-tick.C:
			c.Flush(ctx)
		}
	}
}

// Sample counts the live sessions once for each bucket, whether it succeeds or not: that is not free where there are many. Only where
// there are none it looks again, so that the first one, such as that of whoever has just installed Signet, is soon seen.
func (c *Counter) Sample(ctx context.Context) {
	began := time.Now()
	bucket := began.Truncate(Bucket)
	if bucket.Equal(c.sampled) {
		return
	}
	some, err := c.store.SampleSessions(ctx)
	if some || err != nil || time.Since(began) > slowCount {
		c.sampled = bucket
	}
	if err != nil && ctx.Err() == nil {
		c.log.DebugContext(ctx, "cannot count the live sessions", "error", err)
	}
}

// Flush writes what was counted since the last time, if anything was. What cannot be written is kept for the next time.
func (c *Counter) Flush(ctx context.Context) {
	counts := map[Kind]int64{}
	for i, k := range counted {
		if n := c.counts[i].Swap(0); n != 0 {
			counts[k] = n
		}
	}
	if len(counts) == 0 {
		return
	}
	if err := c.store.AddActivity(ctx, counts); err != nil {
		c.log.DebugContext(ctx, "cannot write what was counted; trying again", "error", err)
		for i, k := range counted {
			c.counts[i].Add(counts[k])
		}
	}
}
