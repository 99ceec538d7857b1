// Package certs makes the certificates by which the nodes of a cluster know each
// other: an authority of the cluster's own, and one certificate for each node. Who has an
// authority already uses that; what a node wants of a certificate is said at Files.
package certs
