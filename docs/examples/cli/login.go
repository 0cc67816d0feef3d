package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/oauth2"
)

// authorize has the user log in with the browser, and waits at a port of this machine for the code that the browser brings
// back (RFC 8252 section 7.3). Any port will do: the client is registered with http://127.0.0.1/callback.
func authorize(ctx context.Context, config *oauth2.Config, server string) (*oauth2.Token, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	config.RedirectURL = "http://" + listener.Addr().String() + "/callback"
	state, verifier := rand.Text(), oauth2.GenerateVerifier()

	type answer struct {
		code string
		err  error
	}
	answers := make(chan answer, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("state") != state || q.Get("iss") != server {
			http.Error(w, "This is not the answer that whoami waits for.", http.StatusBadRequest)
			return // it was not asked for: the real one may still come
		}
		a := answer{code: q.Get("code")}
		if refused := q.Get("error"); refused != "" {
			a.err = fmt.Errorf("%s: %s", refused, q.Get("error_description"))
		}
		fmt.Fprintln(w, "Back to the terminal: you can close this window.")
		select {
		case answers <- a:
		default: // the page was loaded again
		}
	})
	callback := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = callback.Serve(listener) }()
	defer func() { _ = callback.Shutdown(ctx) }() // which lets the page be sent

	address := config.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier))
	fmt.Fprintf(os.Stderr, "Log in with your browser. If none opens, open this yourself:\n%s\n", address)
	open(address)
	select {
	case a := <-answers:
		if a.err != nil {
			return nil, a.err
		}
		return config.Exchange(ctx, a.code, oauth2.VerifierOption(verifier))
	case <-time.After(10 * time.Minute):
		return nil, errors.New("nobody has logged in")
	}
}

// open opens the address in the user's own browser, where there is one: the user may be logged in there already, and this
// program never sees a password.
func open(address string) {
	command := []string{"xdg-open"}
	switch browser := os.Getenv("BROWSER"); {
	case browser != "":
		command = []string{browser}
	case runtime.GOOS == "darwin":
		command = []string{"open"}
	case runtime.GOOS == "windows":
		command = []string{"rundll32", "url.dll,FileProtocolHandler"}
	}
	cmd := exec.Command(command[0], append(command[1:], address)...)
	if cmd.Start() == nil {
		go func() { _ = cmd.Wait() }()
	}
}
