// Package authorizations keeps what clients ask of users, what users allow them, and the codes that come of it.
//
// A request that was found valid travels through the browser sealed, bound to that browser: until its user has logged in, nothing
// of it is in the database. What a user allowed is remembered as a consent. A code names the session that it will begin; to redeem
// it, one statement deletes its row and inserts the session's.
package authorizations
