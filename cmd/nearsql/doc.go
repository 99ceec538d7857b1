// Command nearsql runs a node and talks to one.
//
// Its verbs, flags, config file and exit codes are described in docs/cli.md. It
// reads flags into a sqlnode.Config, handles signals, prints, and exits: what a
// node does is in package sqlnode, and how one is spoken to in sqlnode/client.
package main
