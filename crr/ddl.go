package crr

import (
	"errors"
	"fmt"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/wire"
)

// ApplySchema makes the next change of the schema, in one transaction with the
// tables that describe it. A change that the file has already is skipped. What the change is not allowed to do was found where it was numbered; an
// error here means that this file differs from the others', and nothing is changed.
func (s *Site) ApplySchema(c schema.Change) error {
	if c.Version <= s.state.Version {
		return nil
	}
	p, err := s.state.Plan(c, nil)
	if err != nil {
		return err
	}
	if err := s.inTx(func() error { return s.runPlan(p) }); err != nil {
		return fmt.Errorf("change %d of the conflict-free schema: %w", c.Version, err)
	}
	s.state, s.me.schema = p.Next, c.Version
	if err := s.setTables(); err != nil {
		return err
	}
	s.publish()
	return nil
}

// CheckSchema says whether a change can be made, by making it and rolling it back. It is what decides before a change is numbered;
// strong says which names the strong schema has.
func (s *Site) CheckSchema(sql string, strong schema.Names) error {
	p, err := s.state.Plan(schema.Change{Version: s.state.Version + 1, SQL: sql}, strong)
	if err != nil {
		return err
	}
	err = s.inTx(func() error {
		if err := s.runPlan(p); err != nil {
			return err
		}
		return errUndo
	})
	if errors.Is(err, errUndo) {
		return nil
	}
	return err
}

var errUndo = errors.New("crr: rolled back on purpose")

func (s *Site) runPlan(p *schema.Plan) error {
	// Statements that are prepared would keep tables from being dropped.
	for _, t := range s.track.tables {
		t.stmts.close()
	}
	for _, t := range p.Touched {
		if t.Before == nil {
			continue
		}
		for _, n := range newTable(t.Before).triggerNames() {
			if err := s.conn.Exec("DROP TRIGGER IF EXISTS crr." + n); err != nil {
				return err
			}
		}
	}
	for _, sql := range p.SQL {
		if err := s.conn.Exec(sql); err != nil {
			return err
		}
	}
	for _, t := range p.Touched {
		if err := s.retrack(t); err != nil {
			return err
		}
	}
	return query(s.conn, "UPDATE crr.__crr_self SET schema=?", nil, wire.Integer(int64(p.Change.Version)))
}

// retrack makes what tracks a table follow its change.
func (s *Site) retrack(t schema.Touched) error {
	if err := storeTable(s.conn, t.After); err != nil {
		return err
	}
	tab := newTable(t.After)
	if t.After.Gone != 0 {
		return s.conn.Exec("DROP TABLE crr." + tab.meta())
	}
	if t.Before == nil {
		if err := s.conn.Exec(tab.metaTable()); err != nil {
			return err
		}
	}
	for _, sql := range tab.triggers() {
		if err := s.conn.Exec(sql); err != nil {
			return err
		}
	}
	return nil
}
