// Shop is a web app with a server of its own, which is a client of Signet. It keeps the tokens of its users in cookies, and
// renews them in passing: see renewal.go.
package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"sync"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/oauth2"
)

const page = `<!doctype html><title>Shop</title><link rel="icon" href="data:,">
<form action="/login" method="post">
	<input name="username" placeholder="Name"> <input name="password" type="password" placeholder="Password"> <button>Log in</button>
</form>
<form action="/orders" method="post"><input name="item" placeholder="Item"> <button>Order</button></form>
<form action="/logout" method="post"><a href="/orders">My orders</a> <button>Log out</button></form>`

func main() {
	issuer := os.Getenv("ISSUER")
	keys, err := keyfunc.NewDefault([]string{issuer + "/.well-known/jwks.json"})
	if err != nil {
		log.Fatal(err)
	}
	s := &sessions{
		issuer: issuer,
		client: oauth2.Config{ClientID: "shop", ClientSecret: os.Getenv("CLIENT_SECRET"), Endpoint: oauth2.Endpoint{
			TokenURL: issuer + "/token", AuthStyle: oauth2.AuthStyleInHeader,
		}},
		keys: keys,
		parser: jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(issuer),
			jwt.WithAudience("https://shop.example.com"), jwt.WithExpirationRequired()),
	}
	orders := &orders{items: map[string][]string{}}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, page)
	})
	mux.HandleFunc("POST /login", s.logIn)
	mux.HandleFunc("POST /logout", s.logOut)
	mux.HandleFunc("GET /orders", s.authenticated(orders.list))
	mux.HandleFunc("POST /orders", s.authenticated(orders.add))
	// Browsers send cookies whichever page calls: what changes something has to come from the shop's own.
	protected := http.NewCrossOriginProtection().Handler(mux)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("APP_PORT"), protected))
}

// logIn begins a session.
func (s *sessions) logIn(w http.ResponseWriter, r *http.Request) {
	token, err := s.client.PasswordCredentialsToken(r.Context(), r.PostFormValue("username"), r.PostFormValue("password"))
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.set(w, token)
	http.Redirect(w, r, "/orders", http.StatusSeeOther)
}

// logOut ends it, here and at Signet.
func (s *sessions) logOut(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(refreshCookie); err == nil {
		form := url.Values{"token": {cookie.Value}, "client_id": {s.client.ClientID}, "client_secret": {s.client.ClientSecret}}
		res, err := http.PostForm(s.issuer+"/revoke", form)
		if err == nil {
			defer res.Body.Close()
		}
		if err != nil || res.StatusCode != http.StatusOK {
			http.Error(w, "you are not logged out: try again", http.StatusServiceUnavailable)
			return
		}
	}
	s.clear(w)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// orders is what users have ordered, by their ids.
type orders struct {
	mu    sync.Mutex
	items map[string][]string
}

func (o *orders) list(w http.ResponseWriter, _ *http.Request, user string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(append([]string{}, o.items[user]...))
}

func (o *orders) add(w http.ResponseWriter, r *http.Request, user string) {
	o.mu.Lock()
	o.items[user] = append(o.items[user], r.PostFormValue("item"))
	o.mu.Unlock()
	o.list(w, r, user)
}
