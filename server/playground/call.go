package playground

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"signet/server/request"
)

const (
	callTimeout = 10 * time.Second
	maxAnswer   = 256 << 10 // bytes
)

// call is a request of the app to Signet.
type call struct {
	Path   string
	Bearer string
	Form   [][2]string // none: a GET
}

// with returns the call with another value of a parameter.
func (q call) with(name, value string) call {
	q.Form = slices.Clone(q.Form)
	for i := range q.Form {
		if q.Form[i][0] == name {
			q.Form[i][1] = value
		}
	}
	return q
}

// curl is the line that makes the call in a shell.
func (q call) curl(address string) string {
	var b strings.Builder
	b.WriteString("curl -s")
	if q.Bearer != "" {
		b.WriteString(" -H 'Authorization: Bearer " + q.Bearer + "'")
	}
	b.WriteString(" " + address + q.Path)
	for _, pair := range q.Form {
		value := pair[1]
		if !strings.HasPrefix(value, "$") { // a variable of the shell
			value = url.QueryEscape(value)
		}
		b.WriteString(" -d " + pair[0] + "=" + value)
	}
	return b.String()
}

// text is the call as it is sent, but for its line breaks.
func (q call) text() string {
	if q.Form == nil {
		return "GET " + q.Path + "\nAuthorization: Bearer " + q.Bearer
	}
	return "POST " + q.Path + "\n" + lines(q.Form)
}

// exchange is a request that was made, and its answer.
type exchange struct {
	Title   string
	Request string
	Curl    string
	Status  string
	Answer  string
	Bad     bool // it is not what one hopes for

	status int
	body   []byte
}

// call makes the call over HTTP, as an app that runs beside Signet does.
func (p *Playground) call(v *visit, q call) exchange {
	e := exchange{Request: short(q.text()), Curl: q.curl(v.at), Bad: true}
	form := url.Values{}
	for _, pair := range q.Form {
		form.Set(pair[0], pair[1])
	}
	method, body := http.MethodGet, ""
	if q.Form != nil {
		method, body = http.MethodPost, form.Encode()
	}
	ctx := v.Request.Context()
	req, err := http.NewRequestWithContext(ctx, method, p.cfg.Local+q.Path, strings.NewReader(body))
	if err != nil {
		panic(err) // the address is checked
	}
	if q.Form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if q.Bearer != "" {
		req.Header.Set("Authorization", "Bearer "+q.Bearer)
	}
	req.Header.Set("User-Agent", "Signet playground")
	res, err := p.caller.Do(req)
	if err == nil {
		defer res.Body.Close()
		e.body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	}
	if err != nil {
		request.From(ctx).Err = err
		e.Status = "No answer: the log says why"
		return e
	}
	e.status, e.Status, e.Answer, e.Bad = res.StatusCode, res.Status, short(pretty(e.body)), res.StatusCode != http.StatusOK
	return e
}

// tokens are those in the answer.
func (e *exchange) tokens() (t tokens) {
	if e.status == http.StatusOK {
		_ = json.Unmarshal(e.body, &t) // what is not in it is missed where it is needed
	}
	return t
}

// refused tells whether the answer says that the session is dead.
func (e *exchange) refused() bool {
	return e.status == http.StatusBadRequest || e.status == http.StatusUnauthorized
}

// long finds tokens that are too long to read. They are whole in the curl lines, and below what is in them.
var long = regexp.MustCompile(`(ey[\w-]{24})[\w-]+\.[\w.-]+`)

// short is a text with the beginnings of its long tokens.
func short(text string) string { return long.ReplaceAllString(text, "$1…") }

// pretty is JSON with a line for each member.
func pretty(body []byte) string {
	var b bytes.Buffer
	if json.Indent(&b, body, "", "  ") != nil {
		return string(body)
	}
	return b.String()
}

// decoded is what is in a token.
type decoded struct {
	Name, Raw      string
	Header, Claims string

	known struct {
		Username string `json:"preferred_username"`
		Nonce    string `json:"nonce"`
	}
}

// decode reads a token. Its signature is not looked at: it comes from Signet itself (OpenID Connect Core section 3.1.3.7).
func decode(name, token string) decoded {
	d := decoded{Name: name, Raw: token}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return d
	}
	header, _ := base64.RawURLEncoding.DecodeString(parts[0])
	claims, _ := base64.RawURLEncoding.DecodeString(parts[1])
	_ = json.Unmarshal(claims, &d.known) // a token without them has none
	d.Header, d.Claims = pretty(header), pretty(claims)
	return d
}
