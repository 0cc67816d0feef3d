package fetch_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"signet/fetch"
)

func TestPermits(t *testing.T) {
	t.Parallel()
	var none fetch.Policy
	loopback := fetch.Policy{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16")}
	for _, c := range []struct {
		addr              string
		internet, allowed bool
	}{
		{"93.184.216.34", true, true}, {"2606:2800:220:1::1", true, true}, {"::ffff:93.184.216.34", true, true}, {"64:ff9b::5db8:d822", true, true},
		{"127.0.0.1", false, true}, {"127.8.8.8", false, true}, {"::ffff:127.0.0.1", false, true}, {"64:ff9b::7f00:1", false, true}, {"10.1.2.3", false, true},
		{"10.2.0.1", false, false}, {"::1", false, false}, {"0.0.0.0", false, false}, {"0.1.2.3", false, false}, {"::", false, false}, {"::127.0.0.1", false, false},
		{"172.16.0.1", false, false}, {"192.168.1.1", false, false}, {"169.254.169.254", false, false}, {"::ffff:169.254.169.254", false, false},
		{"100.64.0.1", false, false}, {"192.0.2.1", false, false}, {"198.18.0.1", false, false}, {"203.0.113.9", false, false}, {"224.0.0.1", false, false},
		{"240.0.0.1", false, false}, {"255.255.255.255", false, false}, {"fe80::1", false, false}, {"fe80::1%eth0", false, false}, {"fc00::1", false, false},
		{"fd12::1", false, false}, {"ff02::1", false, false}, {"2001:db8::1", false, false}, {"2002:7f00:1::", false, false}, {"2001::1", false, false},
		{"64:ff9b::a9fe:a9fe", false, false}, {"64:ff9b:1::10.0.0.1", false, false}, {"fec0::1", false, false},
	} {
		addr := netip.MustParseAddr(c.addr)
		if got := none.Permits(addr); got != c.internet {
			t.Errorf("%s: %v, want %v", addr, got, c.internet)
		}
		if got := loopback.Permits(addr); got != c.allowed {
			t.Errorf("%s where loopback is allowed: %v, want %v", addr, got, c.allowed)
		}
	}
	for host, want := range map[string]bool{"127.0.0.1": true, "localhost": true, "10.1.0.1": true, "10.2.0.1": false, "example.com": false, "[::1]": false} {
		if got := loopback.AllowsHTTP(host); got != want {
			t.Errorf("http://%s: %v, want %v", host, got, want)
		}
	}
	if none.AllowsHTTP("localhost") || none.AllowsHTTP("93.184.216.34") {
		t.Error("http is allowed by itself")
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, value := range r.URL.Query()["cache"] {
			w.Header().Add("Cache-Control", value)
		}
		w.Header().Set("Content-Type", r.URL.Query().Get("type"))
		_, _ = w.Write([]byte("{}"))
	}))
	defer srv.Close()
	c := fetch.New(fetch.Policy{netip.MustParsePrefix("127.0.0.1/32")}, "")
	none := time.Duration(-1)
	for query, want := range map[string]time.Duration{
		"": none, "cache=public": none, "cache=max-age=600": 10 * time.Minute, "cache=Public,+Max-Age=60": time.Minute, "cache=public&cache=max-age%3D\"60\"": time.Minute,
		"cache=max-age=600,no-store": 0, "cache=no-cache": 0, "cache=max-age=0": 0, "cache=max-age=-1": none, "cache=max-age=x": none, "cache=s-maxage=60": none,
		"cache=max-age=99999999999999999999": (1<<31 - 1) * time.Second,
	} {
		body, maxAge, err := c.JSON(t.Context(), srv.URL+"?type=application/json&"+query)
		got := none
		if maxAge != nil {
			got = *maxAge
		}
		if err != nil || string(body) != "{}" || got != want {
			t.Errorf("%s: %v, %s, want %s", query, err, got, want)
		}
	}
	if _, _, err := c.JSON(t.Context(), srv.URL+"?type=text/html"); err == nil {
		t.Error("HTML will do")
	}
}

// A name is judged by what it resolves to at each call, and by each of its addresses. This test answers for the machine's name server, so
// it is not parallel.
func TestRebinding(t *testing.T) {
	names, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer names.Close()
	var now atomic.Pointer[[][4]byte]
	go func() {
		packet := make([]byte, 512)
		for {
			n, from, err := names.ReadFrom(packet)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(packet[:n]) != nil {
				continue
			}
			m.Response, m.Additionals = true, nil
			for _, a := range *now.Load() {
				if m.Questions[0].Type == dnsmessage.TypeA {
					m.Answers = append(m.Answers, dnsmessage.Resource{
						Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: a},
					})
				}
			}
			if answer, err := m.Pack(); err == nil {
				_, _ = names.WriteTo(answer, from)
			}
		}
	}()
	before := net.DefaultResolver
	defer func() { net.DefaultResolver = before }()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", names.LocalAddr().String())
	}}

	// The inner address is 127.0.0.1, the outer one 127.0.0.2; there is a server at that port of both.
	var inner, outer atomic.Int32
	count := func(n *atomic.Int32) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { n.Add(1); _, _ = w.Write([]byte("{}")) })
	}
	in := httptest.NewServer(count(&inner))
	defer in.Close()
	_, port, _ := net.SplitHostPort(in.Listener.Addr().String())
	l, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Fatal(err)
	}
	out := &httptest.Server{Listener: l, Config: &http.Server{Handler: count(&outer), ReadHeaderTimeout: time.Second}}
	out.Start()
	defer out.Close()

	c := fetch.New(fetch.Policy{netip.MustParsePrefix("127.0.0.2/32")}, "")
	for _, call := range []struct {
		name      string
		addresses [][4]byte
		good      bool
	}{
		{"the first time", [][4]byte{{127, 0, 0, 2}}, true},
		{"the second time, a private address", [][4]byte{{127, 0, 0, 1}}, false},
		{"a private one and another", [][4]byte{{127, 0, 0, 1}, {127, 0, 0, 2}}, true},
	} {
		now.Store(&call.addresses)
		c.Close() // the connection of the call before
		_, err := c.Get(t.Context(), "http://rebind.example.:"+port)
		if (err == nil) != call.good || !call.good && !errors.Is(err, fetch.ErrForbidden) {
			t.Errorf("%s: %v", call.name, err)
		}
	}
	if inner.Load() != 0 || outer.Load() != 2 {
		t.Errorf("%d calls of the inner address, %d of the outer one", inner.Load(), outer.Load())
	}
}

func TestPostForm(t *testing.T) {
	t.Parallel()
	got := make(chan url.Values, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/large":
			for range 10_000 {
				if _, err := w.Write(make([]byte, 10<<10)); err != nil {
					return
				}
			}
		default:
			_ = r.ParseForm()
			got <- r.PostForm
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	defer srv.Close()
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	c, stranger := fetch.New(fetch.Policy{netip.MustParsePrefix("127.0.0.0/8")}, "1"), fetch.New(nil, "")
	defer c.Close()
	defer stranger.Close()
	form := url.Values{"logout_token": {"x"}}
	if status, err := c.PostForm(t.Context(), srv.URL, form); err != nil || status != http.StatusNoContent || (<-got).Get("logout_token") != "x" {
		t.Errorf("%d, %v", status, err)
	}
	if status, err := c.PostForm(t.Context(), "http://localhost:"+u.Port(), form); err != nil || status != http.StatusNoContent {
		t.Errorf("by name: %d, %v", status, err)
	}
	if _, err := c.PostForm(t.Context(), srv.URL+"/redirect", form); !errors.Is(err, fetch.ErrRedirect) {
		t.Errorf("a redirect: %v", err)
	}
	if status, err := c.PostForm(t.Context(), srv.URL+"/large", form); err != nil || status != http.StatusOK {
		t.Errorf("a large answer: %d, %v", status, err)
	}
	for _, address := range []string{
		srv.URL, "http://localhost:" + u.Port(), "https://127.0.0.1:" + u.Port(), "https://[::ffff:127.0.0.1]:" + u.Port(), "https://localhost:" + u.Port(),
	} {
		if _, err := stranger.PostForm(t.Context(), address, form); !errors.Is(err, fetch.ErrForbidden) {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{"ftp://example.com/", "javascript:alert(1)", "http://user:pass@127.0.0.1/", "https://2130706433/", "https://0x7f.1/", "https://017700000001/", ":"} {
		if _, err := stranger.PostForm(t.Context(), address, form); err == nil {
			t.Errorf("%s was called", address)
		}
	}
	if len(got) > 1 {
		t.Errorf("%d calls came through", len(got))
	}
}

// A server that hangs costs no more than the time-out.
func TestHanging(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := fetch.New(fetch.Policy{netip.MustParsePrefix("127.0.0.1/32")}, "")
	began := time.Now()
	_, err = c.PostForm(t.Context(), "http://"+l.Addr().String(), nil)
	if took := time.Since(began); err == nil || took > 8*time.Second || !strings.Contains(err.Error(), "Timeout") && !strings.Contains(err.Error(), "deadline") {
		t.Errorf("%v after %s", err, took)
	}
}
