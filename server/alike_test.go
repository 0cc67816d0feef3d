package server_test

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-crypt/crypt/algorithm/argon2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"signet/audit"
	"signet/logins"
	"signet/storage/storagetest"
	"signet/users"
)

// The users of these tests, and as many strangers, with names of the same lengths: each is good for ten mails an hour.
const (
	alikeNames = 250
	alikeTries = 2000
)

// acquainted makes users known 000, known 001 and so on, with addresses of the same names, and disabled ones, called gone. Their hashes are
// cheap ones, but not so cheap that it would not show if one was not computed.
func (r *replica) acquainted(t *testing.T, b *backend) {
	t.Helper()
	hasher, err := argon2.New(argon2.WithVariantID(), argon2.WithM(128), argon2.WithT(1), argon2.WithP(1))
	check(t, err)
	digest, err := hasher.Hash(password)
	check(t, err)
	for i := range alikeNames {
		for _, kind := range []string{"known", "gone "} {
			u := users.User{ID: uuid.NewString(), Username: fmt.Sprintf("%s %03d", kind, i), PasswordHash: digest.Encode()}
			u.Email, u.EmailVerified = fmt.Sprintf("%s%03d@example.com", strings.TrimSpace(kind), i), true
			_, err := r.store.CreateUser(t.Context(), u, users.Canonical(u.Username), audit.New(audit.UserCreated, origin))
			check(t, err)
		}
	}
	b.Exec(t, `UPDATE users SET disabled = TRUE WHERE username LIKE 'gone%'`)
}

// withoutRandom returns the text without what differs with every page: sealed requests, challenges, digests. They are all the long runs of
// the letters of base64url. A regular expression takes most of the test's time for that, under the race detector.
func withoutRandom(text string) string {
	other := func(c rune) bool {
		return (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_'
	}
	var b strings.Builder
	for text != "" {
		n := strings.IndexFunc(text, other)
		switch {
		case n == 0:
			n = 1
		case n < 0:
			n = len(text)
		}
		if n < 40 {
			b.WriteString(text[:n])
		} else {
			b.WriteString("RANDOM")
		}
		text = text[n:]
	}
	return b.String()
}

// alike checks that neither bytes nor time tell the kinds of requests apart. It makes one request of each kind in turn, in random order, so
// that what else the machine does concerns all of them, and looks at how many of the turns the one took longer than the other in: half of them,
// but for chance, which is good for two in a hundred. The bound is on how far the times are apart, not on whether it can be shown that they
// are: the one takes longer in more than six of ten turns, and by more than a tenth. An event of a user, who has an id, takes some microseconds
// longer to write than one of a stranger; a hash that is not computed is a quarter of the time here, and with real hashes nearly all of it.
// Where a part of the turns has shown the times to be within half of the bound, which chance does not do to those beyond it, it ends early.
func (r *replica) alike(t *testing.T, status int, request map[string]func(i int) (*http.Request, string)) {
	t.Helper()
	kinds := slices.Sorted(maps.Keys(request))
	took, lengths, first := map[string][]time.Duration{}, map[string]map[int]int{}, ""
	const warm, part = 20, alikeTries / 4
	for i := range alikeTries + warm {
		for _, k := range rand.Perm(len(kinds)) { //nolint:gosec // no secret
			kind := kinds[k]
			req, name := request[kind](i)
			req.RemoteAddr = "127.0.0.1:1"
			req.Header.Set("X-Forwarded-For", fmt.Sprintf("10.%d.%d.%d", k, i/250, i%250))
			rec := httptest.NewRecorder()
			began := time.Now()
			r.public.ServeHTTP(rec, req)
			elapsed := time.Since(began)
			if rec.Code != status {
				t.Fatalf("%s: %d %s", kind, rec.Code, rec.Body)
			}
			if i < warm {
				continue
			}
			took[kind] = append(took[kind], elapsed)
			if lengths[kind] == nil {
				lengths[kind] = map[int]int{}
			}
			lengths[kind][rec.Body.Len()]++
			h := rec.Header().Clone()
			for _, own := range []string{"X-Request-Id", "Content-Length"} {
				h.Del(own)
			}
			shape := strings.ReplaceAll(withoutRandom(fmt.Sprint(h, rec.Body)), name, "NAME")
			if first == "" {
				first = shape
			}
			if shape != first {
				t.Fatalf("%s is answered otherwise:\n%s", kind, cmp.Diff(strings.Split(first, "\n"), strings.Split(shape, "\n")))
			}
		}
		if turns := i + 1 - warm; turns > 0 && turns%part == 0 && !anyPair(kinds, func(a, b string) bool {
			share, ratio := apart(took[a], took[b])
			return math.Abs(share-0.5) > 0.05 && ratio > 1.05
		}) {
			break
		}
	}
	usual := func(kind string) (length int) { // a time within what is sealed has a digit less now and then
		for l, n := range lengths[kind] {
			if n > lengths[kind][length] {
				length = l
			}
		}
		return length
	}
	anyPair(kinds, func(a, b string) bool {
		if share, ratio := apart(took[a], took[b]); math.Abs(share-0.5) > 0.1 && ratio > 1.1 {
			t.Errorf("%s takes longer than %s in %.3f of %d turns; the median of the slower is %.3f times the other's", a, b, share, len(took[a]), ratio)
		}
		if usual(a) != usual(b) {
			t.Errorf("%s has %d bytes, %s has %d", a, usual(a), b, usual(b))
		}
		return false
	})
}

// anyPair tells whether f is true of any two.
func anyPair(kinds []string, f func(a, b string) bool) bool {
	for i, a := range kinds {
		for _, b := range kinds[i+1:] {
			if f(a, b) {
				return true
			}
		}
	}
	return false
}

// apart returns the share of the turns in which a took longer than b, and how many times the smaller median the larger one is.
func apart(a, b []time.Duration) (share, ratio float64) {
	longer := 0
	for turn := range a {
		if a[turn] > b[turn] {
			longer++
		}
	}
	median := func(d []time.Duration) time.Duration { d = slices.Sorted(slices.Values(d)); return d[len(d)/2] }
	x, y := median(a), median(b)
	return float64(longer) / float64(len(a)), float64(max(x, y)) / float64(min(x, y))
}

// posted is a form as a browser sends it.
func posted(path string, f url.Values, cookies map[string]string) *http.Request {
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(f.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for name, value := range cookies {
		req.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	return req
}

// byName makes a request of each of these kinds of names.
func byName(format string, kinds []string, request func(name string) *http.Request) map[string]func(i int) (*http.Request, string) {
	m := map[string]func(int) (*http.Request, string){}
	for _, kind := range kinds {
		m[kind] = func(i int) (*http.Request, string) {
			name := fmt.Sprintf(format, kind, i%alikeNames)
			return request(name), name
		}
	}
	return m
}

// Whether a user exists nobody can tell, neither from bytes nor from time, wherever a name or an address can be typed.
func TestUsersAndStrangersAreAlike(t *testing.T) {
	t.Parallel()
	everybody := []string{"known", "other", "gone "}
	two := everybody[:2]
	for what, f := range map[string]func(t *testing.T, r *replica){
		"login": func(t *testing.T, r *replica) {
			s := r.surfer(t)
			v := s.authorize(ask(r.shop(t, "shop", trusted)))
			r.alike(t, http.StatusUnauthorized, byName("%s %03d", everybody, func(name string) *http.Request {
				f := maps.Clone(v.hidden)
				f.Set("username", name)
				f.Set("password", "wrong password")
				return posted("/login", f, s.cookies)
			}))
		},
		"password grant": func(t *testing.T, r *replica) {
			c := r.app(t, "app", public)
			r.alike(t, http.StatusBadRequest, byName("%s %03d", everybody, func(name string) *http.Request {
				// The right password does not help somebody who is disabled.
				secret := map[bool]string{true: password, false: "wrong password"}[strings.HasPrefix(name, "gone")]
				return posted("/token", form("grant_type", "password", "username", name, "password", secret, "client_id", c.ID), nil)
			}))
		},
		"forgotten password": func(t *testing.T, r *replica) {
			r.alike(t, http.StatusOK, byName("%s %03d", two, func(name string) *http.Request { return posted("/forgotten", form("username", name), nil) }))
		},
		"sign-up": func(t *testing.T, r *replica) {
			r.alike(t, http.StatusOK, byName("%s%03d@example.com", two, func(email string) *http.Request {
				return posted("/sign-up", form("email", email), nil)
			}))
		},
		"passkey options": func(t *testing.T, r *replica) {
			s, c := r.surfer(t), r.shop(t, "shop", trusted)
			for i := range alikeNames {
				u, err := r.users.Find(t.Context(), fmt.Sprintf("known %03d", i))
				check(t, err)
				id := []byte(u.Username)
				_, _, err = r.store.AddFactor(t.Context(), logins.Factor{ID: uuid.NewString(), Type: logins.Passkey, Name: "phone", UserID: u.ID, CredentialID: id, Material: []byte("{}")}, 1, nil,
					audit.New(audit.FactorAdded, origin))
				check(t, err)
			}
			s.authorize(ask(c)) // makes the browser known
			r.alike(t, http.StatusOK, byName("%s %03d", two, func(name string) *http.Request {
				req := httptest.NewRequest(http.MethodGet, "/authorize?"+ask(c, "login_hint", name).Encode(), nil)
				for name, value := range s.cookies {
					req.AddCookie(&http.Cookie{Name: name, Value: value})
				}
				return req
			}))
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			storagetest.Each(t, func(t *testing.T, b *backend) {
				r := start(t, b, withMail(&mailbox{}, users.SignUpOpen), dearPasswords)
				r.acquainted(t, b)
				f(t, r)
			})
		})
	}
}
