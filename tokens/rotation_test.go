package tokens_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"signet/audit"
	"signet/authorizations"
	"signet/clients"
	"signet/proofs"
	"signet/storage"
	"signet/storage/storagetest"
	"signet/tokens"
	"signet/users"
)

// TestRotation lets users, browsers, clients, thieves, administrators, time, restarts and restored backups do as they like, in any
// order, and compares each answer with that of a model that fits on a page. -rapid.checks says for how long.
func TestRotation(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		if b.Name == "sqlite" {
			b = &storagetest.Backend{Name: b.Name, URL: "sqlite:" + filepath.Join(quickDir(t), "signet.db")}
		}
		x := &fixture{Backend: b, secret: newSecret(t)}
		x.Open(t).Close()
		db := behind(t, b)
		db.exec("CREATE TABLE saved AS SELECT * FROM sessions WHERE false")
		var replicas [2]replica
		for i := range replicas {
			replicas[i] = x.start(t)
		}
		defer func() {
			for _, r := range replicas {
				r.store.Close()
			}
		}()
		rapid.Check(t, func(r *rapid.T) {
			m := newMachine(t, x, db, &replicas)
			defer m.empty()
			r.Repeat(map[string]func(*rapid.T){
				"":               m.compare,
				"log in":         m.logIn,
				"use":            func(r *rapid.T) { m.use(r, m.current(r)) },
				"use again":      func(r *rapid.T) { m.use(r, m.spent(r, 1)) },
				"steal":          func(r *rapid.T) { m.use(r, m.spent(r, 100)) },
				"use any":        func(r *rapid.T) { m.use(r, m.any(r)) },
				"revoke":         m.revoke,
				"revoke access":  m.revokeAccess,
				"log out":        m.logOut,
				"switch user":    m.switchUser,
				"switch client":  m.switchClient,
				"a minute later": func(*rapid.T) { m.age(time.Minute) },
				"an hour later":  func(*rapid.T) { m.age(time.Hour) },
				"a day later":    func(*rapid.T) { m.age(20 * time.Hour) },
				"back up":        func(r *rapid.T) { m.backUp(m.session(r)) },
				"restore":        func(r *rapid.T) { m.restore(r, m.session(r)) },
				"lose commits":   m.loseCommits,
				"outage":         m.outage,
				"lose an answer": m.loseAnswer,
				"heartbeat":      m.beat,
				"restart":        m.restart,

				"log in by browser":  m.signIn,
				"log out by browser": m.signOut,
				"authorize":          m.authorize,
				"redeem":             func(r *rapid.T) { m.present(r, m.code(r, false), 0) },
				"guess and redeem":   func(r *rapid.T) { m.present(r, m.code(r, false), authorizations.MaxCodeFailures) },
				"redeem again":       func(r *rapid.T) { m.present(r, m.code(r, true), 0) },
				"withdraw consent":   m.withdraw,
			})
			m.compareAll(r)
		})
	})
}

// quickDir is a directory in memory, where there is one: what is tested here is not whether the disk keeps it.
func quickDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "signet-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// backDoor is a connection behind the stores' backs that stays open: thousands of steps go through it.
type backDoor struct {
	*sql.DB
	t      *testing.T
	sqlite bool
}

func behind(t *testing.T, b *storagetest.Backend) *backDoor {
	driver, dsn := "pgx", b.URL
	if b.Name == "sqlite" {
		driver, dsn = "sqlite", "file:"+strings.TrimPrefix(b.URL, "sqlite:")+"?_pragma=busy_timeout(10000)"
	}
	db, err := sql.Open(driver, dsn)
	check(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return &backDoor{DB: db, t: t, sqlite: b.Name == "sqlite"}
}

func (d *backDoor) exec(statement string, args ...any) {
	_, err := d.ExecContext(context.Background(), statement, args...)
	check(d.t, err)
}

// age makes the sessions, and their backups, older, logins and codes, and what was written down of interruptions. The heartbeat stays as it is.
func (d *backDoor) age(by time.Duration) {
	amount := d.span(by)
	d.exec(strings.ReplaceAll("UPDATE logins SET auth_time = auth_time - @, expires_at = expires_at - @, ended_at = ended_at - @", "@", amount))
	d.exec("UPDATE authorization_codes SET expires_at = expires_at - " + amount)
	for _, table := range []string{"sessions", "saved"} {
		d.exec(strings.ReplaceAll("UPDATE "+table+` SET created_at = created_at - @, expires_at = expires_at - @, last_used_at = last_used_at - @,
			idle_expires_at = idle_expires_at - @, revoked_at = revoked_at - @`, "@", amount))
	}
	d.exec(strings.ReplaceAll(`UPDATE interruptions SET began_at = began_at - @, ended_at = ended_at - @`, "@", amount))
}

// span is a length of time as the database writes it.
func (d *backDoor) span(by time.Duration) string {
	amount := fmt.Sprintf("interval '%d microseconds'", by.Microseconds())
	if d.sqlite {
		amount = strconv.FormatInt(by.Microseconds(), 10)
	}
	return amount
}

// modelSession is all that decides what becomes of a session.
type modelSession struct {
	client, user           int
	clientEpoch, userEpoch int
	revoked                bool
	sequence               int64
	lastUsed               time.Duration // on the model's clock
	idleEnd, end           time.Duration
	address                string // of the last use
}

// granted is a session and all that was ever issued for it.
type granted struct {
	modelSession
	id      string
	refresh map[int64]string // by sequence number
	access  []modelAccess
	saved   *modelSession // a backup
	events  map[audit.Type]int64
	scope   string
	login   *modelLogin // that it began in, if any
	ends    bool        // with it
}

type modelAccess struct {
	token   string
	revoked bool
}

// principal is a user or a client.
type principal struct {
	epoch    int
	disabled bool
}

// machine is the system under test, two replicas of it, beside the model.
type machine struct {
	*fixture

	t        *testing.T
	db       *backDoor
	replicas *[2]replica
	userIDs  [2]string
	clients  [2]clients.Client

	now      time.Duration
	mUsers   [2]principal
	mClients [2]principal
	sessions []*granted

	lastBeat      time.Duration // on the model's clock
	interruptions [][2]time.Duration

	browsers
}

func newMachine(t *testing.T, x *fixture, db *backDoor, replicas *[2]replica) *machine {
	m := &machine{fixture: x, t: t, db: db, replicas: replicas}
	for i := range 2 {
		m.userIDs[i] = addUser(t, m.replicas[0].store).ID
		m.clients[i] = addClient(t, m.replicas[0])
	}
	m.beatNow()
	return m
}

// empty deletes what a check has left.
func (m *machine) empty() {
	for _, table := range []string{"logins", "authorization_codes", "consents", "logout_notices", "sessions", "saved", "users", "clients", "audit_events", "revoked_access_tokens", "heartbeat", "interruptions"} {
		m.db.exec("DELETE FROM " + table)
	}
}

// start starts a server.
func (x *fixture) start(t *testing.T) replica {
	store, err := storage.Open(context.Background(), x.URL, nil)
	check(t, err)
	r, err := newReplica(context.Background(), store, x.secret, retryWindow)
	check(t, err)
	return r
}

// restart replaces, now and then, one of the servers: it takes as long as a hundred other steps.
func (m *machine) restart(r *rapid.T) {
	if rapid.IntRange(0, 3).Draw(r, "restart") > 0 {
		r.Skip("not now")
	}
	i := rapid.IntRange(0, 1).Draw(r, "replica")
	m.replicas[i].store.Close()
	m.replicas[i] = m.start(m.t)
}

func (m *machine) replica(r *rapid.T) replica {
	return m.replicas[rapid.IntRange(0, 1).Draw(r, "replica")]
}

// live is the model's decision whether a session has ended.
func (m *machine) live(s *granted) bool {
	u, c := m.mUsers[s.user], m.mClients[s.client]
	return !s.revoked && m.now < s.end && !u.disabled && u.epoch == s.userEpoch && !c.disabled && c.epoch == s.clientEpoch
}

func (m *machine) usable(s *granted) bool { return m.live(s) && m.now < s.idleEnd }

// judge is the model of a refresh: what it comes to, and what that changes.
func (m *machine) judge(s *granted, sequence int64, client int, widened bool, address string) (tokens.Outcome, error) {
	if client != s.client || !m.usable(s) {
		return tokens.Rejected, tokens.ErrInvalidGrant
	}
	spent := sequence < s.sequence
	retry := sequence+1 == s.sequence && m.awake(s.lastUsed) < retryWindow
	switch {
	case spent && !retry:
		s.revoked = true
		s.events[audit.RefreshTokenReused]++
		return tokens.Reused, tokens.ErrInvalidGrant
	case widened:
		return tokens.Rejected, tokens.ErrInvalidScope
	case retry:
		if address != s.address {
			s.events[audit.RefreshTokenRetriedElsewhere]++
		}
		return tokens.Retried, nil
	}
	outcome := tokens.Rotated
	if sequence > s.sequence {
		outcome = tokens.CaughtUp
		s.events[audit.RefreshTokenCaughtUp]++
	}
	s.sequence, s.lastUsed, s.idleEnd, s.address = sequence+1, m.now, m.now+refreshTTL, address
	return outcome, nil
}

// awake is for how long since then somebody was there to answer a retry.
func (m *machine) awake(since time.Duration) time.Duration {
	elapsed := m.now - since
	interruptions := m.interruptions
	if m.now-m.lastBeat > tokens.HeartbeatGap {
		interruptions = append(slices.Clone(interruptions), [2]time.Duration{m.lastBeat, m.now})
	}
	for _, i := range interruptions {
		switch began, ended := i[0], i[1]; {
		case ended <= since:
		case since >= began-tokens.InterruptionLead:
			elapsed -= ended - since
		default:
			elapsed -= ended - began
		}
	}
	return elapsed
}

// outage lets time pass in which nobody is there: the database is away, or both replicas. What comes next may come before the
// first heartbeat after it, or after.
func (m *machine) outage(r *rapid.T) {
	m.asleep(rapid.SampledFrom([]time.Duration{5 * time.Second, time.Minute, time.Hour, 20 * time.Hour}).Draw(r, "length"))
	if rapid.Bool().Draw(r, "heartbeat") {
		m.beat(r)
	}
}

func (m *machine) asleep(d time.Duration) {
	m.db.age(d)
	m.db.exec("UPDATE heartbeat SET beat_at = beat_at - " + m.db.span(d))
	m.now += d
}

// beat is a heartbeat, of either replica.
func (m *machine) beat(r *rapid.T) { m.beatBy(m.replica(r)) }

func (m *machine) beatNow() { m.beatBy(m.replicas[0]) }

func (m *machine) beatBy(rep replica) {
	_, interrupted, err := rep.store.Beat(context.Background(), audit.New(audit.ServiceInterrupted, home))
	check(m.t, err)
	if late := m.now-m.lastBeat > tokens.HeartbeatGap; late != interrupted {
		m.t.Errorf("a heartbeat after %s: an interruption: %v", m.now-m.lastBeat, interrupted)
	}
	if interrupted {
		m.interruptions = append(m.interruptions, [2]time.Duration{m.lastBeat, m.now})
	}
	m.lastBeat = m.now
}

// loseAnswer is an outage that swallows the answer to a use, however long it is. Nobody is logged out by that: the same token gets
// the same successor (invariant 8).
func (m *machine) loseAnswer(r *rapid.T) {
	p := m.current(r)
	client, usable := p.client, m.usable(p.granted)
	m.use(r, p)
	m.asleep(rapid.SampledFrom([]time.Duration{5 * time.Second, time.Hour, 20 * time.Hour}).Draw(r, "length"))
	if rapid.Bool().Draw(r, "heartbeat") {
		m.beat(r)
	}
	if !usable || !m.usable(p.granted) || p.granted.sequence != p.sequence+1 {
		return // another client's use, or it ended
	}
	_, outcome, err := m.replica(r).tokens.Refresh(context.Background(), &m.clients[client], p.refresh[p.sequence], nil, nil, proofs.Key{}, home)
	if outcome != tokens.Retried || err != nil {
		r.Fatalf("a use whose answer was lost in an outage, repeated: %s, %v", outcome, err)
	}
	if p.address != home.Address {
		p.events[audit.RefreshTokenRetriedElsewhere]++
	}
}

// session draws one of the sessions.
func (m *machine) session(r *rapid.T) *granted {
	if len(m.sessions) == 0 {
		r.Skip("there is no session")
	}
	return m.sessions[rapid.IntRange(0, len(m.sessions)-1).Draw(r, "session")]
}

// pick is a refresh token to present.
type pick struct {
	*granted
	sequence int64
}

// current picks the newest token of a session.
func (m *machine) current(r *rapid.T) pick {
	s := m.session(r)
	return pick{s, slices.Max(slices.Collect(maps.Keys(s.refresh)))}
}

// spent picks one of the last few spent tokens.
func (m *machine) spent(r *rapid.T, last int64) pick {
	p := m.current(r)
	if p.sequence == 0 {
		r.Skip("no token is spent")
	}
	p.sequence -= rapid.Int64Range(1, min(last, p.sequence)).Draw(r, "ago")
	return p
}

func (m *machine) any(r *rapid.T) pick {
	s := m.session(r)
	return pick{s, rapid.SampledFrom(slices.Sorted(maps.Keys(s.refresh))).Draw(r, "sequence")}
}

// owner draws who acts: mostly the session's client.
func (p pick) owner(r *rapid.T) int {
	if rapid.IntRange(0, 9).Draw(r, "stranger") == 0 {
		return 1 - p.client
	}
	return p.client
}

func (m *machine) logIn(r *rapid.T) {
	if len(m.sessions) == 4 {
		r.Skip("enough sessions")
	}
	user, client := rapid.IntRange(0, 1).Draw(r, "user"), rapid.IntRange(0, 1).Draw(r, "client")
	rep := m.replica(r)
	u, err := rep.store.User(context.Background(), m.userIDs[user])
	check(m.t, err)
	c, err := rep.clients.Get(context.Background(), m.clients[client].ID)
	check(m.t, err)
	issued, err := rep.tokens.StartSession(context.Background(), &c, u, c.Scope, []string{issuer}, proofs.Key{}, home)
	if m.mUsers[user].disabled || m.mClients[client].disabled {
		if !errors.Is(err, tokens.ErrInvalidGrant) {
			r.Fatalf("a login of somebody who is disabled: %v", err)
		}
		return
	}
	if err != nil {
		r.Fatal(err)
	}
	m.sessions = append(m.sessions, &granted{
		modelSession: modelSession{
			client: client, user: user, clientEpoch: m.mClients[client].epoch, userEpoch: m.mUsers[user].epoch,
			lastUsed: m.now, idleEnd: m.now + refreshTTL, end: m.now + sessionTTL, address: home.Address,
		},
		id: issued.SessionID, refresh: map[int64]string{0: issued.RefreshToken}, access: []modelAccess{{token: issued.AccessToken}},
		events: map[audit.Type]int64{}, scope: "read write",
	})
}

// use presents the token and compares what it comes to, and the successor, with the model.
func (m *machine) use(r *rapid.T, p pick) {
	client := p.owner(r)
	scope := rapid.SampledFrom([]clients.Scope{nil, nil, nil, {"read"}, {"write", "read"}, {"read", "admin"}}).Draw(r, "scope")
	from := rapid.SampledFrom([]audit.Origin{home, home, elsewhere}).Draw(r, "from")
	want, wantErr := m.judge(p.granted, p.sequence, client, slices.Contains(scope, "admin"), from.Address)
	issued, outcome, err := m.replica(r).tokens.Refresh(context.Background(), &m.clients[client], p.refresh[p.sequence], scope, nil, proofs.Key{}, from)
	if outcome != want || !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
		r.Fatalf("token %d of %s: %s (%v), want %s (%v)", p.sequence, p.id, outcome, err, want, wantErr)
	}
	if wantErr != nil {
		if issued.RefreshToken != "" || issued.AccessToken != "" {
			r.Fatalf("a use that was %s gave tokens", outcome)
		}
		return
	}
	if known, ok := p.refresh[p.sequence+1]; ok && known != issued.RefreshToken {
		r.Fatalf("token %d of %s has two successors", p.sequence, p.id)
	}
	p.refresh[p.sequence+1] = issued.RefreshToken
	p.access = append(p.access, modelAccess{token: issued.AccessToken})
	granted := scope.String()
	if scope == nil {
		granted = p.scope
	}
	if issued.Scope != granted || issued.SessionID != p.id {
		r.Fatalf("scope %q of session %s, want %q of %s", issued.Scope, issued.SessionID, granted, p.id)
	}
}

func (m *machine) revoke(r *rapid.T) {
	p := m.any(r)
	client := p.owner(r)
	var want error
	switch {
	case client == p.client:
		p.revoked = p.revoked || m.live(p.granted)
	case m.usable(p.granted) && p.sequence >= p.granted.sequence:
		want = tokens.ErrOtherClient
	}
	if err := m.replica(r).tokens.Revoke(context.Background(), &m.clients[client], p.refresh[p.sequence], home); !errors.Is(err, want) {
		r.Fatalf("revoked: %v, want %v", err, want)
	}
}

func (m *machine) revokeAccess(r *rapid.T) {
	p := pick{granted: m.session(r)}
	i := rapid.IntRange(0, len(p.access)-1).Draw(r, "access token")
	client := p.owner(r)
	active := m.live(p.granted) && !p.access[i].revoked
	var want error
	if client == p.client {
		p.access[i].revoked = p.access[i].revoked || active
	} else if active {
		want = tokens.ErrOtherClient
	}
	if err := m.replica(r).tokens.Revoke(context.Background(), &m.clients[client], p.access[i].token, home); !errors.Is(err, want) {
		r.Fatalf("revoked: %v, want %v", err, want)
	}
}

func (m *machine) logOut(r *rapid.T) {
	i := rapid.IntRange(0, 1).Draw(r, "user")
	check(m.t, m.replica(r).users.EndSessions(context.Background(), m.userIDs[i], home))
	m.mUsers[i].epoch++
}

// toggle disables or enables.
func (p *principal) toggle() {
	p.disabled = !p.disabled
	if p.disabled {
		p.epoch++
	}
}

func (m *machine) switchUser(r *rapid.T) {
	i := rapid.IntRange(0, 1).Draw(r, "user")
	m.mUsers[i].toggle()
	_, err := m.replica(r).users.Update(context.Background(), m.userIDs[i], users.Change{Disabled: new(m.mUsers[i].disabled)}, home)
	check(m.t, err)
}

func (m *machine) switchClient(r *rapid.T) {
	i := rapid.IntRange(0, 1).Draw(r, "client")
	m.mClients[i].toggle()
	_, err := m.replica(r).clients.SetDisabled(context.Background(), m.clients[i].ID, m.mClients[i].disabled, home)
	check(m.t, err)
}

// age lets time pass in which the heartbeat is renewed.
func (m *machine) age(d time.Duration) {
	m.beatNow()
	m.db.age(d)
	m.now += d
	m.lastBeat = m.now
}

func (m *machine) backUp(s *granted) {
	m.db.exec("DELETE FROM saved WHERE id = $1", s.id)
	m.db.exec("INSERT INTO saved SELECT * FROM sessions WHERE id = $1", s.id)
	saved := s.modelSession
	s.saved = &saved
}

func (m *machine) restore(r *rapid.T, s *granted) {
	if s.saved == nil {
		r.Skip("there is no backup")
	}
	m.db.exec("DELETE FROM sessions WHERE id = $1", s.id)
	m.db.exec("INSERT INTO sessions SELECT * FROM saved WHERE id = $1", s.id)
	s.modelSession = *s.saved
}

// loseCommits is a failover to a database that the last uses of a session did not reach.
func (m *machine) loseCommits(r *rapid.T) {
	p := m.current(r)
	m.backUp(p.granted)
	for range rapid.IntRange(1, 3).Draw(r, "uses") {
		p.sequence = slices.Max(slices.Collect(maps.Keys(p.refresh)))
		m.use(r, p)
	}
	m.restore(r, p.granted)
}

// compare introspects, after every step, tokens of one of the sessions.
func (m *machine) compare(r *rapid.T) {
	if m.now-m.lastBeat <= tokens.HeartbeatGap { // the time that the steps themselves take is no outage
		m.db.exec("UPDATE heartbeat SET beat_at = " + map[bool]string{true: "CAST(unixepoch('subsec') * 1e6 AS INTEGER)", false: "now()"}[m.db.sqlite])
	}
	if len(m.sessions) > 0 {
		m.compareSession(r, m.session(r))
	}
}

func (m *machine) compareSession(r *rapid.T, s *granted) {
	i := rapid.IntRange(0, len(s.access)-1).Draw(r, "access token")
	m.wantAnswer(r, s, s.access[i].token, m.live(s) && !s.access[i].revoked)
	sequence := rapid.SampledFrom(slices.Sorted(maps.Keys(s.refresh))).Draw(r, "sequence")
	m.wantAnswer(r, s, s.refresh[sequence], m.usable(s) && sequence >= s.sequence) // newer ones are good: a refresh catches up
}

func (m *machine) wantAnswer(r *rapid.T, s *granted, token string, active bool) {
	rep := m.replicas[rapid.IntRange(0, 1).Draw(r, "replica")]
	caller := rapid.SampledFrom([]int{s.client, s.client, s.client, 1 - s.client}).Draw(r, "caller")
	answer, err := rep.tokens.Introspect(context.Background(), &m.clients[caller], token)
	if err != nil {
		r.Fatal(err)
	}
	want := active && caller == s.client
	if answer.Active != want {
		r.Fatalf("%.8s… of session %s is active: %v, want %v", token, s.id, answer.Active, want)
	}
	if want && (answer.SessionID != s.id || answer.Subject != m.userIDs[s.user] || answer.ClientID != m.clients[s.client].ID) {
		r.Fatalf("the answer is about another session: %+v", answer)
	}
}

// compareAll compares, at the end, every session, and what was recorded of it.
func (m *machine) compareAll(r *rapid.T) {
	for _, s := range m.sessions {
		m.compareSession(r, s)
		for _, kind := range []audit.Type{audit.RefreshTokenReused, audit.RefreshTokenCaughtUp, audit.RefreshTokenRetriedElsewhere, audit.CodeReused} {
			var got int64
			check(m.t, m.db.QueryRow("SELECT count(*) FROM audit_events WHERE session_id = $1 AND type = $2", s.id, string(kind)).Scan(&got))
			if got != s.events[kind] {
				r.Fatalf("session %s has %d events %s, want %d", s.id, got, kind, s.events[kind])
			}
		}
	}
}
