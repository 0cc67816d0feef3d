package oauth

import (
	"errors"
	"net/http"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"signet/clients"
	"signet/proofs"
	"signet/server/request"
)

// dpopHeader is the header of a DPoP proof, and nonceHeader that of the nonce which the next one is to hold (RFC 9449 sections 4.1 and 8).
const (
	dpopHeader  = "DPoP"
	nonceHeader = "DPoP-Nonce"
)

// senderKey returns the key that the sender of a request to /token or /par has proved to hold, if there is a proof. Its use is for the
// caller to put down. A client of FAPI 2.0 has to prove that it was done just now, by a nonce.
func (s *Server) senderKey(w http.ResponseWriter, r *http.Request, client *clients.Client) (proofs.Key, error) {
	if len(r.Header.Values(dpopHeader)) == 0 {
		return proofs.Key{}, nil
	}
	return readProof(s.proofs, w, r, proofs.Demand{Nonce: client.Profile == clients.FAPI2})
}

// readProof checks the one DPoP proof of a request, and tells the sender what nonce the next one is to hold.
func readProof(p *proofs.Service, w http.ResponseWriter, r *http.Request, d proofs.Demand) (proofs.Key, error) {
	w.Header().Set(nonceHeader, p.Nonce())
	values := r.Header.Values(dpopHeader)
	if len(values) != 1 {
		return proofs.Key{}, badRequest("invalid_dpop_proof", "one DPoP proof is wanted, in one header DPoP")
	}
	d.Method, d.Path = r.Method, r.URL.EscapedPath()
	key, err := p.ReadProof(values[0], d)
	key.Sender = request.From(r.Context()).Origin
	return key, err
}

// Holder returns the key that the sender of a request to one of Signet's own resources has proved to hold, for an access token that comes
// with the scheme DPoP (RFC 9449 section 7). Its use is for the caller to put down.
func Holder(p *proofs.Service, w http.ResponseWriter, r *http.Request, token string) (proofs.Key, error) {
	key, err := readProof(p, w, r, proofs.Demand{AccessToken: token})
	return key, AtResource(err)
}

// AtResource turns the error of a DPoP proof into the answer of a resource.
func AtResource(err error) error {
	if err == nil {
		return nil
	}
	e := explain(err)
	if e.Code != "invalid_dpop_proof" && e.Code != "use_dpop_nonce" {
		return err
	}
	return &Error{
		Status: http.StatusUnauthorized, Code: e.Code, Description: e.Description, Cause: e.Cause,
		Challenge: `DPoP error="` + e.Code + `", ` + proofAlgs,
	}
}

// proofAlgs is what a challenge says of the algorithms of proofs.
var proofAlgs = `algs="` + strings.Join(names(proofs.ProofAlgorithms), " ") + `"`

func names(algorithms []jose.SignatureAlgorithm) []string {
	list := make([]string, len(algorithms))
	for i, a := range algorithms {
		list[i] = string(a)
	}
	return list
}

// explainProof turns the errors of proofs into answers; nil: it is another one.
func explainProof(err error) *Error {
	var e *Error
	switch {
	case errors.Is(err, proofs.ErrNonce):
		e = badRequest("use_dpop_nonce", "the DPoP proof needs the nonce in the header DPoP-Nonce of this answer")
	case errors.Is(err, proofs.ErrReplayed):
		e = badRequest("invalid_dpop_proof", "the DPoP proof was used before: each request needs one of its own")
	case errors.Is(err, proofs.ErrProof):
		e = badRequest("invalid_dpop_proof", err.Error())
	case errors.Is(err, proofs.ErrAssertion):
		e = invalidClient(err.Error())
	default:
		return nil
	}
	e.Cause = err
	return e
}
