package tokens

import (
	"math"
	"strings"
	"testing"

	"github.com/google/uuid"

	"signet/keys"
)

func testCodec(t testing.TB, secret string) refreshCodec {
	t.Helper()
	s, err := keys.ParseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	return newRefreshCodec(s)
}

const (
	fuzzSecret  = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	otherSecret = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
)

// FuzzRefreshToken tries texts on the parser, and the parser on what the formatter makes of any token.
func FuzzRefreshToken(f *testing.F) {
	c, stranger := testCodec(f, fuzzSecret), testCodec(f, otherSecret)
	t0 := refreshToken{session: uuid.MustParse("6ba7b810-9dad-11d1-80b4-00c04fd430c8"), sequence: 7}
	genuine := c.format(t0)
	for _, seed := range []string{
		"", "sgr_", genuine, stranger.format(t0), genuine[:len(genuine)-1], genuine + "A", genuine + "=", genuine[:40] + "\n" + genuine[40:],
		strings.Replace(genuine, "sgr_", "sgs_", 1), strings.Repeat("A", 100), "sgr_" + strings.Repeat("A", 96), "sgr_" + strings.Repeat("_", 96),
		"sgr_" + strings.Repeat(".", 96), "sgr_" + strings.Repeat("\xff", 96), c.format(refreshToken{sequence: math.MaxInt64 - 1}),
	} {
		f.Add(seed, int64(3), []byte("0123456789abcdef"), uint16(7))
	}
	f.Fuzz(func(t *testing.T, text string, sequence int64, secret []byte, flip uint16) {
		if parsed, ok := c.parse(text); ok {
			if again := c.format(parsed); again != text {
				t.Fatalf("accepted %q, which is written %q", text, again)
			}
		}
		if sequence < 0 || sequence == math.MaxInt64 {
			return // no session is used that often
		}
		want := refreshToken{sequence: sequence}
		copy(want.secret[:], secret)
		copy(want.session[:], text)
		written := c.format(want)
		got, ok := c.parse(written)
		if !ok || got != want {
			t.Fatalf("%+v is read as %+v, %v", want, got, ok)
		}
		if next := got.successor(); next.session != want.session || next.secret != want.secret || next.sequence != sequence+1 {
			t.Fatalf("the successor of %+v is %+v", want, next)
		}
		if _, ok := stranger.parse(written); ok {
			t.Fatal("a token was accepted under another secret")
		}
		changed := []byte(written)
		changed[int(flip)/8%len(changed)] ^= 1 << (flip % 8)
		if _, ok := c.parse(string(changed)); ok {
			t.Fatalf("%q was accepted for %q", changed, written)
		}
		if _, ok := c.parse(written[:int(flip)%len(written)]); ok {
			t.Fatal("a truncated token was accepted")
		}
	})
}

// The last token that could be numbered has no successor that would be read.
func TestSequenceDoesNotOverflow(t *testing.T) {
	t.Parallel()
	c := testCodec(t, fuzzSecret)
	last := refreshToken{sequence: math.MaxInt64 - 1}
	if _, ok := c.parse(c.format(last)); !ok {
		t.Error("the last token is not read")
	}
	if _, ok := c.parse(c.format(last.successor())); ok {
		t.Error("a token is read whose successor would be negative")
	}
	body := make([]byte, bodySize)
	for i := range 8 {
		body[16+i] = 0xff
	}
	if _, ok := c.parse(c.Write(refreshPrefix, body)); ok {
		t.Error("a token with a negative number is read")
	}
}

// While SIGNET_SECRET is being changed, tokens under either value are read, and written under the new one.
func TestSecretsOfTokens(t *testing.T) {
	t.Parallel()
	before, during, after := testCodec(t, fuzzSecret), testCodec(t, otherSecret+","+fuzzSecret), testCodec(t, otherSecret)
	token := newRefreshToken()
	for name, c := range map[string]struct {
		write, read refreshCodec
		want        bool
	}{
		"old by both": {before, during, true}, "both by new": {during, after, true}, "new by both": {after, during, true},
		"both by old": {during, before, false}, "old by new": {before, after, false}, "new by old": {after, before, false},
	} {
		if got, ok := c.read.parse(c.write.format(token)); ok != c.want || ok && got != token {
			t.Errorf("%s: %v, %v", name, got, ok)
		}
	}
}

func TestFirstTokensDiffer(t *testing.T) {
	t.Parallel()
	sessions, secrets := map[uuid.UUID]bool{}, map[[secretSize]byte]bool{}
	for range 1000 {
		token := newRefreshToken()
		if token.sequence != 0 {
			t.Fatalf("a session begins at %d", token.sequence)
		}
		sessions[token.session], secrets[token.secret] = true, true
	}
	if len(sessions) != 1000 || len(secrets) != 1000 {
		t.Errorf("of 1000 first tokens %d sessions and %d secrets differ", len(sessions), len(secrets))
	}
}
