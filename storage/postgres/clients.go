package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"signet/audit"
	"signet/clients"
)

const clientColumns = `id, name, grants, auth_method, scope, audience, redirect_uris, browser_origins, resource_server,
	details, disabled, epoch, secret_digest, CASE WHEN previous_until > now() THEN previous_digest END, created_at, version`

// fromJSON reads JSON into what it holds: pgx itself would empty that first.
type fromJSON struct{ v any }

// Scan implements sql.Scanner.
func (f *fromJSON) Scan(column any) error {
	switch text := column.(type) {
	case string:
		return json.Unmarshal([]byte(text), f.v)
	case []byte:
		return json.Unmarshal(text, f.v)
	default:
		return fmt.Errorf("a %T where JSON is kept", column)
	}
}

// clientFields are what a row of clientColumns is scanned into.
func clientFields(c *clients.Client) []any {
	return []any{
		&c.ID, &c.Name, &c.Grants, &c.AuthMethod, &c.Scope, &c.Audience, &c.RedirectURIs, &c.BrowserOrigins, &c.ResourceServer,
		&fromJSON{&clients.Details{Of: c}}, &c.Disabled, &c.Epoch, &c.SecretDigest, &c.PreviousDigest, &c.CreatedAt, &c.Version,
	}
}

func readClient(row pgx.CollectableRow) (c clients.Client, err error) {
	err = row.Scan(clientFields(&c)...)
	c.CreatedAt = c.CreatedAt.UTC()
	return c, err
}

// clientArgs are the arguments of a client's metadata. Lists are never NULL.
func clientArgs(c clients.Client) named {
	return named{
		"id": c.ID, "name": c.Name, "grants": list(c.Grants), "auth_method": string(c.AuthMethod), "scope": list(c.Scope),
		"audience": list(c.Audience), "redirect_uris": list(c.RedirectURIs), "browser_origins": list(c.BrowserOrigins),
		"resource_server": c.ResourceServer, "details": clients.Details{Of: &c}, "secret_digest": c.SecretDigest,
	}
}

func list[T ~string](values []T) []string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = string(v)
	}
	return texts
}

// Client implements clients.Store.
func (s *Store) Client(ctx context.Context, id string) (clients.Client, error) {
	return s.oneClient(ctx, `SELECT `+clientColumns+` FROM clients WHERE id = @id`, named{"id": id})
}

func (s *Store) oneClient(ctx context.Context, sql string, args named) (clients.Client, error) {
	c, found, err := one(ctx, s, readClient, sql, args)
	if err == nil && !found {
		err = clients.ErrNotFound
	}
	return c, err
}

// Clients implements clients.Store.
func (s *Store) Clients(ctx context.Context, f clients.Filter) ([]clients.Client, error) {
	return many(ctx, s, readClient, `SELECT `+clientColumns+` FROM clients
		WHERE id > @after AND (@query = '' OR position(lower(@query) IN lower(id)) > 0 OR position(lower(@query) IN lower(name)) > 0)
		ORDER BY id LIMIT @limit`, named{"query": f.Query, "after": f.After, "limit": f.Limit})
}

// BrowserOrigins implements clients.Store.
func (s *Store) BrowserOrigins(ctx context.Context) ([]string, error) {
	return many(ctx, s, pgx.RowTo[string], `SELECT DISTINCT unnest(browser_origins) FROM clients WHERE NOT disabled`, named{})
}

// PublicRedirectURIs implements clients.Store.
func (s *Store) PublicRedirectURIs(ctx context.Context) ([]string, error) {
	return many(ctx, s, pgx.RowTo[string], `SELECT DISTINCT unnest(redirect_uris) FROM clients WHERE auth_method = 'none' AND NOT disabled`, named{})
}

var createClient = recording(`
	INSERT INTO clients (id, name, grants, auth_method, scope, audience, redirect_uris, browser_origins, resource_server, details, disabled, epoch, secret_digest)
	VALUES (@id, @name, @grants, @auth_method, @scope, @audience, @redirect_uris, @browser_origins, @resource_server, @details, @disabled, @epoch, @secret_digest)
	RETURNING *`, clientColumns)

// CreateClient implements clients.Store.
func (s *Store) CreateClient(ctx context.Context, c clients.Client, e audit.Event) (clients.Client, error) {
	args := with(e, clientArgs(c))
	args["epoch"], args["disabled"] = c.Epoch, c.Disabled
	created, err := run(ctx, s, false, func(ctx context.Context) (clients.Client, error) {
		rows, err := s.pool.Query(ctx, createClient, args)
		if err != nil {
			return clients.Client{}, err
		}
		return pgx.CollectExactlyOneRow(rows, readClient)
	})
	if violates(err, "clients_pkey") {
		err = clients.ErrExists
	}
	return created, err
}

// updateClient looks at the row before it is changed, and locks it: only so can it tell what the change was.
var updateClient = `WITH old AS (SELECT id, disabled FROM clients WHERE id = @id FOR UPDATE),
	changed AS (
		UPDATE clients c SET name = @name, grants = @grants, auth_method = @auth_method, scope = @scope, audience = @audience,
			redirect_uris = @redirect_uris, browser_origins = @browser_origins, resource_server = @resource_server,
			details = @details::jsonb - 'registered' || CASE WHEN c.details ? 'registered' THEN '{"registered": true}' ELSE '{}' END::jsonb,
			secret_digest = CASE WHEN @secret_digest::bytea IS NOT NULL THEN coalesce(secret_digest, @secret_digest::bytea) END,
			previous_digest = CASE WHEN @secret_digest::bytea IS NOT NULL THEN previous_digest END,
			disabled = @disabled, epoch = epoch + CASE WHEN @disabled AND NOT c.disabled THEN 1 ELSE 0 END, version = version + 1
		FROM old WHERE c.id = old.id AND (@version::bigint = 0 OR version = @version)
		RETURNING c.*, c.disabled <> old.disabled AS toggled
	), event AS (` + insertEvents + ` FROM changed, ` + allEvents + `
		WHERE e.id <> @toggled_id::uuid OR changed.toggled ON CONFLICT (id) DO NOTHING)
	SELECT ` + clientColumns + `, toggled FROM changed`

// UpdateClient implements clients.Store.
func (s *Store) UpdateClient(ctx context.Context, c clients.Client, e, toggled audit.Event) (updated clients.Client, wasToggled bool, err error) {
	args := withAll([]audit.Event{e, toggled}, clientArgs(c))
	args["disabled"], args["version"], args["toggled_id"] = c.Disabled, c.Version, toggled.ID
	// With a version, a repetition would not tell its own change from somebody else's.
	updated, err = run(ctx, s, c.Version == 0, func(ctx context.Context) (clients.Client, error) {
		rows, err := s.pool.Query(ctx, updateClient, args)
		if err != nil {
			return clients.Client{}, err
		}
		return pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (c clients.Client, err error) {
			err = row.Scan(append(clientFields(&c), &wasToggled)...)
			c.CreatedAt = c.CreatedAt.UTC()
			return c, err
		})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		if _, err = s.Client(ctx, c.ID); err == nil {
			err = clients.ErrChanged
		}
	}
	return updated, wasToggled, err
}

var rotateClientSecret = recording(`
	UPDATE clients SET secret_digest = @digest, previous_digest = CASE WHEN secret_digest = @digest THEN previous_digest ELSE secret_digest END,
		previous_until = now() + @overlap::interval,
		version = version + 1
	WHERE id = @id RETURNING *`, clientColumns)

// RotateClientSecret implements clients.Store.
func (s *Store) RotateClientSecret(ctx context.Context, id string, digest []byte, overlap time.Duration, e audit.Event) (clients.Client, error) {
	return s.oneClient(ctx, rotateClientSecret, with(e, named{"id": id, "digest": digest, "overlap": overlap}))
}

var setClientDisabled = recording(`
	UPDATE clients SET disabled = @disabled, epoch = epoch + CASE WHEN @disabled THEN 1 ELSE 0 END, version = version + 1
	WHERE id = @id RETURNING *`, clientColumns)

// SetClientDisabled implements clients.Store.
func (s *Store) SetClientDisabled(ctx context.Context, id string, disabled bool, e audit.Event) (clients.Client, error) {
	return s.oneClient(ctx, setClientDisabled, with(e, named{"id": id, "disabled": disabled}))
}

// deleteClient finds its own event where it is repeated after a lost answer.
const deleteClient = `WITH changed AS (DELETE FROM clients WHERE id = @id RETURNING id),
	event AS (` + insertEvent + ` FROM changed)
	SELECT FROM changed UNION ALL SELECT FROM audit_events WHERE id = @e_id::uuid`

// DeleteClient implements clients.Store.
func (s *Store) DeleteClient(ctx context.Context, id string, e audit.Event) error {
	n, err := s.exec(ctx, deleteClient, with(e, named{"id": id}))
	if err == nil && n == 0 {
		err = clients.ErrNotFound
	}
	return err
}
