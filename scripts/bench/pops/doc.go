// Command pops measures what followers cost: nodes without a vote that keep copies of all tenants, each in a PoP of its own. All nodes run in
// this process, over a network in memory whose bytes are counted, on files in memory where the system has such.
//
// What it can't tell apart is whose CPU time was used: that of a transaction is the whole process's, with 0, 5 and 20 followers,
// and a follower's is the slope.
package main
