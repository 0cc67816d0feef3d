package server_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/descope/virtualwebauthn"
	"github.com/google/uuid"

	"signet/logins"
	"signet/users"
)

var party = virtualwebauthn.RelyingParty{Name: "Signet", ID: "auth.example.com", Origin: issuer}

// question reads what a page asks of an authenticator.
func (v view) question(t testing.TB) string {
	t.Helper()
	for _, b := range elements(t, v.body, "button") {
		if b["data-options"] != "" {
			text, err := base64.RawURLEncoding.DecodeString(b["data-options"])
			check(t, err)
			return `{"publicKey":` + string(text) + `}`
		}
	}
	t.Fatalf("no passkey is asked for: %d %.500s", v.status, v.body)
	return ""
}

// securityKey is an authenticator with one passkey.
type securityKey struct {
	virtualwebauthn.Authenticator

	credential virtualwebauthn.Credential
	party      virtualwebauthn.RelyingParty
}

func newSecurityKey(u users.User) *securityKey {
	id := uuid.MustParse(u.ID)
	d := &securityKey{Authenticator: virtualwebauthn.NewAuthenticatorWithOptions(virtualwebauthn.AuthenticatorOptions{UserHandle: id[:]}), party: party}
	for ok := false; !ok; ok = len(d.credential.Key.AttestationData()) == 77 { // one key in 128 has a coordinate that the library writes too short
		d.credential = virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
	}
	d.AddCredential(d.credential)
	return d
}

func (d *securityKey) create(t testing.TB, v view) string {
	t.Helper()
	options, err := virtualwebauthn.ParseAttestationOptions(v.question(t))
	check(t, err)
	return virtualwebauthn.CreateAttestationResponse(d.party, d.Authenticator, d.credential, *options)
}

func (d *securityKey) get(t testing.TB, v view) string {
	t.Helper()
	options, err := virtualwebauthn.ParseAssertionOptions(v.question(t))
	check(t, err)
	return virtualwebauthn.CreateAssertionResponse(d.party, d.Authenticator, d.credential, *options)
}

// byPasskey sends the login page with the authenticator's answer.
func (s *surfer) byPasskey(v view, answer string) view {
	s.t.Helper()
	v.action = "/login/passkey"
	return s.submit(v, "answer", answer)
}

// withPasskey adds a passkey on the pages of one's own account.
func (s *surfer) withPasskey(u users.User) *securityKey {
	s.t.Helper()
	d := newSecurityKey(u)
	v := s.open(http.MethodGet, "/me/passkey", "")
	if v.action == "/login" {
		s.enter(v, u)
		v = s.open(http.MethodGet, "/me/passkey", "")
	}
	if done := s.submit(v, "name", "my phone", "answer", d.create(s.t, v)); done.status != http.StatusOK && done.status != http.StatusSeeOther {
		s.t.Fatalf("adding a passkey: %d %s", done.status, done.body)
	}
	return d
}

func TestPasskeyInsteadOfThePassword(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u := r.shop(t, "shop", trusted), r.user(t, "alice", false)
		d := r.surfer(t).withPasskey(u)
		s := r.surfer(t)
		v := s.authorize(ask(c))
		if strings.Contains(v.question(t), "allowCredentials") {
			t.Errorf("the question names a credential: %s", v.question(t))
		}
		if got := methods(s.idToken(t, c, s.byPasskey(v, d.get(t, v)))); got != "[hwk user mfa] aal2" {
			t.Error(got)
		}
		// The password is a first factor alone by now.
		s = r.surfer(t)
		v = s.enter(s.authorize(ask(c)), u)
		if v.action != "/login/factor" {
			t.Fatalf("after the password: %q", v.action)
		}
		if got := methods(s.idToken(t, c, s.submit(v, "answer", d.get(t, v)))); got != "[pwd hwk user mfa] aal2" {
			t.Error(got)
		}
	})
}

// Row 71: a passkey that has not verified its user is no login by itself, but a second factor.
func TestPasskeyThatDidNotVerifyItsUser(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u := r.shop(t, "shop", trusted), r.user(t, "alice", false)
		d := r.surfer(t).withPasskey(u)
		d.Options.UserNotVerified = true
		s := r.surfer(t)
		v := s.authorize(ask(c))
		s.byPasskey(v, d.get(t, v)).page(t, http.StatusUnauthorized)
		v = s.enter(s.authorize(ask(c)), u)
		if v = s.submit(v, "answer", d.get(t, v)); v.status != http.StatusSeeOther {
			t.Errorf("as a second factor: %d", v.status)
		}
		// Nobody was there at all.
		d.Options.UserNotPresent = true
		s = r.surfer(t)
		v = s.enter(s.authorize(ask(c)), u)
		s.submit(v, "answer", d.get(t, v)).page(t, http.StatusUnauthorized)
	})
}

// clientData changes a member of an answer's client data, and leaves its signature.
func clientData(t testing.TB, answer string, change func(map[string]any)) string {
	t.Helper()
	var a map[string]any
	check(t, json.Unmarshal([]byte(answer), &a))
	response, _ := a["response"].(map[string]any)
	text, _ := response["clientDataJSON"].(string)
	plain, err := base64.RawURLEncoding.DecodeString(text)
	check(t, err)
	var data map[string]any
	check(t, json.Unmarshal(plain, &data))
	change(data)
	plain, err = json.Marshal(data)
	check(t, err)
	response["clientDataJSON"] = base64.RawURLEncoding.EncodeToString(plain)
	out, err := json.Marshal(a)
	check(t, err)
	return string(out)
}

// withAlgorithm changes the algorithm, one byte of CBOR, that an answer's public key is of.
func withAlgorithm(t testing.TB, answer string, alg byte) string {
	t.Helper()
	var a map[string]any
	check(t, json.Unmarshal([]byte(answer), &a))
	response, _ := a["response"].(map[string]any)
	text, _ := response["attestationObject"].(string)
	object, err := base64.RawURLEncoding.DecodeString(text)
	check(t, err)
	key := []byte{0x01, 0x02, 0x03, 0x26} // kty: EC2, alg: ES256
	if bytes.Count(object, key) != 1 {
		t.Fatalf("no key of ES256 in %x", object)
	}
	response["attestationObject"] = base64.RawURLEncoding.EncodeToString(bytes.Replace(object, key, []byte{0x01, 0x02, 0x03, alg}, 1))
	out, err := json.Marshal(a)
	check(t, err)
	return string(out)
}

// Row 70: what the browser's script was to see to is looked at here. At an enrolment without attestation nothing is signed, so that each
// of these would pass if it were not.
func TestRegistrationOfAPasskeyIsChecked(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		u := r.user(t, "alice", false)
		s := r.surfer(t)
		s.enter(s.open(http.MethodGet, "/me/passkey", ""), u)
		refused := func(what string, v view, answer string) {
			t.Helper()
			if got := s.submit(v, "name", "x", "answer", answer); got.status != http.StatusUnauthorized && got.status != http.StatusBadRequest {
				t.Errorf("%s: %d", what, got.status)
			} else if got.status == http.StatusUnauthorized && !strings.Contains(elementText(got.body, `id="problem"`), "The passkey could not be added") {
				t.Errorf("%s: %s", what, got.body)
			}
		}
		page := func() view { return s.open(http.MethodGet, "/me/passkey", "") }
		for what, change := range map[string]func(map[string]any){
			"another challenge": func(d map[string]any) {
				d["challenge"] = base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
			},
			"another origin":  func(d map[string]any) { d["origin"] = "https://evil.example.com" },
			"another scheme":  func(d map[string]any) { d["origin"] = "http://auth.example.com" },
			"another port":    func(d map[string]any) { d["origin"] = "https://auth.example.com:8443" },
			"another type":    func(d map[string]any) { d["type"] = "webauthn.get" },
			"cross-origin":    func(d map[string]any) { d["crossOrigin"] = true },
			"a page above it": func(d map[string]any) { d["crossOrigin"], d["topOrigin"] = true, "https://evil.example.com" },
		} {
			v := page()
			refused(what, v, clientData(t, newSecurityKey(u).create(t, v), change))
		}
		d := newSecurityKey(u)
		d.party.ID = "example.com"
		v := page()
		refused("another RP ID", v, d.create(t, v))
		d = newSecurityKey(u)
		d.Options.UserNotPresent = true
		refused("nobody there", v, d.create(t, v))
		for what, alg := range map[string]byte{"an algorithm that nobody knows": 0x33, "ESP256, which was not asked for": 0x28, "the algorithm of another kind of key": 0x27} {
			refused(what, v, withAlgorithm(t, newSecurityKey(u).create(t, v), alg))
		}
		refused("no answer", v, "{}")
		refused("rubbish", v, "\x00")

		// A form of another user's page, of another browser, or of another purpose.
		d = newSecurityKey(u)
		other := r.surfer(t)
		other.enter(other.open(http.MethodGet, "/me/passkey", ""), u)
		elsewhere := other.open(http.MethodGet, "/me/passkey", "")
		stolen := v
		stolen.hidden = maps.Clone(v.hidden)
		stolen.hidden["challenge"] = elsewhere.hidden["challenge"]
		refused("a challenge of another browser", stolen, d.create(t, elsewhere))
		if r.factorsOf(t, u).Any() {
			t.Error("one was added")
		}

		// The failures have burned nothing: the same page still does. The same credential does not twice, also for another user.
		if got := s.submit(v, "name", "x", "answer", d.create(t, v)); got.status != http.StatusOK {
			t.Fatalf("%d %s", got.status, got.body)
		}
		in := page() // now it takes the factor
		s.byPasskey(in, d.get(t, in))
		if v = page(); v.action == "/login" {
			t.Fatal("not logged in by the passkey")
		}
		refused("twice", v, d.create(t, v))
		bob := r.user(t, "bob", false)
		b := r.surfer(t)
		b.enter(b.open(http.MethodGet, "/me/passkey", ""), bob)
		v = b.open(http.MethodGet, "/me/passkey", "")
		if got := b.submit(v, "name", "x", "answer", d.create(t, v)); got.status != http.StatusBadRequest {
			t.Errorf("for another user: %d", got.status)
		}
		if n := len(r.factorsOf(t, u).List); n != 1 || r.factorsOf(t, bob).Any() {
			t.Errorf("%d factors", n)
		}
	})
}

// Rows 70 and 73: each field of an assertion changed alone; a challenge is good once, in its browser, for its purpose, for five minutes.
func TestAssertionOfAPasskeyIsChecked(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u := r.shop(t, "shop", trusted), r.user(t, "alice", false)
		d := r.surfer(t).withPasskey(u)
		s := r.surfer(t)
		page := func() view { return s.authorize(ask(c)) }
		refused := func(what string, v view, answer string) {
			t.Helper()
			if got := s.byPasskey(v, answer); got.status != http.StatusUnauthorized {
				t.Errorf("%s: %d", what, got.status)
			}
		}
		for what, change := range map[string]func(map[string]any){
			"another challenge": func(d map[string]any) {
				d["challenge"] = base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
			},
			"another origin": func(d map[string]any) { d["origin"] = "https://evil.example.com" },
			"another type":   func(d map[string]any) { d["type"] = "webauthn.create" },
			"cross-origin":   func(d map[string]any) { d["crossOrigin"] = true },
			"only the bytes": func(d map[string]any) { d["more"] = 1 },
		} {
			v := page()
			refused(what, v, clientData(t, d.get(t, v), change))
		}
		v := page()
		evil := *d
		evil.party.Origin = "https://evil.example.com"
		refused("signed for another origin", v, evil.get(t, v))
		evil = *d
		evil.party.ID = "evil.example.com"
		refused("another RP ID", v, evil.get(t, v))
		mallory := r.user(t, "mallory", false)
		m := r.surfer(t).withPasskey(mallory)
		evil = *d
		evil.Options.UserHandle = m.Options.UserHandle
		refused("another user's handle", v, evil.get(t, v))
		evil = *d
		evil.Options.UserHandle = nil
		refused("no handle", v, evil.get(t, v))
		unknown := newSecurityKey(u)
		refused("an unknown credential", v, unknown.get(t, v))
		evil = *d
		evil.credential.Key = m.credential.Key
		refused("another key", v, evil.get(t, v))
		evil = *d
		evil.Options.BackupEligible = true
		refused("a backup that was not possible before", v, evil.get(t, v))

		// The failures have burned nothing: the same page still does.
		answer := d.get(t, v)
		other := r.surfer(t)
		other.authorize(ask(c))
		if got := other.byPasskey(v, answer); got.status != http.StatusBadRequest {
			t.Errorf("in another browser: %d", got.status)
		}
		second := r.surfer(t)
		w := second.authorize(ask(c))
		w.hidden["challenge"] = v.hidden["challenge"]
		if got := second.byPasskey(w, answer); got.status != http.StatusUnauthorized {
			t.Errorf("the challenge in another browser: %d", got.status)
		}
		var wg sync.WaitGroup
		results := make([]int, 8)
		for i := range results {
			twin := s.at(r)
			wg.Go(func() { results[i] = twin.byPasskey(v, answer).status })
		}
		wg.Wait()
		if got := strings.Count(fmt.Sprint(results), "303"); got != 1 {
			t.Errorf("the same answer %d times at once: %v", len(results), results)
		}
		refused("once more", v, answer)

		// Another user's passkey is no second factor of this one.
		s = r.surfer(t)
		v = s.enter(s.authorize(ask(c)), u)
		if got := s.submit(v, "answer", m.get(t, v)); got.status != http.StatusUnauthorized || strings.Contains(got.body, "This code") {
			t.Errorf("another user's passkey as a second factor: %d", got.status)
		}
		// An answer to the login page is none to the second factor.
		plain := s.authorize(ask(c))
		v.hidden["challenge"] = plain.hidden["challenge"]
		if got := s.submit(v, "answer", d.get(t, plain)); got.status != http.StatusUnauthorized {
			t.Errorf("an answer of another purpose: %d", got.status)
		}
		disabled := true
		_, err := r.users.Update(t.Context(), u.ID, users.Change{Disabled: &disabled}, origin)
		check(t, err)
		v = page()
		refused("a disabled user", v, d.get(t, v))
	})
}

// Row 69: whoever knows the password can use up the guesses at codes, but not keep the user out: passkeys, which cannot be guessed, stay open.
func TestPasskeysStayOpen(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u := r.shop(t, "shop", trusted), r.user(t, "alice", false)
		d := r.surfer(t).withPasskey(u)
		thief := r.surfer(t)
		useUp := func() {
			t.Helper()
			v := thief.enter(thief.authorize(ask(c)), u)
			for i := range 10 {
				thief.submit(v, "code", fmt.Sprintf("%06d", i))
			}
			thief.submit(v, "code", "999999").page(t, http.StatusTooManyRequests)
		}
		useUp()
		s := r.surfer(t)
		v := s.authorize(ask(c))
		if got := s.byPasskey(v, d.get(t, v)); got.status != http.StatusSeeOther {
			t.Errorf("instead of the password: %d", got.status)
		}
		useUp() // that login has cleared the count
		s = r.surfer(t)
		v = s.enter(s.authorize(ask(c)), u)
		if got := s.submit(v, "answer", d.get(t, v)); got.status != http.StatusSeeOther {
			t.Errorf("after the password: %d", got.status)
		}
	})
}

// Row 73: a question is good for five minutes.
func TestQuestionsOfPasskeysExpire(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		u := r.user(t, "alice", false)
		d := r.surfer(t).withPasskey(u)
		question := func() logins.Ceremony {
			asked, err := r.logins.AskPasskey("here")
			check(t, err)
			return asked
		}
		answer := func(asked logins.Ceremony) error {
			options, err := virtualwebauthn.ParseAssertionOptions(`{"publicKey":` + asked.Options + `}`)
			check(t, err)
			_, _, err = r.logins.CheckPasskey(t.Context(), "here", asked.Sealed, virtualwebauthn.CreateAssertionResponse(d.party, d.Authenticator, d.credential, *options), "", origin)
			return err
		}
		var late logins.Ceremony
		synctest.Test(t, func(*testing.T) { late = question() }) // at a time that is long past
		if err := answer(late); !errors.Is(err, logins.ErrWrongFactor) {
			t.Errorf("a question of long ago: %v", err)
		}
		check(t, answer(question()))
	})
}

// Row 72: a counter of 0 counts nothing; one that does not grow is that of a copy.
func TestSignatureCounterOfAPasskey(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u := r.shop(t, "shop", trusted), r.user(t, "alice", false)
		d := r.surfer(t).withPasskey(u)
		try := func() int {
			t.Helper()
			s := r.surfer(t)
			v := s.authorize(ask(c))
			return s.byPasskey(v, d.get(t, v)).status
		}
		for _, step := range []struct {
			counter uint32
			want    int
		}{{0, http.StatusSeeOther}, {0, http.StatusSeeOther}, {5, http.StatusSeeOther}, {5, http.StatusUnauthorized}, {4, http.StatusUnauthorized}, {0, http.StatusUnauthorized}, {6, http.StatusSeeOther}} {
			d.credential.Counter = step.counter
			if got := try(); got != step.want {
				t.Errorf("counter %d: %d, want %d", step.counter, got, step.want)
			}
		}
		if n := len(r.events(t, "factor.failed")); n != 3 {
			t.Errorf("%d events", n)
		}
	})
}

// Row 73: neither bytes nor time tell whether a user exists, at the login and at what it asks of passkeys.
func TestLoginTellsNothingOfUsers(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u := r.shop(t, "shop", trusted), r.user(t, "alice", false)
		r.withApp(t, u)
		r.user(t, "bob", false)
		s := r.surfer(t)
		v := s.authorize(ask(c))
		shape := func(v view, name string) string {
			return strings.ReplaceAll(regexp.MustCompile(`(value|data-options)="[A-Za-z0-9_-]{40,}"`).ReplaceAllString(v.body, ""), name, "NAME")
		}
		var bodies []string
		for _, name := range []string{"alice", "bobby", "nobody"} {
			hinted := s.authorize(ask(c, "login_hint", name))
			wrong := s.submit(v, "username", name, "password", "wrong "+name)
			bodies = append(bodies, fmt.Sprint(wrong.status, shape(wrong, name), shape(hinted, name), len(hinted.question(t))))
		}
		if bodies[0] != bodies[1] || bodies[1] != bodies[2] {
			t.Error("the pages of users and of strangers differ")
		}
	})
}
