// Package sqlite is a thin binding of SQLite as modernc.org/sqlite/lib has it:
// SQLite's C code translated to Go. It is what the engine runs statements on.
//
// A Conn is one SQLite connection and a Stmt one of its prepared statements.
// Both are used by one goroutine at a time, in no-mutex mode; only
// Conn.Interrupt may be called from any goroutine at any time, also while the
// connection is being closed. Callbacks (authorizer, progress, functions) run
// on the goroutine that prepares or steps, and must not close the connection or
// end the statement that they are called for. A callback that panics takes the
// panic through SQLite's frames: the connection, and what it shares with
// others, is then in no known state and the process has to end.
//
// Nothing Go owns is seen by SQLite: text and blobs are copied once into C
// memory, callbacks are found by a number in a table, and what SQLite returns
// is copied unless a method says otherwise. Methods on a closed Conn or a
// finalized Stmt return an error with code CodeMisuse, or a zero value.
//
// InstallPageCache replaces SQLite's page cache, which is one list under one
// mutex for the whole process, by one list per connection with a budget for
// all of them.
//
// State of the process: SQLite has one configuration and one initialization
// per process, so this package has too. It initializes SQLite when the first
// Conn is opened; a page cache is installed before that or never. The table of
// callbacks is process-wide as well; an entry lives as long as its Conn.
//
// SQL, policy and pooling are the business of the callers; the VFS under a
// Conn is that of package pagestore.
package sqlite
