// Package peers keeps where the other nodes of the cluster are reached, in a file of the data directory: it is what a
// node dials at its start, before it has a catalogue to look into.
//
// What holds:
//
//   - After a crash the file is what one Set wrote, whole.
//   - What Set was given counts at once, also if it could not be written; the next Set tries again.
//   - A node that was removed has no address.
//   - Resolve and Removed never wait for a disk.
//
// FORMAT.md describes the file. Locks: Peers.writing before Peers.mu.
package peers
