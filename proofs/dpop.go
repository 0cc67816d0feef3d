package proofs

import (
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"signet/audit"
	"signet/clients"
)

// ProofAlgorithms lists what DPoP proofs may be signed with: what FAPI 2.0 lets everybody use.
var ProofAlgorithms = []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.EdDSA}

const (
	// window is how far the iat of a proof may be from now, on both sides.
	window = time.Minute

	// proofTTL is how long the jti of a proof is remembered: it is accepted for twice the window, and clocks differ.
	proofTTL = 5 * time.Minute
)

// Key is a key that the sender of a request has proved to hold. The zero value is none.
type Key struct {
	JKT    string       // RFC 7638 thumbprint of it, in base64url
	Once   Once         // the use of the proof
	Sender audit.Origin // of the proof
}

// Proven tells whether there is a key.
func (k Key) Proven() bool { return k.JKT != "" }

// Errors of a DPoP proof.
var (
	ErrProof = errors.New("the DPoP proof") // what is wrong follows
	ErrNonce = errors.New("the DPoP proof does not hold a nonce of this server that is good still")
)

func badProof(format string, args ...any) error {
	return fmt.Errorf("%w %s", ErrProof, fmt.Sprintf(format, args...))
}

// Demand is what a DPoP proof is to fit.
type Demand struct {
	Method      string
	Path        string // below the issuer, escaped
	AccessToken string // that it comes with; empty at the token endpoint
	Nonce       bool   // there has to be one
}

// ReadProof checks a DPoP proof (RFC 9449 section 4.3) but for its being used once, which is for the caller to see to by Spend. It
// returns ErrProof or ErrNonce.
func (s *Service) ReadProof(text string, d Demand) (Key, error) {
	j, err := parse(text, ProofAlgorithms)
	if err != nil {
		return Key{}, badProof("%v", err)
	}
	key := j.header.JSONWebKey
	switch {
	case !strings.EqualFold(j.typ(), "dpop+jwt"):
		return Key{}, badProof("has another typ than dpop+jwt")
	case key == nil:
		return Key{}, badProof("has no jwk in its header")
	}
	if err := clients.CheckKey(key); err != nil {
		return Key{}, badProof("has a jwk that %v", err)
	}
	if !j.verify(key) {
		return Key{}, badProof("is not signed by the key that it names")
	}
	c := j.claims
	now := time.Now()
	issued, dated := c.time("iat")
	expires, ends := c.time("exp")
	begins, begun := c.time("nbf")
	switch {
	case c.jti() == "":
		return Key{}, badProof("has no jti, or one longer than %d bytes", maxJTI)
	case c.text("htm") != d.Method:
		return Key{}, badProof("is for another method (htm)")
	case !sameTarget(c.text("htu"), s.cfg.Issuer+d.Path):
		return Key{}, badProof("is for another address (htu)")
	case !dated || now.Sub(issued).Abs() > window:
		return Key{}, badProof("was not made within %s of now (iat)", window)
	case c.has("exp") && (!ends || !expires.After(now)): // not needed, but what is said counts (RFC 7519 section 4.1.4)
		return Key{}, badProof("has expired (exp)")
	case c.has("nbf") && (!begun || begins.After(now.Add(window))):
		return Key{}, badProof("is from the future (nbf)")
	}
	if d.AccessToken != "" {
		sum := sha256.Sum256([]byte(d.AccessToken))
		if subtle.ConstantTimeCompare([]byte(c.text("ath")), []byte(base64.RawURLEncoding.EncodeToString(sum[:]))) != 1 {
			return Key{}, badProof("is not for this access token (ath)")
		}
	}
	if (c.has("nonce") || d.Nonce) && !s.goodNonce(c.text("nonce"), now) {
		return Key{}, ErrNonce
	}
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return Key{}, badProof("has a jwk without a thumbprint")
	}
	jkt := base64.RawURLEncoding.EncodeToString(sum)
	return Key{JKT: jkt, Once: newOnce(proofTTL, "DPoP", jkt, c.jti())}, nil
}

// sameTarget compares the htu of a proof with the address that is called, without query and fragment, as RFC 3986 has addresses
// compared by syntax and scheme.
func sameTarget(htu, called string) bool {
	given, err := url.Parse(htu)
	if err != nil || given.Host == "" || given.User != nil {
		return false
	}
	want, err := url.Parse(called)
	return err == nil && strings.EqualFold(given.Scheme, want.Scheme) && hostPort(given) == hostPort(want) && given.EscapedPath() == want.EscapedPath()
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[strings.ToLower(u.Scheme)]
	}
	return strings.ToLower(u.Hostname()) + ":" + port
}

// ValidThumbprint tells whether a dpop_jkt can be the thumbprint of a key: the base64url of a SHA-256 digest.
func ValidThumbprint(jkt string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(jkt)
	return err == nil && len(b) == sha256.Size && len(jkt) == base64.RawURLEncoding.EncodedLen(sha256.Size)
}

// nonceTTL is how long a nonce is the current one; after that it is good for as long again.
const nonceTTL = 2 * time.Minute

// Nonce returns the current nonce (RFC 9449 section 8). All replicas have the same: it is the bucket of time, tagged under SIGNET_SECRET.
func (s *Service) Nonce() string { return nonce(s.nonces[0], bucket(time.Now())) }

func bucket(t time.Time) int64 { return t.Unix() / int64(nonceTTL/time.Second) }

func nonce(key []byte, bucket int64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(bucket)) //nolint:gosec // the same 64 bits
	return base64.RawURLEncoding.EncodeToString(tag(key, b[:])[:24])
}

// goodNonce tells whether a nonce is the current one, or the one before, or, for the sake of replicas whose clocks are ahead, the next.
func (s *Service) goodNonce(given string, now time.Time) bool {
	for _, key := range s.nonces {
		for _, b := range []int64{bucket(now), bucket(now) - 1, bucket(now) + 1} {
			if hmac.Equal([]byte(given), []byte(nonce(key, b))) {
				return true
			}
		}
	}
	return false
}
