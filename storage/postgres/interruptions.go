package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"signet/audit"
	"signet/tokens"
)

// beat renews the heartbeat if it is due: of the replicas that try at once one does, the others see that it was. A heartbeat of the
// future is one by another server's clock. One that comes late writes the interruption down in the same statement. There is one row, which
// LIMIT tells the planner: of a table that was not analyzed yet it expects thousands, and would compile the statement (JIT) each time.
const beat = `WITH last AS (
		SELECT beat_at FROM heartbeat WHERE beat_at < now() - @interval::interval OR beat_at > now() + @interval::interval
		LIMIT 1 FOR UPDATE
	), first AS (
		INSERT INTO heartbeat (beat_at) SELECT now() WHERE NOT EXISTS (SELECT FROM heartbeat) ON CONFLICT DO NOTHING
	), renewed AS (
		UPDATE heartbeat h SET beat_at = now() FROM last RETURNING last.beat_at AS began_at, h.beat_at AS ended_at
	), interruption AS (
		INSERT INTO interruptions (began_at, ended_at)
		SELECT began_at, ended_at FROM renewed WHERE began_at < ended_at - @gap::interval
		ON CONFLICT DO NOTHING RETURNING began_at, ended_at
	), event AS (
		INSERT INTO audit_events (id, type, actor, client_id, user_id, session_id, address, request_id, detail)
		SELECT @e_id::uuid, @e_type::text, @e_actor::text, '', '', '', '', '', round(extract(epoch FROM ended_at - began_at)::numeric, 1) || ' s'
		FROM interruption
	)
	SELECT began_at, ended_at FROM interruption`

// Beat implements tokens.Store.
func (s *Store) Beat(ctx context.Context, e audit.Event) (tokens.Interruption, bool, error) {
	return one(ctx, s, func(row pgx.CollectableRow) (i tokens.Interruption, err error) {
		err = row.Scan(&i.Began, &i.Ended)
		return i, err
	}, beat, with(e, named{"interval": tokens.HeartbeatInterval * 9 / 10, "gap": tokens.HeartbeatGap}))
}

// DeleteInterruptions implements storage.Store.
func (s *Store) DeleteInterruptions(ctx context.Context, retention time.Duration) (int64, error) {
	return s.inBatches(ctx, `DELETE FROM interruptions WHERE ended_at IN (
		SELECT ended_at FROM interruptions WHERE ended_at <= now() - @retention::interval LIMIT @batch FOR UPDATE SKIP LOCKED)`,
		named{"retention": retention})
}
