package fetch_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

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
