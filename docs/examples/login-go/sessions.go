package main

import (
	"crypto/rand"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

// session is somebody who is logged in to this app. The browser knows nothing of it but an id.
type session struct {
	username string
	idToken  string             // what the log-out shows to Signet
	tokens   oauth2.TokenSource // refreshes the access token when that is due, once for all requests that wait for it
}

// lifetime is how long a session may be kept; Signet may end it sooner.
const lifetime = 12 * time.Hour

// sessions is where they are kept: in memory, so that a restart forgets them, and the next click logs in again without a
// password. Several replicas of an app keep them in a database.
type sessions struct {
	mu     sync.Mutex
	byID   map[string]*session
	secure bool // the app is served by https
}

// begin keeps a session under a new id, whatever id the browser had before.
func (all *sessions) begin(w http.ResponseWriter, s *session) {
	id := rand.Text()
	all.mu.Lock()
	all.byID[id] = s
	all.mu.Unlock()
	time.AfterFunc(lifetime, func() { all.forget(id) })
	all.setCookie(w, "shop_session", id, "/", lifetime)
}

// of returns the session that a request belongs to, or nil.
func (all *sessions) of(r *http.Request) *session {
	cookie, err := r.Cookie("shop_session")
	if err != nil {
		return nil
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.byID[cookie.Value]
}

// end forgets the session of a request, and returns what it was, or nil.
func (all *sessions) end(w http.ResponseWriter, r *http.Request) *session {
	s := all.of(r)
	if cookie, err := r.Cookie("shop_session"); err == nil {
		all.forget(cookie.Value)
	}
	all.setCookie(w, "shop_session", "", "/", -time.Second)
	return s
}

func (all *sessions) forget(id string) {
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.byID, id)
}

// setCookie sets one that no script can read, and that comes along when Signet sends the browser back here (Lax).
func (all *sessions) setCookie(w http.ResponseWriter, name, value, path string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: path, MaxAge: int(life.Seconds()),
		HttpOnly: true, Secure: all.secure, SameSite: http.SameSiteLaxMode,
	})
}

func isHTTPS(address string) bool { return strings.HasPrefix(address, "https:") }
