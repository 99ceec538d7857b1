package catalogue

import (
	"context"
	"fmt"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// isNew says that a catalogue has no cluster's id yet.
const isNew = `EXISTS (SELECT 1 FROM meta WHERE key = 'cluster' AND value = '')`

// Bootstrap makes the first rows of a cluster, if it has none: its first node, the groups `system`, which is founded, and
// `default`, which is not, both with that node as their voter and three as their target, and the tenant `system`. On a catalogue that has the cluster's id it does nothing. Its
// error is an *OtherClusterError when it has another.
func (w *Writer) Bootstrap(ctx context.Context, cluster string, first Node) error {
	if cluster == "" {
		return &InvalidError{Err: fmt.Errorf("the id of the cluster is empty")}
	}
	if err := first.Validate(); err != nil {
		return &InvalidError{Err: err}
	}
	insert, err := w.insertNode(first, isNew)
	if err != nil {
		return err
	}
	voters := listText([]string{first.ID})
	group := `INSERT INTO groups (` + groupColumns + `) SELECT ?1, ?2, ?3, 0, 3, '', ?4, '[]', '[]', '', 0, 0, ?5, ?5, ` + next + ` WHERE ` + isNew
	r, err := w.change(ctx, "bootstrap", []wire.Statement{
		stmt(group, wire.Integer(int64(SystemGroup)), wire.Text(SystemGroupName), voters, boolean(true), millis(w.now())),
		stmt(group, wire.Integer(int64(DefaultGroup)), wire.Text(DefaultGroupName), voters, boolean(false), millis(w.now())),
		stmt(`INSERT INTO tenants (`+tenantColumns+`) SELECT ?1, ?2, ?3, 'live', 1, '', ?4, `+next+` WHERE `+isNew,
			idValue(tenant.SystemID()), wire.Text(string(tenant.SystemName)), wire.Integer(int64(SystemGroup)), millis(w.now())),
		insert,
		stmt(`UPDATE meta SET value = ?1 WHERE key = 'cluster' AND value = ''`, wire.Text(cluster)),
	}, stmt(`SELECT value FROM meta WHERE key = 'cluster'`))
	if err != nil {
		return err
	}
	if len(r[0].Rows) != 1 {
		return fmt.Errorf("catalogue: bootstrap: the catalogue has no row for the cluster")
	}
	if have := r[0].Rows[0][0].Str(); have != cluster {
		return &OtherClusterError{Have: have, Want: cluster}
	}
	return nil
}
