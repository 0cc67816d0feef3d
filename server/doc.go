// Package server is Signet's HTTP server: the public listener with the OAuth 2.0 endpoints, and the management listener
// with metrics and health. It keeps no state that another replica would have to know.
package server
