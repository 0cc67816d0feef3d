package sqlite

import (
	"context"
	"database/sql"

	"signet/audit"
)

const insertEvent = `INSERT INTO audit_events (id, time, type, actor, client_id, user_id, session_id, address, request_id, detail)
	VALUES (@id, @now, @type, @actor, @client, @user, @session, @address, @request, @detail) ON CONFLICT (id) DO NOTHING`

func eventArgs(e audit.Event) args {
	return args{
		"id": e.ID, "type": string(e.Type), "actor": e.Actor, "client": e.ClientID, "user": e.UserID, "session": e.SessionID,
		"address": e.Address, "request": e.RequestID, "detail": e.Detail,
	}
}

// RecordEvent implements audit.Store.
func (s *Store) RecordEvent(ctx context.Context, e audit.Event) error {
	_, err := s.exec(ctx, insertEvent, eventArgs(e))
	return err
}

// Events implements audit.Store.
func (s *Store) Events(ctx context.Context, f audit.Filter) ([]audit.Event, error) {
	// Only the conditions that there are, so that the indexes can serve them.
	where := `true`
	if f.Since != 0 {
		where += ` AND time > @now - @since AND id > @first`
	}
	if f.Type != "" {
		where += ` AND type = @type`
	}
	if f.UserID != "" {
		where += ` AND user_id = @user AND user_id <> ''`
	}
	if f.ClientID != "" {
		where += ` AND client_id = @client AND client_id <> ''`
	}
	if f.Before != "" {
		where += ` AND id < @before`
	}
	return many(ctx, s, readEvent, `
		SELECT id, time, type, actor, client_id, user_id, session_id, address, request_id, detail
		FROM audit_events WHERE `+where+` ORDER BY id DESC LIMIT @limit`,
		args{
			"type": string(f.Type), "user": f.UserID, "client": f.ClientID,
			"since": f.Since.Microseconds(), "first": f.FirstID(), "before": id(f.Before), "limit": f.Limit,
		})
}

func readEvent(row *sql.Rows) (e audit.Event, err error) {
	err = row.Scan(&e.ID, moment{&e.Time}, &e.Type, &e.Actor, &e.ClientID, &e.UserID, &e.SessionID, &e.Address, &e.RequestID, &e.Detail)
	return e, err
}
