package pages

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
	"golang.org/x/text/language"

	"signet/server/request"
)

// Config is what the operator decides about the pages.
type Config struct {
	Issuer     string // the base of all URLs
	BrandName  string
	BrandLogo  string // a file; empty: Signet's own mark
	BrandColor string // #rgb or #rrggbb; empty: Signet's own

	Mail   bool // who has forgotten their password can be mailed a link
	SignUp bool // there is a page to make an account
}

//go:embed templates static
var files embed.FS

// Pages renders the pages. New returns them.
type Pages struct {
	brand     string
	base      string             // the path of the issuer
	layout    *template.Template // what all views stand in
	views     map[string]*template.Template
	static    map[string]file
	languages []language.Tag
	matcher   language.Matcher
	catalogs  []catalog // in the order of the languages

	mail, signUp bool
}

type file struct {
	content []byte
	kind    string
	url     string
}

const (
	maxLogo = 256 << 10 // bytes
	svg     = "image/svg+xml"
)

var (
	logoKinds = map[string]string{".svg": svg, ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
	color     = regexp.MustCompile(`^#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$`)
)

// New reads the catalogs, and what the operator has of their own. Its errors name the setting.
func New(cfg Config) (*Pages, error) {
	p := &Pages{brand: cfg.BrandName, static: map[string]file{}, views: map[string]*template.Template{}, mail: cfg.Mail, signUp: cfg.SignUp}
	if p.brand == "" {
		p.brand = "Signet"
	}
	if u, err := url.Parse(cfg.Issuer); err == nil {
		p.base = strings.TrimRight(u.Path, "/")
	}
	css, err := files.ReadFile("static/pages.css")
	if err != nil {
		panic(err) // it is part of the program
	}
	if cfg.BrandColor != "" {
		if !color.MatchString(cfg.BrandColor) {
			return nil, fmt.Errorf("SIGNET_BRAND_COLOR: %q is not a colour of the form #rrggbb", cfg.BrandColor)
		}
		css = append(css, brandStyle(cfg.BrandColor)...)
	}
	scripts := map[string][]byte{"post.js": nil, "passkey.js": nil}
	for name := range scripts {
		if scripts[name], err = files.ReadFile("static/" + name); err != nil {
			panic(err)
		}
	}
	logo, kind := mark, svg
	if cfg.BrandLogo != "" {
		if kind = logoKinds[strings.ToLower(filepath.Ext(cfg.BrandLogo))]; kind == "" {
			return nil, fmt.Errorf("SIGNET_BRAND_LOGO: %q is no .svg, .png, .jpg or .webp file", cfg.BrandLogo)
		}
		if logo, err = os.ReadFile(cfg.BrandLogo); err != nil {
			return nil, fmt.Errorf("SIGNET_BRAND_LOGO: %w", err)
		}
		if len(logo) > maxLogo {
			return nil, fmt.Errorf("SIGNET_BRAND_LOGO: %q is larger than 256 KiB", cfg.BrandLogo)
		}
	}
	p.add("pages.css", css, "text/css; charset=utf-8")
	for name, script := range scripts {
		p.add(name, script, "text/javascript; charset=utf-8")
	}
	p.add("logo", logo, kind)
	p.readCatalogs()
	p.layout = template.Must(template.New("").Funcs(template.FuncMap{
		"static": func(name string) string { return p.static[name].url },
		"path":   func(s string) string { return p.base + s },
	}).ParseFS(files, "templates/layout.html"))
	for _, name := range []string{
		"login", "consent", "account", "logout", "logged_out", "stayed", "error", "form_post", "device", "forgotten", "reset", "sign_up", "join", "said",
		"factor", "enrol", "codes", "own", "own_profile", "own_password", "own_app", "own_passkey",
	} {
		p.views[name] = template.Must(p.Layout().ParseFS(files, "templates/"+name+".html"))
	}
	return p, nil
}

// Layout returns a copy of the layout, for a room that has a page of its own to put into it: as "main", and as "head" what that needs there.
func (p *Pages) Layout() *template.Template { return template.Must(p.layout.Clone()) }

// mark is Signet's own logo: a seal.
var mark = []byte(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="16" cy="16" r="14" fill="#0172ad"/><path d="M16 7v18M10 12h12M10 20h12" stroke="#fff" stroke-width="2.5" stroke-linecap="round" fill="none"/></svg>`)

func (p *Pages) add(name string, content []byte, kind string) {
	sum := sha256.Sum256(content)
	p.static[name] = file{content, kind, p.base + "/static/" + hex.EncodeToString(sum[:6]) + "/" + name}
}

// brandStyle makes the colour that of the buttons, with text on it that can be read.
func brandStyle(hexColor string) string {
	digits := hexColor[1:]
	if len(digits) == 3 {
		digits = string([]byte{digits[0], digits[0], digits[1], digits[1], digits[2], digits[2]})
	}
	n, err := strconv.ParseUint(digits, 16, 32)
	if err != nil {
		return "" // it is six hexadecimal digits
	}
	text := "#fff"
	if luminance(uint8(n>>16), uint8(n>>8), uint8(n)) > 0.36 { //nolint:gosec // a byte each
		text = "#111"
	}
	return fmt.Sprintf("\n:root{--accent:#%s;--on-accent:%s}\n", digits, text)
}

// luminance is the relative luminance of a colour (WCAG 2), with a simpler gamma.
func luminance(r, g, b uint8) float64 {
	linear := func(c uint8) float64 { v := float64(c) / 255; return v * v }
	return 0.2126*linear(r) + 0.7152*linear(g) + 0.0722*linear(b)
}

// Routes adds the static files to r.
func (p *Pages) Routes(r gin.IRouter) {
	serve := func(c *gin.Context) {
		f, ok := p.static[c.Param("name")]
		if !ok {
			p.Error(c, http.StatusNotFound, nil, Error{Kind: NotFound})
			return
		}
		if strings.HasSuffix(f.url, "/static/"+c.Param("digest")+"/"+c.Param("name")) {
			c.Header("Cache-Control", "public, max-age=31536000, immutable")
			c.Writer.Header().Del("Pragma")
		}
		policy := "default-src 'none'; sandbox" // of a picture that is looked at by itself
		if f.kind == svg && bytes.Contains(f.content, []byte("style")) {
			policy += "; style-src 'unsafe-inline'" // a logo's own: Firefox holds pictures in pages against their policy as well
		}
		c.Header("Content-Security-Policy", policy)
		c.Data(http.StatusOK, f.kind, f.content)
	}
	r.GET("/static/:digest/:name", serve)
	r.HEAD("/static/:digest/:name", serve)
}

// page is what every template gets.
type page struct {
	Lang, Dir string
	Brand     string
	Title     string
	View      any

	Mail, SignUp bool // see Config

	catalog catalog
}

// T returns a text of the catalog with the values in the place of the names between braces.
func (p page) T(key string, pairs ...any) string {
	return p.catalog.text(key, pairs, func(s string) string { return s })
}

// B is T with the values set off.
func (p page) B(key string, pairs ...any) template.HTML {
	bold := func(s string) string { return "<bdi><strong>" + template.HTMLEscapeString(s) + "</strong></bdi>" }
	return template.HTML(p.catalog.html(key, pairs, bold)) //nolint:gosec // the text and the values are escaped
}

// render writes a page in the best language. The policy's extra directives are for what the page needs beyond style and pictures.
func (p *Pages) render(c *gin.Context, status int, locales []string, name, title string, view any, directives ...string) {
	_, index, _ := p.matcher.Match(p.wanted(locales, c.GetHeader("Accept-Language"))...)
	tag, catalog := p.languages[index], p.catalogs[index]
	data := page{Lang: tag.String(), Dir: "ltr", Brand: p.brand, View: view, Mail: p.mail, SignUp: p.signUp, catalog: catalog}
	data.Title = data.T(title)
	c.Writer.Header().Add("Vary", "Accept-Language")
	write(c, status, p.views[name], data, directives...)
}

// Show writes another room's page, which is made from the layout and in English.
func (p *Pages) Show(c *gin.Context, view *template.Template, title string, data any) {
	write(c, http.StatusOK, view, page{Lang: "en", Dir: "ltr", Brand: p.brand, Title: title, View: data})
}

// write writes a page with the headers that all have.
func write(c *gin.Context, status int, view *template.Template, data page, directives ...string) {
	h := c.Writer.Header()
	var body bytes.Buffer
	if err := view.ExecuteTemplate(&body, "layout", data); err != nil {
		request.From(c.Request.Context()).Err = err
		status = http.StatusInternalServerError
		body.Reset()
		body.WriteString("The page could not be made. The server's log tells more.")
	}
	policy := append([]string{
		"default-src 'none'", "style-src 'self'", "base-uri 'none'", "frame-ancestors 'none'",
	}, directives...)
	if !strings.Contains(strings.Join(directives, ";"), "img-src") {
		policy = append(policy, "img-src 'self'")
	}
	// Without form-action: browsers hold the redirect that answers a form against it as well, and that leads to the client.
	h.Set("Content-Security-Policy", strings.Join(policy, "; "))
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Language", data.Lang)
	c.Data(status, "text/html; charset=utf-8", body.Bytes())
}

// wanted returns the languages that the user wants, best first. What is no language is left out.
func (p *Pages) wanted(locales []string, header string) []language.Tag {
	var tags []language.Tag
	for _, l := range locales {
		if tag, err := language.Parse(l); err == nil && p.speaks(tag) {
			tags = append(tags, tag)
		}
	}
	return append(tags, accepted(header)...)
}

// accepted returns the languages of the header, best first. Each entry is read by itself: one that is no language costs no other.
func accepted(header string) (tags []language.Tag) {
	if len(header) >= 1024 {
		return nil
	}
	weights := map[language.Tag]float32{}
	for entry := range strings.SplitSeq(header, ",") {
		tag, q, err := language.ParseAcceptLanguage(entry)
		if err == nil && len(tag) == 1 && weights[tag[0]] == 0 {
			tags = append(tags, tag[0])
			weights[tag[0]] = q[0]
		}
	}
	slices.SortStableFunc(tags, func(a, b language.Tag) int { return cmp.Compare(weights[b], weights[a]) })
	return tags
}

// Language is the best of the languages for a user.
func (p *Pages) Language(c *gin.Context) string {
	_, index, _ := p.matcher.Match(p.wanted(nil, c.GetHeader("Accept-Language"))...)
	return p.languages[index].String()
}

// speaks tells whether there is a catalog for the tag, or one near to it.
func (p *Pages) speaks(tag language.Tag) bool {
	_, _, confidence := p.matcher.Match(tag)
	return confidence > language.No
}

// Languages returns the languages that the pages speak.
func (p *Pages) Languages() []string {
	names := make([]string, len(p.languages))
	for i, tag := range p.languages {
		names[i] = tag.String()
	}
	return names
}

// origin returns the origin of a URL that may be shown, or nothing.
func origin(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.ContainsAny(u.Host, " ;,'\"") {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
