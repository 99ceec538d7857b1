// Package stream is the format in which the nodes that hold a tenant pass its transactions on: one connection between
// two nodes carries any number of tenants. FORMAT.md is the specification, and says who sends what when.
//
// What holds:
//
//   - A stream is frames, each with its length and a CRC-32C. A frame has one encoding: what [Reader] returns is encoded to the
//     same bytes again.
//   - No frame is larger than [MaxFrame], so that none delays another tenant's, or a heartbeat, for long.
//   - No decoder panics, none allocates more than a frame's length, and none reads past a frame. Errors are *FormatError,
//     *VersionError, or the reader's own; io.EOF only between frames.
//   - Decoders check form. Whether a frame has its place in the conversation, and whether an entry is what it says, is for package
//     readpath.
//
// Entries inside are those of package txn, the same bytes as in the log of their group.
package stream
