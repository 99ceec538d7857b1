// Package clienttest has a node for tests of what talks to one: the real HTTP
// API over a plain SQLite database in memory per tenant, without durability,
// limits or isolation.
package clienttest
