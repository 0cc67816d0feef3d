package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"signet/proofs"
)

// provenSessions is how many of them there are at most: with 200 connections, five for each.
const provenSessions = 1000

// prover holds the key of a public client, and makes DPoP proofs with it. All have the same length, so that one takes another's place
// in a request.
type prover struct {
	key    *ecdsa.PrivateKey
	jkt    string
	header string // encoded
	url    string
}

func newProver(url string) (*prover, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	public := jose.JSONWebKey{Key: &key.PublicKey}
	thumbprint, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	header, err := json.Marshal(map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": public})
	return &prover{key, base64.RawURLEncoding.EncodeToString(thumbprint), base64.RawURLEncoding.EncodeToString(header), url}, err
}

// proof makes a new one for a POST to the URL (RFC 9449 section 4.2).
func (p *prover) proof() ([]byte, error) {
	claims := fmt.Sprintf(`{"jti":%q,"htm":"POST","htu":%q,"iat":%d}`, rand.Text(), p.url, time.Now().Unix())
	signed := []byte(p.header + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)))
	digest := sha256.Sum256(signed)
	r, s, err := ecdsa.Sign(rand.Reader, p.key, digest[:])
	if err != nil {
		return nil, err
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return base64.RawURLEncoding.AppendEncode(append(signed, '.'), signature[:]), nil
}

var proofHeader = []byte("\r\nDPoP: ")

// renew puts a new proof in the place of the one in the request.
func (p *prover) renew(request []byte) error {
	proof, err := p.proof()
	if err != nil {
		return err
	}
	at := bytes.Index(request, proofHeader) + len(proofHeader)
	if length := bytes.IndexByte(request[at:], '\r'); length != len(proof) {
		return fmt.Errorf("a proof of %d bytes has no room in the place of one of %d", len(proof), length)
	}
	copy(request[at:], proof)
	return nil
}

// beginProven makes n sessions of a public client, whose refresh tokens are bound to its key.
func (w *world) beginProven(ctx context.Context, n int) (err error) {
	if w.prover, err = newProver(w.issuer + "/token"); err != nil {
		return err
	}
	proof, err := w.prover.proof()
	if err != nil {
		return err
	}
	for i := range n {
		id := uuid.New()
		key := proofs.Key{JKT: w.prover.jkt, Once: proofs.Once{Digest: append(id[:], id[:]...), Use: id, TTL: time.Minute}}
		s, err := w.tokens.StartSession(ctx, &w.public, w.users[i%len(w.users)], scope, []string{w.issuer}, key, origin)
		if err != nil {
			return err
		}
		form := "grant_type=refresh_token&client_id=" + w.public.ID + "&refresh_token=" + s.RefreshToken
		w.proven = append(w.proven, postRequest(w.addr, "/token", "DPoP: "+string(proof), form))
	}
	return nil
}

// refreshProven is a refresh by a public client that proves by DPoP to hold the key that its refresh tokens are bound to. The load makes
// the proofs, one for each request.
func (w *world) refreshProven(f *floors) scenario {
	return scenario{name: "refresh-dpop", requests: w.proven, want: `"token_type":"DPoP"`, rotates: true, renew: w.prover.renew, floor: f.update, bare: f.bareRefresh}
}
