package clients_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"signet/audit"
	"signet/clients"
	"signet/keys"
	"signet/storage"
	"signet/storage/storagetest"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newService(store clients.Store) *clients.Service {
	return clients.New(store, clients.Config{}, discard)
}

var discard = slog.New(slog.DiscardHandler)

// valid is a client with everything set.
func valid() clients.Client {
	return clients.Client{
		ID: "web-shop", Name: "Web shop", Grants: []clients.Grant{clients.Password, clients.RefreshToken}, AuthMethod: clients.SecretBasic,
		Scope: clients.Scope{"read", "signet:account"}, Audience: []string{"https://api.example.com"},
		RedirectURIs: []string{"https://app.example.com/callback"}, BrowserOrigins: []string{"https://app.example.com"},
		ApplicationType: clients.Web, IDTokenAlg: keys.RS256,
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	long := "https://app.example.com/" + strings.Repeat("x", 2048)
	many := func(s string) (list []string) {
		for range 101 {
			list = append(list, s)
		}
		return list
	}
	for field, values := range map[string]struct {
		set       func(c *clients.Client, value string)
		good, bad []string
	}{
		"client_id": {
			func(c *clients.Client, v string) { c.ID = v },
			[]string{"a", "0", "a.b-c_d~e", "https://app.example.com", "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}", strings.Repeat("a", 255)},
			[]string{"", " ", "a b", "a\n", "ä", "a\x00", "a\x7f", strings.Repeat("a", 256), "\u00a0"},
		},
		"client_name": {
			func(c *clients.Client, v string) { c.Name = v },
			[]string{"a", "Web shop", "Läden & Söhne", "名前", "<b>", "7", "☕", strings.Repeat("ä", 255)},
			[]string{"", " ", "\u00a0", "\u200b", "\u3164", "shop\u202egnp.exe", "a\u2066b", "a\u200fb", "a\u2028b", "a\x00b", "a\nb", "a\tb", "a\x1b[31m", "a\x7f", "a\u0085b", "a\xffb", strings.Repeat("a", 256)},
		},
		"token_endpoint_auth_method": {
			func(c *clients.Client, v string) { c.AuthMethod = clients.AuthMethod(v) },
			[]string{"client_secret_basic", "client_secret_post", "none"},
			[]string{"", "None", "client_secret_jwt", "tls_client_auth", "client_secret_basic "},
		},
		"grant_types": {
			func(c *clients.Client, v string) { c.Grants = []clients.Grant{clients.Password, clients.Grant(v)} },
			[]string{"authorization_code", "password", "refresh_token", "client_credentials"},
			[]string{"", "code", "implicit", "Password", "urn:ietf:params:oauth:grant-type:jwt-bearer"},
		},
		"scope": {
			func(c *clients.Client, v string) { c.Scope = clients.Scope{"read", v} },
			[]string{"write", "signet:admin", "signet:account", "https://api.example.com/read", "a:b", "!#[]~"},
			[]string{"", "a\"b", "a\\b", "ä", "a\tb", "a\x00", "signet:", "signet:root", "signet:admin:x"},
		},
		"audience": {
			func(c *clients.Client, v string) { c.Audience = []string{"https://ok.example.com", v} },
			[]string{"https://api.example.com", "https://api.example.com/v1?x=y", "http://api.internal", "urn:example:api", "api://orders"},
			[]string{"", "api", "/v1", "//api.example.com", "https://api.example.com#x", "https://api.example.com#", "https://a b", ":", "https:", "https://a\x00b", "%", long},
		},
		"redirect_uris": {
			func(c *clients.Client, v string) { c.RedirectURIs = []string{"https://ok.example.com", v} },
			[]string{"https://app.example.com/callback?x=y", "http://localhost:3000/cb", "http://127.0.0.1/cb", "http://[::1]:8080/cb", "http://app.localhost/cb"},
			[]string{
				"", "app", "/cb", "//app.example.com/cb", "http://app.example.com/cb", "javascript:alert(1)", "JavaScript:alert(1)", "javascript://app.example.com/%0aalert(1)",
				"data:text/html,x", "data://app.example.com/x", "file:///etc/passwd", "vbscript:x", "ftp://app.example.com", "https:///cb", "https:app.example.com", "myapp:/cb", "myapp://cb",
				"https://app.example.com/cb#x", "https://app.example.com/cb#", "https://*.example.com/cb", "https://app.example.com/*", "https://ann:secret@app.example.com/cb", "https://ann@app.example.com",
				"https://app.example.com\\@evil.example", "https://app.example.com/a b", " https://app.example.com", "https://app.example.com ", "https://app.example.com/\n", "http://localhost.evil.example/cb",
				"http://127.0.0.1.evil.example/cb", "http://0.0.0.0/cb", "http://192.168.0.1/cb", "https://app.example.com:port/", long,
			},
		},
		"browser_origins": {
			func(c *clients.Client, v string) { c.BrowserOrigins = []string{"https://ok.example.com", v} },
			[]string{"https://app.example.com", "https://app.example.com:8443", "http://localhost:5173", "http://127.0.0.1:5173", "http://[::1]:5173"},
			[]string{
				"", "*", "null", "app.example.com", "https://", "https://app.example.com/", "https://app.example.com/x", "https://app.example.com?x", "https://app.example.com#x", "https://App.example.com",
				"HTTPS://app.example.com", "https://*.example.com", "https://*", "https://ann@app.example.com", "http://app.example.com", "javascript:alert(1)", "data:text/html,x", "file://", "https://a b", "https://app.example.com\\", long,
			},
		},
	} {
		for _, v := range values.good {
			c := valid()
			if values.set(&c, v); c.Validate() != nil {
				t.Errorf("%s %q: %v", field, v, c.Validate())
			}
		}
		for _, v := range values.bad {
			c := valid()
			values.set(&c, v)
			var wrong *clients.FieldError
			if err := c.Validate(); !errors.As(err, &wrong) || wrong.Field != field || wrong.Problem == "" || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s %q: %v", field, v, err)
			}
		}
	}
	for field, set := range map[string]func(c *clients.Client){
		"audience":        func(c *clients.Client) { c.Audience = many("https://a") },
		"redirect_uris":   func(c *clients.Client) { c.RedirectURIs = many("https://a") },
		"browser_origins": func(c *clients.Client) { c.BrowserOrigins = many("https://a") },
		"grant_types": func(c *clients.Client) {
			c.AuthMethod, c.Grants = clients.None, []clients.Grant{clients.ClientCredentials}
		},
		"resource_server": func(c *clients.Client) { c.AuthMethod, c.ResourceServer = clients.None, true },
	} {
		c := valid()
		set(&c)
		var wrong *clients.FieldError
		if err := c.Validate(); !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	bare := clients.Client{ID: "a", Name: "a", AuthMethod: clients.None, ApplicationType: clients.Web, IDTokenAlg: keys.RS256}
	check(t, bare.Validate())
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "app.localhost": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true,
		"": false, "localhost.example.com": false, "127.0.0.1.example.com": false, "10.0.0.1": false, "0.0.0.0": false, "::": false, "notlocalhost": false,
	} {
		if got := clients.Loopback(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func TestParseScope(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]clients.Scope{
		"": {}, "read": {"read"}, "read write": {"read", "write"}, "write read": {"write", "read"}, "read read": {"read"}, "a b a c b": {"a", "b", "c"},
		"READ read": {"READ", "read"}, "!#$%&'()*+,-./:;<=>?@[]^_`{|}~": {"!#$%&'()*+,-./:;<=>?@[]^_`{|}~"}, "signet:admin": {"signet:admin"},
	} {
		got, err := clients.ParseScope(s)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", s, err, diff)
		}
	}
	for _, s := range []string{" ", "read ", " read", "read  write", "a\tb", "a\nb", "a\"b", "a\\b", "ä", "a\x00", "a\x7f", "a\xff", "a\u00a0b"} {
		if got, err := clients.ParseScope(s); err == nil {
			t.Errorf("%q is read as %q", s, got)
		}
	}
}

// A long scope, as anybody can send, takes as much longer as it is longer.
func TestLongScopes(t *testing.T) {
	took := func(tokens int) time.Duration {
		var text strings.Builder
		for i := range tokens {
			fmt.Fprintf(&text, " s%d", i)
		}
		best := time.Hour
		for range 5 {
			began := time.Now()
			scope, err := clients.ParseScope(text.String()[1:])
			if best = min(best, time.Since(began)); err != nil || len(scope) != tokens {
				t.Fatalf("%d tokens of %d: %v", len(scope), tokens, err)
			}
		}
		return best
	}
	inTime(t, func() (long, most time.Duration) {
		most = 64 * took(1000)
		return took(16000), most
	})
}

// Members that are not known cost no more than to read them.
func TestUnknownMembers(t *testing.T) {
	var text strings.Builder
	text.WriteString(`{"client_name":"a"`)
	for i := range 6000 {
		fmt.Fprintf(&text, `,"k%d":1`, i)
	}
	text.WriteString("}")
	best := func(f func() error) time.Duration {
		least := time.Hour
		for range 5 {
			began := time.Now()
			if err := f(); err != nil {
				t.Fatal(err)
			}
			least = min(least, time.Since(began))
		}
		return least
	}
	inTime(t, func() (parsed, most time.Duration) {
		most = 6 * best(func() error { return json.Unmarshal([]byte(text.String()), new(map[string]json.RawMessage)) })
		return best(func() error {
			_, err := clients.ParseRegistration([]byte(text.String()))
			return err
		}), most
	})
}

// inTime fails where something always takes longer than it may. On a busy machine anything does now and then.
func inTime(t *testing.T, measure func() (took, most time.Duration)) {
	t.Helper()
	var took, most time.Duration
	for range 20 {
		if took, most = measure(); took <= most {
			return
		}
	}
	t.Errorf("it took %s each time, or more; at most %s were to be expected", took, most)
}

// What the object says of the id and of the authentication has to be something. Those who register themselves may send both empty.
func TestEmptyMembers(t *testing.T) {
	t.Parallel()
	for _, member := range []string{"client_id", "token_endpoint_auth_method"} {
		text := []byte(`{"` + member + `": ""}`)
		var wrong *clients.FieldError
		if _, err := clients.ParseMetadata(text); !errors.As(err, &wrong) || wrong.Field != member {
			t.Errorf("an empty %s: %v", member, err)
		}
		if c, err := clients.ParseRegistration(text); err != nil || c.ID != "" || c.AuthMethod != "" {
			t.Errorf("an empty %s in a registration: %+v, %v", member, c, err)
		}
	}
	if c, err := clients.ParseMetadata([]byte(`{"client_id": null, "token_endpoint_auth_method": null}`)); err != nil || c.ID != "" || c.AuthMethod != "" {
		t.Errorf("null: %+v, %v", c, err)
	}
}

func TestScope(t *testing.T) {
	t.Parallel()
	all := clients.Scope{"read", "signet:admin", "write", "signet:account", "signet"}
	if diff := cmp.Diff(clients.Scope{"read", "write", "signet"}, all.Default()); diff != "" || len(all) != 5 || all[1] != "signet:admin" {
		t.Errorf("by default (-want +got):\n%s", diff)
	}
	for _, c := range []struct {
		s, other clients.Scope
		want     bool
	}{
		{nil, nil, true}, {clients.Scope{}, clients.Scope{"a"}, true}, {clients.Scope{"a"}, nil, false}, {clients.Scope{"a"}, clients.Scope{"b", "a"}, true},
		{clients.Scope{"a", "b"}, clients.Scope{"a"}, false}, {clients.Scope{"A"}, clients.Scope{"a"}, false}, {clients.Scope{""}, clients.Scope{"a"}, false},
	} {
		if got := c.s.Within(c.other); got != c.want {
			t.Errorf("%q within %q: %v", c.s, c.other, got)
		}
	}
}

// FuzzParseScope wants of what is accepted that it is written as it was read, and says the same when it is read again.
func FuzzParseScope(f *testing.F) {
	for _, seed := range []string{"", " ", "read write", "read read", "a  b", "\"", "\\", "ä", "a\x00b", "signet:admin", strings.Repeat("a ", 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		scope, err := clients.ParseScope(s)
		if err != nil {
			return
		}
		again, err := clients.ParseScope(scope.String())
		if diff := cmp.Diff(scope, again); err != nil || diff != "" {
			t.Fatalf("%q: %v\n%s", s, err, diff)
		}
		seen := map[string]bool{}
		for _, token := range scope {
			if token == "" || seen[token] || strings.ContainsAny(token, " \"\\\r\n\t\x00") || !strings.Contains(s, token) {
				t.Fatalf("%q is read as %q", s, scope)
			}
			seen[token] = true
		}
		if !scope.Within(again) || !scope.Default().Within(scope) || len(scope.String()) > len(s) {
			t.Fatalf("%q is read as %q", s, scope)
		}
	})
}

// The object is what programs read: its members, their order, and nothing secret but what was just made.
func TestJSON(t *testing.T) {
	t.Parallel()
	c := valid()
	c.CreatedAt = time.Unix(1_760_000_000, 0)
	c.SecretDigest, c.PreviousDigest, c.Epoch = []byte("digest"), []byte("previous"), 7
	full := clients.Client{
		ID: "a", Name: "a", Secret: "sgs_x", AuthMethod: clients.None, CreatedAt: c.CreatedAt, ResourceServer: true, Disabled: true,
		ApplicationType: clients.Native, OptionalPKCE: true, SkipConsent: true, ClientURI: "https://a.example.com", LogoURI: "https://a.example.com/logo.png",
		PolicyURI: "https://a.example.com/privacy", TOSURI: "https://a.example.com/terms", Contacts: []string{"a@example.com"},
		PostLogoutRedirectURIs: []string{"https://a.example.com/bye"}, BackchannelLogoutURI: "https://a.example.com/logout", BackchannelLogoutSessionRequired: true,
		IDTokenAlg: keys.EdDSA, DefaultMaxAge: new(time.Duration), RequireAuthTime: true, AccessTTL: 5 * time.Minute, RefreshTTL: 24 * time.Hour, SessionTTL: 30 * 24 * time.Hour,
	}
	for want, v := range map[string]clients.Client{
		`{"client_id":"web-shop","client_id_issued_at":1760000000,"client_secret_expires_at":0,"client_name":"Web shop","grant_types":["password","refresh_token"],` +
			`"response_types":["code"],"token_endpoint_auth_method":"client_secret_basic","scope":"read signet:account","audience":["https://api.example.com"],` +
			`"redirect_uris":["https://app.example.com/callback"],"application_type":"web","require_pkce":true,"skip_consent":false,"contacts":[],` +
			`"post_logout_redirect_uris":[],"backchannel_logout_session_required":false,"id_token_signed_response_alg":"RS256","require_auth_time":false,` +
			`"require_pushed_authorization_requests":false,"dpop_bound_access_tokens":false,"browser_origins":["https://app.example.com"],"resource_server":false,"disabled":false}`: c,
		`{"client_id":"a","client_secret":"sgs_x","client_id_issued_at":1760000000,"client_secret_expires_at":0,"client_name":"a","grant_types":[],"response_types":["code"],` +
			`"token_endpoint_auth_method":"none","scope":"","audience":[],"redirect_uris":[],"application_type":"native","require_pkce":false,"skip_consent":true,` +
			`"client_uri":"https://a.example.com","logo_uri":"https://a.example.com/logo.png","policy_uri":"https://a.example.com/privacy","tos_uri":"https://a.example.com/terms",` +
			`"contacts":["a@example.com"],"post_logout_redirect_uris":["https://a.example.com/bye"],"backchannel_logout_uri":"https://a.example.com/logout",` +
			`"backchannel_logout_session_required":true,"id_token_signed_response_alg":"EdDSA","default_max_age":0,"require_auth_time":true,` +
			`"access_token_ttl":"5m","refresh_token_ttl":"24h","session_ttl":"30d","require_pushed_authorization_requests":false,"dpop_bound_access_tokens":false,"browser_origins":[],"resource_server":true,"disabled":true}`: full,
	} {
		got, err := json.Marshal(v)
		if err != nil || string(got) != want {
			t.Errorf("%v\n got %s\nwant %s", err, got, want)
		}
	}
}

// create registers a client as the caller does.
func create(t testing.TB, s *clients.Service, c clients.Client) clients.Client {
	t.Helper()
	created, err := s.Create(t.Context(), c, audit.Origin{})
	check(t, err)
	return created
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		store := b.Open(t)
		admin := newService(store)
		disable := func(id string) {
			_, err := admin.SetDisabled(t.Context(), id, true, audit.Origin{})
			check(t, err)
		}
		public := create(t, admin, clients.Client{ID: "public", Name: "App", AuthMethod: clients.None})
		disabledPublic := create(t, admin, clients.Client{ID: "disabled-public", Name: "App", AuthMethod: clients.None})
		basic := create(t, admin, clients.Client{ID: "basic", Name: "App"})
		post := create(t, admin, clients.Client{ID: "post", Name: "App", AuthMethod: clients.SecretPost})
		disabled := create(t, admin, clients.Client{ID: "disabled", Name: "App"})
		disable("disabled")
		disable("disabled-public")
		first := create(t, admin, clients.Client{ID: "rotated", Name: "App"})
		second, err := admin.RotateSecret(t.Context(), "rotated", time.Hour, audit.Origin{})
		check(t, err)
		third, err := admin.RotateSecret(t.Context(), "rotated", time.Hour, audit.Origin{})
		check(t, err)
		abrupt := create(t, admin, clients.Client{ID: "abrupt", Name: "App"})
		abruptly, err := admin.RotateSecret(t.Context(), "abrupt", 0, audit.Origin{})
		check(t, err)
		gone := create(t, admin, clients.Client{ID: "gone", Name: "App"})
		check(t, admin.Delete(t.Context(), "gone", audit.Origin{}))

		type try struct {
			id, secret string
			want       bool
		}
		tries := map[string]try{
			"public, none":              {public.ID, "", true},
			"public, a secret":          {public.ID, "sgs_x", false},
			"public, another's secret":  {public.ID, basic.Secret, false},
			"public, disabled":          {disabledPublic.ID, "", false},
			"basic, right":              {basic.ID, basic.Secret, true},
			"post, right":               {post.ID, post.Secret, true},
			"basic, none":               {basic.ID, "", false},
			"basic, wrong":              {basic.ID, "sgs_x", false},
			"basic, cut":                {basic.ID, basic.Secret[:len(basic.Secret)-1], false},
			"basic, longer":             {basic.ID, basic.Secret + "x", false},
			"basic, another's":          {basic.ID, post.Secret, false},
			"basic, other case":         {basic.ID, strings.ToUpper(basic.Secret), false},
			"other case of the id":      {"BASIC", basic.Secret, false},
			"disabled, right":           {disabled.ID, disabled.Secret, false},
			"rotated, the newest":       {"rotated", third.Secret, true},
			"rotated, the one before":   {"rotated", second.Secret, true},
			"rotated, the first":        {"rotated", first.Secret, false},
			"no overlap, the new one":   {"abrupt", abruptly.Secret, true},
			"no overlap, the old one":   {"abrupt", abrupt.Secret, false},
			"deleted":                   {gone.ID, gone.Secret, false},
			"unknown":                   {"nobody", "sgs_x", false},
			"no id":                     {"", "", false},
			"an id that cannot be":      {"a\x00b", "sgs_x", false},
			"an id of another alphabet": {"bäsic", basic.Secret, false},
		}
		all := func(tries map[string]try) {
			t.Helper()
			for name, c := range tries {
				for range 2 { // from the database, and from the cache
					got, err := admin.Authenticate(t.Context(), c.id, c.secret)
					if (err == nil) != c.want || err != nil && !errors.Is(err, clients.ErrUnauthenticated) || c.want && got.ID != c.id {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
		}
		all(tries)
		b.Age(t, 2*time.Hour) // the overlap ends
		admin = newService(store)
		tries["rotated, the one before"] = try{"rotated", second.Secret, false}
		all(tries)
	})
}

// Secrets are random, made here, and shown by the call that made them alone.
func TestSecretsAreShownOnce(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		s := newService(b.Open(t))
		c := create(t, s, clients.Client{ID: "app", Name: "App"})
		rotated, err := s.RotateSecret(t.Context(), "app", time.Hour, audit.Origin{})
		check(t, err)
		public := create(t, s, clients.Client{ID: "public", Name: "App", AuthMethod: clients.None})
		if public.Secret != "" || public.SecretDigest != nil {
			t.Errorf("a public client has the secret %q", public.Secret)
		}
		public.AuthMethod = clients.SecretPost
		confidential, err := s.Update(t.Context(), public, audit.Origin{})
		check(t, err)
		secrets := []string{c.Secret, rotated.Secret, confidential.Secret}
		for i, secret := range secrets {
			if len(secret) != 4+43 || !strings.HasPrefix(secret, "sgs_") || i > 0 && secret == secrets[i-1] {
				t.Errorf("the secret is %q", secret)
			}
		}
		renamed := rotated
		renamed.Name = "Other"
		updated, err := s.Update(t.Context(), renamed, audit.Origin{})
		check(t, err)
		disabled, err := s.SetDisabled(t.Context(), "app", true, audit.Origin{})
		check(t, err)
		shown, err := s.Get(t.Context(), "app")
		check(t, err)
		list, err := s.List(t.Context(), clients.Filter{Limit: 10})
		check(t, err)
		for name, v := range map[string]any{"update": updated, "disable": disabled, "show": shown, "list": list} {
			text, err := json.Marshal(v)
			check(t, err)
			for _, hidden := range []string{"client_secret\"", "sgs_", "igest", "epoch", "Epoch"} {
				if bytes.Contains(text, []byte(hidden)) {
					t.Errorf("%s shows %s: %s", name, hidden, text)
				}
			}
		}
		if _, err := s.RotateSecret(t.Context(), "nobody", 0, audit.Origin{}); !errors.Is(err, clients.ErrNotFound) {
			t.Errorf("an unknown client: %v", err)
		}
		mobile := create(t, s, clients.Client{ID: "mobile", Name: "App", AuthMethod: clients.None})
		var wrong *clients.FieldError
		if _, err := s.RotateSecret(t.Context(), mobile.ID, 0, audit.Origin{}); !errors.As(err, &wrong) {
			t.Errorf("a public client: %v", err)
		}
	})
}

func TestCreateFillsIn(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		s := newService(b.Open(t))
		one, two := create(t, s, clients.Client{Name: "App"}), create(t, s, clients.Client{Name: "App"})
		if one.ID == "" || one.ID == two.ID || one.Epoch == two.Epoch || one.Epoch < 0 || one.AuthMethod != clients.SecretBasic || one.Disabled {
			t.Errorf("%+v", one)
		}
		if diff := cmp.Diff([]clients.Grant{clients.Password, clients.RefreshToken}, one.Grants); diff != "" {
			t.Errorf("grants (-want +got):\n%s", diff)
		}
		if none := create(t, s, clients.Client{Name: "API", Grants: []clients.Grant{}}); len(none.Grants) != 0 {
			t.Errorf("none was asked for: %v", none.Grants)
		}
		if _, err := s.Create(t.Context(), clients.Client{ID: one.ID, Name: "App"}, audit.Origin{}); !errors.Is(err, clients.ErrExists) {
			t.Errorf("again: %v", err)
		}
		twice := []string{"https://a.example", "https://b.example", "https://a.example"}
		c := create(t, s, clients.Client{
			Name: "App", Grants: []clients.Grant{clients.Password, clients.Password}, Audience: twice, RedirectURIs: twice, BrowserOrigins: twice,
			Contacts: twice, PostLogoutRedirectURIs: twice,
		})
		if diff := cmp.Diff([]clients.Grant{clients.Password}, c.Grants); diff != "" {
			t.Errorf("a grant twice (-want +got):\n%s", diff)
		}
		for _, list := range [][]string{c.Audience, c.RedirectURIs, c.BrowserOrigins, c.Contacts, c.PostLogoutRedirectURIs} {
			if diff := cmp.Diff(twice[:2], list); diff != "" {
				t.Errorf("an entry twice (-want +got):\n%s", diff)
			}
		}
		if got := one.Resources("https://issuer"); len(got) != 1 || got[0] != "https://issuer" {
			t.Errorf("its resources are %q", got)
		}
	})
}

// A client with redirect URIs logs users in by code, unless it says otherwise.
func TestCreateFillsInForCodes(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		s := newService(b.Open(t))
		back, code := []string{"https://app.example.com/cb"}, []clients.Grant{clients.AuthorizationCode, clients.RefreshToken}
		login := clients.Scope{"openid", "profile", "email", "offline_access"}
		for name, c := range map[string]struct{ given, want clients.Client }{
			"redirect URIs":            {clients.Client{RedirectURIs: back}, clients.Client{Grants: code, Scope: login}},
			"and a scope":              {clients.Client{RedirectURIs: back, Scope: clients.Scope{"read"}}, clients.Client{Grants: code, Scope: clients.Scope{"read"}}},
			"and an empty scope":       {clients.Client{RedirectURIs: back, Scope: clients.Scope{}}, clients.Client{Grants: code, Scope: clients.Scope{}}},
			"and the code grant":       {clients.Client{RedirectURIs: back, Grants: code[:1]}, clients.Client{Grants: code[:1], Scope: login}},
			"and the password grant":   {clients.Client{RedirectURIs: back, Grants: []clients.Grant{clients.Password}}, clients.Client{Grants: []clients.Grant{clients.Password}}},
			"and no grant":             {clients.Client{RedirectURIs: back, Grants: []clients.Grant{}}, clients.Client{Grants: []clients.Grant{}}},
			"no redirect URIs":         {clients.Client{}, clients.Client{Grants: []clients.Grant{clients.Password, clients.RefreshToken}}},
			"those after logging out ": {clients.Client{PostLogoutRedirectURIs: back}, clients.Client{Grants: []clients.Grant{clients.Password, clients.RefreshToken}}},
		} {
			got := create(t, s, c.given)
			if diff := cmp.Diff(c.want.Grants, got.Grants, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: grants (-want +got):\n%s", name, diff)
			}
			if diff := cmp.Diff(c.want.Scope, got.Scope, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: scope (-want +got):\n%s", name, diff)
			}
			if got.ApplicationType != clients.Web || got.IDTokenAlg != keys.RS256 || !got.NeedsPKCE() || got.SkipConsent || got.DefaultMaxAge != nil || got.AccessTTL != 0 {
				t.Errorf("%s: %+v", name, got)
			}
		}
		var wrong *clients.FieldError
		if _, err := s.Create(t.Context(), clients.Client{Grants: code}, audit.Origin{}); !errors.As(err, &wrong) || wrong.Field != "redirect_uris" {
			t.Errorf("without redirect URIs: %v", err)
		}
	})
}

func TestNeedsPKCE(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method         clients.AuthMethod
		optional, want bool
	}{{clients.None, false, true}, {clients.None, true, true}, {clients.SecretBasic, false, true}, {clients.SecretPost, true, false}} {
		client := clients.Client{AuthMethod: c.method, OptionalPKCE: c.optional}
		if got := client.NeedsPKCE(); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

func TestTTL(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "1s": "1s", "90s": "90s", "15m": "15m", "60m": "1h", "90m": "90m", "12h": "12h", "24h": "24h", "1d": "24h", "48h": "2d", "30d": "30d", "2w": "14d", "1h1s": "3601s", "36500d": "36500d",
	} {
		d, err := clients.ParseTTL(text)
		if got := clients.FormatTTL(d); err != nil || got != want {
			t.Errorf("%q is written %q: %v", text, got, err)
		}
		if again, err := clients.ParseTTL(want); err != nil || again != d {
			t.Errorf("%q is read as %s: %v", want, again, err)
		}
	}
	for _, text := range []string{" ", "0", "0s", "-1h", "15", "soon", "500ms", "1.5s", "36501d", "15 m", "1y", "1e3s", "99999999999999999999h"} {
		if d, err := clients.ParseTTL(text); err == nil {
			t.Errorf("%q is read as %s", text, d)
		}
	}
	for text, want := range map[string]time.Duration{"0": 0, "0s": 0, "300": 5 * time.Minute, "12h": 12 * time.Hour} {
		d, err := clients.ParseMaxAge(text)
		if err != nil || d == nil || *d != want {
			t.Errorf("%q is read as %v: %v", text, d, err)
			continue
		}
		if again, err := clients.ParseMaxAge(clients.FormatMaxAge(d)); err != nil || *again != want {
			t.Errorf("%q: %v", clients.FormatMaxAge(d), err)
		}
	}
	if d, err := clients.ParseMaxAge(""); err != nil || d != nil || clients.FormatMaxAge(nil) != "" {
		t.Errorf("none: %v, %v", d, err)
	}
	for _, text := range []string{"-1", "-1s", "500ms", "soon", "99999999999", " 1"} {
		if d, err := clients.ParseMaxAge(text); err == nil {
			t.Errorf("%q is read as %s", text, d)
		}
	}
}

// What another process says of clients' pages and of scopes is known within the same time; what this one does, at once.
func TestLatelyKnown(t *testing.T) {
	t.Parallel()
	url := storagetest.MigratedSQLite(t)
	synctest.Test(t, func(t *testing.T) {
		store, err := storage.Open(t.Context(), url, nil)
		check(t, err)
		defer store.Close()
		check(t, store.Migrate(t.Context()))
		here, there := newService(store), newService(store)
		state := func(want bool, description string) {
			t.Helper()
			if got, err := here.TokenOrigin(t.Context(), "https://app.example.com"); err != nil || got != want {
				t.Errorf("the origin is known: %t, %v", got, err)
			}
			got, err := here.ScopeDescriptions(t.Context())
			if err != nil || got["read"] != description {
				t.Errorf("the description is %q, %v", got["read"], err)
			}
			got["read"] = "changed by a caller"
		}
		describe := func(s *clients.Service, description string) {
			t.Helper()
			_, err := s.DescribeScope(t.Context(), "read", description, audit.Origin{})
			check(t, err)
		}
		state(false, "")
		describe(there, "Read")
		create(t, there, clients.Client{ID: "spa", AuthMethod: clients.None, RedirectURIs: []string{"https://app.example.com/cb"}})
		state(false, "")
		time.Sleep(clients.Staleness)
		state(true, "Read")
		describe(here, "Read all")
		_, err = here.SetDisabled(t.Context(), "spa", true, audit.Origin{})
		check(t, err)
		state(false, "Read all")
		check(t, here.ForgetScope(t.Context(), "read", audit.Origin{}))
		state(false, "")
	})
}

func TestServes(t *testing.T) {
	t.Parallel()
	const issuer = "https://auth.example.com"
	for name, c := range map[string]struct {
		client clients.Client
		aud    []string
		want   bool
	}{
		"its audience":                 {clients.Client{ResourceServer: true, Audience: []string{"https://a"}}, []string{"https://a"}, true},
		"one of its audiences":         {clients.Client{ResourceServer: true, Audience: []string{"https://a", "https://b"}}, []string{"https://c", "https://b"}, true},
		"another audience":             {clients.Client{ResourceServer: true, Audience: []string{"https://a"}}, []string{"https://b"}, false},
		"the issuer, with an audience": {clients.Client{ResourceServer: true, Audience: []string{"https://a"}}, []string{issuer}, false},
		"the issuer, without one":      {clients.Client{ResourceServer: true}, []string{issuer}, true},
		"no resource server":           {clients.Client{Audience: []string{"https://a"}}, []string{"https://a"}, false},
		"a token for nobody":           {clients.Client{ResourceServer: true}, nil, false},
	} {
		if got := c.client.Serves(c.aud, issuer); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// counting counts the reads of single clients.
type counting struct {
	clients.Store

	mu    sync.Mutex
	reads int
	slow  time.Duration
}

func (c *counting) Client(ctx context.Context, id string) (clients.Client, error) {
	c.mu.Lock()
	c.reads++
	c.mu.Unlock()
	time.Sleep(c.slow)
	return c.Store.Client(ctx, id)
}

// What another process changes binds authentication within two seconds, what this one does at once; and in between the
// database is asked once a second, however many ask.
func TestCacheStaleness(t *testing.T) {
	t.Parallel()
	if clients.Staleness > 2*time.Second {
		t.Errorf("clients may be stale for %s", clients.Staleness)
	}
	url := storagetest.MigratedSQLite(t)
	synctest.Test(t, func(t *testing.T) {
		store, err := storage.Open(t.Context(), url, nil)
		check(t, err)
		defer store.Close()
		check(t, store.Migrate(t.Context()))
		counted := &counting{Store: store}
		here, there := newService(counted), newService(store)
		c := create(t, there, clients.Client{ID: "app", Name: "App"})
		good := func(secret string) bool {
			_, err := here.Authenticate(t.Context(), "app", secret)
			if err != nil && !errors.Is(err, clients.ErrUnauthenticated) {
				t.Error(err)
			}
			return err == nil
		}
		for range 100 {
			if !good(c.Secret) {
				t.Fatal("the right secret is refused")
			}
		}
		if counted.reads != 1 {
			t.Errorf("100 requests read the client %d times", counted.reads)
		}
		rotated, err := there.RotateSecret(t.Context(), "app", 0, audit.Origin{})
		check(t, err)
		time.Sleep(clients.Staleness)
		if good(c.Secret) || !good(rotated.Secret) {
			t.Error("a rotation elsewhere does not bind in time")
		}
		_, err = there.SetDisabled(t.Context(), "app", true, audit.Origin{})
		check(t, err)
		time.Sleep(clients.Staleness)
		if good(rotated.Secret) {
			t.Error("a disabled client is good")
		}
		_, err = here.SetDisabled(t.Context(), "app", false, audit.Origin{})
		check(t, err)
		if !good(rotated.Secret) {
			t.Error("what was changed here does not bind at once")
		}
		check(t, there.Delete(t.Context(), "app", audit.Origin{}))
		time.Sleep(clients.Staleness)
		if good(rotated.Secret) {
			t.Error("a deleted client is good")
		}

		// One that is registered after it was asked for is known at once: absence is not remembered.
		again := create(t, there, clients.Client{ID: "app", Name: "App"})
		if !good(again.Secret) {
			t.Error("a client is unknown because it was unknown before")
		}

		// Requests that come at the same time share one read, and one caller who goes away takes it from nobody.
		time.Sleep(clients.Staleness)
		counted.reads, counted.slow = 0, 100*time.Millisecond
		leaving, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := here.Authenticate(leaving, "app", again.Secret); !errors.Is(err, context.Canceled) {
				t.Errorf("the caller who went away: %v", err)
			}
		})
		synctest.Wait()
		for range 50 {
			wg.Go(func() {
				if !good(again.Secret) {
					t.Error("the right secret is refused")
				}
			})
		}
		synctest.Wait()
		leave()
		wg.Wait()
		if counted.reads != 1 {
			t.Errorf("50 requests at once read the client %d times", counted.reads)
		}
	})
}

// An error of the database is no wrong secret.
func TestDatabaseErrorIsNoRefusal(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	s := newService(failing{err: gone})
	if _, err := s.Authenticate(t.Context(), "app", "sgs_x"); !errors.Is(err, gone) || errors.Is(err, clients.ErrUnauthenticated) {
		t.Error(err)
	}
	if _, err := s.Authenticate(t.Context(), "", ""); !errors.Is(err, clients.ErrUnauthenticated) {
		t.Errorf("an id that cannot be reached the database: %v", err)
	}
}

type failing struct {
	clients.Store

	err error
}

func (f failing) Client(context.Context, string) (clients.Client, error) {
	return clients.Client{}, f.err
}
