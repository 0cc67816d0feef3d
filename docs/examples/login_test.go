package examples

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// The same app in three languages, used by a person.
func TestLogin(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"login-go", "login-express", "login-python"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := prepare(t, name, "AUTH_PORT", "8080", "APP_PORT", "3000").prebuilt().start("SIGNET_ACCESS_TOKEN_TTL=3s")
			app, alice, bob := e.at("3000"), meet(t, "alice"), meet(t, "bob")

			// Nobody gets in without a login, nor with somebody else's answer.
			alice.says(alice.get(app), http.StatusOK, "You are not logged in.")
			if at := alice.get(app + "/orders"); !at.asksFor("password") {
				t.Errorf("without a login: %d %s", at.status, at.body)
			}
			for _, answer := range []string{"", "?code=sgc_x", "?code=sgc_x&state=" + rand.Text(), "?error=access_denied"} {
				if at := meet(t, "bob").get(app + "/callback" + answer); at.status < 400 || at.status > 499 {
					t.Errorf("the answer %q that nobody waits for: %d", answer, at.status)
				}
			}

			// Of two tabs the first one that was opened is the first to come back.
			carol := meet(t, "alice")
			one, two := carol.get(app+"/login"), carol.get(app+"/login")
			for _, tab := range []page{one, two} {
				carol.says(carol.send(tab, "username", "alice", "password", passwords["alice"]), http.StatusOK, "You are alice.")
			}

			// Each sees their own, by the API too.
			for _, p := range []*person{alice, bob} {
				at := p.logsIn(app + "/login")
				p.says(at, http.StatusOK, "You are "+p.username+".")
				if at.address.String() != app+"/" {
					t.Errorf("the login ends at %s", at.address)
				}
				p.says(p.get(app+"/orders"), http.StatusOK, "as "+strings.Fields(e.signet("user", "show", p.username))[1])
				e.keepsTokens(p)
			}

			// The browser is logged in at Signet: another login needs no password. An answer is good once, and who
			// comes back with it by the browser's button is logged in as before.
			alice.says(alice.get(app+"/login"), http.StatusOK, "You are alice.")
			at := alice.get(app + "/callback?" + url.Values{"code": {"sgc_used"}, "state": {"used"}, "iss": {e.at("8080")}}.Encode())
			alice.says(at, http.StatusOK, "You are alice.")
			if at.address.Path != "/" {
				t.Errorf("the used answer ends at %s", at.address)
			}

			// The access token expires: nobody sees anything of it, however many pages are asked for at once.
			time.Sleep(3 * time.Second)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() { alice.says(alice.get(app+"/orders"), http.StatusOK, "The orders of alice") })
			}
			wg.Wait()

			// She logs out, here and at Signet.
			at = alice.send(alice.get(app))
			alice.says(at, http.StatusOK, "You are not logged in.")
			if at.address.Path != "/" || at.address.Host != strings.TrimPrefix(app, "http://") {
				t.Errorf("the log-out ends at %s", at.address)
			}
			if at := alice.get(app + "/login"); !at.asksFor("password") {
				t.Errorf("after the log-out, the login says %s", at.body)
			}

			// Bob is logged out by an administrator. The app notices when his token expires.
			e.signet("user", "logout", "bob")
			time.Sleep(3 * time.Second)
			if at := bob.get(app + "/orders"); !at.asksFor("password") {
				t.Errorf("logged out by an administrator: %d %s", at.status, at.body)
			}
			bob.says(bob.get(app), http.StatusOK, "You are not logged in.")
			bob.says(bob.logsIn(app+"/login"), http.StatusOK, "You are bob.")
			e.stop()
		})
	}
}

// keepsTokens checks that no token has come to the person's browser.
func (e *example) keepsTokens(p *person) {
	e.t.Helper()
	app, err := url.Parse(e.at("3000"))
	check(e.t, err)
	for _, c := range p.client.Jar.Cookies(app) {
		for _, token := range []string{"eyJ0eXAi", "eyJhbGci", "sgr_"} {
			if strings.Contains(c.Value, token) {
				e.t.Errorf("the cookie %s has a token: %s", c.Name, c.Value)
			}
		}
	}
}

func TestTwoApps(t *testing.T) {
	t.Parallel()
	e := prepare(t, "two-apps", "AUTH_PORT", "8080", "SHOP_PORT", "3000", "BLOG_PORT", "3001").prebuilt().start()
	shop, blog := e.at("3000"), e.at("3001")
	alice, bob := meet(t, "alice"), meet(t, "bob")
	loggedIn := func() {
		t.Helper()
		alice.says(alice.logsIn(shop+"/login"), http.StatusOK, "You are alice.")
		alice.says(alice.get(blog), http.StatusOK, "You are not logged in.")
		alice.says(alice.get(blog+"/login"), http.StatusOK, "You are alice.") // without a password
	}
	// Signet tells the apps in the background.
	out := func(p *person, app string) {
		t.Helper()
		eventually(t, app+" knows of the log-out", func() bool { return strings.Contains(p.get(app).body, "You are not logged in.") })
	}
	loggedIn()
	bob.says(bob.logsIn(blog+"/login"), http.StatusOK, "You are bob.")

	// A log-out that is not Signet's ends nothing.
	for name, token := range map[string]string{"none": "", "nonsense": "nonsense", "unsigned": "eyJhbGciOiJub25lIiwidHlwIjoibG9nb3V0K2p3dCJ9.e30."} {
		form := url.Values{"logout_token": {token}}.Encode()
		if got := call(t, http.MethodPost, blog+"/backchannel-logout", form, "Content-Type", "application/x-www-form-urlencoded"); got.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	alice.says(alice.get(blog), http.StatusOK, "You are alice.")

	// She logs out of one, and the other knows; he is not concerned.
	at := alice.send(alice.get(shop))
	alice.says(at, http.StatusOK, "You are not logged in.")
	out(alice, blog)
	if at := alice.get(blog + "/login"); !at.asksFor("password") {
		t.Errorf("after the log-out the blog's login says %s", at.body)
	}
	bob.says(bob.get(blog), http.StatusOK, "You are bob.")

	// An administrator does it.
	loggedIn()
	e.signet("user", "logout", "alice")
	out(alice, shop)
	out(alice, blog)
	bob.says(bob.get(blog), http.StatusOK, "You are bob.")

	// Two tabs of a browser go to log in, and both get there.
	tabs := meet(t, "alice")
	tab1, tab2 := tabs.get(shop+"/login"), tabs.get(shop+"/login")
	for _, tab := range []page{tab2, tab1} {
		tabs.says(tabs.send(tab, "username", "alice", "password", passwords["alice"]), http.StatusOK, "You are alice.")
	}

	// Started again, it knows the same clients.
	e.stop()
	e.start()
	loggedIn()
	e.stop()
}

func TestLoginInASinglePageApp(t *testing.T) {
	t.Parallel()
	e := prepare(t, "login-spa", "AUTH_PORT", "8080", "APP_PORT", "3000").prebuilt().start("SIGNET_ACCESS_TOKEN_TTL=15m")
	app, token := e.at("3000"), "POST "+e.at("8080")+"/token"
	one := browse(t)
	one.do(chromedp.Navigate(app))
	one.says("You are not logged in.", true)
	one.press("#login")
	one.press("button[value=deny]")
	one.comesTo("The login did not work: ")
	one.signsIn("alice")
	one.comesTo("You are alice.")
	one.do(chromedp.NavigateBack()) // to the login page, which sends them back with an answer that nobody waits for
	one.comesTo("You are alice.")
	one.says("The login did not work", false)
	if search := one.run(`return location.search`); search != "" {
		t.Errorf("the code stays in the address: %s", search)
	}
	one.press("#hello")
	alice := strings.Fields(e.signet("user", "show", "alice"))[1]
	one.says("The API knows you as "+alice, true)

	// A second tab has the same tokens. When they expire, one of both renews them. Where the other one does not see that yet, as
	// browsers may have it, it gets the same: there is one chain, and the session lives.
	two := one.open()
	two.do(chromedp.Navigate(app))
	two.says("You are alice.", true)
	one.called("")
	two.called("")
	before := one.refreshToken()
	one.run(`
		const [key] = Object.keys(localStorage).filter(k => k.startsWith("oidc.user:"));
		const user = JSON.parse(localStorage.getItem(key));
		user.expires_at = 0;
		localStorage.setItem(key, JSON.stringify(user));
		return key;`)
	many := `
		const { Session } = await import("/session.js");
		const session = new Session(await (await fetch("/settings.json")).json());
		const all = await Promise.all([...Array(5)].map(() => session.fetch("/hello")));
		return all.map(r => r.status).join(" ");`
	var wg sync.WaitGroup
	for _, tab := range []*tab{one, two} {
		wg.Go(func() {
			if got := tab.run(many); got != "200 200 200 200 200" {
				t.Errorf("the calls with an expired token: %s", got)
			}
		})
	}
	wg.Wait()
	if n := one.called(token) + two.called(token); n < 1 || n > 2 {
		t.Errorf("%d renewals by two tabs", n)
	}
	eventually(t, "both tabs have the same new refresh token", func() bool {
		got := one.refreshToken()
		return got != before && got == two.refreshToken()
	})
	log, err := os.ReadFile(filepath.Join(e.data, "signet.log"))
	check(t, err)
	if rotated := bytes.Count(log, []byte(`"outcome":"rotated"`)); rotated != 1 || bytes.Contains(log, []byte(`"outcome":"reused"`)) {
		t.Errorf("the token was rotated %d times:\n%s", rotated, log)
	}

	// The API refuses other tokens.
	s := system{e, "hello"}
	s.want(http.StatusUnauthorized, "log in first", app+"/hello", "")
	s.want(http.StatusUnauthorized, "log in first", app+"/hello", one.run(`return JSON.parse(Object.values(localStorage).find(v => v.includes("id_token"))).id_token`))

	// A log-out in one is one in the other, and at Signet.
	one.press("#logout")
	one.comesTo("You are not logged in.")
	two.says("You are not logged in.", true)
	if kept := two.run(`return JSON.stringify({...localStorage}) + JSON.stringify({...sessionStorage})`); strings.Contains(kept, "eyJ") {
		t.Errorf("after the log-out there are tokens: %s", kept)
	}
	one.signsIn("bob") // it asks for the password
	one.comesTo("You are bob.")

	// Logged out by an administrator, the page says so at the next refresh. That is the other tab's: it hears that what is kept
	// has changed, finds it expired, and is refused; and this one hears that nothing is kept any more.
	two.says("You are bob.", true)
	e.signet("user", "logout", "bob")
	one.run(`
		const [key] = Object.keys(localStorage).filter(k => k.startsWith("oidc.user:"));
		localStorage.setItem(key, JSON.stringify({...JSON.parse(localStorage.getItem(key)), expires_at: 0}));
		return key;`)
	two.says("You are not logged in.", true)
	one.says("You are not logged in.", true)
	if status := one.run(`
		const { Session } = await import("/session.js");
		return String((await new Session(await (await fetch("/settings.json")).json()).fetch("/hello")).status);`); status != "401" {
		t.Errorf("a call after the log-out: %s", status)
	}
	e.stop()
}

// signsIn follows the app's button, and logs in at Signet.
func (b *tab) signsIn(username string) {
	b.t.Helper()
	b.press("#login")
	b.fill("#username", username)
	b.fill("#password", passwords[username])
	b.press("button:not(.quiet)")
}

// comesTo waits until the tab is on a page that says the text. It goes over other pages, in which a script ends with the page.
func (b *tab) comesTo(text string) {
	b.t.Helper()
	eventually(b.t, "a page that says "+text, func() bool {
		got, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
		return err == nil && strings.Contains(got, text)
	})
}

func (b *tab) refreshToken() string {
	b.t.Helper()
	var user struct {
		RefreshToken string `json:"refresh_token"`
	}
	check(b.t, json.Unmarshal([]byte(b.run(`return Object.values(localStorage).find(v => v.includes("refresh_token"))`)), &user))
	if !strings.HasPrefix(user.RefreshToken, "sgr_") {
		b.t.Errorf("the refresh token is %q", user.RefreshToken)
	}
	return user.RefreshToken
}
