// Package clients keeps the registered client applications (RFC 6749 section 2): what they may ask for, and how they
// prove who they are.
package clients
