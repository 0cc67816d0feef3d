package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	jwtmiddleware "github.com/auth0/go-jwt-middleware/v3"
	"github.com/auth0/go-jwt-middleware/v3/jwks"
	"github.com/auth0/go-jwt-middleware/v3/validator"
	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

// protect has an API's requests checked: tokens that are bound to a key, with a proof by it (RFC 9449 section 7).
func protect(api http.Handler, issuer, audience string) (http.Handler, error) {
	address, err := url.Parse(issuer)
	if err != nil {
		return nil, err
	}
	keys, err := jwks.NewCachingProvider(jwks.WithIssuerURL(address))
	if err != nil {
		return nil, err
	}
	tokens, err := validator.New(validator.WithKeyFunc(keys.KeyFunc), validator.WithAlgorithm(validator.ES256),
		validator.WithIssuer(issuer), validator.WithAudience(audience))
	if err != nil {
		return nil, err
	}
	guard, err := jwtmiddleware.New(jwtmiddleware.WithValidator(tokens), jwtmiddleware.WithDPoPMode(jwtmiddleware.DPoPRequired))
	if err != nil {
		return nil, err
	}
	return guard.CheckJWT(api), nil
}

// key is a client's key for proofs.
type key struct{ *ecdsa.PrivateKey }

func newKey(t *testing.T) key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key{private}
}

// prove makes a proof for a request, with an access token unless that is empty.
func (k key) prove(t *testing.T, method, address, token string, at time.Time) string {
	t.Helper()
	claims := jwt.MapClaims{"htm": method, "htu": address, "iat": at.Unix(), "jti": rand.Text()}
	if token != "" {
		digest := sha256.Sum256([]byte(token))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(digest[:])
	}
	proof := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	proof.Header["typ"], proof.Header["jwk"] = "dpop+jwt", jose.JSONWebKey{Key: k.Public()}
	signed, err := proof.SignedString(k.PrivateKey)
	check(t, err)
	return signed
}

// bound returns an access token of the client itself that is bound to the key.
func (s *signet) bound(t *testing.T, k key) string {
	t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "resource": {audience}}
	req, err := http.NewRequest(http.MethodPost, s.url+"/token", strings.NewReader(form.Encode()))
	check(t, err)
	req.SetBasicAuth(s.clientID, s.secret)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("DPoP", k.prove(t, http.MethodPost, s.url+"/token", "", time.Now()))
	res, err := http.DefaultClient.Do(req)
	check(t, err)
	defer res.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
		Type        string `json:"token_type"`
	}
	body, err := io.ReadAll(res.Body)
	check(t, err)
	check(t, json.Unmarshal(body, &answer))
	if res.StatusCode != http.StatusOK || answer.Type != "DPoP" {
		t.Fatalf("%s %s", res.Status, body)
	}
	return answer.AccessToken
}

func TestAPIChecksProofs(t *testing.T) {
	t.Parallel()
	s := start(t, "ES256")
	whoever := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, err := jwtmiddleware.GetClaims[*validator.ValidatedClaims](r.Context())
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(w, claims.RegisteredClaims.Subject)
	})
	handler, err := protect(whoever, s.url, audience)
	check(t, err)
	api := httptest.NewServer(handler)
	t.Cleanup(api.Close)
	orders := api.URL + "/orders"
	call := func(scheme, token, proof string) (status int, body string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, orders, nil)
		check(t, err)
		req.Header.Set("Authorization", scheme+" "+token)
		if proof != "" {
			req.Header.Set("DPoP", proof)
		}
		res, err := http.DefaultClient.Do(req)
		check(t, err)
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		check(t, err)
		return res.StatusCode, string(text)
	}

	k, now := newKey(t), time.Now()
	token, free := s.bound(t, k), s.token(t, url.Values{"grant_type": {"client_credentials"}, "resource": {audience}})
	good := k.prove(t, http.MethodGet, orders, token, now)
	if status, subject := call("DPoP", token, good); status != http.StatusOK || subject != s.clientID {
		t.Errorf("with a proof: %d %s", status, subject)
	}
	if status, _ := call("DPoP", token, good); status != http.StatusOK {
		t.Errorf("the library remembers proofs by now (%d): say so in the guide", status)
	}
	for what, refused := range map[string][3]string{
		"no proof":                        {"DPoP", token, ""},
		"as Bearer":                       {"Bearer", token, ""},
		"as Bearer, with the proof":       {"Bearer", token, good},
		"another's key":                   {"DPoP", token, newKey(t).prove(t, http.MethodGet, orders, token, now)},
		"a proof for another method":      {"DPoP", token, k.prove(t, http.MethodPost, orders, token, now)},
		"a proof for another address":     {"DPoP", token, k.prove(t, http.MethodGet, api.URL+"/admin", token, now)},
		"a proof for another token":       {"DPoP", token, k.prove(t, http.MethodGet, orders, s.bound(t, k), now)},
		"a proof for no token":            {"DPoP", token, k.prove(t, http.MethodGet, orders, "", now)},
		"an old proof":                    {"DPoP", token, k.prove(t, http.MethodGet, orders, token, now.Add(-time.Hour))},
		"a proof of tomorrow":             {"DPoP", token, k.prove(t, http.MethodGet, orders, token, now.Add(24*time.Hour))},
		"a tampered proof":                {"DPoP", token, tampered(t, good)},
		"a token that is bound to no key": {"DPoP", free, k.prove(t, http.MethodGet, orders, free, now)},
		"such a token as Bearer":          {"Bearer", free, ""},
		"a tampered token":                {"DPoP", tampered(t, token), k.prove(t, http.MethodGet, orders, tampered(t, token), now)},
	} {
		if status, body := call(refused[0], refused[1], refused[2]); status != http.StatusUnauthorized && status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", what, status, body)
		}
	}
}
