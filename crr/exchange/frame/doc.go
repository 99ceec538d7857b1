// Package frame is the format in which two nodes that are both sites of some tenants tell each other what they have, and bring
// each other what they lack: one connection carries all of their tenants. FORMAT.md is the specification.
//
// What holds:
//
//   - A stream is frames, each with its length and a CRC-32C. A frame has one encoding: what [Reader] returns is encoded to the same bytes again.
//   - No frame is larger than [MaxFrame], so that none delays another tenant's for long.
//   - No decoder panics, none allocates more than a small multiple of a frame's length, and none reads past a frame.
//   - Decoders check form. What the batches of package crr inside say is that package's to check; whether a frame has its place
//     is package exchange's.
package frame
