// Package keys keeps what Signet signs and seals with: SIGNET_SECRET and the keys derived from it, and the signing
// keys of access tokens with their life cycle (next, current, retired) and their public JWK Set.
//
// Signing keys live in the database, sealed under SIGNET_SECRET, so that every replica signs with the same one. A [Ring]
// is one replica's copy, parsed once and followed by polling.
package keys
