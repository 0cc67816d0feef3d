package oauth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"signet/authorizations"
	"signet/clients"
	"signet/logins"
	"signet/proofs"
	"signet/server/pages"
	"signet/server/request"
)

const authorizePath = "/authorize"

// maxParameter bounds each parameter of an authorization request, in bytes. What is longer is refused, never cut off.
var maxParameter = map[string]int{
	"client_id": 255, "redirect_uri": 2 << 10, "response_type": 255, "response_mode": 255, "state": 2 << 10, "scope": 4 << 10,
	"nonce": 1 << 10, "code_challenge": 255, "code_challenge_method": 255, "prompt": 255, "max_age": 16, "login_hint": 1 << 10,
	"id_token_hint": 16 << 10, "ui_locales": 1 << 10, "claims_locales": 1 << 10, "acr_values": 1 << 10, "display": 255,
	"claims": 16 << 10, "resource": 2 << 10, "dpop_jkt": 255, "request": 64 << 10, "request_uri": 2 << 10, "registration": 16 << 10,
}

// authorize answers GET and POST /authorize (RFC 6749 section 4.1.1, OpenID Connect Core section 3.1.2).
//
// Nothing is ever sent to a redirect URI that has not been compared with the registered ones. Until then whatever is wrong is said
// on a page.
func (s *Server) authorize(c *gin.Context) {
	ctx := c.Request.Context()
	form, malformed := authorizationForm(c)
	if form == nil {
		s.refusePage(c, nil, malformed)
		return
	}
	if malformed == nil && authorizations.IsPushed(value(form, "request_uri")) && s.comesAgain(c, authorizePath, form) {
		return
	}
	form, pushed, err := s.takeUp(c, form)
	if err != nil {
		s.refusePage(c, nil, err)
		return
	}
	client, target, err := s.target(ctx, form)
	if err != nil {
		s.refusePage(c, locales(form), err)
		return
	}
	if malformed != nil {
		s.refuseUnseen(c, client, target, form, malformed)
		return
	}
	if pushed == nil && client.RequirePAR {
		s.refuseUnseen(c, client, target, form, errNotPushed)
		return
	}
	req, err := s.readRequest(ctx, form, client, target)
	if err != nil {
		s.refuseUnseen(c, client, target, form, err)
		return
	}
	if pushed == nil && s.comesAgain(c, authorizePath, form) {
		return
	}
	req.Pushed = pushed
	s.proceed(c, client, req, standing{})
}

// refuseUnseen answers a request that cannot be granted. A client that has come by itself may be anybody's: it gets nobody's browser
// sent to it that is not logged in, where a page tells them instead (RFC 9700 section 4.11.2).
func (s *Server) refuseUnseen(c *gin.Context, client *clients.Client, t target, form url.Values, err error) {
	if client.Registered && value(form, "prompt") != authorizations.PromptNone {
		if _, known, loginErr := s.logins.Current(c.Request.Context(), s.loginCookie(c.Request)); loginErr != nil || !known {
			s.refusePage(c, locales(form), errors.Join(err, loginErr))
			return
		}
	}
	s.answerError(c, t, err)
}

// authorizationForm reads the parameters, from the query of a GET or the body of a POST. Of a form with a malformed escape it returns, beside
// the error, what the URL standard makes of it: who sent it can be told.
func authorizationForm(c *gin.Context) (url.Values, error) {
	text := c.Request.URL.RawQuery
	if c.Request.Method == http.MethodPost {
		body, err := ReadBody(c.Writer, c.Request)
		if err != nil {
			return nil, err
		}
		text = string(body)
	}
	text = strings.ReplaceAll(text, ";", "%3B") // which net/url refuses, and RFC 3986 and the URL standard do not
	taken := literal(text)
	form, err := url.ParseQuery(taken)
	switch {
	case err != nil:
		return nil, invalidRequest("the request is not a well-formed form")
	case taken != text:
		return form, invalidRequest("the request is not a well-formed form: a % in it is not encoded")
	}
	return form, nil
}

// literal encodes each % that begins no escape.
func literal(text string) string {
	var b strings.Builder
	for i := range len(text) {
		b.WriteByte(text[i])
		if text[i] != '%' {
			continue
		}
		if _, err := url.QueryUnescape(text[i:min(i+3, len(text))]); err != nil {
			b.WriteString("25")
		}
	}
	return b.String()
}

// comesAgain sends a browser that another site's page has made post the request to the same place by GET: only so does it
// bring the cookie along that says who is logged in.
func (s *Server) comesAgain(c *gin.Context, path string, form url.Values) bool {
	if c.Request.Method != http.MethodPost || s.fromHere(c.Request) || s.loginCookie(c.Request) != "" {
		return false
	}
	query := form.Encode()
	if len(query) > maxQuery {
		return false
	}
	c.Header("Referrer-Policy", "no-referrer")
	c.Redirect(http.StatusSeeOther, s.tokens.Issuer()+path+"?"+query)
	return true
}

// maxQuery is how long a query string may be, in bytes, that Signet itself sends a browser to: proxies take no longer ones.
const maxQuery = 6 << 10

// target is where the answer to an authorization request goes.
type target struct {
	uri   string
	sent  bool // the request named it
	mode  authorizations.ResponseMode
	state []byte

	locales []string // of a page that brings it there
}

// value returns the value of a parameter that is there once, or nothing.
func value(form url.Values, name string) string {
	if values := form[name]; len(values) == 1 {
		return values[0]
	}
	return ""
}

// target finds the client and where to answer. Its errors are for a page.
func (s *Server) target(ctx context.Context, form url.Values) (*clients.Client, target, error) {
	for _, name := range []string{"client_id", "redirect_uri"} {
		if len(form[name]) > 1 {
			return nil, target{}, invalidRequest("the parameter " + name + " is repeated")
		}
	}
	id := value(form, "client_id")
	if id == "" {
		return nil, target{}, invalidRequest("the parameter client_id is missing")
	}
	client, err := s.asking(ctx, id)
	if errors.Is(err, clients.ErrUnauthenticated) {
		return nil, target{}, badRequest("invalid_client", "no client with this client_id is registered, or it is disabled")
	}
	if err != nil {
		return nil, target{}, err
	}
	request.From(ctx).ClientID = client.ID
	asked := value(form, "redirect_uri")
	uri, ok := client.Redirect(asked)
	switch {
	case asked == "" && !ok:
		return nil, target{}, invalidRequest("the parameter redirect_uri is missing, and the client has not just one registered")
	case !ok || len(asked) > maxParameter["redirect_uri"]:
		came := asked // up to what may be a user's
		if i := strings.IndexAny(asked, "?#"); i >= 0 {
			came = asked[:i]
		}
		return nil, target{}, fmt.Errorf("%w: %.200q", invalidRequest("the redirect_uri is not registered for this client; it has to be the same, byte for byte"), came)
	case asked == "" && slices.Contains(strings.Fields(value(form, "scope")), clients.ScopeOpenID):
		return nil, target{}, invalidRequest("the parameter redirect_uri is missing, which a request with the scope openid needs")
	}
	t := target{uri: uri, sent: asked != "", mode: authorizations.Query, locales: locales(form)}
	if mode := authorizations.ResponseMode(value(form, "response_mode")); slices.Contains(authorizations.ResponseModes, mode) {
		t.mode = mode
	}
	t.state = []byte(value(form, "state"))
	if t.mode == authorizations.FormPost && (!strings.HasPrefix(uri, "http") || !formText(t.state)) {
		t.mode = authorizations.Query
	}
	return client, t, nil
}

// formText tells whether a form brings the text as it is: browsers write line breaks in their own way, and nothing but text.
func formText(b []byte) bool {
	return utf8.Valid(b) && !slices.ContainsFunc(b, func(c byte) bool { return c < ' ' })
}

// readRequest checks the rest of the request. Its errors go to the client.
func (s *Server) readRequest(ctx context.Context, form url.Values, client *clients.Client, t target) (*authorizations.Request, error) {
	for name, most := range maxParameter {
		if len(form[name]) > 1 && name != "resource" {
			return nil, invalidRequest("the parameter " + name + " is repeated")
		}
		for _, v := range form[name] {
			if len(v) > most {
				return nil, invalidRequest("the parameter " + name + " is longer than " + strconv.Itoa(most) + " bytes")
			}
			if name != "state" && (!utf8.ValidString(v) || strings.Contains(v, "\x00")) {
				return nil, invalidRequest("the parameter " + name + " is no text")
			}
		}
	}
	get := func(name string) string { return value(form, name) }
	mode := authorizations.ResponseMode(get("response_mode"))
	switch {
	case get("response_type") == "":
		return nil, invalidRequest("the parameter response_type is missing; it has to be code")
	case get("response_type") != "code":
		return nil, badRequest("unsupported_response_type", "the server knows the response_type code alone")
	case mode != "" && !slices.Contains(authorizations.ResponseModes, mode):
		return nil, invalidRequest("the response_mode has to be query, fragment or form_post")
	case mode != "" && mode != t.mode:
		return nil, invalidRequest("the response_mode form_post needs an http or https redirect_uri and a state of plain text")
	case get("request") != "":
		return nil, badRequest("request_not_supported", "request objects are not supported")
	case get("request_uri") != "":
		return nil, badRequest("request_uri_not_supported", "a request_uri of elsewhere is not supported")
	case get("registration") != "":
		return nil, badRequest("registration_not_supported", "the parameter registration is not supported")
	case !client.May(clients.AuthorizationCode):
		return nil, errNotForCodes
	}
	r := &authorizations.Request{
		ClientID: client.ID, RedirectURI: t.uri, RedirectSent: t.sent, ResponseMode: t.mode, State: t.state,
		Nonce: get("nonce"), LoginHint: get("login_hint"), Locales: locales(form),
	}
	call := tokenCall{call: &call{client: client, form: url.Values{"resource": slices.DeleteFunc(slices.Clone(form["resource"]), func(v string) bool { return v == "" })}}}
	if scope := get("scope"); scope != "" {
		call.form.Set("scope", scope)
	}
	if err := call.checkReach(s.tokens.Issuer()); err != nil {
		return nil, err
	}
	r.Scope, r.Audience = call.scope, call.audience
	if r.JKT = get("dpop_jkt"); r.JKT != "" && !proofs.ValidThumbprint(r.JKT) {
		return nil, invalidRequest("the dpop_jkt has to be the base64url of a SHA-256 thumbprint: 43 characters, without padding")
	}
	if err := readChallenge(r, client, get("code_challenge"), get("code_challenge_method")); err != nil {
		return nil, err
	}
	return r, s.readOpenID(ctx, r, client, get)
}

// readChallenge checks the PKCE parameters (RFC 7636 section 4.3).
func readChallenge(r *authorizations.Request, client *clients.Client, challenge, method string) error {
	switch {
	case challenge == "" && method != "":
		return invalidRequest("there is a code_challenge_method without a code_challenge")
	case challenge == "" && client.NeedsPKCE():
		return invalidRequest("the parameter code_challenge is missing: this client has to use PKCE with S256")
	case challenge == "":
		return nil
	case method != "S256":
		return invalidRequest("the code_challenge_method has to be there, and to be S256")
	case !authorizations.ValidChallenge(challenge):
		return invalidRequest("the code_challenge has to be the base64url of a SHA-256 digest: 43 characters, without padding")
	}
	r.Challenge = challenge
	return nil
}

// readOpenID checks the parameters of OpenID Connect (Core section 3.1.2.1).
func (s *Server) readOpenID(ctx context.Context, r *authorizations.Request, client *clients.Client, get func(string) string) error {
	for prompt := range strings.SplitSeq(get("prompt"), " ") {
		switch {
		case prompt == "":
		case !slices.Contains(authorizations.Prompts, prompt):
			return invalidRequest("the prompt has to be of none, login, consent and select_account")
		case !r.Asks(prompt):
			r.Prompt = append(r.Prompt, prompt)
		}
	}
	if r.Asks(authorizations.PromptNone) && len(r.Prompt) > 1 {
		return invalidRequest("the prompt none cannot be combined with others")
	}
	r.MaxAge = client.DefaultMaxAge
	if text := get("max_age"); text != "" {
		seconds, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return invalidRequest("max_age has to be a number of seconds, 0 or more")
		}
		r.MaxAge = new(time.Duration(seconds) * time.Second)
	}
	for class := range strings.FieldsSeq(get("acr_values")) {
		if slices.Contains(logins.Classes, class) && !slices.Contains(r.Classes, class) {
			r.Classes = append(r.Classes, class)
		}
	}
	if text := get("claims"); text != "" {
		var err error
		if r.Claims, err = authorizations.ParseClaims(text); err != nil {
			return invalidRequest("the parameter claims " + err.Error())
		}
		r.Claims = r.Claims.Within(client.Scope) // what the client cannot have by scope it cannot have one by one
	}
	if hint := get("id_token_hint"); hint != "" {
		h, ok, err := s.tokens.ReadHint(ctx, hint)
		if err != nil {
			return err
		}
		if r.HintedSubject = h.Subject; !ok {
			r.HintedSubject = "?"
		}
	}
	return nil
}

// locales are the languages that a request wants its pages in, best first.
func locales(form url.Values) []string {
	list := strings.Fields(value(form, "ui_locales"))
	return list[:min(len(list), 10)]
}

// answer sends the answer to the client: in the query or the fragment of the redirect URI, or by a form that posts itself.
// Whoever is asked by POST is sent on with GET.
func (s *Server) answer(c *gin.Context, t target, params [][2]string) {
	if len(t.state) > 0 {
		params = append(params, [2]string{"state", string(t.state)})
	}
	params = append(params, [2]string{"iss", s.tokens.Issuer()}) // RFC 9207
	if t.mode == authorizations.FormPost {
		s.pages.FormPost(c, t.locales, pages.FormPost{Action: t.uri, Params: params})
		return
	}
	pairs := make([]string, len(params))
	for i, p := range params {
		pairs[i] = p[0] + "=" + url.QueryEscape(p[1])
	}
	c.Header("Location", appended(t.uri, strings.Join(pairs, "&"), t.mode == authorizations.Fragment))
	c.Header("Referrer-Policy", "no-referrer")
	c.Status(http.StatusSeeOther)
}

// appended returns the URI as it is registered, and behind it the parameters.
func appended(uri, params string, fragment bool) string {
	switch {
	case fragment:
		return uri + "#" + params
	case !strings.Contains(uri, "?"):
		return uri + "?" + params
	case strings.HasSuffix(uri, "?"), strings.HasSuffix(uri, "&"):
		return uri + params
	default:
		return uri + "&" + params
	}
}

// answerError tells the client what is wrong. Where the database is gone, the user is told, unless nobody looks.
func (s *Server) answerError(c *gin.Context, t target, err error) {
	e := explain(err)
	request.From(c.Request.Context()).Err = err
	if e.Status >= http.StatusInternalServerError {
		s.unavailable(c, t.locales)
		return
	}
	s.answer(c, t, [][2]string{{"error", e.Code}, {"error_description", e.Description}})
}

// refusePage says on a page what is wrong with a request that cannot be answered elsewhere.
func (s *Server) refusePage(c *gin.Context, locales []string, err error) {
	e := explain(err)
	request.From(c.Request.Context()).Err = err
	if e.Status >= http.StatusInternalServerError {
		s.unavailable(c, locales)
		return
	}
	if e.Status == http.StatusUnauthorized { // which would have the browser ask for a password
		e = badRequest(e.Code, e.Description)
	}
	maps.Copy(c.Writer.Header(), e.header())
	s.pages.Error(c, e.Status, locales, pages.Error{Kind: pages.BadRequest, Code: e.Code, Description: e.Description})
}

// unavailable says that the server cannot answer at the moment.
func (s *Server) unavailable(c *gin.Context, locales []string) {
	setRetryAfter(c, retryAfter)
	s.pages.Error(c, http.StatusServiceUnavailable, locales, pages.Error{Kind: pages.Unavailable})
}

// targetOf is where the answer to a request goes that was found valid.
func targetOf(r *authorizations.Request) target {
	return target{uri: r.RedirectURI, sent: r.RedirectSent, mode: r.ResponseMode, state: r.State, locales: r.Locales}
}
