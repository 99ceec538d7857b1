package catalogue

import (
	"context"
	"fmt"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// Writer changes the catalogue. Each operation is one transaction, and has no
// effect when it returns an error, unless that has the code UNKNOWN_OUTCOME: then it can be sent again.
// AsWire gives the codes of the errors.
type Writer struct {
	db  DB
	now func() time.Time
}

// NewWriter returns a Writer over the primary's copy of the catalogue. now is the time of day for what rows tell of times.
func NewWriter(db DB, now func() time.Time) *Writer { return &Writer{db: db, now: now} }

// next is the version for the rows that a transaction changes.
const next = `(SELECT value + 1 FROM meta WHERE key = 'version')`

// bump is the last change of a transaction: it counts the version, if a row got it.
const bump = `UPDATE meta SET value = value + 1 WHERE key = 'version' AND
	(EXISTS (SELECT 1 FROM tenants WHERE version > meta.value) OR EXISTS (SELECT 1 FROM groups WHERE version > meta.value)
	OR EXISTS (SELECT 1 FROM nodes WHERE version > meta.value))`

// change runs changes as one transaction, and what is asked after them; it returns the answers to asked.
// What was changed, and why not, is told from the rows that are there then: so it does not matter whether
// this transaction changed them or an earlier one, whose answer was lost.
func (w *Writer) change(ctx context.Context, what string, changes []wire.Statement, asked ...wire.Statement) ([]wire.Result, error) {
	all := append(append(changes, stmt(bump)), asked...)
	results, err := w.db.Exec(ctx, all)
	if err != nil {
		return nil, fmt.Errorf("catalogue: %s: %w", what, err)
	}
	if len(results) != len(all) {
		return nil, fmt.Errorf("catalogue: %s: %d results for %d statements", what, len(results), len(all))
	}
	return results[len(changes)+1:], nil
}

// askNode, askGroup and askTenant read one row.
func askNode(id string) wire.Statement {
	return stmt(`SELECT `+nodeColumns+` FROM nodes WHERE id = ?1`, wire.Text(id))
}

func askGroup(id wire.GroupID) wire.Statement {
	return stmt(`SELECT `+groupColumns+` FROM groups WHERE id = ?1`, wire.Integer(int64(id)))
}

func nodeOf(r wire.Result) (n Node, found bool, err error) {
	if len(r.Rows) == 0 {
		return Node{}, false, nil
	}
	n, err = readNode(r.Rows[0])
	return n, err == nil, err
}

func groupOf(r wire.Result, id wire.GroupID) (Group, error) {
	if len(r.Rows) == 0 {
		return Group{}, &NoSuchGroupError{ID: id}
	}
	return readGroup(r.Rows[0])
}
