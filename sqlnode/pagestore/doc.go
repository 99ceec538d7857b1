// Package pagestore runs SQLite on multi-version pages, and makes the copies of a group's
// tenants durable. It is the state machine under a group's log, and knows SQLite's C
// structures for everyone else.
//
// What holds:
//
//   - A connection sees one committed state from its first lock to its last: readers never wait
//     for the writer, a checkpoint, or absorption, nor these for readers. The one exception is
//     told by an error: past a memory budget the oldest readers end with ErrSnapshotTooOld.
//   - The writer goes on from its own commits while they are on their way through the log. Nobody
//     else sees them before Apply has met their entries. If they are lost, every open
//     connection is refused with ErrReplaced, and the store goes on from what is committed.
//   - What can refuse a commit does so where SQLite still rolls back cleanly. A COMMIT that
//     said ok has handed its entries to the log.
//   - Apply decides from headers alone and alike on every copy. Pages are built and compared with the
//     sums and the checksum of their entry before they are visible. A copy that comes out
//     otherwise goes out of service; the other tenants of the group go on.
//   - After a crash at any point, the newest snapshot that the log kept and the entries after
//     it give every tenant byte for byte, whatever was torn.
//   - A page that is not what was written is found when it is read, and named: CorruptError.
//   - Memory, temporary space, queues and commits in flight are bounded.
//   - A snapshot of another node's log costs no time: tenants that this node lacks are hollow (ErrHollow)
//     until a copy of another node is read. It is checked page by page before it counts, and then
//     counts at once. So are copies that failed replaced. Where an older state is here, the pages that changed since are enough.
//   - A group without a log (Config.Streams) takes entries, changed pages and whole copies of each tenant for itself, and goes on after a crash from its
//     own newest manifest.
//
// A Group is driven by its log: Restore and Apply at the start, then Apply for each entry; Restore again
// when the log of another node passed this one by; Capture, Persist and Release for each snapshot;
// LostPrimary when leadership ends. Tenant.PinCopy here and Tenant.ReadCopy there bring a tenant over; Ailing lists the copies that
// want that, Ails tells of new ones. An Observer hears what takes effect, to pass it on to groups without a log: these are driven by Resume, Follow,
// ReadTenant, ReadChanges and Drop. A Tenant is opened by Acquire; connections come from Store.OpenReader and Tenant.OpenWriter.
//
// State of the process: SQLite's VFS is registered once, with a table of its open files.
//
// DESIGN.md argues why this is safe, FORMAT.md specifies the files. What SQL may run and who
// waits for which answer is the business of package engine; where entries come from, of leader.
package pagestore
