package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"runtime"
	"time"

	"github.com/go-crypt/crypt/algorithm/argon2"
	"github.com/jackc/pgx/v5"
)

// A floor is the least that a request cannot do without, alone, with nothing around it: one worker for each of n
// connections, or for each core where the work is computing.
type floor func(ctx context.Context, n int) (steps []step, closeAll func(), err error)

const floorRows = 4000

// floors are those in the database at the URL.
type floors struct {
	url  string
	bare string // the address of the bare server
	rows []*floorRow
}

type floorRow struct {
	id       [16]byte
	sequence int64
}

// newFloors makes the table that the statements work on: what a refresh changes, and as much beside it as a session holds.
func newFloors(ctx context.Context, url string, conn *pgx.Conn) (*floors, error) {
	if _, err := conn.Exec(ctx, `
		CREATE TABLE floor (
			id uuid PRIMARY KEY, payload bytea NOT NULL,
			sequence bigint NOT NULL, last_used_at timestamptz NOT NULL, idle_expires_at timestamptz NOT NULL
		) WITH (fillfactor = 50)`); err != nil {
		return nil, err
	}
	f := &floors{url: url}
	for range floorRows {
		row := &floorRow{}
		_, _ = rand.Read(row.id[:])
		f.rows = append(f.rows, row)
	}
	now, payload := time.Now(), make([]byte, 250)
	_, err := conn.CopyFrom(ctx, pgx.Identifier{"floor"}, []string{"id", "payload", "sequence", "last_used_at", "idle_expires_at"},
		pgx.CopyFromSlice(floorRows, func(i int) ([]any, error) {
			return []any{f.rows[i].id, payload, f.rows[i].sequence, now, now}, nil
		}))
	return f, err
}

// update is the floor of a refresh: one row changed by primary key, and committed.
func (f *floors) update(ctx context.Context, n int) ([]step, func(), error) {
	return f.statements(ctx, n, func(conn *pgx.Conn, row *floorRow) error {
		var until time.Time
		row.sequence++
		return conn.QueryRow(ctx, `
			UPDATE floor SET sequence = $3, last_used_at = now(), idle_expires_at = now() + '30 days'
			WHERE id = $1 AND sequence = $2 RETURNING idle_expires_at`, row.id, row.sequence-1, row.sequence).Scan(&until)
	})
}

// read is the floor of an introspection: one row read by primary key.
func (f *floors) read(ctx context.Context, n int) ([]step, func(), error) {
	return f.statements(ctx, n, func(conn *pgx.Conn, row *floorRow) error {
		var sequence int64
		var until time.Time
		return conn.QueryRow(ctx, `SELECT sequence, idle_expires_at FROM floor WHERE id = $1`, row.id).Scan(&sequence, &until)
	})
}

// statements gives each of n workers a connection to the database and a share of the rows to cycle through.
func (f *floors) statements(ctx context.Context, n int, run func(*pgx.Conn, *floorRow) error) (steps []step, closeAll func(), err error) {
	var conns []*pgx.Conn
	closeAll = func() {
		for _, c := range conns {
			_ = c.Close(context.WithoutCancel(ctx))
		}
	}
	if n > len(f.rows) {
		return nil, nil, errors.New("more connections than rows")
	}
	for i := range n {
		conn, err := pgx.Connect(ctx, f.url)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		conns = append(conns, conn)
		next := i
		steps = append(steps, func() error {
			row := f.rows[next]
			if next += n; next >= len(f.rows) {
				next = i
			}
			return run(conn, row)
		})
	}
	return steps, closeAll, nil
}

// perCore gives every core a worker.
func perCore(s step) ([]step, func(), error) {
	var steps []step
	for range runtime.GOMAXPROCS(0) {
		steps = append(steps, s)
	}
	return steps, func() {}, nil
}

// sign is the floor of client_credentials: an ES256 signature.
func sign(context.Context, int) ([]step, func(), error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	digest := sha256.Sum256([]byte("claims"))
	return perCore(func() error {
		_, err := key.Sign(nil, digest[:], crypto.SHA256) // as package keys does it
		return err
	})
}

// hash is the floor of a login: an Argon2id of the parameters that package users has, checked by the same library.
func hash(context.Context, int) ([]step, func(), error) {
	argon, err := argon2.New(argon2.WithVariantID(), argon2.WithM(19*1024), argon2.WithT(2), argon2.WithP(1))
	if err != nil {
		return nil, nil, err
	}
	digest, err := argon.Hash("correct horse")
	if err != nil {
		return nil, nil, err
	}
	return perCore(func() error {
		ok, err := digest.MatchAdvanced("correct horse")
		if err == nil && !ok {
			err = errors.New("the password does not match")
		}
		return err
	})
}
