// Package sqlite keeps everything in one SQLite file, for a server that needs no other.
//
// Time is this process's, read once a statement or transaction has its turn to write: the file and the server share a clock.
// One connection writes, and its transactions take the write lock when they begin; the conditions of a change are checked
// in its statement or under that lock. Others read meanwhile (WAL). A change is on the disk when it is answered. Several
// processes, the server and the command line, may use the file at once.
package sqlite
