package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"signet/audit"
)

const insertEvent = `INSERT INTO audit_events (id, type, actor, client_id, user_id, session_id, address, request_id, detail)
	SELECT @e_id::uuid, @e_type::text, @e_actor::text, @e_client::text, @e_user::text, @e_session::text,
		@e_address::text, @e_request::text, @e_detail::text`

// insertEvents is insertEvent for all of the events that withAll was given, to be selected from allEvents.
const (
	insertEvents = `INSERT INTO audit_events (id, type, actor, client_id, user_id, session_id, address, request_id, detail) SELECT e.*`
	allEvents    = `unnest(@e_ids::uuid[], @e_types::text[], @e_actors::text[], @e_clients::text[], @e_users::text[],
		@e_sessions::text[], @e_addresses::text[], @e_requests::text[], @e_details::text[])
		AS e (id, type, actor, client_id, user_id, session_id, address, request_id, detail)`
)

// withAll adds the arguments of allEvents to those of a statement.
func withAll(events []audit.Event, args named) named {
	for name, member := range map[string]func(e audit.Event) string{
		"e_ids":       func(e audit.Event) string { return e.ID },
		"e_types":     func(e audit.Event) string { return string(e.Type) },
		"e_actors":    func(e audit.Event) string { return e.Actor },
		"e_clients":   func(e audit.Event) string { return e.ClientID },
		"e_users":     func(e audit.Event) string { return e.UserID },
		"e_sessions":  func(e audit.Event) string { return e.SessionID },
		"e_addresses": func(e audit.Event) string { return e.Address },
		"e_requests":  func(e audit.Event) string { return e.RequestID },
		"e_details":   func(e audit.Event) string { return e.Detail },
	} {
		values := make([]string, len(events))
		for i, e := range events {
			values[i] = member(e)
		}
		args[name] = values
	}
	return args
}

// RecordEvent implements audit.Store.
func (s *Store) RecordEvent(ctx context.Context, e audit.Event) error {
	_, err := s.exec(ctx, insertEvent+` ON CONFLICT (id) DO NOTHING`, with(e, named{}))
	return err
}

// Events implements audit.Store.
func (s *Store) Events(ctx context.Context, f audit.Filter) ([]audit.Event, error) {
	return many(ctx, s, readEvent, `
		SELECT id::text, time, type, actor, client_id, user_id, session_id, address, request_id, detail
		FROM audit_events
		WHERE (@type = '' OR type = @type) AND (@user = '' OR user_id = @user) AND (@client = '' OR client_id = @client)
			AND (@since::interval = '0' OR time > now() - @since::interval) AND (@first = '' OR id > nullif(@first, '')::uuid)
			AND (@before = '' OR id < nullif(@before, '')::uuid)
		ORDER BY id DESC LIMIT @limit`,
		named{
			"type": string(f.Type), "user": f.UserID, "client": f.ClientID,
			"since": f.Since, "first": f.FirstID(), "before": f.Before, "limit": f.Limit,
		})
}

func readEvent(row pgx.CollectableRow) (e audit.Event, err error) {
	err = row.Scan(&e.ID, &e.Time, &e.Type, &e.Actor, &e.ClientID, &e.UserID, &e.SessionID, &e.Address, &e.RequestID, &e.Detail)
	e.Time = e.Time.UTC()
	return e, err
}
