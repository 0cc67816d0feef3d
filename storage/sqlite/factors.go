package sqlite

import (
	"context"
	"database/sql"
	"time"

	"signet/audit"
	"signet/logins"
)

const factorColumns = `id, type, name, created_at, last_used_at, user_id, material, credential_id, counter`

func readFactor(row *sql.Rows) (f logins.Factor, err error) {
	var used *int64
	err = row.Scan(&f.ID, &f.Type, &f.Name, moment{&f.CreatedAt}, &used, &f.UserID, &f.Material, &f.CredentialID, &f.Counter)
	if used != nil {
		f.LastUsedAt = new(time.UnixMicro(*used).UTC())
	}
	return f, err
}

// Factors implements logins.FactorStore.
func (s *Store) Factors(ctx context.Context, userID string) (f logins.Factors, err error) {
	a := func() args { return args{"user": id(userID)} }
	counted, _, err := first(many(ctx, s, func(row *sql.Rows) (f logins.Factors, err error) {
		err = row.Scan(&f.RecoveryCodes, moment{&f.Now})
		return f, err
	}, `SELECT (SELECT count(*) FROM recovery_codes WHERE user_id = @user), @now`, a()))
	if err != nil {
		return counted, err
	}
	counted.List, err = many(ctx, s, readFactor, `SELECT `+factorColumns+` FROM factors WHERE user_id = @user ORDER BY created_at, id`, a())
	return counted, err
}

// PasskeyOwner implements logins.FactorStore.
func (s *Store) PasskeyOwner(ctx context.Context, credentialID []byte) (userID string, ok bool, err error) {
	return first(many(ctx, s, readText, `SELECT f.user_id FROM factors f JOIN users u ON u.id = f.user_id WHERE f.credential_id = @credential`,
		args{"credential": credentialID}))
}

// AddFactor implements logins.FactorStore.
func (s *Store) AddFactor(ctx context.Context, f logins.Factor, most int, codes [][]byte, e audit.Event) (created time.Time, gave bool, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		n, _, err := oneIn(ctx, t, readInt, `SELECT count(*) FROM factors WHERE user_id = @user`, args{"user": id(f.UserID)})
		if err != nil {
			return err
		}
		if n >= int64(most) {
			return logins.ErrTooManyFactors
		}
		_, added, err := oneIn(ctx, t, readText, `INSERT INTO factors (id, user_id, type, name, material, credential_id, counter, created_at)
			SELECT @id, id, @type, @name, @material, @credential, @counter, @now FROM users
			WHERE id = @user AND epoch = @user_epoch AND NOT disabled AND NOT (@first AND EXISTS (SELECT 1 FROM factors WHERE user_id = @user))
			ON CONFLICT DO NOTHING RETURNING id`, args{
			"id": f.ID, "user": id(f.UserID), "user_epoch": f.UserEpoch, "first": f.First, "type": string(f.Type), "name": f.Name, "material": f.Material, "credential": f.CredentialID,
			"counter": f.Counter,
		})
		if err != nil {
			return err
		}
		if !added {
			return logins.ErrFactorExists
		}
		created = time.UnixMicro(t.now).UTC()
		_, has, err := oneIn(ctx, t, readInt, `SELECT 1 FROM recovery_codes WHERE user_id = @user
			UNION ALL SELECT 1 FROM factors WHERE user_id = @user AND id <> @id LIMIT 1`, args{"user": id(f.UserID), "id": f.ID})
		if err != nil {
			return err
		}
		if gave = !has; gave {
			if err := t.giveCodes(ctx, f.UserID, codes); err != nil {
				return err
			}
		}
		if err := t.tell(ctx, f.UserID, e); err != nil {
			return err
		}
		return t.record(ctx, e)
	})
	if err != nil {
		return time.Time{}, false, err
	}
	return created, gave, nil
}

func (t tx) giveCodes(ctx context.Context, userID string, digests [][]byte) error {
	for _, digest := range digests {
		if err := t.exec(ctx, `INSERT INTO recovery_codes (user_id, digest) VALUES (@user, @digest)`, args{"user": id(userID), "digest": digest}); err != nil {
			return err
		}
	}
	return nil
}

// changed runs a statement and tells whether it changed anything.
func (s *Store) changed(ctx context.Context, text string, a args) (bool, error) {
	n, err := s.exec(ctx, text, a)
	return n > 0, err
}

// UseStep implements logins.FactorStore.
func (s *Store) UseStep(ctx context.Context, factorID string, step int64) (bool, error) {
	return s.changed(ctx, `UPDATE factors SET counter = @step, last_used_at = @now WHERE id = @id AND type = 'totp' AND counter < @step`,
		args{"id": factorID, "step": step})
}

// UsePasskey implements logins.FactorStore.
func (s *Store) UsePasskey(ctx context.Context, f logins.Factor, counter int64, challenge []byte, ttl time.Duration) (used bool, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		_, taken, err := oneIn(ctx, t, readInt, `INSERT INTO used_challenges (digest, expires_at) VALUES (@challenge, @now + @ttl)
			ON CONFLICT DO NOTHING RETURNING 1`, args{"challenge": challenge, "ttl": ttl.Microseconds()})
		if err != nil || !taken {
			return err
		}
		_, used, err = oneIn(ctx, t, readText, `UPDATE factors SET counter = @counter, last_used_at = @now
			WHERE id = @id AND type = 'passkey' AND (counter < @counter OR counter = 0 AND @counter = 0) RETURNING id`,
			args{"id": f.ID, "counter": counter})
		return err
	})
	return used && err == nil, err
}

// UseRecoveryCode implements logins.FactorStore.
func (s *Store) UseRecoveryCode(ctx context.Context, userID string, digest []byte) (bool, error) {
	return s.changed(ctx, `DELETE FROM recovery_codes WHERE user_id = @user AND digest = @digest`, args{"user": id(userID), "digest": digest})
}

// ReplaceRecoveryCodes implements logins.FactorStore.
func (s *Store) ReplaceRecoveryCodes(ctx context.Context, userID string, digests [][]byte, e audit.Event) (replaced bool, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		_, replaced, err = oneIn(ctx, t, readInt, `SELECT 1 FROM factors WHERE user_id = @user LIMIT 1`, args{"user": id(userID)})
		if err != nil || !replaced {
			return err
		}
		if err := t.exec(ctx, `DELETE FROM recovery_codes WHERE user_id = @user`, args{"user": id(userID)}); err != nil {
			return err
		}
		if err := t.giveCodes(ctx, userID, digests); err != nil {
			return err
		}
		if err := t.tell(ctx, userID, e); err != nil {
			return err
		}
		return t.record(ctx, e)
	})
	return replaced && err == nil, err
}

// RemoveFactor implements logins.FactorStore.
func (s *Store) RemoveFactor(ctx context.Context, userID, factorID string, e audit.Event) (removed bool, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		_, removed, err = oneIn(ctx, t, readText, `DELETE FROM factors WHERE user_id = @user AND (@id = '' OR id = @id) RETURNING id`,
			args{"user": id(userID), "id": factorID})
		if err != nil || !removed {
			return err
		}
		if err := t.exec(ctx, `DELETE FROM recovery_codes WHERE user_id = @user AND NOT EXISTS (SELECT 1 FROM factors WHERE user_id = @user)`,
			args{"user": id(userID)}); err != nil {
			return err
		}
		if err := t.tell(ctx, userID, e); err != nil {
			return err
		}
		return t.record(ctx, e)
	})
	return removed && err == nil, err
}

// Reseal implements logins.FactorStore.
func (s *Store) Reseal(ctx context.Context, factorID string, old, sealed []byte) error {
	_, err := s.exec(ctx, `UPDATE factors SET material = @sealed WHERE id = @id AND material = @old`, args{"id": factorID, "old": old, "sealed": sealed})
	return err
}

// SealedFactors implements logins.FactorStore.
func (s *Store) SealedFactors(ctx context.Context, after string, limit int) ([]logins.Factor, error) {
	return many(ctx, s, readFactor, `SELECT `+factorColumns+` FROM factors WHERE type = 'totp' AND id > @after ORDER BY id LIMIT @limit`,
		args{"after": after, "limit": limit})
}

// CountTry implements logins.FactorStore.
func (s *Store) CountTry(ctx context.Context, userID string, most int, window time.Duration) (wait time.Duration, reached bool, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		a := func() args { return args{"user": id(userID), "most": most, "window": window.Microseconds()} }
		tries, counted, err := oneIn(ctx, t, readInt, `
			INSERT INTO factor_tries AS f (user_id, tries, window_start) VALUES (@user, 1, @now)
			ON CONFLICT (user_id) DO UPDATE SET tries = CASE WHEN f.window_start <= @now - @window THEN 1 ELSE f.tries + 1 END,
				window_start = CASE WHEN f.window_start <= @now - @window THEN @now ELSE f.window_start END
			WHERE f.tries < @most OR f.window_start <= @now - @window
			RETURNING tries`, a())
		if reached = tries == int64(most); err != nil || counted {
			return err
		}
		left, _, err := oneIn(ctx, t, readInt, `SELECT window_start + @window - @now FROM factor_tries WHERE user_id = @user`, a())
		wait = max(time.Duration(left)*time.Microsecond, time.Second)
		return err
	})
	return wait, reached, err
}

// ForgetTries implements logins.FactorStore.
func (s *Store) ForgetTries(ctx context.Context, userID string) error {
	_, err := s.exec(ctx, `DELETE FROM factor_tries WHERE user_id = @user`, args{"user": id(userID)})
	return err
}
