package tokens_test

import (
	"testing"
	"testing/synctest"
	"time"

	"signet/audit"
	"signet/storage"
	"signet/storage/storagetest"
	"signet/tokens"
)

// inVirtualTime runs f with a fixture on an embedded database, whose time is this process's: there it is exact to the
// microsecond and passes when everybody sleeps.
func inVirtualTime(t *testing.T, window time.Duration, f func(t *testing.T, x *fixture)) {
	t.Helper()
	t.Parallel()
	url, secret := storagetest.MigratedSQLite(t), newSecret(t)
	synctest.Test(t, func(t *testing.T) {
		store, err := storage.Open(t.Context(), url, nil)
		check(t, err)
		defer store.Close()
		check(t, store.Migrate(t.Context()))
		x := &fixture{secret: secret}
		x.replica, err = newReplica(t.Context(), store, secret, window)
		check(t, err)
		x.user, x.client = addUser(t, store), addClient(t, x.replica)
		f(t, x)
	})
}

const moment = time.Microsecond // the resolution of the database's time

func TestRetryWindowToTheMoment(t *testing.T) {
	inVirtualTime(t, 10*time.Second, func(t *testing.T, x *fixture) {
		first := x.login(t)
		x.refresh(t, x.replica, first.RefreshToken, tokens.Rotated)
		time.Sleep(10*time.Second - moment)
		x.refresh(t, x.replica, first.RefreshToken, tokens.Retried)
		time.Sleep(moment)
		x.refresh(t, x.replica, first.RefreshToken, tokens.Reused)
	})
}

// A token that is retried every second dies when its window ends.
func TestRetriesDoNotKeepTheWindowOpen(t *testing.T) {
	inVirtualTime(t, 10*time.Second, func(t *testing.T, x *fixture) {
		first := x.login(t)
		x.refresh(t, x.replica, first.RefreshToken, tokens.Rotated)
		for range 9 {
			time.Sleep(time.Second)
			x.refresh(t, x.replica, first.RefreshToken, tokens.Retried)
		}
		time.Sleep(time.Second)
		x.refresh(t, x.replica, first.RefreshToken, tokens.Reused)
	})
}

func TestNoWindowNoRetry(t *testing.T) {
	inVirtualTime(t, 0, func(t *testing.T, x *fixture) {
		first := x.login(t)
		x.refresh(t, x.replica, first.RefreshToken, tokens.Rotated)
		x.refresh(t, x.replica, first.RefreshToken, tokens.Reused) // in the same microsecond
	})
}

func TestIdleEndToTheMoment(t *testing.T) {
	inVirtualTime(t, retryWindow, func(t *testing.T, x *fixture) {
		token := x.login(t).RefreshToken
		for range 2 {
			time.Sleep(refreshTTL - moment)
			x.wantActive(t, "the token a moment before its end", token, true)
			token = x.refresh(t, x.replica, token, tokens.Rotated).RefreshToken
		}
		spare, over := x.login(t), x.login(t)
		time.Sleep(refreshTTL)
		x.wantActive(t, "the token at its end", over.RefreshToken, false)
		x.refresh(t, x.replica, over.RefreshToken, tokens.Rejected)
		if all, err := x.tokens.Sessions(t.Context(), tokens.Filter{Limit: 10}); err != nil || len(all) != 0 {
			t.Errorf("%d sessions are listed, %v", len(all), err)
		}
		x.refresh(t, x.replica, spare.RefreshToken, tokens.Rejected)
	})
}

// However often it is used, a session ends; and its last access tokens say so beforehand.
func TestAbsoluteEndToTheMoment(t *testing.T) {
	inVirtualTime(t, retryWindow, func(t *testing.T, x *fixture) {
		began := time.Now()
		issued := x.login(t)
		for time.Since(began)+20*time.Hour < sessionTTL {
			time.Sleep(20 * time.Hour)
			issued = x.refresh(t, x.replica, issued.RefreshToken, tokens.Rotated)
			if issued.ExpiresIn != accessTTL {
				t.Errorf("an access token lives for %s", issued.ExpiresIn)
			}
		}
		time.Sleep(sessionTTL - 5*time.Minute - time.Since(began))
		issued = x.refresh(t, x.replica, issued.RefreshToken, tokens.Rotated)
		if issued.ExpiresIn > 5*time.Minute || issued.ExpiresIn < 4*time.Minute {
			t.Errorf("five minutes before the end an access token lives for %s", issued.ExpiresIn)
		}
		time.Sleep(sessionTTL - moment - time.Since(began))
		issued = x.refresh(t, x.replica, issued.RefreshToken, tokens.Rotated)
		time.Sleep(moment)
		x.refresh(t, x.replica, issued.RefreshToken, tokens.Rejected)
		x.wantActive(t, "the access token", issued.AccessToken, false)
		x.wantActive(t, "the refresh token", issued.RefreshToken, false)
	})
}

func TestAccessTokenExpires(t *testing.T) {
	inVirtualTime(t, retryWindow, func(t *testing.T, x *fixture) {
		issued := x.login(t)
		time.Sleep(accessTTL - time.Second)
		x.wantActive(t, "the access token a second before its end", issued.AccessToken, true)
		time.Sleep(time.Second)
		x.wantActive(t, "the access token at its end", issued.AccessToken, false)
		x.wantActive(t, "the refresh token", issued.RefreshToken, true)
		// What has expired is not worth a row, nor an event.
		check(t, x.tokens.Revoke(t.Context(), &x.client, issued.AccessToken, home))
		if events, err := x.store.Events(t.Context(), audit.Filter{Type: audit.AccessTokenRevoked, Limit: 10}); err != nil || len(events) != 0 {
			t.Errorf("%d events, %v", len(events), err)
		}
		// Another refresh token of the session gives good access tokens again.
		x.wantActive(t, "a new access token", x.refresh(t, x.replica, issued.RefreshToken, tokens.Rotated).AccessToken, true)
	})
}
