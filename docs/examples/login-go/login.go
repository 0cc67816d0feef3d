package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// signet is what this app knows of the auth server.
type signet struct {
	issuer   string
	config   oauth2.Config
	verifier *oidc.IDTokenVerifier
	provider *oidc.Provider
	logout   string // its end_session_endpoint
}

// discover asks the server where its endpoints and keys are.
func discover(ctx context.Context, issuer, clientID, secret, app string) (*signet, error) {
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return nil, err
	}
	var more struct {
		EndSession string `json:"end_session_endpoint"`
	}
	if err := provider.Claims(&more); err != nil {
		return nil, err
	}
	endpoint := provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	return &signet{
		issuer: issuer, provider: provider, logout: more.EndSession,
		config: oauth2.Config{
			ClientID: clientID, ClientSecret: secret, Endpoint: endpoint,
			RedirectURL: app + "/callback", Scopes: []string{oidc.ScopeOpenID, "profile"},
		},
		verifier: provider.Verifier(&oidc.Config{ClientID: clientID}),
	}, nil
}

// login sends the browser to Signet. What the answer has to fit to is kept in a cookie, one for each login that has begun, so
// that two tabs do not get into each other's way.
func (a *app) login(w http.ResponseWriter, r *http.Request) {
	state, nonce, verifier := rand.Text(), rand.Text(), oauth2.GenerateVerifier()
	a.sessions.setCookie(w, "shop_login_"+state, nonce+"."+verifier, "/callback", 10*time.Minute)
	http.Redirect(w, r, a.signet.config.AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier)), http.StatusSeeOther)
}

// callback is where Signet sends the browser back to, with a code.
func (a *app) callback(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	begun, err := r.Cookie("shop_login_" + q.Get("state"))
	if err != nil || q.Get("iss") != a.signet.issuer {
		if a.sessions.of(r) != nil { // back by the browser's button, with an answer that nobody waits for any more
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
		a.show(w, http.StatusBadRequest, "This login has not begun in this browser, or too long ago. Try again.")
		return
	}
	a.sessions.setCookie(w, begun.Name, "", "/callback", -time.Second)
	if q.Has("error") { // access_denied: the user does not want to
		a.show(w, http.StatusForbidden, "You are not logged in: "+q.Get("error")+".")
		return
	}
	nonce, verifier, _ := strings.Cut(begun.Value, ".")
	s, err := a.signet.redeem(a.ctx, q.Get("code"), nonce, verifier)
	if err != nil {
		log.Print("a login failed: ", err)
		a.show(w, http.StatusBadGateway, "The login did not work. Try again.")
		return
	}
	a.sessions.begin(w, s)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// redeem trades the code for tokens, and reads from the ID token who has logged in. The context outlives the request: it is
// that of later refreshes too.
func (s *signet) redeem(ctx context.Context, code, nonce, verifier string) (*session, error) {
	tokens, err := s.config.Exchange(ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		return nil, err
	}
	raw, _ := tokens.Extra("id_token").(string)
	idToken, err := s.verifier.Verify(ctx, raw)
	if err != nil {
		return nil, err
	}
	if idToken.Nonce != nonce {
		return nil, errors.New("the ID token is of another login")
	}
	var user struct {
		Username string `json:"preferred_username"`
	}
	if err := idToken.Claims(&user); err != nil {
		return nil, err
	}
	return &session{username: user.Username, idToken: raw, tokens: s.config.TokenSource(ctx, tokens)}, nil
}

// logoutPage ends the session here, and sends the browser to Signet to end the login there. Else the next click on "Log in"
// would log in again at once.
func (a *app) logoutPage(w http.ResponseWriter, r *http.Request) {
	q := url.Values{"client_id": {a.signet.config.ClientID}, "post_logout_redirect_uri": {a.url + "/"}}
	if s := a.sessions.end(w, r); s != nil {
		q.Set("id_token_hint", s.idToken)
	}
	http.Redirect(w, r, a.signet.logout+"?"+q.Encode(), http.StatusSeeOther)
}
