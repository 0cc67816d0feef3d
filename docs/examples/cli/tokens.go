package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
	"golang.org/x/oauth2"
)

// fileTokens is an oauth2.TokenSource that keeps its tokens in a file, for any number of programs at once.
type fileTokens struct {
	ctx    context.Context
	config *oauth2.Config
	file   string
}

// Token returns the access token in the file, and refreshes it before if that is due. One program at a time does this, and
// those that waited find the new token in the file. Should this program be killed between the refresh and the saving, then
// the next one sends the old refresh token again, and gets what this one got: Signet allows that for ten seconds.
func (t *fileTokens) Token() (*oauth2.Token, error) {
	unlock, err := lock(t.file)
	if err != nil {
		return nil, err
	}
	defer unlock()

	kept, err := load(t.file)
	if err != nil {
		return nil, err
	}
	token, err := t.config.TokenSource(t.ctx, kept).Token()
	if refused := (*oauth2.RetrieveError)(nil); errors.As(err, &refused) && refused.ErrorCode == "invalid_grant" {
		return nil, errors.New("the session has ended; log in again")
	}
	if err != nil {
		return nil, err
	}
	if token.AccessToken != kept.AccessToken {
		err = save(t.file, token)
	}
	return token, err
}

// lock waits until no other program works on the file. The system unlocks for a program that is killed.
func lock(file string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	l := flock.New(file+".lock", flock.SetPermissions(0o600))
	return func() { _ = l.Unlock() }, l.Lock()
}

func load(file string) (*oauth2.Token, error) {
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("nobody is logged in: whoami login")
	}
	if err != nil {
		return nil, err
	}
	token := new(oauth2.Token)
	if err := json.Unmarshal(content, token); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return token, nil
}

// save replaces the file at once: whoever reads it finds the old token or the new one, never half of one.
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
