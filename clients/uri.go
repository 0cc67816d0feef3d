package clients

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Redirect returns where an answer to an authorization request goes that asks for this redirect URI: to it, if it is
// registered to the byte, or else nowhere. Where a loopback address is registered, any port of it will do (RFC 8252 section
// 7.3). A request that names none gets the registered one, if there is one alone.
func (c *Client) Redirect(asked string) (uri string, ok bool) {
	if asked == "" {
		if len(c.RedirectURIs) != 1 {
			return "", false
		}
		return c.RedirectURIs[0], true
	}
	if !slices.ContainsFunc(c.RedirectURIs, func(registered string) bool { return asked == registered || sameButPort(asked, registered) }) {
		return "", false
	}
	return asked, true
}

// PostLogoutRedirect tells whether a log-out may send the browser to this URI: whether it is registered, to the byte (RP-Initiated
// Logout section 3).
func (c *Client) PostLogoutRedirect(uri string) bool {
	return slices.Contains(c.PostLogoutRedirectURIs, uri)
}

// sameButPort tells whether two URIs are the same bytes but for the port, on a loopback address of a native app. This goes by
// the text and not by what a parser makes of it: what a browser makes of it may be something else.
func sameButPort(asked, registered string) bool {
	for _, origin := range []string{"http://127.0.0.1", "http://[::1]", "http://localhost"} {
		rest, ok := afterPort(registered, origin)
		asks, asksToo := afterPort(asked, origin)
		if ok && asksToo && rest == asks {
			return true
		}
	}
	return false
}

// afterPort returns what is in the URI behind the origin, and behind its port if it has one; ok is false for any other origin.
func afterPort(uri, origin string) (rest string, ok bool) {
	if rest, ok = strings.CutPrefix(uri, origin); !ok {
		return "", false
	}
	if behind, hasPort := strings.CutPrefix(rest, ":"); hasPort {
		rest = strings.TrimLeft(behind, "0123456789")
		if !validPort(strings.TrimSuffix(behind, rest)) {
			return "", false
		}
	}
	return rest, rest == "" || rest[0] == '/' || rest[0] == '?'
}

func validPort(s string) bool {
	port, err := strconv.ParseUint(s, 10, 16)
	return err == nil && port > 0
}

// webOrigin is the origin of a page at the URI as browsers send it (RFC 6454 section 6.2), or nothing if it is no web page's.
func webOrigin(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	host := strings.ToLower(u.Host)
	if u.Scheme == "https" {
		host = strings.TrimSuffix(host, ":443")
	} else {
		host = strings.TrimSuffix(host, ":80")
	}
	return u.Scheme + "://" + host
}

// CheckAudience tells what is wrong with s as a resource that tokens are for, or nothing: it wants an absolute URI without a fragment
// (RFC 8707 section 2).
func CheckAudience(s string) string {
	if u, err := url.Parse(s); err != nil || !u.IsAbs() || strings.ContainsAny(s, "# ") || u.Opaque == "" && u.Host == "" && u.Path == "" {
		return "must be an absolute URI without a fragment"
	}
	return ""
}

// answered are the parameters of an answer to an authorization request: a redirect URI that has one itself would have it twice.
var answered = []string{"code", "state", "iss", "error", "error_description", "response"}

// checkRedirectURI tells what is wrong with s as a redirect URI, or nothing (RFC 9700 sections 2.1 and 4.1).
func (c *Client) checkRedirectURI(s string) string {
	_, behind, _ := strings.Cut(s, "?")
	if _, fragment, found := strings.Cut(s, "#"); found {
		behind += "&" + fragment
	}
	for _, pair := range strings.FieldsFunc(behind, func(r rune) bool { return strings.ContainsRune("&;#?", r) }) {
		name, _, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); err == nil && slices.Contains(answered, plain) {
			return "must not have the parameter " + plain + ": it is one of the answer's"
		}
	}
	return c.checkReturnURI(s)
}

// checkReturnURI tells what is wrong with s as an address that browsers are sent back to, or nothing. What is not known to be
// harmless is refused: an https URI, http on loopback, or, for native apps, a scheme of their own (RFC 8252 section 7).
func (c *Client) checkReturnURI(s string) string {
	u, problem := parseURI(s)
	switch {
	case problem != "":
		return problem
	case strings.Contains(s, "#"):
		return "must not have a fragment"
	case httpsOrLoopback(u):
		return ""
	case u.Scheme == "http":
		return "must be https: http is for loopback addresses alone"
	case !strings.Contains(u.Scheme, "."):
		return "must be an https URI, or http on a loopback address; a native app may have a private-use scheme with a dot in it, such as com.example.app:/callback"
	case c.ApplicationType != Native:
		return "has a private-use scheme, which is for native apps: set application_type to native"
	}
	return ""
}

// checkPageURI wants a web page, or a picture, that others may be shown a link to.
func checkPageURI(s string) string {
	if u, problem := parseURI(s); problem != "" {
		return problem
	} else if !httpsOrLoopback(u) {
		return "must be an https URI, or http on a loopback address"
	}
	return ""
}

// checkBackchannelURI wants an address that Signet itself calls (Back-Channel Logout section 2.2). For which hosts http will do
// the Service knows.
func checkBackchannelURI(s string) string {
	u, problem := parseURI(s)
	switch {
	case problem != "":
		return problem
	case strings.Contains(s, "#"):
		return "must not have a fragment"
	case u.Scheme != "https" && u.Scheme != "http":
		return "must be an https URI"
	}
	return ""
}

var (
	uriText  = regexp.MustCompile(`^([A-Za-z0-9._~:/?#\[\]@!$&'()+,;=-]|%[0-9A-Fa-f]{2})*$`) // RFC 3986, but for wildcards
	uriStart = regexp.MustCompile(`^(https?://|[a-z][a-z0-9+.-]*:/)`)
	hostName = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	// dotted is a path that a parser may resolve to another one: a segment of dots, or a dot or slash in disguise.
	dotted = regexp.MustCompile(`(?i)(^|/)\.\.?([/;]|$)|%2e|%2f|%5c|%00`)
)

// parseURI reads a hierarchical URI on which all parsers agree, or says what is wrong with it.
func parseURI(s string) (u *url.URL, problem string) {
	switch {
	case len(s) > maxURILength:
		return nil, "is longer than " + strconv.Itoa(maxURILength) + " bytes"
	case !uriText.MatchString(s):
		return nil, "has characters that no URI has, or a wildcard"
	case !uriStart.MatchString(s):
		return nil, "must begin with https://, http:// or a scheme and a slash, in lower case"
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, "is no URI"
	}
	web := u.Scheme == "https" || u.Scheme == "http"
	switch address, addrErr := netip.ParseAddr(u.Hostname()); {
	case u.User != nil:
		return nil, "must not name a user"
	case u.Host == "" && !web:
	case strings.HasPrefix(u.Host, "[") && (addrErr != nil || address.Zone() != ""), !strings.HasPrefix(u.Host, "[") && !hostName.MatchString(u.Hostname()):
		return nil, "must have a host, of ASCII characters"
	case strings.HasSuffix(u.Host, ":") || u.Port() != "" && !validPort(u.Port()):
		return nil, "has a port that cannot be"
	}
	if dotted.MatchString(u.EscapedPath()) {
		return nil, "must not have . or .. in its path, nor an encoded dot or slash"
	}
	return u, ""
}

func checkContact(s string) string {
	if !isLine(s, maxNameLength) {
		return "must be one line, such as an e-mail address"
	}
	return ""
}

// CheckOrigin tells what is wrong with s as an origin, or nothing: it wants what browsers send as Origin (RFC 6454 section 6.2), which is
// scheme, host and port, and nothing more.
func CheckOrigin(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || s != u.Scheme+"://"+u.Host || s != strings.ToLower(s) || strings.ContainsAny(s, "* \\") || !httpsOrLoopback(u) {
		return "must be an origin such as https://app.example.com: https, or http on a loopback address, in lower case and without path"
	}
	return ""
}

func httpsOrLoopback(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && Loopback(u.Hostname())
}

// Loopback tells whether host names this machine: localhost or a loopback address.
func Loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
