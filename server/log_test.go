package server_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// journal is a log that a test can read while the server writes it.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// Who did what is in the log, down to its last detail; what it was proved with is not.
func TestNothingSecretIsLogged(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		var log journal
		r := start(t, b, func(s *settings) {
			s.log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		c := r.app(t, "app")
		u := r.user(t, "alice")
		a := r.passwordGrant(t, c, "alice", password).issued(t)
		isRefused(t, r.passwordGrant(t, c, "alice", "a wrong password"))
		first, access := a.text("refresh_token"), a.text("access_token")
		second := r.refresh(t, c, first).issued(t).text("refresh_token")
		r.refresh(t, c, second).issued(t)
		r.refresh(t, c, first).want(t, http.StatusBadRequest, "invalid_grant")
		r.introspect(t, c, access)
		r.revoke(t, c, access)
		r.do(t, r.request(t.Context(), "/token?client_secret=in-the-query", "password=in-the-body", basic("app", "a-wrong-secret")))
		r.do(t, r.request(t.Context(), "/token", "grant_type=client_credentials", basic("app", "a-wrong-secret")))
		r.closeStore()
		unavailable(t, r.refresh(t, c, second))

		text := log.String()
		for _, secret := range []string{
			password, "a wrong password", "a-wrong-secret", "in-the-query", "in-the-body", c.Secret, first, second, access,
			access[strings.LastIndexByte(access, '.'):], first[4:40],
		} {
			if strings.Contains(text, secret) {
				t.Errorf("the log holds %q", secret)
			}
		}
		for _, member := range []string{
			`"client_id":"app"`, `"user_id":"` + u.ID + `"`, `"grant_type":"refresh_token"`, `"outcome":"reused"`, `"remote_ip":"127.0.0.1"`,
			`"event":"refresh_token.reused"`, `"event":"login.failed"`, `"request_id":`, `"session_id":`, `"duration_ms":`, `"error":`,
			`the client app sent no secret, a wrong one`,
		} {
			if !strings.Contains(text, member) {
				t.Errorf("the log does not tell %s", member)
			}
		}
	})
}

// A page that refuses a request shows its id. Who is told that finds in the log what was wrong, without having to ask for every question.
func TestRefusalsWithAPageAreLogged(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		var log journal
		r := start(t, b, func(s *settings) { s.log = slog.New(slog.NewJSONHandler(&log, nil)) })
		s := r.surfer(t)
		c := r.shop(t, "shop")
		s.authorize(ask(c)) // a question
		if strings.Contains(log.String(), `"path":"/authorize"`) {
			t.Error("a request that was not refused is logged")
		}
		s.authorize(ask(c, "redirect_uri", callback+"/#token=alice"))
		p := s.authorize(ask(c, "redirect_uri", callback+"/?user=alice"))
		line := ""
		for l := range strings.Lines(log.String()) {
			if strings.Contains(l, `"path":"/authorize"`) {
				line = l
			}
		}
		for _, member := range []string{
			`"status":400`, `"request_id":"` + p.header.Get("X-Request-Id") + `"`, `"client_id":"shop"`, "is not registered", callback + `/\"`,
		} {
			if !strings.Contains(line, member) {
				t.Errorf("the log does not tell %s: %s", member, line)
			}
		}
		if strings.Contains(log.String(), "alice") {
			t.Errorf("the log holds what was asked for: %s", &log)
		}
	})
}
