package console

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"signet/clients"
)

// clientKind is a sort of app that somebody registers, and what is sensible for it.
type clientKind struct {
	Name, Label, About string
	defaults           clients.Client
}

var clientKinds = []clientKind{
	{
		"web", "Web app", "Runs on a server that can keep a secret, and logs users in by name and password.",
		clients.Client{AuthMethod: clients.SecretBasic, Grants: []clients.Grant{clients.Password, clients.RefreshToken}},
	},
	{
		"public", "Single-page or mobile app", "Runs in a browser or on a phone, where no secret stays one. A public client.",
		clients.Client{AuthMethod: clients.None, Grants: []clients.Grant{clients.Password, clients.RefreshToken}},
	},
	{
		"machine", "Machine", "A service, a job or a script that gets tokens for itself, without a user.",
		clients.Client{AuthMethod: clients.SecretBasic, Grants: []clients.Grant{clients.ClientCredentials}},
	},
	{
		"api", "Resource server", "An API that receives access tokens and asks Signet whether they are good.",
		clients.Client{AuthMethod: clients.SecretBasic, Grants: []clients.Grant{}, ResourceServer: true},
	},
}

// kindOf tells what sort of app a client looks like.
func kindOf(c *clients.Client) clientKind {
	name := "web"
	switch {
	case c.ID == ClientID:
		return clientKind{Name: "console", Label: "This console"}
	case c.ResourceServer && len(c.Grants) == 0:
		name = "api"
	case c.Public():
		name = "public"
	case c.May(clients.ClientCredentials) && !c.May(clients.Password):
		name = "machine"
	}
	return kindNamed(name)
}

// kindNamed returns the kind of that name, the first one where there is none.
func kindNamed(name string) clientKind {
	if i := slices.IndexFunc(clientKinds, func(k clientKind) bool { return k.Name == name }); i >= 0 {
		return clientKinds[i]
	}
	return clientKinds[0]
}

func (s *Console) listClients(v *visit) error {
	query := strings.TrimSpace(v.Query("q"))
	rows, err := s.Clients.List(v.ctx(), clients.Filter{Query: query, After: v.Query("after"), Limit: pageSize + 1})
	if err != nil {
		return err
	}
	rows, more := cut(rows)
	var p pager
	if v.Query("after") != "" {
		p.First = s.url("/clients", "q", query)
	}
	if more {
		p.Next = s.url("/clients", "q", query, "after", rows[len(rows)-1].ID)
	}
	return s.show(v, http.StatusOK, "clients", page{Title: "Clients", Section: "Clients", Data: map[string]any{
		"Query": query, "Rows": rows, "Pager": p, "None": onlyConsole(rows) && query == "" && v.Query("after") == "",
	}})
}

// onlyConsole tells whether none of the clients is anything but the console.
func onlyConsole(rows []clients.Client) bool {
	return !slices.ContainsFunc(rows, func(c clients.Client) bool { return c.ID != ClientID })
}

// clientForm is a form of a client's metadata, as it was sent or is to be shown.
type clientForm struct {
	New     bool
	Kind    clientKind
	Spare   string // the id that a new client gets if none is given: the same form sent twice registers one
	Version int64

	ID, Name, AuthMethod, Scope            string
	Audience, RedirectURIs, BrowserOrigins string // one a line
	Grants                                 []string
	ResourceServer                         bool

	Problems map[string]string // by the field's name
}

// HasGrant tells whether the box of that grant is ticked.
func (f clientForm) HasGrant(g string) bool { return slices.Contains(f.Grants, g) }

// Choices are what the form lets one choose from.
func (clientForm) Choices() map[string]any {
	return map[string]any{
		"Grants": []struct{ Value, Label string }{
			{string(clients.Password), "password: a user’s name and password for tokens"},
			{string(clients.RefreshToken), "refresh_token: new tokens without a log-in"},
			{string(clients.ClientCredentials), "client_credentials: tokens for the client itself"},
		},
		"Methods": []struct{ Value, Label string }{
			{string(clients.SecretBasic), "with a secret, in the header (client_secret_basic)"},
			{string(clients.SecretPost), "with a secret, in the body (client_secret_post)"},
			{string(clients.None), "not at all: a public client (none)"},
		},
	}
}

func formOf(c *clients.Client) clientForm {
	f := clientForm{
		ID: c.ID, Name: c.Name, AuthMethod: string(c.AuthMethod), Scope: c.Scope.String(), Version: c.Version,
		Audience: strings.Join(c.Audience, "\n"), RedirectURIs: strings.Join(c.RedirectURIs, "\n"),
		BrowserOrigins: strings.Join(c.BrowserOrigins, "\n"), ResourceServer: c.ResourceServer, Kind: kindOf(c),
	}
	for _, g := range c.Grants {
		f.Grants = append(f.Grants, string(g))
	}
	return f
}

// readClient reads the form. What cannot be is the problem of its field; what is well-formed, clients judges.
func (v *visit) readClient() (clients.Client, clientForm) {
	version, _ := strconv.ParseInt(v.form("version"), 10, 64)
	f := clientForm{
		Kind: kindNamed(v.form("kind")), Spare: v.form("spare"), Version: version,
		ID: strings.TrimSpace(v.form("client_id")), Name: strings.TrimSpace(v.form("client_name")),
		AuthMethod: v.form("token_endpoint_auth_method"), Scope: v.form("scope"), Audience: v.form("audience"),
		RedirectURIs: v.form("redirect_uris"), BrowserOrigins: v.form("browser_origins"),
		Grants: v.Request.PostForm["grant_types"], ResourceServer: v.form("resource_server") != "",
		Problems: map[string]string{},
	}
	c := clients.Client{
		ID: f.ID, Name: f.Name, AuthMethod: clients.AuthMethod(f.AuthMethod), Grants: []clients.Grant{}, Version: version,
		Audience: strings.Fields(f.Audience), RedirectURIs: strings.Fields(f.RedirectURIs),
		BrowserOrigins: strings.Fields(f.BrowserOrigins), ResourceServer: f.ResourceServer,
	}
	for _, g := range f.Grants {
		c.Grants = append(c.Grants, clients.Grant(g))
	}
	if f.Name == "" {
		f.Problems["client_name"] = "Name: must be given"
	}
	var err error
	if c.Scope, err = clients.ParseScope(strings.Join(strings.Fields(f.Scope), " ")); err != nil {
		f.Problems["scope"] = "Scope: " + err.Error()
	}
	return c, f
}

// fields are how the form calls the members of a client.
var fields = map[string]string{
	"client_id": "Id", "client_name": "Name", "token_endpoint_auth_method": "Authentication", "grant_types": "Grants", "scope": "Scope",
	"audience": "Audience", "redirect_uris": "Redirect URIs", "browser_origins": "Browser origins", "resource_server": "Resource server",
}

// blame puts an error of the clients room beside its field. It returns false for errors that are not about the form.
func (f *clientForm) blame(err error) bool {
	var field *clients.FieldError
	switch {
	case errors.As(err, &field):
		f.Problems[field.Field] = strings.TrimPrefix(fields[field.Field]+": "+field.Problem, ": ")
	case errors.Is(err, clients.ErrExists):
		f.Problems["client_id"] = "Id: a client with this id exists already"
	case errors.Is(err, clients.ErrChanged):
		f.Problems[""] = "Somebody else changed this client meanwhile. What you see is what you entered: open the client anew to see what it is now."
	default:
		return false
	}
	return true
}

func (s *Console) newClient(v *visit) error {
	if v.Query("kind") == "" {
		return s.show(v, http.StatusOK, "client-kinds", page{Title: "Register a client", Section: "Clients", Data: clientKinds})
	}
	kind := kindNamed(v.Query("kind"))
	f := formOf(&kind.defaults)
	f.New, f.Kind, f.Spare = true, kind, uuid.NewString()
	return s.showNewClient(v, http.StatusOK, f)
}

func (s *Console) showNewClient(v *visit, status int, f clientForm) error {
	return s.show(v, status, "client-new", page{Title: "Register a client", Section: "Clients", Data: f})
}

func (s *Console) createClient(v *visit) error {
	c, f := v.readClient()
	f.New = true
	if c.ID == "" {
		if _, err := uuid.Parse(f.Spare); err != nil {
			f.Spare = uuid.NewString()
		}
		c.ID = f.Spare
	}
	if len(f.Problems) == 0 {
		created, err := s.Clients.Create(v.ctx(), c, v.origin())
		if err == nil {
			return s.showSecret(v, &created, "The client is registered.")
		}
		if !f.blame(err) {
			return err
		}
	}
	return s.showNewClient(v, http.StatusUnprocessableEntity, f)
}

// showSecret shows what is shown once: the secret that was just made, and a line to try it with.
func (s *Console) showSecret(v *visit, c *clients.Client, notice string) error {
	return s.show(v, http.StatusOK, "client-secret", page{
		Title: c.Name, Section: "Clients", Notice: notice, Back: s.url("/client", "id", c.ID),
		Data: map[string]any{"Client": c, "Curl": s.curl(c), "Overlap": v.form("overlap")},
	})
}

// curl is a line for a shell that uses the client.
func (s *Console) curl(c *clients.Client) string {
	issuer := s.Tokens.Issuer()
	if c.Public() {
		return "curl '" + issuer + "/token' \\\n  --data-urlencode 'client_id=" + strings.ReplaceAll(c.ID, "'", `'\''`) +
			"' \\\n  -d grant_type=password -d username=NAME \\\n  --data-urlencode 'password=PASSWORD'"
	}
	line := "curl -u '" + url.QueryEscape(c.ID) + ":" + c.Secret + "' " // in Basic, both are form-encoded (RFC 6749 section 2.3.1)
	switch {
	case c.May(clients.ClientCredentials):
		return line + "\\\n  '" + issuer + "/token' -d grant_type=client_credentials"
	case c.May(clients.Password):
		return line + "'" + issuer + "/token' \\\n  -d grant_type=password -d username=NAME \\\n  --data-urlencode 'password=PASSWORD'"
	default:
		return line + "\\\n  '" + issuer + "/introspect' -d token=ACCESS_TOKEN"
	}
}

func (s *Console) showClient(v *visit) error {
	c, err := s.Clients.Get(v.ctx(), v.Query("id"))
	if err != nil {
		return err
	}
	return s.showClientForm(v, http.StatusOK, &c, formOf(&c))
}

// showClientForm shows the client's page, with the form as it is filled in.
func (s *Console) showClientForm(v *visit, status int, c *clients.Client, f clientForm) error {
	return s.show(v, status, "client", page{Title: c.Name, Section: "Clients", Data: map[string]any{
		"Client": c, "Form": f, "Own": c.ID == ClientID,
	}})
}

func (s *Console) updateClient(v *visit) error {
	c, f := v.readClient()
	stored, err := s.Clients.Get(v.ctx(), v.form("client_id"))
	if err != nil {
		return err
	}
	c.ID, c.Disabled = stored.ID, stored.Disabled
	f.ID, f.Kind = stored.ID, kindOf(&stored)
	if len(f.Problems) == 0 {
		updated, err := s.Clients.Update(v.ctx(), c, v.origin())
		switch {
		case err == nil && updated.Secret != "":
			return s.showSecret(v, &updated, "The client is saved, and has a secret now.")
		case err == nil:
			s.redirect(v.Context, "/client", "id", c.ID, "done", "client-saved")
			return nil
		case !f.blame(err):
			return err
		}
	}
	return s.showClientForm(v, http.StatusUnprocessableEntity, &stored, f)
}

// overlaps are for how long the old secret may stay good.
var overlaps = map[string]time.Duration{"0": 0, "1h": time.Hour, "24h": 24 * time.Hour, "7d": 7 * 24 * time.Hour}

func (s *Console) rotateSecret(v *visit) error {
	c, err := s.Clients.Get(v.ctx(), v.form("id"))
	if err != nil {
		return err
	}
	overlap, known := overlaps[v.form("overlap")]
	problem := ""
	switch {
	case c.Public():
		problem = "This client is public, and has no secret."
	case !known:
		problem = "Choose for how long the old secret stays good."
	case v.form("version") != strconv.FormatInt(c.Version, 10): // such as this very form, sent again
		problem = "The client was changed since this page was opened, perhaps by you: nothing was done. Rotate again if you want one more secret."
	}
	if problem != "" {
		f := formOf(&c)
		f.Problems = map[string]string{"": problem}
		return s.showClientForm(v, http.StatusConflict, &c, f)
	}
	c, err = s.Clients.RotateSecret(v.ctx(), c.ID, overlap, v.origin())
	if err != nil {
		return err
	}
	return s.showSecret(v, &c, "The client has a new secret.")
}

func (s *Console) enableClient(v *visit) error {
	c, err := s.Clients.SetDisabled(v.ctx(), v.form("id"), false, v.origin())
	if err == nil {
		s.redirect(v.Context, "/client", "id", c.ID, "done", "client-enabled")
	}
	return err
}

func (s *Console) disableClient(v *visit) error {
	c, err := s.Clients.SetDisabled(v.ctx(), v.form("id"), true, v.origin())
	if err == nil {
		s.redirect(v.Context, "/client", "id", c.ID, "done", "client-disabled")
	}
	return err
}

func (s *Console) deleteClient(v *visit) error {
	err := s.Clients.Delete(v.ctx(), v.form("id"), v.origin())
	if err == nil {
		s.redirect(v.Context, "/clients", "done", "client-deleted")
	}
	return err
}

// confirmation is a page that asks before something is done that cannot be undone.
type confirmation struct {
	Question, Consequence, Warning string
	ID                             string
	Action, Button, Cancel         string // addresses of doing it and of not doing it, and what the button says
	Harmless                       bool   // nothing is lost by it
}

// confirmClient asks before something is done to a client.
func (s *Console) confirmClient(what string) handler {
	return func(v *visit) error {
		c, err := s.Clients.Get(v.ctx(), v.Query("id"))
		if err != nil {
			return err
		}
		q := confirmation{ID: c.ID, Cancel: s.url("/client", "id", c.ID)}
		switch what {
		case "client-disable":
			q.Question, q.Action, q.Button = "Disable “"+c.Name+"”?", s.url("/client/disable"), "Disable the client"
			q.Consequence = "Its sessions and tokens end at once and for good, and it can get no new ones until it is enabled again."
		default:
			q.Question, q.Action, q.Button = "Delete “"+c.Name+"”?", s.url("/client/delete"), "Delete the client"
			q.Consequence = "Its sessions and tokens end at once, and its id and secret are good for nothing any more. This cannot be undone."
		}
		if c.ID == ClientID {
			q.Warning = "This is the client of the console itself: you and everybody else will be logged out of it."
			if what == "client-disable" {
				q.Warning += " To turn it on again: signet client enable " + ClientID
			}
		}
		return s.show(v, http.StatusOK, "confirm", page{Title: q.Button, Section: "Clients", Data: q})
	}
}
