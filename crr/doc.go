// Package crr makes copies of conflict-free tables that saw the same changes, in any
// order, any number of times, equal.
//
// A file of conflict-free tables is attached to a connection as schema crr. Site is the one that writes it: local
// transactions through plain SQL, which generated triggers track, and batches of other sites, which it merges. Reader makes
// batches of what another site lacks, from one snapshot each. Who asks whom and when is the business of package exchange, which files are
// open and on which connection (Conn) that of the node; sites, their numbers and the order of changes of the schema come from the tenant's strong schema.
//
// What holds:
//
//   - The merged state is as if all transactions had run in the order of their stamps, except that an UPDATE touches only the incarnation of the row
//     that its site knew. Columns of kind LWW take the newest write; COUNTERs add up, and SET n = 5 replaces what its site had seen.
//   - The metadata of a row is written in the transaction that changes the row. What is rolled back, to a savepoint too,
//     leaves nothing; a write that is not tracked fails.
//   - Vector is exact: everything of a site up to its reading is in the file, in the same transaction that says so. A batch is merged whole
//     or not at all, and only when all that it follows is there; so a reader sees whole transactions, and all that they had seen.
//   - A site's number is never used for two histories: a file that is a copy, or older than what it sent, gives its number up.
//   - A batch that lies ahead of the clock is not merged, and nothing of it remembered, until its time has come.
//   - A tombstone is dropped when no member can contradict it; who comes back from before that is told to take a snapshot.
//
// Memory is bounded: a batch is read and written frame by frame (MaxFrame), the ring of changed rows and the statements kept have limits, a
// transaction and a batch have a most of rows.
//
// A Site and a Reader are each used by one goroutine at a time, on connections of their own; Site.Head and Site.Changed may be called from any
// goroutine. There is one lock, the ring's, under which nothing is called.
//
// DESIGN.md argues the merge and the decisions, FORMAT.md has the bytes, TESTING.md says which test holds which property.
package crr
