package console

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"signet/clients"
	"signet/keys"
)

// clientKind is a sort of app that somebody registers, and what is sensible for it.
type clientKind struct {
	Name, Label, About string
	defaults           clients.Client
}

// codeGrants are the grants of an app whose users log in at Signet's own pages.
var codeGrants = []clients.Grant{clients.AuthorizationCode, clients.RefreshToken}

var clientKinds = []clientKind{
	{
		"web", "Web app", "Runs on a server that can keep a secret. Its users log in at Signet’s page and come back.",
		clients.Client{AuthMethod: clients.SecretBasic, Grants: codeGrants, Scope: clients.LoginScope},
	},
	{
		"spa", "Single-page app", "Runs in a browser, where no secret stays one. Its users log in at Signet’s page and come back.",
		clients.Client{AuthMethod: clients.None, Grants: codeGrants, Scope: clients.LoginScope},
	},
	{
		"native", "Native app", "Is installed on a phone or a desktop, where no secret stays one. Its users log in at Signet’s page in their browser.",
		clients.Client{AuthMethod: clients.None, Grants: codeGrants, Scope: clients.LoginScope, ApplicationType: clients.Native},
	},
	{
		"device", "Device without a browser", "A television, a box or a terminal. Its users log in on another device, with a code that it shows.",
		clients.Client{AuthMethod: clients.None, Grants: []clients.Grant{clients.DeviceCode, clients.RefreshToken}, Scope: clients.LoginScope},
	},
	{
		"machine", "Machine", "A service, a job or a script that gets tokens for itself, without a user.",
		clients.Client{AuthMethod: clients.SecretBasic, Grants: []clients.Grant{clients.ClientCredentials}},
	},
	{
		"api", "Resource server", "An API that receives access tokens and asks Signet whether they are good.",
		clients.Client{AuthMethod: clients.SecretBasic, Grants: []clients.Grant{}, ResourceServer: true},
	},
	{
		"fapi", "High-security app (FAPI 2.0)", "Runs on a server, and proves itself by a key of its own, as banks and health services ask of each other. What it gets is good for that server alone.",
		clients.Client{AuthMethod: clients.PrivateKeyJWT, Grants: codeGrants, Scope: clients.LoginScope, Profile: clients.FAPI2, IDTokenAlg: keys.ES256},
	},
	{
		"form", "App with its own login form", "A first-party app that asks for name and password itself. Take one of the others where you can.",
		clients.Client{AuthMethod: clients.SecretBasic, Grants: []clients.Grant{clients.Password, clients.RefreshToken}},
	},
}

// kindOf tells what sort of app a client looks like.
func kindOf(c *clients.Client) clientKind {
	if c.ID == ClientID {
		return clientKind{Name: "console", Label: "This console"}
	}
	name := "web"
	switch {
	case c.Profile == clients.FAPI2:
		name = "fapi"
	case c.May(clients.AuthorizationCode) && c.ApplicationType == clients.Native:
		name = "native"
	case c.May(clients.AuthorizationCode) && c.Public():
		name = "spa"
	case c.May(clients.AuthorizationCode):
	case c.May(clients.DeviceCode):
		name = "device"
	case c.ResourceServer:
		name = "api"
	case c.May(clients.Password):
		name = "form"
	case c.May(clients.ClientCredentials):
		name = "machine"
	case c.Public():
		name = "spa"
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

func (s *Console) newClient(v *visit) error {
	if v.Query("kind") == "" {
		return s.show(v, http.StatusOK, "client-kinds", page{Title: "Register a client", Section: "Clients", Data: clientKinds})
	}
	kind := kindNamed(v.Query("kind"))
	f := formOf(&kind.defaults)
	f.New, f.Kind, f.Spare, f.IDTokenAlg = true, kind, uuid.NewString(), string(cmp.Or(kind.defaults.IDTokenAlg, keys.RS256))
	return s.showNewClient(v, http.StatusOK, f)
}

func (s *Console) showNewClient(v *visit, status int, f clientForm) error {
	return s.show(v, status, "client-new", page{Title: "Register a client", Section: "Clients", Data: f})
}

func (s *Console) createClient(v *visit) error {
	c, f := v.readClient(clients.Client{})
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
		Data: map[string]any{"Client": c, "Curl": s.curl(c), "Issuer": s.Tokens.Issuer(), "Overlap": v.form("overlap")},
	})
}

// curl is a line for a shell that uses the client, or nothing: to log in by code takes a browser.
func (s *Console) curl(c *clients.Client) string {
	issuer := s.Tokens.Issuer()
	if c.May(clients.DeviceCode) && c.AuthMethod != clients.PrivateKeyJWT {
		who := "--data-urlencode 'client_id=" + strings.ReplaceAll(c.ID, "'", `'\''`) + "'"
		if !c.Public() {
			who = "-u '" + url.QueryEscape(c.ID) + ":" + c.Secret + "'"
		}
		return "curl " + who + " '" + issuer + "/device_authorization' \\\n  -d scope=openid"
	}
	if c.May(clients.AuthorizationCode) || c.AuthMethod == clients.PrivateKeyJWT || c.Public() && !c.May(clients.Password) {
		return ""
	}
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
		"Client": c, "Form": f, "Own": c.ID == ClientID, "Abilities": s.abilities(c),
	}})
}

func (s *Console) updateClient(v *visit) error {
	stored, err := s.Clients.Get(v.ctx(), v.form("client_id"))
	if err != nil {
		return err
	}
	c, f := v.readClient(stored)
	c.ID = stored.ID
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
	case !c.HasSecret():
		problem = "This client is public, or proves itself by keys, and has no secret."
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
