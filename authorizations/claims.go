package authorizations

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"signet/clients"
	"signet/users"
)

// Claims are those that a request asks for one by one (OpenID Connect Core section 5.5), besides what its scopes show.
type Claims struct {
	UserInfo []string `json:"userinfo,omitempty"`
	IDToken  []string `json:"id_token,omitempty"`
	Subject  string   `json:"sub,omitempty"` // the one user that will do; empty: anybody
	Classes  []string `json:"acr,omitempty"` // the values of acr that will do (section 5.5.1.1); none: any
}

const (
	maxClaims      = 16 << 10 // bytes
	maxClaimsDepth = 8
	maxClaimNames  = 100
)

var errClaims = errors.New("must be a JSON object whose members userinfo and id_token are objects of claims")

// ParseClaims reads the parameter claims. Members that are not known are ignored, as Core asks.
func ParseClaims(text string) (Claims, error) {
	if len(text) > maxClaims {
		return Claims{}, fmt.Errorf("is longer than %d bytes", maxClaims)
	}
	if depth(text) > maxClaimsDepth {
		return Claims{}, fmt.Errorf("is nested deeper than %d levels", maxClaimsDepth)
	}
	var asked struct {
		UserInfo map[string]*claim `json:"userinfo"`
		IDToken  map[string]*claim `json:"id_token"`
	}
	if err := json.Unmarshal([]byte(text), &asked); err != nil || !bytes.HasPrefix(bytes.TrimLeft([]byte(text), " \t\r\n"), []byte("{")) {
		return Claims{}, errClaims
	}
	if len(asked.UserInfo) > maxClaimNames || len(asked.IDToken) > maxClaimNames {
		return Claims{}, fmt.Errorf("asks for more than %d claims", maxClaimNames)
	}
	var c Claims
	for _, member := range []struct {
		asked map[string]*claim
		names *[]string
	}{{asked.UserInfo, &c.UserInfo}, {asked.IDToken, &c.IDToken}} {
		for name, wanted := range member.asked {
			if name != "sub" {
				*member.names = append(*member.names, name)
				continue
			}
			subject, err := wanted.only()
			if err != nil || subject != "" && c.Subject != "" && c.Subject != subject {
				return Claims{}, errors.New("asks for a sub that is no text, or for several")
			}
			if subject != "" {
				c.Subject = subject
			}
		}
		slices.Sort(*member.names)
	}
	if acr := asked.IDToken["acr"]; acr != nil && acr.Essential {
		for _, value := range acr.all() {
			var class string
			if json.Unmarshal(value, &class) != nil || class == "" {
				return Claims{}, errors.New("asks for an acr that is no text")
			}
			c.Classes = append(c.Classes, class)
		}
	}
	return c, nil
}

// Within returns the claims without those that no scope of these shows.
func (c Claims) Within(scope clients.Scope) Claims {
	hidden := func(name string) bool { return !slices.Contains(scope, users.ScopeOf(name)) }
	c.UserInfo = slices.DeleteFunc(slices.Clone(c.UserInfo), hidden)
	c.IDToken = slices.DeleteFunc(slices.Clone(c.IDToken), hidden)
	return c
}

// claim is what a request says of one claim; nil: that it is wanted.
type claim struct {
	Essential bool              `json:"essential"`
	Value     json.RawMessage   `json:"value"`
	Values    []json.RawMessage `json:"values"`
}

// all returns the values of which the claim has to have one; none: any will do.
func (c *claim) all() []json.RawMessage {
	if c.Value != nil {
		return append([]json.RawMessage{c.Value}, c.Values...)
	}
	return c.Values
}

// only returns the one text that a claim has to be, if any.
func (c *claim) only() (text string, err error) {
	if c == nil {
		return "", nil
	}
	switch values := c.all(); len(values) {
	case 0:
		return "", nil
	case 1:
		if err = json.Unmarshal(values[0], &text); err == nil && text == "" {
			err = errClaims
		}
		return text, err
	default:
		return "", errClaims
	}
}

// depth bounds from above how deep a JSON text is nested.
func depth(text string) (deepest int) {
	level, quoted, escaped := 0, false, false
	for _, b := range []byte(text) {
		switch {
		case escaped:
			escaped = false
		case quoted:
			quoted, escaped = b != '"', b == '\\'
		case b == '"':
			quoted = true
		case b == '{', b == '[':
			level++
			deepest = max(deepest, level)
		case b == '}', b == ']':
			level--
		}
	}
	return deepest
}
