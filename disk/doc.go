// Package disk is the only way of nearsql to files.
//
// Every operation bears a name, such as "segment.create", which says what it
// is for; nothing depends on it but tests, which fail, tear, delay or crash
// operations by name or by number (package disktest).
//
// # Names
//
// A name is dotted and ends in a verb. What is done through an open File is
// named after the name it was opened with, its last part replaced: a file
// opened as "segment.create" is written as "segment.write", and so on with
// read, sync, truncate and allocate.
//
// # Durability
//
// The contract is that of POSIX, taken at its word, not that of one file
// system:
//
//   - What was written to a file survives a power loss once Sync, or SyncAll
//     with its name, has returned nil. Before, any part of it may survive.
//   - A file's name (created, renamed or removed) survives once SyncDir of its
//     directory has returned nil. The same holds for a directory made by
//     MkdirAll: each new level wants a SyncDir of the level above.
//   - After a Sync that failed, nothing written since the last good one may be
//     relied on, whatever later calls of Sync say.
//   - A killed process loses nothing that it had written.
package disk
