package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/rs/cors"
)

// audience is this API's name: it takes no token that was issued for another one.
const audience = "https://notes.example.com"

type api struct {
	app    string // the origin of the web app
	keys   keyfunc.Keyfunc
	parser *jwt.Parser

	mu    sync.Mutex
	notes map[string][]string // by user id
}

// newAPI makes the API: GET and POST /notes, for scripts of the app, and for programs that send the token in a header.
func newAPI(issuer, app string) (http.Handler, error) {
	keys, err := keyfunc.NewDefault([]string{issuer + "/.well-known/jwks.json"})
	if err != nil {
		return nil, err
	}
	a := &api{app: app, keys: keys, notes: map[string][]string{}, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(issuer), jwt.WithAudience(audience), jwt.WithExpirationRequired(),
	)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /notes", a.authenticate(a.list))
	mux.HandleFunc("POST /notes", a.authenticate(a.add))
	// The app's origin alone may read the answers to calls with cookies.
	return cors.New(cors.Options{
		AllowedOrigins: []string{app}, AllowCredentials: true,
		AllowedMethods: []string{"GET", "POST"}, AllowedHeaders: []string{"Content-Type"},
	}).Handler(mux), nil
}

type claims struct {
	jwt.RegisteredClaims

	Scope string `json:"scope"`
}

// authenticate lets through who shows a good access token, in the Authorization header or in Signet's cookie.
func (a *api) authenticate(next func(w http.ResponseWriter, r *http.Request, user string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		raw, byCookie, err := accessToken(r)
		var claims claims
		if err == nil {
			var token *jwt.Token
			token, err = a.parser.ParseWithClaims(raw, &claims, a.keys.KeyfuncCtx(r.Context()))
			if err == nil && token.Header["typ"] != "at+jwt" {
				err = errors.New("this is no access token")
			}
		}
		switch {
		case err != nil:
			w.Header().Set("WWW-Authenticate", "Bearer")
			answer(w, http.StatusUnauthorized, map[string]string{"error": "log in, or renew your token"})
		case !slices.Contains(strings.Fields(claims.Scope), "notes"):
			answer(w, http.StatusForbidden, map[string]string{"error": "the token does not allow notes"})
		// Browsers send cookies whichever page calls. What changes something has to come from the app's own.
		case byCookie && r.Method != http.MethodGet && r.Header.Get("Origin") != a.app:
			answer(w, http.StatusForbidden, map[string]string{"error": "the call comes from another site"})
		default:
			next(w, r, claims.Subject)
		}
	}
}

func accessToken(r *http.Request) (token string, byCookie bool, err error) {
	if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		return token, false, nil
	}
	cookie, err := r.Cookie("signet_at")
	if err != nil {
		return "", false, err
	}
	return cookie.Value, true, nil
}

func (a *api) list(w http.ResponseWriter, _ *http.Request, user string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	answer(w, http.StatusOK, append([]string{}, a.notes[user]...))
}

func (a *api) add(w http.ResponseWriter, r *http.Request, user string) {
	var note struct {
		Text string `json:"text"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&note); err != nil || note.Text == "" {
		answer(w, http.StatusBadRequest, map[string]string{"error": "a note needs a text"})
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.notes[user] = append(a.notes[user], note.Text)
	answer(w, http.StatusCreated, note)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // it is about one user
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
