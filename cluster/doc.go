// Package cluster owns the connections between the nodes of one cluster.
//
// What holds:
//
//   - A node has one cluster listener. Every connection to it begins with a hello that says which cluster, which node, which
//     purpose and which group it is for (FORMAT.md). The acceptor answers that it accepts, or why not, before either end
//     sends anything else. What is wrong with a connection is found then, and not by a protocol that meets a stranger.
//   - With TLS, the certificate of the other end is that of the node which it says it is, on both ends. Without TLS, a node is believed.
//   - A node that joins the cluster gets a connection for that alone, by which it asks once and is answered once ([AskJoin],
//     [Net.HandleJoin]); with TLS both ends have a certificate of the cluster.
//   - A node that Admit refuses gets no connection. Those that it has already end with [Net.Disconnect].
//   - An address is looked up when it is dialled. Connections know nodes by their ids, and so do [Acceptor.Addr] and the URLs of
//     [Net.HTTPTransport].
//   - Everything is bounded: the size of a hello, the time for it, the connections that are not through with it, the connections
//     in all, those that nobody has accepted yet, and the idle ones that are kept for further requests.
//   - [Net.Run] owns the package's goroutines and all connections, dialled ones too: when it has returned, none of them is left.
//
// What is sent over a connection, and whether the other end answers in time, is the business of those who open it. The network
// is injected, so that a cluster can live in one process on virtual time (package clustertest).
//
// Locks: Net.mu and Acceptor.mu; neither is held while the other is taken, and none while a connection is read, written or closed.
package cluster
