// Package tokens is the heart of Signet: sessions, the refresh tokens that keep them going, the access tokens that they
// issue, and the questions "is this token good?" (introspection) and "make it bad" (revocation).
//
// A session is one row. Its refresh tokens carry its id, a sequence number and a secret, authenticated under a key that
// the database does not hold; the row holds the number of the one refresh token that is current and the digest of the
// secret. To use a refresh token is to move the row from its number to the next, in one statement that compares and
// sets. A successor follows from the token that was presented, so that the same use, repeated, gives the same successor.
package tokens
