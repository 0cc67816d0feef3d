package server

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"signet/server/request"
)

// pingTimeout bounds the database's part of a readiness check.
const pingTimeout = time.Second

// health adds /livez, which tells that the process is up, and /readyz, which tells that it can serve.
func (s *Server) health(r gin.IRouter) {
	live := func(c *gin.Context) { c.JSON(http.StatusOK, gin.H{"status": "ok"}) }
	ready := func(c *gin.Context) {
		parts, ok := s.ready(c.Request.Context())
		if !ok {
			c.Header("Retry-After", "2")
			c.JSON(http.StatusServiceUnavailable, parts)
			return
		}
		c.JSON(http.StatusOK, parts)
	}
	for path, handler := range map[string]gin.HandlerFunc{"/livez": live, "/readyz": ready} {
		r.GET(path, handler)
		r.HEAD(path, handler)
	}
}

// ready checks each part that serving needs, and names the one that fails.
func (s *Server) ready(ctx context.Context) (parts map[string]string, ok bool) {
	parts = map[string]string{"status": "ok", "database": "ok", "signing_key": "ok"}
	fail := func(part, state string) { parts["status"], parts[part] = "unavailable", state }
	if s.draining.Load() {
		fail("server", "shutting down")
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if err := s.db.Ping(ctx); err != nil {
		request.From(ctx).Err = err
		fail("database", "unreachable")
	}
	if !s.keys.Loaded() {
		fail("signing_key", "not loaded")
	}
	return parts, parts["status"] == "ok"
}
