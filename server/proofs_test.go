package server_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"signet/audit"
	"signet/clients"
	"signet/keys"
)

// keyPair is a key that a client holds.
type keyPair struct {
	alg     jose.SignatureAlgorithm
	private crypto.Signer
	kid     string
}

func newKey(t testing.TB, alg jose.SignatureAlgorithm) keyPair {
	t.Helper()
	k := keyPair{alg: alg, kid: uuid.NewString()}
	var err error
	switch alg {
	case jose.ES256:
		k.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.EdDSA:
		_, k.private, err = ed25519.GenerateKey(rand.Reader)
	default:
		k.private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	check(t, err)
	return k
}

func (k keyPair) jwk() jose.JSONWebKey { return jose.JSONWebKey{Key: k.private.Public(), KeyID: k.kid} }

func (k keyPair) jkt(t testing.TB) string {
	t.Helper()
	jwk := k.jwk()
	sum, err := jwk.Thumbprint(crypto.SHA256)
	check(t, err)
	return base64.RawURLEncoding.EncodeToString(sum)
}

func jwks(t testing.TB, list ...keyPair) json.RawMessage {
	t.Helper()
	var set jose.JSONWebKeySet
	for _, k := range list {
		set.Keys = append(set.Keys, k.jwk())
	}
	text, err := json.Marshal(set)
	check(t, err)
	return text
}

// sign makes a JWT, with those members of the header besides alg.
func (k keyPair) sign(t testing.TB, header, claims map[string]any) string {
	t.Helper()
	options := &jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{}}
	for name, value := range header {
		options.ExtraHeaders[jose.HeaderKey(name)] = value
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: k.alg, Key: k.private}, options)
	check(t, err)
	payload, err := json.Marshal(claims)
	check(t, err)
	signed, err := signer.Sign(payload)
	check(t, err)
	text, err := signed.CompactSerialize()
	check(t, err)
	return text
}

// changed returns the map with other values; nil removes one.
func changed(m, change map[string]any) map[string]any {
	m = maps.Clone(m)
	for name, value := range change {
		if m[name] = value; value == nil {
			delete(m, name)
		}
	}
	return m
}

type set = map[string]any

// proof makes a DPoP proof for a request below the issuer.
func (k keyPair) proof(t testing.TB, method, path string, change ...set) string {
	t.Helper()
	header := set{"typ": "dpop+jwt", "jwk": k.jwk()}
	claims := set{"jti": uuid.NewString(), "htm": method, "htu": issuer + path, "iat": time.Now().Unix()}
	for i, c := range change {
		if i == 0 {
			claims = changed(claims, c)
		} else {
			header = changed(header, c)
		}
	}
	return k.sign(t, header, claims)
}

func athOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// assertion makes a client assertion for the issuer.
func (k keyPair) assertion(t testing.TB, clientID string, change ...set) string {
	t.Helper()
	header := set{"kid": k.kid}
	claims := set{"iss": clientID, "sub": clientID, "aud": issuer, "jti": uuid.NewString(), "exp": time.Now().Add(time.Minute).Unix(), "iat": time.Now().Unix()}
	for i, c := range change {
		if i == 0 {
			claims = changed(claims, c)
		} else {
			header = changed(header, c)
		}
	}
	return k.sign(t, header, claims)
}

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// asserting is a form with a client assertion.
func asserting(assertion string, pairs ...string) string {
	return form(append([]string{"client_assertion_type", assertionType, "client_assertion", assertion}, pairs...)...).Encode()
}

func keyed(t testing.TB, k ...keyPair) func(*clients.Client) {
	return func(c *clients.Client) { c.AuthMethod, c.JWKS = clients.PrivateKeyJWT, jwks(t, k...) }
}

// send posts a body without any authentication of the harness's own.
func (r *replica) send(t testing.TB, path, body string, options ...option) answer {
	t.Helper()
	return r.do(t, r.request(t.Context(), path, body, options...))
}

// What a client assertion has to be (RFC 7523 section 3), and what it must not.
func TestClientAssertions(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r, other := start(t, b), start(t, b)
		key, another := newKey(t, jose.ES256), newKey(t, jose.ES256)
		c := r.app(t, "machine", keyed(t, key))
		r.app(t, "neighbour", keyed(t, another))
		secretive := r.app(t, "secretive")
		machines := []string{"grant_type", "client_credentials"}
		now := time.Now()
		good := map[string]string{
			"issuer":                  key.assertion(t, c.ID),
			"endpoint":                key.assertion(t, c.ID, set{"aud": issuer + "/token"}),
			"five minutes":            key.assertion(t, c.ID, set{"exp": now.Add(5 * time.Minute).Unix()}),
			"iat and nbf 8 s ahead":   key.assertion(t, c.ID, set{"iat": now.Unix() + 8, "nbf": now.Unix() + 8}),
			"no kid":                  key.assertion(t, c.ID, nil, set{"kid": nil}),
			"its own type":            key.assertion(t, c.ID, nil, set{"typ": "client-authentication+jwt"}),
			"a minute behind":         key.assertion(t, c.ID, set{"iat": now.Unix() - 60, "exp": now.Unix() + 5}),
			"unknown claims as usual": key.assertion(t, c.ID, set{"extra": set{"a": 1}}),
		}
		for name, a := range good {
			if got := r.send(t, "/token", asserting(a, machines...)); got.status != http.StatusOK {
				t.Errorf("%s: got %d %s", name, got.status, got.body)
			}
		}
		used := key.assertion(t, c.ID)
		r.send(t, "/token", asserting(used, machines...)).issued(t)
		if a := r.send(t, "/token", asserting(used, machines...)); !strings.HasPrefix(a.text("error_description"), "the client assertion was used before") {
			t.Errorf("the same again: %s", a.body)
		}
		hmac, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(strings.Repeat("k", 32))}, nil)
		check(t, err)
		symmetric, err := hmac.Sign([]byte(`{"iss":"machine","sub":"machine","aud":"` + issuer + `","jti":"1","exp":99999999999}`))
		check(t, err)
		hs, err := symmetric.CompactSerialize()
		check(t, err)
		none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + strings.Split(used, ".")[1] + "."
		rs := newKey(t, jose.RS256)
		bad := map[string]string{
			"wrong aud":               key.assertion(t, c.ID, set{"aud": "https://elsewhere.example"}),
			"aud an array":            key.assertion(t, c.ID, set{"aud": []string{issuer}}),
			"no aud":                  key.assertion(t, c.ID, set{"aud": nil}),
			"another iss":             key.assertion(t, c.ID, set{"iss": "neighbour"}),
			"no iss":                  key.assertion(t, c.ID, set{"iss": nil}),
			"no sub":                  key.assertion(t, c.ID, set{"sub": nil}),
			"exp in the past":         key.assertion(t, c.ID, set{"exp": now.Unix() - 1}),
			"exp far ahead":           key.assertion(t, c.ID, set{"exp": now.Add(time.Hour).Unix()}),
			"no exp":                  key.assertion(t, c.ID, set{"exp": nil}),
			"exp text":                key.assertion(t, c.ID, set{"exp": "soon"}),
			"iat ahead":               key.assertion(t, c.ID, set{"iat": now.Unix() + 61}),
			"nbf ahead":               key.assertion(t, c.ID, set{"nbf": now.Unix() + 61}),
			"no jti":                  key.assertion(t, c.ID, set{"jti": nil}),
			"empty jti":               key.assertion(t, c.ID, set{"jti": ""}),
			"jti of 2 KiB":            key.assertion(t, c.ID, set{"jti": strings.Repeat("x", 2048)}),
			"the same again":          used,
			"none":                    none,
			"HS256":                   hs,
			"unknown kid":             key.assertion(t, c.ID, nil, set{"kid": "unknown"}),
			"another client's kid":    key.assertion(t, c.ID, nil, set{"kid": another.kid}),
			"another client's key":    another.assertion(t, c.ID),
			"unknown client":          key.assertion(t, "nobody"),
			"a client with a secret":  key.assertion(t, secretive.ID),
			"jku":                     key.assertion(t, c.ID, nil, set{"jku": "https://keys.example"}),
			"jwk":                     key.assertion(t, c.ID, nil, set{"jwk": key.jwk()}),
			"x5u":                     key.assertion(t, c.ID, nil, set{"x5u": "https://keys.example"}),
			"an access token's type":  key.assertion(t, c.ID, nil, set{"typ": "at+jwt"}),
			"an algorithm of no key":  rs.assertion(t, c.ID, nil, set{"kid": key.kid}),
			"no JWT":                  "x",
			"a JWT of 100 KiB":        strings.Repeat("x", 40<<10),
			"a broken signature":      used[:len(used)-8] + "AAAAAAAA",
			"a critical header":       key.assertion(t, c.ID, nil, set{"crit": []string{"x"}, "x": 1}),
			"the endpoint of another": key.assertion(t, c.ID, set{"aud": issuer + "/revoke"}),
		}
		for name, a := range bad {
			if got := other.send(t, "/token", asserting(a, machines...)); got.status != http.StatusUnauthorized || got.text("error") != "invalid_client" {
				t.Errorf("%s: got %d %s", name, got.status, got.body)
			}
		}
		fresh := func() string { return key.assertion(t, c.ID) }
		for name, body := range map[string]string{
			"beside another client's id":      asserting(fresh(), append(machines, "client_id", "neighbour")...),
			"another type":                    form("client_assertion_type", "saml", "client_assertion", fresh(), "grant_type", "client_credentials").Encode(),
			"no type":                         form("client_assertion", fresh(), "grant_type", "client_credentials").Encode(),
			"no assertion":                    form("client_assertion_type", assertionType, "grant_type", "client_credentials").Encode(),
			"a secret in place of the keys":   form("client_id", c.ID, "client_secret", "sgs_x", "grant_type", "client_credentials").Encode(),
			"nothing at all but the id":       form("client_id", c.ID, "grant_type", "client_credentials").Encode(),
			"its own id with a spent one, to": asserting(used, append(machines, "client_id", c.ID)...),
		} {
			r.send(t, "/token", body).want(t, http.StatusUnauthorized, "invalid_client")
			_ = name
		}
		r.send(t, "/token", asserting(fresh(), machines...)+"&client_assertion="+fresh()).want(t, http.StatusBadRequest, "invalid_request") // repeated
		r.send(t, "/token", asserting(fresh(), machines...), basic(c.ID, "x")).want(t, http.StatusBadRequest, "invalid_request")            // RFC 6749 section 2.3
		r.send(t, "/token", asserting(fresh(), append(machines, "client_secret", "sgs_x")...)).want(t, http.StatusBadRequest, "invalid_request")
		r.send(t, "/token", asserting(fresh(), append(machines, "client_id", c.ID)...)).issued(t)

		token := r.send(t, "/token", asserting(fresh(), machines...)).issued(t).text("access_token")
		if a := r.send(t, "/introspect", asserting(key.assertion(t, c.ID, set{"aud": issuer + "/introspect"}), "token", token)); a.json["active"] != true {
			t.Errorf("introspection by assertion: %d %s", a.status, a.body)
		}
		if a := r.send(t, "/revoke", asserting(fresh(), "token", token)); a.status != http.StatusOK {
			t.Errorf("revocation by assertion: %d %s", a.status, a.body)
		}

		// Of 32 uses of one assertion on two replicas, one counts.
		once, replicas := fresh(), []*replica{r, other}
		var won atomic.Int32
		var all sync.WaitGroup
		for i := range 32 {
			all.Go(func() {
				a, err := replicas[i%2].try(replicas[i%2].request(context.Background(), "/token", asserting(once, machines...)))
				if err == nil && a.status == http.StatusOK {
					won.Add(1)
				}
			})
		}
		if all.Wait(); won.Load() != 1 {
			t.Errorf("one assertion counted %d times", won.Load())
		}
		start(t, b).send(t, "/token", asserting(once, machines...)).want(t, http.StatusUnauthorized, "invalid_client") // after a restart

		r.closeStore()
		r.send(t, "/token", asserting(fresh(), machines...)).want(t, http.StatusServiceUnavailable, "temporarily_unavailable")
	})
}

// An assertion that names none of a client's many keys is not checked with all of them, so that nobody keeps the server busy by it.
func TestAssertionsOfManyKeys(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		var keys []keyPair
		for _, alg := range []jose.SignatureAlgorithm{"EdDSA", "EdDSA", "EdDSA", "EdDSA", "ES256", "ES256", "ES256", "ES256", "ES256"} {
			keys = append(keys, newKey(t, alg))
		}
		c := r.app(t, "machine", keyed(t, keys...))
		for i, want := range map[int]int{3: http.StatusOK, 4: http.StatusOK, 7: http.StatusOK, 8: http.StatusUnauthorized} {
			a := r.send(t, "/token", asserting(keys[i].assertion(t, c.ID, nil, set{"kid": nil}), "grant_type", "client_credentials"))
			if a.status != want {
				t.Errorf("key %d without its kid: got %d %s", i, a.status, a.body)
			}
		}
		r.send(t, "/token", asserting(keys[8].assertion(t, c.ID), "grant_type", "client_credentials")).issued(t)
	})
}

// A client's keys may be at an address of its own. They are fetched anew for an unknown key, once a minute, and stay good meanwhile.
func TestKeysAtAnAddress(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		first, second := newKey(t, jose.PS256), newKey(t, jose.EdDSA)
		var fetches atomic.Int32
		var published atomic.Pointer[[]byte]
		publish := func(k ...keyPair) {
			text := []byte(jwks(t, k...))
			published.Store(&text)
		}
		publish(first)
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fetches.Add(1)
			_, _ = w.Write(*published.Load())
		}))
		defer srv.Close()
		c := r.app(t, "fetched", func(c *clients.Client) { c.AuthMethod, c.JWKSURI = clients.PrivateKeyJWT, srv.URL+"/jwks" })
		for range 3 {
			r.send(t, "/token", asserting(first.assertion(t, c.ID), "grant_type", "client_credentials")).issued(t)
		}
		for range 3 { // within a minute nothing is fetched anew
			r.send(t, "/token", asserting(second.assertion(t, c.ID), "grant_type", "client_credentials")).want(t, http.StatusUnauthorized, "invalid_client")
		}
		if n := fetches.Load(); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
	})
}

// Whatever is at a client's address, it costs a bounded wait and lets nobody in; and nothing is fetched in vain.
func TestKeysAtABadAddress(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		key, other := newKey(t, jose.ES256), newKey(t, jose.ES256)
		good := jwks(t, key)
		private, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.private, KeyID: key.kid}}})
		check(t, err)
		say := func(text []byte) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) }
		}
		var written atomic.Int64
		bad := map[string]http.HandlerFunc{
			"hangs": func(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() },
			"hangs in the middle": func(w http.ResponseWriter, q *http.Request) {
				_, _ = w.Write(good[:10])
				_ = http.NewResponseController(w).Flush()
				<-q.Context().Done()
			},
			"redirects": func(w http.ResponseWriter, q *http.Request) { http.Redirect(w, q, "/good", http.StatusFound) },
			"100 MB": func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write([]byte(`{"keys":[], "x": "`))
				for chunk := bytes.Repeat([]byte("x"), 1<<20); written.Load() < 100<<20; {
					n, err := w.Write(chunk)
					if written.Add(int64(n)); err != nil {
						return
					}
				}
			},
			"64 KiB of blanks before": say(append(bytes.Repeat([]byte(" "), 64<<10), good...)),
			"HTML":                    say([]byte("<!doctype html><title>Sign in</title>")),
			"no set":                  say([]byte(`[]`)),
			"no keys":                 say([]byte(`{"keys": []}`)),
			"another's keys":          say(jwks(t, other)),
			"a private key":           say(private),
			"nothing":                 say(nil),
			"404":                     http.NotFound,
			"500, with the keys": func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusInternalServerError)
				_, _ = w.Write(good)
			},
			"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		}
		var stolen atomic.Int32
		var handlers []http.HandlerFunc
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.URL.Path == "/good" {
				stolen.Add(1)
				_, _ = w.Write(good)
				return
			}
			i, err := strconv.Atoi(q.URL.Path[1:])
			if err != nil {
				http.NotFound(w, q)
				return
			}
			handlers[i](w, q)
		}))
		defer srv.Close()
		began := time.Now()
		var all sync.WaitGroup
		names := slices.Sorted(maps.Keys(bad))
		for _, name := range names {
			handlers = append(handlers, bad[name])
		}
		for i, name := range names {
			c := r.app(t, fmt.Sprint("fetched-", i), func(c *clients.Client) { c.AuthMethod, c.JWKSURI = clients.PrivateKeyJWT, srv.URL+"/"+strconv.Itoa(i) })
			assertion := key.assertion(t, c.ID)
			all.Go(func() {
				a, err := r.try(r.request(context.Background(), "/token", asserting(assertion, "grant_type", "client_credentials")))
				if err != nil || a.status != http.StatusUnauthorized || a.text("error") != "invalid_client" {
					t.Errorf("%s: %v, %d %s", name, err, a.status, a.body)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("took %s", took)
		}
		if stolen.Load() != 0 || written.Load() > 16<<20 {
			t.Errorf("%d redirects were followed, %d bytes taken", stolen.Load(), written.Load())
		}
		inner := r.app(t, "inner", func(c *clients.Client) { c.AuthMethod, c.JWKSURI = clients.PrivateKeyJWT, "https://10.0.0.1/jwks" })
		r.send(t, "/token", asserting(key.assertion(t, inner.ID), "grant_type", "client_credentials")).want(t, http.StatusUnauthorized, "invalid_client")
	})
}

// Keys that would be no proof are refused when a client is registered, and members that do not fit.
func TestClientKeysAreChecked(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		es, rs := newKey(t, jose.ES256), newKey(t, jose.RS256)
		private, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: es.private}}})
		check(t, err)
		symmetric, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: []byte("secret")}}})
		check(t, err)
		weak, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // that is what is refused
		check(t, err)
		fapi := func(c *clients.Client) { c.Profile = clients.FAPI2; keyed(t, es)(c) }
		for name, wrong := range map[string]struct {
			field  string
			change func(*clients.Client)
		}{
			"no keys":              {"jwks", func(c *clients.Client) { c.AuthMethod = clients.PrivateKeyJWT }},
			"private":              {"jwks", func(c *clients.Client) { c.JWKS = private }},
			"symmetric":            {"jwks", func(c *clients.Client) { c.JWKS = symmetric }},
			"RSA of 1024 bits":     {"jwks", func(c *clients.Client) { c.JWKS = jwks(t, keyPair{private: weak}) }},
			"no set":               {"jwks", func(c *clients.Client) { c.JWKS = json.RawMessage(`[]`) }},
			"an empty set":         {"jwks", func(c *clients.Client) { c.JWKS = json.RawMessage(`{"keys":[]}`) }},
			"both":                 {"jwks", func(c *clients.Client) { keyed(t, rs)(c); c.JWKSURI = "https://a.example/jwks" }},
			"an address over http": {"jwks_uri", func(c *clients.Client) { c.JWKSURI = "http://a.example/jwks" }},
			"an algorithm":         {"token_endpoint_auth_signing_alg", func(c *clients.Client) { keyed(t, es)(c); c.AssertionAlg = "HS256" }},
			"a profile":            {"profile", func(c *clients.Client) { c.Profile = "fapi1" }},
			"fapi2 by secret":      {"token_endpoint_auth_method", func(c *clients.Client) { c.Profile = clients.FAPI2 }},
			"fapi2 and password":   {"grant_types", fapi},
			"fapi2 without PKCE":   {"require_pkce", func(c *clients.Client) { fapi(c); c.OptionalPKCE = true }},
			"fapi2 by RS256": {"token_endpoint_auth_signing_alg", func(c *clients.Client) {
				fapi(c)
				c.Grants, c.AssertionAlg = []clients.Grant{clients.ClientCredentials}, "RS256"
			}},
			"fapi2 and ID tokens by RS256": {"id_token_signed_response_alg", func(c *clients.Client) {
				fapi(c)
				c.Grants, c.IDTokenAlg = []clients.Grant{clients.ClientCredentials}, keys.RS256
			}},
		} {
			c := clients.Client{ID: "x", Scope: clients.Scope{"read"}}
			wrong.change(&c)
			if _, err := r.clients.Create(t.Context(), c, origin); err == nil || !strings.HasPrefix(err.Error(), wrong.field+": ") {
				t.Errorf("%s: got %v, want an error of %s", name, err, wrong.field)
			}
		}
	})
}

// push pushes a request and returns the request_uri.
func (r *replica) push(t testing.TB, c *clients.Client, q url.Values, options ...option) string {
	t.Helper()
	a := r.post(t, "/par", c, q, options...)
	if a.status != http.StatusCreated || a.json["expires_in"] != 60.0 || !strings.HasPrefix(a.text("request_uri"), "urn:ietf:params:oauth:request_uri:") {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	return a.text("request_uri")
}

// Pushed authorization requests (RFC 9126).
func TestPushedRequests(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r, other := start(t, b), start(t, b)
		c, u, s := r.shop(t, "shop", trusted), r.user(t, "alice"), r.surfer(t)
		stranger := r.shop(t, "stranger", trusted)
		by := func(c *clients.Client, uri string, more ...string) url.Values {
			return form(append([]string{"client_id", c.ID, "request_uri", uri}, more...)...)
		}
		t.Run("reload before the login, parameters beside it ignored, then used up", func(t *testing.T) {
			uri := r.push(t, c, ask(c))
			s.authorize(by(c, uri)).page(t, http.StatusOK)
			s.at(other).authorize(by(c, uri)).page(t, http.StatusOK)
			v := s.grant(by(c, uri, "state", "forged", "scope", "nothing", "redirect_uri", "https://evil.example"), u)
			got := v.parameters(t, "query")
			if got.Get("state") != "xyz" || got.Get("iss") != issuer {
				t.Errorf("the answer is %v", got)
			}
			r.redeem(t, c, v.code(t)).issued(t)
			s.authorize(by(c, uri)).page(t, http.StatusBadRequest)
		})
		t.Run("another client, another browser, unknown, expired", func(t *testing.T) {
			uri := r.push(t, c, ask(c))
			s.authorize(by(stranger, uri)).page(t, http.StatusBadRequest)
			s.authorize(by(c, uri+"x")).page(t, http.StatusBadRequest)
			first := r.surfer(t)
			first.authorize(by(c, uri)).page(t, http.StatusOK)
			r.surfer(t).authorize(by(c, uri)).page(t, http.StatusBadRequest)
			b.Age(t, 40*time.Second)
			first.authorize(by(c, uri)).page(t, http.StatusOK)
			b.Age(t, 25*time.Second)
			first.authorize(by(c, uri)).page(t, http.StatusBadRequest)
		})
		t.Run("expired during the login", func(t *testing.T) {
			browser := r.surfer(t)
			v := browser.authorize(by(c, r.push(t, c, ask(c))))
			b.Age(t, 2*time.Minute)
			browser.enter(v, u).code(t)
		})
		t.Run("refused at the push", func(t *testing.T) {
			for name, wrong := range map[string]struct {
				change []string
				code   string
			}{
				"request_uri":        {[]string{"request_uri", "urn:ietf:params:oauth:request_uri:x"}, "invalid_request"},
				"redirect_uri":       {[]string{"redirect_uri", "https://evil.example/cb"}, "invalid_request"},
				"no redirect_uri":    {[]string{"redirect_uri", ""}, "invalid_request"},
				"no challenge":       {[]string{"code_challenge", "", "code_challenge_method", ""}, "invalid_request"},
				"plain":              {[]string{"code_challenge_method", "plain"}, "invalid_request"},
				"response_type":      {[]string{"response_type", "code id_token"}, "unsupported_response_type"},
				"scope":              {[]string{"scope", "nothing"}, "invalid_scope"},
				"a request object":   {[]string{"request", "x"}, "request_not_supported"},
				"dpop_jkt":           {[]string{"dpop_jkt", "x"}, "invalid_request"},
				"a foreign resource": {[]string{"resource", "https://elsewhere.example"}, "invalid_target"},
			} {
				if a := r.post(t, "/par", c, ask(c, wrong.change...)); a.status != http.StatusBadRequest || a.text("error") != wrong.code {
					t.Errorf("%s: got %d %s", name, a.status, a.body)
				}
			}
			r.send(t, "/par", ask(c).Encode()).want(t, http.StatusUnauthorized, "invalid_client")
			r.get(t, "/par").want(t, http.StatusMethodNotAllowed, "invalid_request")
		})
		t.Run("required", func(t *testing.T) {
			pushing := r.shop(t, "pushing", trusted, func(c *clients.Client) { c.RequirePAR = true })
			s.authorize(ask(pushing)).refused(t, "invalid_request")
			s.authorize(by(pushing, r.push(t, pushing, ask(pushing)))).code(t)
		})
	})
}

// bound are the options of a request with a proof.
func (k keyPair) bound(t testing.TB, method, path string, change ...set) option {
	return header("DPoP", k.proof(t, method, path, change...))
}

// ofDPoP tells whether the one challenge of an answer is of the scheme DPoP, and has that error.
func ofDPoP(a answer, code string) bool {
	challenges := a.header.Values("WWW-Authenticate")
	return len(challenges) == 1 && strings.HasPrefix(challenges[0], "DPoP ") && strings.Contains(challenges[0], `error="`+code+`"`) &&
		strings.HasSuffix(challenges[0], `, algs="ES256 PS256 EdDSA"`)
}

// A proof is what RFC 9449 section 4.3 asks for, or refused.
func TestDPoPProofs(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r, other := start(t, b), start(t, b)
		c := r.app(t, "machine")
		key := newKey(t, jose.ES256)
		ask := form("grant_type", "client_credentials")
		now := time.Now().Unix()
		for name, good := range map[string]string{
			"plain":                 key.proof(t, "POST", "/token"),
			"PS256":                 newKey(t, jose.PS256).proof(t, "POST", "/token"),
			"EdDSA":                 newKey(t, jose.EdDSA).proof(t, "POST", "/token"),
			"10 s ahead":            key.proof(t, "POST", "/token", set{"iat": now + 10}),
			"50 s ahead":            key.proof(t, "POST", "/token", set{"iat": now + 50}),
			"50 s behind":           key.proof(t, "POST", "/token", set{"iat": now - 50}),
			"10 s behind":           key.proof(t, "POST", "/token", set{"iat": now - 10}),
			"nbf and exp":           key.proof(t, "POST", "/token", set{"nbf": now, "exp": now + 300}),
			"query and fragment":    key.proof(t, "POST", "/token?a=b#c"),
			"upper-case host":       key.proof(t, "POST", "/token", set{"htu": strings.ToUpper(issuer) + "/token"}),
			"port":                  key.proof(t, "POST", "/token", set{"htu": issuer + ":443/token"}),
			"unknown members":       key.proof(t, "POST", "/token", set{"x": 1}, set{"y": 2}),
			"the nonce of now":      key.proof(t, "POST", "/token", set{"nonce": r.proofs.Nonce()}),
			"the other's nonce too": key.proof(t, "POST", "/token", set{"nonce": other.proofs.Nonce()}),
		} {
			a := r.post(t, "/token", c, ask, header("DPoP", good))
			if a.status != http.StatusOK || a.text("token_type") != "DPoP" || a.header.Get("DPoP-Nonce") == "" {
				t.Errorf("%s: got %d %s", name, a.status, a.body)
			}
		}
		used := key.proof(t, "POST", "/token")
		r.post(t, "/token", c, ask, header("DPoP", used)).issued(t)
		private := jose.JSONWebKey{Key: key.private}
		weak, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // that is what is refused
		check(t, err)
		for name, bad := range map[string]string{
			"typ":                  key.proof(t, "POST", "/token", nil, set{"typ": "JWT"}),
			"no typ":               key.proof(t, "POST", "/token", nil, set{"typ": nil}),
			"no jwk":               key.proof(t, "POST", "/token", nil, set{"jwk": nil}),
			"a private jwk":        key.proof(t, "POST", "/token", nil, set{"jwk": private}),
			"another's jwk":        key.proof(t, "POST", "/token", nil, set{"jwk": newKey(t, jose.ES256).jwk()}),
			"a symmetric jwk":      key.proof(t, "POST", "/token", nil, set{"jwk": set{"kty": "oct", "k": "AAAA"}}),
			"a point off curve":    key.proof(t, "POST", "/token", nil, set{"jwk": set{"kty": "EC", "crv": "P-256", "x": strings.Repeat("A", 43), "y": strings.Repeat("A", 43)}}),
			"RSA of 1024 bits":     keyPair{alg: jose.PS256, private: weak}.proof(t, "POST", "/token"),
			"a giant RSA jwk":      key.proof(t, "POST", "/token", nil, set{"jwk": set{"kty": "RSA", "e": "AQAB", "n": strings.Repeat("_", 1400)}}),
			"RS256":                newKey(t, jose.RS256).proof(t, "POST", "/token"),
			"no jti":               key.proof(t, "POST", "/token", set{"jti": nil}),
			"no htm":               key.proof(t, "POST", "/token", set{"htm": nil}),
			"no htu":               key.proof(t, "POST", "/token", set{"htu": nil}),
			"no iat":               key.proof(t, "POST", "/token", set{"iat": nil}),
			"GET":                  key.proof(t, "GET", "/token"),
			"post":                 key.proof(t, "post", "/token"),
			"another path":         key.proof(t, "POST", "/tokens"),
			"a slash":              key.proof(t, "POST", "/token/"),
			"another host":         key.proof(t, "POST", "/token", set{"htu": "https://evil.example/token"}),
			"another scheme":       key.proof(t, "POST", "/token", set{"htu": strings.Replace(issuer, "https", "http", 1) + "/token"}),
			"80 s ago":             key.proof(t, "POST", "/token", set{"iat": now - 80}),
			"80 s ahead":           key.proof(t, "POST", "/token", set{"iat": now + 80}),
			"an hour ago":          key.proof(t, "POST", "/token", set{"iat": now - 3600}),
			"an hour ahead":        key.proof(t, "POST", "/token", set{"iat": now + 3600}),
			"expired":              key.proof(t, "POST", "/token", set{"exp": now - 1}),
			"an exp of text":       key.proof(t, "POST", "/token", set{"exp": "never"}),
			"nbf ahead":            key.proof(t, "POST", "/token", set{"nbf": now + 80}),
			"an nbf of text":       key.proof(t, "POST", "/token", set{"nbf": "now"}),
			"the same again":       used,
			"the same, other port": key.proof(t, "POST", "/token", set{"jti": payload(t, used)["jti"], "htu": issuer + ":443/token"}),
			"no JWT":               "x",
			"none":                 base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"dpop+jwt"}`)) + "." + strings.Split(used, ".")[1] + ".",
			"a broken signature":   used[:len(used)-8] + "AAAAAAAA",
			"20 KiB":               strings.Repeat("x", 20<<10),
		} {
			if a := other.post(t, "/token", c, ask, header("DPoP", bad)); a.status != http.StatusBadRequest || a.text("error") != "invalid_dpop_proof" {
				t.Errorf("%s: got %d %s", name, a.status, a.body)
			}
		}
		r.post(t, "/token", c, ask, key.bound(t, "POST", "/token"), key.bound(t, "POST", "/token")).want(t, http.StatusBadRequest, "invalid_dpop_proof")
		wrong := r.post(t, "/token", c, ask, key.bound(t, "POST", "/token", set{"nonce": "old"})).want(t, http.StatusBadRequest, "use_dpop_nonce")
		r.post(t, "/token", c, ask, key.bound(t, "POST", "/token", set{"nonce": wrong.header.Get("DPoP-Nonce")})).issued(t)

		if events := r.events(t, audit.ProofReplayed); len(events) != 2 || events[0].ClientID != c.ID || events[0].Address == "" {
			t.Errorf("replays are recorded so: %+v", events)
		}
		// A proof 59 s ahead of its time is refused for its jti as long as its time would do.
		ahead := key.proof(t, "POST", "/token", set{"iat": now + 50})
		r.post(t, "/token", c, ask, header("DPoP", ahead)).issued(t)
		b.Age(t, 2*time.Minute)
		_, err = r.store.DeleteUsedOnce(t.Context())
		check(t, err)
		start(t, b).post(t, "/token", c, ask, header("DPoP", ahead)).want(t, http.StatusBadRequest, "invalid_dpop_proof")
		needy := r.app(t, "needy", func(c *clients.Client) { c.RequireDPoP = true })
		r.post(t, "/token", needy, ask).want(t, http.StatusBadRequest, "invalid_dpop_proof")
	})
}

// A script may send a proof wherever it may call, and reads the nonce that the next one is to hold.
func TestProofsFromScripts(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		const page = "https://app.example.com"
		key := newKey(t, jose.ES256)
		spa := r.app(t, "spa", public, func(c *clients.Client) { c.RedirectURIs = []string{page + "/cb"} })
		r.app(t, "web", func(c *clients.Client) { c.BrowserOrigins = []string{page} })
		for _, path := range []string{"/token", "/par", "/userinfo", "/account"} {
			method := http.MethodPost
			if path == "/account" {
				method = http.MethodGet
			}
			send := func(method string, options ...option) http.Header {
				body := ""
				if method == http.MethodPost {
					body = form("client_id", spa.ID).Encode()
				}
				req := r.request(t.Context(), path, body, append(options, header("Origin", page))...)
				req.Method = method
				return r.do(t, req).header
			}
			for name, proof := range map[string]option{
				"good":         key.bound(t, method, path, set{"ath": athOf("x")}),
				"an old nonce": key.bound(t, method, path, set{"ath": athOf("x"), "nonce": "old"}),
			} {
				h := send(method, proof, header("Authorization", "DPoP x"))
				if path == "/token" || path == "/par" {
					h = send(method, proof)
				}
				exposed := strings.Split(strings.ReplaceAll(h.Get("Access-Control-Expose-Headers"), " ", ""), ",")
				if h.Get("DPoP-Nonce") == "" || h.Get("Access-Control-Allow-Origin") == "" || !slices.ContainsFunc(exposed, func(name string) bool { return strings.EqualFold(name, "DPoP-Nonce") }) {
					t.Errorf("%s, %s: %v", path, name, h)
				}
			}
			h := send(http.MethodOptions, header("Access-Control-Request-Method", method), header("Access-Control-Request-Headers", "authorization,dpop"))
			if h.Get("Access-Control-Allow-Headers") != "authorization,dpop" {
				t.Errorf("%s: preflight: %v", path, h)
			}
		}
	})
}

// Tokens that are bound to a key are good for its holder alone.
func TestBoundTokens(t *testing.T) {
	onBackends(t, func(t *testing.T, b *backend) {
		r := start(t, b)
		key, thief := newKey(t, jose.ES256), newKey(t, jose.ES256)
		api := r.app(t, "api", resourceServer(issuer))
		c := r.shop(t, "app", trusted, public, func(c *clients.Client) {
			c.Grants, c.Scope = []clients.Grant{clients.AuthorizationCode, clients.RefreshToken}, clients.Scope{"openid", "signet:account", "offline_access"}
		})
		u, s := r.user(t, "alice"), r.surfer(t)
		code := func(pairs ...string) string {
			v := s.authorize(ask(c, append([]string{"scope", "openid signet:account offline_access"}, pairs...)...))
			if v.location == nil {
				v = s.enter(v, u)
			}
			return v.code(t)
		}
		redeem := func(k keyPair, code string) answer {
			return r.post(t, "/token", c, form("grant_type", "authorization_code", "code", code, "redirect_uri", callback, "code_verifier", verifier), k.bound(t, "POST", "/token"))
		}
		first := redeem(key, code()).issued(t)
		token := first.text("access_token")
		if a := r.introspect(t, api, token); a.text("token_type") != "DPoP" || a.json["cnf"].(set)["jkt"] != key.jkt(t) || first.text("token_type") != "DPoP" {
			t.Errorf("introspection: %s", a.body)
		}
		for _, path := range []string{"/userinfo", "/account"} {
			auth := func(scheme string) option { return header("Authorization", scheme+" "+token) }
			ath := set{"ath": athOf(token)}
			for _, scheme := range []string{"DPoP", "dpop", "dPoP"} {
				if a := r.get(t, path, auth(scheme), key.bound(t, "GET", path, ath)); a.status != http.StatusOK || a.header.Get("DPoP-Nonce") == "" {
					t.Errorf("%s by %s: %d %s", path, scheme, a.status, a.body)
				}
			}
			again := key.bound(t, "GET", path, ath)
			r.get(t, path, auth("DPoP"), again)
			for name, wrong := range map[string][]option{
				"as Bearer":            {auth("Bearer")},
				"as Bearer, proven":    {auth("Bearer"), key.bound(t, "GET", path, ath)},
				"no proof":             {auth("DPoP")},
				"two proofs":           {auth("DPoP"), key.bound(t, "GET", path, ath), key.bound(t, "GET", path, ath)},
				"no ath":               {auth("DPoP"), key.bound(t, "GET", path)},
				"another's ath":        {auth("DPoP"), key.bound(t, "GET", path, set{"ath": athOf("x")})},
				"another key":          {auth("DPoP"), thief.bound(t, "GET", path, ath)},
				"another method":       {auth("DPoP"), key.bound(t, "POST", path, ath)},
				"another address":      {auth("DPoP"), key.bound(t, "GET", "/token", ath)},
				"the same proof again": {auth("DPoP"), again},
				"an old nonce":         {auth("DPoP"), key.bound(t, "GET", path, set{"ath": athOf(token), "nonce": "old"})},
				"no token":             {},
			} {
				a := r.get(t, path, wrong...)
				challenges := strings.Join(a.header.Values("WWW-Authenticate"), ", ")
				if a.status != http.StatusUnauthorized || !strings.Contains(challenges, `algs="ES256 PS256 EdDSA"`) || !strings.Contains(challenges, "DPoP ") {
					t.Errorf("%s, %s: %d %s, %q", path, name, a.status, a.body, challenges)
				}
				if name == "another key" && !ofDPoP(a, "invalid_token") {
					t.Errorf("%s, %s: %q", path, name, challenges)
				}
				if strings.HasPrefix(name, "as Bearer") && !strings.Contains(a.text("error_description"), "DPoP") {
					t.Errorf("%s, %s: %s does not tell why", path, name, a.body)
				}
			}
		}
		if events := r.events(t, audit.ProofReplayed); len(events) != 2 || events[0].UserID != u.ID || events[0].ClientID != c.ID || events[0].SessionID == "" {
			t.Errorf("replays at resources are recorded so: %+v", events)
		}
		once := key.bound(t, "POST", "/token")
		refreshed := r.post(t, "/token", c, form("grant_type", "refresh_token", "refresh_token", first.text("refresh_token")), once).issued(t)
		r.post(t, "/token", c, form("grant_type", "refresh_token", "refresh_token", refreshed.text("refresh_token")), once).want(t, http.StatusBadRequest, "invalid_dpop_proof")
		if events := r.events(t, audit.ProofReplayed); len(events) != 3 || events[0].SessionID != events[1].SessionID {
			t.Errorf("a replay at a refresh is recorded so: %+v", events)
		}
		unbound := r.login(t, c, u).AccessToken
		plain := r.post(t, "/token", r.app(t, "reader"), form("grant_type", "password", "username", u.Username, "password", password), key.bound(t, "POST", "/token")).issued(t).text("access_token")
		for _, path := range []string{"/account", "/userinfo"} {
			a := r.get(t, path, header("Authorization", "DPoP "+plain), key.bound(t, "GET", path, set{"ath": athOf(plain)}))
			if a.status != http.StatusForbidden || !ofDPoP(a, "insufficient_scope") {
				t.Errorf("%s: a token of another scope: %d %s %v", path, a.status, a.body, a.header.Values("WWW-Authenticate"))
			}
		}
		for _, path := range []string{"/account", "/userinfo", "/admin/clients"} {
			a := r.get(t, path, header("Authorization", "DPoP "+unbound), key.bound(t, "GET", path, set{"ath": athOf(unbound)}))
			if a.status != http.StatusUnauthorized || a.text("error") != "invalid_token" || !ofDPoP(a, "invalid_token") {
				t.Errorf("%s: an unbound token as DPoP: %d %s", path, a.status, a.body)
			}
		}
		t.Run("the admin API", func(t *testing.T) {
			r.user(t, "root", true)
			ui := r.app(t, "ui", scope(clients.ScopeAdmin))
			token := r.post(t, "/token", ui, form("grant_type", "password", "username", "root", "password", password, "scope", clients.ScopeAdmin), key.bound(t, "POST", "/token")).
				issued(t).text("access_token")
			const path = "/admin/clients"
			ath := set{"ath": athOf(token)}
			r.get(t, path, header("Authorization", "DPoP "+token), key.bound(t, "GET", path, ath)).is(t, http.StatusOK)
			for name, wrong := range map[string][]option{
				"as Bearer":   {header("Authorization", "Bearer "+token)},
				"no proof":    {header("Authorization", "DPoP "+token)},
				"another key": {header("Authorization", "DPoP "+token), thief.bound(t, "GET", path, ath)},
			} {
				if a := r.get(t, path, wrong...); a.status != http.StatusUnauthorized {
					t.Errorf("%s: %d %s", name, a.status, a.body)
				}
			}
		})

		t.Run("refresh", func(t *testing.T) {
			refresh := func(token string, options ...option) answer {
				return r.post(t, "/token", c, form("grant_type", "refresh_token", "refresh_token", token), options...)
			}
			refresh(first.text("refresh_token")).want(t, http.StatusBadRequest, "invalid_grant")
			refresh(first.text("refresh_token"), thief.bound(t, "POST", "/token")).want(t, http.StatusBadRequest, "invalid_grant")
			proof := key.bound(t, "POST", "/token")
			second := refresh(first.text("refresh_token"), proof).issued(t)
			refresh(second.text("refresh_token"), proof).want(t, http.StatusBadRequest, "invalid_dpop_proof")
			refresh(first.text("refresh_token"), thief.bound(t, "POST", "/token")).want(t, http.StatusBadRequest, "invalid_grant") // a retry needs the key as well
			retried := refresh(first.text("refresh_token"), key.bound(t, "POST", "/token")).issued(t)
			equal(t, "successor", retried.text("refresh_token"), second.text("refresh_token"))
			third := refresh(second.text("refresh_token"), key.bound(t, "POST", "/token")).issued(t)
			if third.text("token_type") != "DPoP" {
				t.Errorf("got %s", third.body)
			}
		})
		t.Run("a confidential client's refresh takes a new key", func(t *testing.T) {
			c := r.app(t, "backend")
			issued := r.post(t, "/token", c, form("grant_type", "password", "username", "alice", "password", password), key.bound(t, "POST", "/token")).issued(t)
			again := r.post(t, "/token", c, form("grant_type", "refresh_token", "refresh_token", issued.text("refresh_token")), thief.bound(t, "POST", "/token")).issued(t)
			if cnf := payload(t, again.text("access_token"))["cnf"]; cnf == nil || cnf.(set)["jkt"] != thief.jkt(t) {
				t.Errorf("the access token is bound to %v", cnf)
			}
		})
		t.Run("dpop_jkt binds the code", func(t *testing.T) {
			bound := code("dpop_jkt", key.jkt(t))
			r.redeem(t, c, bound).want(t, http.StatusBadRequest, "invalid_grant")
			redeem(thief, bound).want(t, http.StatusBadRequest, "invalid_grant")
			redeem(key, bound).issued(t)
		})
		t.Run("a proof at PAR binds the code", func(t *testing.T) {
			if a := r.post(t, "/par", c, ask(c, "dpop_jkt", thief.jkt(t)), key.bound(t, "POST", "/par")); a.status != http.StatusBadRequest || a.text("error") != "invalid_dpop_proof" {
				t.Errorf("dpop_jkt of another key: %d %s", a.status, a.body)
			}
			uri := r.push(t, c, ask(c), key.bound(t, "POST", "/par"))
			v := s.authorize(form("client_id", c.ID, "request_uri", uri))
			redeem(thief, v.code(t)).want(t, http.StatusBadRequest, "invalid_grant")
			redeem(key, v.code(t)).issued(t)
		})
	})
}

// The answer to an introspection may be signed (RFC 9701).
func TestSignedIntrospection(t *testing.T) {
	each(t, func(t *testing.T, r *replica) {
		c, u := r.app(t, "app"), r.user(t, "alice")
		token := r.login(t, c, u).AccessToken
		ask := func(token string) answer {
			return r.post(t, "/introspect", c, form("token", token), header("Accept", "application/token-introspection+jwt"))
		}
		for _, token := range []string{token, "unknown"} {
			a := ask(token)
			header, claims := decode(t, a.body)
			says, _ := claims["token_introspection"].(set)
			if a.header.Get("Content-Type") != "application/token-introspection+jwt" || header["typ"] != "token-introspection+jwt" || header["alg"] != "RS256" ||
				claims["aud"] != c.ID || claims["iss"] != issuer || says["active"] != (token != "unknown") {
				t.Errorf("%v %v of %s", header, claims, a.header.Get("Content-Type"))
			}
		}
		// Anybody can verify it; and it is taken for nothing else, anywhere.
		signed := ask(token).body
		var set jose.JSONWebKeySet
		check(t, json.Unmarshal([]byte(r.get(t, "/.well-known/jwks.json").body), &set))
		parsed, err := jose.ParseSignedCompact(signed, []jose.SignatureAlgorithm{jose.RS256})
		check(t, err)
		if _, err := parsed.Verify(set); err != nil {
			t.Errorf("its signature: %v", err)
		}
		if a := r.introspect(t, c, signed); a.json["active"] != false {
			t.Errorf("as an access token: %s", a.body)
		}
		for _, path := range []string{"/account", "/userinfo", "/admin/users"} {
			r.get(t, path, header("Authorization", "Bearer "+signed)).want(t, http.StatusUnauthorized, "invalid_token")
		}
		r.send(t, "/token", asserting(signed, "grant_type", "client_credentials")).want(t, http.StatusUnauthorized, "invalid_client")
		page := r.app(t, "page", public)
		r.post(t, "/introspect", page, form("token", token), header("Accept", "application/token-introspection+jwt")).want(t, http.StatusUnauthorized, "invalid_client")
		if a := r.post(t, "/introspect", c, form("token", token), header("Accept", "application/json, application/token-introspection+jwt;q=0")); a.json["active"] != true {
			t.Errorf("not asked for: %s", a.body)
		}
	})
}
