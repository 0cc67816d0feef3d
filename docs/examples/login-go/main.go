// Shop is a web app whose users log in with Signet: authorization code, PKCE, OpenID Connect. Tokens stay on the server.
package main

import (
	"context"
	"errors"
	"html/template"
	"log"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

type app struct {
	ctx      context.Context // of calls to Signet: it has their timeout
	url      string
	signet   *signet
	sessions *sessions
}

func main() {
	a := &app{
		ctx: oidc.ClientContext(context.Background(), &http.Client{Timeout: 15 * time.Second}),
		url: os.Getenv("APP_URL"),
	}
	a.sessions = &sessions{byID: map[string]*session{}, secure: isHTTPS(a.url)}
	var err error
	if a.signet, err = discover(a.ctx, os.Getenv("ISSUER"), "shop", os.Getenv("CLIENT_SECRET"), a.url); err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.home)
	mux.HandleFunc("GET /login", a.login)
	mux.HandleFunc("GET /callback", a.callback)
	mux.HandleFunc("POST /logout", a.logoutPage)
	mux.Handle("GET /orders", a.loggedIn(a.orders))

	address, err := url.Parse(a.url)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Addr: address.Host, ReadHeaderTimeout: 5 * time.Second,
		Handler: http.NewCrossOriginProtection().Handler(mux), // no other site logs anybody out
	}
	log.Print("the shop is at ", a.url)
	log.Fatal(server.ListenAndServe())
}

// loggedIn lets only those through who are logged in, here and at Signet: when the access token has expired, Signet is asked
// for a new one, and says whether the session is still good.
func (a *app) loggedIn(next func(http.ResponseWriter, *http.Request, *session, *oauth2.Token)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := a.sessions.of(r)
		if s == nil {
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return
		}
		token, err := s.tokens.Token()
		if refused := (*oauth2.RetrieveError)(nil); errors.As(err, &refused) && refused.ErrorCode == "invalid_grant" {
			a.sessions.end(w, r) // logged out elsewhere, or by an administrator
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return
		}
		if err != nil {
			log.Print("a refresh failed: ", err)
			a.show(w, http.StatusServiceUnavailable, "Try again in a moment.")
			return
		}
		next(w, r, s, token)
	})
}

func (a *app) home(w http.ResponseWriter, r *http.Request) {
	if s := a.sessions.of(r); s != nil {
		a.show(w, http.StatusOK, "You are "+s.username+".")
		return
	}
	a.show(w, http.StatusOK, "You are not logged in.")
}

// orders shows what an API says, which is Signet's own userinfo endpoint here. Yours takes the access token the same way.
func (a *app) orders(w http.ResponseWriter, _ *http.Request, s *session, token *oauth2.Token) {
	about, err := a.signet.provider.UserInfo(a.ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		log.Print("userinfo: ", err)
		a.show(w, http.StatusBadGateway, "The API does not answer.")
		return
	}
	a.show(w, http.StatusOK, "The orders of "+s.username+", whom the API knows as "+about.Subject+".")
}

var page = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Shop</title>
<p>{{.}}</p>
<p><a href="/login">Log in</a> · <a href="/orders">Orders</a></p>
<form method="post" action="/logout"><button>Log out</button></form>
</html>
`))

func (a *app) show(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store") // it is for one user
	w.WriteHeader(status)
	_ = page.Execute(w, text)
}
