package clients

import (
	"errors"
	"slices"
	"strings"
)

// Scopes of Signet's own. They are never granted by default: a client has to be registered for them and ask by name.
const (
	ScopeAdmin   = "signet:admin"   // the admin API; in the password grant for admins alone
	ScopeAccount = "signet:account" // a user's own account

	reservedPrefix = "signet:"
)

// Scopes of OpenID Connect (Core sections 5.4 and 11).
const (
	ScopeOpenID  = "openid"
	ScopeOffline = "offline_access" // the session outlives the login that it began in
	ScopeGroups  = "groups"
)

// StandardScopes are those that show something of a user, or of a login.
var StandardScopes = Scope{ScopeOpenID, "profile", "email", "phone", ScopeGroups, ScopeOffline}

// Scope is a set of scope tokens in the order in which they were named (RFC 6749 section 3.3).
type Scope []string

// errScope says that a scope is not of the RFC's form.
var errScope = errors.New(`must be scope tokens separated by single spaces, each of visible ASCII without " and \`)

// ParseScope reads a space-separated scope. An empty string is an empty scope; a token named twice counts once.
func ParseScope(s string) (Scope, error) {
	scope := Scope{}
	if s == "" {
		return scope, nil
	}
	named := map[string]bool{} // a stranger's scope may be long
	for token := range strings.SplitSeq(s, " ") {
		if !isScopeToken(token) {
			return nil, errScope
		}
		if !named[token] {
			named[token] = true
			scope = append(scope, token)
		}
	}
	return scope, nil
}

func isScopeToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
}

func (s Scope) String() string { return strings.Join(s, " ") }

// Within tells whether every token of s is in other.
func (s Scope) Within(other Scope) bool {
	return !slices.ContainsFunc(s, func(token string) bool { return !slices.Contains(other, token) })
}

// Reserved tells whether the scope is one of Signet's own, which has to be granted explicitly.
func Reserved(token string) bool { return strings.HasPrefix(token, reservedPrefix) }

// Default is what a request that names no scope gets: all that is registered but Signet's own.
func (s Scope) Default() Scope {
	return slices.DeleteFunc(slices.Clone(s), Reserved)
}
