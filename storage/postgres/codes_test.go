package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"signet/audit"
	"signet/authorizations"
	"signet/clients"
	"signet/keys"
	"signet/logins"
	"signet/storage/postgres"
	"signet/storage/storagetest"
	"signet/tokens"
	"signet/users"
)

// issuer returns what issues a code and how that is redeemed.
func issuer(t testing.TB, s *postgres.Store) func() (tokens.Redemption, error) {
	t.Helper()
	c, err := s.CreateClient(t.Context(), clients.Client{ID: uuid.NewString(), Scope: clients.Scope{"read"}, Epoch: 7}, audit.New(audit.ClientCreated, audit.Origin{}))
	check(t, err)
	u, err := s.CreateUser(t.Context(), users.User{ID: uuid.NewString(), Username: c.ID}, c.ID, audit.New(audit.UserCreated, audit.Origin{}))
	check(t, err)
	login := logins.Ref{ID: uuid.New(), Digest: make([]byte, 32)}
	_, err = s.CreateLogin(t.Context(), logins.NewLogin{
		Ref: login, UserID: u.ID, Methods: []string{"pwd"}, TTL: time.Hour,
	}, audit.New(audit.LoginSucceeded, audit.Origin{}))
	check(t, err)
	secret, err := keys.ParseSecret(keys.NewSecret())
	check(t, err)
	codes := authorizations.New(s, secret, slog.New(slog.DiscardHandler))
	return func() (tokens.Redemption, error) {
		text, _, err := codes.Issue(t.Context(), &c, login, &authorizations.Request{ClientID: c.ID, Scope: c.Scope}, authorizations.Unasked, audit.Origin{})
		code, _ := codes.ParseCode(text)
		return tokens.Redemption{
			Session: code.Session, CodeDigest: code.Digest(), ClientID: c.ID, ClientEpoch: c.Epoch, SessionDigest: code.SessionSecret(),
			IdleTTL: time.Hour, TTL: time.Hour,
		}, err
	}
}

// A redemption whose answer was lost finds what it did, and is not taken for a theft. Another one finds nothing.
func TestRedemptionRepeated(t *testing.T) {
	t.Parallel()
	s := open(t, storagetest.Postgres(t), nil)
	r, err := issuer(t, s)()
	check(t, err)
	e := audit.New(audit.SessionCreated, audit.Origin{})
	if _, redeemed, err := s.RedeemCode(t.Context(), r, e); err != nil || !redeemed {
		t.Fatalf("redeemed %t, %v", redeemed, err)
	}
	if g, err := s.RedeemAgain(t.Context(), r, e); err != nil || g.End.Sub(g.Now) < 59*time.Minute {
		t.Errorf("repeated: %v, %+v", err, g)
	}
	another := audit.New(audit.SessionCreated, audit.Origin{})
	if _, err := s.RedeemAgain(t.Context(), r, another); !errors.Is(err, pgx.ErrNoRows) {
		t.Errorf("another one, repeated: %v", err)
	}
	if _, redeemed, err := s.RedeemCode(t.Context(), r, another); err != nil || redeemed {
		t.Errorf("another one: redeemed %t, %v", redeemed, err)
	}
}

// A redemption that waits for a lock, on its own or with others, is given up when its caller's time is over, and then uses up nothing.
func TestRedemptionsAreGivenUp(t *testing.T) {
	t.Parallel()
	url := storagetest.Postgres(t)
	s := open(t, url, nil)
	issue := issuer(t, s)
	locker := connect(t, url)
	var waiting []tokens.Redemption
	for range 12 {
		r, err := issue()
		check(t, err)
		waiting = append(waiting, r)
	}
	tx, err := locker.Begin(t.Context())
	check(t, err)
	_, err = tx.Exec(t.Context(), `SELECT FROM logins FOR UPDATE`)
	check(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	each(t, len(waiting), len(waiting), func(i int) error {
		if _, redeemed, err := s.RedeemCode(ctx, waiting[i], audit.New(audit.SessionCreated, audit.Origin{})); err == nil {
			return fmt.Errorf("redeemed %t, and the login is locked", redeemed)
		}
		return nil
	})
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("given up after %s", took)
	}
	poll(t, "nothing waits", func() bool {
		return query[int](t, locker, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 0
	})
	check(t, tx.Rollback(t.Context()))
	for _, r := range waiting {
		if _, redeemed, err := s.RedeemCode(t.Context(), r, audit.New(audit.SessionCreated, audit.Origin{})); err != nil || !redeemed {
			t.Errorf("afterwards: redeemed %t, %v", redeemed, err)
		}
	}
}

// Where the table of codes was empty when the database looked last, a statement that looks through all of it would be quickest: it is
// prepared then, and takes ever longer while codes come and go.
func TestCodesAreFoundByTheirIndex(t *testing.T) {
	t.Parallel()
	url := storagetest.Postgres(t)
	s := open(t, url, nil)
	conn := connect(t, url)
	issue := issuer(t, s)
	const codes = 400
	redeem := func(int) error {
		r, err := issue()
		if err == nil {
			_, _, err = s.RedeemCode(t.Context(), r, audit.New(audit.SessionCreated, audit.Origin{}))
		}
		return err
	}
	each(t, codes, 16, redeem)
	_, err := conn.Exec(t.Context(), `VACUUM (ANALYZE) authorization_codes`)
	check(t, err)
	read := func(column string) int64 {
		return query[int64](t, conn, `SELECT `+column+` FROM pg_stat_user_tables WHERE relname = 'authorization_codes'`)
	}
	before := read("seq_scan")
	s.Close()
	s = open(t, url, nil)
	issue = issuer(t, s)
	each(t, codes, 1, redeem) // one by one, and many at once
	each(t, codes, 16, redeem)
	s.Close() // the connections tell what they did when they end
	poll(t, "all has been counted", func() bool { return read("n_tup_del") == 3*codes })
	if n := read("seq_scan") - before; n > 5 { // its own looks are counted late
		t.Errorf("the whole table was looked through %d times", n)
	}
}
