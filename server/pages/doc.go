// Package pages is what users see of Signet: the pages to log in, to consent and to log out, and those that say why there is no other.
//
// They are made on the server and work without a script. What a user reads is in the catalogs, one for each language. Who may see
// what, and what a form does, is decided in package oauth.
package pages
