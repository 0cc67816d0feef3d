package sqlite

import (
	"context"
	"database/sql"

	"signet/authorizations"
	"signet/proofs"
)

// spend returns a row where the use is the first, or its own repetition. What has expired counts as never used.
const spend = `INSERT INTO used_once AS o (digest, use, expires_at) VALUES (@once, @once_use, @now + @once_ttl)
	ON CONFLICT (digest) DO UPDATE SET use = excluded.use, expires_at = max(o.expires_at, excluded.expires_at)
	WHERE o.use = excluded.use OR o.expires_at <= @now`

func onceArgs(o proofs.Once) args {
	return args{"once": o.Digest, "once_use": o.Use.String(), "once_ttl": o.TTL.Microseconds()}
}

// Spend implements proofs.Store.
func (s *Store) Spend(ctx context.Context, o proofs.Once) (bool, error) {
	n, err := s.exec(ctx, spend, onceArgs(o))
	return n > 0, err
}

// DeleteUsedOnce implements storage.Store.
func (s *Store) DeleteUsedOnce(ctx context.Context) (int64, error) {
	return s.inBatches(ctx, `DELETE FROM used_once WHERE digest IN (SELECT digest FROM used_once WHERE expires_at <= @now LIMIT @batch)`, args{})
}

// PushRequest implements authorizations.Store.
func (s *Store) PushRequest(ctx context.Context, p authorizations.Pushed) error {
	_, err := s.exec(ctx, `INSERT INTO pushed_requests (digest, client_id, form, expires_at) VALUES (@digest, @client, @form, @now + @ttl)`,
		args{"digest": p.Digest, "client": p.ClientID, "form": p.Form, "ttl": authorizations.PushedTTL.Microseconds()})
	return err
}

// TakeUpRequest implements authorizations.Store.
func (s *Store) TakeUpRequest(ctx context.Context, digest []byte, clientID string, browser []byte) (p authorizations.Pushed, ok bool, err error) {
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		p, ok, err = oneIn(ctx, t, func(row *sql.Rows) (p authorizations.Pushed, err error) {
			err = row.Scan(&p.Digest, &p.ClientID, &p.Form)
			return p, err
		}, `UPDATE pushed_requests SET browser = @browser
			WHERE digest = @digest AND client_id = @client AND expires_at > @now AND (browser IS NULL OR browser = @browser)
			RETURNING digest, client_id, form`, args{"digest": digest, "client": clientID, "browser": browser})
		return err
	})
	return p, ok && err == nil, err
}

// DeletePushedRequests implements storage.Store.
func (s *Store) DeletePushedRequests(ctx context.Context) (int64, error) {
	return s.inBatches(ctx, `DELETE FROM pushed_requests WHERE digest IN (
		SELECT digest FROM pushed_requests WHERE expires_at <= @now - @keep LIMIT @batch)`,
		args{"keep": authorizations.KeepPushed.Microseconds()})
}
