// Package exchange brings the sites of conflict-free tables what they lack of each other.
//
// What holds:
//
//   - Sites that can reach each other, directly or by others, come to have the same: by pushes of what is new, which may be lost, repeated
//     or late; by pulls of what a vector lacks, which find all that pushes missed; and by heads, which find that something is missing.
//   - What is sent has been made durable here before ([Config.Durable]), and the node was told which of its transactions go out ([Host.Sent]).
//   - Only nodes that [Host.Peers] names as sites of a tenant get anything of it, and only from them is anything taken.
//   - A tenant has one pull at a time, of the nearest peer that has more; one push and one answer are read of its file at a time. Tenants take turns.
//   - Memory is bounded: whoever is slow loses pushes, and pulls them later. Nothing waits for a slow peer.
//   - [Exchange.PullAll] has returned a site as reached only when all that it had committed when the call began is here.
//   - Run returns after the last goroutine.
//
// Which files are open, on which connections, and who is a site, is the business of the [Host]. Merging, and what a clock that runs ahead
// does, is that of package crr. The format is that of package frame.
//
// Locks: there is one, Exchange.mu; under it neither the Host nor a connection is called.
package exchange
