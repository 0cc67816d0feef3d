package keys

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"signet/audit"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func parseSecret(t testing.TB, text string) Secret {
	t.Helper()
	s, err := ParseSecret(text)
	check(t, err)
	return s
}

// Two secrets that are easy to tell apart.
var (
	oldText = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, secretSize))
	newText = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xbf}, secretSize))
)

func TestParseSecret(t *testing.T) {
	t.Parallel()
	raw := bytes.Repeat([]byte{0xfb, 0xef, 0xff}, 11)[:secretSize] // every encoding's own characters occur
	encodings := []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding}
	for _, e := range encodings {
		text := e.EncodeToString(raw)
		for _, s := range []string{text, " " + text + "\n"} {
			if got, err := ParseSecret(s); err != nil || len(got.roots) != 1 || !bytes.Equal(got.roots[0], raw) {
				t.Errorf("%q: %v, %x", s, err, got.roots)
			}
		}
		for _, other := range encodings {
			s := text + ", " + other.EncodeToString(bytes.Repeat([]byte{1}, secretSize))
			if got, err := ParseSecret(s); err != nil || len(got.roots) != 2 || !bytes.Equal(got.roots[0], raw) || got.roots[1][0] != 1 {
				t.Errorf("%q: %v, %x", s, err, got.roots)
			}
		}
	}
	good := base64.StdEncoding.EncodeToString(raw)
	for name, s := range map[string]string{
		"empty": "", "comma": ",", "too short": base64.StdEncoding.EncodeToString(raw[:31]), "too long": base64.StdEncoding.EncodeToString(append([]byte{0}, raw...)),
		"one missing": good + ",", "the first missing": "," + good, "three": good + "," + good + "," + good,
		"no base64": strings.Repeat("!", 43), "hex": strings.Repeat("0123456789abcdef", 4),
		"space inside": good[:10] + " " + good[10:], "semicolon": good + ";" + good, "stray bits": good[:42] + "B",
	} {
		got, err := ParseSecret(s)
		if err == nil || len(got.roots) != 0 {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, part := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) {
			if len(part) > 4 && strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error repeats the value: %v", name, err)
			}
		}
	}
}

func TestNewSecret(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 100 {
		text := NewSecret()
		parseSecret(t, text)
		seen[text] = true
	}
	if len(seen) != 100 {
		t.Errorf("of 100 secrets %d differ", len(seen))
	}
}

// Keys of different labels, and of different secrets, have nothing in common, and the first value comes first.
func TestDerive(t *testing.T) {
	t.Parallel()
	labels := []string{"", "a", "b", "a ", "refresh token tag v1", "signing key encryption v1", "failed login v1"}
	seen := map[string]string{}
	for _, text := range []string{oldText, newText} {
		s := parseSecret(t, text)
		for _, label := range labels {
			derived := s.Derive(label)
			if len(derived) != 1 || len(derived[0]) != 32 || !bytes.Equal(derived[0], s.Derive(label)[0]) {
				t.Fatalf("%q: %x", label, derived)
			}
			if bytes.Equal(derived[0], s.roots[0]) {
				t.Errorf("%q derives the secret itself", label)
			}
			if before, dup := seen[string(derived[0])]; dup {
				t.Errorf("%q and %q derive the same key", label, before)
			}
			seen[string(derived[0])] = text + label
		}
	}
	want := [][]byte{parseSecret(t, newText).Derive("a")[0], parseSecret(t, oldText).Derive("a")[0]}
	if diff := cmp.Diff(want, parseSecret(t, newText+","+oldText).Derive("a")); diff != "" {
		t.Errorf("NEW,OLD (-want +got):\n%s", diff)
	}
}

// What is sealed opens under its identity, and under no other; a changed byte is noticed.
func TestSeal(t *testing.T) {
	t.Parallel()
	before, during, after := parseSecret(t, oldText).Sealer("a"), parseSecret(t, newText+","+oldText).Sealer("a"), parseSecret(t, newText).Sealer("a")
	rapid.Check(t, func(r *rapid.T) {
		plain := rapid.SliceOf(rapid.Byte()).Draw(r, "plain")
		identity, other := rapid.String().Draw(r, "identity"), rapid.String().Draw(r, "other identity")
		for i, seal := range []Sealer{before, during, after} {
			sealed := seal.Seal(plain, identity)
			for j, open := range []Sealer{before, during, after} {
				got, old, err := open.Open(sealed, identity)
				readable := i == j || j == 1 || i == 1 && j == 2
				if (err == nil) != readable || err == nil && (!bytes.Equal(got, plain) || old != (i == 0 && j == 1)) {
					r.Fatalf("sealed by %d, opened by %d: %x, older %v, %v", i, j, got, old, err)
				}
			}
			if _, _, err := seal.Open(sealed, other); err == nil && identity != other {
				r.Fatal("opened under another identity")
			}
			if bytes.Equal(sealed, seal.Seal(plain, identity)) {
				r.Fatal("sealed twice alike: the nonce is not random")
			}
			changed := bytes.Clone(sealed)
			changed[rapid.IntRange(0, len(sealed)-1).Draw(r, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(r, "bit")
			if _, _, err := seal.Open(changed, identity); err == nil {
				r.Fatal("a changed ciphertext was opened")
			}
			if _, _, err := seal.Open(sealed[:rapid.IntRange(0, len(sealed)-1).Draw(r, "length")], identity); err == nil {
				r.Fatal("a truncated ciphertext was opened")
			}
		}
	})
}

// A private key moved to another row, or relabelled with another algorithm, is not used there.
func TestSealedKeysStayInTheirRows(t *testing.T) {
	t.Parallel()
	s := newService(t, &memory{}, oldText, RS256)
	one, err := generate(RS256, s.sealer)
	check(t, err)
	two, err := generate(RS256, s.sealer)
	check(t, err)
	one.ActiveFrom, two.ActiveFrom = time.Now(), time.Now()
	if _, err := s.newRing([]Key{one}, time.Now()); err != nil {
		t.Fatal(err)
	}
	moved, relabelled := two, one
	moved.Sealed = one.Sealed
	relabelled.Algorithm = PS256
	for name, row := range map[string]Key{"moved": moved, "relabelled": relabelled} {
		if _, err := s.newRing([]Key{row}, time.Now()); !errors.Is(err, ErrWrongSecret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// memory is a store of keys without a database; it counts reads.
type memory struct {
	mu    sync.Mutex
	rows  []Key
	reads int
	err   error
}

func (m *memory) SigningKeys(_ context.Context, keep time.Duration) ([]Key, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	now := time.Now()
	rows := slices.DeleteFunc(slices.Clone(m.rows), func(k Key) bool { return !k.RetiredAt.IsZero() && !k.RetiredAt.After(now.Add(-keep)) })
	return rows, now, m.err
}

func (m *memory) KeepTokenTTL(_ context.Context, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.rows {
		m.rows[i].TokenTTL = max(m.rows[i].TokenTTL, ttl)
	}
	return m.err
}

func (m *memory) RevokeSigningKey(context.Context, string, *Key, audit.Event) (bool, error) {
	panic("tested on the databases")
}

func (m *memory) AdvanceSigningKeys(_ context.Context, from string, current Key, next *Key, _ audit.Event) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	present := ""
	for _, k := range m.rows {
		if k.State() == Current && k.Algorithm == current.Algorithm {
			present = k.ID
		}
	}
	if present != from {
		return false, nil
	}
	now := time.Now()
	for i := range m.rows {
		if m.rows[i].ID == from {
			m.rows[i].RetiredAt = now
		}
	}
	m.rows = slices.DeleteFunc(m.rows, func(k Key) bool { return k.State() == Next && k.Algorithm == current.Algorithm })
	current.CreatedAt, current.ActiveFrom = now, now
	m.rows = append(m.rows, current)
	if next != nil {
		n := *next
		n.CreatedAt = now
		m.rows = append(m.rows, n)
	}
	return true, nil
}

func (m *memory) RetireSigningKeys(_ context.Context, a Algorithm) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows = slices.DeleteFunc(m.rows, func(k Key) bool { return k.State() == Next && k.Algorithm == a })
	for i := range m.rows {
		if m.rows[i].State() == Current && m.rows[i].Algorithm == a {
			m.rows[i].RetiredAt = time.Now()
		}
	}
	return nil
}

func (m *memory) ResealSigningKey(_ context.Context, k Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.rows {
		if m.rows[i].ID == k.ID {
			m.rows[i].Sealed = k.Sealed
		}
	}
	return nil
}

// distant is a store whose answers take a while to arrive.
type distant struct {
	*memory

	delay time.Duration
}

func (d distant) SigningKeys(ctx context.Context, keep time.Duration) ([]Key, time.Time, error) {
	rows, now, err := d.memory.SigningKeys(ctx, keep)
	time.Sleep(d.delay)
	return rows, now, err
}

// ids returns the keys in that state.
func (m *memory) ids(state State) (list []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.rows {
		if k.State() == state {
			list = append(list, k.ID)
		}
	}
	return list
}

// count returns how often the keys were read since it was asked.
func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.reads
	m.reads = 0
	return n
}

const signingSecret = "a shared secret of 32 bytes, or more"

func newService(t testing.TB, store Store, secret string, a Algorithm) *Service {
	t.Helper()
	return New(store, Config{
		Secret: parseSecret(t, secret), Algorithm: a, SigningSecret: []byte(signingSecret), TokenTTL: 15 * time.Minute, RotateEvery: 24 * time.Hour,
	}, slog.New(slog.DiscardHandler))
}

func loaded(t testing.TB, store Store, secret string, a Algorithm) *Service {
	t.Helper()
	s := newService(t, store, secret, a)
	check(t, s.Load(t.Context()))
	return s
}

func sign(t testing.TB, s *Service) string {
	t.Helper()
	token, err := s.Sign(map[string]any{"sub": "ann", "iat": 1})
	check(t, err)
	return token
}

// verifies tells whether the service accepts the token, and wants its claims to be read if it does.
func verifies(t testing.TB, s *Service, token string) bool {
	t.Helper()
	var claims jwt.RegisteredClaims
	_, ok, err := s.Verify(t.Context(), token, &claims)
	check(t, err)
	if ok && claims.Subject != "ann" {
		t.Errorf("the subject is %q, want ann", claims.Subject)
	}
	return ok
}

func TestEveryAlgorithmSignsAndVerifies(t *testing.T) {
	t.Parallel()
	for _, a := range Algorithms {
		t.Run(string(a), func(t *testing.T) {
			t.Parallel()
			store := &memory{}
			s := loaded(t, store, oldText, a)
			token := sign(t, s)
			if !verifies(t, s, token) || !verifies(t, loaded(t, store, oldText, a), token) {
				t.Error("a good token is refused")
			}
			parts := strings.Split(token, ".")
			header, err := base64.RawURLEncoding.Strict().DecodeString(parts[0])
			check(t, err)
			kid := currentOf(store.rows, a).ID
			if want := `{"alg":"` + string(a) + `","kid":"` + kid + `","typ":"at+jwt"}`; string(header) != want {
				t.Errorf("the header is %s, want %s", header, want)
			}
			for i := range token { // no bit is unused, no part can be left out
				changed := []byte(token)
				changed[i] ^= 1 << (i % 8)
				if i > len(parts[0]) && verifies(t, s, string(changed)) {
					t.Fatalf("accepted with another character at %d", i)
				}
			}
			stranger := loaded(t, &memory{}, oldText, a)
			if verifies(t, stranger, token) && a != HS256 {
				t.Error("accepted by a server with other keys")
			}
			wantJWKS(t, s, a)
		})
	}
}

// wantJWKS compares the published keys, by another library's reading, with those in use.
func wantJWKS(t *testing.T, s *Service, a Algorithm) {
	t.Helper()
	var set jose.JSONWebKeySet
	check(t, json.Unmarshal(s.JWKS(), &set))
	want := 2
	if a == HS256 {
		want = 0
		if string(s.JWKS()) != `{"keys":[]}` {
			t.Errorf("the shared secret's set is %s", s.JWKS())
		}
	}
	if len(set.Keys) != want {
		t.Fatalf("%d keys are published, want %d", len(set.Keys), want)
	}
	for _, k := range set.Keys {
		if k.KeyID == "" || k.Algorithm != string(a) || k.Use != "sig" || !k.Valid() || !k.IsPublic() {
			t.Errorf("published: %+v", k)
		}
		switch a {
		case ES256:
			_, ok := k.Key.(*ecdsa.PublicKey)
			if !ok {
				t.Errorf("a %T", k.Key)
			}
		case RS256, PS256:
			if key, ok := k.Key.(*rsa.PublicKey); !ok || key.N.BitLen() < 2048 {
				t.Errorf("a %T", k.Key)
			}
		case EdDSA:
			if _, ok := k.Key.(ed25519.PublicKey); !ok {
				t.Errorf("a %T", k.Key)
			}
		}
	}
	if bytes.ContainsAny(s.JWKS(), "=+/") {
		t.Errorf("the set is not unpadded base64url: %s", s.JWKS())
	}
	for _, member := range []string{`"d"`, `"p"`, `"q"`, `"dp"`, `"dq"`, `"qi"`, `"k"`} {
		if bytes.Contains(s.JWKS(), []byte(member+":")) {
			t.Errorf("the private member %s is published", member)
		}
	}
}

// Whoever checks tokens with a shared secret could make others as well: access tokens alone are believed under one.
func TestSharedSecretIsForAccessTokensAlone(t *testing.T) {
	t.Parallel()
	s := loaded(t, &memory{}, oldText, HS256)
	if !verifies(t, s, sign(t, s)) {
		t.Fatal("its access token is refused")
	}
	forged := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "ann"})
	forged.Header["kid"] = s.ring.Load().access.ID
	token, err := forged.SignedString(s.cfg.SigningSecret)
	check(t, err)
	if valid, err := s.VerifyAs(t.Context(), token, "JWT", jwt.MapClaims{}); err != nil || valid {
		t.Errorf("an ID token: %v, %v", valid, err)
	}
}

// Each difference from what Sign makes is refused by itself.
func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	store := &memory{}
	s := loaded(t, store, oldText, ES256)
	kid := currentOf(store.rows, ES256).ID
	k := s.ring.Load().access
	forge := func(header, payload string) string {
		text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
		signature, err := k.method.Sign(text, k.private)
		check(t, err)
		return text + "." + base64.RawURLEncoding.EncodeToString(signature)
	}
	good := `{"alg":"ES256","kid":"` + kid + `","typ":"at+jwt"}`
	if !verifies(t, s, forge(good, `{"sub":"ann"}`)) {
		t.Fatal("this test does not make tokens as the server does")
	}
	for name, header := range map[string]string{
		"no typ":           `{"alg":"ES256","kid":"` + kid + `"}`,
		"an ID token":      `{"alg":"ES256","kid":"` + kid + `","typ":"JWT"}`,
		"typ no text":      `{"alg":"ES256","kid":"` + kid + `","typ":7}`,
		"no kid":           `{"alg":"ES256","typ":"at+jwt"}`,
		"kid no text":      `{"alg":"ES256","kid":["` + kid + `"],"typ":"at+jwt"}`,
		"unknown kid":      `{"alg":"ES256","kid":"other","typ":"at+jwt"}`,
		"critical":         `{"alg":"ES256","kid":"` + kid + `","typ":"at+jwt","crit":["exp"]}`,
		"no algorithm":     `{"kid":"` + kid + `","typ":"at+jwt"}`,
		"algorithm none":   `{"alg":"none","kid":"` + kid + `","typ":"at+jwt"}`,
		"algorithm None":   `{"alg":"None","kid":"` + kid + `","typ":"at+jwt"}`,
		"another of ECDSA": `{"alg":"ES384","kid":"` + kid + `","typ":"at+jwt"}`,
		"a shared secret":  `{"alg":"HS256","kid":"` + kid + `","typ":"at+jwt"}`,
		"RSA":              `{"alg":"RS256","kid":"` + kid + `","typ":"at+jwt"}`,
		"lower case":       `{"alg":"es256","kid":"` + kid + `","typ":"at+jwt"}`,
		"a list":           `[]`, "no JSON": `{`, "null": `null`,
	} {
		if verifies(t, s, forge(header, `{"sub":"ann"}`)) {
			t.Errorf("%s: accepted", name)
		}
	}
	public, err := base64.RawURLEncoding.DecodeString(strings.TrimSuffix(base64.RawURLEncoding.EncodeToString(s.JWKS()), "="))
	check(t, err)
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","kid":"`+kid+`","typ":"at+jwt"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"ann"}`))
	signature, err := jwt.SigningMethodHS256.Sign(text, public)
	check(t, err)
	token := sign(t, s)
	parts := strings.Split(token, ".")
	for name, bad := range map[string]string{
		"the public key as a shared secret": text + "." + base64.RawURLEncoding.EncodeToString(signature),
		"no signature":                      parts[0] + "." + parts[1] + ".", "two parts": parts[0] + "." + parts[1], "four parts": token + ".", "five parts, as a JWE": token + "." + parts[1] + "." + parts[2],
		"empty": "", "dots": strings.Repeat(".", 1<<20), "padding": token + "=", "space": token + " ", "a line break": token[:20] + "\n" + token[20:],
		"another's payload": parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"bob"}`)) + "." + parts[2],
		"too long":          forge(good, `{"sub":"ann","x":"`+strings.Repeat("x", maxTokenLength)+`"}`),
		"DER signature":     parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString([]byte{0x30, 6, 2, 1, 1, 2, 1, 1}),
		"zero signature":    parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)),
	} {
		if verifies(t, s, bad) {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestNotLoaded(t *testing.T) {
	t.Parallel()
	s := newService(t, &memory{}, oldText, ES256)
	if _, err := s.Sign(struct{}{}); !errors.Is(err, ErrNotLoaded) {
		t.Errorf("signed: %v", err)
	}
	if _, ok, err := s.Verify(t.Context(), "a.b.c", jwt.MapClaims{}); ok || !errors.Is(err, ErrNotLoaded) {
		t.Errorf("verified: %v, %v", ok, err)
	}
	if s.Loaded() || s.JWKS() != nil {
		t.Error("it says that it is loaded")
	}
	check(t, s.Load(t.Context()))
	if !s.Loaded() || s.JWKS() == nil {
		t.Error("it says that it is not loaded")
	}
}

// However many tokens with an unknown key come, the database is asked now and then at the most; and a token that another
// replica has signed meanwhile is accepted all the same.
func TestUnknownKeysAreLookedForNowAndThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		one, two := loaded(t, store, oldText, EdDSA), loaded(t, store, oldText, EdDSA)
		unknown := sign(t, loaded(t, &memory{}, oldText, EdDSA))
		time.Sleep(time.Minute)
		var fresh string
		for range 3 {
			for range 2 { // the first rotation makes a key current that both know, the second does not
				_, err := one.Rotate(t.Context(), audit.Origin{})
				check(t, err)
			}
			fresh = sign(t, one)
			store.count()
			if !verifies(t, two, fresh) || store.count() != 1 {
				t.Error("the other replica's token is refused, or the keys were read more than once")
			}
			if verifies(t, two, unknown) {
				t.Error("a stranger's token is accepted")
			}
		}
		store.count()
		began := time.Now()
		for range 10 {
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					if verifies(t, two, unknown) {
						t.Error("a stranger's token is accepted")
					}
				})
			}
			wg.Wait()
		}
		if n, most := store.count(), 1+int(time.Since(began)/reloadPause); n > most {
			t.Errorf("in %s the keys were read %d times", time.Since(began), n)
		}
		// A known key, or no key at all, is no reason to ask.
		for _, token := range []string{fresh, fresh[:len(fresh)-4] + "AAAA", "", "a.b.c", "not a token"} {
			verifies(t, two, token)
		}
		if n := store.count(); n != 0 {
			t.Errorf("the keys were read %d times for nothing", n)
		}
		time.Sleep(time.Minute)
		store.err = errors.New("the database is gone")
		if _, ok, err := two.Verify(t.Context(), unknown, jwt.MapClaims{}); ok || !errors.Is(err, store.err) {
			t.Errorf("without a database: %v, %v", ok, err)
		}
	})
}

// Follow takes over what others changed, and rotates what is due: once, however many follow, as a key that signs has to be
// published long before.
func TestFollow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var replicas []*Service
		for i := range 3 { // at different distances from the database: one decides on what another has changed meanwhile
			s := newService(t, distant{store, time.Duration(i) * 50 * time.Millisecond}, oldText, EdDSA)
			s.cfg.RotateEvery = 5 * time.Minute
			check(t, s.Load(ctx))
			replicas = append(replicas, s)
		}
		for _, s := range replicas { // they look at the same moment
			go s.Follow(ctx)
		}
		wantCurrent := func(what, before string) string {
			t.Helper()
			current := store.ids(Current)[0]
			for _, s := range replicas {
				if got := s.ring.Load().access.ID; got != current || got == before {
					t.Errorf("%s a replica signs with another key", what)
				}
			}
			return current
		}
		first := wantCurrent("at first", "")
		time.Sleep(time.Second) // between two looks
		_, err := loaded(t, store, oldText, EdDSA).Rotate(ctx, audit.Origin{})
		check(t, err)
		time.Sleep(30 * time.Second)
		second := wantCurrent("half a minute after a rotation", first)
		time.Sleep(4 * time.Minute)
		if wantCurrent("before it is due", first) != second {
			t.Error("rotated before it was due")
		}
		published := store.ids(Next)
		time.Sleep(time.Minute)
		if third := wantCurrent("after it was due", second); third != published[0] {
			t.Error("the key that signs is not the one that was published as the next")
		}
		if n := len(store.ids(Retired)); n != 2 {
			t.Errorf("there were %d rotations, want 2", n)
		}
	})
}

// While a new algorithm, or a new secret, is rolled out, the replicas that are still to be started again follow those that were: tokens of
// either are good on all, keys that are revoked are gone, and no replica takes back what another one began.
func TestFollowAnotherSetting(t *testing.T) {
	t.Parallel()
	const otherSecret = "another shared secret of 32 bytes, or more"
	for _, change := range []struct {
		from, to Algorithm
		secret   string
	}{{ES256, PS256, signingSecret}, {ES256, RS256, signingSecret}, {ES256, HS256, signingSecret}, {HS256, ES256, signingSecret}, {HS256, HS256, otherSecret}} {
		t.Run(string(change.from+" to "+change.to), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := &memory{}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var wanted atomic.Value // of the algorithms of clients; Follow reads it
				wanted.Store([]Algorithm{RS256})
				start := func(a Algorithm, secret string) *Service {
					s := newService(t, store, oldText, a)
					s.cfg.SigningSecret = []byte(secret)
					s.cfg.Wanted = func(context.Context) ([]Algorithm, time.Duration, error) {
						return wanted.Load().([]Algorithm), 0, nil
					}
					check(t, s.Load(ctx))
					go s.Follow(ctx)
					return s
				}
				before := start(change.from, signingSecret)
				time.Sleep(time.Hour)
				oldToken := sign(t, before)
				after := start(change.to, change.secret)
				agree := func(what string) {
					t.Helper()
					current := after.ring.Load().access.ID
					for _, s := range []*Service{before, after} {
						for _, token := range []string{oldToken, sign(t, before), sign(t, after)} {
							if !verifies(t, s, token) {
								t.Errorf("%s a token is refused", what)
							}
						}
						if got := s.ring.Load().access.ID; s == after && got != current || what != "at once" && got != current {
							t.Errorf("%s a replica signs with %s, want %s", what, got, current)
						}
					}
				}
				agree("at once")
				first := after.ring.Load().access.ID
				time.Sleep(time.Minute)
				agree("after a minute")
				wanted.Store([]Algorithm{RS256, EdDSA}) // a client registers
				time.Sleep(time.Minute)
				agree("with another algorithm for ID tokens")
				if after.ring.Load().access.ID != first {
					t.Error("a replica took the change back")
				}
				if _, err := before.Rotate(ctx, audit.Origin{}); err != nil {
					t.Errorf("rotated: %v", err)
				}
				time.Sleep(time.Minute)
				agree("after a rotation")
				if a := after.ring.Load().access.Algorithm; a != change.to {
					t.Errorf("after a rotation tokens are signed with %s, want %s", a, change.to)
				}
			})
		})
	}
}

func TestParseAlgorithm(t *testing.T) {
	t.Parallel()
	for _, a := range Algorithms {
		if got, err := ParseAlgorithm(string(a)); err != nil || got != a || a.method() == nil || a.method().Alg() != string(a) {
			t.Errorf("%s: %s, %v", a, got, err)
		}
	}
	for _, s := range []string{"", "none", "es256", "ES384", "HS512", " ES256"} {
		if _, err := ParseAlgorithm(s); err == nil || !strings.Contains(err.Error(), "ES256, RS256, PS256, EdDSA, HS256") {
			t.Errorf("%q: %v", s, err)
		}
	}
	if _, err := generate(HS256, parseSecret(t, oldText).Sealer(sealLabel)); err == nil {
		t.Error("an HS256 secret was generated")
	}
	if _, err := generate("RS512", parseSecret(t, oldText).Sealer(sealLabel)); err == nil {
		t.Error("a key of an unknown algorithm was generated")
	}
}

// A command that is told of a key does not take it for a flag.
func TestKeyIDsBeginLikeNoFlag(t *testing.T) {
	t.Parallel()
	for range 1000 {
		if k := sealKey(ES256, []byte("private"), parseSecret(t, oldText).Sealer(sealLabel)); strings.HasPrefix(k.ID, "-") {
			t.Fatalf("a key is called %s", k.ID)
		}
	}
}
