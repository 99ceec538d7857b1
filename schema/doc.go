// Package schema reads the DDL of conflict-free tables, says whether a change
// is one that copies at many sites can survive, and plans it.
//
// The tables of the attached schema crr are written at every site and merged, so
// not everything that SQLite can declare may be declared there: what two
// sites could break together without either of them breaking it (a unique index,
// a foreign key, a CHECK over two columns) is refused, with a *Refusal that says what
// to do instead.
//
// What holds:
//
//   - Parse takes the text of one statement and knows exactly the grammar below; all
//     else is an error. Expressions are kept as they are written.
//   - State.Plan is a function of the state and the change alone, never of
//     data: a change that one site could make is made by all. So ADD COLUMN demands
//     what SQLite demands only of tables with rows.
//   - Ids of tables and columns come from the order of the changes. Sites that
//     made the same changes have the same ids; an id is never used twice.
//   - Tables, once declared, keep their key and the kind and collation of each column.
//
// The grammar: CREATE TABLE with columns of SQLite's types or COUNTER; DROP TABLE;
// ALTER TABLE with RENAME TO, RENAME COLUMN, ADD COLUMN, DROP COLUMN; CREATE INDEX over
// plain columns; CREATE VIEW; DROP INDEX; DROP VIEW.
//
// Package crr runs plans in a file and keeps the state there; the order of the changes is
// the strong schema's, where they are numbered.
package schema
