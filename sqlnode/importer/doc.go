// Package importer looks at databases that come from outside before a node
// takes them in, and makes one from an SQL dump.
//
// What holds:
//
//   - A file that CheckFile passes is a whole SQLite database: its header is
//     sound, and SQLite's integrity_check finds nothing.
//   - FromSQL runs a dump in a database of its own. It can't open another file, and can't
//     grow beyond its bound. What it makes is to be checked like any other file.
//   - SQLite was not made to be given hostile files by the thousand. An Importer
//     that Child made does its work in a process of its own: the worst that a
//     file can do is end that process, and that is an error like others.
//
// The file is looked at through SQLite's own VFS, read only; taking it into a
// page store is the caller's part.
package importer
