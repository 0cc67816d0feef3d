package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"signet/activity"
)

// currentBucket is the bucket that now is in.
const currentBucket = `floor(extract(epoch FROM now()))::bigint / @bucket::bigint * @bucket::bigint`

func bucketSeconds() int64 { return int64(activity.Bucket / time.Second) }

// AddActivity implements activity.Store. It is not tried again where it is unknown whether it took effect.
func (s *Store) AddActivity(ctx context.Context, counts map[activity.Kind]int64) error {
	var kinds []string
	for k := range counts {
		kinds = append(kinds, string(k))
	}
	slices.Sort(kinds) // two replicas lock their rows in the same order
	numbers := make([]int64, len(kinds))
	for i, k := range kinds {
		numbers[i] = counts[activity.Kind(k)]
	}
	_, err := run(ctx, s, false, func(ctx context.Context) (struct{}, error) {
		_, err := s.pool.Exec(ctx, `
			INSERT INTO activity (bucket, kind, count)
			SELECT `+currentBucket+`, kind, count FROM unnest(@kinds::text[], @counts::bigint[]) AS counted (kind, count)
			ON CONFLICT (bucket, kind) DO UPDATE SET count = activity.count + excluded.count`,
			named{"bucket": bucketSeconds(), "kinds": kinds, "counts": numbers})
		return struct{}{}, err
	})
	return err
}

// SampleSessions implements activity.Store. Nothing is counted where somebody has found some before.
func (s *Store) SampleSessions(ctx context.Context) (some bool, err error) {
	some, found, err := one(ctx, s, pgx.RowTo[bool], `
		INSERT INTO activity (bucket, kind, count)
		SELECT `+currentBucket+`, @kind::text, (SELECT count(*) FROM sessions s, users u, clients c WHERE `+usable+`)
		WHERE NOT EXISTS (SELECT FROM activity WHERE bucket = `+currentBucket+` AND kind = @kind::text AND count > 0)
		ON CONFLICT (bucket, kind) DO UPDATE SET count = greatest(activity.count, excluded.count)
		RETURNING count > 0`, named{"bucket": bucketSeconds(), "kind": string(activity.LiveSessions)})
	return some || !found, err
}

// Activity implements activity.Store.
func (s *Store) Activity(ctx context.Context, last, step time.Duration) ([]activity.Point, error) {
	rows, err := many(ctx, s, func(row pgx.CollectableRow) (r activity.Row, err error) {
		err = row.Scan(&r.Start, &r.Kind, &r.Count)
		return r, err
	}, `SELECT bucket / @step * @step AS start, kind, (CASE WHEN kind = @gauge THEN max(count) ELSE sum(count) END)::bigint
		FROM activity WHERE bucket > extract(epoch FROM now())::bigint - @last GROUP BY start, kind ORDER BY start`,
		named{"step": int64(step / time.Second), "last": int64(last / time.Second), "gauge": string(activity.LiveSessions)})
	return activity.Points(rows), err
}

// DeleteActivity implements activity.Store.
func (s *Store) DeleteActivity(ctx context.Context, retention time.Duration) (int64, error) {
	return s.inBatches(ctx, `DELETE FROM activity WHERE (bucket, kind) IN (
		SELECT bucket, kind FROM activity WHERE bucket <= extract(epoch FROM now())::bigint - @retention
		ORDER BY bucket LIMIT @batch FOR UPDATE SKIP LOCKED)`, named{"retention": int64(retention / time.Second)})
}
