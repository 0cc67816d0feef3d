package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"signet/users"
)

// importTable takes the rows of a batch, which COPY brings in much faster than INSERT would. It lives as long as the
// transaction, so that a pooler may give the connection to somebody else afterwards.
const importTable = `CREATE TEMPORARY TABLE imported (id text, username text, canonical text, hash text, admin boolean,
	e_id text, e_type text, e_actor text, e_client text, e_user text, e_session text, e_address text, e_request text, e_detail text)
	ON COMMIT DROP`

var importColumns = []string{
	"id", "username", "canonical", "hash", "admin",
	"e_id", "e_type", "e_actor", "e_client", "e_user", "e_session", "e_address", "e_request", "e_detail",
}

// The rows are inserted in the order of what is unique, so that two imports never wait for each other.
const importUsers = `
	WITH made AS (
		INSERT INTO users (id, username, canonical, password_hash, admin)
		SELECT id::uuid, username, canonical, hash, admin FROM pg_temp.imported ORDER BY canonical COLLATE "C"
		ON CONFLICT DO NOTHING RETURNING id
	)
	INSERT INTO audit_events (id, type, actor, client_id, user_id, session_id, address, request_id, detail)
	SELECT e_id::uuid, e_type, e_actor, e_client, e_user, e_session, e_address, e_request, e_detail
	FROM pg_temp.imported i JOIN made ON made.id = i.id::uuid`

// ImportUsers implements users.Store.
func (s *Store) ImportUsers(ctx context.Context, list []users.NewUser) (int, error) {
	rows := make([][]any, len(list))
	for i, u := range list {
		e := u.Event
		rows[i] = []any{
			u.ID, u.Username, u.Canonical, u.PasswordHash, u.Admin,
			e.ID, string(e.Type), e.Actor, e.ClientID, e.UserID, e.SessionID, e.Address, e.RequestID, e.Detail,
		}
	}
	return run(ctx, s, true, func(ctx context.Context) (imported int, err error) {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, importTable); err != nil {
				return err
			}
			if _, err := tx.CopyFrom(ctx, pgx.Identifier{"pg_temp", "imported"}, importColumns, pgx.CopyFromRows(rows)); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, importUsers); err != nil {
				return err
			}
			// Counted by their ids, so that a repetition finds its own work.
			return tx.QueryRow(ctx, `SELECT count(*) FROM users u JOIN pg_temp.imported i ON u.id = i.id::uuid`).Scan(&imported)
		})
		return imported, err
	})
}
