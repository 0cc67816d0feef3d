package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mdp/qrterminal/v3"
	"golang.org/x/oauth2"
)

// logIn has the user log in elsewhere (RFC 8628).
func logIn(ctx context.Context, config *oauth2.Config, screen io.Writer) (*oauth2.Token, error) {
	code, err := config.DeviceAuth(ctx)
	if err != nil {
		return nil, err
	}
	show(screen, code)
	return wait(ctx, config, code)
}

// show says where to log in, and shows the code. The page shows it again, and asks: so users see that it is this box which they
// connect.
func show(screen io.Writer, code *oauth2.DeviceAuthResponse) {
	fmt.Fprintln(screen, "Log in with your phone:")
	var picture bytes.Buffer
	qrterminal.GenerateHalfBlock(code.VerificationURIComplete, qrterminal.L, &picture)
	for line := range strings.Lines(picture.String()) {
		fmt.Fprintf(screen, "\033[97;40m%s\033[0m\n", strings.TrimSuffix(line, "\n")) // white on black, whatever the terminal's colours
	}
	fmt.Fprintf(screen, "or open %s and enter the code  %s\n", code.VerificationURI, code.UserCode)
}

// wait asks the server until the user has decided. The library waits between two calls, and longer once the server says slow_down. A
// server that is away for a moment, or a network, ends nothing: the box asks again, less and less often (RFC 8628 section 3.5).
func wait(ctx context.Context, config *oauth2.Config, code *oauth2.DeviceAuthResponse) (*oauth2.Token, error) {
	if code.Interval == 0 {
		code.Interval = 5
	}
	for {
		token, err := config.DeviceAccessToken(ctx, code)
		refused := (*oauth2.RetrieveError)(nil)
		answered := errors.As(err, &refused) && refused.Response.StatusCode < 500
		switch {
		case err == nil:
			return token, nil
		case answered && refused.ErrorCode == "access_denied":
			return nil, errors.New("you did not allow it")
		case answered && refused.ErrorCode == "expired_token", time.Now().After(code.Expiry):
			return nil, errors.New("nobody has logged in; start again for another code")
		case answered:
			return nil, err
		}
		code.Interval = min(2*code.Interval, 60)
	}
}
