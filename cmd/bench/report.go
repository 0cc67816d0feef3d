package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// median of an even number of values is the lower of the two in the middle.
func median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

func (b *bench) reportMachine(ctx context.Context) error {
	var version, buffers, fsync, commit string
	if err := b.conn.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('shared_buffers'),
		current_setting('fsync'), current_setting('synchronous_commit')`).Scan(&version, &buffers, &fsync, &commit); err != nil {
		return err
	}
	fmt.Printf("%d cores (%s) for server, database and load together; %s %s/%s\n",
		runtime.NumCPU(), cpuModel(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	fmt.Printf("PostgreSQL %s: fsync=%s, synchronous_commit=%s, shared_buffers=%s\n", version, fsync, commit, buffers)
	fmt.Printf("%d sessions; every cell %s, after a warm-up; rounds: %d\n", b.sessions, b.duration, b.rounds)
	fmt.Println("WAL is without full-page images: all sessions are refreshed once between a CHECKPOINT and the measurement")
	return nil
}

func reportStartup(existing, embedded time.Duration) {
	fmt.Printf("From start to ready (median of 3): %.0f ms on this database, %.0f ms with an empty embedded one\n",
		milliseconds(existing), milliseconds(embedded))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// reportCells prints a table, whose values are medians over the rounds.
func reportCells(title string, cells []*cell) {
	if len(cells) == 0 {
		return
	}
	fmt.Printf("\n%s\n\n", title)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	width := 0
	for _, c := range cells {
		width = max(width, len(c.scenario.name))
	}
	fmt.Fprintf(w, "%-*s\tconns\treq/s\tfloor/s\tratio\tbare/s\tratio\tp50 ms\tp99 ms\terrors\tCPU µs/req: server\tdatabase\tload\tfloor db\tothers\tRSS MiB\thighest\tWAL B/req\tHOT\t\n", width, "scenario")
	for _, c := range cells {
		fmt.Fprintf(w, "%-*s\t%d\t", width, c.scenario.name, c.connections)
		value := func(format, missing string, of func(m *measured) (float64, bool)) {
			var values []float64
			for i := range c.rounds {
				if v, ok := of(&c.rounds[i]); ok {
					values = append(values, v)
				}
			}
			if len(values) == 0 {
				fmt.Fprint(w, missing+"\t")
				return
			}
			fmt.Fprintf(w, format+"\t", median(values))
		}
		number := func(format string, of func(m *measured) float64) {
			value(format, "-", func(m *measured) (float64, bool) { return of(m), true })
		}
		// Of what there may be none, such as a floor.
		some := func(format string, n func(m *measured) int, of func(m *measured) float64) {
			value(format, "-", func(m *measured) (float64, bool) {
				if n(m) == 0 {
					return 0, false
				}
				return of(m), true
			})
		}
		requests := func(m *measured) int { return m.done }
		floors := func(m *measured) int { return m.floor.done }
		bares := func(m *measured) int { return m.bare.done }
		each := func(of func(m *measured) time.Duration) func(m *measured) float64 {
			return func(m *measured) float64 { return float64(of(m).Microseconds()) / float64(m.done) }
		}
		number("%.0f", func(m *measured) float64 { return m.perSecond() })
		some("%.0f", floors, func(m *measured) float64 { return m.floor.perSecond() })
		some("%.2f", floors, func(m *measured) float64 { return m.perSecond() / m.floor.perSecond() })
		some("%.0f", bares, func(m *measured) float64 { return m.bare.perSecond() })
		some("%.2f", bares, func(m *measured) float64 { return m.perSecond() / m.bare.perSecond() })
		some("%.2f", requests, func(m *measured) float64 { return milliseconds(m.percentile(50)) })
		some("%.2f", requests, func(m *measured) float64 { return milliseconds(m.percentile(99)) })
		errors := 0
		for _, m := range c.rounds {
			errors += m.errors
		}
		fmt.Fprintf(w, "%d\t", errors)
		some("%.0f", requests, each(func(m *measured) time.Duration { return m.used.server }))
		some("%.0f", requests, each(func(m *measured) time.Duration { return m.used.database }))
		some("%.0f", requests, each(func(m *measured) time.Duration { return m.used.load }))
		some("%.0f", floors, func(m *measured) float64 { return float64(m.floorUsed.database.Microseconds()) / float64(m.floor.done) })
		number("%.0f%%", func(m *measured) float64 {
			others := m.used.machine - m.used.server - m.used.database - m.used.load
			return max(0, 100*others.Seconds()/(m.elapsed.Seconds()*float64(runtime.NumCPU())))
		})
		number("%.0f", func(m *measured) float64 { return float64(m.rss) / (1 << 20) })
		number("%.0f", func(m *measured) float64 { return float64(m.maxRSS) / (1 << 20) })
		some("%.0f", requests, func(m *measured) float64 { return float64(m.used.wal) / float64(m.done) })
		updates := func(m *measured) int {
			if !c.scenario.rotates { // those of a refresh before, counted late
				return 0
			}
			return int(m.used.updates)
		}
		some("%.1f%%", updates, func(m *measured) float64 { return 100 * float64(m.used.hot) / float64(m.used.updates) })
		fmt.Fprintln(w)
	}
	_ = w.Flush()
}

func reportDeletion(rows int64, took time.Duration, complete bool) {
	what := "was still deleting when the measurement ended"
	if complete {
		what = "had nothing left to delete before the measurement ended"
	}
	fmt.Printf("\nThe clean-up deleted %d sessions in %.1f s, %.0f/s beside the load, and %s.\n",
		rows, took.Seconds(), float64(rows)/took.Seconds(), what)
}
