package sqlite

import (
	"context"
	"database/sql"
	"time"

	"signet/audit"
	"signet/clients"
)

// CreateRegistrationToken implements clients.RegistrationStore.
func (s *Store) CreateRegistrationToken(ctx context.Context, digest []byte, uses int, ttl time.Duration, e audit.Event) (expires time.Time, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		expires = time.UnixMicro(t.now).Add(ttl).UTC()
		if err := t.exec(ctx, `INSERT INTO registration_tokens (digest, uses, expires_at) VALUES (@digest, @uses, @end)`,
			args{"digest": digest, "uses": uses, "end": expires.UnixMicro()}); err != nil {
			return err
		}
		return t.record(ctx, e)
	})
	return expires, err
}

// RegistrationTokens implements clients.RegistrationStore.
func (s *Store) RegistrationTokens(ctx context.Context) ([]clients.InitialToken, error) {
	return many(ctx, s, func(row *sql.Rows) (t clients.InitialToken, err error) {
		var expires int64
		err = row.Scan(&t.Digest, &t.Uses, &expires)
		t.ExpiresAt = time.UnixMicro(expires).UTC()
		return t, err
	}, `SELECT digest, uses, expires_at FROM registration_tokens WHERE uses > 0 AND expires_at > @now ORDER BY digest`, args{})
}

// RevokeRegistrationToken implements clients.RegistrationStore.
func (s *Store) RevokeRegistrationToken(ctx context.Context, digest []byte, e audit.Event) error {
	_, found, err := change(ctx, s, readInt, `DELETE FROM registration_tokens WHERE digest = @digest AND uses > 0 AND expires_at > @now RETURNING uses`,
		args{"digest": digest}, e)
	if err == nil && !found {
		err = clients.ErrNoInitialToken
	}
	return err
}

// RegisterClient implements clients.RegistrationStore.
func (s *Store) RegisterClient(ctx context.Context, c clients.Client, digest, initial []byte, e audit.Event) (created clients.Client, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		if initial != nil {
			_, found, err := oneIn(ctx, t, readInt, `UPDATE registration_tokens SET uses = uses - 1 WHERE digest = @digest AND uses > 0 AND expires_at > @now RETURNING uses`,
				args{"digest": initial})
			if err == nil && !found {
				err = clients.ErrRegistrationToken
			}
			if err != nil {
				return err
			}
		}
		if created, err = createClient(ctx, t, c, e); err != nil {
			return err
		}
		return t.exec(ctx, `INSERT INTO registrations (client_id, client_epoch, digest, created_at) VALUES (@id, @epoch, @digest, @now)
			ON CONFLICT (client_id) DO UPDATE SET client_epoch = excluded.client_epoch, digest = excluded.digest, previous_digest = NULL, created_at = @now`,
			args{"id": c.ID, "epoch": c.Epoch, "digest": digest})
	})
	return created, err
}

// RegisteredClient implements clients.RegistrationStore.
func (s *Store) RegisteredClient(ctx context.Context, id string, digest []byte) (c clients.Client, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		var found bool
		c, found, err = oneIn(ctx, t, readClient, `SELECT `+clientColumns+` FROM clients WHERE id = @id AND NOT disabled
			AND EXISTS (SELECT 1 FROM registrations r WHERE r.client_id = @id AND (r.digest = @digest OR r.previous_digest = @digest))`, args{"id": id, "digest": digest})
		if err == nil && !found {
			err = clients.ErrRegistrationToken
		}
		if err != nil {
			return err
		}
		return t.exec(ctx, `UPDATE registrations SET previous_digest = NULL WHERE client_id = @id AND digest = @digest AND previous_digest IS NOT NULL`,
			args{"id": id, "digest": digest})
	})
	return c, err
}

// RenewRegistration implements clients.RegistrationStore.
func (s *Store) RenewRegistration(ctx context.Context, id string, presented, digest []byte) (bool, error) {
	n, err := s.exec(ctx, `UPDATE registrations SET previous_digest = @presented, digest = @digest
		WHERE client_id = @id AND (digest = @presented OR previous_digest = @presented)`, args{"id": id, "presented": presented, "digest": digest})
	return n > 0, err
}

// DeleteUnusedClients implements storage.Store.
func (s *Store) DeleteUnusedClients(ctx context.Context) (int64, error) {
	return s.eachInBatches(ctx, args{"ttl": clients.UnusedTTL.Microseconds()},
		`DELETE FROM clients WHERE id IN (SELECT r.client_id FROM registrations r JOIN clients c ON c.id = r.client_id
			WHERE r.created_at <= @now - @ttl
				AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.client_id = r.client_id) AND NOT EXISTS (SELECT 1 FROM consents k WHERE k.client_id = r.client_id)
			LIMIT @batch)`,
		`DELETE FROM registrations WHERE client_id IN (SELECT r.client_id FROM registrations r
			WHERE NOT EXISTS (SELECT 1 FROM clients c WHERE c.id = r.client_id) LIMIT @batch)`,
		`DELETE FROM registration_tokens WHERE digest IN (SELECT digest FROM registration_tokens WHERE uses <= 0 OR expires_at <= @now LIMIT @batch)`,
	)
}
