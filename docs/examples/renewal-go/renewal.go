package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/oauth2"
)

// The cookies are this app's own. The refresh token goes nowhere but to this server.
const (
	accessCookie  = "access_token"
	refreshCookie = "refresh_token"
)

type sessions struct {
	issuer string
	client oauth2.Config
	keys   keyfunc.Keyfunc
	parser *jwt.Parser
}

// authenticated lets through who is logged in. Where the access token has expired and the refresh token lives, it renews both
// in one call, and the request goes on as if nothing had been.
func (s *sessions) authenticated(next func(w http.ResponseWriter, r *http.Request, user string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store") // neither tokens nor what they open are for caches
		access, _ := r.Cookie(accessCookie)
		user, err := s.verify(r.Context(), access)
		if err != nil {
			user, err = s.renew(w, r)
		}
		if err != nil {
			s.refuse(w, err)
			return
		}
		next(w, r, user)
	}
}

var errLoggedOut = errors.New("nobody is logged in")

// verify returns whose token it is.
func (s *sessions) verify(ctx context.Context, cookie *http.Cookie) (user string, err error) {
	if cookie == nil {
		return "", errLoggedOut
	}
	var claims jwt.RegisteredClaims
	token, err := s.parser.ParseWithClaims(cookie.Value, &claims, s.keys.KeyfuncCtx(ctx))
	if err == nil && token.Header["typ"] != "at+jwt" {
		err = errLoggedOut
	}
	return claims.Subject, err
}

// renew needs no lock: requests that come at once, on however many servers, all get the same new refresh token from Signet.
func (s *sessions) renew(w http.ResponseWriter, r *http.Request) (user string, err error) {
	refresh, err := r.Cookie(refreshCookie)
	if err != nil {
		return "", errLoggedOut
	}
	// Not r.Context(): once Signet has begun, a browser that goes away should not keep this server from the answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 10*time.Second)
	defer cancel()
	token, err := s.client.TokenSource(ctx, &oauth2.Token{RefreshToken: refresh.Value}).Token()
	if err != nil {
		return "", err
	}
	s.set(w, token)
	return s.verify(ctx, &http.Cookie{Value: token.AccessToken})
}

// refuse tells a session that has ended from an auth server that cannot answer now: only the former clears the cookies.
func (s *sessions) refuse(w http.ResponseWriter, err error) {
	var refused *oauth2.RetrieveError
	if errors.Is(err, errLoggedOut) || errors.As(err, &refused) && refused.ErrorCode == "invalid_grant" {
		s.clear(w)
		http.Error(w, "log in first", http.StatusUnauthorized)
		return
	}
	w.Header().Set("Retry-After", "2")
	http.Error(w, "try again", http.StatusServiceUnavailable)
}

func (s *sessions) set(w http.ResponseWriter, token *oauth2.Token) {
	s.setCookie(w, accessCookie, token.AccessToken, time.Until(token.Expiry))
	s.setCookie(w, refreshCookie, token.RefreshToken, 30*24*time.Hour) // Signet knows better when it ends
}

func (s *sessions) clear(w http.ResponseWriter) {
	s.setCookie(w, accessCookie, "", -time.Second)
	s.setCookie(w, refreshCookie, "", -time.Second)
}

func (s *sessions) setCookie(w http.ResponseWriter, name, value string, life time.Duration) {
	maxAge := int(life.Seconds())
	if maxAge == 0 {
		maxAge = -1 // 0 would be for as long as the browser runs
	}
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: strings.HasPrefix(s.issuer, "https:"),
	})
}
