// Package leadertest runs whole groups in one process, in a bubble of package
// testing/synctest: on virtual time, on disks in memory (package disktest), over a network in
// memory whose connections can be delayed and held back, each direction alone.
//
// A node can be stopped, killed, or lose its power with what it had not
// synced; it starts again on what its disk kept. A proposal is answered
// as by a node that dies with it: what a killed node says after its death counts as unknown.
package leadertest
