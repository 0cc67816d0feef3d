package tokens_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"signet/audit"
	"signet/authorizations"
	"signet/clients"
	"signet/logins"
	"signet/proofs"
	"signet/tokens"
)

// browsers are the part of the model in which users log in by browser, allow clients something, and get codes for them.
type browsers struct {
	logins   []*modelLogin
	codes    []*modelCode
	consents map[[2]int]consent // by user and client
}

// modelLogin is all that decides what becomes of a login.
type modelLogin struct {
	user, userEpoch int
	ended           bool
	end             time.Duration
	cookie          string
}

// consent is what a user has allowed a client, as it was in that epoch.
type consent struct {
	clientEpoch int
	scope       clients.Scope
}

// modelCode is all that decides what becomes of a code.
type modelCode struct {
	text                           string
	login                          *modelLogin
	client, userEpoch, clientEpoch int
	scope                          clients.Scope
	consented                      bool
	end                            time.Duration
	failures                       int
	withdrawn                      bool
	redeemed                       *granted
}

func (m *machine) liveLogin(l *modelLogin) bool {
	u := m.mUsers[l.user]
	return !l.ended && m.now < l.end && !u.disabled && u.epoch == l.userEpoch
}

func (m *machine) allowed(user, client int, scope clients.Scope) bool {
	k, ok := m.consents[[2]int{user, client}]
	return ok && k.clientEpoch == m.mClients[client].epoch && scope.Within(k.scope)
}

// signIn logs a user in, in a new browser or in one where somebody may be logged in. Either way it has a new cookie afterwards.
func (m *machine) signIn(r *rapid.T) {
	if len(m.logins) == 4 {
		r.Skip("enough logins")
	}
	user := rapid.IntRange(0, 1).Draw(r, "user")
	if m.mUsers[user].disabled {
		r.Skip("who is disabled proves nothing")
	}
	var previous *modelLogin
	cookie := ""
	if len(m.logins) > 0 && rapid.Bool().Draw(r, "in a used browser") {
		previous = m.login(r)
		cookie = previous.cookie
	}
	rep := m.replica(r)
	u, err := rep.store.User(context.Background(), m.userIDs[user])
	check(m.t, err)
	_, fresh, err := rep.logins.Begin(context.Background(), u, logins.ByPassword, false, cookie, home)
	check(m.t, err)
	if previous != nil && m.liveLogin(previous) && previous.user == user { // it goes on
		previous.cookie, previous.end = fresh, m.now+logins.BrowserTTL
		return
	}
	if previous != nil && m.liveLogin(previous) {
		m.endLogin(previous)
	}
	m.logins = append(m.logins, &modelLogin{user: user, userEpoch: m.mUsers[user].epoch, end: m.now + logins.BrowserTTL, cookie: fresh})
}

func (m *machine) login(r *rapid.T) *modelLogin {
	if len(m.logins) == 0 {
		m.signIn(r)
	}
	return rapid.SampledFrom(m.logins).Draw(r, "login")
}

// endLogin takes the sessions along that end with it.
func (m *machine) endLogin(l *modelLogin) {
	l.ended = true
	for _, s := range m.sessions {
		if s.login == l && s.ends {
			s.revoked = true
		}
	}
}

func (m *machine) signOut(r *rapid.T) {
	l := m.login(r)
	rep := m.replica(r)
	current, known, err := rep.logins.Current(context.Background(), l.cookie)
	check(m.t, err)
	if known != m.liveLogin(l) {
		r.Fatalf("the login is live: %v, want %v", known, m.liveLogin(l))
	}
	if known {
		check(m.t, rep.logins.End(context.Background(), current, home))
		m.endLogin(l)
	}
}

// authorize asks for a code, as a client does whom the user has allowed that before, or allows it now, or is not asked about.
func (m *machine) authorize(r *rapid.T) {
	if len(m.codes) == 8 {
		r.Skip("enough codes")
	}
	l, client := m.login(r), rapid.IntRange(0, 1).Draw(r, "client")
	scope := rapid.SampledFrom([]clients.Scope{{"read", "write"}, {"openid", "read", "write"}, {"openid", "read", "write", "offline_access"}}).Draw(r, "scope")
	decision := rapid.SampledFrom([]authorizations.Decision{authorizations.Allowed, authorizations.Allowed, authorizations.Unasked, authorizations.Confirmed}).Draw(r, "decision")
	rep := m.replica(r)
	c, err := rep.clients.Get(context.Background(), m.clients[client].ID)
	check(m.t, err)
	ref, ok := rep.logins.Read(l.cookie)
	if !ok {
		r.Fatal("the cookie cannot be read")
	}
	_, had, known, err := rep.authorizations.Visitor(context.Background(), ref, &c)
	check(m.t, err)
	if known != m.liveLogin(l) {
		r.Fatalf("the login is live: %v, want %v", known, m.liveLogin(l))
	}
	if !known {
		return
	}
	challenge, _ := authorizations.Challenge(strings.Repeat("v", 43))
	request := &authorizations.Request{ClientID: c.ID, RedirectURI: "https://app.example.com/cb", RedirectSent: true, Scope: scope, Audience: []string{issuer}, Challenge: challenge}
	if covered := had.Covers(request); covered != m.allowed(l.user, client, scope) {
		r.Fatalf("allowed before: %v, want %v", covered, !covered)
	}
	text, _, err := rep.authorizations.Issue(context.Background(), &c, ref, request, decision, home)
	want := !m.mClients[client].disabled && (decision != authorizations.Allowed || m.allowed(l.user, client, scope))
	if want != (err == nil) || err != nil && !errors.Is(err, authorizations.ErrChanged) {
		r.Fatalf("a code: %v, want one: %v", err, want)
	}
	if err != nil {
		return
	}
	if decision == authorizations.Confirmed {
		k, ok := m.consents[[2]int{l.user, client}]
		if !ok || k.clientEpoch != m.mClients[client].epoch {
			k = consent{clientEpoch: m.mClients[client].epoch}
		}
		for _, token := range scope {
			if !slices.Contains(k.scope, token) {
				k.scope = append(slices.Clone(k.scope), token)
			}
		}
		if m.consents == nil {
			m.consents = map[[2]int]consent{}
		}
		m.consents[[2]int{l.user, client}] = k
	}
	m.codes = append(m.codes, &modelCode{
		text: text, login: l, client: client, userEpoch: m.mUsers[l.user].epoch, clientEpoch: m.mClients[client].epoch, scope: scope,
		consented: decision != authorizations.Unasked, end: m.now + authorizations.CodeTTL,
	})
}

// code draws one that was redeemed before, or one that was not, which there may have to be made.
func (m *machine) code(r *rapid.T, redeemed bool) *modelCode {
	of := slices.DeleteFunc(slices.Clone(m.codes), func(k *modelCode) bool { return (k.redeemed != nil) != redeemed })
	if len(of) > 0 {
		return rapid.SampledFrom(of).Draw(r, "code")
	}
	if redeemed {
		r.Skip("no code was redeemed")
	}
	n := len(m.codes)
	if m.authorize(r); len(m.codes) == n {
		r.Skip("there is no code")
	}
	return m.codes[n]
}

// present presents a code, after that many times, at the most, with a wrong verifier, and now and then as another client.
func (m *machine) present(r *rapid.T, k *modelCode, guesses int) {
	for range rapid.IntRange(0, guesses).Draw(r, "guesses") {
		m.redeem(r, k, k.client, strings.Repeat("w", 43))
	}
	client := k.client
	if rapid.IntRange(0, 9).Draw(r, "stranger") == 0 {
		client = 1 - client
	}
	m.redeem(r, k, client, strings.Repeat("v", 43))
}

func (m *machine) redeem(r *rapid.T, k *modelCode, client int, verifier string) {
	rep := m.replica(r)
	c, err := rep.clients.Get(context.Background(), m.clients[client].ID)
	check(m.t, err)
	there := k.redeemed == nil && !k.withdrawn && m.now < k.end && k.failures < authorizations.MaxCodeFailures
	l := k.login
	want := there && client == k.client && verifier[0] == 'v' && m.liveLogin(l) && k.userEpoch == m.mUsers[l.user].epoch &&
		!m.mClients[client].disabled && k.clientEpoch == m.mClients[client].epoch && (!k.consented || m.allowedStill(k))
	issued, err := rep.tokens.RedeemCode(context.Background(), &c, k.text, "https://app.example.com/cb", verifier, nil, nil, proofs.Key{}, home)
	if want != (err == nil) || err != nil && !errors.Is(err, tokens.ErrInvalidGrant) {
		r.Fatalf("redeemed: %v, want it: %v (%+v)", err, want, k)
	}
	switch {
	case want:
		k.redeemed = m.began(k, issued)
	case client != k.client: // which changes nothing
	case k.redeemed != nil:
		if !k.redeemed.revoked {
			k.redeemed.revoked = true
			k.redeemed.events[audit.CodeReused]++
		}
	case there && verifier[0] != 'v':
		k.failures++
	}
}

// allowedStill tells whether the consent stands that a code came of. It may be one that the client got anew since.
func (m *machine) allowedStill(k *modelCode) bool {
	c, ok := m.consents[[2]int{k.login.user, k.client}]
	return ok && k.scope.Within(c.scope)
}

// began is the session that a code has begun.
func (m *machine) began(k *modelCode, issued tokens.Issued) *granted {
	s := &granted{
		modelSession: modelSession{
			client: k.client, user: k.login.user, clientEpoch: k.clientEpoch, userEpoch: k.userEpoch,
			lastUsed: m.now, idleEnd: m.now + refreshTTL, end: m.now + sessionTTL, address: home.Address,
		},
		id: issued.SessionID, refresh: map[int64]string{0: issued.RefreshToken}, access: []modelAccess{{token: issued.AccessToken}},
		events: map[audit.Type]int64{}, scope: k.scope.String(), login: k.login,
		ends: slices.Contains(k.scope, clients.ScopeOpenID) && !slices.Contains(k.scope, clients.ScopeOffline),
	}
	if s.ends {
		s.end = min(s.end, k.login.end)
	}
	m.sessions = append(m.sessions, s)
	return s
}

func (m *machine) withdraw(r *rapid.T) {
	user, client := rapid.IntRange(0, 1).Draw(r, "user"), rapid.IntRange(0, 1).Draw(r, "client")
	if len(m.sessions) > 0 && rapid.Bool().Draw(r, "of a session") {
		s := m.session(r)
		user, client = s.user, s.client
	}
	if rapid.Bool().Draw(r, "of a code") {
		k := m.code(r, false)
		user, client = k.login.user, k.client
	}
	_, had := m.consents[[2]int{user, client}]
	ok, err := m.replica(r).authorizations.Withdraw(context.Background(), m.userIDs[user], m.clients[client].ID, home)
	if check(m.t, err); ok != had {
		r.Fatalf("withdrawn: %v, want %v", ok, had)
	}
	if !had {
		return
	}
	delete(m.consents, [2]int{user, client})
	for _, k := range m.codes {
		if k.login.user == user && k.client == client {
			k.withdrawn = true
		}
	}
	for _, s := range m.sessions {
		if s.user == user && s.client == client && s.login != nil {
			s.revoked = true
		}
	}
	for _, k := range m.codes { // none of them is good any more
		if k.login.user == user && k.client == client {
			m.redeem(r, k, client, strings.Repeat("v", 43))
		}
	}
}
