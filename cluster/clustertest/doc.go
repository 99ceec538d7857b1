// Package clustertest is networks for tests of clusters: [Network] in memory, for testing/synctest bubbles, and [Proxy] between real
// processes.
//
// What holds of a Network:
//
//   - A connection is a buffered stream each way, as TCP's: writes wait only when the window is full, deadlines work, what was
//     written before Close arrives, bytes keep their order whatever happens to delays.
//   - A link is all that goes from one node to another, one way. Its delay counts from the write. When it is cut, or held, connections stall and
//     do not end; what has arrived before can be read; the rest arrives at once when it heals, if its time has come.
//   - A cut link takes nothing of new connections either: while a way is cut, dials hang until it heals or their context ends. A held link
//     lets connections open, but not their bytes.
//   - A killed node is a killed process: its connections and listeners end, the other ends see a reset, once that gets through to them. To
//     cut the power, isolate the node first.
//   - There are no goroutines of its own and no timers but those of who waits, so a bubble's time goes on when all wait, and a test's last
//     goroutine ends when its connections are closed.
//
// What a Network does not have: loss that is not made up for, bandwidth, and delays of acknowledgements (the window opens when the
// other end reads).
//
// [crypto/tls] and others hold a mutex while they write; a goroutine that waits for such a mutex holds up a bubble's time. So a test whose writes
// stall in a full window wants a larger one.
package clustertest
