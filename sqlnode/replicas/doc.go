// Package replicas keeps copies of tenants on a node that does not vote on them, and passes tenants on to such nodes: it is the
// Sink and the Source of package readpath/replica over pagestore.
//
// What holds:
//
//   - A copy here is byte for byte what a voter had at its position. Entries, changed pages and whole copies are checked against
//     their sums before anybody sees them; a copy that comes out otherwise, or whose pages rot, goes out of service and is fetched anew.
//   - A copy that is replaced serves until the other one is whole and durable.
//   - After a crash at any point each copy is what it was at a checkpoint, or a whole copy that came after it, and goes on from there. What
//     came later is fetched again: checkpoints bound how much that is.
//   - A copy that was dropped is gone from the disk, but for pages in segments, which Erase removes at once.
//   - Feeding takes entries from memory, and catching up by pages that changed where the files tell them, else by whole copies.
//
// A [Set] has one pagestore group in DIR/GROUP for each Raft group whose tenants it follows. A [Lane] is the tail of a group that this
// node votes in: its pagestore.Observer. A [Source] feeds from both. The formats are pagestore's (FORMAT.md there): what goes as an LTX file on
// the stream is a copy of version 2, the pages that changed behind a header with the tenant's record and index.
package replicas
