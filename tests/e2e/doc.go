// Package e2e tests nearsql as its users have it: the binary, in processes of its
// own, on a real disk, over HTTP and the command line.
//
// All of it is in tests; docs/testing.md says what they show, and how to run them longer.
package e2e
