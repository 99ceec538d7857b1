// Package load puts a server under load over HTTP/1.1 and says how it did.
//
// A Pool has a number of connections that stay open between runs, so that runs against several
// servers can take turns. In a run each connection sends its next request when the answer to the one
// before has come (a closed loop): what is measured is what so many patient clients get. Requests
// are made, and answers read, with as little work as can be, since the generator
// shares the machine with what it measures; it is for servers on loopback and in test clusters, not for
// the internet.
package load
