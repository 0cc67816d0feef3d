package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"signet/logins"
	"signet/users"
)

// authenticator is an app on somebody's phone.
type authenticator struct{ secret string }

// code is what it shows, that many steps from now.
func (a authenticator) code(t testing.TB, steps int) string {
	t.Helper()
	code, err := totp.GenerateCode(a.secret, time.Now().Add(time.Duration(steps)*30*time.Second))
	check(t, err)
	return code
}

// settle waits until a step has begun, if it is about to end: what a test computes now is to be of the same step in a moment.
func settle() {
	if rest := 30 - time.Now().Unix()%30; rest <= 5 {
		time.Sleep(time.Duration(rest)*time.Second + 100*time.Millisecond)
	}
}

// withApp gives the user an authenticator app, whose codes of the step at hand and before are used, and returns the recovery codes.
func (r *replica) withApp(t testing.TB, u users.User) (authenticator, []string) {
	t.Helper()
	settle()
	e := r.logins.EnrolTOTP(u, "here")
	a := authenticator{e.Secret}
	_, codes, err := r.logins.AddTOTP(t.Context(), u, "here", e.Sealed, a.code(t, -1), "phone", false, origin)
	check(t, err)
	return a, codes
}

func (r *replica) factorsOf(t testing.TB, u users.User) logins.Factors {
	t.Helper()
	f, err := r.logins.Factors(t.Context(), u.ID)
	check(t, err)
	return f
}

// tokenOf redeems a code and returns the claims of the ID token.
func (s *surfer) idToken(t testing.TB, c *client, v view) map[string]any {
	t.Helper()
	token, _ := s.redeem(t, c, v.code(t)).json["id_token"].(string)
	return payload(t, token)
}

func methods(claims map[string]any) string { return fmt.Sprint(claims["amr"], " ", claims["acr"]) }

func TestSecondFactorByApp(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u := r.shop(t, "shop", trusted), r.user(t, "alice", false)
		s := r.surfer(t)
		claims := s.idToken(t, c, s.grant(ask(c), u))
		if got := methods(claims); got != "[pwd] aal1" {
			t.Errorf("by password: %s", got)
		}
		app, _ := r.withApp(t, u)
		s = r.surfer(t)
		v := s.enter(s.authorize(ask(c)), u)
		v.page(t, http.StatusOK)
		if v.action != "/login/factor" || len(s.cookies) != 1 {
			t.Fatalf("after the password: %q, cookies %v", v.action, s.cookies)
		}
		for _, wrong := range []string{"000000", "", " ", "000 000", app.code(t, 0)[:5], app.code(t, -3), "１２３４５６"} {
			again := s.submit(v, "code", wrong)
			again.page(t, http.StatusUnauthorized)
		}
		code := app.code(t, 0)
		v = s.submit(v, "code", " "+code[:3]+"\u00a0"+code[3:]+" ") // as apps show it
		claims = s.idToken(t, c, v)
		if got := methods(claims); got != "[pwd otp mfa] aal2" {
			t.Errorf("by two factors: %s", got)
		}
		if n := len(r.events(t, "factor.failed")); n < 5 {
			t.Errorf("%d failures are recorded", n)
		}
		// Asked for both once more, who stops after the password is logged in as before.
		if v = s.enter(s.authorize(ask(c, "prompt", "login")), u); v.action != "/login/factor" {
			t.Errorf("asked to prove it again: %q", v.action)
		}
		if got := methods(s.idToken(t, c, s.authorize(ask(c)))); got != "[pwd otp mfa] aal2" {
			t.Errorf("after half a login: %s", got)
		}
	})
}

// Row 67 of the traps: a code works once, whoever comes with it, and none before it does after it.
func TestTOTPCodeWorksOnce(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b, func(s *settings) { s.maxFailures = 1 << 20 })
		other := start(t, b)
		c, u := r.shop(t, "shop", trusted), r.user(t, "alice", false)
		app, _ := r.withApp(t, u)
		settle()
		code := app.code(t, 0)
		const tries = 8
		var wg sync.WaitGroup
		results := make([]int, tries)
		for i := range tries {
			s := []*replica{r, other}[i%2].surfer(t)
			v := s.enter(s.authorize(ask(c)), u)
			wg.Go(func() { results[i] = s.submit(v, "code", code).status })
		}
		wg.Wait()
		slices.Sort(results)
		if results[0] != http.StatusSeeOther || results[1] != http.StatusUnauthorized || results[tries-1] != http.StatusUnauthorized {
			t.Errorf("the same code at once: %v", results)
		}
		s := r.surfer(t)
		v := s.enter(s.authorize(ask(c)), u)
		used := s.submit(v, "code", code)
		wrong := s.submit(v, "code", "000000")
		shape := func(v view) string { // what changes with every page is left out
			return regexp.MustCompile(`(value|data-options)="[^"]*"`).ReplaceAllString(v.body, "")
		}
		if used.status != wrong.status || shape(used) != shape(wrong) {
			t.Error("the answer tells a used code from a wrong one")
		}
		// A step further on is good, and then not the one before.
		if v := s.submit(v, "code", app.code(t, 1)); v.status != http.StatusSeeOther {
			t.Errorf("the next step: %d", v.status)
		}
		s = r.surfer(t)
		if v := s.submit(s.enter(s.authorize(ask(c)), u), "code", app.code(t, 0)); v.status != http.StatusUnauthorized {
			t.Errorf("an earlier step: %d", v.status)
		}
	})
}

// Rows 68 and 69: guesses are counted before they are looked at, for all kinds of codes and on all replicas together; only a whole login
// clears them, and nobody gets that far without the password.
func TestGuessesAtTheSecondFactorAreCapped(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r, other := start(t, b), start(t, b)
		c, u := r.shop(t, "shop", trusted), r.user(t, "alice", false)
		app, codes := r.withApp(t, u)
		var wg sync.WaitGroup
		var mu sync.Mutex
		count := map[int]int{}
		var forms []view
		surfers := make([]*surfer, 4)
		for i := range surfers {
			surfers[i] = []*replica{r, other}[i%2].surfer(t)
			forms = append(forms, surfers[i].enter(surfers[i].authorize(ask(c)), u))
		}
		for i := range 100 {
			s := surfers[i%4].at(surfers[i%4].replica)
			wg.Go(func() {
				guess := fmt.Sprintf("%06d", i)
				if i%3 == 0 {
					guess = "aaaa-aaaa-aaaa-aaa" + string(rune('a'+i%20))
				}
				v := s.submit(forms[i%4], "code", guess)
				mu.Lock()
				count[v.status]++
				mu.Unlock()
			})
		}
		wg.Wait()
		if count[http.StatusUnauthorized] > 10 || count[http.StatusUnauthorized]+count[http.StatusTooManyRequests] != 100 {
			t.Fatalf("100 guesses at once: %v", count)
		}
		s := surfers[0]
		v := s.submit(forms[0], "code", codes[0])
		if v.page(t, http.StatusTooManyRequests); v.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		// The right password does not clear it.
		v = s.enter(s.authorize(ask(c)), u)
		s.submit(v, "code", codes[1]).page(t, http.StatusTooManyRequests)
		if n := r.factorsOf(t, u).RecoveryCodes; n != 10 {
			t.Errorf("%d recovery codes are left", n)
		}
		b.Age(t, 16*time.Minute)
		settle()
		v = s.enter(s.authorize(ask(c)), u)
		if v = s.submit(v, "code", app.code(t, 0)); v.status != http.StatusSeeOther {
			t.Errorf("after the window: %d", v.status)
		}
		if n := b.Int(t, "SELECT count(*) FROM factor_tries"); n != 0 {
			t.Errorf("a login as a whole leaves %d counts", n)
		}
	})
}

func TestRecoveryCodeWorksOnce(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r, other := start(t, b), start(t, b)
		c, u := r.shop(t, "shop", trusted), r.user(t, "alice", false)
		_, codes := r.withApp(t, u)
		if len(codes) != 10 {
			t.Fatalf("%d codes", len(codes))
		}
		var wg sync.WaitGroup
		results := make([]int, 6)
		for i := range results {
			s := []*replica{r, other}[i%2].surfer(t)
			v := s.enter(s.authorize(ask(c)), u)
			wg.Go(func() {
				results[i] = s.submit(v, "code", strings.ToUpper(strings.ReplaceAll(codes[0], "-", " "))).status
			})
		}
		wg.Wait()
		slices.Sort(results)
		if results[0] != http.StatusSeeOther || results[1] != http.StatusUnauthorized {
			t.Errorf("the same code at once: %v", results)
		}
		if n := r.factorsOf(t, u).RecoveryCodes; n != 9 {
			t.Errorf("%d are left", n)
		}
		fresh, err := r.logins.NewRecoveryCodes(t.Context(), u.ID, origin)
		check(t, err)
		s := r.surfer(t)
		v := s.enter(s.authorize(ask(c)), u)
		s.submit(v, "code", codes[1]).page(t, http.StatusUnauthorized)
		if v = s.submit(v, "code", fresh[0]); v.status != http.StatusSeeOther {
			t.Errorf("a new code: %d", v.status)
		}
		if n := b.Int(t, "SELECT count(*) FROM recovery_codes WHERE user_id = $1", u.ID); n != 9 {
			t.Errorf("%d digests", n)
		}
	})
}

// Row 27: after the password alone nobody is logged in.
func TestHalfALoginIsNone(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u := r.shop(t, "shop", trusted), r.user(t, "alice", false)
		app, _ := r.withApp(t, u)
		s := r.surfer(t)
		v := s.enter(s.authorize(ask(c)), u)
		s.authorize(ask(c, "prompt", "none")).refused(t, "login_required")
		if me := s.open(http.MethodGet, "/me/", ""); me.action != "/login" {
			t.Errorf("/me/ shows a form to %q", me.action)
		}
		for _, action := range []string{"/consent", "/login/account", "/login/continue", "/login/enrol", "/me/factor", "/me/password", "/me/app"} {
			stolen := v
			stolen.action = action
			if got := s.submit(stolen, "decision", "allow"); got.status != http.StatusBadRequest {
				t.Errorf("%s takes the form of the second factor: %d", action, got.status)
			}
		}
		// In another browser, or after the user has a new password, it is worth nothing.
		other := r.surfer(t)
		other.authorize(ask(c))
		if got := other.submit(v, "code", app.code(t, 0)); got.status != http.StatusBadRequest {
			t.Errorf("in another browser: %d", got.status)
		}
		changed := "another password 1"
		_, err := r.users.Update(t.Context(), u.ID, users.Change{Password: &changed}, origin)
		check(t, err)
		if got := s.submit(v, "code", app.code(t, 0)); got.action != "/login" {
			t.Errorf("after a new password: %d %q", got.status, got.action)
		}
	})
}

// A user who has a second factor cannot do without it: the password grant and POST /session say so, after the right password alone.
func TestPasswordAloneIsNotEnough(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u := r.app(t, "app"), r.user(t, "alice", false)
		r.withApp(t, u)
		wrong := r.post(t, "/token", c, form("grant_type", "password", "username", "alice", "password", "wrong password"))
		unknown := r.post(t, "/token", c, form("grant_type", "password", "username", "nobody", "password", "wrong password"))
		right := r.post(t, "/token", c, form("grant_type", "password", "username", "alice", "password", password))
		if wrong.body != unknown.body {
			t.Errorf("%s, of an unknown user %s", wrong.body, unknown.body)
		}
		if right.status != http.StatusBadRequest || right.json["error"] != "invalid_grant" || !strings.Contains(right.body, "browser") {
			t.Errorf("%d %s", right.status, right.body)
		}
		r.app(t, "web", webApp)
		web := r.browser(home)
		if a := web.login(t, "web", "alice"); a.status < 400 || !strings.Contains(a.body, "browser") || len(web.cookies) != 0 {
			t.Errorf("POST /session: %d %s", a.status, a.body)
		}
		r.user(t, "bob", false)
		web.login(t, "web", "bob").is(t, 200)
	})
}

func TestSecondFactorThatIsRequired(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u := r.shop(t, "shop", trusted), r.user(t, "alice", false)
		s := r.surfer(t)
		v := s.enter(s.authorize(ask(c)), u)
		if v.page(t, http.StatusOK); v.action != "/login/enrol" || len(s.cookies) != 1 {
			t.Fatalf("%q, cookies %v", v.action, s.cookies)
		}
		secret := strings.ReplaceAll(elementText(v.body, `<code id="secret">`), " ", "")
		settle()
		app := authenticator{secret}
		if again := s.submit(v, "code", "000000"); again.status != http.StatusUnauthorized || !strings.Contains(strings.ReplaceAll(again.body, " ", ""), secret) {
			t.Errorf("a wrong code: %d", again.status)
		}
		if again := s.submit(v, "answer", "{}"); again.status != http.StatusUnauthorized || strings.Contains(again.body, "This code") {
			t.Errorf("a passkey that does not do: %d", again.status)
		}
		if r.factorsOf(t, u).Any() {
			t.Error("a factor without a right code")
		}
		code := app.code(t, 0)
		v = s.submit(v, "code", code[:3]+"-"+code[3:]+" ")
		v.page(t, http.StatusOK)
		if v.action != "/login/continue" || strings.Count(v.body, "<li>") != 10 {
			t.Fatalf("%q", v.action)
		}
		claims := s.idToken(t, c, s.submit(v))
		if got := methods(claims); got != "[pwd otp mfa] aal2" {
			t.Errorf("%s", got)
		}
	}, func(s *settings) { s.secondFactor = logins.Required })
}

// The page that adds a factor during a login is for who has none: somebody who knows the password adds none to it, by a page that they have
// opened before the user added theirs.
func TestNoFactorIsAddedByThePasswordAlone(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u := r.shop(t, "shop", trusted), r.user(t, "alice", false)
		mallory := r.surfer(t)
		v := mallory.enter(mallory.authorize(ask(c, "acr_values", "aal2")), u)
		if v.action != "/login/enrol" {
			t.Fatalf("%q", v.action)
		}
		key := newSecurityKey(u)
		app, _ := r.withApp(t, u)
		got := mallory.submit(v, "answer", key.create(t, v))
		if got.page(t, http.StatusOK); got.action != "/login/factor" || len(mallory.cookies) != 1 {
			t.Errorf("%q, cookies %v", got.action, mallory.cookies)
		}
		if f := r.factorsOf(t, u); len(f.List) != 1 {
			t.Errorf("%+v", f.List)
		}
		mallory.submit(got, "code", app.code(t, 0)).code(t) // it was the user after all
	})
}

// A login by the password alone, of a moment before the user added a factor, changes no factor and no password.
func TestFactorsAreChangedByTwo(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		account := r.app(t, "account", scope("signet:account"), audience(issuer))
		u := r.user(t, "alice", false)
		in := r.post(t, "/token", account, form("grant_type", "password", "username", "alice", "password", password, "scope", "signet:account")).json
		token, _ := in["access_token"].(string)
		s := r.surfer(t)
		s.enter(s.open(http.MethodGet, "/me/", ""), u)
		own, change := s.open(http.MethodGet, "/me/", ""), s.open(http.MethodGet, "/me/password", "")
		app, _ := r.withApp(t, u)
		id := r.factorsOf(t, u).List[0].ID

		for _, path := range []string{"/me/app", "/me/passkey", "/me/password"} {
			if v := s.open(http.MethodGet, path, ""); v.action != "/login" {
				t.Errorf("%s: %d, a form to %q", path, v.status, v.action)
			}
		}
		for _, path := range []string{"/me/factor", "/me/codes"} {
			own.action = path
			if v := s.submit(own, "id", id); v.action != "/login" {
				t.Errorf("%s: %d, a form to %q", path, v.status, v.action)
			}
		}
		if v := s.submit(change, "current", password, "new", "another password"); v.action != "/login" {
			t.Errorf("a new password: %d, a form to %q", v.status, v.action)
		}
		for _, x := range [][3]string{
			{http.MethodPost, "/account/factors", `{"type":"recovery_codes"}`}, {http.MethodDelete, "/account/factors/" + id, ""},
			{http.MethodPost, "/account/password", `{"current_password":"` + password + `","new_password":"another password"}`},
		} {
			req, err := http.NewRequestWithContext(t.Context(), x[0], r.url+x[1], strings.NewReader(x[2]))
			check(t, err)
			req.Header.Set("Authorization", "Bearer "+token)
			if x[2] != "" {
				req.Header.Set("Content-Type", "application/json")
			}
			a, err := r.try(req)
			check(t, err)
			if a.status != http.StatusUnauthorized || !strings.Contains(a.header.Get("WWW-Authenticate"), `acr_values="aal2"`) {
				t.Errorf("%v: %d %s %v", x, a.status, a.body, a.header)
			}
		}
		if f := r.factorsOf(t, u); !f.Any() || f.RecoveryCodes != 10 {
			t.Fatalf("%+v", f)
		}

		// With both factors it goes.
		v := s.submit(s.enter(s.open(http.MethodGet, "/me/app", ""), u), "code", app.code(t, 0))
		if v.status != http.StatusSeeOther {
			t.Fatalf("%d %s", v.status, v.body)
		}
		own = s.open(http.MethodGet, "/me/", "")
		own.action = "/me/factor"
		if v := s.submit(own, "id", id); v.status != http.StatusSeeOther || r.factorsOf(t, u).Any() {
			t.Errorf("%d %s", v.status, v.body)
		}
	})
}

// SIGNET_SECOND_FACTOR binds logins that exist: who was logged in by a password before they became an admin is asked anew.
func TestSecondFactorBindsLoginsThatExist(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u := r.shop(t, "shop", trusted), r.user(t, "alice", false)
		s := r.surfer(t)
		s.grant(ask(c), u)
		s.authorize(ask(c, "prompt", "none")).code(t)
		admin := true
		_, err := r.users.Update(t.Context(), u.ID, users.Change{Admin: &admin}, origin)
		check(t, err)
		s.authorize(ask(c, "prompt", "none")).refused(t, "login_required")
		if v := s.open(http.MethodGet, "/me/", ""); v.action != "/login" {
			t.Errorf("/me/: %d, a form to %q", v.status, v.action)
		}
		v := s.authorize(ask(c))
		if v.action != "/login" {
			t.Fatalf("%q", v.action)
		}
		v = s.enter(v, u)
		if v.action != "/login/enrol" {
			t.Fatalf("%q", v.action)
		}
		settle()
		app := authenticator{strings.ReplaceAll(elementText(v.body, `<code id="secret">`), " ", "")}
		s.submit(s.submit(v, "code", app.code(t, 0))).code(t)
		s.authorize(ask(c, "prompt", "none")).code(t)
	}, func(s *settings) { s.secondFactor = logins.Admins })
}

func elementText(page, before string) string {
	_, rest, _ := strings.Cut(page, before)
	text, _, _ := strings.Cut(rest, "<")
	return text
}

// acr_values asks for two factors where there was one (RFC 9470 section 5).
func TestStepUp(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u := r.shop(t, "shop", trusted), r.user(t, "alice", false)
		s := r.surfer(t)
		s.grant(ask(c), u)
		s.authorize(ask(c, "acr_values", "aal1")).code(t)
		s.authorize(ask(c, "acr_values", "unknown 1")).code(t)
		s.authorize(ask(c, "acr_values", "aal2 aal1")).code(t)
		if got := methods(s.idToken(t, c, s.authorize(ask(c, "acr_values", "aal2", "prompt", "none")))); got != "[pwd] aal1" { // what there is
			t.Errorf("with prompt=none: %s", got)
		}
		s.authorize(ask(c, "claims", `{"id_token":{"acr":{"essential":true,"values":["aal2"]}}}`, "prompt", "none")).refused(t, "unmet_authentication_requirements")
		app, _ := r.withApp(t, u)
		v := s.authorize(ask(c, "acr_values", "aal2"))
		if v.action != "/login" {
			t.Fatalf("%q", v.action)
		}
		v = s.submit(s.enter(v, u), "code", app.code(t, 0))
		if got := methods(s.idToken(t, c, v)); got != "[pwd otp mfa] aal2" {
			t.Errorf("%s", got)
		}
		s.authorize(ask(c, "acr_values", "aal2", "prompt", "none")).code(t)
		s.authorize(ask(c, "claims", `{"id_token":{"acr":{"essential":true,"values":["gold"]}}}`)).refused(t, "unmet_authentication_requirements")
	})
}

// A database that was copied or changed gives no second factor: a secret opens in its own row alone.
func TestTOTPSecretIsBoundToItsRow(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		alice, mallory := r.user(t, "alice", false), r.user(t, "mallory", false)
		app, _ := r.withApp(t, alice)
		r.withApp(t, mallory)
		if n := b.Int(t, "SELECT count(*) FROM factors WHERE user_id = $1", alice.ID); n != 1 {
			t.Fatal(n)
		}
		b.Exec(t, "UPDATE factors SET material = (SELECT material FROM factors WHERE user_id = $1) WHERE user_id = $2", alice.ID, mallory.ID)
		if _, err := r.logins.CheckCode(t.Context(), mallory, app.code(t, 0), "", origin); err == nil {
			t.Error("a secret opens in another row")
		}
	})
}

func TestOwnAccountOverHTTP(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		account := r.app(t, "account", scope("signet:account"), audience(issuer))
		u := r.user(t, "alice", false)
		in := r.post(t, "/token", account, form("grant_type", "password", "username", "alice", "password", password, "scope", "signet:account")).json
		token, _ := in["access_token"].(string)
		call := func(method, path, body string) answer {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, strings.NewReader(body))
			check(t, err)
			req.Header.Set("Authorization", "Bearer "+token)
			if body != "" {
				req.Header.Set("Content-Type", "application/json")
			}
			a, err := r.try(req)
			check(t, err)
			return a
		}
		begun := call(http.MethodPost, "/account/factors", `{"type":"totp"}`)
		if begun.status != http.StatusOK {
			t.Fatalf("%d %s", begun.status, begun.body)
		}
		e := begun.json
		secret, _ := e["secret"].(string)
		sealed, _ := e["enrolment"].(string)
		settle()
		app := authenticator{secret}
		finish := func(code string) answer {
			body, err := json.Marshal(map[string]string{"type": "totp", "name": "phone", "enrolment": sealed, "code": code})
			check(t, err)
			return call(http.MethodPost, "/account/factors", string(body))
		}
		if a := finish("12345"); a.status != http.StatusBadRequest {
			t.Errorf("%d %s", a.status, a.body)
		}
		added := finish(app.code(t, 0))
		if codes, _ := added.json["recovery_codes"].([]any); added.status != http.StatusCreated || len(codes) != 10 {
			t.Fatalf("%d %s", added.status, added.body)
		}
		// From now on it takes a login by both factors.
		web, s := r.shop(t, "web", trusted, scope("openid", "signet:account"), audience(issuer)), r.surfer(t)
		v := s.submit(s.enter(s.authorize(ask(web, "scope", "openid signet:account")), u), "code", app.code(t, 1))
		token, _ = s.redeem(t, web, v.code(t)).json["access_token"].(string)
		if a := finish(app.code(t, 1)); a.status != http.StatusBadRequest {
			t.Errorf("a second app: %d %s", a.status, a.body)
		}
		for _, bad := range []string{`{}`, `{"type":"passkey"}`, `{"type":"totp","code":"123456"}`, `{"type":"totp","enrolment":"x","code":"123456"}`, `{"type":"totp","unknown":1}`} {
			if a := call(http.MethodPost, "/account/factors", bad); a.status != http.StatusBadRequest {
				t.Errorf("%s: %d %s", bad, a.status, a.body)
			}
		}
		list := call(http.MethodGet, "/account/factors", "").json
		items, _ := list["items"].([]any)
		if len(items) != 1 || list["recovery_codes_left"] != 10.0 || strings.Contains(fmt.Sprint(list), secret) {
			t.Fatalf("%v", list)
		}
		id, _ := items[0].(map[string]any)["id"].(string)

		// What changes a factor wants a login of the last ten minutes (RFC 9470), and so does a new password where there is a factor.
		b.Age(t, 11*time.Minute)
		for _, x := range [][3]string{
			{http.MethodPost, "/account/factors", `{"type":"totp"}`}, {http.MethodPost, "/account/factors", `{"type":"recovery_codes"}`},
			{http.MethodDelete, "/account/factors/" + id, ""}, {http.MethodPost, "/account/password", `{"current_password":"` + password + `","new_password":"another one 2"}`},
		} {
			a := call(x[0], x[1], x[2])
			if a.status != http.StatusUnauthorized || a.json["error"] != "insufficient_user_authentication" || !strings.Contains(a.header.Get("WWW-Authenticate"), `max_age="600"`) {
				t.Errorf("%v: %d %s %v", x, a.status, a.body, a.header)
			}
		}
		b.Age(t, -11*time.Minute)
		if a := call(http.MethodDelete, "/account/factors/"+id, ""); a.status != http.StatusNoContent {
			t.Errorf("%d %s", a.status, a.body)
		}
		if a := call(http.MethodDelete, "/account/factors/"+id, ""); a.status != http.StatusNotFound {
			t.Errorf("%d %s", a.status, a.body)
		}
		if f := r.factorsOf(t, u); f.Any() || f.RecoveryCodes != 0 {
			t.Errorf("%+v", f)
		}

		// Consents.
		c := r.shop(t, "shop")
		s = r.surfer(t)
		redeemed := s.redeem(t, c, s.grant(ask(c, "scope", "openid offline_access read"), u).code(t)).json
		refresh, _ := redeemed["refresh_token"].(string)
		items, _ = call(http.MethodGet, "/account/consents", "").json["items"].([]any)
		if len(items) != 1 || items[0].(map[string]any)["client_id"] != "shop" {
			t.Errorf("%v", items)
		}
		if a := call(http.MethodDelete, "/account/consents/shop", ""); a.status != http.StatusNoContent {
			t.Errorf("%d %s", a.status, a.body)
		}
		if a := call(http.MethodDelete, "/account/consents/shop", ""); a.status != http.StatusNotFound {
			t.Errorf("%d %s", a.status, a.body)
		}
		if a := r.post(t, "/token", c, form("grant_type", "refresh_token", "refresh_token", refresh)); a.status != http.StatusBadRequest {
			t.Errorf("after the withdrawal: %d", a.status)
		}
	})
}

// The pages of one's own account, with forms alone.
func TestOwnPages(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		c, u := r.shop(t, "shop"), r.user(t, "alice", false)
		s := r.surfer(t)
		v := s.open(http.MethodGet, "/me/", "")
		if v := s.submit(v, "decision", "deny"); v.status != http.StatusSeeOther || v.header.Get("Location") != "/me/" {
			t.Errorf("not logged in: %d %q", v.status, v.header.Get("Location"))
		}
		if v = s.enter(v, u); v.status != http.StatusSeeOther || v.location.String() != "/me/" {
			t.Fatalf("%d %v", v.status, v.location)
		}
		s.grant(ask(c), u)
		other := r.surfer(t)
		other.grant(ask(c), u)
		v = s.open(http.MethodGet, "/me/", "")
		v.page(t, http.StatusOK)
		if !strings.Contains(v.body, "App shop") || strings.Count(v.body, `action="/me/login"`) != 2 || strings.Contains(v.body, "<script") {
			t.Errorf("%s", v.body)
		}
		post := func(path string, pairs ...string) view {
			t.Helper()
			v := s.open(http.MethodGet, "/me/", "")
			v.action = path
			return s.submit(v, pairs...)
		}
		back := func(v view, done string) {
			t.Helper()
			if v.status != http.StatusSeeOther || v.location.Query().Get("done") != done {
				t.Errorf("%d %v, want %s", v.status, v.location, done)
				return
			}
			s.open(http.MethodGet, v.location.String(), "").page(t, http.StatusOK)
		}
		back(s.submit(s.open(http.MethodGet, "/me/profile", ""), "name", "Alice A.", "locale", "de-CH"), "profile")
		s.submit(s.open(http.MethodGet, "/me/profile", ""), "zoneinfo", "not a zone !").page(t, http.StatusBadRequest)
		if got, err := r.users.Find(t.Context(), u.ID); err != nil || got.Name != "Alice A." || got.Locale != "de-CH" || got.Zoneinfo != "" {
			t.Errorf("%+v %v", got, err)
		}
		back(post("/me/profile", "name", "x", "groups", "admins", "email", "x@example.com"), "profile")
		if got, err := r.users.Find(t.Context(), u.ID); err != nil || got.Email != "" || len(got.Groups) != 0 {
			t.Errorf("%+v %v", got, err)
		}

		// Another user's things, and forms of another user's page, do nothing.
		bob := r.surfer(t)
		bob.enter(bob.open(http.MethodGet, "/me/", ""), r.user(t, "bob", false))
		places, err := r.logins.Places(t.Context(), u.ID)
		check(t, err)
		v = bob.open(http.MethodGet, "/me/", "")
		v.action = "/me/login"
		bob.submit(v, "id", places[0].ID)
		if again, err := r.logins.Places(t.Context(), u.ID); err != nil || len(again) != 2 {
			t.Errorf("%v %v", again, err)
		}
		foreign := s.open(http.MethodGet, "/me/", "")
		foreign.action = "/me/password"
		if got := bob.submit(foreign, "current", password, "new", "mallory was here"); got.status != http.StatusBadRequest {
			t.Errorf("a form of another browser: %d", got.status)
		}
		if got := s.open(http.MethodPost, "/me/password", url.Values{"current": {password}, "new": {"mallory was here"}}.Encode()); got.status != http.StatusBadRequest {
			t.Errorf("a form that is not of the page: %d", got.status)
		}

		back(post("/me/consent", "id", "shop"), "withdrawn")
		if v := s.authorize(ask(c)); v.action != "/consent" {
			t.Errorf("after the withdrawal: %q", v.action)
		}
		for _, p := range places {
			mine, _ := r.logins.Read(s.cookies["__Host-signet_login"])
			if p.ID != mine.ID.String() {
				back(post("/me/login", "id", p.ID), "ended")
			}
		}
		other.authorize(ask(c, "prompt", "none")).refused(t, "login_required")

		// An app, its recovery codes, and its removal.
		v = s.open(http.MethodGet, "/me/app", "")
		settle()
		app := authenticator{strings.ReplaceAll(elementText(v.body, `<code id="secret">`), " ", "")}
		s.submit(v, "code", "000000").page(t, http.StatusUnauthorized)
		if v = s.submit(v, "code", app.code(t, 0)); strings.Count(v.body, "<li>") != 10 {
			t.Errorf("%d %s", v.status, v.body)
		}
		if v = post("/me/codes"); v.action != "/login" {
			t.Errorf("new codes without the factor: %d, a form to %q", v.status, v.action)
		}
		factor := r.factorsOf(t, u).List[0]
		b.Age(t, 11*time.Minute)
		for _, path := range []string{"/me/app", "/me/passkey", "/me/password"} {
			if v := s.open(http.MethodGet, path, ""); v.action != "/login" {
				t.Errorf("%s after 11 minutes: %q", path, v.action)
			}
		}
		if v := post("/me/factor", "id", factor.ID); v.action != "/login" || !r.factorsOf(t, u).Any() {
			t.Errorf("removal after 11 minutes: %q", v.action)
		}
		v = s.enter(s.open(http.MethodGet, "/me/password", ""), u)
		settle()
		if v = s.submit(v, "code", app.code(t, 1)); v.status != http.StatusSeeOther || v.location.Path != "/me/password" {
			t.Fatalf("%d %v", v.status, v.location)
		}
		if v = post("/me/codes"); strings.Count(v.body, "<li>") != 10 {
			t.Errorf("%d %s", v.status, v.body)
		}
		v = s.open(http.MethodGet, "/me/password", "")
		s.submit(v, "current", "wrong password", "new", "another password").page(t, http.StatusUnauthorized)
		s.submit(v, "current", password, "new", "short").page(t, http.StatusBadRequest)
		back(s.submit(v, "current", password, "new", "another password"), "password")
		back(post("/me/factor", "id", factor.ID), "removed")
		if r.factorsOf(t, u).Any() {
			t.Error("it is there still")
		}
	})
}
