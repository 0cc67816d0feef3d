package keys_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"signet/audit"
	"signet/keys"
	"signet/storage/storagetest"
)

const tokenTTL = 15 * time.Minute

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// server is the configuration of a replica.
type server struct {
	secret        string
	algorithm     keys.Algorithm
	signingSecret string
}

func (s server) start(t testing.TB, b *storagetest.Backend) (*keys.Service, error) {
	t.Helper()
	secret, err := keys.ParseSecret(s.secret)
	check(t, err)
	k := keys.New(b.Open(t), keys.Config{
		Secret: secret, Algorithm: s.algorithm, SigningSecret: []byte(s.signingSecret), TokenTTL: tokenTTL, RotateEvery: 24 * time.Hour,
	}, slog.New(slog.DiscardHandler))
	return k, k.Load(t.Context())
}

func (s server) mustStart(t testing.TB, b *storagetest.Backend) *keys.Service {
	t.Helper()
	k, err := s.start(t, b)
	check(t, err)
	return k
}

func token(t testing.TB, k *keys.Service) string {
	t.Helper()
	signed, err := k.Sign(jwt.RegisteredClaims{Subject: "ann"})
	check(t, err)
	return signed
}

func valid(t testing.TB, k *keys.Service, signed string) bool {
	t.Helper()
	_, ok, err := k.Verify(t.Context(), signed, &jwt.RegisteredClaims{})
	check(t, err)
	return ok
}

// published returns the key ids in the JWK Set.
func published(t testing.TB, k *keys.Service) []string {
	t.Helper()
	var set jose.JSONWebKeySet
	check(t, json.Unmarshal(k.JWKS(), &set))
	var ids []string
	for _, key := range set.Keys {
		ids = append(ids, key.KeyID)
	}
	slices.Sort(ids)
	return ids
}

// states returns the ids of the keys in each state.
func states(t testing.TB, k *keys.Service) map[keys.State][]string {
	t.Helper()
	all, err := k.List(t.Context())
	check(t, err)
	ids := map[keys.State][]string{}
	for _, key := range all {
		ids[key.State()] = append(ids[key.State()], key.ID)
	}
	return ids
}

// Of many servers that start on an empty database one makes the keys, and all have them.
func TestTenServersStartAtOnce(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		s := server{keys.NewSecret(), keys.ES256, ""}
		stores := make([]*keys.Service, 10)
		secret, err := keys.ParseSecret(s.secret)
		check(t, err)
		for i := range stores {
			stores[i] = keys.New(b.Open(t), keys.Config{Secret: secret, Algorithm: keys.ES256, TokenTTL: tokenTTL, RotateEvery: time.Hour}, slog.New(slog.DiscardHandler))
		}
		var wg sync.WaitGroup
		start := make(chan struct{})
		for _, k := range stores {
			wg.Go(func() {
				<-start
				if err := k.Load(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		if rows, events := b.Int(t, "SELECT count(*) FROM signing_keys"), b.Int(t, "SELECT count(*) FROM audit_events WHERE type = 'key.created'"); rows != 2 || events != 1 {
			t.Errorf("%d keys and %d events, want 2 and 1", rows, events)
		}
		signed := token(t, stores[0])
		for _, k := range stores {
			if !valid(t, k, signed) {
				t.Error("a replica refuses another's token")
			}
			if diff := cmp.Diff(published(t, stores[0]), published(t, k)); diff != "" {
				t.Errorf("replicas publish different keys:\n%s", diff)
			}
		}
	})
}

func TestRotate(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		s := server{keys.NewSecret(), keys.EdDSA, ""}
		one, two := s.mustStart(t, b), s.mustStart(t, b)
		before := states(t, one)
		oldToken := token(t, one)
		rotated, err := one.Rotate(t.Context(), audit.Origin{Actor: "ann"})
		check(t, err)
		after := states(t, one)
		if rotated.ID != before[keys.Next][0] {
			t.Error("the key that became current was not the one published as next")
		}
		if diff := cmp.Diff(map[keys.State][]string{keys.Current: before[keys.Next], keys.Retired: before[keys.Current], keys.Next: after[keys.Next]}, after); diff != "" || len(after[keys.Next]) != 1 {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if after[keys.Next][0] == before[keys.Next][0] {
			t.Error("the next key is not a new one")
		}
		want := slices.Sorted(slices.Values(slices.Concat(after[keys.Next], after[keys.Current], after[keys.Retired])))
		if diff := cmp.Diff(want, published(t, one)); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
		// The other replica has not looked yet: it knows the new key all the same, as it was published before it signed.
		newToken := token(t, one)
		for _, k := range []*keys.Service{one, two} {
			if !valid(t, k, oldToken) || !valid(t, k, newToken) {
				t.Error("a token of before or after the rotation is refused")
			}
		}
		if n := b.Int(t, "SELECT count(*) FROM audit_events WHERE type = 'key.rotated' AND actor = 'ann'"); n != 1 {
			t.Errorf("%d events", n)
		}
	})
}

// Ten rotations at once are one rotation each for those who won, and the keys stay three kinds.
func TestRotateAtOnce(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		s := server{keys.NewSecret(), keys.EdDSA, ""}
		k := s.mustStart(t, b)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := k.Rotate(t.Context(), audit.Origin{}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		got := states(t, k)
		events := b.Int(t, "SELECT count(*) FROM audit_events WHERE type = 'key.rotated'")
		if len(got[keys.Current]) != 1 || len(got[keys.Next]) != 1 || int64(len(got[keys.Retired])) != events || events < 1 {
			t.Errorf("%v after %d rotations", got, events)
		}
		if !valid(t, s.mustStart(t, b), token(t, k)) {
			t.Error("a new replica refuses the token")
		}
	})
}

// What a revoked key has signed is dead, on the other replicas once they look; something takes its place, whatever state it was in.
func TestRevoke(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		s := server{keys.NewSecret(), keys.EdDSA, ""}
		one, two := s.mustStart(t, b), s.mustStart(t, b)
		_, err := one.Rotate(t.Context(), audit.Origin{})
		check(t, err)
		for _, state := range []keys.State{keys.Retired, keys.Next, keys.Current} {
			before, signed := states(t, one), token(t, one)
			kid := before[state][0]
			check(t, one.Revoke(t.Context(), kid, audit.Origin{Actor: "ann"}))
			after := states(t, one)
			if len(after[keys.Current]) != 1 || len(after[keys.Next]) != 1 || slices.Contains(slices.Concat(after[keys.Current], after[keys.Next], after[keys.Retired]), kid) {
				t.Errorf("after the %s key was revoked: %v; before: %v", state, after, before)
			}
			check(t, two.Load(t.Context()))
			for _, k := range []*keys.Service{one, two} {
				if valid(t, k, signed) != (state != keys.Current) || k.Holds(kid) || slices.Contains(published(t, k), kid) || !valid(t, k, token(t, one)) {
					t.Errorf("the %s key is revoked in name alone, or another one with it", state)
				}
			}
			if err := one.Revoke(t.Context(), kid, audit.Origin{}); !errors.Is(err, keys.ErrNoKey) {
				t.Errorf("once more: %v", err)
			}
		}
		if n := b.Int(t, "SELECT count(*) FROM audit_events WHERE type = 'key.revoked' AND actor = 'ann'"); n != 3 {
			t.Errorf("%d events", n)
		}
	})
}

// The secret of HS256 is configured: it is revoked by configuring another one.
func TestRevokeSigningSecret(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		secret := keys.NewSecret()
		old := server{secret, keys.HS256, strings.Repeat("x", 32)}.mustStart(t, b)
		kid, signed := states(t, old)[keys.Current][0], token(t, old)
		if err := old.Revoke(t.Context(), kid, audit.Origin{}); !errors.Is(err, keys.ErrNotRotatable) {
			t.Errorf("in use: %v", err)
		}
		k := server{secret, keys.HS256, strings.Repeat("y", 32)}.mustStart(t, b)
		check(t, k.Revoke(t.Context(), kid, audit.Origin{}))
		if valid(t, k, signed) || !valid(t, k, token(t, k)) {
			t.Error("the old secret is good, or the new one is not")
		}
	})
}

// A retired key is there until the last token that it signed has expired, and not for longer.
func TestRetiredKeyVanishes(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		s := server{keys.NewSecret(), keys.EdDSA, ""}
		k := s.mustStart(t, b)
		signed := token(t, k)
		_, err := k.Rotate(t.Context(), audit.Origin{})
		check(t, err)
		b.Age(t, tokenTTL)
		if k = s.mustStart(t, b); !valid(t, k, signed) || len(published(t, k)) != 3 {
			t.Error("the retired key is gone before its last token has expired")
		}
		b.Age(t, 2*time.Minute)
		if k = s.mustStart(t, b); valid(t, k, signed) || len(published(t, k)) != 2 || len(states(t, k)[keys.Retired]) != 0 {
			t.Error("the retired key is still there")
		}
	})
}

// A retired key is there until the last of its tokens has expired, though tokens live for a shorter time by now, or live longer on one
// client than on others.
func TestRetiredKeyOutlivesItsTokens(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		secret, err := keys.ParseSecret(keys.NewSecret())
		check(t, err)
		start := func(ttl, ofAClient time.Duration) *keys.Service {
			k := keys.New(b.Open(t), keys.Config{
				Secret: secret, Algorithm: keys.EdDSA, TokenTTL: ttl, RotateEvery: 24 * time.Hour,
				Wanted: func(context.Context) ([]keys.Algorithm, time.Duration, error) { return nil, ofAClient, nil },
			}, slog.New(slog.DiscardHandler))
			check(t, k.Load(t.Context()))
			return k
		}
		k := start(time.Hour, 2*time.Hour)
		signed := token(t, k)
		_, err = k.Rotate(t.Context(), audit.Origin{})
		check(t, err)
		k = start(time.Minute, 0)
		for _, step := range []struct {
			pass time.Duration
			want bool
		}{{2 * time.Hour, true}, {2 * time.Minute, false}} {
			b.Age(t, step.pass)
			if k = start(time.Minute, 0); valid(t, k, signed) != step.want || (len(states(t, k)[keys.Retired]) == 1) != step.want {
				t.Errorf("after %s: %v", step.pass, states(t, k))
			}
		}
		if longest, err := k.LongestTokenTTL(t.Context()); err != nil || longest != 2*time.Hour {
			t.Errorf("%s, %v", longest, err)
		}
	})
}

// A new algorithm takes effect at the start, and old tokens stay good until they expire.
func TestAlgorithmChange(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		secret := keys.NewSecret()
		var signed []string
		for _, a := range []keys.Algorithm{keys.ES256, keys.RS256, keys.HS256, keys.PS256, keys.EdDSA, keys.ES256} {
			k := server{secret, a, strings.Repeat("x", 32)}.mustStart(t, b)
			signed = append(signed, token(t, k))
			for i, old := range signed {
				if !valid(t, k, old) {
					t.Errorf("after the change to %s token %d is refused", a, i)
				}
			}
			if list, err := k.List(t.Context()); err != nil || !slices.ContainsFunc(list, func(key keys.Key) bool { return key.State() == keys.Current && key.Algorithm == a }) {
				t.Errorf("the current key is not of %s", a)
			}
		}
	})
}

func TestSigningSecretChange(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		secret := keys.NewSecret()
		one := server{secret, keys.HS256, strings.Repeat("a", 32)}
		before := one.mustStart(t, b)
		old := token(t, before)
		if _, err := before.Rotate(t.Context(), audit.Origin{}); err == nil || !strings.Contains(err.Error(), "SIGNET_SIGNING_SECRET") {
			t.Errorf("rotated: %v", err)
		}
		one.mustStart(t, b)
		if n := b.Int(t, "SELECT count(*) FROM signing_keys"); n != 1 {
			t.Errorf("a restart made %d keys", n)
		}
		after := server{secret, keys.HS256, strings.Repeat("b", 32)}.mustStart(t, b)
		if !valid(t, after, old) || !valid(t, before, token(t, after)) {
			t.Error("a token of before or after the change is refused")
		}
		parsed, err := jwt.Parse(token(t, after), func(*jwt.Token) (any, error) { return []byte(strings.Repeat("b", 32)), nil })
		if err != nil || !parsed.Valid {
			t.Errorf("a program that shares the secret refuses the token: %v", err)
		}
	})
}

func TestWrongSecret(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		b.Open(t)
		for _, a := range []keys.Algorithm{keys.ES256, keys.HS256} {
			right, wrong := keys.NewSecret(), keys.NewSecret()
			b.Exec(t, "DELETE FROM signing_keys")
			signed := token(t, server{right, a, strings.Repeat("x", 32)}.mustStart(t, b))
			k, err := server{wrong, a, strings.Repeat("x", 32)}.start(t, b)
			if !errors.Is(err, keys.ErrWrongSecret) || k.Loaded() || strings.Contains(err.Error(), wrong) {
				t.Errorf("%s: %v", a, err)
			}
			if !valid(t, server{right, a, strings.Repeat("x", 32)}.mustStart(t, b), signed) {
				t.Errorf("%s: the wrong secret did harm", a)
			}
		}
	})
}

// NEW,OLD opens what is sealed under OLD and seals it under NEW: then NEW alone is enough, and OLD opens nothing.
func TestSecretChange(t *testing.T) {
	t.Parallel()
	storagetest.Each(t, func(t *testing.T, b *storagetest.Backend) {
		old, fresh := keys.NewSecret(), keys.NewSecret()
		k := server{old, keys.EdDSA, ""}.mustStart(t, b)
		_, err := k.Rotate(t.Context(), audit.Origin{})
		check(t, err)
		signed := token(t, k)
		if !valid(t, server{fresh + "," + old, keys.EdDSA, ""}.mustStart(t, b), signed) {
			t.Error("the token is refused during the change")
		}
		if !valid(t, server{fresh, keys.EdDSA, ""}.mustStart(t, b), signed) {
			t.Error("the token is refused after the change")
		}
		if _, err := (server{old, keys.EdDSA, ""}).start(t, b); !errors.Is(err, keys.ErrWrongSecret) {
			t.Errorf("the old secret: %v", err)
		}
	})
}
