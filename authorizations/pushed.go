package authorizations

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strings"
	"time"
)

const (
	// PushedTTL is how long a browser may begin with a pushed request (RFC 9126 section 2.2).
	PushedTTL = time.Minute

	// KeepPushed is how long after that a pushed request is kept: the user may take their time to log in.
	KeepPushed = sealTTL + time.Minute

	// pushedPrefix is what the request_uri of a pushed request begins with.
	pushedPrefix = "urn:ietf:params:oauth:request_uri:"
)

// Pushed is an authorization request that a client has pushed (RFC 9126).
type Pushed struct {
	Digest   []byte // of its request_uri
	ClientID string
	Form     string // as it was found valid
}

// IsPushed tells whether a request_uri is one of a pushed request.
func IsPushed(requestURI string) bool { return strings.HasPrefix(requestURI, pushedPrefix) }

// Push keeps a client's request and returns its request_uri.
func (s *Service) Push(ctx context.Context, clientID string, form url.Values) (requestURI string, err error) {
	var secret [32]byte
	_, _ = rand.Read(secret[:])
	requestURI = pushedPrefix + base64.RawURLEncoding.EncodeToString(secret[:])
	err = s.store.PushRequest(ctx, Pushed{Digest: labelled("pushed", []byte(requestURI)), ClientID: clientID, Form: form.Encode()})
	return requestURI, err
}

// TakeUp returns the request that the client has pushed, for the browser that comes with it first, until it has led to a code. Ok is false
// for one that is unknown, used or expired, or another client's or browser's.
func (s *Service) TakeUp(ctx context.Context, requestURI, clientID, browser string) (p Pushed, ok bool, err error) {
	sum := sha256.Sum256([]byte(browser))
	return s.store.TakeUpRequest(ctx, labelled("pushed", []byte(requestURI)), clientID, sum[:])
}
