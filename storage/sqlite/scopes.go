package sqlite

import (
	"context"
	"database/sql"

	"signet/audit"
	"signet/clients"
	"signet/keys"
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

// IDTokenAlgorithms returns the algorithms that clients want their ID tokens signed with.
func (s *Store) IDTokenAlgorithms(ctx context.Context) ([]keys.Algorithm, error) {
	return many(ctx, s, func(row *sql.Rows) (a keys.Algorithm, err error) {
		err = row.Scan(&a)
		return a, err
	}, `SELECT DISTINCT details->>'id_token_signed_response_alg' FROM clients
		WHERE details->>'id_token_signed_response_alg' <> '' AND NOT disabled`, args{})
}
