// Package engine runs SQL of tenants on this node's copies.
//
// For each tenant it keeps one writer and a few readers, opened on demand and closed when idle. Reads
// run on the newest committed state, or within one transaction for a batch.
// Requests that write wait in line; those that wait together run in one SQLite
// transaction, each in a savepoint of its own, and share one entry of the log.
//
// What holds:
//
//   - No answer leaves before the state it was computed on is committed and
//     visible here: results, rows and errors alike. An answer without an entry
//     of its own also waits for a quorum's word that this node was the primary.
//   - A request of a group never sees, and is never hurt by, another's failure.
//   - Nothing of a request's session stays on a connection for the next one.
//   - A transaction writes the strong tables or the conflict-free ones. A local write of the latter is answered when this node's disk has
//     it, in a transaction that its requests share as those of main do.
//   - What a statement may do is decided by SQLite's authorizer, not by its text;
//     its text decides where it runs.
//
// The pages are pagestore's business; files of conflict-free tables are those of crrfiles; who the primary is and what is in the log, leader's.
package engine
