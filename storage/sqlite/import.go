package sqlite

import (
	"context"
	"time"

	"signet/users"
)

// ImportUsers implements users.Store.
func (s *Store) ImportUsers(ctx context.Context, list []users.NewUser) (imported int, err error) {
	began := time.Now()
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		user, err := t.PrepareContext(ctx, `
			INSERT INTO users (id, username, canonical, password_hash, admin, created_at)
			VALUES (@id, @username, @canonical, @hash, @admin, @now) ON CONFLICT DO NOTHING`)
		if err != nil {
			return err
		}
		defer user.Close()
		event, err := t.PrepareContext(ctx, insertEvent)
		if err != nil {
			return err
		}
		defer event.Close()
		for _, u := range list {
			made, err := user.ExecContext(ctx, args{
				"id": id(u.ID), "username": u.Username, "canonical": u.Canonical, "hash": u.PasswordHash, "admin": u.Admin, "now": t.now,
			}.list()...)
			if err != nil {
				return err
			}
			if n, err := made.RowsAffected(); err != nil || n == 0 {
				if err != nil {
					return err
				}
				continue
			}
			e := eventArgs(u.Event)
			e["now"] = t.now
			if _, err := event.ExecContext(ctx, e.list()...); err != nil {
				return err
			}
			imported++
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	// A server in another process asks for the write lock only now and then: without a rest, batch after batch would
	// keep it away. What is committed stays so, even if the caller has gone away meanwhile.
	_ = rest(ctx, began)
	return imported, nil
}
