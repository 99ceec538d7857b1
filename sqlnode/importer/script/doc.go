// Package script cuts SQL text into statements.
//
// It finds where a statement ends as sqlite3_complete() does
// (https://www.sqlite.org/c3ref/complete.html): at a semicolon that is not in a
// string, a quoted name, a comment, or the body of a CREATE TRIGGER. It knows no
// more of SQL than that: whether a statement means anything is SQLite's to say.
package script
