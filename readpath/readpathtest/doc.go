// Package readpathtest is a model of a cluster around packages readpath and replica: groups whose primaries come and go, nodes with
// clocks of their own that follow and feed each other over a simulated network, and a checker that knows what was answered when.
//
// What is modelled is what those packages rely on: logs, voters, copies, catalogues. What they do themselves is the real thing. A
// [Faults] breaks one of the things relied on, so that a test can see that the checker notices.
//
// All of it runs in a testing/synctest bubble, on virtual time.
package readpathtest
