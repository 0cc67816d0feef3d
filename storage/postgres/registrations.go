package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"signet/audit"
	"signet/clients"
)

// CreateRegistrationToken implements clients.RegistrationStore.
func (s *Store) CreateRegistrationToken(ctx context.Context, digest []byte, uses int, ttl time.Duration, e audit.Event) (time.Time, error) {
	expires, _, err := one(ctx, s, pgx.RowTo[time.Time], `WITH made AS (
			INSERT INTO registration_tokens (digest, uses, expires_at) VALUES (@digest, @uses, now() + @ttl::interval)
			ON CONFLICT (digest) DO UPDATE SET uses = registration_tokens.uses -- a repetition after a lost answer
			RETURNING expires_at
		), event AS (`+insertEvent+` FROM made ON CONFLICT (id) DO NOTHING) SELECT expires_at FROM made`,
		with(e, named{"digest": digest, "uses": uses, "ttl": ttl}))
	return expires.UTC(), err
}

// RegistrationTokens implements clients.RegistrationStore.
func (s *Store) RegistrationTokens(ctx context.Context) ([]clients.InitialToken, error) {
	return many(ctx, s, func(row pgx.CollectableRow) (t clients.InitialToken, err error) {
		err = row.Scan(&t.Digest, &t.Uses, &t.ExpiresAt)
		t.ExpiresAt = t.ExpiresAt.UTC()
		return t, err
	}, `SELECT digest, uses, expires_at FROM registration_tokens WHERE uses > 0 AND expires_at > now() ORDER BY digest`, named{})
}

// RevokeRegistrationToken implements clients.RegistrationStore. It finds its own event where it is repeated after a lost answer.
func (s *Store) RevokeRegistrationToken(ctx context.Context, digest []byte, e audit.Event) error {
	n, err := s.exec(ctx, `WITH changed AS (DELETE FROM registration_tokens WHERE digest = @digest AND uses > 0 AND expires_at > now() RETURNING digest),
		event AS (`+insertEvent+` FROM changed)
		SELECT FROM changed UNION ALL SELECT FROM audit_events WHERE id = @e_id::uuid`, with(e, named{"digest": digest}))
	if err == nil && n == 0 {
		err = clients.ErrNoInitialToken
	}
	return err
}

// RegisterClient implements clients.RegistrationStore.
func (s *Store) RegisterClient(ctx context.Context, c clients.Client, digest, initial []byte, e audit.Event) (clients.Client, error) {
	args := with(e, clientArgs(c))
	args["epoch"], args["disabled"] = c.Epoch, false
	created, err := run(ctx, s, false, func(ctx context.Context) (created clients.Client, err error) {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			if initial != nil {
				tag, err := tx.Exec(ctx, `UPDATE registration_tokens SET uses = uses - 1 WHERE digest = $1 AND uses > 0 AND expires_at > now()`, initial)
				if err == nil && tag.RowsAffected() == 0 {
					err = clients.ErrRegistrationToken
				}
				if err != nil {
					return err
				}
			}
			rows, err := tx.Query(ctx, createClient, args)
			if err == nil {
				created, err = pgx.CollectExactlyOneRow(rows, readClient)
			}
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `INSERT INTO registrations (client_id, client_epoch, digest) VALUES ($1, $2, $3)
				ON CONFLICT (client_id) DO UPDATE SET client_epoch = excluded.client_epoch, digest = excluded.digest, previous_digest = NULL, created_at = now()`,
				c.ID, c.Epoch, digest)
			return err
		})
		return created, err
	})
	if violates(err, "clients_pkey") {
		err = clients.ErrExists
	}
	return created, err
}

// RegisteredClient implements clients.RegistrationStore.
func (s *Store) RegisteredClient(ctx context.Context, id string, digest []byte) (clients.Client, error) {
	c, found, err := one(ctx, s, readClient, `WITH known AS (
			SELECT r.client_id, r.digest = @digest AS newest, r.previous_digest IS NOT NULL AS replaced FROM registrations r
			WHERE r.client_id = @id AND (r.digest = @digest OR r.previous_digest = @digest)
		), settled AS (
			UPDATE registrations r SET previous_digest = NULL FROM known WHERE r.client_id = known.client_id AND known.newest AND known.replaced AND r.digest = @digest
		)
		SELECT `+clientColumns+` FROM clients WHERE id IN (SELECT client_id FROM known) AND NOT disabled`, named{"id": id, "digest": digest})
	if err == nil && !found {
		err = clients.ErrRegistrationToken
	}
	return c, err
}

// RenewRegistration implements clients.RegistrationStore.
func (s *Store) RenewRegistration(ctx context.Context, id string, presented, digest []byte) (bool, error) {
	n, err := s.exec(ctx, `UPDATE registrations SET previous_digest = @presented, digest = @digest
		WHERE client_id = @id AND (digest IN (@presented, @digest) OR previous_digest = @presented)`,
		named{"id": id, "presented": presented, "digest": digest})
	return n > 0, err
}

// DeleteUnusedClients implements storage.Store. Whoever has used a client has a session on it, or has allowed it something.
func (s *Store) DeleteUnusedClients(ctx context.Context) (int64, error) {
	return s.eachInBatches(ctx, named{"ttl": clients.UnusedTTL},
		`DELETE FROM clients WHERE id IN (SELECT r.client_id FROM registrations r JOIN clients c ON c.id = r.client_id
			WHERE r.created_at <= now() - @ttl::interval
				AND NOT EXISTS (SELECT FROM sessions s WHERE s.client_id = r.client_id) AND NOT EXISTS (SELECT FROM consents k WHERE k.client_id = r.client_id)
			LIMIT @batch FOR UPDATE OF c SKIP LOCKED)`,
		`DELETE FROM registrations WHERE client_id IN (SELECT r.client_id FROM registrations r
			WHERE NOT EXISTS (SELECT FROM clients c WHERE c.id = r.client_id) LIMIT @batch FOR UPDATE SKIP LOCKED)`,
		`DELETE FROM registration_tokens WHERE digest IN (SELECT digest FROM registration_tokens WHERE uses <= 0 OR expires_at <= now() LIMIT @batch FOR UPDATE SKIP LOCKED)`,
	)
}
