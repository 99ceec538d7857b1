// Package txn is the binary format of one log entry: a transaction of one
// tenant, a part of a large one, or a control entry. The Raft log and the
// streams between nodes carry the same bytes; FORMAT.md is the specification.
//
// What holds:
//
//   - An entry is header, body and CRC-32C trailer. A header is decoded without
//     looking at the body, without allocating, in time that does not depend on
//     the body: whoever applies entries to the log looks at headers alone.
//   - The encoding is deterministic: the same header and pages give the same
//     bytes, and each decoder refuses what the encoder would not have written
//     in the header, so that decoding and encoding again is the identity for
//     entries of the newest version.
//   - No decoder panics, and none allocates more than a small multiple of a page,
//     whatever its input. Errors are *FormatError, or *VersionError for an entry
//     of another version.
//   - Decoders check form. Whether an entry fits a tenant's position is for its
//     receiver, and whether a page came out right is told by its sum: see
//     Page.Build.
//
// Bodies of pages may be of any length: Encoder.Drain and PageReader handle those
// that lie in files.
package txn
