// Package request keeps what is known of a request while it is answered: where it came from, and what its line in the log
// is going to say.
package request

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/trace"

	"signet/audit"
)

// Info is what is known of one request. Handlers fill in what they learn.
type Info struct {
	Origin    audit.Origin
	ClientID  string
	UserID    string
	SessionID string
	GrantType string
	Outcome   string
	Err       error // why the request failed; for the log alone
	Shown     bool  // the answer is a page that shows the request's id: who reads it out is to be helped by the log
}

type key struct{}

// From returns the Info of the request that ctx belongs to.
func From(ctx context.Context) *Info {
	if info, ok := ctx.Value(key{}).(*Info); ok {
		return info
	}
	return &Info{} // nobody asks
}

// internalError is the answer to a request that a bug ended. It names nothing; the log does, under the request's id.
const internalError = `{"error":"server_error","error_description":"something went wrong in the server; its log tells more, by the X-Request-Id"}`

// timeout bounds a request as a whole: whatever it waits for, it is answered before its connection is closed.
const timeout = 20 * time.Second

// saneID is what a caller's X-Request-Id may be, to be taken over into logs.
var saneID = regexp.MustCompile(`^[A-Za-z0-9._:/+=@-]{1,128}$`)

// Handle returns the outermost handler of every endpoint. It gives the request its Info and its id, sets the headers that
// every answer has, turns a panic into an answer, logs the request, and tells observe how it went, and what it failed for.
func Handle(log *slog.Logger, observe func(route, method string, status int, took time.Duration, err error)) gin.HandlerFunc {
	return func(c *gin.Context) {
		began := time.Now()
		id := c.GetHeader("X-Request-Id")
		if !saneID.MatchString(id) {
			id = rand.Text()
		}
		withoutPorts(c.Request.Header["X-Forwarded-For"])
		info := &Info{Origin: audit.Origin{Address: c.ClientIP(), UserAgent: c.Request.UserAgent(), RequestID: id}}
		ctx, cancel := context.WithTimeout(context.WithValue(c.Request.Context(), key{}, info), timeout)
		defer cancel()
		c.Request = c.Request.WithContext(ctx)
		h := c.Writer.Header()
		h.Set("X-Request-Id", id)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Pragma", "no-cache")
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler { //nolint:errorlint // compared as net/http does
					panic(p)
				}
				log.ErrorContext(c, "panic", "panic", p, "request_id", id, "stack", string(debug.Stack()))
				if !c.Writer.Written() {
					c.Data(http.StatusInternalServerError, "application/json", []byte(internalError))
					c.Abort()
				}
			}
			took := time.Since(began)
			observe(c.FullPath(), c.Request.Method, c.Writer.Status(), took, info.Err)
			info.log(c, log, took)
		}()
		c.Next()
	}
}

// withoutPorts drops the ports that some proxies write behind the addresses: with them the router takes an entry for no address.
func withoutPorts(forwarded []string) {
	for i, header := range forwarded {
		entries := strings.Split(header, ",")
		for j, entry := range entries {
			if a, err := netip.ParseAddrPort(strings.TrimSpace(entry)); err == nil {
				entries[j] = a.Addr().String()
			}
		}
		forwarded[i] = strings.Join(entries, ",")
	}
}

// log writes the request's line: failures of the server loudly, what changes something always, questions only for debugging.
func (i *Info) log(c *gin.Context, log *slog.Logger, took time.Duration) {
	level := slog.LevelDebug
	switch {
	case c.FullPath() == "/readyz": // asked every few seconds; who waits for what is said once, at the start
	case c.Writer.Status() >= http.StatusInternalServerError:
		level = slog.LevelError
	case i.Shown:
		level = slog.LevelInfo
	case c.Request.Method == http.MethodGet, c.Request.Method == http.MethodHead, c.FullPath() == "/introspect", c.FullPath() == "":
	default:
		level = slog.LevelInfo
	}
	ctx := c.Request.Context()
	if !log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 16)
	attrs = append(attrs, slog.String("method", c.Request.Method), slog.String("path", c.FullPath()),
		slog.Int("status", c.Writer.Status()), slog.Float64("duration_ms", float64(took.Microseconds())/1000))
	for _, a := range [...]struct{ key, value string }{
		{"request_id", i.Origin.RequestID}, {"remote_ip", i.Origin.Address}, {"client_id", i.ClientID}, {"user_id", i.UserID},
		{"session_id", i.SessionID}, {"grant_type", i.GrantType}, {"outcome", i.Outcome},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.key, a.value))
		}
	}
	if i.Err != nil {
		attrs = append(attrs, slog.String("error", i.Err.Error()))
	}
	if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
		attrs = append(attrs, slog.String("trace_id", span.TraceID().String()))
	}
	log.LogAttrs(ctx, level, "request", attrs...)
}
