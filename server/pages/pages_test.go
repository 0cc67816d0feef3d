package pages_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"golang.org/x/net/html"

	"signet/server/pages"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, name string) (c map[string]string) {
	t.Helper()
	text, err := os.ReadFile(name)
	check(t, err)
	check(t, json.Unmarshal(text, &c))
	return c
}

// Every language says everything, with the same things filled in.
func TestCatalogsAreComplete(t *testing.T) {
	t.Parallel()
	english := read(t, "catalogs/en.json")
	names, err := filepath.Glob("catalogs/*.json")
	check(t, err)
	if len(names) != 5 {
		t.Errorf("%d catalogs", len(names))
	}
	holes := func(s string) []string {
		found := regexp.MustCompile(`\{[a-z]+\}`).FindAllString(s, -1)
		slices.Sort(found)
		return found
	}
	for _, name := range names {
		c := read(t, name)
		for key, text := range english {
			if c[key] == "" || !slices.Equal(holes(c[key]), holes(text)) {
				t.Errorf("%s: %s is %q, in English %q", name, key, c[key], text)
			}
		}
		for key := range c {
			if _, known := english[key]; !known {
				t.Errorf("%s: %s is not in the English one", name, key)
			}
		}
	}
	// And what the templates ask for is there, and nothing else.
	used := map[string]bool{}
	files, err := filepath.Glob("templates/*.html")
	check(t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		check(t, err)
		for _, m := range regexp.MustCompile(`\.[TB] "([a-z_.]+)"`).FindAllStringSubmatch(string(text), -1) {
			used[m[1]] = true
			if english[m[1]] == "" {
				t.Errorf("%s: %s is in no catalog", f, m[1])
			}
		}
	}
	var source string
	files, err = filepath.Glob("*.go")
	check(t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		check(t, err)
		source += string(text)
	}
	for key := range english {
		stem, _, _ := strings.Cut(key, ".")
		named := strings.Contains(source, `"`+key+`"`) || strings.Contains(source, `Said = "`+stem+`"`) || strings.HasPrefix(key, "scope.") || strings.HasPrefix(key, "own.done.") || strings.HasPrefix(key, "error.")
		if !used[key] && !named {
			t.Errorf("%s is not used", key)
		}
	}
}

// show renders a page for somebody with that Accept-Language.
func show(t testing.TB, language string, write func(c *gin.Context)) *httptest.ResponseRecorder {
	t.Helper()
	gin.SetMode(gin.ReleaseMode)
	w := httptest.NewRecorder()
	c, _ := gin.CreateTestContext(w)
	c.Request = httptest.NewRequest(http.MethodGet, "/", nil)
	c.Request.Header.Set("Accept-Language", language)
	write(c)
	return w
}

// views are all pages, with the text in every place that somebody else fills in.
func views(p *pages.Pages, text string) map[string]func(c *gin.Context) {
	client := pages.Client{Name: text, LogoURI: "https://cdn.example.com/" + text, HomeURI: "https://example.com/" + text, PolicyURI: "javascript:alert(1)", TermsURI: "data:text/html,x"}
	passkey := pages.Passkey{Options: "{}", Challenge: text}
	scopes := []pages.Scope{{Name: "openid"}, {Name: "read", Description: text}, {Name: text}}
	return map[string]func(c *gin.Context){
		"login": func(c *gin.Context) {
			p.Login(c, http.StatusOK, nil, pages.Login{Request: text, Client: &client, Username: text, Problem: pages.Throttled, Expired: true, Stay: true})
		},
		"again": func(c *gin.Context) { p.Login(c, http.StatusOK, nil, pages.Login{Client: &client, Again: text}) },
		"bare":  func(c *gin.Context) { p.Login(c, http.StatusOK, nil, pages.Login{}) },
		"consent": func(c *gin.Context) {
			p.Consent(c, nil, pages.Consent{Request: text, Client: client, Username: text, Scopes: scopes, Known: scopes, Resources: []string{text}, Host: text})
		},
		"native": func(c *gin.Context) { p.Consent(c, nil, pages.Consent{Client: client, Host: text, Native: true}) },
		"account": func(c *gin.Context) {
			p.Account(c, http.StatusOK, nil, pages.Account{Request: text, Client: &client, Username: text})
		},
		"logout": func(c *gin.Context) { p.Logout(c, nil, pages.Logout{Request: text, Username: text}) },
		"factor": func(c *gin.Context) {
			p.Factor(c, http.StatusOK, nil, pages.Factor{Request: text, Client: &client, Username: text, App: true, Passkey: passkey, Problem: pages.WrongFactor})
		},
		"factor by passkey": func(c *gin.Context) {
			p.Factor(c, http.StatusOK, nil, pages.Factor{Request: text, Username: text, Passkey: passkey})
		},
		"enrol": func(c *gin.Context) {
			p.Enrol(c, http.StatusOK, nil, pages.Enrol{Request: text, Client: &client, Enrolment: text, Secret: text, URI: "otpauth://totp/x", Passkey: passkey, Problem: pages.TooOld})
		},
		"codes": func(c *gin.Context) { p.Codes(c, nil, pages.Codes{Request: text, Codes: []string{text}}) },
		"own": func(c *gin.Context) {
			p.Own(c, pages.Own{
				Request: text, Username: text, Name: text, Email: text, Done: "factor", Codes: 10, Passkeys: true,
				Factors: []pages.OwnFactor{{ID: text, Type: "passkey", Name: text}}, Places: []pages.OwnPlace{{ID: text, What: text, Address: text, Current: true}},
				Sessions: []pages.OwnPlace{{ID: text, What: text, Address: text}}, Consents: []pages.OwnConsent{{ClientID: text, Name: text, Scopes: scopes}},
			})
		},
		"own profile": func(c *gin.Context) {
			p.OwnProfile(c, http.StatusOK, pages.OwnProfile{Request: text, Username: text, Email: text, Phone: text, Groups: text, Members: map[string]string{"name": text, "locale": text}, Wrong: "locale"})
		},
		"own password": func(c *gin.Context) {
			p.OwnPassword(c, http.StatusOK, pages.OwnPassword{Request: text, Username: text, Problem: pages.WrongPassword})
		},
		"own app": func(c *gin.Context) {
			p.OwnApp(c, http.StatusOK, pages.Enrol{Request: text, Enrolment: text, Secret: text, URI: "otpauth://totp/x"})
		},
		"own passkey": func(c *gin.Context) {
			p.OwnPasskey(c, http.StatusOK, pages.Enrol{Request: text, Passkey: passkey, Problem: pages.NewPasskey})
		},
		"logged out": func(c *gin.Context) { p.LoggedOut(c, nil) },
		"stayed":     func(c *gin.Context) { p.Stayed(c, nil, pages.Stayed{Username: text}) },
		"form_post": func(c *gin.Context) {
			p.FormPost(c, nil, pages.FormPost{Action: "https://example.com/cb", Params: [][2]string{{"state", text}}})
		},
		"error": func(c *gin.Context) {
			p.Error(c, http.StatusBadRequest, nil, pages.Error{Kind: pages.BadRequest, Code: text, Description: text})
		},
		"cookies": func(c *gin.Context) { p.Error(c, http.StatusBadRequest, nil, pages.Error{Kind: pages.Cookies}) },
		"stale":   func(c *gin.Context) { p.Error(c, http.StatusBadRequest, nil, pages.Error{Kind: pages.Stale}) },
		"away": func(c *gin.Context) {
			p.Error(c, http.StatusServiceUnavailable, nil, pages.Error{Kind: pages.Unavailable})
		},
		"foreign": func(c *gin.Context) { p.Error(c, http.StatusForbidden, nil, pages.Error{Kind: pages.Foreign}) },
		"forgotten": func(c *gin.Context) {
			p.Forgotten(c, http.StatusOK, pages.Asking{Recipient: text, Problem: pages.TooManyRequests})
		},
		"sign up": func(c *gin.Context) {
			p.SignUp(c, http.StatusOK, pages.Asking{Recipient: text, Problem: pages.NoEmail})
		},
		"reset": func(c *gin.Context) {
			p.Reset(c, http.StatusOK, pages.ByLink{Link: text, Username: text, Problem: pages.BadPassword})
		},
		"join": func(c *gin.Context) {
			p.Join(c, http.StatusOK, pages.ByLink{Link: text, Username: text, Email: text, Problem: pages.NameTaken})
		},
		"said":    func(c *gin.Context) { p.Say(c, http.StatusOK, pages.PasswordSet) },
		"link":    func(c *gin.Context) { p.Error(c, http.StatusGone, nil, pages.Error{Kind: pages.DeadLink}) },
		"no mail": func(c *gin.Context) { p.Error(c, http.StatusNotFound, nil, pages.Error{Kind: pages.NoMail}) },
		"nothing": func(c *gin.Context) { p.Error(c, http.StatusNotFound, nil, pages.Error{Kind: pages.NotFound}) },
	}
}

// shape is the elements of a page and the names of their attributes.
func shape(t testing.TB, page string) (list []string) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	check(t, err)
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		attrs := map[string]bool{}
		for _, a := range n.Attr {
			attrs[a.Key] = true
			if (a.Key == "href" || a.Key == "src" || a.Key == "action") && !strings.HasPrefix(a.Val, "https://") && !strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "otpauth://totp/") {
				t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
			}
		}
		list = append(list, n.Data+" "+strings.Join(slices.Sorted(maps.Keys(attrs)), " "))
	}
	return list
}

// Every page has what it needs in every language, and what others write into it makes no element and no attribute.
func TestPages(t *testing.T) {
	t.Parallel()
	p, err := pages.New(pages.Config{Issuer: "https://auth.example.com"})
	check(t, err)
	for name, harmless := range views(p, "x") {
		for _, language := range p.Languages() {
			w := show(t, language, harmless)
			body := w.Body.String()
			if w.Header().Get("Content-Language") != language || strings.Contains(body, "{") || !strings.Contains(body, "<h1>") || strings.Contains(body, "<h1></h1>") {
				t.Errorf("%s in %s: %s", name, language, body)
			}
		}
		want := shape(t, show(t, "en", harmless).Body.String())
		for _, evil := range []string{`"><script>alert(1)</script>`, `' onmouseover='x`, `</title><img src=x onerror=x>`, "{{.}}", "{client}", "<!--", "javascript:x"} {
			if got := shape(t, show(t, "en", views(p, evil)[name]).Body.String()); !slices.Equal(got, want) {
				t.Errorf("%s with %q:\n%q\n%q", name, evil, got, want)
			}
		}
	}
}

// scripts counts the script elements of a shape.
func scripts(shape []string) (n int) {
	for _, e := range shape {
		if strings.HasPrefix(e, "script ") {
			n++
		}
	}
	return n
}

func FuzzPages(f *testing.F) {
	p, err := pages.New(pages.Config{Issuer: "https://auth.example.com"})
	check(f, err)
	want := map[string][]string{}
	for name, v := range views(p, "x") {
		want[name] = shape(f, show(f, "en", v).Body.String())
	}
	f.Add(`"><b>`)
	f.Fuzz(func(t *testing.T, text string) {
		if text == "" { // what is empty is left out
			return
		}
		for name, v := range views(p, text) {
			got := shape(t, show(t, "en", v).Body.String())
			if name != "login" && name != "again" && name != "consent" && name != "native" && name != "account" && !slices.Equal(got, want[name]) {
				t.Errorf("%s with %q: %q, want %q", name, text, got, want[name])
			}
			if scripts(got) != scripts(want[name]) || slices.ContainsFunc(got, func(e string) bool { return strings.Contains(e, " on") }) {
				t.Errorf("%s with %q: %q", name, text, got)
			}
		}
	})
}

func TestBrand(t *testing.T) {
	t.Parallel()
	logo := filepath.Join(t.TempDir(), "logo.svg")
	check(t, os.WriteFile(logo, []byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`), 0o600))
	p, err := pages.New(pages.Config{Issuer: "https://example.com/auth", BrandName: "Corner & Co", BrandLogo: logo, BrandColor: "#fd0"})
	check(t, err)
	r := gin.New()
	p.Routes(r)
	body := show(t, "en", func(c *gin.Context) { p.LoggedOut(c, nil) }).Body.String()
	if !strings.Contains(body, "Corner &amp; Co") {
		t.Error(body)
	}
	for _, m := range regexp.MustCompile(`(?:href|src)="/auth(/static/[^"]+)"`).FindAllStringSubmatch(body, -1) {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, m[1], nil))
		if w.Code != http.StatusOK || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d %v", m[1], w.Code, w.Header())
		}
		head := httptest.NewRecorder()
		r.ServeHTTP(head, httptest.NewRequest(http.MethodHead, m[1], nil))
		if policy := head.Header().Get("Content-Security-Policy"); head.Code != http.StatusOK || policy != "default-src 'none'; sandbox" {
			t.Errorf("HEAD %s: %d, the policy is %q", m[1], head.Code, policy)
		}
		if strings.HasSuffix(m[1], ".css") && !strings.Contains(w.Body.String(), "--accent:#ffdd00;--on-accent:#111") {
			t.Error("the colour is not in the style, or its text cannot be read")
		}
	}
	for setting, cfg := range map[string]pages.Config{
		"SIGNET_BRAND_COLOR": {BrandColor: "red"}, "SIGNET_BRAND_LOGO": {BrandLogo: "logo.exe"}, "SIGNET_BRAND_LOGO: open": {BrandLogo: "/nowhere.svg"},
	} {
		if _, err := pages.New(cfg); err == nil || !strings.HasPrefix(err.Error(), setting) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
