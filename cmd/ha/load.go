package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/sync/errgroup"
)

const (
	password    = "correct horse battery staple"
	redirectURI = "https://app.example.com/callback"
	loggedOut   = "https://app.example.com/"
	verifier    = "high-availability-high-availability-high-availability"
)

// load is the users of a client: each chain is a session that is refreshed again and again, each visitor a browser that is
// logged in and gets codes, each newcomer logs in with a password and, every second time, out again. Who gets no answer, or
// 503, tries again with the same.
type load struct {
	base         string
	id, secret   string // of the client
	patient      bool   // tries again; otherwise whatever is not answered well is a failure
	chains       []*chain
	visitors     []*browser
	transport    *http.Transport
	forget       time.Time // codes and logins from before are not in the backup; see restored
	mu           sync.Mutex
	counts       counts
	lastGood     time.Time
	failing      bool // since lastGood, something failed
	stayed, left []*browser
}

// counts are what happened.
type counts struct {
	gap         time.Duration  // the longest time without a good answer of /token
	requests    int            // with every try
	failures    map[string]int // by status, or what else became of the request
	refused     int            // chains whose token was refused
	refreshes   int
	codes       int // redeemed
	lostCodes   int // refused at the second try, as the answer to the first was lost: the app asks for another
	twice       int // codes that were redeemed twice
	logins      int
	logouts     int
	undone      int // logins and log-outs that did not last
	firstBroken string
}

// chain is a session: its newest refresh token.
type chain struct{ token, access string }

func (l *load) broken(n *int, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*n++
	if l.counts.firstBroken == "" {
		l.counts.firstBroken = fmt.Sprintf(format, args...)
	}
}

// newLoad makes a client, users, chains and visitors.
func newLoad(ctx context.Context, s *stand, program string, chains, visitors int) (*load, error) {
	l := &load{base: fmt.Sprintf("http://localhost:%d", s.frontPort), patient: true}
	l.transport = &http.Transport{MaxIdleConnsPerHost: 300, IdleConnTimeout: 5 * time.Second, ResponseHeaderTimeout: 20 * time.Second}
	var created struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	if err := s.run(ctx, program, "", &created, "client", "create", "--name", "App", "--redirect-uri", redirectURI, "--skip-consent",
		"--post-logout-redirect-uri", loggedOut, "--grant", "authorization_code", "--grant", "refresh_token", "--grant", "password",
		"--scope", "openid offline_access read", "--id-token-signed-response-alg", "ES256"); err != nil {
		return nil, err
	}
	l.id, l.secret = created.ID, created.Secret
	if err := s.run(ctx, program, password+"\n", nil, "user", "create", "ann", "--password-stdin"); err != nil {
		return nil, err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	l.chains, l.visitors = make([]*chain, chains), make([]*browser, visitors)
	for i := range l.chains {
		group.Go(func() error {
			a, err := l.token(groupCtx, url.Values{"grant_type": {"password"}, "username": {"ann"}, "password": {password}, "scope": {"read"}})
			if err == nil && a.status != http.StatusOK {
				err = errors.New(a.body)
			}
			l.chains[i] = &chain{token: a.Refresh, access: a.Access}
			return err
		})
	}
	for i := range l.visitors {
		group.Go(func() (err error) {
			b := l.newBrowser()
			l.visitors[i] = b
			_, err = b.logIn(groupCtx)
			return err
		})
	}
	return l, group.Wait()
}

// answer is one of /token.
type answer struct {
	status  int
	body    string
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	ID      string `json:"id_token"`
	Error   string `json:"error"`
	Active  bool   `json:"active"`
}

func (l *load) post(ctx context.Context, path string, form url.Values) (a answer, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(l.id, l.secret)
	a.status, a.body, _, err = l.do(&http.Client{Transport: l.transport}, req)
	if err == nil && strings.HasPrefix(a.body, "{") {
		err = json.Unmarshal([]byte(a.body), &a)
	}
	return a, err
}

func (l *load) token(ctx context.Context, form url.Values) (answer, error) {
	return l.post(ctx, "/token", form)
}

// unavailable is how /authorize says 503: the browser is sent back to the app with it (RFC 6749 section 4.1.2.1).
const unavailable = "temporarily_unavailable"

// harmless is what may be answered while there is no database.
func harmless(what string) bool { return what == "503" || what == "refused" || what == unavailable }

// errAgain says that a request was not answered, or with 503.
var errAgain = errors.New("try again")

// do sends a request and counts what became of it.
func (l *load) do(client *http.Client, req *http.Request) (status int, body, location string, err error) {
	res, err := client.Do(req)
	what := ""
	if err == nil {
		var b []byte
		b, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
		status, body, location = res.StatusCode, string(b), res.Header.Get("Location")
		if status >= 500 {
			what = res.Status[:3]
		} else if strings.Contains(location, "error="+unavailable) {
			what = unavailable
		}
	}
	if req.Context().Err() != nil {
		return 0, "", "", req.Context().Err()
	}
	var op *net.OpError
	switch {
	case err == nil:
	case errors.As(err, &op) && op.Op == "dial":
		what = "refused"
	default:
		what = "no answer"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.requests++
	now := time.Now()
	if what != "" && status != http.StatusSeeOther {
		err = errAgain
	}
	if what != "" {
		if l.counts.failures == nil {
			l.counts.failures = map[string]int{}
		}
		l.counts.failures[what]++
		l.failing = true
		if l.counts.firstBroken == "" && (!harmless(what) || !l.patient) {
			l.counts.firstBroken = fmt.Sprintf("%s %s: %s %v %.200s", req.Method, req.URL.Path, what, err, body)
		}
		return status, body, location, err
	}
	if req.URL.Path == "/token" { // what else is answered may need no database
		if l.failing {
			l.counts.gap = max(l.counts.gap, now.Sub(l.lastGood))
		}
		l.lastGood, l.failing = now, false
	}
	return status, body, location, nil
}

// pause is what users do between two requests.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d/2 + rand.N(d)): //nolint:gosec // no secret
		return true
	}
}

// refresh uses the token of a chain until there is an answer.
func (l *load) refresh(ctx context.Context, c *chain) bool {
	for ctx.Err() == nil {
		a, err := l.token(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {c.token}})
		switch {
		case errors.Is(err, errAgain) && l.patient:
			pause(ctx, 300*time.Millisecond)
			continue
		case err != nil:
			return false
		case a.status != http.StatusOK:
			l.broken(&l.counts.refused, "a refresh token is refused: %d %s", a.status, a.body)
			return false
		}
		c.token, c.access = a.Refresh, a.Access
		l.mu.Lock()
		l.counts.refreshes++
		l.mu.Unlock()
		return true
	}
	return false
}

// browser is one with its cookies.
type browser struct {
	l      *load
	client *http.Client
	id     string // the last ID token
}

func (l *load) newBrowser() *browser {
	jar, _ := cookiejar.New(nil)
	return &browser{l: l, client: &http.Client{Jar: jar, Transport: l.transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

var sealed = regexp.MustCompile(`name="request" value="([^"]+)"`)

// send sends until there is an answer.
func (b *browser) send(ctx context.Context, method, path string, form url.Values) (status int, body string, to url.Values, err error) {
	for {
		req, err := http.NewRequestWithContext(ctx, method, b.l.base+path, strings.NewReader(form.Encode()))
		if err != nil {
			return 0, "", nil, err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		status, body, location, err := b.l.do(b.client, req)
		if errors.Is(err, errAgain) && b.l.patient && pause(ctx, 300*time.Millisecond) {
			continue
		}
		if err != nil {
			return 0, "", nil, err
		}
		_, query, _ := strings.Cut(location, "?")
		if to, err = url.ParseQuery(query); err != nil || to.Get("error") != unavailable {
			return status, body, to, err
		}
		if !pause(ctx, 300*time.Millisecond) {
			return 0, "", nil, ctx.Err()
		}
	}
}

func (b *browser) authorize(ctx context.Context, prompt string) (status int, body string, to url.Values, err error) {
	query := url.Values{
		"response_type": {"code"}, "client_id": {b.l.id}, "redirect_uri": {redirectURI}, "scope": {"openid read"}, "state": {"state"}, "nonce": {"nonce"},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "code_challenge_method": {"S256"},
	}
	if prompt != "" {
		query.Set("prompt", prompt)
	}
	return b.send(ctx, http.MethodGet, "/authorize?"+query.Encode(), nil)
}

// logIn goes through the login page and returns a code.
func (b *browser) logIn(ctx context.Context) (string, error) {
	status, page, _, err := b.authorize(ctx, "")
	if err != nil {
		return "", err
	}
	found := sealed.FindStringSubmatch(page)
	if found == nil {
		return "", fmt.Errorf("no login page: %d %.300s", status, page)
	}
	status, page, to, err := b.send(ctx, http.MethodPost, "/login", url.Values{"request": {found[1]}, "username": {"ann"}, "password": {password}})
	if err == nil && !to.Has("code") {
		err = fmt.Errorf("no code after the login: %d %.300s", status, page)
	}
	return to.Get("code"), err
}

// visit gets a code for a browser that is logged in, redeems it, and now and then tries that again, which has to be refused.
func (b *browser) visit(ctx context.Context) bool {
	status, body, to, err := b.authorize(ctx, "none")
	if err != nil {
		return false
	}
	if !to.Has("code") {
		b.l.broken(&b.l.counts.undone, "a browser that was logged in is not: %d %v %.200s", status, to, body)
		return false
	}
	return b.redeem(ctx, to.Get("code"))
}

func (b *browser) redeem(ctx context.Context, code string) bool {
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirectURI}, "code_verifier": {verifier}}
	l := b.l
	for tries := 0; ctx.Err() == nil; tries++ {
		a, err := l.token(ctx, form)
		if errors.Is(err, errAgain) && l.patient {
			pause(ctx, 300*time.Millisecond)
			continue
		}
		if err != nil {
			return false
		}
		l.mu.Lock()
		switch a.status {
		case http.StatusOK:
			l.counts.codes++
			b.id = a.ID
		default: // begun anew; for want of an answer, or, if the tries took longer than a code lives, for its age
			l.counts.lostCodes++
			if tries == 0 && l.counts.firstBroken == "" && l.forget.IsZero() {
				l.counts.firstBroken = "a code is refused: " + a.body
			}
		}
		l.mu.Unlock()
		if a.status != http.StatusOK {
			return l.patient
		}
		if rand.N(8) == 0 { //nolint:gosec // no secret
			for ctx.Err() == nil {
				again, err := l.token(ctx, form)
				if errors.Is(err, errAgain) && l.patient {
					pause(ctx, 300*time.Millisecond)
					continue
				}
				if err == nil && again.status == http.StatusOK {
					l.broken(&l.counts.twice, "a code is redeemed twice")
				}
				break
			}
		}
		return true
	}
	return false
}

// come logs a new browser in, and out again if asked to.
func (l *load) come(ctx context.Context, andLeave bool) bool {
	b := l.newBrowser()
	code, err := b.logIn(ctx)
	if err != nil {
		l.mu.Lock()
		forgotten := !l.forget.IsZero() // it began before the backup was put back, and is not in it
		l.mu.Unlock()
		if ctx.Err() == nil && !forgotten {
			l.broken(&l.counts.undone, "a login fails: %v", err)
		}
		return false
	}
	if !b.redeem(ctx, code) {
		return false
	}
	l.mu.Lock()
	l.counts.logins++
	l.mu.Unlock()
	if !andLeave || b.id == "" {
		l.mu.Lock()
		l.stayed = append(l.stayed, b)
		l.mu.Unlock()
		return true
	}
	status, body, _, err := b.send(ctx, http.MethodGet, "/logout?"+url.Values{"id_token_hint": {b.id}, "post_logout_redirect_uri": {loggedOut}}.Encode(), nil)
	if err != nil {
		return false
	}
	if status != http.StatusSeeOther { // somebody who is logged out already is sent on as well
		l.broken(&l.counts.undone, "a log-out: %d %.300s", status, body)
		return false
	}
	l.mu.Lock()
	l.counts.logouts++
	l.left = append(l.left, b)
	l.mu.Unlock()
	return true
}

// begin lets all of them work until stop.
func (l *load) begin(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var working sync.WaitGroup
	repeat := func(between time.Duration, do func() bool) {
		working.Go(func() {
			for pause(ctx, between) {
				do()
			}
		})
	}
	l.mu.Lock()
	l.counts, l.lastGood, l.failing, l.stayed, l.left, l.forget = counts{}, time.Now(), false, nil, nil, time.Time{}
	l.mu.Unlock()
	for _, c := range l.chains {
		repeat(time.Second, func() bool { return l.refresh(ctx, c) })
	}
	for _, b := range l.visitors {
		repeat(500*time.Millisecond, func() bool { return b.visit(ctx) })
	}
	for i := range 2 {
		n := i
		repeat(time.Second, func() bool { n++; return l.come(ctx, n%2 == 0) })
	}
	return func() {
		cancel()
		working.Wait()
	}
}

// settle looks, when all is over, at every chain, every login and every log-out. A client that was cut off in the middle of a
// request begins with the token that it has.
func (l *load) settle(ctx context.Context) (alive int) {
	for _, c := range l.chains {
		if !l.refresh(ctx, c) {
			continue
		}
		if a, err := l.post(ctx, "/introspect", url.Values{"token": {c.access}}); err == nil && a.Active {
			alive++
		}
	}
	stayed := l.visitors
	if l.forget.IsZero() {
		stayed = slices.Concat(stayed, l.stayed)
	}
	for _, b := range stayed {
		if status, body, to, err := b.authorize(ctx, "none"); err == nil && !to.Has("code") {
			l.broken(&l.counts.undone, "a login did not last: %d %v %.200s", status, to, body)
		}
	}
	if l.forget.IsZero() {
		for _, b := range l.left {
			if _, _, to, err := b.authorize(ctx, "none"); err == nil && to.Get("error") != "login_required" {
				l.broken(&l.counts.undone, "a log-out did not last: %v", to)
			}
		}
	}
	return alive
}
