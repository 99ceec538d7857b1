// Package pagestore keeps SQLite databases as page versions under SQLite, and a
// group of them as the state machine that a log drives.
//
// A Store is one copy of one database: a base file, and the pages committed since. Readers pin a
// version and see it whole, whatever is written, checkpointed or cut off meanwhile; the one
// writer has a private write set and publishes it at its commit point. A Group has the
// stores of all tenants of one Raft group and their files, and applies the group's log.
//
// What holds:
//
//   - A reader sees exactly one committed state from its first page to its last.
//   - A transaction is published whole or not at all; what can refuse it does so where SQLite
//     still rolls back cleanly.
//   - A version built from the log has the bytes of the one that was written, or is
//     not shown: each page's sum and the checksum of the whole are checked first.
//   - After a crash at any moment, what the log holds is there, and nothing else.
//   - Every page that is read from a file is checked against the sum that was written for it.
//
// DESIGN.md has the argument for that, FORMAT.md the files. All code that knows SQLite's C
// structures is here and in package sqlite below.
package pagestore
