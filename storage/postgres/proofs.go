package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"signet/authorizations"
	"signet/proofs"
)

// spend is one statement of several: what follows it finds a row of spent where the use is the first, or its own repetition. What has
// expired counts as never used.
const spend = `INSERT INTO used_once AS o (digest, use, expires_at) VALUES (@once::bytea, @once_use::uuid, now() + @once_ttl::interval)
	ON CONFLICT (digest) DO UPDATE SET use = excluded.use, expires_at = greatest(o.expires_at, excluded.expires_at)
	WHERE o.use = excluded.use OR o.expires_at <= now()`

func onceArgs(o proofs.Once, args named) named {
	args["once"], args["once_use"], args["once_ttl"] = o.Digest, [16]byte(o.Use), o.TTL
	return args
}

// Spend implements proofs.Store.
func (s *Store) Spend(ctx context.Context, o proofs.Once) (bool, error) {
	n, err := s.exec(ctx, spend, onceArgs(o, named{}))
	return n > 0, err
}

// DeleteUsedOnce implements storage.Store.
func (s *Store) DeleteUsedOnce(ctx context.Context) (int64, error) {
	return s.inBatches(ctx, `DELETE FROM used_once WHERE digest IN (
		SELECT digest FROM used_once WHERE expires_at <= now() LIMIT @batch FOR UPDATE SKIP LOCKED)`, named{})
}

// PushRequest implements authorizations.Store.
func (s *Store) PushRequest(ctx context.Context, p authorizations.Pushed) error {
	_, err := s.exec(ctx, `INSERT INTO pushed_requests (digest, client_id, form, expires_at)
		VALUES (@digest, @client, @form, now() + @ttl::interval) ON CONFLICT (digest) DO NOTHING`,
		named{"digest": p.Digest, "client": p.ClientID, "form": p.Form, "ttl": authorizations.PushedTTL})
	return err
}

// TakeUpRequest implements authorizations.Store.
func (s *Store) TakeUpRequest(ctx context.Context, digest []byte, clientID string, browser []byte) (authorizations.Pushed, bool, error) {
	return one(ctx, s, func(row pgx.CollectableRow) (p authorizations.Pushed, err error) {
		err = row.Scan(&p.Digest, &p.ClientID, &p.Form)
		return p, err
	}, `UPDATE pushed_requests SET browser = @browser
		WHERE digest = @digest AND client_id = @client AND expires_at > now() AND (browser IS NULL OR browser = @browser)
		RETURNING digest, client_id, form`, named{"digest": digest, "client": clientID, "browser": browser})
}

// DeletePushedRequests implements storage.Store.
func (s *Store) DeletePushedRequests(ctx context.Context) (int64, error) {
	return s.inBatches(ctx, `DELETE FROM pushed_requests WHERE digest IN (
		SELECT digest FROM pushed_requests WHERE expires_at <= now() - @keep::interval LIMIT @batch FOR UPDATE SKIP LOCKED)`,
		named{"keep": authorizations.KeepPushed})
}
