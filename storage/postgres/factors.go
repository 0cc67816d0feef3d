package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"signet/audit"
	"signet/logins"
)

const factorColumns = `id::text, type, name, created_at, last_used_at, user_id::text, material, credential_id, counter`

func readFactor(row pgx.CollectableRow) (f logins.Factor, err error) {
	err = row.Scan(&f.ID, &f.Type, &f.Name, &f.CreatedAt, &f.LastUsedAt, &f.UserID, &f.Material, &f.CredentialID, &f.Counter)
	return f, err
}

// Factors implements logins.FactorStore.
func (s *Store) Factors(ctx context.Context, userID string) (f logins.Factors, err error) {
	// One row with the count and the time alone, and one more for each factor.
	rows, err := many(ctx, s, func(row pgx.CollectableRow) (x *logins.Factor, err error) {
		var id, kind, name, user *string
		var created, used *time.Time
		var material, credential []byte
		var counter *int64
		err = row.Scan(&f.RecoveryCodes, &f.Now, &id, &kind, &name, &created, &used, &user, &material, &credential, &counter)
		if err != nil || id == nil {
			return nil, err
		}
		return &logins.Factor{
			ID: *id, Type: logins.Kind(*kind), Name: *name, CreatedAt: created.UTC(), LastUsedAt: used, UserID: *user,
			Material: material, CredentialID: credential, Counter: *counter,
		}, nil
	}, `SELECT (SELECT count(*) FROM recovery_codes WHERE user_id = @user), now(), id::text, type, name, created_at, last_used_at, user_id::text,
			material, credential_id, counter
		FROM (VALUES (1)) AS always LEFT JOIN factors ON user_id = @user ORDER BY created_at, id`, named{"user": userID})
	f.List = []logins.Factor{}
	for _, x := range rows {
		if x != nil {
			f.List = append(f.List, *x)
		}
	}
	return f, err
}

// PasskeyOwner implements logins.FactorStore.
func (s *Store) PasskeyOwner(ctx context.Context, credentialID []byte) (userID string, ok bool, err error) {
	return one(ctx, s, func(row pgx.CollectableRow) (string, error) { return readText(row) },
		`SELECT f.user_id::text FROM factors f JOIN users u ON u.id = f.user_id WHERE f.credential_id = @credential`, named{"credential": credentialID})
}

// lockOwner locks the user's row, so that the next statement sees the factors that were added until then: of two first factors added at
// once one brings its recovery codes, or is the only one.
const lockOwner = `SELECT FROM users WHERE id = @user FOR UPDATE`

const addFactor = `WITH owner AS (SELECT id FROM users WHERE id = @user AND epoch = @user_epoch AND NOT disabled
			AND NOT (@first AND EXISTS (SELECT FROM factors WHERE user_id = @user))
			AND (SELECT count(*) FROM factors WHERE user_id = @user) < @most), added AS (
		INSERT INTO factors (id, user_id, type, name, material, credential_id, counter)
		SELECT @id, id, @type, @name, @material, @credential, @counter FROM owner
		ON CONFLICT DO NOTHING RETURNING created_at
	), event AS (` + insertEvent + ` FROM added ON CONFLICT (id) DO NOTHING)
	SELECT (SELECT created_at FROM added), (SELECT count(*) FROM factors WHERE user_id = @user) >= @most`

// AddFactor implements logins.FactorStore.
func (s *Store) AddFactor(ctx context.Context, f logins.Factor, most int, codes [][]byte, e audit.Event) (created time.Time, gave bool, err error) {
	args := with(e, named{
		"id": f.ID, "user": f.UserID, "user_epoch": f.UserEpoch, "first": f.First, "type": string(f.Type), "name": f.Name, "material": f.Material, "credential": f.CredentialID,
		"counter": f.Counter, "most": most, "digests": codes,
	})
	var at *time.Time
	full := false
	// A repetition after a lost answer would say that the factor is there already, and show no codes.
	_, err = run(ctx, s, false, func(ctx context.Context) (bool, error) {
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, lockOwner, args); err != nil {
				return err
			}
			if err := tx.QueryRow(ctx, addFactor, args).Scan(&at, &full); err != nil || at == nil {
				return err
			}
			tag, err := tx.Exec(ctx, `INSERT INTO recovery_codes (user_id, digest) SELECT @user, unnest(@digests::bytea[])
				WHERE NOT EXISTS (SELECT FROM recovery_codes WHERE user_id = @user)
					AND NOT EXISTS (SELECT FROM factors WHERE user_id = @user AND id <> @id)`, args)
			gave = tag.RowsAffected() > 0
			if err == nil {
				err = tell(ctx, tx, f.UserID, e)
			}
			return err
		})
		return at != nil, err
	})
	switch {
	case err != nil:
		return time.Time{}, false, err
	case at != nil:
		return at.UTC(), gave, nil
	case full:
		return time.Time{}, false, logins.ErrTooManyFactors
	}
	return time.Time{}, false, logins.ErrFactorExists
}

// changed runs a statement that is not to be repeated, and tells whether it changed anything.
func (s *Store) changed(ctx context.Context, sql string, args named) (bool, error) {
	return run(ctx, s, false, func(ctx context.Context) (bool, error) {
		tag, err := s.pool.Exec(ctx, sql, args)
		return tag.RowsAffected() > 0, err
	})
}

// UseStep implements logins.FactorStore.
func (s *Store) UseStep(ctx context.Context, factorID string, step int64) (bool, error) {
	return s.changed(ctx, `UPDATE factors SET counter = @step, last_used_at = now() WHERE id = @id AND type = 'totp' AND counter < @step`,
		named{"id": factorID, "step": step})
}

// UsePasskey implements logins.FactorStore.
func (s *Store) UsePasskey(ctx context.Context, f logins.Factor, counter int64, challenge []byte, ttl time.Duration) (bool, error) {
	return s.changed(ctx, `WITH taken AS (
			INSERT INTO used_challenges (digest, expires_at) VALUES (@challenge, now() + @ttl::interval) ON CONFLICT DO NOTHING RETURNING 1
		)
		UPDATE factors SET counter = @counter, last_used_at = now() FROM taken
		WHERE id = @id AND type = 'passkey' AND (counter < @counter OR counter = 0 AND @counter = 0)`,
		named{"id": f.ID, "counter": counter, "challenge": challenge, "ttl": ttl})
}

// UseRecoveryCode implements logins.FactorStore.
func (s *Store) UseRecoveryCode(ctx context.Context, userID string, digest []byte) (bool, error) {
	return s.changed(ctx, `DELETE FROM recovery_codes WHERE user_id = @user AND digest = @digest`,
		named{"user": userID, "digest": digest})
}

// ReplaceRecoveryCodes implements logins.FactorStore.
func (s *Store) ReplaceRecoveryCodes(ctx context.Context, userID string, digests [][]byte, e audit.Event) (replaced bool, err error) {
	args := with(e, named{"user": userID, "digests": digests})
	return run(ctx, s, true, func(ctx context.Context) (replaced bool, err error) {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			err := tx.QueryRow(ctx, `WITH owner AS (SELECT id FROM users WHERE id = @user AND EXISTS (SELECT FROM factors WHERE user_id = @user) FOR UPDATE),
				event AS (`+insertEvent+` FROM owner ON CONFLICT (id) DO NOTHING)
				SELECT true FROM owner`, args).Scan(&replaced)
			if errors.Is(err, pgx.ErrNoRows) {
				return nil
			}
			if err == nil {
				_, err = tx.Exec(ctx, `DELETE FROM recovery_codes WHERE user_id = @user`, args)
			}
			if err == nil {
				_, err = tx.Exec(ctx, `INSERT INTO recovery_codes (user_id, digest) SELECT @user, unnest(@digests::bytea[])`, args)
			}
			if err == nil {
				err = tell(ctx, tx, userID, e)
			}
			return err
		})
		return replaced && err == nil, err
	})
}

// RemoveFactor implements logins.FactorStore.
func (s *Store) RemoveFactor(ctx context.Context, userID, factorID string, e audit.Event) (bool, error) {
	args := with(e, named{"user": userID, "id": factorID})
	return run(ctx, s, true, func(ctx context.Context) (removed bool, err error) {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			err := tx.QueryRow(ctx, `WITH owner AS (SELECT id FROM users WHERE id = @user FOR UPDATE),
				removed AS (DELETE FROM factors USING owner WHERE user_id = owner.id AND (@id = '' OR factors.id::text = @id) RETURNING 1),
				event AS (`+insertEvent+` WHERE EXISTS (SELECT FROM removed) ON CONFLICT (id) DO NOTHING)
				SELECT EXISTS (SELECT FROM removed) OR EXISTS (SELECT FROM audit_events WHERE id = @e_id::uuid)`, args).Scan(&removed)
			if err != nil || !removed {
				return err
			}
			_, err = tx.Exec(ctx, `DELETE FROM recovery_codes WHERE user_id = @user AND NOT EXISTS (SELECT FROM factors WHERE user_id = @user)`, args)
			if err == nil {
				err = tell(ctx, tx, userID, e)
			}
			return err
		})
		return removed && err == nil, err
	})
}

// Reseal implements logins.FactorStore.
func (s *Store) Reseal(ctx context.Context, factorID string, old, sealed []byte) error {
	_, err := s.exec(ctx, `UPDATE factors SET material = @sealed WHERE id = @id AND material = @old`,
		named{"id": factorID, "old": old, "sealed": sealed})
	return err
}

// SealedFactors implements logins.FactorStore.
func (s *Store) SealedFactors(ctx context.Context, after string, limit int) ([]logins.Factor, error) {
	return many(ctx, s, readFactor, `SELECT `+factorColumns+` FROM factors WHERE type = 'totp' AND (@after = '' OR id > nullif(@after, '')::uuid)
		ORDER BY id LIMIT @limit`, named{"after": after, "limit": limit})
}

// CountTry implements logins.FactorStore. A repetition after a lost answer counts once more.
func (s *Store) CountTry(ctx context.Context, userID string, most int, window time.Duration) (wait time.Duration, reached bool, err error) {
	args := named{"user": userID, "most": most, "window": window}
	reached, counted, err := one(ctx, s, pgx.RowTo[bool], `
		INSERT INTO factor_tries AS f (user_id, tries) VALUES (@user, 1)
		ON CONFLICT (user_id) DO UPDATE SET tries = CASE WHEN f.window_start <= now() - @window::interval THEN 1 ELSE f.tries + 1 END,
			window_start = CASE WHEN f.window_start <= now() - @window::interval THEN now() ELSE f.window_start END
		WHERE f.tries < @most OR f.window_start <= now() - @window::interval
		RETURNING tries = @most`, args)
	if err != nil || counted {
		return 0, reached, err
	}
	wait, _, err = one(ctx, s, pgx.RowTo[time.Duration], `SELECT greatest(window_start + @window::interval - now(), interval '1 second')
		FROM factor_tries WHERE user_id = @user`, args)
	return max(wait, time.Second), false, err
}

// ForgetTries implements logins.FactorStore.
func (s *Store) ForgetTries(ctx context.Context, userID string) error {
	_, err := s.exec(ctx, `DELETE FROM factor_tries WHERE user_id = @user`, named{"user": userID})
	return err
}
