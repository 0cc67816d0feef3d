package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"signet/clients"
	"signet/server/request"
)

//go:embed templates
var templates embed.FS

//go:embed static
var static embed.FS

// file is a static file.
type file struct {
	content []byte
	digest  string // part of its URL, so that browsers keep it for good
	kind    string
}

// kinds are the media types of what is served, which go by no table of the machine's. Licences lie beside, and are not.
var kinds = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

// staticFiles reads the static files, by their paths.
func staticFiles() map[string]file {
	files := map[string]file{}
	err := fs.WalkDir(static, "static", func(name string, entry fs.DirEntry, err error) error {
		kind, served := kinds[path.Ext(name)]
		if err != nil || entry.IsDir() || !served {
			return err
		}
		content, err := static.ReadFile(name)
		sum := sha256.Sum256(content)
		files[strings.TrimPrefix(name, "static/")] = file{content, hex.EncodeToString(sum[:6]), kind}
		return err
	})
	if err != nil {
		panic(err) // they are part of the program
	}
	return files
}

// serveStatic serves /console/static/DIGEST/PATH. While replicas are replaced, a page of one may ask the other for a file
// that is not quite the same: it gets what there is, for this once.
func (s *Console) serveStatic(c *gin.Context) {
	digest, name, _ := strings.Cut(strings.TrimPrefix(c.Param("path"), "/"), "/")
	f, ok := s.static[name]
	if !ok {
		s.notice(c, http.StatusNotFound)
		return
	}
	if digest == f.digest {
		c.Header("Cache-Control", "public, max-age=31536000, immutable")
		c.Writer.Header().Del("Pragma")
	}
	c.Data(http.StatusOK, f.kind, f.content)
}

// page is what every page is made of.
type page struct {
	Title   string // of the document and, unless the page has its own, its heading
	Section string // of the navigation
	User    string // who is logged in; nobody on pages that anybody may see
	UserID  string
	Notice  string // what was done
	Back    string // the address that a reload leads to, on a page that shows something once
	Data    any
}

// view is a page's template, with the layout around it.
type view struct{ *template.Template }

func (s *Console) parseViews() map[string]view {
	shared := template.Must(template.New("").Funcs(s.functions()).ParseFS(templates, "templates/layout.html", "templates/parts.html"))
	names, err := fs.Glob(templates, "templates/*.html")
	if err != nil {
		panic(err) // they are part of the program
	}
	views := map[string]view{}
	for _, name := range names {
		t := template.Must(template.Must(shared.Clone()).ParseFS(templates, name))
		views[strings.TrimSuffix(path.Base(name), ".html")] = view{t}
	}
	return views
}

// functions are what templates may call.
func (s *Console) functions() template.FuncMap {
	return template.FuncMap{
		"url": s.url,
		"static": func(name string) (string, error) {
			f, ok := s.static[name]
			if !ok {
				return "", fmt.Errorf("there is no static file %q", name)
			}
			return s.base + "/static/" + f.digest + "/" + name, nil
		},
		"stamp":    stamp,
		"relative": func(t time.Time) string { return relative(t, time.Now()) },
		"kind":     func(c clients.Client) string { return kindOf(&c).Label },
		"list":     func(values ...any) []any { return values },
		// pairs makes a map of names and values, to hand several things to a part.
		"pairs": func(pairs ...any) (map[string]any, error) {
			if len(pairs)%2 != 0 {
				return nil, fmt.Errorf("%d is no number of pairs", len(pairs))
			}
			m := map[string]any{}
			for i := 0; i < len(pairs); i += 2 {
				m[fmt.Sprint(pairs[i])] = pairs[i+1]
			}
			return m, nil
		},
	}
}

// moment is a time as pages show it.
type moment struct{ ISO, UTC string }

// stamp returns nothing for the zero time.
func stamp(t time.Time) *moment {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &moment{t.Format(time.RFC3339), t.Format("2006-01-02 15:04:05") + " UTC"}
}

// relative says how far t is from now. The script console.js says the same as time goes on.
func relative(t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case d > -5*time.Second && d < 5*time.Second:
		return "just now"
	case d < 0:
		return "in " + span(-d)
	default:
		return span(d) + " ago"
	}
}

// render answers with a page.
func (s *Console) render(c *gin.Context, status int, name string, p page) {
	var b bytes.Buffer
	if err := s.views()[name].ExecuteTemplate(&b, "layout", p); err != nil {
		// Every page is shown by a test, so that what fails here is the program's bug.
		request.From(c.Request.Context()).Err = err
		c.Data(http.StatusInternalServerError, "text/plain; charset=utf-8", []byte("The page could not be made; the server’s log tells more.\n"))
		return
	}
	c.Data(status, "text/html; charset=utf-8", b.Bytes())
}

// show answers a visit with a page.
func (s *Console) show(v *visit, status int, name string, p page) error {
	p.User, p.UserID = v.access.Username, v.access.UserID
	if p.Notice == "" {
		p.Notice = done[v.Query("done")]
	}
	s.render(v.Context, status, name, p)
	return nil
}

// done are the sentences that say what a form did, by the word that the redirect afterwards carries.
var done = map[string]string{
	"client-saved":         "The client is saved.",
	"client-disabled":      "The client is disabled. Its sessions and tokens are dead.",
	"client-enabled":       "The client is enabled. Its former sessions stay ended.",
	"client-deleted":       "The client is deleted.",
	"registration-revoked": "The token is revoked. The clients that have registered with it stay.",
	"registration-gone":    "That token was good no more.",
	"scope-saved":          "The scope is described.",
	"scope-deleted":        "The description is deleted. Clients keep the scope.",
	"user-saved":           "The profile is saved.",
	"user-disabled":        "The user is disabled and logged out everywhere.",
	"user-enabled":         "The user is enabled, and can log in again.",
	"user-admin":           "The user is an admin now.",
	"user-no-admin":        "The user is no admin any more.",
	"user-factors":         "The user has no second factor any more.",
	"user-logout":          "The user is logged out everywhere.",
	"invited":              "The invitation is on its way.",
	"user-deleted":         "The user is deleted.",
	"session-ended":        "The session is ended.",
	"session-gone":         "That session had ended before.",
	"key-revoked":          "The key is revoked. Its tokens are dead on all replicas within 30 seconds.",
	"key-gone":             "There is no such key any more.",
	"keys-rotated":         "The keys are rotated. Replicas follow within ten seconds.",
}

// pageSize is how many rows a list shows at once.
const pageSize = 50

// cut takes the first page of what was asked for with one row more than it holds, and tells whether there are more.
func cut[T any](rows []T) (first []T, more bool) {
	if len(rows) > pageSize {
		return rows[:pageSize], true
	}
	return rows, false
}

// pager is the links of a list that is longer than a page.
type pager struct {
	First, Next string // empty where there is nothing to go to
}
