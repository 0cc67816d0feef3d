package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// cell is a scenario with a number of connections, and what came of it in each round.
type cell struct {
	scenario    scenario
	connections int
	rounds      []measured
}

// measured is what came of a cell in one round.
type measured struct {
	outcome
	floor       outcome
	floorUsed   usage
	bare        outcome
	used        usage
	rss, maxRSS int64
}

// measure runs the floor, the bare server and then the scenario, so that a bad moment of the machine hits them all.
func (b *bench) measure(ctx context.Context, c *cell) error {
	var m measured
	if c.scenario.floor != nil {
		steps, closeAll, err := c.scenario.floor(ctx, c.connections)
		if err != nil {
			return err
		}
		m.floor, m.floorUsed, err = b.timed(ctx, steps)
		closeAll()
		if err = errors.Join(err, m.floor.sample); err != nil {
			return fmt.Errorf("the floor of %s: %w", c.scenario.name, err)
		}
	}
	if c.scenario.bare != nil {
		steps, closeAll, err := c.scenario.bare(ctx, c.connections)
		if err != nil {
			return err
		}
		m.bare, _, err = b.timed(ctx, steps)
		closeAll()
		if err = errors.Join(err, m.bare.sample); err != nil {
			return fmt.Errorf("the bare server's %s: %w", c.scenario.name, err)
		}
	}
	steps, closeAll, err := c.scenario.workers(ctx, b.world.addr, c.connections)
	if err != nil {
		return err
	}
	defer closeAll()
	if m.outcome, m.used, err = b.timed(ctx, steps); err != nil {
		return err
	}
	if m.rss, m.maxRSS, err = memoryOf(b.server); err != nil {
		return err
	}
	progress("%s, %d connections: %.0f/s", c.scenario.name, c.connections, m.perSecond())
	if m.errors > 0 {
		b.failed += m.errors
		progress("  %d ERRORS, such as: %v", m.errors, m.sample)
	}
	c.rounds = append(c.rounds, m)
	return nil
}

// timed repeats the steps for the duration, after a tenth of it that does not count, and returns what that used up.
func (b *bench) timed(ctx context.Context, steps []step) (o outcome, used usage, err error) {
	warmUp := drive(ctx, steps, b.duration/10, 0)
	before, err := b.usage(ctx)
	if err != nil {
		return o, used, err
	}
	o = drive(ctx, steps, b.duration, 0)
	if o.errors += warmUp.errors; o.sample == nil {
		o.sample = warmUp.sample
	}
	after, err := b.usage(ctx)
	return o, after.minus(before), errors.Join(err, ctx.Err())
}

// usage is what was used up so far.
type usage struct {
	server, database, load time.Duration // of CPU time
	machine                time.Duration // of CPU time, by whomever
	wal                    int64         // bytes
	updates, hot           int64         // of sessions
}

func (b *bench) usage(ctx context.Context) (u usage, err error) {
	// The database's count of updates is a second behind, or more; for the share of HOT ones that does not matter.
	if err = b.conn.QueryRow(ctx, `
		SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, n_tup_upd, n_tup_hot_upd
		FROM pg_stat_user_tables WHERE relname = 'sessions'`).Scan(&u.wal, &u.updates, &u.hot); err != nil {
		return u, err
	}
	if u.server, err = cpuOf(b.server); err != nil {
		return u, fmt.Errorf("the server is gone: %w", err)
	}
	if u.database, err = cpuOfTree(b.master); err != nil {
		return u, err
	}
	if u.load, err = cpuOfSelf(); err != nil {
		return u, err
	}
	u.machine, err = cpuOfMachine()
	return u, err
}

func (u usage) minus(v usage) usage {
	return usage{
		u.server - v.server, u.database - v.database, u.load - v.load, u.machine - v.machine,
		u.wal - v.wal, u.updates - v.updates, u.hot - v.hot,
	}
}
