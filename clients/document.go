package clients

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"signet/audit"
)

// Documents fetches the metadata documents of clients: JSON, by a call that leads nowhere but where anybody may be sent.
type Documents interface {
	// JSON also returns for how long the server there lets it be kept, where that says so.
	JSON(ctx context.Context, address string) (text []byte, maxAge *time.Duration, err error)
}

// How long a document is taken for what the client is.
const (
	documentTTL  = 10 * time.Minute // without another look, where its server does not say
	leastTTL     = time.Minute      // whatever that says
	mostTTL      = time.Hour        // likewise
	staleTTL     = 24 * time.Hour   // where the other look fails
	refusalTTL   = 30 * time.Second // one that could not be had, or is none
	maxDocuments = 256              // that are remembered
)

// ErrDocument says that a client whose id is the address of its metadata document cannot be known by it. What is wrong follows.
var ErrDocument = errors.New("the client's metadata document")

// document is what came of a look at a document.
type document struct {
	client Client
	err    error
	at     time.Time
	fresh  time.Duration // for how long it is good without another look
}

func (d document) isFresh() bool { return time.Since(d.at) < d.fresh }

// DocumentsSupported tells whether a client id may be the address of a metadata document.
func (s *Service) DocumentsSupported() bool { return s.cfg.Documents != nil }

// documentAt tells whether a client id is the address that a metadata document may have (OAuth Client ID Metadata Document section 3).
func (s *Service) documentAt(id string) bool {
	if s.cfg.Documents == nil || !ValidID(id) {
		return false
	}
	u, err := url.Parse(id)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || strings.Contains(id, "#") || u.Path == "" ||
		slices.ContainsFunc(strings.Split(u.EscapedPath(), "/"), func(part string) bool { return part == "." || part == ".." }) {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && s.cfg.AllowHTTP != nil && s.cfg.AllowHTTP(u.Hostname())
}

// DocumentHost is the host of the address that the client's id is, of one that is known by its metadata document; empty: of another.
func (c *Client) DocumentHost() string {
	u, err := url.Parse(c.ID)
	if !c.Registered || err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return u.Host
}

// Asking returns the client that an authorization request comes from: one that is registered, or one whose id is the address of its
// metadata document, as that is now. Nothing is written before somebody has allowed it what it asks for, which is for Keep to do. It
// returns ErrUnauthenticated, ErrDocument, or the error of count, which is called before a document is fetched.
func (s *Service) Asking(ctx context.Context, id string, count func() error) (*Client, error) {
	if !s.documentAt(id) {
		return s.Known(ctx, id)
	}
	known, err := s.read(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		known = nil
	case err != nil:
		return nil, err
	case known.Disabled:
		return nil, ErrUnauthenticated
	case !known.Registered: // by an admin, whatever its id looks like
		return known, nil
	}
	c, err := s.fetchDocument(ctx, id, count)
	if err != nil {
		return nil, err
	}
	if known != nil {
		c = renewed(c, known)
	}
	return &c, nil
}

// renewed is the client of a row as its document, or who manages its registration, has it now: with what only an admin decides as it is.
func renewed(c Client, known *Client) Client {
	c.SkipConsent, c.OptionalPKCE, c.BrowserOrigins, c.ResourceServer = known.SkipConsent, known.OptionalPKCE, known.BrowserOrigins, known.ResourceServer
	c.AccessTTL, c.RefreshTTL, c.SessionTTL, c.Profile = known.AccessTTL, known.RefreshTTL, known.SessionTTL, known.Profile
	c.Epoch, c.Version, c.CreatedAt = known.Epoch, known.Version, known.CreatedAt
	c.setDetailDefaults() // what the profile turns on
	return c
}

// fetchDocument returns what the document says, which may be some minutes old, or a day where it cannot be had again.
func (s *Service) fetchDocument(ctx context.Context, id string, count func() error) (Client, error) {
	before, known := s.documents.Get(id)
	if known && before.isFresh() {
		return before.client, before.err
	}
	stale := known && before.err == nil && time.Since(before.at) < staleTTL
	if err := count(); err != nil {
		if stale {
			return before.client, nil
		}
		return Client{}, err
	}
	fetched := s.documentReads.DoChan(id, func() (any, error) {
		if d, known := s.documents.Get(id); known && d.isFresh() { // fetched since
			return d, nil
		}
		// It serves every request that waits for it, so it must not end with the first one's.
		d := document{at: time.Now()}
		text, maxAge, err := s.cfg.Documents.JSON(context.WithoutCancel(ctx), id)
		d.fresh = freshness(maxAge)
		if err != nil {
			s.log.InfoContext(ctx, "a client's metadata document cannot be fetched", "client_id", id, "error", err)
			d.err = fmt.Errorf("%w cannot be had: it has to be JSON of 64 KiB at the most, at the client_id itself, without a redirect", ErrDocument)
		} else if d.client, err = s.parseDocument(id, text); err != nil {
			d.err = fmt.Errorf("%w says what cannot be: %w", ErrDocument, err)
		}
		if d.err != nil {
			d.fresh = refusalTTL
		}
		if d.err != nil && stale {
			return before, nil // asked for again by the next request
		}
		s.documents.Add(id, d)
		return d, nil
	})
	select {
	case <-ctx.Done():
		return Client{}, ctx.Err()
	case r := <-fetched:
		d, _ := r.Val.(document)
		return d.client, d.err
	}
}

// freshness is for how long a document is good without another look, of which its server says maxAge.
func freshness(maxAge *time.Duration) time.Duration {
	if maxAge == nil {
		return documentTTL
	}
	return min(max(*maxAge, leastTTL), mostTTL)
}

// parseDocument reads a document, by the rules for clients that register themselves. There is nobody to share a secret with.
func (s *Service) parseDocument(id string, text []byte) (Client, error) {
	c, err := ParseRegistration(text)
	if err != nil {
		return Client{}, err
	}
	switch {
	case c.ID != id:
		return Client{}, invalid("client_id", "must be the address of the document, byte for byte")
	case c.Secret != "":
		return Client{}, invalid("client_secret", "cannot be in a document that anybody can read")
	case c.AuthMethod == "":
		c.AuthMethod = None
	case c.AuthMethod != None && c.AuthMethod != PrivateKeyJWT:
		return Client{}, invalid("token_endpoint_auth_method", "must be none or private_key_jwt, for there is no secret")
	}
	if c.Grants != nil { // what it can do elsewhere is no reason to turn it away
		c.Grants = slices.DeleteFunc(c.Grants, func(g Grant) bool { return g != AuthorizationCode && g != RefreshToken })
	}
	c.Scope = slices.DeleteFunc(c.Scope, func(token string) bool { // likewise
		return !Reserved(token) && !slices.Contains(s.cfg.RegistrationScopes, token)
	})
	if u, err := url.Parse(id); err == nil && c.Name == "" {
		c.Name = u.Host
	}
	if err := s.confine(&c); err != nil {
		return Client{}, err
	}
	return c, s.complete(&c)
}

// Keep writes down a client that is known by its document, before it is given anything. It returns the client as it is kept.
func (s *Service) Keep(ctx context.Context, c *Client, o audit.Origin) (*Client, error) {
	if !c.Registered || !s.documentAt(c.ID) {
		return c, nil
	}
	for range 3 { // until nobody else does it at the same time
		row, err := s.store.Client(ctx, c.ID)
		switch {
		case err == nil && row.Disabled:
			return nil, ErrUnauthenticated
		case err == nil:
			wanted := renewed(*c, &row)
			if changed, err := differences(row, wanted); err != nil || len(changed) == 0 {
				return &row, err
			}
			row, err = s.Update(ctx, wanted, o)
		case errors.Is(err, ErrNotFound):
			born := *c
			s.born(&born, "")
			e := event(audit.ClientRegistered, o, c.ID)
			e.Detail = c.Name
			row, err = s.store.RegisterClient(ctx, born, digest(newToken(managementPrefix)), nil, e) // a token that nobody has
			row, err = s.changed(ctx, row, "", e, err)
		}
		if err == nil {
			return &row, nil
		}
		if !errors.Is(err, ErrExists) && !errors.Is(err, ErrChanged) {
			return nil, err
		}
	}
	return nil, ErrChanged
}
