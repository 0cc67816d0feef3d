// Package api serves Signet's own JSON: the admin API under /admin, for those who look after clients, users, sessions, keys
// and the record, and the account API under /account, for users who look after themselves.
//
// It turns a request into a call of the same services that the command line uses, and their errors into answers that name
// the member or parameter that is wrong. Whom a call speaks for is decided by tokens.Authorize, before anything else of it
// is looked at.
package api
