// Package playground is a page of signet dev on which somebody logs in as the users of an app do, and sees what goes to and fro: requests,
// answers and what is in the tokens. It plays the app: a public client that keeps its tokens on its server.
package playground
