package users

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-crypt/crypt/algorithm/argon2"
	"github.com/go-crypt/crypt/algorithm/bcrypt"
	"github.com/go-crypt/crypt/algorithm/scrypt"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"signet/audit"
	"signet/keys"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newSecret(t testing.TB) keys.Secret {
	t.Helper()
	s, err := keys.ParseSecret(keys.NewSecret())
	check(t, err)
	return s
}

// memory is a store with one user and no throttling.
type memory struct {
	Store

	user     *User
	asked    string // the name that was looked up last
	failures int
	cleared  int
	rehashed []string
}

func (m *memory) LoginCandidate(_ context.Context, canonical string, _ Attempt) (*User, string, time.Duration, error) {
	m.asked = canonical
	if m.user == nil || canonical != Canonical(m.user.Username) {
		return nil, "", 0, nil
	}
	u := *m.user
	return &u, "", 0, nil
}

func (m *memory) CountLoginFailure(context.Context, Attempt, audit.Event, audit.Event) (Counted, error) {
	m.failures++
	return Counted{}, nil
}

func (m *memory) ClearLoginFailures(context.Context, Attempt) (time.Duration, error) {
	m.cleared++
	return 0, nil
}

func (m *memory) Rehash(_ context.Context, _, oldHash, newHash string) error {
	m.rehashed = append(m.rehashed, oldHash)
	m.user.PasswordHash = newHash
	return nil
}

func (m *memory) CreateUser(_ context.Context, u User, _ string, _ audit.Event) (User, error) {
	m.user = &u
	return u, nil
}

func newService(t testing.TB, store Store) *Service {
	t.Helper()
	return New(store, Config{Secret: newSecret(t), MaxFailures: 3, Window: time.Minute}, slog.New(slog.DiscardHandler))
}

func (s *Service) try(t testing.TB, username, password string) error {
	t.Helper()
	_, err := s.Authenticate(t.Context(), username, password, "app", audit.Origin{Address: "192.0.2.1"})
	return err
}

func TestPasswordsAreHashedAsRecommended(t *testing.T) {
	t.Parallel()
	h := newHasher(argonMemory)
	seen := map[string]bool{}
	for range 3 {
		hash, err := h.hash(t.Context(), "correct horse")
		check(t, err)
		parts := strings.Split(hash, "$")
		if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") || len(parts) != 6 {
			t.Fatalf("the hash is %q", hash)
		}
		for i, size := range map[int]int{4: 16, 5: 32} {
			if b, err := base64.RawStdEncoding.DecodeString(parts[i]); err != nil || len(b) < size {
				t.Errorf("part %d of %q: %d bytes, %v", i, hash, len(b), err)
			}
		}
		seen[hash] = true
		for password, want := range map[string]bool{"correct horse": true, "correct horse ": false, "Correct horse": false, "": false, "correct hors": false} {
			if got, anew, err := h.verify(t.Context(), hash, "", password); got != want || anew != "" || err != nil {
				t.Errorf("%q: %v, rehashed %q, %v", password, got, anew, err)
			}
		}
	}
	if len(seen) != 3 {
		t.Error("one password has the same hash twice: there is no salt")
	}
}

// The hash that stands in for an unknown user's is of today's parameters, so that it costs the same, and opens to nobody.
func TestNobodysHash(t *testing.T) {
	t.Parallel()
	h := newHasher(argonMemory)
	digest, err := h.decoder.Decode(h.dummy)
	check(t, err)
	if _, ok := digest.(*argon2.Digest); !ok || !strings.HasPrefix(h.dummy, h.current) {
		t.Errorf("%T, %q", digest, h.dummy)
	}
	genuine, err := h.hash(t.Context(), "correct horse")
	check(t, err)
	if len(genuine) != len(h.dummy) {
		t.Errorf("the stand-in %q is not of the form of %q", h.dummy, genuine)
	}
	for _, password := range []string{"", "correct horse", strings.Repeat("A", 43)} {
		if ok, anew, err := h.verify(t.Context(), "", "", password); ok || anew != "" || err != nil {
			t.Errorf("%q: %v, %q, %v", password, ok, anew, err)
		}
	}
}

// A stand-in is checked in the place of nobody's hash, whatever its kind, and opens to nobody either.
func TestStandIn(t *testing.T) {
	t.Parallel()
	h := newHasher(argonMemory)
	for name, hash := range imported(t) {
		if ok, anew, err := h.verify(t.Context(), "", hash, "correct horse"); ok || anew != "" || err != nil {
			t.Errorf("%s: %v, %q, %v", name, ok, anew, err)
		}
	}
	if _, _, err := h.verify(t.Context(), "", "unreadable", "x"); err == nil {
		t.Error("the stand-in was not checked at all")
	}
}

// imported are hashes of the password "correct horse" as other programs make them.
func imported(t testing.TB) map[string]string {
	t.Helper()
	b, err := bcrypt.New(bcrypt.WithIterations(10))
	check(t, err)
	s, err := scrypt.New(scrypt.WithLN(10))
	check(t, err)
	a, err := argon2.New(argon2.WithVariantID(), argon2.WithM(8*1024), argon2.WithT(1), argon2.WithP(1))
	check(t, err)
	hashes := map[string]string{}
	bcryptHash, err := b.Hash("correct horse")
	check(t, err)
	scryptHash, err := s.Hash("correct horse")
	check(t, err)
	argonHash, err := a.Hash("correct horse")
	check(t, err)
	hashes["bcrypt"], hashes["scrypt"], hashes["weaker argon2id"] = bcryptHash.Encode(), scryptHash.Encode(), argonHash.Encode()
	return hashes
}

// A hash of another kind is good for one login, and is replaced by it.
func TestRehashAtLogin(t *testing.T) {
	t.Parallel()
	for name, hash := range imported(t) {
		store := &memory{user: &User{ID: "1", Username: "Ann", PasswordHash: hash}}
		s := newService(t, store)
		if err := s.try(t, "ann", "wrong horse"); !errors.Is(err, ErrBadCredentials) || len(store.rehashed) != 0 || store.failures != 1 {
			t.Errorf("%s: a wrong password: %v, %d rehashed", name, err, len(store.rehashed))
		}
		for range 2 {
			check(t, s.try(t, "ann", "correct horse"))
		}
		if diff := cmp.Diff([]string{hash}, store.rehashed); diff != "" || !strings.HasPrefix(store.user.PasswordHash, s.hasher.current) {
			t.Errorf("%s: now %q, replaced (-want +got):\n%s", name, store.user.PasswordHash, diff)
		}
	}
}

// bcrypt looks at 72 bytes. A longer password is refused rather than cut off, with or without the right beginning.
func TestBcryptDoesNotCutPasswordsOff(t *testing.T) {
	t.Parallel()
	b, err := bcrypt.New(bcrypt.WithVariant(bcrypt.VariantStandard), bcrypt.WithIterations(10))
	check(t, err)
	long := strings.Repeat("0123456789", 8)
	digest, err := b.Hash(long[:72])
	check(t, err)
	store := &memory{user: &User{ID: "1", Username: "ann", PasswordHash: digest.Encode()}}
	s := newService(t, store)
	for _, tail := range []string{"a", "b", "", "\x00"} {
		password := long[:72] + tail
		if err := s.try(t, "ann", password); (err == nil) != (tail == "") {
			t.Errorf("%d bytes ending in %q: %v", len(password), tail, err)
		}
		store.user.PasswordHash = digest.Encode() // the right one has replaced it
	}
	// A hash of Signet's own tells long passwords apart.
	own, err := s.hasher.hash(t.Context(), long[:72]+"a")
	check(t, err)
	for tail, want := range map[string]bool{"a": true, "b": false} {
		if ok, _, err := s.hasher.verify(t.Context(), own, "", long[:72]+tail); ok != want || err != nil {
			t.Errorf("73 bytes ending in %q: %v, %v", tail, ok, err)
		}
	}
}

func TestUnreadableHashIsAnError(t *testing.T) {
	t.Parallel()
	h := newHasher(argonMemory)
	for _, hash := range []string{"none", "$argon2id$", "$md5$x$y", "plaintext", "$1$salt$hash"} {
		if ok, _, err := h.verify(t.Context(), hash, "", hash); ok || err == nil || strings.Contains(err.Error(), hash) {
			t.Errorf("%q: %v, %v", hash, ok, err)
		}
	}
}

// A disabled user, an unknown one and a wrong password are told apart by nobody.
func TestOneAnswerForEveryFailure(t *testing.T) {
	t.Parallel()
	hash, err := newHasher(argonMemory).hash(t.Context(), "correct horse")
	check(t, err)
	for name, c := range map[string]struct {
		user               User
		username, password string
	}{
		"unknown":        {User{Username: "bob"}, "ann", "correct horse"},
		"wrong password": {User{Username: "ann"}, "ann", "wrong horse"},
		"disabled":       {User{Username: "ann", Disabled: true}, "ann", "correct horse"},
		"no password":    {User{Username: "ann"}, "ann", ""},
		"no username":    {User{Username: "ann"}, "", "correct horse"},
		"not text":       {User{Username: "ann"}, "a\x00\xff", "correct horse"},
	} {
		c.user.PasswordHash = hash
		store := &memory{user: &c.user}
		if err := newService(t, store).try(t, c.username, c.password); !errors.Is(err, ErrBadCredentials) || err.Error() != ErrBadCredentials.Error() {
			t.Errorf("%s: %v", name, err)
		}
		if store.failures != 1 || store.cleared != 0 {
			t.Errorf("%s: %d failures were counted, %d times cleared", name, store.failures, store.cleared)
		}
		if strings.Contains(store.asked, "\x00") || !utf8.ValidString(store.asked) {
			t.Errorf("%s: the database was asked for %q", name, store.asked)
		}
	}
}

// Beyond its length the queue turns logins away at once, and whoever waits for too long is told the same.
func TestQueueOverflow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(argonMemory)
		h.cores, h.queue = make(chan struct{}, 1), make(chan struct{}, 3)
		release, err := h.acquire(t.Context())
		check(t, err)
		waiting := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := h.acquire(t.Context())
				waiting <- err
			}()
		}
		synctest.Wait()
		began := time.Now()
		if _, err := h.acquire(t.Context()); !errors.Is(err, ErrOverloaded) || time.Since(began) > 0 {
			t.Errorf("a full queue: %v after %s", err, time.Since(began))
		}
		for range 2 {
			if err := <-waiting; !errors.Is(err, ErrOverloaded) || time.Since(began) != queueTimeout {
				t.Errorf("waited for %s: %v", time.Since(began), err)
			}
		}
		// Whoever gave up left the queue, and a caller who goes away is no overload.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := h.acquire(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller who went away: %v", err)
		}
		release()
		if len(h.queue) != 0 || len(h.cores) != 0 {
			t.Errorf("%d places and %d cores are still taken", len(h.queue), len(h.cores))
		}
		if release, err = h.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		release()
	})
	if err := func() error {
		s := newService(t, &memory{})
		s.hasher.queue = make(chan struct{}) // full
		return s.try(t, "ann", "correct horse")
	}(); !errors.Is(err, ErrOverloaded) {
		t.Errorf("a login: %v", err)
	}
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	for _, same := range [][]string{
		{"ann", "Ann", "ANN"}, {"straße", "STRASSE", "Strasse", "STRAẞE"}, {"é", "e\u0301", "É", "E\u0301"}, {"Σίσυφος", "ΣΊΣΥΦΟΣ", "σίσυφοσ"},
		{"ann@example.com", "Ann@Example.COM"}, {"가", "\u1100\u1161"}, {"Å", "\u212b", "A\u030a", "å"},
		{"Ꭰ", "ꭰ"}, // Cherokee, whose small letters are the younger ones
	} {
		for _, name := range same {
			if got, want := Canonical(name), Canonical(same[0]); got != want {
				t.Errorf("%q is %q, but %q is %q", name, got, same[0], want)
			}
		}
	}
	names := []string{"ann", "anne", "ann ", "a.nn", "ann+1@example.com", "1", "l", "аnn" /* Cyrillic */}
	seen := map[string]string{}
	for _, name := range names {
		if before, dup := seen[Canonical(name)]; dup {
			t.Errorf("%q and %q are one", name, before)
		}
		seen[Canonical(name)] = name
	}
}

func TestCanonicalIsStable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		name := rapid.StringOf(rapid.Rune().Filter(func(r rune) bool { return !unicode.Is(unicode.Cherokee, r) })).Draw(r, "name")
		if once := Canonical(name); Canonical(once) != once {
			r.Fatalf("%q becomes %q, and that %q", name, once, Canonical(once))
		}
	})
}

func TestUsernamesAndPasswords(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"a": true, "ann@example.com": true, "ann smith": true, "Ännchen": true, strings.Repeat("ä", 255): true, "名前": true, "a\u00a0b": true,
		"": false, " ": false, " ann": false, "ann ": false, "ann\u00a0": false, "\tann": false, "ann\n": false, "a\x00b": false, "a\x7fb": false, "a\u0085b": false,
		strings.Repeat("a", 256): false, "a\xffb": false,
	} {
		if got := ValidUsername(name); got != want {
			t.Errorf("username %q: %v", name, got)
		}
	}
	for password, want := range map[string]bool{
		strings.Repeat("a", 7): false, strings.Repeat("a", 8): true, strings.Repeat("a", 1024): true, strings.Repeat("a", 1025): false,
		"": false, "ääää": true, "äää": false, "ääää\xff": false, "pass\x00word": true, "        ": true, strings.Repeat("ä", 512): true, strings.Repeat("ä", 513): false,
	} {
		if err := checkPassword(password); (err == nil) != want || err != nil && !errors.Is(err, ErrPassword) {
			t.Errorf("a password of %d bytes: %v", len(password), err)
		}
	}
	store := &memory{}
	s := newService(t, store)
	for _, name := range []string{" ann", "ann\u202e", "ann\u2066nimda\u2069", "ann\u2028bob"} {
		if _, err := s.Create(t.Context(), name, "correct horse", false, Profile{}, audit.Origin{}); !errors.Is(err, ErrUsername) || store.user != nil {
			t.Errorf("%q: got %v", name, err)
		}
	}
	if _, err := s.Create(t.Context(), "ann", "short", false, Profile{}, audit.Origin{}); !errors.Is(err, ErrPassword) || store.user != nil {
		t.Errorf("created: %v", err)
	}
	if _, err := s.Update(t.Context(), "1", Change{Password: new("short")}, audit.Origin{}); !errors.Is(err, ErrPassword) {
		t.Errorf("set: %v", err)
	}
	if _, err := s.Find(t.Context(), "a\x00b"); !errors.Is(err, ErrNotFound) {
		t.Errorf("found: %v", err)
	}
	u, err := s.Create(t.Context(), "Ann", "correct horse", true, Profile{}, audit.Origin{})
	if err != nil || u.Username != "Ann" || !u.Admin || u.Disabled || u.ID == "" || strings.Contains(u.PasswordHash, "horse") {
		t.Errorf("%+v, %v", u, err)
	}
	made := NewPassword()
	if err := checkPassword(made); err != nil || made == NewPassword() {
		t.Errorf("%q: %v", made, err)
	}
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8::1": "2001:db8::/64", "2001:db8:0:0:ffff::1": "2001:db8::/64",
		"2001:db8:0:1::1": "2001:db8:0:1::/64", "fe80::1%eth0": "fe80::/64", "::1": "::/64", "": "", "unix": "unix",
	} {
		if got := network(address); got != want {
			t.Errorf("%q counts for %q, want %q", address, got, want)
		}
	}
}

// What is stored of an attempt depends on SIGNET_SECRET and on each of its parts, in its place.
func TestDigestsOfAttempts(t *testing.T) {
	t.Parallel()
	one, two := newService(t, &memory{}), newService(t, &memory{})
	seen := map[string]string{}
	for _, s := range []*Service{one, two} {
		for _, c := range [][3]string{{"ann", "1", "192.0.2.1"}, {"ann1", "", "192.0.2.2"}, {"an", "n1", "192.0.2.3"}, {"1", "ann", "192.0.2.4"}, {"192.0.2.1", "192.0.2.1", "192.0.2.5"}} {
			a := s.attempt(c[0], c[1], c[2])
			for what, digest := range map[string][]byte{"username": a.Username, "address": a.Address, "password": a.Password} {
				if before, dup := seen[string(digest)]; dup {
					t.Errorf("the %s of %v is that of %s", what, c, before)
				}
				seen[string(digest)] = fmt.Sprint(what, c)
				for _, part := range c {
					if len(part) > 2 && bytes.Contains(digest, []byte(part)) {
						t.Errorf("the %s of %v holds %q", what, c, part)
					}
				}
			}
			if diff := cmp.Diff(a, s.attempt(c[0], c[1], c[2])); diff != "" {
				t.Errorf("the same attempt differs:\n%s", diff)
			}
		}
	}
	if a, b := one.attempt("ann", "1", "2001:db8::1"), one.attempt("ann", "1", "2001:db8::2"); !bytes.Equal(a.Address, b.Address) {
		t.Error("one subscriber's addresses count apart")
	}
}

func digests(names ...string) (list [][]byte) {
	for _, n := range names {
		list = append(list, []byte(n))
	}
	return list
}

func TestCount(t *testing.T) {
	t.Parallel()
	const left = 5 * time.Minute
	failures := func(subject string, remaining time.Duration, attempts ...string) Failures {
		return Failures{Subject: []byte(subject), Attempts: digests(attempts...), Remaining: remaining}
	}
	a := Attempt{Username: []byte("ann"), Address: []byte("here"), Password: []byte("x"), Max: 3, Window: time.Hour}
	for _, c := range []struct {
		name   string
		known  []Failures
		want   Counted
		events int
	}{
		{"the first", []Failures{failures("ann", 0), failures("here", 0)},
			Counted{Changed: []Failures{failures("ann", 0, "x"), failures("here", 0, "x")}}, 1},
		{"the second", []Failures{failures("ann", left, "a"), failures("here", left, "a")},
			Counted{Changed: []Failures{failures("ann", left, "a", "x"), failures("here", left, "a", "x")}}, 1},
		{"the last one allowed", []Failures{failures("ann", left, "a", "b"), failures("here", left, "a")},
			Counted{Changed: []Failures{failures("ann", left, "a", "b", "x"), failures("here", left, "a", "x")}, reached: true}, 2},
		{"one too many for the username", []Failures{failures("ann", left, "a", "b", "c"), failures("here", left)}, Counted{Wait: left}, 0},
		{"one too many for the address", []Failures{failures("ann", left), failures("here", left, "a", "b", "c")}, Counted{Wait: left}, 0},
		{"one too many for both", []Failures{failures("ann", left, "a", "b", "c"), failures("here", 2*left, "a", "b", "c")}, Counted{Wait: 2 * left}, 0},
		{"the same again", []Failures{failures("ann", left, "x"), failures("here", left, "a", "x")}, Counted{}, 0},
		{"the same again, at the cap", []Failures{failures("ann", left, "a", "b", "x"), failures("here", left, "a", "b", "x")}, Counted{}, 0},
		{"known for the username alone", []Failures{failures("ann", left, "x"), failures("here", left, "a")},
			Counted{Changed: []Failures{failures("here", left, "a", "x")}}, 1},
		{"known for the username, too many for the address", []Failures{failures("ann", left, "x"), failures("here", left, "a", "b", "c")}, Counted{Wait: left}, 0},
		{"the window is over", []Failures{failures("ann", 0, "a", "b", "c"), failures("here", -left, "a", "b", "x")},
			Counted{Changed: []Failures{failures("ann", 0, "x"), failures("here", -left, "x")}}, 1},
		{"a lower cap than before", []Failures{failures("ann", left, "a", "b", "c", "d"), failures("here", left)}, Counted{Wait: left}, 0},
	} {
		got := a.Count(c.known)
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(Counted{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if events := got.Events(audit.Event{Type: audit.LoginFailed}, audit.Event{Type: audit.LoginThrottled}); len(events) != c.events {
			t.Errorf("%s: %d events, want %d", c.name, len(events), c.events)
		}
	}
	single := a
	single.Max = 1
	if got := single.Count([]Failures{failures("ann", 0), failures("here", 0)}); !got.reached || len(got.Changed) != 2 {
		t.Errorf("a cap of one: %+v", got)
	}
}

// However attempts come, no subject ever has more than the cap, nor the same password twice.
func TestCountProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		most := rapid.IntRange(1, 5).Draw(r, "max")
		stored := map[string]Failures{}
		for range rapid.IntRange(1, 40).Draw(r, "attempts") {
			a := Attempt{
				Username: []byte("user " + rapid.SampledFrom([]string{"1", "2"}).Draw(r, "user")), Address: []byte("address " + rapid.SampledFrom([]string{"1", "2"}).Draw(r, "address")),
				Password: []byte{rapid.Byte().Draw(r, "password") % 8}, Max: most, Window: time.Hour,
			}
			var known []Failures
			full := false
			for _, subject := range a.Subjects() {
				f := stored[string(subject)]
				f.Subject, f.Remaining = subject, time.Hour
				f.Attempts = slices.Clone(f.Attempts)
				known = append(known, f)
				full = full || len(f.Attempts) >= most && !slices.ContainsFunc(f.Attempts, func(d []byte) bool { return bytes.Equal(d, a.Password) })
			}
			c := a.Count(known)
			if full != (c.Wait > 0) {
				r.Fatalf("to wait: %s, though a cap is reached: %v", c.Wait, full)
			}
			for _, f := range c.Changed {
				unique := map[string]bool{}
				for _, d := range f.Attempts {
					unique[string(d)] = true
				}
				if len(f.Attempts) > most || len(unique) != len(f.Attempts) {
					r.Fatalf("%d attempts are stored, %d different ones; the cap is %d", len(f.Attempts), len(unique), most)
				}
				stored[string(f.Subject)] = f
			}
		}
	})
}

func TestThrottledError(t *testing.T) {
	t.Parallel()
	if got := (&ThrottledError{RetryAfter: 90*time.Second + time.Millisecond}).Error(); !strings.Contains(got, "1m30s") {
		t.Error(got)
	}
}
