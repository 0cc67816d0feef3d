package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/url"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"signet/audit"
	"signet/authorizations"
	"signet/clients"
	"signet/keys"
	"signet/proofs"
	"signet/storage"
	"signet/tokens"
	"signet/users"
)

// accessTTL is longer than any run, so that introspections find live tokens to the end.
const accessTTL = 4 * time.Hour

// world is what the server serves: a client, users and their sessions, made by the same packages on the same database. Making
// them through the server would take a login each.
type world struct {
	addr   string // of the server
	secret string // SIGNET_SECRET
	issuer string
	store  storage.Store
	tokens *tokens.Service
	client clients.Client
	public clients.Client
	users  []users.User

	sessions []tokens.Issued // as they began
	chains   [][]byte        // a refresh for each session, with its current refresh token
	prover   *prover
	proven   [][]byte // the same of sessions of the public client, with a DPoP proof
	visited  []visit
}

// scope is what the sessions have: no openid, for which a refresh would make an ID token too.
var scope = clients.Scope{"read", "write"}

const password = "correct horse battery staple"

var origin = audit.Origin{Actor: "bench", Address: "127.0.0.1", UserAgent: userAgent}

func newWorld(ctx context.Context, databaseURL, addr string, userCount int) (w *world, err error) {
	w = &world{addr: addr, secret: keys.NewSecret(), issuer: "http://" + addr}
	secret, err := keys.ParseSecret(w.secret)
	if err != nil {
		return nil, err
	}
	if w.store, err = storage.Open(ctx, databaseURL, nil); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.store.Close()
		}
	}()
	if err := w.store.Migrate(ctx); err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler)
	k := keys.New(w.store, keys.Config{Secret: secret, Algorithm: keys.ES256, TokenTTL: accessTTL, RotateEvery: 30 * 24 * time.Hour}, log)
	if err := k.Load(ctx); err != nil {
		return nil, err
	}
	w.tokens = tokens.New(w.store, k, authorizations.New(w.store, secret, log), tokens.Config{
		Issuer: w.issuer, Secret: secret, AccessTTL: accessTTL, RefreshTTL: 30 * 24 * time.Hour, SessionTTL: 90 * 24 * time.Hour,
	}, log)
	apps := clients.New(w.store, clients.Config{}, log)
	if w.client, err = apps.Create(ctx, clients.Client{
		ID: "bench", Name: "Bench", Grants: []clients.Grant{clients.Password, clients.RefreshToken, clients.ClientCredentials, clients.AuthorizationCode},
		Scope: clients.Scope{"openid", "read", "write"}, ResourceServer: true, RedirectURIs: []string{redirectURI}, IDTokenAlg: keys.ES256,
	}, origin); err != nil {
		return nil, err
	}
	if w.public, err = apps.Create(ctx, clients.Client{
		ID: "app", Name: "App", AuthMethod: clients.None, Grants: []clients.Grant{clients.Password, clients.RefreshToken}, Scope: scope,
	}, origin); err != nil {
		return nil, err
	}
	people := users.New(w.store, users.Config{Secret: secret, MaxFailures: 10, Window: 15 * time.Minute}, log)
	w.users = make([]users.User, userCount)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range w.users {
		group.Go(func() (err error) {
			w.users[i], err = people.Create(groupCtx, fmt.Sprintf("user-%d", i), password, false, users.Profile{}, origin)
			return err
		})
	}
	return w, group.Wait()
}

// others are users who do nothing. Where there are few, the database looks through all of them each time.
const others = 10_000

// crowd adds them.
func (w *world) crowd(ctx context.Context, conn *pgx.Conn) error {
	return execAll(ctx, conn, fmt.Sprintf(`INSERT INTO users (id, username, canonical, password_hash, admin)
		SELECT gen_random_uuid(), 'other-' || n, 'other-' || n, (SELECT password_hash FROM users LIMIT 1), false FROM generate_series(1, %d) n`, others))
}

// settings is the server's environment.
func (w *world) settings(databaseURL string) []string {
	return []string{
		"SIGNET_ISSUER=" + w.issuer, "SIGNET_SECRET=" + w.secret, "SIGNET_DATABASE_URL=" + databaseURL,
		"SIGNET_ACCESS_TOKEN_TTL=" + accessTTL.String(),
	}
}

// begin makes sessions until there are n.
func (w *world) begin(ctx context.Context, n int) error {
	have := len(w.sessions)
	if n <= have {
		return nil
	}
	made := make([]tokens.Issued, n-have)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i := range made {
		group.Go(func() (err error) {
			made[i], err = w.tokens.StartSession(groupCtx, &w.client, w.users[i%len(w.users)], scope, []string{w.issuer}, proofs.Key{}, origin)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, s := range made {
		w.chains = append(w.chains, w.post("/token", "grant_type=refresh_token&refresh_token="+s.RefreshToken))
	}
	w.sessions = append(w.sessions, made...)
	return nil
}

func (w *world) post(path, form string) []byte {
	return postRequest(w.addr, path, basic(w.client.ID, w.client.Secret), form)
}

func (w *world) refresh(f *floors) scenario {
	return scenario{name: "refresh", requests: w.chains, want: `"access_token":"`, rotates: true, floor: f.update, bare: f.bareRefresh}
}

func (w *world) introspect(f *floors) scenario {
	s := scenario{name: "introspect", want: `"active":true`, floor: f.read, bare: f.bareIntrospect}
	for _, session := range w.sessions {
		s.requests = append(s.requests, w.post("/introspect", "token="+session.AccessToken))
	}
	return s
}

func (w *world) clientCredentials() scenario {
	s := scenario{name: "client_credentials", want: `"access_token":"`, floor: sign}
	for range w.users {
		s.requests = append(s.requests, w.post("/token", "grant_type=client_credentials"))
	}
	return s
}

func (w *world) password() scenario {
	s := scenario{name: "password", want: `"refresh_token":"`, floor: hash}
	for _, u := range w.users {
		s.requests = append(s.requests, w.post("/token", "grant_type=password&username="+u.Username+"&password="+url.QueryEscape(password)))
	}
	return s
}

// filler marks the rows of sessions that nobody holds a token of.
const filler = "filler"

// fill makes the table hold n sessions more than those with tokens, which lie scattered among them. They are copies with
// another id and secret.
func (w *world) fill(ctx context.Context, conn *pgx.Conn, n int) error {
	var columns string
	if err := conn.QueryRow(ctx, `
		SELECT string_agg(CASE column_name
			WHEN 'id' THEN 'gen_random_uuid()'
			WHEN 'secret_digest' THEN 'sha256(uuid_send(gen_random_uuid()))'
			WHEN 'address' THEN quote_literal($1::text)
			ELSE quote_ident(column_name) END, ', ' ORDER BY ordinal_position)
		FROM information_schema.columns WHERE table_name = 'sessions'`, filler).Scan(&columns); err != nil {
		return err
	}
	return execAll(ctx, conn,
		`CREATE UNLOGGED TABLE kept AS SELECT * FROM sessions WHERE address <> '`+filler+`'`,
		`TRUNCATE sessions`,
		fmt.Sprintf(`INSERT INTO sessions SELECT * FROM (TABLE kept UNION ALL
			(SELECT %s FROM kept, generate_series(0, %d / (SELECT count(*) FROM kept)) LIMIT %d)) AS r ORDER BY id`, columns, n, n),
		`DROP TABLE kept`)
}

// expire ends the sessions that fill made.
func (w *world) expire(ctx context.Context, conn *pgx.Conn) error {
	return execAll(ctx, conn, `UPDATE sessions SET expires_at = now() - interval '1 day' WHERE address = '`+filler+`'`)
}

func execAll(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.40s…: %w", sql, err)
		}
	}
	return nil
}

// age gives every session with a token the sequence number n, as if it had been refreshed that often. It writes refresh
// tokens as package tokens does; should that change, the refreshes fail.
func (w *world) age(ctx context.Context, conn *pgx.Conn, n int64) error {
	if _, err := conn.Exec(ctx, `UPDATE sessions SET sequence = $1 WHERE address <> $2`, n, filler); err != nil {
		return err
	}
	secret, err := keys.ParseSecret(w.secret)
	if err != nil {
		return err
	}
	tagKey := secret.Derive("refresh token tag v1")[0]
	for _, request := range w.chains {
		at := strings.LastIndex(string(request), "sgr_") + len("sgr_")
		b, err := base64.RawURLEncoding.DecodeString(string(request[at:]))
		if err != nil {
			return err
		}
		body := b[:len(b)-sha256.Size]
		binary.BigEndian.PutUint64(body[16:24], uint64(n)) //nolint:gosec // not negative
		mac := hmac.New(sha256.New, tagKey)
		mac.Write(body)
		base64.RawURLEncoding.Encode(request[at:], append(body, mac.Sum(nil)...))
	}
	return nil
}
