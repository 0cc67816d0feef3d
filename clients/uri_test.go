package clients_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"signet/audit"
	"signet/clients"
	"signet/keys"
	"signet/storage/storagetest"
)

// What is asked for is compared to the byte, but for the port of a loopback address.
func TestRedirect(t *testing.T) {
	t.Parallel()
	for registered, asked := range map[string]struct{ good, bad []string }{
		"https://app.example.com/cb": {nil, []string{
			"https://app.example.com/cb/", "https://app.example.com/cb?", "https://app.example.com/cb?x=y", "https://app.example.com/cb#", "https://app.example.com/cb#x",
			"https://app.example.com", "https://app.example.com/", "https://app.example.com/c", "https://app.example.com/cb2", "https://app.example.com/CB", "https://app.example.com//cb",
			"https://app.example.com:443/cb", "https://app.example.com:8443/cb", "http://app.example.com/cb", "HTTPS://app.example.com/cb", "https://APP.example.com/cb",
			"https://app.example.com./cb", "https://app.example.com/x/../cb", "https://app.example.com/./cb", "https://app.example.com/cb/..;/x", "https://app.example.com/cb/%2e%2e/x",
			"https://app.example.com/%63b", "https://app.example.com/cb%2f", "https://app.example.com/cb%5c", "https://app.example.com/cb\\", "https://app.example.com\\/cb", "https:\\\\app.example.com/cb",
			"https://user@app.example.com/cb", "https://app.example.com@evil.example/cb", "https://evil.example/https://app.example.com/cb", "https://app.example.com.evil.example/cb",
			"https://evil-app.example.com/cb", "//app.example.com/cb", "/cb", "https:app.example.com/cb", " https://app.example.com/cb", "https://app.example.com/cb ",
			"https://app.example.com/cb\n", "https://app.example.com/cb\x00", "javascript:alert(1)", "https://app.example.com/cb https://app.example.com/cb",
		}},
		"https://app.example.com/cb?tenant=a": {nil, []string{
			"https://app.example.com/cb", "https://app.example.com/cb?", "https://app.example.com/cb?tenant=b", "https://app.example.com/cb?tenant=a&x=y", "https://app.example.com/cb?tenant=A",
		}},
		"http://127.0.0.1/cb": {
			[]string{"http://127.0.0.1:1/cb", "http://127.0.0.1:51004/cb", "http://127.0.0.1:65535/cb", "http://127.0.0.1:80/cb"},
			[]string{
				"http://127.0.0.1:51004/", "http://127.0.0.1:51004/CB", "http://127.0.0.1:51004/cb?x=y", "http://127.0.0.1:51004/cb#x", "https://127.0.0.1:51004/cb", "HTTP://127.0.0.1:51004/cb",
				"http://127.0.0.2:51004/cb", "http://localhost:51004/cb", "http://[::1]:51004/cb", "http://127.0.0.1.evil.example/cb", "http://127.0.0.1.evil.example:80/cb", "http://127.0.0.1:51004.evil.example/cb",
				"http://127.0.0.1:51004@evil.example/cb", "http://127.0.0.1:@evil.example/cb", "http://x@127.0.0.1:51004/cb", "http://127.0.0.1:/cb", "http://127.0.0.1:0/cb", "http://127.0.0.1:65536/cb",
				"http://127.0.0.1:x/cb", "http://127.0.0.1:-1/cb", "http://127.0.0.1:+1/cb", "http://127.0.0.1:51004:51004/cb", "http://127.0.0.1:51004\\/cb", "http://127.1:51004/cb", "http://2130706433/cb", "http://0x7f.1/cb",
			},
		},
		"http://127.0.0.1:8080/cb": {[]string{"http://127.0.0.1/cb", "http://127.0.0.1:9090/cb"}, []string{"http://127.0.0.1:9090", "http://127.0.0.1:80808080/cb"}},
		"http://[::1]/cb": {[]string{"http://[::1]:51004/cb"}, []string{
			"http://[::1]51004/cb", "http://[::1]x/cb", "http://[::1/cb", "http://[0:0:0:0:0:0:0:1]:51004/cb", "http://[::2]:51004/cb", "http://[::1%25lo]:51004/cb", "http://[::ffff:127.0.0.1]/cb",
		}},
		"http://localhost:3000/cb": {[]string{"http://localhost/cb", "http://localhost:3001/cb"}, []string{
			"http://localhost.evil.example/cb", "http://localhost.:3000/cb", "http://LOCALHOST:3000/cb", "http://127.0.0.1:3000/cb", "http://app.localhost:3000/cb", "http://localhostevil:3000/cb",
		}},
		"http://127.0.0.1":          {[]string{"http://127.0.0.1:51004"}, []string{"http://127.0.0.1/", "http://127.0.0.1:51004/", "http://127.0.0.1.evil.example"}},
		"http://127.0.0.1?x=y":      {[]string{"http://127.0.0.1:51004?x=y"}, []string{"http://127.0.0.1:51004?x=z"}},
		"http://app.localhost/cb":   {nil, []string{"http://app.localhost:3000/cb"}},
		"http://127.0.0.2/cb":       {nil, []string{"http://127.0.0.2:51004/cb"}},
		"https://127.0.0.1/cb":      {nil, []string{"https://127.0.0.1:8443/cb"}},
		"com.example.app:/cb":       {nil, []string{"com.example.app:/cb2", "com.example.app:cb", "com.example.app://cb", "COM.example.app:/cb", "com.example.app:/"}},
		"com.example.app://host/cb": {nil, []string{"com.example.app://host:80/cb", "com.example.app://other/cb"}},
	} {
		c := clients.Client{RedirectURIs: []string{"https://first.example.com/cb", registered}}
		for _, uri := range append(asked.good, registered) {
			if got, ok := c.Redirect(uri); !ok || got != uri {
				t.Errorf("%q is registered, and %q leads to %q, %t", registered, uri, got, ok)
			}
		}
		for _, uri := range asked.bad {
			if got, ok := c.Redirect(uri); ok || got != "" {
				t.Errorf("%q is registered, and %q leads to %q", registered, uri, got)
			}
		}
		if got, ok := c.Redirect(""); ok || got != "" {
			t.Errorf("two are registered, and none leads to %q", got)
		}
		c.RedirectURIs = c.RedirectURIs[1:]
		if got, ok := c.Redirect(""); !ok || got != registered {
			t.Errorf("%q alone is registered, and none leads to %q, %t", registered, got, ok)
		}
	}
	none := clients.Client{}
	for _, uri := range []string{"", "https://app.example.com/cb"} {
		if got, ok := none.Redirect(uri); ok || got != "" {
			t.Errorf("nothing is registered, and %q leads to %q", uri, got)
		}
	}
}

// After a log-out there is no loopback rule: it is the same, or it is not.
func TestPostLogoutRedirect(t *testing.T) {
	t.Parallel()
	c := clients.Client{PostLogoutRedirectURIs: []string{"https://app.example.com/bye?state=x", "http://127.0.0.1/bye"}, RedirectURIs: []string{"https://app.example.com/cb"}}
	for uri, want := range map[string]bool{
		"https://app.example.com/bye?state=x": true, "http://127.0.0.1/bye": true, "": false, "http://127.0.0.1:8080/bye": false, "https://app.example.com/bye": false,
		"https://app.example.com/bye?state=x&foo=bar": false, "https://app.example.com/cb": false, "https://APP.example.com/bye?state=x": false,
	} {
		if got := c.PostLogoutRedirect(uri); got != want {
			t.Errorf("%q: %t", uri, got)
		}
	}
}

// FuzzRedirect wants of every URI that passes that its bytes are those of the registered one, or that the registered one is on
// loopback and they differ in a port alone.
func FuzzRedirect(f *testing.F) {
	for _, seed := range [][2]string{
		{"https://app.example.com/cb", "https://app.example.com/cb"}, {"http://127.0.0.1/cb", "http://127.0.0.1:8080/cb"}, {"http://[::1]:1/", "http://[::1]/"},
		{"http://localhost?x", "http://localhost:80?x"}, {"http://localhost/cb", "http://localhost:80@evil.example/cb"}, {"http://127.0.0.1", "http://127.0.0.1.evil.example"},
		{"com.example.app:/cb", "com.example.app:/cb"}, {"http://127.0.0.1/:1/", "http://127.0.0.1:1/:1/"}, {"http://127.0.0.1:1/", "http://127.0.0.1:00000000000001/"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, registered, asked string) {
		c := clients.Client{
			ID: "a", Name: "a", AuthMethod: clients.None, ApplicationType: clients.Native, IDTokenAlg: keys.RS256, RedirectURIs: []string{registered},
		}
		got, ok := c.Redirect(asked)
		if asked == "" || !ok || asked == registered {
			return
		}
		if got != asked || c.Validate() != nil {
			return // what is not registered as it is cannot be told
		}
		a, err := url.Parse(asked)
		if err != nil {
			t.Fatalf("%q passes for %q: %v", asked, registered, err)
		}
		r, err := url.Parse(registered)
		if err != nil {
			t.Fatal(err)
		}
		host := map[string]string{"127.0.0.1": "127.0.0.1", "::1": "[::1]", "localhost": "localhost"}[r.Hostname()]
		if host == "" || r.Scheme != "http" || a.Hostname() != r.Hostname() {
			t.Fatalf("%q passes for %q", asked, registered)
		}
		without := func(uri string, u *url.URL) string {
			if u.Port() == "" {
				return uri
			}
			return strings.Replace(uri, "http://"+host+":"+u.Port(), "http://"+host, 1)
		}
		if without(asked, a) != without(registered, r) {
			t.Fatalf("%q passes for %q", asked, registered)
		}
	})
}

// What may be registered goes by what is allowed, not by what is known to be bad.
func TestValidateURIs(t *testing.T) {
	t.Parallel()
	web := []string{
		"https://app.example.com", "https://app.example.com/", "https://app.example.com/callback?x=y", "https://app.example.com:8443/cb", "https://App.example.com/cb", "https://app.example.com/%C3%A4",
		"https://app.example.com/a.b/.well-known/..c", "https://app.example.com/cb?to=%2Fhome%2F..", "https://app.example.com/cb?codes=1&errors=2&STATE=3&code_=4", "https://xn--bcher-kva.example/cb", "https://192.0.2.1/cb",
		"http://localhost/cb", "http://localhost:3000/cb", "http://127.0.0.1/cb", "http://127.0.0.2:99/cb", "http://[::1]:8080/cb", "http://app.localhost/cb", "https://localhost/cb",
	}
	native := []string{"com.example.app:/cb", "com.example.app:/", "com.example.app://cb", "com.example.app://login/cb?x=y", "com.googleusercontent.apps.123-abc:/oauth2redirect"}
	bad := []string{
		"", "app", "/cb", "//", "//evil.example/cb", "://", "https:", "https://", "https:///cb", "https:evil.example", "https:/evil.example/cb", "http:/localhost/cb", "http:127.0.0.1",
		"http://app.example.com/cb", "http://10.0.0.1/cb", "http://192.168.0.1/cb", "http://0.0.0.0/cb", "http://[::]/cb", "http://localhost.evil.example/cb", "http://127.0.0.1.evil.example/cb", "http://127.1/cb", "http://2130706433/",
		"HTTPS://app.example.com/cb", "HTTP://localhost/cb", "Https://app.example.com/cb", "COM.example.app:/cb",
		"javascript:alert(1)", "JaVaScRiPt:alert(1)", "\tjavascript:alert(1)", "java\nscript:alert(1)", "javascript://app.example.com/%0aalert(1)", "javascript:/x",
		"data:text/html,x", "DATA:text/html,x", "data:/x", "blob:https://app.example.com/x", "vbscript:x", "vbscript:/x", "file:///etc/passwd", "ftp://app.example.com/", "about:/blank", "intent://x#Intent;end", "ws://localhost/", "mailto:a@b.example",
		"myapp:/cb", "myapp://cb", "com.example.app:cb", "com.example.app:", "com.example.app", ".com:/cb", "1com.example:/cb", "com.example.app:\\cb", "com.example.app:// /cb",
		"http://reg@evil.example", "http://reg%2F@evil.example", "https://a@b@c", "https://ann:secret@app.example.com/cb", "https://ann@app.example.com", "https://@app.example.com/cb", "com.example.app://ann@host/cb",
		"https://app.example.com/cb#", "https://app.example.com/cb#x", "com.example.app:/cb#x", "https://*.example.com/cb", "https://app.example.com/*", "https://app.example.com/cb?x=*",
		"https://app.example.com\\@evil.example", "https://app.example.com/\\evil", "https://app.example.com/..", "https://app.example.com/../cb", "https://app.example.com/a/./b", "https://app.example.com/..;/cb",
		"https://app.example.com/%2e%2e/cb", "https://app.example.com/%2E/cb", "https://app.example.com/a%2fb", "https://app.example.com/a%5Cb", "https://app.example.com/%00", "https://app.example.com/a%zz", "https://app.example.com/%", "https://app.example.com/?%2",
		"https://app.example.com/a b", " https://app.example.com", "https://app.example.com ", "https://app.example.com/\n", "https://app.example.com/\r", "https://app.example.com/\x00", "https://app.example.com/\x7f", "https://app.example.com/ä", "https://bücher.example/",
		"https://app.example.com%2eevil/", "https://app.example.com:port/", "https://app.example.com:/", "https://app.example.com:0/", "https://app.example.com:65536/", "https://[::1/", "https://[fe80::1%25eth0]/", "https://[app.example.com]/", "http://[::1]x/",
		"https://app.example.com/<x>", `https://app.example.com/"`, "https://app.example.com/{id}", "https://app.example.com/|", "https://app.example.com/^", "https://app.example.com/`",
		"https://app.example.com/" + strings.Repeat("x", 2048),
	}
	answered := map[string]string{ // the parameter that is named
		"https://app.example.com/cb?code=x": "code", "https://app.example.com/cb?a=b&state=": "state", "https://app.example.com/cb?iss": "iss", "https://app.example.com/cb?%65rror=x": "error",
		"https://app.example.com/cb?error_description=x": "error_description", "https://app.example.com/cb?response=x": "response", "https://app.example.com/cb?a;code=x": "code", "https://app.example.com/cb?a?code=x": "code",
		"https://app.example.com/cb#code=x": "code", "https://app.example.com/cb?x#y&state=z": "state", "com.example.app:/cb?state=x": "state",
	}
	problem := func(c clients.Client, field string) string {
		err := c.Validate()
		var wrong *clients.FieldError
		if err == nil {
			return ""
		}
		if !errors.As(err, &wrong) || wrong.Field != field || strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("%s: %v", field, err)
		}
		return err.Error()
	}
	for field, set := range map[string]func(c *clients.Client, uri string){
		"redirect_uris": func(c *clients.Client, uri string) { c.RedirectURIs = []string{"https://ok.example.com", uri} },
		"post_logout_redirect_uris": func(c *clients.Client, uri string) {
			c.PostLogoutRedirectURIs = []string{"https://ok.example.com", uri}
		},
	} {
		with := func(uri string, kind clients.ApplicationType) string {
			c := valid()
			c.ApplicationType = kind
			set(&c, uri)
			return problem(c, field)
		}
		for _, uri := range web {
			for _, kind := range clients.ApplicationTypes {
				if p := with(uri, kind); p != "" {
					t.Errorf("%s, %s: %s", kind, uri, p)
				}
			}
		}
		for _, uri := range native {
			if p := with(uri, clients.Native); p != "" {
				t.Errorf("native, %s: %s", uri, p)
			}
			if p := with(uri, clients.Web); !strings.Contains(p, "application_type") {
				t.Errorf("web, %s: %q", uri, p)
			}
		}
		for _, uri := range bad {
			for _, kind := range clients.ApplicationTypes {
				if with(uri, kind) == "" {
					t.Errorf("%s: a client of the type %s may have %q", field, kind, uri)
				}
			}
		}
		for uri, name := range answered {
			p := with(uri, clients.Native)
			if field == "redirect_uris" && !strings.Contains(p, "the parameter "+name+":") {
				t.Errorf("%s: %q", uri, p)
			}
			if field != "redirect_uris" && !strings.Contains(uri, "#") && p != "" {
				t.Errorf("%s, %s: %s", field, uri, p)
			}
		}
	}
	for field, set := range map[string]func(c *clients.Client, uri string){
		"client_uri": func(c *clients.Client, uri string) { c.ClientURI = uri }, "logo_uri": func(c *clients.Client, uri string) { c.LogoURI = uri },
		"policy_uri": func(c *clients.Client, uri string) { c.PolicyURI = uri }, "tos_uri": func(c *clients.Client, uri string) { c.TOSURI = uri },
		"backchannel_logout_uri": func(c *clients.Client, uri string) { c.BackchannelLogoutURI = uri },
	} {
		with := func(uri string) string {
			c := valid()
			c.ApplicationType = clients.Native
			set(&c, uri)
			return problem(c, field)
		}
		for _, uri := range web {
			if p := with(uri); p != "" {
				t.Errorf("%s: %s", uri, p)
			}
		}
		for _, uri := range append(bad, native...) {
			// Empty is none; what Signet calls it calls by what the service allows; a page may have a fragment.
			fragment := strings.HasPrefix(uri, "https://app.example.com/cb#") && field != "backchannel_logout_uri"
			if plain := strings.HasPrefix(uri, "http://") && field == "backchannel_logout_uri"; uri != "" && !plain && !fragment && with(uri) == "" {
				t.Errorf("%s may be %q", field, uri)
			}
		}
		if field == "backchannel_logout_uri" && with("https://app.example.com/logout#x") == "" {
			t.Error("a back-channel logout URI may have a fragment")
		}
	}
}

// Where Signet may call a client by http is the operator's to say.
func TestBackchannelByHTTP(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		store := b.Open(t)
		lax := clients.New(store, clients.Config{AllowHTTP: func(host string) bool { return host == "10.0.0.1" }}, discard)
		for name, s := range map[string]*clients.Service{"none": newService(store), "some": lax} {
			for uri, allowed := range map[string]bool{"http://10.0.0.1:8080/logout": name == "some", "http://127.0.0.1/logout": false, "https://app.example.com/logout": true} {
				c := clients.Client{ID: name + uri, BackchannelLogoutURI: uri}
				_, err := s.Create(t.Context(), c, audit.Origin{})
				var wrong *clients.FieldError
				if allowed && err != nil || !allowed && (!errors.As(err, &wrong) || wrong.Field != "backchannel_logout_uri") {
					t.Errorf("%s, %s: %v", name, uri, err)
				}
				if _, err := s.Apply(t.Context(), c, audit.Origin{}); (err == nil) != allowed {
					t.Errorf("%s, %s, applied: %v", name, uri, err)
				}
			}
		}
	})
}
