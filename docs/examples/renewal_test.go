package examples

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// customer is a browser that keeps its cookies itself, whatever their age.
type customer struct {
	e       *example
	cookies map[string]string
}

// again is another request of the same browser, with the cookies of this moment.
func (c *customer) again() *customer { return &customer{c.e, maps.Clone(c.cookies)} }

// send sends a form to the shop, or asks it with none, and keeps the cookies that it sets.
func (c *customer) send(path, form string, header ...string) (status int, body string) {
	c.e.t.Helper()
	method := http.MethodGet
	if form != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequest(method, c.e.at("3000")+path, strings.NewReader(form))
	check(c.e.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	for name, value := range c.cookies {
		req.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	check(c.e.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	check(c.e.t, err)
	for _, set := range res.Cookies() {
		if !set.HttpOnly || set.SameSite != http.SameSiteStrictMode || set.Path != "/" {
			c.e.t.Errorf("it sets %s", set)
		}
		if set.MaxAge < 0 || !set.Expires.IsZero() && set.Expires.Before(time.Now()) {
			delete(c.cookies, set.Name)
		} else {
			c.cookies[set.Name], _ = url.PathUnescape(set.Value)
		}
	}
	return res.StatusCode, string(text)
}

func (c *customer) want(status int, text, path, form string, header ...string) {
	c.e.t.Helper()
	if got, body := c.send(path, form, header...); got != status || !strings.Contains(body, text) {
		c.e.t.Errorf("%s %s: %d %s; want %d %s", path, form, got, body, status, text)
	}
}

// expired waits until the access token has expired.
func (c *customer) expired() {
	c.e.t.Helper()
	var claims struct{ Exp int64 }
	decode(c.e.t, strings.Split(c.cookies["access_token"], ".")[1], &claims)
	time.Sleep(time.Until(time.Unix(claims.Exp, 0)) + 10*time.Millisecond)
}

func TestRenewal(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"renewal-go", "renewal-express"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := prepare(t, name, "AUTH_PORT", "8080", "APP_PORT", "3000").prebuilt().start()
			orders := `["teapot"]`
			shows(t, strings.NewReplacer("][", "]\n[", "]log", "]\nlog").Replace(e.try()), orders, orders, orders, orders, orders, orders, "log in first")

			c := &customer{e, map[string]string{}}
			c.want(http.StatusUnauthorized, "log in", "/orders", "")
			c.want(http.StatusUnauthorized, "", "/login", "username=bob&password=wrong-password")
			c.want(http.StatusSeeOther, "", "/login", "username=bob&password=can-we-fix-it")
			first := c.again()
			if len(first.cookies) != 2 {
				t.Fatalf("after the login the cookies are %v", first.cookies)
			}
			c.want(http.StatusOK, "hammer", "/orders", "item=hammer")
			c.want(http.StatusForbidden, "", "/orders", "item=evil", "Origin", "http://127.0.0.1:6666")
			c.want(http.StatusForbidden, "", "/logout", "a=b", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
			c.want(http.StatusOK, "nail", "/orders", "item=nail", "Origin", e.at("3000"))

			// With an expired access token, or none, a request goes through as ever, a form that is sent among them.
			c.expired()
			before := c.again()
			c.want(http.StatusOK, `["hammer","nail","saw"]`, "/orders", "item=saw")
			if c.cookies["refresh_token"] == before.cookies["refresh_token"] || c.cookies["access_token"] == before.cookies["access_token"] {
				t.Error("nothing was renewed")
			}
			delete(c.cookies, "access_token")
			c.want(http.StatusOK, "saw", "/orders", "")

			// Many at once: whichever answer comes last, the browser is logged in.
			c.expired()
			many := make([]*customer, 12)
			var wg sync.WaitGroup
			for i := range many {
				many[i] = c.again()
				wg.Go(func() { many[i].want(http.StatusOK, "saw", "/orders", "") })
			}
			wg.Wait()
			successors := map[string]bool{}
			for _, one := range many {
				successors[one.cookies["refresh_token"]] = true
			}
			if len(successors) != 1 || successors[c.cookies["refresh_token"]] {
				t.Errorf("%d refresh tokens come of one, or none", len(successors))
			}
			for _, one := range []int{0, 5, 11} {
				many[one].want(http.StatusOK, "saw", "/orders", "")
			}
			c = many[7]
			delete(c.cookies, "access_token")
			c.want(http.StatusOK, "saw", "/orders", "")

			// A stolen cookie that is used late ends the session; a forged one opens nothing.
			thief := before.again()
			delete(thief.cookies, "access_token")
			thief.want(http.StatusUnauthorized, "log in", "/orders", "")
			c.expired()
			c.want(http.StatusUnauthorized, "log in", "/orders", "")
			if len(c.cookies) > 0 {
				t.Errorf("the cookies of a dead session stay: %v", slices.Collect(maps.Keys(c.cookies)))
			}
			for kind, forged := range forgeries(t, first.cookies["access_token"]) {
				(&customer{e, map[string]string{"access_token": forged, "refresh_token": "sgr_nonsense"}}).want(http.StatusUnauthorized, "log in", "/orders", "", "X-Kind", kind)
			}

			// Log-out is for good.
			c.want(http.StatusSeeOther, "", "/login", "username=bob&password=can-we-fix-it")
			copied := c.again()
			c.want(http.StatusSeeOther, "", "/logout", "a=b")
			delete(copied.cookies, "access_token")
			copied.want(http.StatusUnauthorized, "log in", "/orders", "")

			// While Signet is away nobody is logged out.
			c.want(http.StatusSeeOther, "", "/login", "username=bob&password=can-we-fix-it")
			kept := fmt.Sprint(c.cookies)
			e.killSignet()
			c.expired()
			c.want(http.StatusServiceUnavailable, "try again", "/orders", "")
			if fmt.Sprint(c.cookies) != kept {
				t.Error("while Signet is away, the cookies change")
			}
			e.stop()
		})
	}
}

// killSignet ends the server, and it alone among what the example has started.
func (e *example) killSignet() {
	e.t.Helper()
	out, err := exec.Command("ps", "-A", "-o", "pid=,pgid=,args=").Output()
	check(e.t, err)
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 3 && f[1] == strconv.Itoa(e.cmd.Process.Pid) && f[len(f)-1] == "serve" {
			pid, err := strconv.Atoi(f[0])
			check(e.t, err)
			check(e.t, syscall.Kill(pid, syscall.SIGKILL))
			eventually(e.t, "Signet is gone", func() bool { _, err := net.Dial("tcp", "127.0.0.1:"+e.ports["8080"]); return err != nil })
			return
		}
	}
	e.t.Fatal("Signet does not run")
}
