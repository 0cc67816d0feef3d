package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"signet/audit"
	"signet/clients"
)

// Scopes implements clients.Store.
func (s *Store) Scopes(ctx context.Context) ([]clients.Described, error) {
	return many(ctx, s, pgx.RowToStructByPos[clients.Described], `SELECT name, description FROM scopes ORDER BY name`, named{})
}

var describeScope = recording(`
	INSERT INTO scopes (name, description) VALUES (@name, @description)
	ON CONFLICT (name) DO UPDATE SET description = excluded.description RETURNING name`, `name`)

// DescribeScope implements clients.Store.
func (s *Store) DescribeScope(ctx context.Context, d clients.Described, e audit.Event) error {
	_, err := s.exec(ctx, describeScope, with(e, named{"name": d.Name, "description": d.Description}))
	return err
}

// forgetScope finds its own event where it is repeated after a lost answer.
const forgetScope = `WITH changed AS (DELETE FROM scopes WHERE name = @name RETURNING name),
	event AS (` + insertEvent + ` FROM changed)
	SELECT FROM changed UNION ALL SELECT FROM audit_events WHERE id = @e_id::uuid`

// ForgetScope implements clients.Store.
func (s *Store) ForgetScope(ctx context.Context, name string, e audit.Event) error {
	n, err := s.exec(ctx, forgetScope, with(e, named{"name": name}))
	if err == nil && n == 0 {
		err = clients.ErrNoScope
	}
	return err
}
