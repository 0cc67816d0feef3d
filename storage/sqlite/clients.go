package sqlite

import (
	"context"
	"database/sql"
	"time"

	"signet/audit"
	"signet/clients"
)

const clientColumns = `id, name, grants, auth_method, scope, audience, redirect_uris, browser_origins, resource_server,
	details, disabled, epoch, secret_digest, CASE WHEN previous_until > @now THEN previous_digest END, created_at, version`

func readClient(row *sql.Rows) (c clients.Client, err error) {
	err = row.Scan(&c.ID, &c.Name, fromList(&c.Grants), &c.AuthMethod, fromList((*[]string)(&c.Scope)), fromList(&c.Audience),
		fromList(&c.RedirectURIs), fromList(&c.BrowserOrigins), &c.ResourceServer, fromJSON{&clients.Details{Of: &c}}, &c.Disabled,
		&c.Epoch, &c.SecretDigest,
		&c.PreviousDigest, moment{&c.CreatedAt}, &c.Version)
	return c, err
}

// clientArgs are the arguments of a client's metadata. Lists are never NULL.
func clientArgs(c clients.Client) args {
	return args{
		"id": c.ID, "name": c.Name, "grants": list(c.Grants), "auth_method": string(c.AuthMethod), "scope": list(c.Scope),
		"audience": list(c.Audience), "redirect_uris": list(c.RedirectURIs), "browser_origins": list(c.BrowserOrigins),
		"resource_server": c.ResourceServer, "details": toJSON(clients.Details{Of: &c}), "secret_digest": c.SecretDigest,
	}
}

// Client implements clients.Store.
func (s *Store) Client(ctx context.Context, id string) (clients.Client, error) {
	c, found, err := first(many(ctx, s, readClient, `SELECT `+clientColumns+` FROM clients WHERE id = @id`, args{"id": id}))
	if err == nil && !found {
		err = clients.ErrNotFound
	}
	return c, err
}

// Clients implements clients.Store.
func (s *Store) Clients(ctx context.Context, f clients.Filter) ([]clients.Client, error) {
	return many(ctx, s, readClient, `SELECT `+clientColumns+` FROM clients
		WHERE id > @after AND (@query = '' OR instr(lower(id), lower(@query)) > 0 OR instr(lower(name), lower(@query)) > 0)
		ORDER BY id LIMIT @limit`, args{"query": f.Query, "after": f.After, "limit": f.Limit})
}

// BrowserOrigins implements clients.Store.
func (s *Store) BrowserOrigins(ctx context.Context) ([]string, error) {
	return many(ctx, s, readText, `SELECT DISTINCT o.value FROM clients c, json_each(c.browser_origins) o WHERE NOT c.disabled`, args{})
}

// PublicRedirectURIs implements clients.Store.
func (s *Store) PublicRedirectURIs(ctx context.Context) ([]string, error) {
	return many(ctx, s, readText, `SELECT DISTINCT u.value FROM clients c, json_each(c.redirect_uris) u
		WHERE c.auth_method = 'none' AND NOT c.disabled`, args{})
}

// CreateClient implements clients.Store.
func (s *Store) CreateClient(ctx context.Context, c clients.Client, e audit.Event) (created clients.Client, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		created, err = createClient(ctx, t, c, e)
		return err
	})
	return created, err
}

func createClient(ctx context.Context, t tx, c clients.Client, e audit.Event) (clients.Client, error) {
	a := clientArgs(c)
	a["epoch"], a["disabled"] = c.Epoch, c.Disabled
	created, made, err := oneIn(ctx, t, readClient, `
		INSERT INTO clients (id, name, grants, auth_method, scope, audience, redirect_uris, browser_origins, resource_server,
			details, disabled, epoch, secret_digest, created_at)
		VALUES (@id, @name, @grants, @auth_method, @scope, @audience, @redirect_uris, @browser_origins, @resource_server,
			@details, @disabled, @epoch, @secret_digest, @now)
		ON CONFLICT (id) DO NOTHING RETURNING `+clientColumns, a)
	switch {
	case err == nil && !made:
		err = clients.ErrExists
	case err == nil:
		err = t.record(ctx, e)
	}
	return created, err
}

func (s *Store) changeClient(ctx context.Context, text string, a args, e audit.Event) (clients.Client, error) {
	c, found, err := change(ctx, s, readClient, text+` RETURNING `+clientColumns, a, e)
	if err == nil && !found {
		err = clients.ErrNotFound
	}
	return c, err
}

// UpdateClient implements clients.Store.
func (s *Store) UpdateClient(ctx context.Context, c clients.Client, e, toggled audit.Event) (updated clients.Client, wasToggled bool, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		old, found, err := oneIn(ctx, t, readClient, `SELECT `+clientColumns+` FROM clients WHERE id = @id`, args{"id": c.ID})
		switch {
		case err != nil:
			return err
		case !found:
			return clients.ErrNotFound
		case c.Version != 0 && c.Version != old.Version:
			return clients.ErrChanged
		}
		wasToggled, c.Registered = c.Disabled != old.Disabled, old.Registered
		a := clientArgs(c)
		a["disabled"] = c.Disabled
		updated, _, err = oneIn(ctx, t, readClient, `
		UPDATE clients SET name = @name, grants = @grants, auth_method = @auth_method, scope = @scope, audience = @audience,
			redirect_uris = @redirect_uris, browser_origins = @browser_origins, resource_server = @resource_server, details = @details,
			secret_digest = CASE WHEN @secret_digest IS NOT NULL THEN coalesce(secret_digest, @secret_digest) END,
			previous_digest = CASE WHEN @secret_digest IS NOT NULL THEN previous_digest END,
			disabled = @disabled, epoch = epoch + CASE WHEN @disabled AND NOT disabled THEN 1 ELSE 0 END, version = version + 1
		WHERE id = @id RETURNING `+clientColumns, a)
		if err != nil {
			return err
		}
		if err := t.record(ctx, e); err != nil || !wasToggled {
			return err
		}
		return t.record(ctx, toggled)
	})
	return updated, wasToggled && err == nil, err
}

// RotateClientSecret implements clients.Store.
func (s *Store) RotateClientSecret(ctx context.Context, id string, digest []byte, overlap time.Duration, e audit.Event) (clients.Client, error) {
	return s.changeClient(ctx, `
		UPDATE clients SET secret_digest = @digest, previous_digest = CASE WHEN secret_digest = @digest THEN previous_digest ELSE secret_digest END,
		previous_until = @now + @overlap,
			version = version + 1
		WHERE id = @id`, args{"id": id, "digest": digest, "overlap": overlap.Microseconds()}, e)
}

// SetClientDisabled implements clients.Store.
func (s *Store) SetClientDisabled(ctx context.Context, id string, disabled bool, e audit.Event) (clients.Client, error) {
	return s.changeClient(ctx, `
		UPDATE clients SET disabled = @disabled, epoch = epoch + CASE WHEN @disabled THEN 1 ELSE 0 END, version = version + 1
		WHERE id = @id`, args{"id": id, "disabled": disabled}, e)
}

// DeleteClient implements clients.Store.
func (s *Store) DeleteClient(ctx context.Context, id string, e audit.Event) error {
	_, err := s.changeClient(ctx, `DELETE FROM clients WHERE id = @id`, args{"id": id}, e)
	return err
}
