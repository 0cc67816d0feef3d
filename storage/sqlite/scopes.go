package sqlite

import (
	"context"
	"database/sql"

	"signet/audit"
	"signet/clients"
)

// Scopes implements clients.Store.
func (s *Store) Scopes(ctx context.Context) ([]clients.Described, error) {
	return many(ctx, s, func(row *sql.Rows) (d clients.Described, err error) {
		err = row.Scan(&d.Name, &d.Description)
		return d, err
	}, `SELECT name, description FROM scopes ORDER BY name`, args{})
}

// DescribeScope implements clients.Store.
func (s *Store) DescribeScope(ctx context.Context, d clients.Described, e audit.Event) error {
	_, _, err := change(ctx, s, readText, `
		INSERT INTO scopes (name, description) VALUES (@name, @description)
		ON CONFLICT (name) DO UPDATE SET description = excluded.description RETURNING name`,
		args{"name": d.Name, "description": d.Description}, e)
	return err
}

// ForgetScope implements clients.Store.
func (s *Store) ForgetScope(ctx context.Context, name string, e audit.Event) error {
	_, found, err := change(ctx, s, readText, `DELETE FROM scopes WHERE name = @name RETURNING name`, args{"name": name}, e)
	if err == nil && !found {
		err = clients.ErrNoScope
	}
	return err
}
