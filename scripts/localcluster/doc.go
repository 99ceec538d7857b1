// Package localcluster runs a cluster of real nearsql processes on this machine, for demonstrations, benches and fault runs.
//
// Each node has a data directory, a public and a cluster port on loopback, and a PoP of its own; nodes know each other by certificates made for the run.
// Nodes can be killed, stopped in order, paused and started again. With links, all that goes from one node to another goes through this
// process, which can cut, delay and count each way of each pair: a relay stands before each node's cluster port, and asks the system which
// node dialled it, so links are for Linux. Where a way is cut connections stall and do not end; a new one is taken, since only the system could
// leave it hanging, but nothing passes.
//
// Nodes end with this process, also if it is killed (on Linux).
package localcluster
