// Package wire has the words that cross a boundary: values, statements, requests
// and answers, positions, and errors. Its sub-packages are the formats in which they
// travel: txn (log entries), native (the JSON API), stream (what replicas follow), in
// the envelope of envelope.
//
// What holds:
//
//   - It imports nothing else of ours, and does no I/O beyond io.Reader and io.Writer.
//   - Values are immutable; an integer is 64 bits all the way, and no text or blob
//     is changed on its way.
//   - Each failure that a client may meet has a Code, and one table says for each
//     Code its HTTP status, whether the request may be repeated as it is, and
//     what it means. A Code is never renamed, nor given another meaning.
package wire
