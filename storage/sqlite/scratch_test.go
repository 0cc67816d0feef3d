package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"signet/audit"
	"signet/clients"
	"signet/keys"
	"signet/tokens"
	"signet/users"
)


func ck(t *testing.T, ok bool, v ...any) { t.Helper(); if !ok { t.Error(v...) } }

func ev(ty audit.Type) audit.Event { return audit.New(ty, audit.Origin{Actor: "x"}) }

func TestScratch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		s, err := Open(ctx, filepath.Join(t.TempDir(), "s.db"))
		if err != nil { t.Fatal(err) }
		defer s.Close()
		_, _, err = s.AccessTokenActive(ctx, tokens.AccessToken{})
		ck(t, err != nil, "before migrate")
		if err := s.Migrate(ctx); err != nil { t.Fatal(err) }
		ck(t, s.Ping(ctx) == nil)
		for _, p := range []string{"journal_mode", "synchronous", "busy_timeout", "query_only"} {
			var w, r string
			s.writer.QueryRow("PRAGMA " + p).Scan(&w); s.reader.QueryRow("PRAGMA " + p).Scan(&r)
			t.Log(p, w, r)
		}
		c := clients.Client{ID: "c", Name: "C", Grants: []clients.Grant{"password"}, AuthMethod: "none", Scope: clients.Scope{"a", "b<>"}, Epoch: 1 << 61}
		c, err = s.CreateClient(ctx, c, ev(audit.ClientCreated))
		t.Logf("%+v %v", c, err)
		ck(t, c.SecretDigest == nil && c.Audience != nil)
		_, err = s.CreateClient(ctx, c, ev(audit.ClientCreated))
		ck(t, err == clients.ErrExists, err)
		c.SecretDigest = []byte("d1")
		c, err = s.UpdateClient(ctx, c, ev(audit.ClientUpdated)); ck(t, err == nil && string(c.SecretDigest) == "d1", err)
		c, err = s.RotateClientSecret(ctx, "c", []byte("d2"), time.Hour, ev(audit.ClientSecretRotated)); ck(t, err == nil && string(c.PreviousDigest) == "d1" && string(c.SecretDigest) == "d2", err, c)
		time.Sleep(time.Hour)
		c, err = s.Client(ctx, "c"); ck(t, err == nil && c.PreviousDigest == nil && c.Scope[1] == "b<>", err)
		_, err = s.Client(ctx, "zz"); ck(t, err == clients.ErrNotFound, err)
		_, err = s.UpdateClient(ctx, clients.Client{ID: "zz"}, ev(audit.ClientUpdated)); ck(t, err == clients.ErrNotFound, err)
		cl, err := s.Clients(ctx, "", 10); ck(t, len(cl) == 1 && err == nil)
		cl, err = s.Clients(ctx, "c", 10); ck(t, len(cl) == 0 && cl != nil && err == nil)

		u := users.User{ID: uuid.NewString(), Username: "Bob", PasswordHash: "h"}
		u, err = s.CreateUser(ctx, u, "bob", ev(audit.UserCreated)); ck(t, err == nil && u.CreatedAt.Equal(time.Now()) && u.CreatedAt.Location() == time.UTC, err, u.CreatedAt, time.Now())
		_, err = s.CreateUser(ctx, users.User{ID: uuid.NewString(), Username: "BOB"}, "bob", ev(audit.UserCreated)); ck(t, err == users.ErrExists, err)
		u2, err := s.CreateUser(ctx, users.User{ID: uuid.NewString(), Username: u.ID}, u.ID, ev(audit.UserCreated)); ck(t, err == nil, err)
		got, err := s.User(ctx, u.ID); ck(t, got == u && err == nil, got, err)
		got, err = s.User(ctx, "bob"); ck(t, got == u && err == nil, got, err)
		_, err = s.User(ctx, "nob"); ck(t, err == users.ErrNotFound, err)
		ul, err := s.Users(ctx, "", 10); ck(t, len(ul) == 2 && err == nil)
		ck(t, s.SetPassword(ctx, u.ID, "h2", ev(audit.UserPasswordChanged)) == nil)
		ck(t, s.Rehash(ctx, u.ID, "h2", "h3") == nil)
		ck(t, s.Rehash(ctx, u.ID, "h2", "h4") == nil)
		ck(t, s.EndSessions(ctx, u.ID, ev(audit.UserLoggedOut)) == nil)
		ck(t, s.EndSessions(ctx, "nope", ev(audit.UserLoggedOut)) == users.ErrNotFound)
		u, err = s.SetUserDisabled(ctx, u.ID, true, ev(audit.UserDisabled)); ck(t, err == nil && u.Disabled && u.Epoch == 3, u, err)
		u, err = s.SetUserDisabled(ctx, u.ID, false, ev(audit.UserEnabled)); ck(t, err == nil && !u.Disabled && u.Epoch == 3 && u.PasswordHash == "h3", u, err)

		n := tokens.NewSession{ID: uuid.New(), ClientID: "c", ClientEpoch: c.Epoch, UserID: u.ID, UserEpoch: u.Epoch, Scope: clients.Scope{"a", "b<>"}, Audience: []string{"https://x"}, SecretDigest: []byte("sd"), IdleTTL: time.Hour, TTL: 24 * time.Hour, Address: "1", UserAgent: "ua"}
		bad := n; bad.UserEpoch = 9; bad.ID = uuid.New()
		_, err = s.CreateSession(ctx, bad, ev(audit.SessionCreated)); ck(t, err == tokens.ErrInvalidGrant, err)
		g, err := s.CreateSession(ctx, n, ev(audit.SessionCreated)); t.Logf("%+v %v", g, err)
		use := tokens.Use{Session: n.ID, ClientID: "c", SecretDigest: []byte("sd"), From: 0, To: 1, IdleTTL: time.Hour, Address: "2", UserAgent: "ub"}
		w := use; w.Scope = clients.Scope{"a", "z"}
		_, ok, err := s.Rotate(ctx, w, nil); ck(t, !ok && err == nil, ok, err)
		w = use; w.Audience = []string{"https://y"}
		_, ok, err = s.Rotate(ctx, w, nil); ck(t, !ok && err == nil, ok, err)
		w = use; w.SecretDigest = []byte("no")
		_, ok, err = s.Rotate(ctx, w, nil); ck(t, !ok && err == nil, ok, err)
		w = use; w.Scope = clients.Scope{"b<>"}; w.Audience = []string{"https://x"}
		time.Sleep(time.Minute)
		g, ok, err = s.Rotate(ctx, w, nil); ck(t, ok && err == nil && len(g.Scope) == 2 && g.Now.Equal(time.Now()), ok, err, g)
		_, ok, err = s.Rotate(ctx, use, nil); ck(t, !ok && err == nil, ok, err)
		st, ok, err := s.SessionState(ctx, use, 10*time.Second); t.Logf("%+v", st); ck(t, ok && err == nil && st.Genuine && st.Live && st.InWindow && st.Sequence == 1 && st.Username == "Bob")
		st, _, _ = s.SessionState(ctx, use, 0); ck(t, !st.InWindow)
		_, ok, err = s.SessionState(ctx, tokens.Use{Session: uuid.New()}, 0); ck(t, !ok && err == nil)
		ok, err = s.RevokeReused(ctx, use, 10*time.Second, ev(audit.RefreshTokenReused)); ck(t, !ok && err == nil)
		e := ev(audit.RefreshTokenCaughtUp)
		w = use; w.From, w.To = 1, 5
		_, ok, err = s.Rotate(ctx, w, &e); ck(t, ok && err == nil)
		sl, err := s.Sessions(ctx, tokens.Filter{UserID: u.ID, ClientID: "c", After: uuid.Nil.String(), Limit: 5}); ck(t, len(sl) == 1 && err == nil, err); t.Logf("%+v", sl)
		at := tokens.AccessToken{ID: "j", ClientID: "c", ExpiresAt: time.Now().Add(time.Minute), SessionID: n.ID, UserID: u.ID}
		name, ok, err := s.AccessTokenActive(ctx, at); ck(t, name == "Bob" && ok && err == nil, name, ok, err)
		ok, err = s.RevokeAccessToken(ctx, at, ev(audit.AccessTokenRevoked)); ck(t, ok && err == nil, ok, err)
		ok, err = s.RevokeAccessToken(ctx, at, ev(audit.AccessTokenRevoked)); ck(t, !ok && err == nil, ok, err)
		_, ok, err = s.AccessTokenActive(ctx, at); ck(t, !ok && err == nil)
		own := tokens.AccessToken{ID: "k", ClientID: "c", ExpiresAt: time.Now().Add(time.Minute), ClientEpoch: c.Epoch}
		_, ok, err = s.AccessTokenActive(ctx, own); ck(t, ok && err == nil, err)
		ok, err = s.RevokeReused(ctx, use, 10*time.Second, ev(audit.RefreshTokenReused)); ck(t, ok && err == nil, ok, err)
		ok, err = s.RevokeReused(ctx, use, 10*time.Second, ev(audit.RefreshTokenReused)); ck(t, !ok && err == nil, ok, err)
		n.ID = uuid.New(); _, err = s.CreateSession(ctx, n, ev(audit.SessionCreated)); ck(t, err == nil)
		ok, err = s.RevokeSession(ctx, n.ID, "r", ev(audit.SessionRevoked)); ck(t, ok && err == nil)
		ok, err = s.RevokeSession(ctx, n.ID, "r", ev(audit.SessionRevoked)); ck(t, !ok && err == nil)
		el, err := s.Events(ctx, audit.Filter{Type: audit.SessionRevoked, UserID: u.ID, ClientID: "c", Limit: 10, Since: time.Hour}); ck(t, len(el) == 1 && el[0].SessionID == n.ID.String() && err == nil, el, err)
		el, err = s.Events(ctx, audit.Filter{Before: el[0].ID, Limit: 100}); t.Log(len(el), err)
		x := ev(audit.LoginFailed)
		ck(t, s.RecordEvent(ctx, x) == nil && s.RecordEvent(ctx, x) == nil)

		rows, now, err := s.SigningKeys(ctx, time.Hour); ck(t, len(rows) == 0 && now.Equal(time.Now()) && err == nil)
		k := func(id string) keys.Key { return keys.Key{ID: id, Algorithm: "ES256", Sealed: []byte(id)} }
		nx := k("n1")
		ok, err = s.AdvanceSigningKeys(ctx, "", k("c1"), &nx, ev(audit.KeyCreated)); ck(t, ok && err == nil, ok, err)
		ok, err = s.AdvanceSigningKeys(ctx, "", k("c2"), nil, ev(audit.KeyCreated)); ck(t, !ok && err == nil, ok, err)
		n2 := k("n2")
		ok, err = s.AdvanceSigningKeys(ctx, "c1", nx, &n2, ev(audit.KeyRotated)); ck(t, ok && err == nil, ok, err)
		ok, err = s.AdvanceSigningKeys(ctx, "c1", nx, &n2, ev(audit.KeyRotated)); ck(t, !ok && err == nil, ok, err)
		r := k("n2"); r.Sealed = []byte("zz"); ck(t, s.ResealSigningKey(ctx, r) == nil)
		rows, _, _ = s.SigningKeys(ctx, time.Hour); t.Logf("%+v", rows)
		for _, r := range rows { t.Log(r.ID, r.State()) }
		time.Sleep(time.Hour)
		rows, _, _ = s.SigningKeys(ctx, time.Hour); ck(t, len(rows) == 2)
		nd, err := s.DeleteRetiredKeys(ctx, time.Hour); ck(t, nd == 1 && err == nil)

		a := users.Attempt{Username: []byte("u"), Address: []byte("a"), Password: []byte("p0"), Max: 3, Window: time.Minute}
		for i := range 5 {
			a.Password = []byte{byte(i)}
			time.Sleep(time.Second)
			wait, err := s.CountLoginFailure(ctx, a, ev(audit.LoginFailed), ev(audit.LoginThrottled))
			t.Log(i, wait, err)
			cand, wait, err := s.LoginCandidate(ctx, "bob", a)
			t.Log(i, cand != nil, wait, err)
		}
		wait, err := s.ClearLoginFailures(ctx, a); ck(t, wait > 0 && err == nil)
		time.Sleep(time.Minute)
		cand, wait, err := s.LoginCandidate(ctx, "nobody", a); ck(t, cand == nil && wait == 0 && err == nil, cand, wait, err)
		wait, err = s.CountLoginFailure(ctx, a, ev(audit.LoginFailed), ev(audit.LoginThrottled)); ck(t, wait == 0 && err == nil)
		wait, err = s.ClearLoginFailures(ctx, a); ck(t, wait == 0 && err == nil)
		nd, err = s.DeleteLoginFailures(ctx, 0); ck(t, nd == 1 && err == nil, nd, err)

		for range 1203 { n.ID = uuid.New(); if _, err := s.CreateSession(ctx, n, ev(audit.SessionCreated)); err != nil { t.Fatal(err) } }
		nd, err = s.DeleteEndedSessions(ctx, 0); ck(t, nd == 2 && err == nil, nd, err)
		time.Sleep(time.Hour)
		nd, err = s.DeleteEndedSessions(ctx, time.Hour); ck(t, nd == 0 && err == nil, nd, err)
		nd, err = s.DeleteEndedSessions(ctx, 0); ck(t, nd == 1203 && err == nil, nd, err)
		nd, err = s.DeleteExpiredRevocations(ctx); ck(t, nd == 1 && err == nil, nd, err)
		nd, err = s.DeleteEvents(ctx, time.Hour); t.Log(nd, err)
		el, _ = s.Events(ctx, audit.Filter{Limit: 10}); ck(t, len(el) == 0)
		ck(t, s.DeleteUser(ctx, u2.ID, ev(audit.UserDeleted)) == nil)
		ck(t, s.DeleteUser(ctx, u2.ID, ev(audit.UserDeleted)) == users.ErrNotFound)
		c, err = s.SetClientDisabled(ctx, "c", true, ev(audit.ClientDisabled)); ck(t, c.Disabled && err == nil && c.Epoch == 1<<61+1)
		_, ok, err = s.AccessTokenActive(ctx, own); ck(t, !ok && err == nil, err)
		ck(t, s.DeleteClient(ctx, "c", ev(audit.ClientDeleted)) == nil)
		ck(t, s.DeleteClient(ctx, "c", ev(audit.ClientDeleted)) == clients.ErrNotFound)
		cc, cancel := context.WithCancel(ctx); cancel()
		ck(t, s.RecordEvent(cc, x) != nil)
		fmt.Println(s.PoolStats())
	})
}

func setup(b testing.TB) (*Store, tokens.NewSession) {
	ctx := context.Background()
	s, err := Open(ctx, filepath.Join(b.TempDir(), "s.db"))
	if err != nil { b.Fatal(err) }
	b.Cleanup(s.Close)
	s.Migrate(ctx)
	c, _ := s.CreateClient(ctx, clients.Client{ID: "c", Name: "C", AuthMethod: "none"}, ev(audit.ClientCreated))
	u, _ := s.CreateUser(ctx, users.User{ID: uuid.NewString(), Username: "Bob", PasswordHash: "h"}, "bob", ev(audit.UserCreated))
	n := tokens.NewSession{ID: uuid.New(), ClientID: "c", ClientEpoch: c.Epoch, UserID: u.ID, UserEpoch: u.Epoch, Scope: clients.Scope{"a", "b"}, Audience: []string{"https://x"}, SecretDigest: []byte("sd"), IdleTTL: time.Hour, TTL: 24 * time.Hour}
	for range 3000 { n.ID = uuid.New(); s.CreateSession(ctx, n, ev(audit.SessionCreated)) }
	return s, n
}

func BenchmarkRotate(b *testing.B) {
	s, n := setup(b)
	ctx, c := context.WithCancel(context.Background()); defer c()
	u := tokens.Use{Session: n.ID, ClientID: "c", SecretDigest: []byte("sd"), IdleTTL: time.Hour}
	for b.Loop() {
		u.To = u.From + 1
		if _, ok, err := s.Rotate(ctx, u, nil); !ok || err != nil { b.Fatal(ok, err) }
		u.From++
	}
}
func BenchmarkActive(b *testing.B) {
	s, n := setup(b)
	ctx, c := context.WithCancel(context.Background()); defer c()
	at := tokens.AccessToken{ID: "j", ClientID: "c", ExpiresAt: time.Now().Add(time.Hour), SessionID: n.ID, UserID: n.UserID}
	for b.Loop() {
		if _, ok, err := s.AccessTokenActive(ctx, at); !ok || err != nil { b.Fatal(ok, err) }
	}
}
func BenchmarkList(b *testing.B) {
	s, n := setup(b)
	ctx, c := context.WithCancel(context.Background()); defer c()
	for b.Loop() {
		if l, err := s.Sessions(ctx, tokens.Filter{UserID: n.UserID, Limit: 50}); len(l) != 50 || err != nil { b.Fatal(err) }
	}
}
func TestPlans(t *testing.T) {
	s, _ := setup(t)
	plan := func(q string) {
		rows, err := s.reader.Query("EXPLAIN QUERY PLAN "+q)
		if err != nil { t.Error(err, q); return }
		for rows.Next() { var a, b, c int; var d string; rows.Scan(&a, &b, &c, &d); t.Log(a, b, d) }
		t.Log("--")
	}
	_ = plan
	ex := func(q string, names ...string) {
		a := args{}
		for _, n := range append(names, "now") { a[n] = "1" }
		rows, err := s.reader.Query("EXPLAIN QUERY PLAN "+q, a.list()...)
		if err != nil { t.Error(err, q); return }
		for rows.Next() { var x, b, c int; var d string; rows.Scan(&x, &b, &c, &d); t.Log(x, b, d) }
		t.Log("--")
	}
	ex(rotate, "to", "idle", "address", "user_agent", "id", "client", "digest", "from", "scope", "audience")
	ex(active, "session", "user", "client", "expires", "jti")
	for _, w := range []string{"", " AND s.user_id=@user", " AND s.client_id=@client", " AND s.id > @after", " AND s.user_id=@user AND s.id > @after"} {
		ex(`SELECT s.id FROM sessions s CROSS JOIN users u CROSS JOIN clients c WHERE `+usable+w+` ORDER BY s.id LIMIT @limit`, "user", "client", "after", "limit")
	}
	ex(`SELECT id FROM audit_events WHERE true AND user_id = @user AND user_id <> '' ORDER BY id DESC LIMIT 5`, "user")
	ex(`SELECT id FROM audit_events WHERE true AND client_id = @user AND client_id <> '' AND id < @before ORDER BY id DESC LIMIT 5`, "user", "before")
	ex(`DELETE FROM sessions AS s WHERE s.id > @after AND s.id <= @last AND `+ended, "after", "last", "keep")
	ex(`SELECT username FROM users WHERE id = @id OR canonical = @name ORDER BY id = @id DESC LIMIT 1`, "id", "name")
	ex(`SELECT coalesce(max(id), ''), coalesce(sum(ended), 0) FROM (SELECT s.id, `+ended+` AS ended FROM sessions s WHERE s.id > @after ORDER BY s.id LIMIT @batch)`, "after", "keep", "batch")
}
func TestTwoStoresRotate(t *testing.T) {
	s, n := setup(t)
	var path string
	s.reader.QueryRow("SELECT file FROM pragma_database_list").Scan(&path)
	o, err := Open(t.Context(), path); if err != nil { t.Fatal(err) }
	defer o.Close()
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := map[int64]int{}
	for i := range 32 {
		wg.Go(func() {
			st := s; if i%2 == 0 { st = o }
			for f := range int64(40) {
				_, ok, err := st.Rotate(t.Context(), tokens.Use{Session: n.ID, ClientID: "c", SecretDigest: []byte("sd"), IdleTTL: time.Hour, From: f, To: f + 1}, nil)
				if err != nil { t.Error(err) }
				if ok { mu.Lock(); won[f]++; mu.Unlock() }
			}
		})
	}
	wg.Wait()
	for f, n := range won { if n != 1 { t.Error(f, n) } }
	t.Log(len(won))
	inUse, idle, limit, waits := s.PoolStats()
	t.Log(inUse, idle, limit, waits)
}
