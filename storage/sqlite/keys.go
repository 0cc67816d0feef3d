package sqlite

import (
	"context"
	"database/sql"
	"time"

	"signet/audit"
	"signet/clients"
	"signet/keys"
)

// SigningKeys implements keys.Store.
func (s *Store) SigningKeys(ctx context.Context, keep time.Duration) ([]keys.Key, time.Time, error) {
	rows, err := many(ctx, s, func(row *sql.Rows) (k keys.Key, err error) {
		var ttl int64
		err = row.Scan(&k.ID, &k.Algorithm, &k.Sealed, moment{&k.CreatedAt}, moment{&k.ActiveFrom}, moment{&k.RetiredAt}, &ttl)
		k.TokenTTL = time.Duration(ttl) * time.Microsecond
		return k, err
	}, `SELECT id, algorithm, sealed, created_at, active_from, retired_at, token_ttl FROM signing_keys
		WHERE retired_at IS NULL OR retired_at > @now - token_ttl - @keep ORDER BY created_at, id`, args{"keep": keep.Microseconds()})
	return rows, time.Now().UTC(), err
}

// AdvanceSigningKeys implements keys.Store.
func (s *Store) AdvanceSigningKeys(ctx context.Context, from string, current keys.Key, next *keys.Key, e audit.Event) (advanced bool, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		present, _, err := oneIn(ctx, t, readText, `SELECT id FROM signing_keys
			WHERE algorithm = @algorithm AND active_from IS NOT NULL AND retired_at IS NULL`, args{"algorithm": string(current.Algorithm)})
		if err != nil || present != from {
			return err
		}
		if err := t.exec(ctx, `UPDATE signing_keys SET retired_at = @now WHERE id = @from`, args{"from": from}); err != nil {
			return err
		}
		// A next key that is not to become current never signed: nobody misses it.
		if err := t.exec(ctx, `DELETE FROM signing_keys WHERE active_from IS NULL AND algorithm = @algorithm AND id <> @id`,
			args{"id": current.ID, "algorithm": string(current.Algorithm)}); err != nil {
			return err
		}
		if err := t.exec(ctx, `INSERT INTO signing_keys (id, algorithm, sealed, created_at, active_from)
			VALUES (@id, @algorithm, @sealed, @now, @now) ON CONFLICT (id) DO UPDATE SET active_from = @now`, keyArgs(current)); err != nil {
			return err
		}
		if next != nil {
			if err := t.exec(ctx, `INSERT INTO signing_keys (id, algorithm, sealed, created_at)
				VALUES (@id, @algorithm, @sealed, @now)`, keyArgs(*next)); err != nil {
				return err
			}
		}
		advanced = true
		return t.record(ctx, e)
	})
	return advanced && err == nil, err
}

func keyArgs(k keys.Key) args {
	return args{"id": k.ID, "algorithm": string(k.Algorithm), "sealed": k.Sealed}
}

// RevokeSigningKey implements keys.Store.
func (s *Store) RevokeSigningKey(ctx context.Context, id string, next *keys.Key, e audit.Event) (revoked bool, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		_, revoked, err = oneIn(ctx, t, readInt, `DELETE FROM signing_keys WHERE id = @id AND (active_from IS NULL OR retired_at IS NOT NULL) RETURNING 1`,
			args{"id": id})
		if err != nil || !revoked {
			return err
		}
		if next != nil {
			if err := t.exec(ctx, `INSERT INTO signing_keys (id, algorithm, sealed, created_at)
				VALUES (@id, @algorithm, @sealed, @now) ON CONFLICT DO NOTHING`, keyArgs(*next)); err != nil {
				return err
			}
		}
		return t.record(ctx, e)
	})
	return revoked && err == nil, err
}

// RetireSigningKeys implements keys.Store.
func (s *Store) RetireSigningKeys(ctx context.Context, algorithm keys.Algorithm) error {
	return s.write(ctx, func(ctx context.Context, t tx) error {
		a := func() args { return args{"algorithm": string(algorithm)} }
		if err := t.exec(ctx, `DELETE FROM signing_keys WHERE algorithm = @algorithm AND active_from IS NULL`, a()); err != nil {
			return err
		}
		return t.exec(ctx, `UPDATE signing_keys SET retired_at = @now
			WHERE algorithm = @algorithm AND active_from IS NOT NULL AND retired_at IS NULL`, a())
	})
}

// ResealSigningKey implements keys.Store.
func (s *Store) ResealSigningKey(ctx context.Context, k keys.Key) error {
	_, err := s.exec(ctx, `UPDATE signing_keys SET sealed = @sealed WHERE id = @id`, args{"id": k.ID, "sealed": k.Sealed})
	return err
}

// SigningNeeds implements storage.Store.
func (s *Store) SigningNeeds(ctx context.Context) ([]clients.SigningNeed, error) {
	return many(ctx, s, func(row *sql.Rows) (n clients.SigningNeed, err error) {
		err = row.Scan(&n.IDTokenAlg, &n.AccessTTL)
		return n, err
	}, `SELECT DISTINCT coalesce(details->>'id_token_signed_response_alg', ''), coalesce(details->>'access_token_ttl', '') FROM clients
		WHERE NOT disabled`, args{})
}

// KeepTokenTTL implements keys.Store.
func (s *Store) KeepTokenTTL(ctx context.Context, ttl time.Duration) error {
	_, err := s.exec(ctx, `UPDATE signing_keys SET token_ttl = @ttl WHERE retired_at IS NULL AND token_ttl < @ttl`, args{"ttl": ttl.Microseconds()})
	return err
}
