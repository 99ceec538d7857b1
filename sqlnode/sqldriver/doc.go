// Package sqldriver is database/sql on a node in the same process: no address, no token, and for a read that this node's copy is
// fresh enough for, no network.
//
//	db := sqldriver.Open(node, "acme", sqldriver.MaxStaleness(time.Second))
//	db.QueryRowContext(ctx, "select name from users where id = ?", id).Scan(&name)
//
// What holds:
//
//   - A statement is a request: one transaction, answered when it is durable. Several that are one transaction are [Batch].
//     There are no interactive transactions: BeginTx is an error that says so.
//   - A *sql.DB is a session, whichever of its connections is used: a read sees at least what every earlier request of the
//     same DB wrote, or was shown to its end. What can't be shown that yet waits, or is answered by another node.
//   - Values are as SQLite has them: integers exact, blobs as []byte, NULL as nil. The one exception are columns
//     declared DATE, DATETIME or TIMESTAMP; see below.
//   - An error of nearsql is a *wire.Error, for errors.As. Nothing is sent twice behind the caller's back: no error is driver.ErrBadConn.
//   - The end of a context ends the request. A write that was under way then may have happened: UNKNOWN_OUTCOME says so where it may have.
//   - A connection is a name for the node and holds nothing of it: limits of the pool bound requests at a time, and nothing else.
//
// # Arguments
//
// An argument may be nil, any kind of integer (uint64 up to 2^63-1), float, bool (as 0 or 1), string (UTF-8), []byte (nil is NULL), a
// wire.Value, or a driver.Valuer of these. All arguments are by position, or all are sql.Named.
//
// # Times
//
// SQLite has no type for times. A time.Time is stored as text in UTC as CURRENT_TIMESTAMP and SQLite's functions have it, with a
// fraction if it has one: 2006-01-02 15:04:05.999999999. Such texts sort as the times do. In the other direction a text in a column
// declared DATE, DATETIME or TIMESTAMP, in one of the forms of SQLite's date functions, is given as a time.Time, in UTC where it names
// no zone, unless the option [TimesAsText] is set. Integers and reals in such columns are given as they are. An expression has no
// declared type: its text is text.
//
// # Sessions
//
// What a result showed counts for the session when its last row was read. When rows are closed before, and when a write
// failed by a constraint, or with an outcome that is not known, the session can't know what was shown: its next request asks for consistency=strong. An error
// BOOKMARK_LOST says that history was lost, by a restore or a recovery; the session begins anew with the request after it.
package sqldriver
