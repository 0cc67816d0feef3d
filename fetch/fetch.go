// Package fetch is the one HTTP client for addresses that clients name: it goes where the operator would let anybody send it, and
// nowhere else.
//
// An address is judged in the dialer, after its name was resolved, and each one again: a name that resolves to another address the
// second time gets nowhere.
package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	timeout   = 5 * time.Second // of a call as a whole
	maxHeader = 64 << 10        // bytes
	maxBody   = 64 << 10        // bytes
)

// Policy is which addresses may be called besides those of the internet, and without TLS (SIGNET_FETCH_ALLOW).
type Policy []netip.Prefix

// special are the ranges that are not the internet's, but for those that netip knows (RFC 6890 and its registries).
var special = prefixes("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "240.0.0.0/4", "::/96", "100::/64", "2001::/23", "2001:db8::/32", "64:ff9b:1::/48", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10")

// translated are the ranges whose addresses stand for one of IPv4, in their last four bytes (RFC 6052). In those of a site's own
// (RFC 8215) it may stand elsewhere: none of them is permitted.
var translated = prefixes("64:ff9b::/96")

func prefixes(list ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, len(list))
	for i, s := range list {
		parsed[i] = netip.MustParsePrefix(s)
	}
	return parsed
}

func contains(list []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Named tells whether the policy names the address.
func (p Policy) Named(addr netip.Addr) bool { return contains(p, addr.WithZone("").Unmap()) }

// Permits tells whether the address may be called: it is one of the internet, or the policy names it.
func (p Policy) Permits(addr netip.Addr) bool {
	if p.Named(addr) {
		return true
	}
	addr = addr.WithZone("").Unmap()
	if contains(translated, addr) {
		b := addr.As16()
		return p.Permits(netip.AddrFrom4([4]byte(b[12:])))
	}
	return addr.IsGlobalUnicast() && !addr.IsPrivate() && !contains(special, addr)
}

// AllowsHTTP tells whether a client may name an address at that host without TLS: one that the policy names, or localhost where it
// names loopback. A name is judged once more when it is called.
func (p Policy) AllowsHTTP(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return p.Named(addr)
	}
	return host == "localhost" && (p.Named(netip.MustParseAddr("127.0.0.1")) || p.Named(netip.IPv6Loopback()))
}

// Errors of a call, besides those of the network.
var (
	ErrForbidden = errors.New("the address is not one of the internet, and SIGNET_FETCH_ALLOW does not name it")
	ErrRedirect  = errors.New("it answered with a redirect, which is not followed")
)

// Client calls addresses that clients name.
type Client struct {
	tls, plain *http.Client
	agent      string
}

// New returns a client that keeps to the policy and calls itself Signet of that version.
func New(p Policy, version string) *Client {
	return &Client{
		tls: newClient(p.Permits), plain: newClient(p.Named),
		agent: strings.TrimSuffix("Signet/"+version, "/"),
	}
}

func newClient(permits func(netip.Addr) bool) *http.Client {
	dialer := &net.Dialer{Timeout: timeout, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil || !permits(to.Addr()) {
			return ErrForbidden
		}
		return nil
	}}
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{ // without a proxy: that would do the dialling
			DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
			DisableCompression: true, MaxResponseHeaderBytes: maxHeader, MaxIdleConns: 16, MaxConnsPerHost: 4, IdleConnTimeout: 30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Get returns what is at the address: the body of an answer with the status 200, of 64 KiB at the most.
func (c *Client) Get(ctx context.Context, address string) (body []byte, err error) {
	body, _, err = c.get(ctx, address)
	return body, err
}

// JSON is Get for an answer that says that it is JSON. It also returns for how long that may be kept, where the answer says so.
func (c *Client) JSON(ctx context.Context, address string) (body []byte, maxAge *time.Duration, err error) {
	body, header, err := c.get(ctx, address)
	if err != nil {
		return nil, nil, err
	}
	contentType := header.Get("Content-Type")
	if kind, _, err := mime.ParseMediaType(contentType); err != nil || kind != "application/json" && !(strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")) {
		return nil, nil, fmt.Errorf("it answered with the Content-Type %.100q, which is not JSON", contentType)
	}
	return body, freshFor(header), nil
}

// freshFor reads Cache-Control (RFC 9111 section 5.2.2): the max-age, none where it says that nothing may be kept, nil where it does not say.
func freshFor(header http.Header) (maxAge *time.Duration) {
	for directive := range strings.SplitSeq(strings.Join(header.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return new(time.Duration)
		case "max-age":
			if seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil || errors.Is(err, strconv.ErrRange) {
				age := time.Duration(min(seconds, math.MaxInt32)) * time.Second
				maxAge = &age
			}
		}
	}
	return maxAge
}

func (c *Client) get(ctx context.Context, address string) (body []byte, header http.Header, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Accept", "application/json, application/jwk-set+json")
	res, err := c.do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("it answered with the status %d", res.StatusCode)
	}
	body, err = io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err == nil && len(body) > maxBody {
		err = fmt.Errorf("it answered with more than %d bytes", maxBody)
	}
	return body, res.Header, err
}

// PostForm posts a form and returns the status of the answer. Its body is read up to a bound and dropped.
func (c *Client) PostForm(ctx context.Context, address string, form url.Values) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := c.do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, maxBody) // a short one lets the connection be used again
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		return res.StatusCode, ErrRedirect
	}
	return res.StatusCode, nil
}

// do calls the address, if it is one that may be called. Redirects are not followed.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", c.agent)
	client := c.tls
	switch {
	case req.URL.User != nil:
		return nil, errors.New("the address names a user")
	case req.URL.Scheme == "http":
		client = c.plain
	case req.URL.Scheme != "https":
		return nil, fmt.Errorf("%q is not called", req.URL.Scheme)
	}
	return client.Do(req)
}

// Close ends idle connections.
func (c *Client) Close() {
	c.tls.CloseIdleConnections()
	c.plain.CloseIdleConnections()
}
