// Box is a program for a machine that has a screen, but no browser and no keyboard to speak of: a television, a printer, a
// server that is reached by a serial line. Its user logs in with a phone.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/oauth2"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "box:", err)
		os.Exit(1)
	}
}

func run() error {
	server := os.Getenv("ISSUER")
	if server == "" {
		server = "http://127.0.0.1:8080"
	}
	file := os.Getenv("TOKEN_FILE")
	if file == "" {
		file = "token.json"
	}
	// A public client: a box that is sold in shops can keep no secret.
	config := &oauth2.Config{
		ClientID: "box",
		Scopes:   []string{"openid", "profile", "offline_access"},
		Endpoint: oauth2.Endpoint{
			DeviceAuthURL: server + "/device_authorization", TokenURL: server + "/token", AuthStyle: oauth2.AuthStyleInParams,
		},
	}
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Timeout: 15 * time.Second})

	token, err := kept(ctx, config, file)
	if err == nil && token == nil {
		token, err = logIn(ctx, config, os.Stdout)
	}
	if err != nil {
		return err
	}
	if err := save(file, token); err != nil {
		return err
	}
	return greet(oauth2.NewClient(ctx, oauth2.StaticTokenSource(token)), server)
}

// kept returns the tokens of the last time, refreshed if that is due, or nil if there are none, or none that are good any more.
func kept(ctx context.Context, config *oauth2.Config, file string) (*oauth2.Token, error) {
	content, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	token := new(oauth2.Token)
	if err := errors.Join(err, json.Unmarshal(content, token)); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	token, err = config.TokenSource(ctx, token).Token()
	if refused := (*oauth2.RetrieveError)(nil); errors.As(err, &refused) && refused.ErrorCode == "invalid_grant" {
		fmt.Println("The box has been logged out.")
		return nil, nil
	}
	return token, err
}

// save replaces the file at once, so that no power cut leaves half of one.
func save(file string, token *oauth2.Token) error {
	content, err := json.Marshal(token)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // which is gone if all went well
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// greet says whose box it is.
func greet(client *http.Client, server string) error {
	res, err := client.Get(server + "/userinfo")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var user struct {
		Name string `json:"preferred_username"`
	}
	switch {
	case res.StatusCode == http.StatusUnauthorized:
		return errors.New("the box has been logged out; delete its token.json")
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("the server answered %s", res.Status)
	}
	if err := json.NewDecoder(res.Body).Decode(&user); err != nil {
		return err
	}
	fmt.Printf("Hello, %s.\n", user.Name)
	return nil
}
