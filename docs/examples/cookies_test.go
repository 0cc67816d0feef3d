package examples

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// tab is a tab of a browser.
type tab struct {
	t   testing.TB
	ctx context.Context //nolint:containedctx // chromedp keeps the tab in it

	mu    sync.Mutex
	calls map[network.RequestID]*exchange
}

// exchange is a call that a tab has made. What it asked for and the status become known in any order.
type exchange struct {
	call   string // "POST http://…"
	status int64
}

// browse starts a browser, under any of the names that Chromium may have.
func browse(t testing.TB) *tab {
	t.Helper()
	names := []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless-shell", "headless_shell"}
	i := slices.IndexFunc(names, func(name string) bool { _, err := exec.LookPath(name); return err == nil })
	if i < 0 {
		t.Fatal("this test needs Chromium: apt-get install chromium")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(names[i]))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stopAllocator)
	ctx, stop := chromedp.NewContext(allocator)
	t.Cleanup(stop)
	check(t, chromedp.Do(ctx))
	return (&tab{t: t, ctx: ctx}).open()
}

// open opens another tab of the same browser.
func (b *tab) open() *tab {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	b.t.Cleanup(cancel)
	other := &tab{t: b.t, ctx: ctx, calls: map[network.RequestID]*exchange{}}
	check(b.t, chromedp.Do(ctx))
	check(b.t, chromedp.Listen(ctx, other.note))
	ctx, cancelTimeout := context.WithTimeout(ctx, patience)
	b.t.Cleanup(cancelTimeout)
	other.ctx = ctx
	return other
}

// note keeps the calls that the tab makes. What a script throws fails the test.
func (b *tab) note(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	of := func(id network.RequestID) *exchange {
		if b.calls[id] == nil {
			b.calls[id] = &exchange{}
		}
		return b.calls[id]
	}
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		of(e.RequestID).call = e.Request.Method + " " + e.Request.URL
	case *network.EventResponseReceivedExtraInfo:
		of(e.RequestID).status = e.StatusCode
	case *runtime.EventExceptionThrown:
		if e.ExceptionDetails.Exception != nil {
			b.t.Errorf("a script failed: %s", e.ExceptionDetails.Exception.Description)
		}
	}
}

// called counts the calls of that kind, and forgets all.
func (b *tab) called(call string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.calls {
		if c.call == call {
			n++
		}
	}
	b.calls = map[network.RequestID]*exchange{}
	return n
}

// answered waits until a call was answered, with one of the statuses.
func (b *tab) answered(call string, status int64) {
	b.t.Helper()
	var got int64
	eventually(b.t, call+" is answered", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, c := range b.calls {
			if c.call == call && c.status != 0 {
				got = c.status
			}
		}
		return got != 0
	})
	if got != status {
		b.t.Errorf("%s is answered %d, want %d", call, got, status)
	}
}

func (b *tab) check(err error) {
	b.t.Helper()
	if err != nil {
		text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("location + document.body.innerText"))
		b.t.Fatalf("%v\non the page:\n%s", err, text)
	}
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	b.check(chromedp.Do(ctx, actions...))
}

// run runs a script in the page and returns what it resolves to.
func (b *tab) run(script string) string {
	b.t.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("(async () => {"+script+"})()", chromedp.EvalAwaitPromise))
	b.check(err)
	return text
}

// says waits until the page says the text, or does not.
func (b *tab) says(text string, yes bool) {
	b.t.Helper()
	_, err := chromedp.Run(b.ctx, chromedp.Poll[bool](fmt.Sprintf("document.body.innerText.includes(%q) === %t", text, yes), chromedp.WithPollingTimeout(patience), chromedp.WithPollingInterval(50*time.Millisecond)))
	b.check(err)
}

func (b *tab) fill(css, value string) {
	b.t.Helper()
	b.do(chromedp.SendKeys(chromedp.CSS(css), value))
}

func (b *tab) press(css string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS(css)))
}

// cookies returns the cookies that the browser keeps for the URL.
func (b *tab) cookies(url string) map[string]*network.Cookie {
	b.t.Helper()
	found := map[string]*network.Cookie{}
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		res, err := cdp.Call(ctx, target, network.GetCookies, network.GetCookiesParams{URLs: []string{url}})
		for _, c := range res.Cookies {
			found[c.Name] = c
		}
		return err
	}))
	return found
}

// expire makes the browser forget the access token, as it does by itself when the cookie's time is over.
func (b *tab) expire(url string) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, network.DeleteCookies, network.DeleteCookiesParams{Name: "signet_at", URL: url})
		return err
	}))
}

func TestCookies(t *testing.T) {
	t.Parallel()
	e := prepare(t, "cookies", "AUTH_PORT", "8080", "APP_PORT", "3000", "API_PORT", "4000").prebuilt().start("SIGNET_ACCESS_TOKEN_TTL=15m")
	session, refresh, notes := e.at("8080")+"/session", e.at("8080")+"/session/refresh", e.at("4000")+"/notes"

	// Alice logs in and writes a note.
	one := browse(t)
	one.do(chromedp.Navigate(e.at("3000")))
	one.says("Log in", true)
	one.fill("[name=username]", "alice")
	one.fill("[name=password]", "wrong password")
	one.press("#login button")
	one.says("the username or the password is wrong", true)
	one.do(chromedp.SetValue(chromedp.CSS("[name=password]"), "wonderland"))
	one.press("#login button")
	one.says("You are alice", true)
	one.fill("[name=text]", "white rabbit")
	one.press("#add button")
	one.says("white rabbit", true)

	// No script sees a token: not in cookies, not in storage, not in an answer.
	kept := one.cookies(refresh)
	for name, path := range map[string]string{"signet_at": "/", "signet_rt": "/session"} {
		c := kept[name]
		if c == nil || !c.HTTPOnly || c.Path != path || c.Session {
			t.Fatalf("%s is %+v", name, c)
		}
	}
	if left := time.Until(time.Unix(int64(kept["signet_at"].Expires), 0)); left < 10*time.Minute || left > 15*time.Minute {
		t.Errorf("the access token's cookie is kept for %s", left)
	}
	seen := one.run(`
		const told = async (url, method) => { const r = await fetch(url, {method, credentials: "include"}); return await r.text() + JSON.stringify([...r.headers]); };
		return document.cookie + JSON.stringify({...localStorage}) + JSON.stringify({...sessionStorage}) + JSON.stringify(await indexedDB.databases()) +
			await told("` + session + `") + await told("` + refresh + `", "POST") + await told("` + notes + `");`)
	for _, secret := range []string{"signet_", "sgr_", "eyJ", kept["signet_at"].Value, one.cookies(refresh)["signet_rt"].Value} {
		if strings.Contains(seen, secret) {
			t.Errorf("a script reads %s in %s", secret, seen)
		}
	}
	if !strings.Contains(seen, "alice") || !strings.Contains(seen, "white rabbit") {
		t.Errorf("a script reads %s", seen)
	}

	// The access token expires: the reader sees nothing of it. Many calls at once need one renewal.
	one.expire(session)
	one.called("")
	one.fill("[name=text]", "mad hatter")
	one.press("#add button")
	one.says("mad hatter", true)
	if n := one.called("POST " + refresh); n != 1 {
		t.Errorf("%d renewals", n)
	}
	many := `
		const { Session } = await import("./session.js");
		const session = new Session("` + e.at("8080") + `", "notes-app", () => {});
		const all = await Promise.all([...Array(10)].map(() => session.fetch("` + notes + `")));
		return all.map(r => r.status).join(" ");`
	good := strings.TrimSpace(strings.Repeat("200 ", 10))
	one.expire(session)
	if got := one.run(many); got != good {
		t.Errorf("many calls with an expired token: %s", got)
	}
	if n := one.called("POST " + refresh); n != 1 {
		t.Errorf("%d renewals for many calls", n)
	}

	// A second tab is logged in, and both may renew at once: by the app, one after the other; and without its care.
	two := one.open()
	two.do(chromedp.Navigate(e.at("3000")))
	two.says("white rabbit", true)
	both := func(script, want string) {
		t.Helper()
		one.expire(session)
		one.called("")
		two.called("")
		var wg sync.WaitGroup
		for _, b := range []*tab{one, two} {
			wg.Go(func() {
				if got := b.run(script); got != want {
					t.Errorf("in one of two tabs: %s, want %s", got, want)
				}
			})
		}
		wg.Wait()
	}
	for range 3 {
		both(many, good)
		if n := one.called("POST "+refresh) + two.called("POST "+refresh); n < 1 || n > 2 {
			t.Errorf("%d renewals in two tabs", n)
		}
		both(`return String((await fetch("`+refresh+`", {method: "POST", credentials: "include"})).status)`, "200")
	}
	both(many, good)

	e.foreign(one)

	// Log-out in one tab is one in the other, and for good. So is log-in.
	one.press("#logout")
	one.says("Log in", true)
	two.says("You are alice", false)
	two.says("Log in", true)
	if left := one.cookies(refresh); len(left) > 0 {
		t.Errorf("after log-out the browser keeps %v", left)
	}
	two.fill("[name=username]", "bob")
	two.fill("[name=password]", "can-we-fix-it")
	two.press("#login button")
	one.says("You are bob", true)
	one.says("white rabbit", false)

	// An administrator ends the session: at the next renewal both tabs know.
	e.signet("user", "logout", "bob")
	one.expire(session)
	one.fill("[name=text]", "too late")
	one.press("#add button")
	one.says("Log in", true)
	two.says("Log in", true)
	e.stop()
}

// foreign checks that other origins achieve nothing with the browser's cookies: on the same site, where it sends them, and on
// another one.
func (e *example) foreign(home *tab) {
	t := e.t
	t.Helper()
	session, refresh, notes := e.at("8080")+"/session", e.at("8080")+"/session/refresh", e.at("4000")+"/notes"
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html><link rel=icon href=data:,>")
	}))
	defer evil.Close()
	kept, token := home.run(`return (await fetch("`+notes+`", {credentials: "include"})).text()`), home.cookies(refresh)["signet_rt"].Value
	for _, page := range []struct {
		url    string
		status int64
	}{
		{evil.URL, 403},
		{strings.Replace(evil.URL, "127.0.0.1", "localhost", 1), 401}, // no cookies arrive
	} {
		b := home.open()
		b.do(chromedp.Navigate(page.url))
		b.called("")
		// What a page may send without asking first. It never learns what was answered.
		b.run(`
			const send = (url, body, type) => fetch(url, {method: "POST", mode: "no-cors", credentials: "include", body, headers: {"Content-Type": type}});
			await send("` + refresh + `", "", "text/plain");
			await send("` + notes + `", '{"text": "wonderland is mine"}', "text/plain");
			await send("` + session + `", "client_id=notes-app&username=bob&password=can-we-fix-it", "application/x-www-form-urlencoded");
			return ""`)
		b.answered("POST "+refresh, 403)
		b.answered("POST "+notes, page.status)
		b.answered("POST "+session, 403)
		// What it may not send, and what it may not read.
		if got := b.run(`
			const tell = (url, method) => fetch(url, {method, credentials: "include"}).then(r => r.status, () => "refused");
			return [await tell("` + session + `", "DELETE"), await tell("` + session + `"), await tell("` + notes + `")].join(" ")`); got != "refused refused refused" {
			t.Errorf("from %s: %s", page.url, got)
		}
	}
	if now := home.run(`return (await fetch("` + notes + `", {credentials: "include"})).text()`); now != kept {
		t.Errorf("the notes were %s, and are %s", kept, now)
	}
	if home.cookies(refresh)["signet_rt"].Value != token {
		t.Error("another origin has renewed the session, or ended it")
	}
}

// Where app, API and Signet have hosts of their own on one site, as in production, the API gets the access token, and nobody but
// Signet the refresh token.
func TestCookieDomain(t *testing.T) {
	t.Parallel()
	// A page, and an API that tells which cookies it gets.
	hosts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		w.Header().Set("Content-Type", "text/html")
		for _, name := range []string{"signet_at", "signet_rt"} {
			if _, err := r.Cookie(name); err == nil {
				fmt.Fprint(w, name, " ")
			}
		}
		fmt.Fprint(w, "<!doctype html><link rel=icon href=data:,>")
	}))
	t.Cleanup(hosts.Close)
	at := func(name, address string) string {
		return "http://" + name + ".localhost" + address[strings.LastIndex(address, ":"):]
	}
	app := at("app.example", hosts.URL)

	// The port is not known before; the issuer's does not matter here.
	dir, address, env := serve(t, "SIGNET_ISSUER=http://auth.example.localhost", "SIGNET_COOKIE_DOMAIN=example.localhost")
	setUp := exec.Command("sh", "-euc", `signet client create --id app --name App --public --browser-origin "$1"
		printf wonderland | signet user create alice --password-stdin`, "sh", app)
	setUp.Dir, setUp.Env = dir, env
	if out, err := setUp.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	b := browse(t)
	b.do(chromedp.Navigate(app))
	session := at("auth.example", address) + "/session"
	if got := b.run(`
		const res = await fetch("` + session + `", {method: "POST", credentials: "include", headers: {"Content-Type": "application/json"},
			body: JSON.stringify({client_id: "app", username: "alice", password: "wonderland"})});
		return (await res.json()).username`); got != "alice" {
		t.Fatalf("the login: %s", got)
	}
	for host, want := range map[string]string{"api.example": "signet_at <", "app.example": "signet_at <", "api.other": "<"} {
		if got := b.run(`return (await fetch("` + at(host, hosts.URL) + `/session", {credentials: "include"})).text()`); !strings.HasPrefix(got, want) {
			t.Errorf("%s gets %s", host, got)
		}
	}
	if got := b.run(`return String((await fetch("` + session + `/refresh", {method: "POST", credentials: "include"})).status)`); got != "200" {
		t.Errorf("the refresh: %s", got)
	}
	if got := b.run(`return String((await fetch("` + session + `", {method: "DELETE", credentials: "include"})).status)`); got != "204" || len(b.cookies(session)) > 0 {
		t.Errorf("the log-out: %s, and the browser keeps %v", got, b.cookies(session))
	}
}
