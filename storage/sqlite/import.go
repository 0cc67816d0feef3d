package sqlite

import (
	"context"
	"time"

	"signet/users"
)

// ImportUsers implements users.Store.
func (s *Store) ImportUsers(ctx context.Context, list []users.NewUser) (imported int, taken []int, err error) {
	began := time.Now()
	err = s.write(ctx, func(ctx context.Context, t tx) error {
		user, err := t.PrepareContext(ctx, insertUser)
		if err != nil {
			return err
		}
		defer user.Close()
		event, err := t.PrepareContext(ctx, insertEvent)
		if err != nil {
			return err
		}
		defer event.Close()
		for at, u := range list {
			a := createArgs(u.User, u.Canonical)
			a["now"] = t.now
			made, err := user.ExecContext(ctx, a.list()...)
			if unique(err) {
				taken = append(taken, at)
				continue
			}
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
		return 0, nil, err
	}
	// A server in another process asks for the write lock only now and then: without a rest, batch after batch would
	// keep it away. What is committed stays so, even if the caller has gone away meanwhile.
	_ = rest(ctx, began)
	return imported, taken, nil
}
