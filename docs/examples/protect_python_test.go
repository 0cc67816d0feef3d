package examples

import (
	"net/http"
	"testing"
)

func TestProtectPython(t *testing.T) {
	t.Parallel()
	e := prepare(t, "protect-python", "AUTH_PORT", "8080", "API_PORT", "4000").prebuilt().start("SIGNET_ACCESS_TOKEN_TTL=3s")
	const refused = `{"error": "log in first, or renew your token"}`
	shows(t, e.try(), `"Down the rabbit hole"`, refused, refused)
	s := system{e, "posts-app"}
	posts := e.at("4000") + "/posts"
	s.lives(func() string { return s.login("bob").AccessToken }, posts, http.StatusUnauthorized)
	s.refuses(posts, s.login("alice").AccessToken, http.StatusUnauthorized)
	s.want(http.StatusForbidden, "posts:read", posts, s.login("alice", "scope", "posts:write").AccessToken)
	s.want(http.StatusUnauthorized, "", posts, s.login("alice").RefreshToken)
	e.stop()
}
