// Package quickhttp serves the requests of HTTP/1.1 that most clients send at a fraction of net/http's cost, and gives net/http every
// connection on which something else comes.
//
// A request is common if it is a GET without a body or a POST with one of a given length, of at most 64 KiB, with a head of at most 8 KiB in
// which nothing is out of the ordinary (see request.go for what that is). It is read whole, from
// bytes that a connection keeps until then. When it is not common, or does not arrive in time, nothing of it has been used up: the
// connection goes to net/http with all of its bytes, for good.
//
// What holds:
//
//   - A handler can't tell who serves it, but by the time that it takes: the request is what net/http would have made of the same bytes, and
//     the answer says the same. (A test sends both servers the same bytes and compares; so does a fuzz target.)
//   - What is malformed is never answered here: one parser decides about it, net/http's.
//   - A client that goes away is noticed, and the request's context ends; some 50 ms later than by net/http.
//   - Shutdown lets requests end, and no connection outlives Close.
//
// Where the time of net/http goes, that is spared here: a goroutine and a read for each request that wait for the client to go
// away, from the beginning; two goroutine switches to end them; timers; a map of headers written in order; the size of a request's own
// objects. Not for TLS (there HTTP/2 is likely, and net/http has that) and not for HEAD, bodies of unknown length, Expect or Upgrade.
package quickhttp
