// Package logins keeps which browser somebody is logged in with: the login's secret, when and how its user proved who they are, and its
// end, together with that of the sessions that do not outlive it.
//
// A login is a row, made when somebody has proved who they are and not before. The browser holds its secret in a cookie, the
// database the secret's digest. Nothing is written when a login is used.
package logins
