package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"signet/audit"
)

const insertEvent = `INSERT INTO audit_events (id, type, actor, client_id, user_id, session_id, address, request_id, detail)
	SELECT @e_id::uuid, @e_type::text, @e_actor::text, @e_client::text, @e_user::text, @e_session::text,
		@e_address::text, @e_request::text, @e_detail::text`

// RecordEvent implements audit.Store.
func (s *Store) RecordEvent(ctx context.Context, e audit.Event) error {
	_, err := s.exec(ctx, insertEvent+` ON CONFLICT (id) DO NOTHING`, with(e, pgx.NamedArgs{}))
	return err
}

// Events implements audit.Store.
func (s *Store) Events(ctx context.Context, f audit.Filter) ([]audit.Event, error) {
	return many(ctx, s, readEvent, `
		SELECT id::text, time, type, actor, client_id, user_id, session_id, address, request_id, detail
		FROM audit_events
		WHERE (@type = '' OR type = @type) AND (@user = '' OR user_id = @user) AND (@client = '' OR client_id = @client)
			AND (@since::interval = '0' OR time > now() - @since::interval)
			AND (@before = '' OR id < nullif(@before, '')::uuid)
		ORDER BY id DESC LIMIT @limit`,
		pgx.NamedArgs{
			"type": string(f.Type), "user": f.UserID, "client": f.ClientID,
			"since": f.Since, "before": f.Before, "limit": f.Limit,
		})
}

func readEvent(row pgx.CollectableRow) (e audit.Event, err error) {
	err = row.Scan(&e.ID, &e.Time, &e.Type, &e.Actor, &e.ClientID, &e.UserID, &e.SessionID, &e.Address, &e.RequestID, &e.Detail)
	e.Time = e.Time.UTC()
	return e, err
}
