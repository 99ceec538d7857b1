package crr

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/wire"
)

// table is a live table as the tracking and merging of one connection see it.
type table struct {
	def  *schema.Table
	cols []schema.Column // live; a column's place in it is its bit in masks
	lww  []uint32        // ids of the live LWW columns
	// defaults are the values of columns that were added later, for rows of sites that had not added them yet.
	defaults []wire.Value // by place
	metaName string
	stmts    tableStmts
}

func newTable(def *schema.Table) *table {
	t := &table{def: def, cols: def.Live(), metaName: fmt.Sprintf("__crr_m%d", def.ID)}
	for _, c := range t.cols {
		if c.Kind == schema.LWW {
			t.lww = append(t.lww, c.ID)
		}
	}
	t.defaults = make([]wire.Value, len(t.cols))
	return t
}

// place returns where a column stands among the live ones; -1 for one that is gone or not there.
func (t *table) place(id uint32) int {
	return slices.IndexFunc(t.cols, func(c schema.Column) bool { return c.ID == id })
}

// meta is the name of the table's metadata table.
func (t *table) meta() string { return t.metaName }

func (t *table) gone(id uint32) bool { return t.place(id) < 0 }

// loadDefaults computes the values of constant defaults.
func (t *table) loadDefaults(c Conn) error {
	for i, col := range t.cols {
		if col.Default == "" {
			continue
		}
		if err := query(c, "SELECT "+col.Default, func(s Stmt) error { t.defaults[i] = s.Column(0); return nil }); err != nil {
			return fmt.Errorf("default of %s.%s: %w", t.def.Name, col.Name, err)
		}
	}
	return nil
}

// names returns names quoted, each through format, joined by sep.
func names[T any](of []T, name func(T) string, format, sep string) string {
	out := make([]string, len(of))
	for i, x := range of {
		out[i] = strings.ReplaceAll(format, "%", schema.Quote(name(x)))
	}
	return strings.Join(out, sep)
}

func keyName(k schema.KeyColumn) string { return k.Name }

func columnName(c schema.Column) string { return c.Name }

func (t *table) keyNames(format, sep string) string { return names(t.def.Key, keyName, format, sep) }

// maxKey is the longest key, in bytes, that a row may have.
const maxKey = 64 << 10

var errKeyKind = errors.New("crr: the values of a primary key must be integers, texts or blobs")

// checkKey says whether a value may stand in a key, alone or packed.
func (t *table) checkKey(v wire.Value) error {
	if len(v.Str()) > maxKey {
		return fmt.Errorf("crr table %s: a primary key of %d bytes is longer than %d", t.def.Name, len(v.Str()), maxKey)
	}
	switch k := v.Kind(); {
	case len(t.def.Key) > 1 && k != wire.KindBlob, k == wire.KindNull, k == wire.KindFloat:
		return fmt.Errorf("crr table %s: %w", t.def.Name, errKeyKind)
	case len(t.def.Key) == 1 && t.def.Key[0].Class == schema.KeyInteger && k != wire.KindInteger:
		return fmt.Errorf("crr table %s: primary key column %s must hold an integer", t.def.Name, t.def.Key[0].Name)
	}
	return nil
}

// keyArgs returns the values of the key columns that a key stands for.
func (t *table) keyArgs(key wire.Value) ([]wire.Value, error) {
	if len(t.def.Key) == 1 {
		return []wire.Value{key}, nil
	}
	vs, err := unpackKey(key.Str())
	if err == nil && len(vs) != len(t.def.Key) {
		err = fmt.Errorf("%w: %d values in a key of %d columns", ErrCorrupt, len(vs), len(t.def.Key))
	}
	return vs, err
}
