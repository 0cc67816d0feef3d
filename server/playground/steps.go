package playground

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"

	"signet/authorizations"
)

// flow is a login that is under way.
type flow struct{ State, Nonce, Verifier string }

func newFlow() flow {
	return flow{State: rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text()}
}

// request is the authorization request that begins the login (RFC 6749 section 4.1.1, RFC 7636).
func (f flow) request(at string) [][2]string {
	challenge, _ := authorizations.Challenge(f.Verifier)
	return [][2]string{
		{"response_type", "code"}, {"client_id", clientID}, {"redirect_uri", at + callbackPath}, {"scope", scope.String()}, {"state", f.State},
		{"nonce", f.Nonce}, {"code_challenge", challenge}, {"code_challenge_method", "S256"}, {"login_hint", "demo"},
	}
}

// tokens are those of the visitor's session.
type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	ID      string `json:"id_token"`
}

// steps are what the visitor can do, each with the lines that do the same in a shell.
func (v *visit) steps() []step {
	login := step{Name: "login", Title: "Log in", Text: "The browser is sent to Signet’s login page, and comes back with a code, which the app exchanges for tokens. " +
		"Log in as demo; the terminal shows the password. You are asked each time whether to allow it: any program on this machine could pose as an app " +
		"that has no secret.", Curl: browse(v.at, "/authorize", newFlow().request(v.at))}
	if v.tokens.Access == "" {
		return []step{login}
	}
	userinfo := step{Name: "userinfo", Title: "Use the access token", Text: "Ask /userinfo, as an API would be asked. Signet looks at the session each time.",
		Curl: v.userinfoCall().curl(v.at)}
	if v.ended {
		userinfo.Text = "The session has ended: an access token that has not expired is dead all the same."
		login.Title = "Log in again"
		return []step{userinfo, login}
	}
	refresh := v.refreshCall(v.tokens.Refresh)
	return []step{
		userinfo,
		{Name: "refresh", Title: "Refresh", Text: "The refresh token is spent, and a new one comes in its place. Run the line within ten seconds after the button, " +
			"and it gets the same answer: a lost response logs nobody out. Later it is theft.", Curl: refresh.curl(v.at)},
		{Name: "thief", Title: "Play the thief", Text: "A copy of the refresh token is presented after its owner has gone on. Signet cannot tell which of the two is the thief, " +
			"and ends the session.", Curl: "STOLEN=" + v.tokens.Refresh + "\n" +
			"NEXT=$(" + refresh.with("refresh_token", "$STOLEN").curl(v.at) + ` | sed 's/.*"refresh_token":"\([^"]*\)".*/\1/')` + "\n" +
			refresh.with("refresh_token", "$NEXT").curl(v.at) + "\n" +
			refresh.with("refresh_token", "$STOLEN").curl(v.at)},
		{Name: "logout", Title: "Log out", Text: "The app revokes its refresh token, and sends the browser to /logout, which ends the login there.", Curl: v.revokeCall().curl(v.at)},
	}
}

func (v *visit) userinfoCall() call { return call{Path: "/userinfo", Bearer: v.tokens.Access} }

func (v *visit) refreshCall(token string) call {
	return call{Path: "/token", Form: [][2]string{{"grant_type", "refresh_token"}, {"client_id", clientID}, {"refresh_token", token}}}
}

func (v *visit) revokeCall() call {
	return call{Path: "/revoke", Form: [][2]string{{"client_id", clientID}, {"token", v.tokens.Refresh}}}
}

// begin forgets what was seen before.
func (v *visit) begin(what string) { v.last, v.seen = what, nil }

// see remembers an exchange.
func (v *visit) see(title string, e exchange) { e.Title = title; v.seen = append(v.seen, e) }

func (p *Playground) login(v *visit) {
	v.begin("Log in")
	v.tokens, v.ended, v.flow = tokens{}, false, newFlow()
	v.send("The app sends the browser to Signet", "/authorize", v.flow.request(v.at))
}

// send sends the browser to one of Signet's pages.
func (v *visit) send(title, path string, query [][2]string) {
	v.see(title, exchange{Request: short("GET " + path + "?" + lines(query)), Curl: browse(v.at, path, query)})
	v.Redirect(http.StatusSeeOther, address(v.at, path, query))
}

// address is that of a page with parameters.
func address(at, path string, query [][2]string) string {
	pairs := make([]string, len(query))
	for i, pair := range query {
		pairs[i] = pair[0] + "=" + url.QueryEscape(pair[1])
	}
	return at + path + "?" + strings.Join(pairs, "&")
}

// browse is the line that asks for a page in a shell.
func browse(at, path string, query [][2]string) string {
	return "curl -si '" + address(at, path, query) + "'"
}

// callback takes the answer to the authorization request (RFC 6749 section 4.1.2, RFC 9207), and exchanges the code for tokens.
func (p *Playground) callback(v *visit) {
	defer v.back()
	f, q := v.flow, v.Request.URL.Query()
	if f.State == "" || q.Get("state") != f.State || q.Get("iss") != p.cfg.Addresses[0] {
		v.see("The browser came with an answer that this page has not asked for: it was left alone", exchange{Bad: true})
		return
	}
	v.flow = flow{}
	var came [][2]string
	for _, name := range []string{"code", "error", "error_description", "state", "iss"} {
		if q.Has(name) {
			came = append(came, [2]string{name, q.Get(name)})
		}
	}
	v.see("Signet sends the browser back", exchange{Request: "GET " + callbackPath + "?" + lines(came), Bad: q.Has("error")})
	if q.Has("error") {
		return
	}
	e := p.call(v, call{Path: "/token", Form: [][2]string{
		{"grant_type", "authorization_code"}, {"client_id", clientID}, {"code", q.Get("code")}, {"redirect_uri", v.at + callbackPath}, {"code_verifier", f.Verifier},
	}})
	got := e.tokens()
	v.see("The app exchanges the code for tokens", e)
	if got.ID == "" {
		return
	}
	if nonce := decode("", got.ID).known.Nonce; nonce != f.Nonce {
		v.see("The ID token is not of this login: its nonce is another", exchange{Bad: true})
		return
	}
	v.tokens = got
}

// rotate refreshes once, and tells whether the tokens are new ones.
func (p *Playground) rotate(v *visit, title string) bool {
	e := p.call(v, v.refreshCall(v.tokens.Refresh))
	v.see(title, e)
	if got := e.tokens(); got.Access != "" {
		v.tokens = got
		return true
	}
	v.ended = v.ended || e.refused()
	return false
}

func (p *Playground) refresh(v *visit) {
	defer v.back()
	if v.tokens.Access == "" {
		return
	}
	v.begin("Refresh")
	p.rotate(v, "The app refreshes")
}

func (p *Playground) userinfo(v *visit) {
	defer v.back()
	if v.tokens.Access == "" {
		return
	}
	v.begin("Use the access token")
	e := p.call(v, v.userinfoCall())
	v.see("The app asks with the access token", e)
	v.ended = v.ended || e.refused()
}

// thief presents a spent refresh token after its owner has gone on.
func (p *Playground) thief(v *visit) {
	defer v.back()
	if v.tokens.Access == "" || v.ended {
		return
	}
	v.begin("Play the thief")
	stolen := v.tokens.Refresh
	if !p.rotate(v, "The owner refreshes: the token that the thief has copied is spent") || !p.rotate(v, "The owner goes on with the new one") {
		return
	}
	e := p.call(v, v.refreshCall(stolen))
	v.see("The thief presents the copy: theft is noticed", e)
	if e.refused() {
		p.rotate(v, "And the session is dead for the owner, too")
	}
}

// logout revokes the session (RFC 7009), and has the browser logged out (RP-Initiated Logout section 2).
func (p *Playground) logout(v *visit) {
	if v.tokens.Access == "" {
		v.back()
		return
	}
	v.begin("Log out")
	v.see("The app revokes its refresh token, and so the session", p.call(v, v.revokeCall()))
	v.ended = true
	v.send("The app sends the browser to Signet, which ends the login", "/logout", [][2]string{
		{"id_token_hint", v.tokens.ID}, {"client_id", clientID}, {"post_logout_redirect_uri", v.at + Path},
	})
}

// lines writes a form or a query with a line for each parameter.
func lines(pairs [][2]string) string {
	var b strings.Builder
	for i, pair := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString("\n" + pair[0] + "=" + url.QueryEscape(pair[1]))
	}
	return b.String()
}
