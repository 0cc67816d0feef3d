package sqlite

import (
	"context"
	"database/sql"
	"time"

	"signet/audit"
	"signet/tokens"
)

// Beat implements tokens.Store.
func (s *Store) Beat(ctx context.Context, e audit.Event) (i tokens.Interruption, ok bool, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		last, known, err := oneIn(ctx, t, readInt, `SELECT beat_at FROM heartbeat`, args{})
		interval := (tokens.HeartbeatInterval * 9 / 10).Microseconds()
		if err != nil || known && last >= t.now-interval && last <= t.now+interval {
			return err
		}
		if err := t.exec(ctx, `INSERT INTO heartbeat (only_row, beat_at) VALUES (1, @now) ON CONFLICT DO UPDATE SET beat_at = @now`, args{}); err != nil {
			return err
		}
		if !known || last >= t.now-tokens.HeartbeatGap.Microseconds() {
			return nil
		}
		if i, ok, err = oneIn(ctx, t, func(row *sql.Rows) (i tokens.Interruption, err error) {
			err = row.Scan(moment{&i.Began}, moment{&i.Ended}, &e.Detail)
			return i, err
		}, `INSERT INTO interruptions (began_at, ended_at) VALUES (@began, @now)
			RETURNING began_at, ended_at, printf('%.1f s', (ended_at - began_at) / 1e6)`, args{"began": last}); err != nil {
			return err
		}
		return t.record(ctx, e)
	})
	return i, ok && err == nil, err
}

// DeleteInterruptions implements storage.Store.
func (s *Store) DeleteInterruptions(ctx context.Context, retention time.Duration) (int64, error) {
	return s.inBatches(ctx, `DELETE FROM interruptions WHERE ended_at IN (
		SELECT ended_at FROM interruptions WHERE ended_at <= @now - @retention LIMIT @batch)`, args{"retention": retention.Microseconds()})
}
