package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"signet/users"
)

// importTable takes the rows of a batch, which COPY brings in much faster than INSERT would. It lives as long as the
// transaction, so that a pooler may give the connection to somebody else afterwards.
const importTable = `CREATE TEMPORARY TABLE imported (place integer, id text, username text, canonical text COLLATE "C", hash text, admin boolean,
	profile jsonb, verified_email text,
	e_id text, e_type text, e_actor text, e_client text, e_user text, e_session text, e_address text, e_request text, e_detail text)
	ON COMMIT DROP`

var importColumns = []string{
	"place", "id", "username", "canonical", "hash", "admin", "profile", "verified_email",
	"e_id", "e_type", "e_actor", "e_client", "e_user", "e_session", "e_address", "e_request", "e_detail",
}

// The rows are inserted in the order of what is unique, so that two imports never wait for each other, unless they
// give the same addresses to different names: then one is repeated.
const importUsers = `
	WITH made AS (
		INSERT INTO users (id, username, canonical, password_hash, admin, profile, verified_email)
		SELECT id::uuid, username, canonical, hash, admin,
			CASE WHEN profile = '{}' THEN profile ELSE profile || jsonb_build_object('updated_at', now()) END, nullif(verified_email, '')
		FROM pg_temp.imported ORDER BY canonical
		ON CONFLICT DO NOTHING RETURNING id
	)
	INSERT INTO audit_events (id, type, actor, client_id, user_id, session_id, address, request_id, detail)
	SELECT e_id::uuid, e_type, e_actor, e_client, e_user, e_session, e_address, e_request, e_detail
	FROM pg_temp.imported i JOIN made ON made.id = i.id::uuid`

// importedUsers counts by ids, so that a repetition finds its own work. Whose name is still free was left out for the address.
const importedUsers = `
	SELECT count(*) FILTER (WHERE u.id = i.id::uuid),
		coalesce(array_agg(i.place ORDER BY i.place) FILTER (WHERE u.id IS NULL AND i.verified_email <> ''), '{}')
	FROM pg_temp.imported i LEFT JOIN users u ON u.canonical = i.canonical`

// ImportUsers implements users.Store.
func (s *Store) ImportUsers(ctx context.Context, list []users.NewUser) (imported int, taken []int, err error) {
	rows := make([][]any, len(list))
	for i, u := range list {
		e := u.Event
		rows[i] = []any{
			i, u.ID, u.Username, u.Canonical, u.PasswordHash, u.Admin, u.Stored(), u.VerifiedEmail(),
			e.ID, string(e.Type), e.Actor, e.ClientID, e.UserID, e.SessionID, e.Address, e.RequestID, e.Detail,
		}
	}
	_, err = run(ctx, s, true, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, importTable); err != nil {
				return err
			}
			if _, err := tx.CopyFrom(ctx, pgx.Identifier{"pg_temp", "imported"}, importColumns, pgx.CopyFromRows(rows)); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, importUsers); err != nil {
				return err
			}
			return tx.QueryRow(ctx, importedUsers).Scan(&imported, &taken)
		})
	})
	return imported, taken, err
}
