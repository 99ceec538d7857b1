// Package replica passes the transactions of tenants from the nodes that vote on them to those that only hold them, and knows
// what each such copy contains.
//
// What holds:
//
//   - A copy changes only by entries that follow its position, and by copies and LTX files that the [Sink] has checked. What a feeder
//     sends that is not what it should be closes the connection, and leaves the copy as it was.
//   - [Follower.Fresh] counts a mark for a tenant only when the tenant was joined before the mark, on the same connection, and
//     only once all that came before the mark has been handed to the Sink.
//   - A node that follows may feed others. It passes a mark on after it has applied it, and answers a question only by one that it
//     sent itself after the question came. A ring of feeders makes nothing fresh, and breaks after 15 turns.
//   - What a tenant's record does not allow a node to have, it is not sent, whatever it asks ([Source].Admit).
//   - A tenant goes to a better feeder by a second subscription, and leaves the one before once it is joined there: a move makes nothing staler. Of two feeders
//     each must send what the other sent.
//   - What a follower does is in proportion to what changed, not to the tenants that it follows.
//   - A receiver that is slow, or stands still, costs a feeder a bounded amount of memory, and nobody time: what it misses in the [Tail]
//     it gets again as LTX or a copy.
//   - Tenants of one connection take turns, copies in pieces of 32 KiB.
//   - Run of [Feeder] and [Follower] returns after the last of their goroutines.
//
// A [Feeder] serves streams from a [Source]; a [Follower] keeps one stream to each feeder that it has chosen, and is half of a Source
// itself. The format is that of wire/stream.
//
// Locks: Follower.mu before Tail.mu. None is held while a Source, a Sink or a connection is called.
package replica
