// Package mail keeps what is to be written to people: links to set a new password or to make an account. A mail waits in an outbox, so
// that it outlives this process and holds up no request. What it says is made when it is sent: the outbox holds no link.
package mail
