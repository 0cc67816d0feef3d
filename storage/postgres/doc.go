// Package postgres keeps everything in PostgreSQL, through pgx's native interface.
//
// Time is the database's. A statement that changes something checks, itself, all that the change depends on, and
// relies on READ COMMITTED looking at its conditions again after it waited for a row. No correctness rests on locks or
// settings that outlive a transaction, so that a pooler in transaction mode may stand in between.
package postgres
