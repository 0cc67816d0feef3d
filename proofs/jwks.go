package proofs

import (
	"context"
	"errors"
	"time"

	"github.com/go-jose/go-jose/v4"

	"signet/clients"
)

const (
	maxFetched   = 1024             // key sets that are kept
	fetchedTTL   = 15 * time.Minute // for how long
	fetchPause   = time.Minute      // between two fetches for the sake of an unknown key, or after one that failed
	fetchTimeout = 3 * time.Second
)

// fetched is what came of the last fetch of a jwks_uri.
type fetched struct {
	keys []jose.JSONWebKey
	err  error // of the last fetch; the keys are then those of the one before
	at   time.Time
}

var errFetch = errors.New("the keys at the client's jwks_uri could not be fetched")

// fetch returns the keys at the address, from memory where they were fetched lately; where a key is unknown, they are fetched anew once a
// minute. Keys that were good stay so while the address cannot be reached.
func (s *Service) fetch(ctx context.Context, address string, unknownKey bool) ([]jose.JSONWebKey, error) {
	last, have := s.fetched.Get(address)
	age := time.Since(last.at)
	if have && (age < fetchPause || age < fetchedTTL && !unknownKey && last.err == nil) {
		return last.usable()
	}
	if s.cfg.Getter == nil {
		return nil, errFetch
	}
	done := s.fetching.DoChan(address, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
		defer cancel()
		now := fetched{at: time.Now()}
		body, err := s.cfg.Getter.Get(ctx, address)
		if err == nil {
			now.keys, err = clients.ParseJWKS(body)
		}
		if now.err = err; err != nil {
			now.keys = last.keys
		}
		s.fetched.Add(address, now)
		return now, nil
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-done:
		return r.Val.(fetched).usable()
	}
}

// usable returns the keys, if there ever were any.
func (f fetched) usable() ([]jose.JSONWebKey, error) {
	if f.err != nil && f.keys == nil {
		return nil, errFetch
	}
	return f.keys, nil
}
