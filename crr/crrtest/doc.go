// Package crrtest has what tests of conflict-free tables need: a connection over the
// database/sql driver of modernc.org/sqlite that meets crr.Conn, and sites on files of a test.
//
// A node's own connections are those of its engine; they are bound there.
package crrtest
