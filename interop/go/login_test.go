package interop

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/zitadel/oidc/v3/pkg/client/rp"
	httphelper "github.com/zitadel/oidc/v3/pkg/http"
	zitadel "github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/oauth2"
)

const (
	callback = "http://127.0.0.1:1/callback" // where nobody listens: the browser stops before it
	home     = "http://127.0.0.1:1/"
)

// register registers a client.
func (s *signet) register(t *testing.T, flags ...string) (id, secret string) {
	t.Helper()
	var made struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	check(t, json.Unmarshal(s.run(t, "", append([]string{"client", "create", "-o", "json"}, flags...)...), &made))
	return made.ID, made.Secret
}

func TestLoginWithGoOIDC(t *testing.T) {
	t.Parallel()
	s, ctx := start(t, "ES256"), t.Context()
	id, secret := s.register(t, "--name", "Shop", "--redirect-uri", callback, "--post-logout-redirect-uri", home)
	provider, err := oidc.NewProvider(ctx, s.url)
	check(t, err)
	conf := &oauth2.Config{
		ClientID: id, ClientSecret: secret, Endpoint: provider.Endpoint(), RedirectURL: callback,
		Scopes: []string{oidc.ScopeOpenID, "profile", oidc.ScopeOfflineAccess},
	}
	b := newBrowser(t, callback)
	verifier := oauth2.GenerateVerifier()
	answer := b.logIn(t, conf.AuthCodeURL("the state", oidc.Nonce("the nonce"), oauth2.S256ChallengeOption(verifier))).url.Query()
	if answer.Get("state") != "the state" || answer.Get("iss") != s.url {
		t.Fatalf("the answer: %v", answer)
	}
	token, err := conf.Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(verifier))
	check(t, err)
	raw, _ := token.Extra("id_token").(string)
	idToken, err := provider.Verifier(&oidc.Config{ClientID: id}).Verify(ctx, raw)
	check(t, err)
	check(t, idToken.VerifyAccessToken(token.AccessToken)) // the at_hash
	if idToken.Nonce != "the nonce" {
		t.Errorf("nonce %q", idToken.Nonce)
	}
	info, err := provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
	check(t, err)
	var profile struct {
		Name string `json:"preferred_username"`
	}
	check(t, info.Claims(&profile))
	if info.Subject != idToken.Subject || profile.Name != username {
		t.Errorf("userinfo of %s: %+v, the ID token is %s's", info.Subject, profile, idToken.Subject)
	}

	// A refresh has an ID token of the same login.
	token.Expiry = time.Now().Add(-time.Second)
	refreshed, err := conf.TokenSource(ctx, token).Token()
	check(t, err)
	raw, _ = refreshed.Extra("id_token").(string)
	again, err := provider.Verifier(&oidc.Config{ClientID: id}).Verify(ctx, raw)
	check(t, err)
	if again.Subject != idToken.Subject {
		t.Errorf("the subject is %s, and was %s", again.Subject, idToken.Subject)
	}

	// Logged out, the browser is sent home.
	var ends struct {
		EndSession string `json:"end_session_endpoint"`
	}
	check(t, provider.Claims(&ends))
	bye := newBrowser(t, home)
	bye.client.Jar = b.client.Jar
	out := bye.open(t, ends.EndSession+"?"+url.Values{"id_token_hint": {raw}, "post_logout_redirect_uri": {home}}.Encode())
	if out.url.String() != home {
		t.Errorf("the log-out leads to %s: %s", out.url, out.body)
	}
	silent := b.open(t, conf.AuthCodeURL("x", oauth2.SetAuthURLParam("prompt", "none"), oauth2.S256ChallengeOption(verifier))).url.Query()
	if silent.Get("error") != "login_required" {
		t.Errorf("after the log-out: %v", silent)
	}
}

func TestDeviceFlowOfXOAuth2(t *testing.T) {
	t.Parallel()
	s, ctx := start(t, "ES256"), t.Context()
	id, _ := s.register(t, "--name", "Television", "--public", "--grant", "device_code", "--grant", "refresh_token", "--scope", "openid profile")
	provider, err := oidc.NewProvider(ctx, s.url)
	check(t, err)
	conf := &oauth2.Config{ClientID: id, Endpoint: provider.Endpoint(), Scopes: []string{"openid", "profile"}}
	device, err := conf.DeviceAuth(ctx)
	check(t, err)
	device.Interval = 1
	approved := make(chan struct{})
	go func() {
		defer close(approved)
		b := newBrowser(t, "")
		p := b.open(t, device.VerificationURIComplete) // which fills in the code
		if p = b.obey(t, b.submit(t, p)); p.status != http.StatusOK {
			t.Errorf("%d %s", p.status, p.body)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	token, err := conf.DeviceAccessToken(ctx, device)
	<-approved
	check(t, err)
	raw, _ := token.Extra("id_token").(string)
	_, err = provider.Verifier(&oidc.Config{ClientID: id}).Verify(ctx, raw)
	check(t, err)
}

func TestLoginWithZitadelRP(t *testing.T) {
	t.Parallel()
	s, ctx := start(t, "ES256"), t.Context()
	mux := http.NewServeMux()
	app := httptest.NewServer(mux)
	t.Cleanup(app.Close)
	id, secret := s.register(t, "--name", "Zitadel", "--redirect-uri", app.URL+"/callback", "--post-logout-redirect-uri", app.URL+"/bye")
	cookies := httphelper.NewCookieHandler([]byte("a key of 32 bytes for signatures"), []byte("a key of 32 bytes for encryption")[:32], httphelper.WithUnsecure())
	party, err := rp.NewRelyingPartyOIDC(ctx, s.url, id, secret, app.URL+"/callback", []string{"openid", "profile", "offline_access"},
		rp.WithCookieHandler(cookies), rp.WithPKCE(cookies))
	check(t, err)
	mux.Handle("/login", rp.AuthURLHandler(func() string { return "the state" }, party))
	got := make(chan *zitadel.Tokens[*zitadel.IDTokenClaims], 1)
	mux.Handle("/callback", rp.CodeExchangeHandler(rp.UserinfoCallback(
		func(w http.ResponseWriter, _ *http.Request, tokens *zitadel.Tokens[*zitadel.IDTokenClaims], _ string, _ rp.RelyingParty, info *zitadel.UserInfo) {
			got <- tokens
			_, _ = w.Write([]byte("hello " + info.PreferredUsername))
		}), party))
	mux.HandleFunc("/bye", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("bye")) })

	b := newBrowser(t, "")
	if p := b.logIn(t, app.URL+"/login"); p.body != "hello "+username {
		t.Fatalf("%d %s", p.status, p.body)
	}
	tokens := <-got
	refreshed, err := rp.RefreshTokens[*zitadel.IDTokenClaims](ctx, party, tokens.RefreshToken, "", "")
	check(t, err)
	if refreshed.IDTokenClaims.Subject != tokens.IDTokenClaims.Subject {
		t.Errorf("the subject is %s, and was %s", refreshed.IDTokenClaims.Subject, tokens.IDTokenClaims.Subject)
	}
	next, err := rp.EndSession(context.WithoutCancel(ctx), party, refreshed.IDToken, app.URL+"/bye", "the state", "", nil)
	check(t, err)
	if p := b.open(t, next.String()); p.body != "bye" {
		t.Errorf("the log-out leads to %s: %d %s", next, p.status, p.body)
	}
}
