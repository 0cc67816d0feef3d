package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"signet/audit"
	"signet/clients"
	"signet/keys"
)

// SigningKeys implements keys.Store.
func (s *Store) SigningKeys(ctx context.Context, keep time.Duration) ([]keys.Key, time.Time, error) {
	var now time.Time
	rows, err := many(ctx, s, func(row pgx.CollectableRow) (k keys.Key, err error) {
		var active, retired *time.Time
		if err = row.Scan(&k.ID, &k.Algorithm, &k.Sealed, &k.CreatedAt, &active, &retired, &k.TokenTTL, &now); err == nil {
			k.CreatedAt, k.ActiveFrom, k.RetiredAt = k.CreatedAt.UTC(), orZero(active), orZero(retired)
		}
		return k, err
	}, `SELECT id, algorithm, sealed, created_at, active_from, retired_at, token_ttl, now() FROM signing_keys
		WHERE retired_at IS NULL OR retired_at > now() - token_ttl - @keep::interval ORDER BY created_at, id`, named{"keep": keep})
	return rows, now, err
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// errStale ends a transaction whose precondition another one has changed.
var errStale = errors.New("stale")

// AdvanceSigningKeys implements keys.Store.
func (s *Store) AdvanceSigningKeys(ctx context.Context, from string, current keys.Key, next *keys.Key, e audit.Event) (bool, error) {
	_, err := run(ctx, s, false, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			if from != "" {
				tag, err := tx.Exec(ctx, `UPDATE signing_keys SET retired_at = now()
					WHERE id = $1 AND active_from IS NOT NULL AND retired_at IS NULL`, from)
				if err != nil {
					return err
				}
				if tag.RowsAffected() == 0 {
					return errStale
				}
			}
			// A next key that is not to become current never signed: nobody misses it.
			if _, err := tx.Exec(ctx, `DELETE FROM signing_keys WHERE active_from IS NULL AND algorithm = $2 AND id <> $1`, current.ID, string(current.Algorithm)); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `INSERT INTO signing_keys (id, algorithm, sealed, active_from) VALUES ($1, $2, $3, now())
				ON CONFLICT (id) DO UPDATE SET active_from = now()`, current.ID, string(current.Algorithm), current.Sealed); err != nil {
				return err
			}
			if next != nil {
				if _, err := tx.Exec(ctx, `INSERT INTO signing_keys (id, algorithm, sealed) VALUES ($1, $2, $3)`,
					next.ID, string(next.Algorithm), next.Sealed); err != nil {
					return err
				}
			}
			_, err := tx.Exec(ctx, insertEvent, with(e, named{}))
			return err
		})
	})
	if errors.Is(err, errStale) || violates(err, "signing_keys_current") || violates(err, "signing_keys_next") {
		return false, nil
	}
	return err == nil, err
}

// RevokeSigningKey implements keys.Store. A repetition after a lost answer finds its event.
func (s *Store) RevokeSigningKey(ctx context.Context, id string, next *keys.Key, e audit.Event) (bool, error) {
	args := with(e, named{"id": id, "next": nil, "algorithm": nil, "sealed": nil})
	if next != nil {
		args["next"], args["algorithm"], args["sealed"] = next.ID, string(next.Algorithm), next.Sealed
	}
	return run(ctx, s, true, func(ctx context.Context) (revoked bool, err error) {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			err := tx.QueryRow(ctx, `WITH revoked AS (DELETE FROM signing_keys WHERE id = @id AND (active_from IS NULL OR retired_at IS NOT NULL) RETURNING 1),
				event AS (`+insertEvent+` FROM revoked)
				SELECT EXISTS (SELECT FROM revoked) OR EXISTS (SELECT FROM audit_events WHERE id = @e_id::uuid)`, args).Scan(&revoked)
			if err != nil || !revoked || next == nil {
				return err
			}
			_, err = tx.Exec(ctx, `INSERT INTO signing_keys (id, algorithm, sealed) VALUES (@next, @algorithm, @sealed) ON CONFLICT DO NOTHING`, args)
			return err
		})
		return revoked && err == nil, err
	})
}

// RetireSigningKeys implements keys.Store.
func (s *Store) RetireSigningKeys(ctx context.Context, algorithm keys.Algorithm) error {
	_, err := s.exec(ctx, `WITH dropped AS (DELETE FROM signing_keys WHERE algorithm = @algorithm AND active_from IS NULL)
		UPDATE signing_keys SET retired_at = now() WHERE algorithm = @algorithm AND active_from IS NOT NULL AND retired_at IS NULL`,
		named{"algorithm": string(algorithm)})
	return err
}

// ResealSigningKey implements keys.Store.
func (s *Store) ResealSigningKey(ctx context.Context, k keys.Key) error {
	_, err := s.exec(ctx, `UPDATE signing_keys SET sealed = @sealed WHERE id = @id`, named{"id": k.ID, "sealed": k.Sealed})
	return err
}

// SigningNeeds implements storage.Store.
func (s *Store) SigningNeeds(ctx context.Context) ([]clients.SigningNeed, error) {
	return many(ctx, s, func(row pgx.CollectableRow) (n clients.SigningNeed, err error) {
		err = row.Scan(&n.IDTokenAlg, &n.AccessTTL)
		return n, err
	}, `SELECT DISTINCT coalesce(details->>'id_token_signed_response_alg', ''), coalesce(details->>'access_token_ttl', '') FROM clients
		WHERE NOT disabled`, named{})
}

// KeepTokenTTL implements keys.Store.
func (s *Store) KeepTokenTTL(ctx context.Context, ttl time.Duration) error {
	// Many replicas that start at once do the same: who comes second need not wait.
	_, err := s.exec(ctx, `UPDATE signing_keys SET token_ttl = @ttl WHERE id IN (
		SELECT id FROM signing_keys WHERE retired_at IS NULL AND token_ttl < @ttl::interval FOR UPDATE SKIP LOCKED)`, named{"ttl": ttl})
	return err
}
