// Package users keeps the resource owners: their names, their passwords, and the count of failed logins that slows down
// whoever guesses.
package users
