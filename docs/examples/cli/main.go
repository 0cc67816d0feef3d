// Whoami is a command-line program that logs in once and stays logged in:
//
//	whoami login     opens the browser to log in, and keeps the tokens in a file
//	whoami           says who is logged in, by a call with the access token, which it refreshes when that is due
//	whoami logout    ends the session and deletes the file
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/oauth2"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "whoami:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	server := os.Getenv("ISSUER")
	if server == "" {
		server = "http://127.0.0.1:8080"
	}
	file, err := tokenFile()
	if err != nil {
		return err
	}
	// A public client: a program on other people's machines can keep no secret. It asks to stay logged in, and for what it does.
	config := &oauth2.Config{
		ClientID: "whoami",
		Scopes:   []string{"offline_access", "signet:account"},
		Endpoint: oauth2.Endpoint{AuthURL: server + "/authorize", TokenURL: server + "/token", AuthStyle: oauth2.AuthStyleInParams},
	}
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Timeout: 15 * time.Second})

	switch {
	case len(args) == 1 && args[0] == "login":
		return login(ctx, config, server, file)
	case len(args) == 1 && args[0] == "logout":
		return logout(config, server, file)
	case len(args) == 0:
		tokens := &fileTokens{ctx, config, file}
		token, err := tokens.Token()
		if err != nil {
			return err
		}
		return whoami(oauth2.NewClient(ctx, oauth2.ReuseTokenSource(token, tokens)), server)
	default:
		return errors.New("usage: whoami [login | logout]")
	}
}

func login(ctx context.Context, config *oauth2.Config, server, file string) error {
	token, err := authorize(ctx, config, server)
	if err != nil {
		return err
	}
	unlock, err := lock(file)
	if err != nil {
		return err
	}
	defer unlock()
	return save(file, token)
}

func whoami(client *http.Client, server string) error {
	res, err := client.Get(server + "/account")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var account struct{ Username string }
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answered %s", res.Status)
	}
	if err := json.NewDecoder(res.Body).Decode(&account); err != nil {
		return err
	}
	fmt.Println(account.Username)
	return nil
}

// logout ends the whole session, access tokens included.
func logout(config *oauth2.Config, server, file string) error {
	unlock, err := lock(file)
	if err != nil {
		return err
	}
	defer unlock()
	token, err := load(file)
	if err != nil {
		return err
	}
	res, err := http.PostForm(server+"/revoke", url.Values{"client_id": {config.ClientID}, "token": {token.RefreshToken}})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answered %s", res.Status)
	}
	return os.Remove(file)
}

// tokenFile is where the tokens are kept.
func tokenFile() (string, error) {
	if file := os.Getenv("TOKEN_FILE"); file != "" {
		return file, nil
	}
	dir, err := os.UserConfigDir()
	return filepath.Join(dir, "whoami", "token.json"), err
}
