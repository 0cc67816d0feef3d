package console_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"signet/activity"
	"signet/clients"
	"signet/keys"
	"signet/proofs"
)

// browsers are the names that a Chromium may have.
var browsers = []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless-shell", "headless_shell"}

// chromium starts one browser for all tests of the process; each gets a context of its own in it, without the others' cookies.
var chromium = sync.OnceValues(func() (context.Context, error) {
	i := slices.IndexFunc(browsers, func(name string) bool { _, err := exec.LookPath(name); return err == nil })
	if i < 0 {
		return nil, errors.New("the tests of the console need Chromium: apt-get install chromium")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(browsers[i]))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, stop := chromedp.NewContext(allocator)
	stopChromium = func() { stop(); stopAllocator() }
	return ctx, chromedp.Do(ctx)
})

var stopChromium = func() {}

func TestMain(m *testing.M) {
	code := m.Run()
	stopChromium()
	os.Exit(code)
}

// patience is how long one step may take, on a slow machine that has other things to do.
const patience = time.Minute

// tab is a tab of the browser.
type tab struct {
	ctx context.Context //nolint:containedctx // chromedp keeps the tab in it
	t   testing.TB
	s   *site
}

// loudly makes what the policy forbids an error of a script.
const loudly = `document.addEventListener("securitypolicyviolation", e => { setTimeout(() => {
	throw new Error("forbidden by the policy: " + e.effectiveDirective + " " + e.blockedURI + " in " + e.sourceFile + ":" + e.lineNumber + " " + e.sample);
}) })`

// tab opens a tab. What a script throws, and what the policy forbids, fails the test.
func (s *site) tab(t testing.TB) *tab {
	t.Helper()
	shared, err := chromium()
	check(t, err)
	ctx, cancel := chromedp.NewContext(shared, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	check(t, chromedp.Do(ctx, chromedp.EmulateViewport(1280, 900)))
	check(t, chromedp.Listen(ctx, func(event any) {
		if e, ok := event.(*runtime.EventExceptionThrown); ok && e.ExceptionDetails.Exception != nil {
			t.Errorf("a script failed: %s", e.ExceptionDetails.Exception.Description)
		}
	}))
	ctx, cancelTimeout := context.WithTimeout(ctx, 15*time.Minute)
	t.Cleanup(cancelTimeout)
	b := &tab{ctx, t, s}
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: loudly})
		return err
	}))
	return b
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	b.check(chromedp.Do(ctx, actions...))
}

// check says where a failure happened.
func (b *tab) check(err error) {
	b.t.Helper()
	if err != nil {
		where, _ := chromedp.Run(b.ctx, chromedp.Location())
		text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
		b.t.Fatalf("%v\nat %s:\n%s", err, where, text)
	}
}

// is evaluates an expression in the page.
func is[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	b.check(err)
	return v
}

// open goes to a page of the console.
func (b *tab) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.s.url + "/console" + path))
}

// press presses a button or follows a link, by its text, and waits for the page that follows.
func (b *tab) press(text string) {
	b.t.Helper()
	b.leave(chromedp.Click(chromedp.Search(fmt.Sprintf(`//*[self::a or self::button][normalize-space()=%q]`, text))))
}

// leave does something that leads to another page, and waits for that.
func (b *tab) leave(click chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	_, err := chromedp.RunResponse(ctx, click)
	b.check(err)
}

func (b *tab) fill(id, value string) {
	b.t.Helper()
	b.do(chromedp.Clear(chromedp.ID(id)), chromedp.SendKeys(chromedp.ID(id), value))
}

// add types behind what is in a field.
func (b *tab) add(id, value string) {
	b.t.Helper()
	b.do(chromedp.SendKeys(chromedp.ID(id), value))
}

// text returns what an element says.
func (b *tab) text(css string) string {
	b.t.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.TextContent(chromedp.CSS(css)))
	b.check(err)
	return text
}

// says waits until the page says the text.
func (b *tab) says(text string) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("document.body.innerText.includes(%q)", text))
}

// eventually waits until an expression in the page is true. A page that is just being replaced cannot be asked; its successor is.
func (b *tab) eventually(expression string) {
	b.t.Helper()
	began := time.Now()
	for {
		_, err := chromedp.Run(b.ctx, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(patience), chromedp.WithPollingInterval(50*time.Millisecond)))
		if err == nil || !strings.Contains(err.Error(), "Cannot find context") || time.Since(began) > patience {
			b.check(err)
			return
		}
	}
}

func (b *tab) logIn(name string) {
	b.t.Helper()
	b.open("/")
	b.fill("username", name)
	b.fill("password", password)
	b.press("Sign in")
}

// dress chooses the theme and the width.
func (b *tab) dress(theme string, width int64) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, 900), chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			// Without transitions: they are still going from one theme to the other when the page is looked at.
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
		})
		return err
	}))
}

// furnish fills a site with what a console has to show.
func (s *site) furnish(t testing.TB) {
	t.Helper()
	shop := s.app(t, "shop", func(c *clients.Client) { c.Name, c.Audience = "Shop", []string{"https://api.example.com"} })
	s.app(t, "nightly", func(c *clients.Client) {
		c.Name, c.Grants = "Nightly export", []clients.Grant{clients.ClientCredentials}
	})
	s.app(t, "app", func(c *clients.Client) {
		c.Name, c.AuthMethod, c.ApplicationType, c.RedirectURIs = "Mobile app", clients.None, clients.Native, []string{"com.example.app:/callback"}
	})
	for name, description := range map[string]string{"orders:read": "See your orders and what you paid for them", "orders:write": "Order in your name"} {
		_, err := s.clients.DescribeScope(t.Context(), name, description, origin)
		check(t, err)
	}
	s.app(t, "api", func(c *clients.Client) {
		c.Name, c.Grants, c.ResourceServer, c.Scope = "Orders API", []clients.Grant{}, true, nil
	})
	s.app(t, "bank", func(c *clients.Client) {
		c.Name, c.AuthMethod, c.JWKS, c.Profile = "Bank", clients.PrivateKeyJWT, json.RawMessage(publicKeys), clients.FAPI2
		c.Grants, c.RedirectURIs = []clients.Grant{clients.AuthorizationCode, clients.RefreshToken}, []string{"https://bank.example.com/callback"}
	})
	_, err := s.clients.SetDisabled(t.Context(), "nightly", true, origin)
	check(t, err)
	agents := []string{
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36", "okhttp/5.1.0", "curl/8.5.0",
	}
	for i, name := range []string{"alice", "bob@example.com", "carol", "dave"} {
		u := s.user(t, name, false)
		for j := range i + 1 {
			s.session(t, shop, u, agents[j%len(agents)])
		}
	}
	stolen := s.session(t, shop, s.user(t, "erin", false), agents[0])
	for range 3 { // the first time it is used, then by somebody else
		if used, _, err := s.tokens.Refresh(t.Context(), &shop, stolen.RefreshToken, nil, nil, proofs.Key{}, origin); err == nil {
			_, _, err = s.tokens.Refresh(t.Context(), &shop, used.RefreshToken, nil, nil, proofs.Key{}, origin)
			check(t, err)
		}
	}
	bucket := time.Now().Unix() / 300 * 300
	for i := range int64(1000) {
		hour := float64(i) / 12
		wave := 30 + 25*math.Sin(hour/24*2*math.Pi)
		counts := map[activity.Kind]int64{
			activity.LiveSessions: int64(10*wave) + i%7, activity.Logins: int64(wave)/4 + i%3, activity.Refreshes: int64(3*wave) + i%11,
		}
		if i%97 == 5 {
			counts[activity.LoginFailures], counts[activity.Reuses] = 1+i%4, i%2
		}
		for kind, n := range counts {
			s.backend.Exec(t, `INSERT INTO activity (bucket, kind, count) VALUES ($1, $2, $3)`, bucket-(i+1)*300, string(kind), n)
		}
	}
	s.counter.Add(activity.Reuses)
	s.counter.Flush(t.Context())
	s.counter.Sample(t.Context())
}

// picture writes what the tab shows into the directory that CONSOLE_PICTURES names, to be looked at.
func (b *tab) picture(name string) {
	b.t.Helper()
	dir := os.Getenv("CONSOLE_PICTURES")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	b.check(err)
	check(b.t, os.MkdirAll(dir, 0o750))
	check(b.t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600))
}

// violation is what axe-core finds wrong with a page.
type violation struct {
	ID, Impact, Help string
	Nodes            []struct {
		HTML           string
		FailureSummary string
	}
}

// fits checks that nothing on the page is wider than the window.
func (b *tab) fits(name string) {
	b.t.Helper()
	if overflow := is[int](b, `document.documentElement.scrollWidth - innerWidth`); overflow > 0 {
		b.t.Errorf("%s: %d pixels wider than the window", name, overflow)
	}
}

// audit runs axe-core on the page, with those options.
func (b *tab) audit(axe, options, name string) {
	b.t.Helper()
	if !is[bool](b, `typeof axe === "object"`) {
		is[int](b, axe+";0")
	}
	result := is[string](b, `axe.run(`+options+`).then(r => JSON.stringify(r.violations))`)
	var violations []violation
	check(b.t, json.Unmarshal([]byte(result), &violations))
	for _, v := range violations {
		if v.Impact == "serious" || v.Impact == "critical" || v.Impact == "moderate" {
			b.t.Errorf("%s: %s: %s (%s): %+v", name, v.Impact, v.ID, v.Help, v.Nodes)
		}
	}
}

// looker returns what looks at the page that the tab shows, in both themes, wide and narrow: axe-core finds nothing serious, nothing is
// wider than the window.
func (b *tab) looker() (look func(name string)) {
	b.t.Helper()
	axe, err := os.ReadFile("testdata/axe-core/axe.min.js")
	check(b.t, err)
	return func(name string) {
		b.t.Helper()
		// In the dark only the colors are others, and in a narrow window only the layout is.
		b.dress("light", 1280)
		b.audit(string(axe), "", name)
		b.picture(name + "-light")
		b.dress("dark", 1280)
		b.audit(string(axe), `{runOnly: ["color-contrast"]}`, name+" in the dark")
		b.picture(name + "-dark")
		b.dress("light", 360)
		b.fits(name)
		b.picture(name + "-narrow")
		b.dress("light", 1280)
	}
}

// Every page of the console can be used by everybody.
func TestPagesAreAccessible(t *testing.T) {
	s := embedded(t)
	admin := s.user(t, "admin", true)
	b := s.tab(t)
	look := b.looker()
	b.open("/")
	look("login")
	b.open("/login?why=admin")
	look("login-why")
	b.logIn("admin")
	look("overview-first")
	b.open("/clients")
	look("clients-first")
	b.open("/users")
	look("users-first")

	s.furnish(t)
	bob, err := s.users.Find(t.Context(), "bob@example.com")
	check(t, err)
	for _, p := range []struct{ name, path string }{
		{"overview", "/"}, {"overview-month", "/?range=month"}, {"clients", "/clients"}, {"clients-none", "/clients?q=nothing"},
		{"client-kinds", "/clients/new"}, {"client-new", "/clients/new?kind=spa"}, {"client-new-api", "/clients/new?kind=api"}, {"client-new-fapi", "/clients/new?kind=fapi"}, {"client-fapi", "/client?id=bank"}, {"scopes", "/scopes?name=orders:read"}, {"client", "/client?id=shop"},
		{"client-off", "/client?id=nightly"}, {"client-console", "/client?id=signet-console"}, {"client-delete", "/client/delete?id=shop"},
		{"users", "/users"}, {"users-none", "/users?q=nobody"}, {"user-new", "/users/new"}, {"user", "/user?id=" + bob.ID},
		{"user-profile", "/user/profile?id=" + bob.ID},
		{"user-self", "/user?id=" + admin.ID}, {"user-delete", "/user/delete?id=" + admin.ID},
		{"sessions", "/sessions?done=session-ended"}, {"sessions-none", "/sessions?user=nobody"}, {"audit", "/audit"},
		{"audit-none", "/audit?type=key.rotated"}, {"keys", "/keys"}, {"invite", "/users/invite"}, {"keys-revoke", "/keys/revoke?id=" + s.current(t)}, {"keys-rotate", "/keys/rotate"}, {"not-found", "/nothing"},
	} {
		b.open(p.path)
		look(p.name)
	}
	b.open("/clients/new?kind=web")
	b.fill("client_name", "Web shop")
	b.add("redirect_uris", "https://shop.example.com/callback")
	b.fill("client_id", "shop")
	b.press("Register")
	look("client-refused")
	b.fill("client_id", "web-shop")
	b.press("Register")
	look("client-secret")
	b.open("/registration-tokens")
	look("registration-tokens-first")
	b.press("Make the token")
	look("registration-token")
	b.open("/registration-tokens")
	look("registration-tokens")
	b.open("/users/new")
	b.fill("username", "frank")
	b.press("Create")
	look("user-password")
	s.closeStore()
	b.open("/sessions")
	look("unavailable")
}

// use gets a token with the line that the console shows, as its reader would with curl.
func (s *site) use(t testing.TB, c, secret string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/token", strings.NewReader("grant_type=client_credentials"))
	check(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(c, secret)
	res, err := http.DefaultClient.Do(req)
	check(t, err)
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	check(t, err)
	return res.StatusCode
}

// current is the key that signs access tokens.
func (s *site) current(t testing.TB) string {
	t.Helper()
	rows, err := s.keys.List(t.Context())
	check(t, err)
	return rows[slices.IndexFunc(rows, func(k keys.Key) bool { return k.State() == keys.Current && k.Algorithm == keys.ES256 })].ID
}

// A day in the life of an admin.
func TestInABrowser(t *testing.T) {
	s := embedded(t)
	s.user(t, "admin", true)
	s.user(t, "alice", false)
	b := s.tab(t)
	b.logIn("alice")
	b.says("This account is not an admin’s.")
	b.press("Log in as somebody else")
	b.fill("username", "admin")
	b.fill("password", password)
	b.press("Sign in")
	b.says("Nothing is registered yet.")

	b.press("Register a client")
	b.press("Machine")
	b.fill("client_name", "Nightly")
	b.fill("client_id", "nightly")
	b.press("Register")
	b.says("Copy the secret now.")
	secret := b.text("#client-secret code")
	if status := s.use(t, "nightly", secret); status != http.StatusOK {
		t.Errorf("the secret at /token: %d", status)
	}
	if curl := b.text("#curl code"); !strings.HasPrefix(strings.Join(strings.Fields(curl), " "), "curl -u 'nightly:"+secret+"' \\ '"+s.url+"/token'") {
		t.Errorf("the line to try is %s", curl)
	}
	b.do(chromedp.Click(chromedp.CSS(`button[data-copy="client-secret"]`)))
	b.eventually(`document.querySelector('button[data-copy="client-secret"]').textContent === "Copied"`)
	b.do(chromedp.Reload()) // does not register another one
	b.says("Rotate the secret")

	b.press("Rotate the secret")
	b.says("The old secret stays good for 24h.")
	rotated := b.text("#client-secret code")
	for _, good := range []string{secret, rotated} {
		if status := s.use(t, "nightly", good); status != http.StatusOK {
			t.Errorf("in the overlap a secret gets %d at /token", status)
		}
	}

	// The search follows the typing; the address and the focus stay with it.
	b.press("Clients")
	b.says("Signet console")
	b.do(chromedp.SendKeys(chromedp.ID("q"), "night"))
	b.eventually(`!document.querySelector("#list").innerText.includes("Signet console") && document.querySelector("#list").innerText.includes("Nightly")`)
	b.eventually(`location.search === "?q=night" && document.activeElement.id === "q" && document.querySelector("#found").textContent === "1 found"`)

	// What happens elsewhere shows up in the audit record, and a session ended here is dead there.
	bob := s.user(t, "bob", false)
	b.press("Audit")
	b.says("client.secret_rotated")
	issued := s.session(t, s.app(t, "shop"), bob, "Firefox")
	b.eventually(`document.querySelector("#events").innerText.includes("session.created") && document.querySelector("#events").innerText.includes("bob")`)
	b.eventually(`/\d new events?/.test(document.querySelector("#news").textContent)`)
	b.press("Sessions")
	b.says("bob")
	b.leave(chromedp.Click(chromedp.CSS(`button[aria-label^="End the session of bob"]`)))
	b.says("The session is ended.")
	shop, err := s.clients.Get(t.Context(), "shop")
	check(t, err)
	if _, _, err := s.tokens.Refresh(t.Context(), &shop, issued.RefreshToken, nil, nil, proofs.Key{}, origin); err == nil {
		t.Error("the session is still good")
	}
	b.open("/audit?type=session.revoked")
	b.says("bob")

	// Charts are drawn from the table, which they take the place of.
	b.press("Overview")
	b.eventually(`document.querySelectorAll(".plot canvas").length === 5 && !document.querySelector("#numbers").open`)

	b.press("Log out")
	b.says("You are logged out.")
	b.open("/clients")
	b.says("Sign in")
}

// The playground of signet dev, button by button, in both themes, wide and narrow.
func TestPlayground(t *testing.T) {
	s := embedded(t, func(set *settings) { set.playground = true })
	s.user(t, "demo", false)
	b := s.tab(t)
	general := b.looker()
	look := func(name string) {
		t.Helper()
		general(name)
		is[int](b, `document.querySelectorAll("details").forEach(d => d.open = true), 0`)
		general(name + ", all open")
		is[int](b, `document.querySelectorAll("details").forEach(d => d.open = false), 0`)
	}
	b.do(chromedp.Navigate(s.url + "/playground"))
	look("playground-first")
	b.press("Log in")
	b.eventually(`document.getElementById("username").value === "demo"`)
	b.fill("password", password)
	b.press("Sign in")
	b.press("Allow")
	b.says("You are logged in as demo")
	look("playground")
	b.press("Refresh")
	b.says("What happened: Refresh")
	b.press("Use the access token")
	b.says("GET /userinfo")
	b.press("Play the thief")
	b.says("And the session is dead for the owner, too")
	look("playground-thief")
	b.press("Use the access token")
	b.says("401 Unauthorized")
	b.press("Log in again")
	b.press("Allow") // each time: any program of the user's could wait on loopback
	b.says("You are logged in as demo")
	b.press("Log out")
	b.says("The session of demo has ended.")
	look("playground-out")
	b.press("Log in again")
	b.says("Password")
}

// A page of another site that posts a form to the console, with everything that browsers send along, changes nothing.
func TestFormOfAnotherSite(t *testing.T) {
	s := embedded(t)
	s.user(t, "admin", true)
	s.app(t, "shop")
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<form method="post" action="%s/console/client/delete"><input name="id" value="shop"><button>Win a prize</button></form>`, s.url)
	}))
	t.Cleanup(evil.Close)
	b := s.tab(t)
	b.logIn("admin")
	b.says("Overview")
	// Another host, and so another site: 127.0.0.1 and localhost.
	b.do(chromedp.Navigate(strings.Replace(evil.URL, "127.0.0.1", "localhost", 1)))
	b.press("Win a prize")
	b.says("This request came from another site’s page")
	_, err := s.clients.Get(t.Context(), "shop")
	check(t, err)
}

// Without a script every page works: forms, links and the table in place of charts.
func TestWithoutScript(t *testing.T) {
	s := embedded(t)
	s.user(t, "admin", true)
	b := s.tab(t)
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}))
	b.logIn("admin")
	visible := func(css string) {
		t.Helper()
		b.do(chromedp.WaitVisible(chromedp.CSS(css)))
	}
	visible("#numbers table")
	b.do(chromedp.WaitNotVisible(chromedp.CSS(".plot")))
	b.open("/clients")
	b.fill("q", "console")
	b.press("Search")
	visible("#list table")
	b.open("/clients/new?kind=web")
	b.fill("client_name", "Shop")
	b.add("redirect_uris", "https://shop.example.com/callback")
	b.press("Register")
	visible("#client-secret")
	b.do(chromedp.WaitNotVisible(chromedp.CSS("button[data-copy]")))
	b.open("/audit")
	b.do(chromedp.WaitNotVisible(chromedp.CSS(".live")))
	visible("#events table")
	b.press("Log out")
	visible(`a[href*="/login/start"]`)
}
