// Package client speaks the native HTTP API of a node (docs/api.md): SQL with
// answers that stream row by row, and the tenants of the node.
//
// What holds:
//
//   - Integers are exact, reals stay reals, blobs are bytes: a wire.Value that
//     goes through a node and back is the same.
//   - An error that the node gave is a *wire.Error; an *UnreachableError says that
//     the request did not get to a node, or its answer not back; an *AnswerError
//     that what answered does not speak this API.
//   - Nothing is sent twice and no redirect is followed: whether to try again is
//     the caller's to decide, by wire.Error.Retryable.
//   - An answer that is read row by row takes the memory of one row; one that is
//     collected is bounded by Options.MaxAnswer.
package client
