package server_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// metrics reads what the management listener tells: the values of the series.
func (r *replica) metrics(t testing.TB) map[string]string {
	t.Helper()
	w := httptest.NewRecorder()
	r.management.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("/metrics: %d %s", w.Code, w.Body)
	}
	series := map[string]string{}
	for line := range strings.Lines(w.Body.String()) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			series[name] = value
		}
	}
	return series
}

func TestMetrics(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c := r.app(t, "app")
		u := r.user(t, "alice")
		before := r.metrics(t)
		for _, series := range []string{
			`signet_tokens_issued_total{grant="password"}`, `signet_tokens_issued_total{grant="refresh_token"}`,
			`signet_tokens_issued_total{grant="client_credentials"}`, `signet_refresh_total{outcome="rotated"}`,
			`signet_refresh_total{outcome="retried"}`, `signet_refresh_total{outcome="reused"}`, `signet_refresh_total{outcome="caught_up"}`,
			`signet_refresh_total{outcome="rejected"}`, `signet_logins_total`, `signet_login_failures_total`,
			`signet_proofs_refused_total{proof="assertion"}`, `signet_proofs_refused_total{proof="dpop"}`,
			`signet_proofs_refused_total{proof="dpop_nonce"}`,
		} {
			if before[series] != "0" {
				t.Errorf("%s is %q at the start, want 0", series, before[series])
			}
		}

		r.passwordGrant(t, c, "alice", password).issued(t)
		r.passwordGrant(t, c, "alice", "wrong password")
		r.token(t, c, "grant_type", "client_credentials").issued(t)
		first := r.login(t, c, u).RefreshToken
		second := r.refresh(t, c, first).issued(t).text("refresh_token")
		r.refresh(t, c, first).issued(t)
		r.refresh(t, c, second).issued(t)
		r.refresh(t, c, first)
		r.refresh(t, c, "sgr_x")
		r.do(t, r.request(t.Context(), "/nothing/"+u.ID, ""))
		r.do(t, r.request(t.Context(), "/token", "", func(req *http.Request) { req.Method = "STRANGE" }))

		after := r.metrics(t)
		for series, want := range map[string]string{
			`signet_tokens_issued_total{grant="password"}`: "1", `signet_tokens_issued_total{grant="refresh_token"}`: "3",
			`signet_tokens_issued_total{grant="client_credentials"}`: "1", `signet_refresh_total{outcome="rotated"}`: "2",
			`signet_refresh_total{outcome="retried"}`: "1", `signet_refresh_total{outcome="reused"}`: "1",
			`signet_refresh_total{outcome="rejected"}`: "1", `signet_logins_total`: "1", `signet_login_failures_total`: "1",
			`signet_http_request_duration_seconds_count{method="POST",route="/token",status="200"}`: "5",
			`signet_http_request_duration_seconds_count{method="POST",route="/token",status="400"}`: "3",
			`signet_http_request_duration_seconds_count{method="POST",route="none",status="404"}`:   "1",
			`signet_http_request_duration_seconds_count{method="other",route="none",status="405"}`:  "1",
		} {
			if after[series] != want {
				t.Errorf("%s is %q, want %s", series, after[series], want)
			}
		}
		for _, name := range []string{"signet_db_pool_max_connections", "go_goroutines"} {
			if after[name] == "" {
				t.Errorf("there is no %s", name)
			}
		}
		labels := regexp.MustCompile(`(\w+)=`)
		for series := range after {
			if !strings.HasPrefix(series, "signet_") {
				continue
			}
			for _, m := range labels.FindAllStringSubmatch(series, -1) {
				switch m[1] {
				case "grant", "outcome", "proof", "kind", "route", "method", "status", "le", "state":
				default:
					t.Errorf("%s has the label %s", series, m[1])
				}
			}
			if strings.Contains(series, u.ID) || strings.Contains(series, "app") || strings.Contains(series, "STRANGE") {
				t.Errorf("%s names who or what a stranger sent", series)
			}
		}
		r.get(t, "/metrics").want(t, http.StatusNotFound, "not_found") // never on the public listener
		for _, path := range postEndpoints {
			w := httptest.NewRecorder()
			r.management.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, nil))
			if w.Code != http.StatusNotFound {
				t.Errorf("%s on the management listener: %d", path, w.Code)
			}
		}
	})
}

func TestRefusedProofsAreCounted(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		key := newKey(t, jose.ES256)
		c := r.app(t, "machine", keyed(t, key))
		machines := []string{"grant_type", "client_credentials"}
		used := key.assertion(t, c.ID)
		for range 2 {
			r.send(t, "/token", asserting(used, machines...))
		}
		r.send(t, "/token", asserting(key.assertion(t, c.ID, set{"aud": "https://elsewhere.example"}), machines...))
		app := r.app(t, "app")
		proof := key.proof(t, "POST", "/token")
		for range 2 {
			r.post(t, "/token", app, form(machines...), header("DPoP", proof))
		}
		r.post(t, "/token", app, form(machines...), header("DPoP", "x"))
		r.post(t, "/token", app, form(machines...), header("DPoP", key.proof(t, "POST", "/token", set{"nonce": "stale"})))
		m := r.metrics(t)
		for proof, want := range map[string]string{"assertion": "2", "dpop": "2", "dpop_nonce": "1"} {
			equal(t, proof, m[`signet_proofs_refused_total{proof="`+proof+`"}`], want)
		}
	})
}
