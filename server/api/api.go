package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"signet/audit"
	"signet/authorizations"
	"signet/clients"
	"signet/keys"
	"signet/logins"
	"signet/mail"
	"signet/proofs"
	"signet/server/oauth"
	"signet/tokens"
	"signet/users"
)

// Server answers the admin and the account API.
type Server struct {
	clients *clients.Service
	users   *users.Service
	tokens  *tokens.Service
	keys    *keys.Service
	mails   *mail.Service
	proofs  *proofs.Service
	audit   audit.Store

	logins         *logins.Service
	authorizations *authorizations.Service

	loginFailed func(error)
}

// New returns a server on the domain's services. LoginFailed is told of passwords that were wrong.
func New(d oauth.Services, a audit.Store, loginFailed func(error)) *Server {
	return &Server{
		clients: d.Clients, users: d.Users, tokens: d.Tokens, keys: d.Keys, mails: d.Mails, logins: d.Logins, authorizations: d.Authorizations,
		proofs: d.Proofs, audit: a, loginFailed: loginFailed,
	}
}

// Routes adds the endpoints to r. Its paths have to be escaped ones: the id of a client may hold a slash.
func (s *Server) Routes(r gin.IRouter) {
	admin := func(method, path string, answer handler, query ...string) {
		r.Handle(method, "/admin"+path, s.serve(s.admit, answer, query))
	}
	admin(http.MethodPost, "/clients", s.createClient)
	admin(http.MethodGet, "/clients", s.listClients, paged()...)
	admin(http.MethodGet, "/clients/:id", s.getClient)
	admin(http.MethodPut, "/clients/:id", s.replaceClient)
	admin(http.MethodDelete, "/clients/:id", s.deleteClient)
	admin(http.MethodPost, "/clients/:id/secret", s.rotateSecret)
	admin(http.MethodPost, "/registration-tokens", s.createRegistrationToken)
	admin(http.MethodGet, "/registration-tokens", s.listRegistrationTokens, paged()...)
	admin(http.MethodDelete, "/registration-tokens/:id", s.revokeRegistrationToken)
	admin(http.MethodGet, "/scopes", s.listScopes, paged()...)
	admin(http.MethodGet, "/scopes/:id", s.getScope)
	admin(http.MethodPut, "/scopes/:id", s.describeScope)
	admin(http.MethodDelete, "/scopes/:id", s.forgetScope)
	admin(http.MethodPost, "/users", s.createUser)
	admin(http.MethodGet, "/users", s.listUsers, paged()...)
	admin(http.MethodGet, "/users/:id", s.getUser)
	admin(http.MethodPatch, "/users/:id", s.changeUser)
	admin(http.MethodDelete, "/users/:id", s.deleteUser)
	admin(http.MethodDelete, "/users/:id/sessions", s.endUserSessions)
	admin(http.MethodGet, "/users/:id/factors", s.listFactors)
	admin(http.MethodDelete, "/users/:id/factors", s.resetFactors)
	admin(http.MethodDelete, "/users/:id/factors/:factor", s.resetFactor)
	admin(http.MethodPost, "/users/:id/reset-link", s.makeResetLink)
	admin(http.MethodPost, "/invitations", s.invite)
	admin(http.MethodGet, "/sessions", s.listSessions, paged("user", "client")...)
	admin(http.MethodDelete, "/sessions/:id", s.endSession)
	admin(http.MethodGet, "/keys", s.listKeys, paged()...)
	admin(http.MethodPost, "/keys/rotate", s.rotateKey)
	admin(http.MethodDelete, "/keys/:id", s.revokeKey)
	admin(http.MethodGet, "/audit", s.listEvents, paged("type", "user", "client", "since")...)

	account := func(method, path string, answer handler, query ...string) {
		r.Handle(method, "/account"+path, s.serve(s.admitUser, answer, query))
	}
	account(http.MethodGet, "", s.getAccount)
	account(http.MethodPost, "/password", s.changePassword)
	account(http.MethodGet, "/sessions", s.listOwnSessions, paged()...)
	account(http.MethodGet, "/factors", s.listOwnFactors)
	account(http.MethodPost, "/factors", s.addOwnFactor)
	account(http.MethodDelete, "/factors/:id", s.removeOwnFactor)
	account(http.MethodGet, "/consents", s.listConsents)
	account(http.MethodDelete, "/consents/:id", s.withdrawConsent)
	account(http.MethodDelete, "/sessions/:id", s.endOwnSession)
	account(http.MethodDelete, "/sessions", s.endOtherSessions)
}

// paged are the parameters of a list that comes in pages, with the filters that it has.
func paged(filters ...string) []string { return append(filters, "limit", "cursor") }

// reply is a good answer. Without a body it is empty.
type reply struct {
	status int
	body   any
}

func ok(body any) reply { return reply{http.StatusOK, body} }

var noContent = reply{status: http.StatusNoContent}

// handler answers a call that was admitted.
type handler func(c *call) (reply, error)

// serve returns what admits a request with these parameters in its query, and answers it.
func (s *Server) serve(admit func(c *gin.Context) (*call, error), answer handler, query []string) gin.HandlerFunc {
	return func(c *gin.Context) {
		in, err := admit(c)
		var out reply
		if err == nil {
			in.query, err = readQuery(c.Request.URL.RawQuery, query)
		}
		if err == nil {
			out, err = answer(in)
		}
		switch {
		case err != nil:
			fail(c, err)
		case out.body == nil:
			c.Status(out.status)
		default:
			c.Header("Content-Type", "application/json")
			c.JSON(out.status, out.body)
		}
	}
}
