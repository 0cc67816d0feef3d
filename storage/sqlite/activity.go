package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"signet/activity"
)

// currentBucket is the bucket that now is in.
const currentBucket = `(@now / 1000000 / @bucket * @bucket)`

func bucketSeconds() int64 { return int64(activity.Bucket / time.Second) }

// AddActivity implements activity.Store.
func (s *Store) AddActivity(ctx context.Context, counts map[activity.Kind]int64) error {
	list, err := json.Marshal(counts)
	if err != nil {
		return err
	}
	_, err = s.exec(ctx, `
		INSERT INTO activity (bucket, kind, count) SELECT `+currentBucket+`, key, value FROM json_each(@counts) WHERE true
		ON CONFLICT (bucket, kind) DO UPDATE SET count = count + excluded.count`,
		args{"bucket": bucketSeconds(), "counts": string(list)})
	return err
}

// SampleSessions implements activity.Store. It counts before it takes the write lock, and not at all where somebody has
// found some before.
func (s *Store) SampleSessions(ctx context.Context) (some bool, err error) {
	a := func() args { return args{"bucket": bucketSeconds(), "kind": string(activity.LiveSessions)} }
	sampled, _, err := first(many(ctx, s, readInt, `SELECT count(*) FROM activity WHERE bucket = `+currentBucket+` AND kind = @kind AND count > 0`, a()))
	if err != nil || sampled > 0 {
		return sampled > 0, err
	}
	live, _, err := first(many(ctx, s, readInt, `SELECT count(*) FROM sessions s CROSS JOIN users u CROSS JOIN clients c WHERE `+usable, args{}))
	if err != nil {
		return false, err
	}
	sample := a()
	sample["count"] = live
	_, err = s.exec(ctx, `INSERT INTO activity (bucket, kind, count) VALUES (`+currentBucket+`, @kind, @count)
		ON CONFLICT (bucket, kind) DO UPDATE SET count = max(count, excluded.count)`, sample)
	return live > 0, err
}

// Activity implements activity.Store.
func (s *Store) Activity(ctx context.Context, last, step time.Duration) ([]activity.Point, error) {
	rows, err := many(ctx, s, func(row *sql.Rows) (r activity.Row, err error) {
		err = row.Scan(&r.Start, &r.Kind, &r.Count)
		return r, err
	}, `SELECT bucket / @step * @step AS start, kind, CASE WHEN kind = @gauge THEN max(count) ELSE sum(count) END
		FROM activity WHERE bucket > @now / 1000000 - @last GROUP BY start, kind ORDER BY start`,
		args{"step": int64(step / time.Second), "last": int64(last / time.Second), "gauge": string(activity.LiveSessions)})
	return activity.Points(rows), err
}

// DeleteActivity implements activity.Store.
func (s *Store) DeleteActivity(ctx context.Context, retention time.Duration) (int64, error) {
	return s.inBatches(ctx, `DELETE FROM activity WHERE (bucket, kind) IN (
		SELECT bucket, kind FROM activity WHERE bucket <= @now / 1000000 - @retention ORDER BY bucket LIMIT @batch)`,
		args{"retention": int64(retention / time.Second)})
}
