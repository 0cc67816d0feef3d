package postgres

import (
	"context"

	"github.com/google/uuid"

	"signet/audit"
	"signet/tokens"
)

// Run is run, for the tests of what it repeats.
func Run(ctx context.Context, repeatable bool, f func(ctx context.Context) (int, error)) (int, error) {
	s, err := Open(ctx, "postgres://127.0.0.1:1/nothing-listens-here", nil) // and nothing connects
	if err != nil {
		return 0, err
	}
	defer s.Close()
	return run(ctx, s, repeatable, f)
}

// QueryText puts a statement of one text column among those that are gathered.
func (s *Store) QueryText(ctx context.Context, session uuid.UUID, sql string, args ...any) (string, error) {
	return gathered(ctx, s.questions, session, readText, sql, args...)
}

// RedeemAgain is the second try of a redemption, after the answer to the first was lost.
func (s *Store) RedeemAgain(ctx context.Context, r tokens.Redemption, e audit.Event) (tokens.CodeGrant, error) {
	return s.redeem(ctx, r.Session, with(e, redemptionArgs(r)), true)
}
