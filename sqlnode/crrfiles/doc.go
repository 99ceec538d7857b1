// Package crrfiles keeps the files of conflict-free tables that this node has: one
// SQLite file for each tenant that declared such tables, beside the pages of its strong schema.
//
// A file appears when the strong schema first names a conflict-free table, and goes with its tenant. Its
// schema and its members follow the tenant's strong schema: the tables __crr_ddl and __crr_site of main, which come through the
// log in one order for all nodes.
//
// What holds:
//
//   - Whoever writes a file does so alone, and on a schema that is as new as main was here when the turn began.
//   - A change of the schema is made in the order of its number, and once.
//   - A file that is damaged is out of service, and says so; no other file is, nor the tenant's strong schema. It is never removed, but put aside when it is rebuilt.
//   - A tenant without conflict-free tables has no file, no connection and no memory here.
//   - The connections that are open without being used are bounded, in number and in time.
//   - A file that went back, as by a restore from a copy, writes nothing under the number that it had (FORMAT.md: ID.db.sent).
//   - A file that changes can't bring up any more is replaced by a copy of another site's, and what it alone had is written anew,
//     once, however often the process ends meanwhile (DESIGN.md).
//   - Deletes that all sites have are forgotten, in turns of some milliseconds.
//
// What changes merge to is package crr's business, who asks whom for them that of package exchange, and what SQL may do
// that of package engine, which runs tenants' statements on a Writer's connection.
package crrfiles
