// Package logstore keeps what one Raft group must not forget: its log, its
// term and its vote.
//
// The log's segments are those of github.com/hashicorp/raft-wal v0.4.0, their
// metadata is a file of our own (FORMAT.md). Store is a raft.LogStore and a
// raft.StableStore over both.
//
// # What it adds to raft-wal
//
//   - Every entry carries a checksum that is verified whenever it is read.
//   - What follows the last whole batch of the newest segment is cut off at
//     opening. raft-wal leaves it, and could later take stale frames for new ones.
//   - A segment that was sealed just before a crash is taken as sealed at
//     opening. raft-wal opens it as the tail and refuses every append for ever.
//   - A segment whose end was deleted can be read after opening it again.
//     raft-wal looks for an index that was never written.
//   - A batch in the newest segment that is damaged although later ones are
//     whole is reported as damage. raft-wal takes it for the end of the log.
//   - What is in the log at opening is made durable before raft relies on it:
//     a killed process may have written it without syncing it.
//
// # Errors
//
// The outcome of a failed operation is unknown, so a Store that had one error
// of its files has it for ever (Err, Failed), and its owner must end. raft
// panics when a term can't be stored or an entry can't be read; to let the
// owner end in order, a Store that has failed after Running answers those two
// calls as if they had worked. From Failed on, nothing that raft says may leave
// the process.
package logstore
