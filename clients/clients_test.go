package clients_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"signet/audit"
	"signet/clients"
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
	return clients.New(store, slog.New(slog.DiscardHandler))
}

// valid is a client with everything set.
func valid() clients.Client {
	return clients.Client{
		ID: "web-shop", Name: "Web shop", Grants: []clients.Grant{clients.Password, clients.RefreshToken}, AuthMethod: clients.SecretBasic,
		Scope: clients.Scope{"read", "signet:account"}, Audience: []string{"https://api.example.com"},
		RedirectURIs: []string{"https://app.example.com/callback"}, BrowserOrigins: []string{"https://app.example.com"},
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
			[]string{"a", "Web shop", "Läden & Söhne", "名前", "<b>", strings.Repeat("ä", 255)},
			[]string{"", "a\x00b", "a\nb", "a\tb", "a\x1b[31m", "a\x7f", "a\u0085b", "a\xffb", strings.Repeat("a", 256)},
		},
		"token_endpoint_auth_method": {
			func(c *clients.Client, v string) { c.AuthMethod = clients.AuthMethod(v) },
			[]string{"client_secret_basic", "client_secret_post", "none"},
			[]string{"", "None", "private_key_jwt", "client_secret_jwt", "tls_client_auth", "client_secret_basic "},
		},
		"grant_types": {
			func(c *clients.Client, v string) { c.Grants = []clients.Grant{clients.Password, clients.Grant(v)} },
			[]string{"password", "refresh_token", "client_credentials"},
			[]string{"", "authorization_code", "implicit", "Password", "urn:ietf:params:oauth:grant-type:device_code"},
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
	bare := clients.Client{ID: "a", Name: "a", AuthMethod: clients.None}
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
	for want, v := range map[string]clients.Client{
		`{"client_id":"web-shop","client_id_issued_at":1760000000,"client_secret_expires_at":0,"client_name":"Web shop","grant_types":["password","refresh_token"],` +
			`"token_endpoint_auth_method":"client_secret_basic","scope":"read signet:account","audience":["https://api.example.com"],` +
			`"redirect_uris":["https://app.example.com/callback"],"browser_origins":["https://app.example.com"],"resource_server":false,"disabled":false}`: c,
		`{"client_id":"a","client_secret":"sgs_x","client_id_issued_at":1760000000,"client_secret_expires_at":0,"client_name":"a","grant_types":[],` +
			`"token_endpoint_auth_method":"none","scope":"","audience":[],"redirect_uris":[],"browser_origins":[],"resource_server":true,"disabled":true}`: {
			ID: "a", Name: "a", Secret: "sgs_x", AuthMethod: clients.None, CreatedAt: c.CreatedAt, ResourceServer: true, Disabled: true},
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
		if got := one.Resources("https://issuer"); len(got) != 1 || got[0] != "https://issuer" {
			t.Errorf("its resources are %q", got)
		}
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
	url := storagetest.SQLite(t)
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
