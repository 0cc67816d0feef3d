package examples

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// What "Add Signet to …" has registered serves the requests that those programs make, and gives them what their settings name.
func TestPrograms(t *testing.T) {
	t.Parallel()
	lookAtFiles(t)
	source, err := os.ReadFile("../guides/add-signet-to.md")
	check(t, err)
	guide, script := string(source), "printf wonderland | signet user create alice --password-stdin\n" // who is there from the quick start
	for _, m := range codeBlock.FindAllStringSubmatch(guide, -1) {
		script += m[3]
	}
	dir, address, env := serve(t)
	script = strings.ReplaceAll(script, "\\\n", " ")
	secrets := map[string]string{}
	for line := range strings.Lines(script) {
		cmd := exec.Command("sh", "-euc", line)
		cmd.Dir, cmd.Env = dir, env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		id, secret := "", ""
		for row := range strings.Lines(string(out)) {
			switch f := strings.Fields(row); {
			case len(f) == 2 && f[0] == "client_id":
				id = f[1]
			case len(f) == 2 && f[0] == "client_secret":
				secret = f[1]
			}
		}
		secrets[id] = secret
	}

	verifier := strings.Repeat("v", 43)
	digest := sha256.Sum256([]byte(verifier))
	challenge := base64.RawURLEncoding.EncodeToString(digest[:])
	const all = "openid profile email groups"
	for _, program := range []struct {
		id, redirect, scope string
		pkce                bool
		logout              string
	}{
		{"grafana", "https://grafana.example.com/login/generic_oauth", all, true, "https://grafana.example.com/login"},
		{"gitea", "https://gitea.example.com/user/oauth2/signet/callback", all, false, ""},
		{"kubernetes", "http://localhost:8000", "openid profile groups offline_access", true, ""},
		{"kubernetes", "http://localhost:18000", "openid profile groups", true, ""},
		{"oauth2-proxy", "https://internal.example.com/oauth2/callback", all, true, "https://internal.example.com/"},
		{"apache", "https://www.example.com/protected/callback", all, true, "https://www.example.com/"},
	} {
		t.Run(program.id, func(t *testing.T) {
			p := meet(t, "alice")
			p.client.CheckRedirect = func(req *http.Request, _ []*http.Request) error {
				if req.URL.Host != address {
					return http.ErrUseLastResponse // the program itself is not there
				}
				return nil
			}
			request := url.Values{
				"response_type": {"code"}, "client_id": {program.id}, "redirect_uri": {program.redirect}, "scope": {program.scope}, "state": {"s"}, "nonce": {"n"},
			}
			exchange := url.Values{"grant_type": {"authorization_code"}, "redirect_uri": {program.redirect}}
			if program.pkce {
				request.Set("code_challenge", challenge)
				request.Set("code_challenge_method", "S256")
				exchange.Set("code_verifier", verifier)
			}
			code := p.code("http://" + address + "/authorize?" + request.Encode())
			exchange.Set("code", code)
			headers := []string{"Content-Type", "application/x-www-form-urlencoded"}
			if secret := secrets[program.id]; secret != "" {
				headers = append(headers, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(program.id+":"+secret)))
			} else {
				exchange.Set("client_id", program.id)
			}
			var got struct {
				tokens

				IDToken string `json:"id_token"`
			}
			check(t, json.Unmarshal([]byte(call(t, http.MethodPost, "http://"+address+"/token", exchange.Encode(), headers...).is(t, http.StatusOK).body), &got))
			if got.RefreshToken == "" {
				t.Error("there is no refresh token")
			}

			var header struct{ Alg string }
			var claims struct {
				Username string `json:"preferred_username"`
				Email    string
				Verified bool `json:"email_verified"`
				Groups   []string
			}
			parts := strings.Split(got.IDToken, ".")
			decode(t, parts[0], &header)
			decode(t, parts[1], &claims)
			if header.Alg != "RS256" || claims.Username != "alice" || strings.Join(claims.Groups, " ") != "admin staff" {
				t.Errorf("the ID token says %+v, signed with %s", claims, header.Alg)
			}
			if strings.Contains(program.scope, "email") && (claims.Email != "alice@example.com" || !claims.Verified) {
				t.Errorf("the ID token says %+v", claims)
			}
			about := call(t, http.MethodGet, "http://"+address+"/userinfo", "", "Authorization", "Bearer "+got.AccessToken).is(t, http.StatusOK)
			if !strings.Contains(about.body, `"preferred_username":"alice"`) {
				t.Errorf("userinfo says %s", about.body)
			}

			// The log-out that the guide describes comes back to the program.
			if program.logout == "" {
				return
			}
			if back := url.QueryEscape(program.logout); !strings.Contains(guide, back) {
				t.Errorf("the guide does not have %s", back)
			}
			logout := "http://" + address + "/logout?" + url.Values{"client_id": {program.id}, "post_logout_redirect_uri": {program.logout}}.Encode()
			at := p.get(logout)
			if !at.asksFor("request") {
				t.Fatalf("the log-out: %d %s", at.status, at.body)
			}
			if at = p.send(at, "decision", "logout"); at.location != program.logout {
				t.Errorf("the log-out leads to %q", at.location)
			}
			if again := p.get("http://" + address + "/authorize?" + request.Encode()); !again.asksFor("password") {
				t.Error("the log-out was none")
			}
		})
	}

	// Without a challenge, the others are refused, as the guide says.
	ids := []string{"grafana", "oauth2-proxy", "apache"}
	if n := strings.Count(guide, "without it Signet refuses the login"); n != len(ids) {
		t.Errorf("the guide says of %d programs that they have to send a challenge", n)
	}
	for _, id := range ids {
		p := meet(t, "alice")
		p.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		at := p.get("http://" + address + "/authorize?" + url.Values{"response_type": {"code"}, "client_id": {id}, "scope": {"profile"}, "state": {"s"}}.Encode())
		if !strings.Contains(at.location, "error=invalid_request") {
			t.Errorf("%s without PKCE: %d %s", id, at.status, at.location)
		}
	}
}

// code logs in and returns the code that goes to the program.
func (p *person) code(address string) string {
	p.t.Helper()
	at := p.logsIn(address)
	back, err := url.Parse(at.location)
	check(p.t, err)
	if back.Query().Get("code") == "" {
		p.t.Fatalf("there is no code in %q: %d %s", at.location, at.status, at.body)
	}
	return back.Query().Get("code")
}
