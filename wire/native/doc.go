// Package native is the JSON of our HTTP API: it reads requests and writes
// answers, as whole documents or as lines (NDJSON). FORMAT.md is the specification.
//
// What holds:
//
//   - Nothing is lost: integers are exact to 64 bits both ways, a real stays a real, and a
//     blob never becomes text. Text in a database that is not UTF-8 has its bad bytes
//     replaced by U+FFFD, since JSON can not carry them.
//   - What is not understood is refused by name: unknown and repeated fields, wrong
//     types (with their path), lone surrogates, bytes that are not UTF-8. Errors are *wire.Error.
//   - Reading takes one pass and memory in proportion to the body; nothing nests deeper than
//     the format does. Writing appends to a buffer and does not allocate in the steady state.
package native
