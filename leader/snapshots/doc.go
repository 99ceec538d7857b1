// Package snapshots keeps the Raft snapshots of one group: a raft.SnapshotStore
// over disk.FS.
//
// A snapshot is one file (FORMAT.md) with a checksum of all of it. It appears
// under its name when it is complete and durable, or not at all. What is
// snapshotted is a manifest, so snapshots are small: they are read whole, and
// refused above Config.Limit.
//
// The newest Config.Retain snapshots are kept. A snapshot that is damaged is
// not listed; whoever restores an older one instead must see whether its log
// reaches back that far.
package snapshots
