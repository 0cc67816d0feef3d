package playground

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	_ "embed"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"

	"signet/audit"
	"signet/clients"
	"signet/server/pages"
)

const (
	// Path is where the playground is.
	Path = "/playground"

	// clientID is the client that it plays.
	clientID = "playground"

	callbackPath = Path + "/callback"

	cookieName = "signet_playground"

	// maxVisitors bounds what is remembered: the one who was away the longest is forgotten.
	maxVisitors = 32
)

var scope = clients.Scope{clients.ScopeOpenID, "profile", "email"}

var (
	//go:embed playground.html
	markup string

	//go:embed playground.css
	style []byte
)

// Config is where the playground is to be found.
type Config struct {
	Addresses []string // under which browsers may come to the server: the issuer, and others that are the same machine
	Local     string   // the address under which the server finds itself
}

// Playground answers the requests for its page. New returns one.
type Playground struct {
	cfg         Config
	pages       *pages.Pages
	view        *template.Template
	crossOrigin *http.CrossOriginProtection
	caller      *http.Client

	mu       sync.Mutex
	visitors map[string]*visitor
	order    []string // the ids of the visitors, who came last at the end
}

// New returns a playground that looks like the pages.
func New(cfg Config, look *pages.Pages) *Playground {
	caller := &http.Client{Timeout: callTimeout}
	if strings.HasPrefix(cfg.Local, "https:") {
		// The certificate is for the public name, and this is a call of the process to itself.
		caller.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // see above
	}
	return &Playground{
		cfg: cfg, pages: look, view: template.Must(look.Layout().Parse(markup)), crossOrigin: http.NewCrossOriginProtection(),
		caller: caller, visitors: map[string]*visitor{},
	}
}

// Register registers the client that the playground plays, or gives it back what it needs.
func Register(ctx context.Context, s *clients.Service, cfg Config, o audit.Origin) error {
	c, err := s.Get(ctx, clientID)
	wanted := c
	wanted.AuthMethod, wanted.Grants, wanted.Scope = clients.None, []clients.Grant{clients.AuthorizationCode, clients.RefreshToken}, scope
	wanted.RedirectURIs, wanted.PostLogoutRedirectURIs = nil, nil
	for _, address := range cfg.Addresses {
		wanted.RedirectURIs = append(wanted.RedirectURIs, address+callbackPath)
		wanted.PostLogoutRedirectURIs = append(wanted.PostLogoutRedirectURIs, address+Path)
	}
	switch {
	case errors.Is(err, clients.ErrNotFound):
		wanted.ID, wanted.Name = clientID, "Playground"
		_, err = s.Create(ctx, wanted, o)
	case err == nil && !reflect.DeepEqual(c, wanted):
		_, err = s.Update(ctx, wanted, o)
	}
	return err
}

// Routes adds the page to r.
func (p *Playground) Routes(r gin.IRouter) {
	r.GET(Path, p.at(p.show))
	r.GET(Path+"/", func(c *gin.Context) { c.Redirect(http.StatusSeeOther, strings.TrimSuffix(c.Request.URL.Path, "/")) })
	r.GET(Path+"/playground.css", func(c *gin.Context) { c.Data(http.StatusOK, "text/css; charset=utf-8", style) })
	r.GET(callbackPath, p.at(p.callback))
	for name, do := range map[string]func(*visit){
		"login": p.login, "refresh": p.refresh, "userinfo": p.userinfo, "thief": p.thief, "logout": p.logout,
	} {
		r.POST(Path+"/"+name, p.at(do))
	}
}

// visit is a request of a visitor, who waits for its answer before the next.
type visit struct {
	*gin.Context
	*visitor

	at string // the address that the browser came to, and is to stay at: its cookies are of that
}

// at calls do for the browsers that have come to one of the addresses, and sends others to the first. Nobody makes a page of another name
// that is this one in truth (DNS rebinding).
func (p *Playground) at(do func(*visit)) gin.HandlerFunc {
	return func(c *gin.Context) {
		at := ""
		for _, address := range p.cfg.Addresses {
			if u, err := url.Parse(address); err == nil && u.Host == c.Request.Host {
				at = address
				break
			}
		}
		if at == "" {
			c.Redirect(http.StatusSeeOther, p.cfg.Addresses[0]+Path)
			return
		}
		if err := p.crossOrigin.Check(c.Request); err != nil {
			c.String(http.StatusForbidden, "This form came from another site. Go back to the playground and try again.\n")
			return
		}
		v := p.visitor(c, strings.HasPrefix(at, "https:"))
		v.mu.Lock()
		defer v.mu.Unlock()
		do(&visit{c, v, at})
	}
}

// visitor is what is known of a browser.
type visitor struct {
	mu     sync.Mutex
	flow   flow
	tokens tokens
	ended  bool   // the session that the tokens are of
	last   string // what was done last
	seen   []exchange
}

// visitor returns the visitor who asks, a new one if need be.
func (p *Playground) visitor(c *gin.Context, secure bool) *visitor {
	id, _ := c.Cookie(cookieName)
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.visitors[id]
	if v == nil {
		id, v = rand.Text(), &visitor{}
		p.visitors[id] = v
		http.SetCookie(c.Writer, &http.Cookie{ //nolint:gosec // Secure wherever the address is https
			Name: cookieName, Value: id, Path: Path, HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode,
		})
	}
	for i, other := range p.order {
		if other == id {
			p.order = append(p.order[:i], p.order[i+1:]...)
			break
		}
	}
	if p.order = append(p.order, id); len(p.order) > maxVisitors {
		delete(p.visitors, p.order[0])
		p.order = p.order[1:]
	}
	return v
}

// view is what the page shows.
type view struct {
	Username string // who is logged in
	Ended    bool
	Last     string
	Steps    []step
	Seen     []exchange
	Tokens   []decoded
}

// step is something that can be done.
type step struct {
	Name, Title, Text string
	Curl              string
}

// show writes the page.
func (p *Playground) show(v *visit) {
	data := view{Ended: v.ended, Last: v.last, Seen: v.seen, Steps: v.steps()}
	if v.tokens.ID != "" {
		id := decode("ID token", v.tokens.ID)
		data.Username, data.Tokens = id.known.Username, []decoded{id, decode("Access token", v.tokens.Access)}
	}
	p.pages.Show(v.Context, p.view, "Playground", data)
}

// back leads to the page, which shows what came of it.
func (v *visit) back() { v.Redirect(http.StatusSeeOther, v.at+Path+"#seen") }
