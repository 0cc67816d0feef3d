// Package oauth serves the OAuth 2.0 endpoints: /token (RFC 6749), /introspect (RFC 7662), /revoke (RFC 7009), and the
// documents that describe them, server metadata (RFC 8414) and the JWK Set (RFC 7517).
//
// A request is read once into a form, its client is authenticated before anything else is looked at, and then the room
// that the endpoint is about decides. The grants of /token are parsed and dispatched by go-oauth2's server, over a
// manager of our own; see manager.
package oauth
