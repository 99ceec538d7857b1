// Command rqlite measures a cluster of three nearsql nodes beside one of three rqlite nodes, and beside what this machine can do at best:
// raft-wal alone with the same payload, and a bare HTTP server.
//
//	scripts/bench-rqlite [--quick]
//
// Both clusters run on this machine at the same time, in processes of their own, with plain connections between nodes, and take turns under the same
// load generator (scripts/bench/load); who has no turn is idle. Both are durable: a write is answered when a majority of voters has it on disk. rqlite runs
// with its defaults: its Raft log (BoltDB) is synced, its SQLite file is on disk. Requests have the same rows, sizes and numbers of connections; those to
// nearsql carry a token, which it checks.
//
// Results are lines
//
//	figure NAME VALUE UNIT
//
// A ratio (x) is ours to theirs, so that larger is better, and the median of three rounds. Remarks begin with #.
package main
