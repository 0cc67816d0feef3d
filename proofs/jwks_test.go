package proofs

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"signet/keys"
)

// publisher is the address of a client's keys, which says what text is, or is away where err is set.
type publisher struct {
	text  []byte
	err   error
	asked int
}

func (p *publisher) Get(context.Context, string) ([]byte, error) {
	p.asked++
	return p.text, p.err
}

func (p *publisher) publish(t *testing.T, kid string) {
	t.Helper()
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.text, err = json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: kid}}}); err != nil {
		t.Fatal(err)
	}
}

func newService(t *testing.T, secret string, getter Getter) *Service {
	t.Helper()
	parsed, err := keys.ParseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	return New(nil, Config{Issuer: "https://auth.example.com", Secret: parsed, Getter: getter})
}

// A client's keys are fetched anew for a key that is not among them, once a minute, and every quarter of an hour; while their address
// is away, or says what cannot be, those that were good are good.
func TestFetching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{}
		s := newService(t, keys.NewSecret(), p)
		look := func(what string, unknownKey bool, asked int, kid string) {
			t.Helper()
			set, err := s.fetch(t.Context(), "https://app.example.com/keys", unknownKey)
			got := ""
			if err == nil && len(set) == 1 {
				got = set[0].KeyID
			}
			if p.asked != asked || got != kid || (kid == "") != errors.Is(err, errFetch) {
				t.Errorf("%s: asked %d times, want %d; key %q, want %q, %v", what, p.asked, asked, got, kid, err)
			}
		}
		p.err = errors.New("away")
		look("at first it is away", false, 1, "")
		p.err = nil
		p.publish(t, "one")
		look("a moment later", false, 1, "")
		time.Sleep(fetchPause)
		look("a minute later", false, 2, "one")
		p.publish(t, "two")
		look("within a minute of a change", true, 2, "one")
		time.Sleep(fetchPause)
		look("a key that is known", false, 2, "one")
		look("a key that is not", true, 3, "two")
		p.publish(t, "three")
		time.Sleep(fetchedTTL - time.Nanosecond)
		look("within a quarter of an hour", false, 3, "two")
		time.Sleep(time.Nanosecond)
		look("after it", false, 4, "three")
		for i, text := range []string{"<html>", `{"keys": [{"kty": "oct", "k": "AAAA"}]}`} {
			p.text = []byte(text)
			time.Sleep(fetchedTTL)
			look(text, false, 5+i, "three")
		}
		p.err = errors.New("away")
		time.Sleep(24 * time.Hour)
		look("away", false, 7, "three")
		look("and not asked all the time", true, 7, "three")
		p.err = nil
		p.publish(t, "four")
		time.Sleep(fetchPause)
		look("there again", false, 8, "four")
	})
}

// A nonce is good for two to four minutes, on replicas whose clocks are a little apart, and while SIGNET_SECRET is being changed.
func TestNonces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which begins on a whole minute
		before, after := keys.NewSecret(), keys.NewSecret()
		s, other := newService(t, before, nil), newService(t, before+","+after, nil)
		changed, foreign := newService(t, after+","+before, nil), newService(t, after, nil)
		n, ahead := s.Nonce(), nonce(s.nonces[0], bucket(time.Now())+1)
		good := func(what string, s *Service, n string, want bool) {
			t.Helper()
			if s.goodNonce(n, time.Now()) != want {
				t.Errorf("%s: want %v", what, want)
			}
		}
		good("now", s, n, true)
		good("on another replica", other, n, true)
		good("under the secret before", changed, n, true)
		good("under another secret", foreign, n, false)
		good("of a clock that is two minutes ahead", s, ahead, true)
		good("of one that is further", s, nonce(s.nonces[0], bucket(time.Now())+2), false)
		good("none", s, "", false)
		good("the bytes of another", s, n[:len(n)-1]+"A", n[len(n)-1] == 'A')
		time.Sleep(2*nonceTTL - time.Nanosecond)
		good("almost four minutes later", s, n, true)
		time.Sleep(time.Nanosecond)
		good("four minutes later", s, n, false)
	})
}
