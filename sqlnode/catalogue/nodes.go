package catalogue

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nearsql/nearsql/wire"
)

// Announce makes a node known, as active, or brings its row to what it says of itself; its state stays. Its error
// is a *RemovedError when the node was removed, an *IncarnationError when the id is that of another data directory.
func (w *Writer) Announce(ctx context.Context, n Node) error {
	if err := n.Validate(); err != nil {
		return &InvalidError{Err: err}
	}
	insert, err := w.insertNode(n, `true`)
	if err != nil {
		return err
	}
	r, err := w.change(ctx, fmt.Sprintf("announce node %q", n.ID), []wire.Statement{insert}, askNode(n.ID))
	if err != nil {
		return err
	}
	have, found, err := nodeOf(r[0])
	switch {
	case err != nil:
		return err
	case !found:
		return fmt.Errorf("catalogue: announce node %q: no row was made", n.ID)
	case have.Incarnation != n.Incarnation:
		return &IncarnationError{ID: n.ID}
	case have.State == NodeRemoved:
		return &RemovedError{ID: n.ID}
	}
	return nil
}

// insertNode puts n in the table, or its words in the place of those of the same incarnation, if the condition holds.
func (w *Writer) insertNode(n Node, condition string) (wire.Statement, error) {
	labels := []byte("{}")
	if len(n.Labels) > 0 {
		var err error
		if labels, err = json.Marshal(n.Labels); err != nil { // keys in order: the same labels have the same text
			return wire.Statement{}, fmt.Errorf("labels of node %q: %w", n.ID, err)
		}
	}
	return stmt(`INSERT INTO nodes (id, incarnation, pop, region, labels, cluster_addr, public_url, state, joined, version)
		SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, 'active', ?8, `+next+` WHERE `+condition+`
		ON CONFLICT (id) DO UPDATE SET pop = excluded.pop, region = excluded.region, labels = excluded.labels,
			cluster_addr = excluded.cluster_addr, public_url = excluded.public_url, version = excluded.version
		WHERE nodes.incarnation = excluded.incarnation AND nodes.state <> 'removed'
			AND (nodes.pop <> excluded.pop OR nodes.region <> excluded.region OR nodes.labels <> excluded.labels
				OR nodes.cluster_addr <> excluded.cluster_addr OR nodes.public_url <> excluded.public_url)`,
		wire.Text(n.ID), wire.Text(n.Incarnation), wire.Text(n.PoP), wire.Text(n.Region), wire.Text(string(labels)),
		wire.Text(n.ClusterAddr), wire.Text(n.PublicURL), millis(w.now())), nil
}

// inGroup says that the node ?1 is in the row of a group: declared, or reported. Ids are labels, so none is in quotation
// marks within another.
const inGroup = `(instr(voters, '"' || ?1 || '"') OR instr(member_voters, '"' || ?1 || '"') OR instr(member_learners, '"' || ?1 || '"'))`

// SetNodeState brings a node to a state. Its error is a *NoSuchNodeError, or a *NodeStateError when the node
// can't come to the state from the one it is in, or would be removed while it is in a group.
func (w *Writer) SetNodeState(ctx context.Context, id string, state NodeState) error {
	from := state.earlier()
	if from == nil {
		return &InvalidError{Err: fmt.Errorf("node state %.80q is unknown", string(state))}
	}
	args := []wire.Value{wire.Text(id), wire.Text(string(state))}
	marks := make([]string, len(from))
	for i, s := range from {
		args = append(args, wire.Text(string(s)))
		marks[i] = fmt.Sprintf("?%d", len(args))
	}
	sql := `UPDATE nodes SET state = ?2, version = ` + next + ` WHERE id = ?1 AND state IN (` + strings.Join(marks, ", ") + `)`
	if state == NodeRemoved {
		sql += ` AND NOT EXISTS (SELECT 1 FROM groups WHERE ` + inGroup + `)`
	}
	r, err := w.change(ctx, fmt.Sprintf("make node %q %s", id, state), []wire.Statement{stmt(sql, args...)},
		askNode(id), stmt(`SELECT name FROM groups WHERE `+inGroup+` ORDER BY id`, wire.Text(id)))
	if err != nil {
		return err
	}
	have, found, err := nodeOf(r[0])
	switch {
	case err != nil:
		return err
	case !found:
		return &NoSuchNodeError{ID: id}
	case have.State == state:
		return nil
	}
	e := &NodeStateError{ID: id, Have: have.State, Want: state}
	if state == NodeRemoved && have.State == NodeRemoving {
		for _, row := range r[1].Rows {
			e.Groups = append(e.Groups, row[0].Str())
		}
	}
	return e
}
