package interop

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

func TestOAuth2(t *testing.T) {
	t.Parallel()
	s := start(t, "ES256")
	ctx := t.Context()
	conf := &oauth2.Config{
		ClientID:     s.clientID,
		ClientSecret: s.secret,
		Endpoint:     oauth2.Endpoint{TokenURL: s.url + "/token"},
		Scopes:       []string{"read"},
	}
	isError := func(err error, status int, code string) {
		t.Helper()
		var refusal *oauth2.RetrieveError
		if !errors.As(err, &refusal) || refusal.Response.StatusCode != status || refusal.ErrorCode != code || refusal.ErrorDescription == "" {
			t.Errorf("%v; want %d %s", err, status, code)
		}
	}
	// stale is the token as it will be when its life is over.
	stale := func(token *oauth2.Token) *oauth2.Token {
		old := *token
		old.Expiry = time.Now().Add(-time.Second)
		return &old
	}

	// However the client authenticates: found out by trial, in the header, in the body.
	for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleAutoDetect, oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
		conf := *conf
		conf.Endpoint.AuthStyle = style
		token, err := conf.PasswordCredentialsToken(ctx, username, password)
		check(t, err)
		if !token.Valid() || token.Type() != "Bearer" || token.RefreshToken == "" || token.Extra("scope") != "read" ||
			time.Until(token.Expiry).Round(time.Minute) != 15*time.Minute || !s.active(t, token.AccessToken) {
			t.Errorf("style %v: %+v", style, token)
		}
		_, err = conf.PasswordCredentialsToken(ctx, username, "wrong password")
		isError(err, http.StatusBadRequest, "invalid_grant")
		wrong := conf
		wrong.ClientSecret = "sgs_wrong"
		_, err = wrong.PasswordCredentialsToken(ctx, username, password)
		isError(err, http.StatusUnauthorized, "invalid_client")
	}

	token, err := conf.PasswordCredentialsToken(ctx, username, password)
	check(t, err)

	// A source refreshes once, when it has to, however many ask it; and an HTTP client sends what it has.
	source := conf.TokenSource(ctx, stale(token))
	var sources sync.WaitGroup
	for range 8 {
		sources.Go(func() {
			if _, err := source.Token(); err != nil {
				t.Error(err)
			}
		})
	}
	sources.Wait()
	second, err := source.Token()
	check(t, err)
	if second.AccessToken == token.AccessToken || second.RefreshToken == token.RefreshToken || !s.active(t, second.RefreshToken) || s.active(t, token.RefreshToken) {
		t.Errorf("a refresh made %+v of %+v", second, token)
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+second.AccessToken {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer api.Close()
	res, err := oauth2.NewClient(ctx, source).Get(api.URL)
	check(t, err)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Error("the client does not send its token")
	}

	// A program that runs twice has two sources of one token. Both go on, with the same refresh token.
	twin := func() *oauth2.Token {
		t.Helper()
		got, err := conf.TokenSource(ctx, stale(second)).Token()
		check(t, err)
		return got
	}
	if a, b := twin(), twin(); a.RefreshToken != b.RefreshToken || !s.active(t, a.AccessToken) || !s.active(t, b.AccessToken) {
		t.Errorf("two sources of one token got %+v and %+v", a, b)
	}

	// A token of two generations ago is theft, and what is left of the session is told so.
	_, err = conf.TokenSource(ctx, stale(token)).Token()
	isError(err, http.StatusBadRequest, "invalid_grant")
	if s.active(t, second.AccessToken) {
		t.Error("the session outlives the theft")
	}
}

func TestOAuth2ClientCredentials(t *testing.T) {
	t.Parallel()
	s := start(t, "ES256")
	conf := &clientcredentials.Config{
		ClientID:       s.clientID,
		ClientSecret:   s.secret,
		TokenURL:       s.url + "/token",
		Scopes:         []string{"write"},
		EndpointParams: url.Values{"resource": {audience}},
	}
	token, err := conf.Token(t.Context())
	check(t, err)
	got := claims(t, token.AccessToken)
	if got["sub"] != s.clientID || got["aud"] != audience || got["scope"] != "write" || token.RefreshToken != "" || !s.active(t, token.AccessToken) {
		t.Errorf("%+v: %v", token, got)
	}
	conf.Scopes = []string{"everything"}
	var refusal *oauth2.RetrieveError
	if _, err := conf.Token(context.Background()); !errors.As(err, &refusal) || refusal.ErrorCode != "invalid_scope" {
		t.Errorf("a scope that is not the client's: %v", err)
	}
}
