package schema

import (
	"fmt"
	"slices"
	"strings"
)

// Kind says how a column's values of two sites become one.
type Kind uint8

// The kinds of columns.
const (
	LWW     Kind = iota + 1 // the newest write wins
	Counter                 // differences add up
)

// String returns the name that the kind has in the file.
func (k Kind) String() string {
	switch k {
	case LWW:
		return "lww"
	case Counter:
		return "counter"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// KeyClass is the type that a key column is declared with.
type KeyClass uint8

// The classes of key columns.
const (
	KeyInteger KeyClass = iota + 1
	KeyText
	KeyBlob
)

// String returns SQLite's name of the class: a column declared so compares with the key by index.
func (c KeyClass) String() string {
	switch c {
	case KeyInteger:
		return "INTEGER"
	case KeyText:
		return "TEXT"
	case KeyBlob:
		return "BLOB"
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// KeyColumn is one column of the primary key.
type KeyColumn struct {
	Name  string
	Class KeyClass
}

// Column is one column outside of the key. Generated columns are none: each
// site computes its own.
type Column struct {
	ID      uint32 // in the table; never used twice
	Name    string // as of the newest version
	Kind    Kind
	Since   uint64 // version that brought it
	Gone    uint64 // version that dropped it; 0 while it is there
	Default string // constant SQL, of a column that ALTER TABLE added; else ""
}

// Table is one conflict-free table.
type Table struct {
	ID    uint32 // in the file; never used twice
	Name  string
	Since uint64 // version that brought it
	Gone  uint64 // version that dropped it; 0 while it is there
	// Key is the primary key, in its order. invariant: at least one column, the same for ever but for names.
	Key []KeyColumn
	// RowIDKey says that the key is SQLite's rowid (INTEGER PRIMARY KEY), which
	// SQLite would number by itself when an INSERT leaves it out.
	RowIDKey bool
	// Columns are all that ever were, by ascending ID.
	Columns []Column
}

// MaxColumns is how many columns a table may have besides its key: a change of
// a row is one bit for each in 64.
const MaxColumns = 63

// Live returns the columns that are there, in their order.
func (t *Table) Live() []Column {
	out := make([]Column, 0, len(t.Columns))
	for _, c := range t.Columns {
		if c.Gone == 0 {
			out = append(out, c)
		}
	}
	return out
}

// Column returns the live column with a name, whatever its case.
func (t *Table) Column(name string) (Column, bool) {
	for _, c := range t.Columns {
		if c.Gone == 0 && strings.EqualFold(c.Name, name) {
			return c, true
		}
	}
	return Column{}, false
}

func (t *Table) keyColumn(name string) int {
	return slices.IndexFunc(t.Key, func(k KeyColumn) bool { return strings.EqualFold(k.Name, name) })
}

func (t *Table) clone() *Table {
	c := *t
	c.Key, c.Columns = slices.Clone(t.Key), slices.Clone(t.Columns)
	return &c
}

// State is the schema of a file at a version. It is never changed once made.
type State struct {
	Version uint64   // number of the newest change; 0 before the first
	Tables  []*Table // all that ever were, by ascending ID
	Views   []string
	Indexes []Index
}

// Index is a plain index.
type Index struct{ Name, Table string }

// Table returns the live table with a name, whatever its case; nil if there is none.
func (s *State) Table(name string) *Table {
	for _, t := range s.Tables {
		if t.Gone == 0 && strings.EqualFold(t.Name, name) {
			return t
		}
	}
	return nil
}

// ByID returns the table with an id, dropped ones too; nil if there never was one.
func (s *State) ByID(id uint32) *Table {
	if i, ok := slices.BinarySearchFunc(s.Tables, id, func(t *Table, id uint32) int { return int(int64(t.ID) - int64(id)) }); ok {
		return s.Tables[i]
	}
	return nil
}

// Has says whether the schema has a table, view or index of a name: the strong
// schema may then have none.
func (s *State) Has(name string) bool {
	return s.Table(name) != nil || slices.ContainsFunc(s.Views, func(v string) bool { return strings.EqualFold(v, name) }) ||
		slices.ContainsFunc(s.Indexes, func(i Index) bool { return strings.EqualFold(i.Name, name) })
}

func (s *State) next(v uint64) *State {
	return &State{Version: v, Tables: slices.Clone(s.Tables), Views: slices.Clone(s.Views), Indexes: slices.Clone(s.Indexes)}
}

// replace puts t in the place of the table with its id, or behind all.
func (s *State) replace(t *Table) {
	for i := range s.Tables {
		if s.Tables[i].ID == t.ID {
			s.Tables[i] = t
			return
		}
	}
	s.Tables = append(s.Tables, t)
}

// Quote returns a name as SQL has it, in double quotes.
func Quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// Refusal is a declaration that copies at many sites could not keep.
type Refusal struct {
	Table  string // "" when it is not about one
	Reason string
}

func (r *Refusal) Error() string {
	if r.Table == "" {
		return "crr: " + r.Reason
	}
	return "crr table " + r.Table + ": " + r.Reason
}
