package console_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
	"github.com/pquerna/otp/totp"
	"golang.org/x/oauth2"

	"signet/clients"
	"signet/mail"
	"signet/users"
)

// Signet's own pages in a browser: what people see who log in, and who look after their account.

// postbox keeps the mails that are sent.
type postbox struct {
	mu   sync.Mutex
	last mail.Message
}

func (p *postbox) Send(_ context.Context, m mail.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = m
	return nil
}

// host makes the site's issuer one that passkeys can be made for, which an IP address is not.
func host(set *settings) { set.issuer = strings.Replace(set.issuer, "127.0.0.1", "localhost", 1) }

// visit goes to an address of the issuer.
func (b *tab) visit(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.s.issuer + path))
}

// scriptless turns scripts off.
func (b *tab) scriptless() {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}))
}

// shows waits until an element is there; unlike says it needs no script.
func (b *tab) shows(css string) {
	b.t.Helper()
	b.do(chromedp.WaitVisible(chromedp.CSS(css)))
}

// heading checks the heading of the page.
func (b *tab) heading(want string) {
	b.t.Helper()
	if got := b.text("h1"); got != want {
		b.check(fmt.Errorf("the page is %q, want %q", got, want))
	}
}

// secret returns the secret that the page shows for an authenticator app.
func (b *tab) secret() string {
	b.t.Helper()
	return strings.ReplaceAll(b.text("#secret"), " ", "")
}

// code is what an authenticator app shows some steps from now.
func code(t testing.TB, secret string, steps int) string {
	t.Helper()
	c, err := totp.GenerateCode(secret, time.Now().Add(time.Duration(steps)*30*time.Second))
	check(t, err)
	return c
}

// shopper registers a client whose redirect URI is a page of its own, and returns the address of a login on it.
func (s *site) shopper(t testing.TB) (login string) {
	t.Helper()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		q := r.URL.Query()
		fmt.Fprintf(w, `<!doctype html><title>Shop</title><h1>%s</h1>`, map[bool]string{true: "Welcome to the shop", false: q.Get("error")}[q.Has("code")])
	}))
	t.Cleanup(app.Close)
	s.app(t, "shop", func(c *clients.Client) {
		c.Name, c.Grants, c.RedirectURIs = "Shop", nil, []string{app.URL + "/callback"}
		c.Scope = clients.Scope{"openid", "profile", "email", "offline_access", "orders:read"}
		c.ClientURI, c.PolicyURI, c.TOSURI = "https://shop.example.com/", "https://shop.example.com/privacy", "https://shop.example.com/terms"
	})
	_, err := s.clients.DescribeScope(t.Context(), "orders:read", "see your orders and what you paid for them", origin)
	check(t, err)
	return "/authorize?" + url.Values{
		"response_type": {"code"}, "client_id": {"shop"}, "redirect_uri": {app.URL + "/callback"}, "scope": {"openid profile email orders:read"}, "state": {"x"},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(rand.Text() + rand.Text())}, "code_challenge_method": {"S256"},
	}.Encode()
}

// connect begins the login of a device, and returns the code that it shows.
func (s *site) connect(t testing.TB) (userCode string) {
	t.Helper()
	if _, err := s.clients.Get(t.Context(), "tv"); err != nil {
		s.app(t, "tv", func(c *clients.Client) {
			c.Name, c.AuthMethod, c.Grants, c.Scope = "Television", clients.None, []clients.Grant{clients.DeviceCode}, clients.Scope{"openid", "profile"}
		})
	}
	res, err := http.PostForm(s.url+"/device_authorization", url.Values{"client_id": {"tv"}})
	check(t, err)
	defer res.Body.Close()
	var answer struct {
		UserCode string `json:"user_code"`
	}
	check(t, json.NewDecoder(res.Body).Decode(&answer))
	return answer.UserCode
}

// Every page that people see can be used by everybody.
func TestPagesOfPeople(t *testing.T) {
	s := embedded(t, host, func(set *settings) { set.mailer, set.signUp = &postbox{}, users.SignUpOpen })
	s.user(t, "alice", false)
	login := s.shopper(t)
	b := s.tab(t)
	look := b.looker()

	b.visit(login)
	look("people-login")
	b.fill("username", "alice")
	b.fill("password", "a wrong one")
	b.press("Sign in")
	look("people-login-wrong")
	b.fill("password", password)
	b.press("Sign in")
	b.heading("Shop asks for access")
	look("people-consent")
	b.press("Do not allow")
	b.heading("access_denied")
	b.visit(login)
	b.press("Allow")
	b.heading("Welcome to the shop")
	b.visit(login + "&prompt=select_account")
	look("people-account")
	b.visit(strings.Replace(login, "callback", "elsewhere", 1))
	look("people-error")

	b.visit("/device")
	look("people-device")
	b.fill("user_code", "BCDF-GHJK")
	b.press("Continue")
	look("people-device-wrong")
	b.fill("user_code", strings.ToLower(strings.ReplaceAll(s.connect(t), "-", "")))
	b.press("Continue")
	look("people-device-asks")
	b.press("Allow")
	b.heading("The device is connected")
	look("people-device-done")

	b.visit("/me/")
	look("people-own-first")
	for _, p := range []string{"profile", "password", "passkey", "app"} {
		b.visit("/me/" + p)
		look("people-own-" + p)
	}
	secret := b.secret()
	b.fill("code", "000000")
	b.press("Continue")
	look("people-own-app-wrong")
	b.fill("code", code(t, secret, 0))
	b.press("Continue")
	b.heading("Your recovery codes")
	look("people-codes")
	b.press("I have kept them")
	look("people-own")

	b.visit("/logout")
	look("people-logout")
	b.press("Sign out")
	b.heading("You are signed out")
	look("people-logged-out")
	b.visit(login)
	b.fill("username", "alice")
	b.fill("password", password)
	b.press("Sign in")
	b.heading("One more step")
	look("people-factor")
	b.fill("code", "000000")
	b.press("Sign in")
	look("people-factor-wrong")
	b.fill("code", code(t, secret, 1))
	b.press("Sign in")
	b.heading("Welcome to the shop")

	b.visit("/forgotten")
	look("people-forgotten")
	b.fill("username", "alice")
	b.press("Send the link")
	look("people-forgotten-sent")
	b.visit("/sign-up")
	look("people-sign-up")
	b.visit("/reset?token=gone")
	look("people-link-gone")
}

// In no language is anything wider than a small phone, and each page says in which it is.
func TestLanguagesOnAPhone(t *testing.T) {
	s := embedded(t, host)
	s.user(t, "alice", false)
	login := s.shopper(t)
	for _, lang := range []string{"en", "de", "es", "fr", "zh"} {
		b := s.tab(t)
		b.dress("light", 360)
		address := login + "&prompt=consent&ui_locales=" + lang
		see := func(name string) {
			t.Helper()
			b.fits(lang + " " + name)
			b.picture("people-" + lang + "-" + name)
			if got := is[string](b, `document.documentElement.lang`); got != lang {
				t.Errorf("%s: the page is in %q, want %q", name, got, lang)
			}
		}
		b.visit(address)
		see("login")
		b.fill("username", "alice")
		b.fill("password", password)
		b.leave(chromedp.Click(chromedp.CSS(`form[action$="/login"] button`)))
		see("consent")
		b.leave(chromedp.Click(chromedp.CSS(`button[value="allow"]`)))
		b.heading("Welcome to the shop")
	}
}

// Without a script people log in, allow, add an authenticator app, use it, connect a device and log out.
func TestPeopleWithoutScript(t *testing.T) {
	s := embedded(t, host)
	s.user(t, "alice", false)
	login := s.shopper(t)
	b := s.tab(t)
	b.scriptless()
	b.visit(login)
	b.fill("username", "alice")
	b.fill("password", password)
	b.press("Sign in")
	b.press("Allow")
	b.heading("Welcome to the shop")
	b.visit("/me/passkey")
	b.shows("noscript")
	b.visit("/me/app")
	secret := b.secret()
	b.fill("code", code(t, secret, 0))
	b.press("Continue")
	recovery := b.text("ul.codes li code")
	b.press("I have kept them")
	b.visit("/logout")
	b.press("Sign out")
	b.heading("You are signed out")
	b.visit("/device?user_code=" + s.connect(t))
	b.press("Continue")
	b.fill("username", "alice")
	b.fill("password", password)
	b.press("Sign in")
	b.heading("One more step")
	b.fill("code", recovery)
	b.press("Sign in")
	b.press("Allow")
	b.heading("The device is connected")
}

// With the keyboard alone, on a phone's screen, from the first page to the app, with a second step on the way.
func TestPeopleWithTheKeyboardAlone(t *testing.T) {
	s := embedded(t, host)
	s.user(t, "alice", false)
	login := s.shopper(t)
	b := s.tab(t)
	b.dress("light", 360)
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error { // of the tabs of all tests, one has the focus
		_, err := cdp.Call(ctx, target, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
		return err
	}))
	typed := func(text string) {
		t.Helper()
		b.do(chromedp.KeyEvent(text))
	}
	enter := func() {
		t.Helper()
		b.leave(chromedp.KeyEvent("\r"))
	}
	b.visit("/me/app")
	typed("alice") // the cursor is where the name goes
	typed("\t" + password)
	enter()
	secret := b.secret()
	b.do(chromedp.Focus(chromedp.ID("code")))
	typed(code(t, secret, 0))
	enter()
	b.heading("Your recovery codes")
	b.visit("/logout")
	typed("\t")
	enter()
	b.heading("You are signed out")
	b.visit(login)
	typed("alice\t" + password)
	enter()
	b.heading("One more step")
	typed(code(t, secret, 1))
	enter()
	b.heading("Shop asks for access")
	typed("\t")
	enter()
	b.heading("Welcome to the shop")
}

// authenticator gives the tab an authenticator for passkeys, such as a phone's, and returns what sets whether it knows its user, and
// whether it is touched as soon as a page asks.
func (b *tab) authenticator() (set func(verified, touched bool)) {
	b.t.Helper()
	var id webauthn.AuthenticatorID
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		if _, err := cdp.Call(ctx, target, webauthn.Enable, webauthn.EnableParams{}); err != nil {
			return err
		}
		added, err := cdp.Call(ctx, target, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal,
			HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
		}})
		id = added.AuthenticatorID
		return err
	}))
	return func(verified, touched bool) {
		b.t.Helper()
		b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			if _, err := cdp.Call(ctx, target, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: id, IsUserVerified: verified}); err != nil {
				return err
			}
			_, err := cdp.Call(ctx, target, webauthn.SetAutomaticPresenceSimulation, webauthn.SetAutomaticPresenceSimulationParams{AuthenticatorID: id, Enabled: touched})
			return err
		}))
	}
}

// Somebody adds a passkey, logs in with it alone, loses it, gets back in with a recovery code and removes it.
func TestPasskeysInABrowser(t *testing.T) {
	s := embedded(t, host)
	s.user(t, "alice", false)
	login := s.shopper(t)
	b := s.tab(t)
	set := b.authenticator()
	b.dress("light", 360)

	b.visit("/me/passkey")
	b.fill("username", "alice")
	b.fill("password", password)
	b.press("Sign in")
	b.heading("Add a passkey")
	b.fill("name", "My phone")
	set(false, true)
	b.do(chromedp.Click(chromedp.CSS(`button[data-passkey]`)))
	b.says("The passkey could not be added.")
	b.picture("people-passkey-refused")
	set(true, true)
	b.leave(chromedp.Click(chromedp.CSS(`button[data-passkey]`)))
	b.heading("Your recovery codes")
	recovery := b.text("ul.codes li code")
	b.press("I have kept them")
	b.says("My phone")
	b.picture("people-own-passkey-added")

	// Instead of the password: by the button, or chosen where the browser offers it in the field of the name.
	b.visit("/logout")
	b.press("Sign out")
	set(true, false)
	b.visit(login + "&acr_values=aal2")
	b.heading("Sign in")
	b.shows(`button[data-passkey]`)
	b.picture("people-login-passkey")
	set(true, true)
	b.visit("/me/")
	b.shows("#factors")
	b.visit("/logout")
	b.press("Sign out")
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
			Source: `PublicKeyCredential.isConditionalMediationAvailable = async () => false`, // from here on the browser offers nothing
		})
		return err
	}))
	b.visit(login + "&acr_values=aal2")
	b.leave(chromedp.Click(chromedp.CSS(`button[data-passkey]`)))
	b.heading("Shop asks for access")
	b.press("Allow")
	b.heading("Welcome to the shop")

	// Behind the password, where Enter in the field sends what was typed, and asks for no passkey.
	b.visit("/logout")
	b.press("Sign out")
	b.visit(login)
	b.fill("username", "alice")
	b.fill("password", password)
	b.press("Sign in")
	b.heading("One more step")
	b.picture("people-factor-passkey")
	b.fill("code", "not a code")
	b.leave(chromedp.KeyEvent("\r"))
	b.says("This code cannot be used.")
	b.leave(chromedp.Click(chromedp.CSS(`button[data-passkey]`)))
	b.heading("Welcome to the shop")

	// Lost: a recovery code, and the passkey is removed.
	b.visit("/logout")
	b.press("Sign out")
	b.visit("/me/")
	b.fill("username", "alice")
	b.fill("password", password)
	b.press("Sign in")
	b.fill("code", recovery)
	b.press("Sign in")
	b.heading("Your account")
	b.says("9 left")
	b.leave(chromedp.Click(chromedp.CSS(`button[aria-label="Remove My phone"]`)))
	b.says("It is removed.")
	b.visit("/logout")
	b.press("Sign out")
	b.visit(login)
	b.leave(chromedp.Click(chromedp.CSS(`button[data-passkey]`)))
	b.says("That did not work with the passkey.")
	b.fill("username", "alice")
	b.fill("password", password)
	b.press("Sign in")
	b.heading("Welcome to the shop")
}
