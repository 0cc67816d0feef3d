package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// visitor is somebody with a browser: it keeps cookies and does not follow redirects to clients.
type visitor struct {
	t   testing.TB
	web *http.Client
}

func newVisitor(t testing.TB) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	check(t, err)
	return &visitor{t, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

var sealedField = regexp.MustCompile(`name="request" value="([^"]+)"`)

// open gets an address, or posts a form to it, and returns the sealed request of the page's form, or where the browser is sent.
func (v *visitor) open(address string, form url.Values) (status int, sealed string, location *url.URL) {
	v.t.Helper()
	var res *http.Response
	var err error
	if form == nil {
		res, err = v.web.Get(address)
	} else {
		res, err = v.web.PostForm(address, form)
	}
	check(v.t, err)
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	check(v.t, err)
	if m := sealedField.FindSubmatch(page); m != nil {
		sealed = string(m[1])
	}
	location, _ = res.Location() // none is no error here
	return res.StatusCode, sealed, location
}

// A log-out that was answered is told to the client, once, though every server is killed right after it and the client was down.
func TestLogoutNoticesOutliveTheServer(t *testing.T) {
	t.Parallel()
	onEachDatabase(t, func(t *testing.T, database string) {
		var up atomic.Bool
		var heard, refused atomic.Int64
		client := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case !up.Load():
				refused.Add(1)
				w.WriteHeader(http.StatusServiceUnavailable)
			case r.FormValue("logout_token") != "":
				heard.Add(1)
			}
		}))
		defer client.Close()
		in, db := install(t, database, "SIGNET_FETCH_ALLOW=127.0.0.0/8"), behind(database)
		a := in.open(t)
		var c struct {
			ID     string `json:"client_id"`
			Secret string `json:"client_secret"`
		}
		const callback = "http://127.0.0.1:1/cb"
		in.run(t, &c, "client", "create", "--name", "Shop", "--redirect-uri", callback, "--skip-consent", "--require-pkce=false", "--backchannel-logout-uri", client.URL+"/told")
		shop := account{c.ID, c.Secret, a.username, a.password}
		servers := []*process{in.serve(t)}
		if strings.HasPrefix(database, "postgres") {
			servers = append(servers, in.serve(t))
		}
		p, v := servers[0], newVisitor(t)

		res, err := web.Get(p.url + "/.well-known/jwks.json")
		check(t, err)
		var set struct{ Keys []struct{ Alg, Kid string } }
		check(t, json.NewDecoder(res.Body).Decode(&set))
		check(t, res.Body.Close())
		algs := map[string]int{}
		for _, k := range set.Keys {
			algs[k.Alg]++
		}
		if algs["RS256"] != 2 || algs["ES256"] != 2 { // the default of ID tokens, from the first start on, and the next one
			t.Errorf("the JWKS has %v", algs)
		}

		status, sealed, _ := v.open(p.url+"/authorize?"+url.Values{"client_id": {c.ID}, "redirect_uri": {callback}, "response_type": {"code"}, "scope": {"openid"}}.Encode(), nil)
		if status != http.StatusOK || sealed == "" {
			t.Fatalf("no login page: %d", status)
		}
		status, _, location := v.open(p.url+"/login", url.Values{"request": {sealed}, "username": {a.username}, "password": {a.password}})
		if location == nil {
			t.Fatalf("no code: %d", status)
		}
		got := p.mustCall(http.StatusOK, shop, "/token", "grant_type", "authorization_code", "code", location.Query().Get("code"), "redirect_uri", callback)
		var issued struct {
			IDToken string `json:"id_token"`
		}
		check(t, json.Unmarshal([]byte(got.raw), &issued))
		if status, _, _ = v.open(p.url+"/logout?id_token_hint="+issued.IDToken, nil); status != http.StatusOK {
			t.Fatalf("the log-out: %d", status)
		}
		for _, p := range servers {
			p.kill()
		}
		if n := db.Int(t, `SELECT count(*) FROM logout_notices`); n != 1 {
			t.Fatalf("%d notices after the kill", n)
		}
		for i := range servers {
			servers[i] = in.serve(t)
		}
		db.Age(t, time.Hour) // whatever was tried before
		eventually(t, "the client that is down is tried", patience, func() bool { return refused.Load() > 0 })
		up.Store(true)
		db.Age(t, time.Hour)
		eventually(t, "the client is told", patience, func() bool { return heard.Load() > 0 })
		eventually(t, "that is done", patience, func() bool { return db.Int(t, `SELECT count(*) FROM logout_notices`) == 0 })
		db.Age(t, time.Hour)
		time.Sleep(3 * time.Second) // in which each server looks again
		if n := heard.Load(); n != 1 {
			t.Errorf("told %d times", n)
		}
		if servers[0].active(shop, got.AccessToken) {
			t.Error("the session is live")
		}
	})
}
