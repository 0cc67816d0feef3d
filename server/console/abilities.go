package console

import (
	"fmt"
	"strings"

	"signet/clients"
)

// ability is something that a client may do, or that holds for it.
type ability struct{ Label, Text string }

// grantWords say what the grants are for.
var grantWords = map[clients.Grant]string{
	clients.AuthorizationCode: "for users who log in at Signet’s page", clients.DeviceCode: "for users who log in on another device",
	clients.Password: "for users whose password it asks for", clients.ClientCredentials: "for itself", clients.TokenExchange: "for other APIs, in exchange for a user’s token",
	clients.RefreshToken: "new ones, without a log-in",
}

// abilities say at a glance what the client may do, and how it proves that it is the one.
func (s *Console) abilities(c *clients.Client) []ability {
	var gets, has []string
	for _, g := range clients.Grants {
		if c.May(g) {
			gets = append(gets, grantWords[g])
		}
	}
	if len(gets) == 0 {
		gets = []string{"none"}
	}
	list := []ability{{"Gets tokens", strings.Join(gets, "; ")}}
	if c.Scope != nil && len(c.Grants) > 0 {
		scope := "nothing in particular: it has no scope"
		if len(c.Scope) > 0 {
			scope = c.Scope.String()
		}
		list = append(list, ability{"They allow", scope}, ability{"They are for", strings.Join(c.Resources(s.Tokens.Issuer()), ", ")})
	}
	if c.ResourceServer {
		list = append(list, ability{"May introspect", "access tokens for " + strings.Join(c.Resources(s.Tokens.Issuer()), ", ")})
	}
	switch {
	case c.Public():
		has = []string{"nothing: it is a public client"}
	case c.HasSecret():
		has = []string{"a secret"}
	case c.JWKSURI != "":
		has = []string{"keys that are at " + c.JWKSURI}
	default:
		has = []string{"keys that are registered"}
	}
	if c.RequireDPoP {
		has = append(has, "a DPoP proof with each token")
	}
	list = append(list, ability{"Proves itself by", strings.Join(has, "; ")})
	if c.May(clients.AuthorizationCode) {
		var needs []string
		if c.NeedsPKCE() {
			needs = append(needs, "PKCE")
		}
		if c.RequirePAR {
			needs = append(needs, "a pushed request")
		}
		if !c.SkipConsent {
			needs = append(needs, "the user’s consent")
		}
		if c.DefaultMaxAge != nil {
			needs = append(needs, "a password entered in the last "+clients.FormatMaxAge(c.DefaultMaxAge))
		}
		if len(needs) == 0 {
			needs = []string{"no more than the user"}
		}
		list = append(list, ability{"A log-in needs", strings.Join(needs, "; ")})
	}
	if len(c.BrowserOrigins) > 0 {
		list = append(list, ability{"Tokens in cookies", "for pages at " + strings.Join(c.BrowserOrigins, ", ")})
	}
	if c.Profile != "" {
		list = append(list, ability{"Profile", "FAPI 2.0 Security Profile"})
	}
	switch host := c.DocumentHost(); {
	case host != "":
		list = append(list, ability{"Came by itself", "and is what the document at its id says"})
	case c.Registered:
		list = append(list, ability{"Came by itself", fmt.Sprintf("and goes %d days after it was registered if nobody uses it", int(clients.UnusedTTL.Hours()/24))})
	}
	return list
}
