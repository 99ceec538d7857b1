package schema

import (
	"fmt"
	"slices"
	"strings"
)

// Change is one statement of DDL with its number: changes are made everywhere
// in the order of their numbers, which begin at 1 and leave none out.
type Change struct {
	Version uint64
	SQL     string
}

// Plan is what a change does to a file.
type Plan struct {
	Change Change
	// SQL are the statements to run, in order, where the file is attached as crr.
	SQL []string
	// Next is the state after it.
	Next *State
	// Touched are the tables whose tracking is to be made anew: as they were (nil for a new one) and as they are (Gone of a dropped one).
	Touched []Touched
}

// Touched is a table before and after a change.
type Touched struct{ Before, After *Table }

// Names says what the strong schema has, since a name may be in one of both only.
type Names func(name string) bool

// SchemaName is the name that the file of conflict-free tables is attached by.
const SchemaName = "crr"

// VersionError is a change that does not follow the state.
type VersionError struct{ Have, Got uint64 }

func (e *VersionError) Error() string {
	return fmt.Sprintf("crr: change %d of the schema does not follow version %d", e.Got, e.Have)
}

// Plan says what a change does. strong may be nil when the names were looked at before. What can't be is a *Refusal, a
// *SyntaxError or a *VersionError.
func (s *State) Plan(c Change, strong Names) (*Plan, error) {
	if c.Version != s.Version+1 {
		return nil, &VersionError{s.Version, c.Version}
	}
	st, err := Parse(c.SQL)
	if err != nil {
		return nil, err
	}
	if st.Schema != "" && !strings.EqualFold(st.Schema, SchemaName) {
		return nil, &Refusal{Reason: fmt.Sprintf("%s.%s is not in the schema of conflict-free tables", st.Schema, st.Name)}
	}
	p := &planner{Plan: Plan{Change: c, Next: s.next(c.Version)}, was: s, strong: strong}
	if err := p.plan(st); err != nil {
		return nil, err
	}
	return &p.Plan, nil
}

type planner struct {
	Plan
	was    *State
	strong Names
}

func (p *planner) run(format string, args ...any) {
	p.SQL = append(p.SQL, fmt.Sprintf(format, args...))
}

func (p *planner) plan(st *Statement) error {
	switch st.Verb {
	case CreateTable:
		return p.createTable(st)
	case CreateIndex:
		return p.createIndex(st)
	case CreateView:
		return p.createView(st)
	case DropIndex, DropView:
		return p.dropOther(st)
	}
	t := p.was.Table(st.Name)
	if t == nil {
		if st.Verb == DropTable && st.Guarded {
			return nil
		}
		return &Refusal{Reason: "no such conflict-free table: " + st.Name}
	}
	switch st.Verb {
	case DropTable:
		return p.dropTable(t)
	case RenameTable:
		return p.renameTable(t, st.NewName)
	case RenameColumn:
		return p.renameColumn(t, st.Column, st.NewName)
	case AddColumn:
		return p.addColumn(t, st)
	case DropColumn:
		return p.dropColumn(t, st.Column)
	}
	return &Refusal{Reason: "not a change of the schema of conflict-free tables"}
}

// free says why a name can't be given to something new.
func (p *planner) free(name string) error {
	switch {
	case reserved(name):
		return &Refusal{name, "names that begin with crr_, __crr_, _nearsql_ or sqlite_ are kept for nearsql and SQLite"}
	case p.was.Has(name):
		return &Refusal{name, "there is a table, view or index of that name"}
	case p.strong != nil && p.strong(name):
		return &Refusal{name, "the strong schema has that name: a name may be in one of both only"}
	}
	return nil
}

func (p *planner) createTable(st *Statement) error {
	if st.Guarded && p.was.Table(st.Name) != nil {
		return nil
	}
	if err := p.free(st.Name); err != nil {
		return err
	}
	t, err := declare(st.Name, st.declaration)
	if err != nil {
		return err
	}
	t.ID, t.Since = 1, p.Change.Version
	if n := len(p.was.Tables); n > 0 {
		t.ID = p.was.Tables[n-1].ID + 1
	}
	for i := range t.Columns {
		t.Columns[i].ID, t.Columns[i].Since = uint32(i+1), p.Change.Version
	}
	p.Next.replace(t)
	p.Touched = append(p.Touched, Touched{nil, t})
	p.run("CREATE TABLE %s.%s%s", SchemaName, Quote(st.Name), st.body)
	return nil
}

func (p *planner) dropTable(t *Table) error {
	gone := t.clone()
	gone.Gone = p.Change.Version
	p.Next.replace(gone)
	p.Next.Indexes = slices.DeleteFunc(p.Next.Indexes, func(i Index) bool { return strings.EqualFold(i.Table, t.Name) })
	p.Touched = append(p.Touched, Touched{t, gone})
	p.run("DROP TABLE %s.%s", SchemaName, Quote(t.Name))
	return nil
}

func (p *planner) renameTable(t *Table, name string) error {
	if err := p.free(name); err != nil {
		return err
	}
	n := t.clone()
	n.Name = name
	p.Next.replace(n)
	for i := range p.Next.Indexes {
		if strings.EqualFold(p.Next.Indexes[i].Table, t.Name) {
			p.Next.Indexes[i].Table = name
		}
	}
	p.Touched = append(p.Touched, Touched{t, n})
	p.run("ALTER TABLE %s.%s RENAME TO %s", SchemaName, Quote(t.Name), Quote(name))
	return nil
}

func (p *planner) renameColumn(t *Table, from, to string) error {
	n := t.clone()
	if i := n.keyColumn(from); i >= 0 {
		n.Key[i].Name = to
	} else if i := slices.IndexFunc(n.Columns, func(c Column) bool { return c.Gone == 0 && strings.EqualFold(c.Name, from) }); i >= 0 {
		n.Columns[i].Name = to
	} // else a generated column: SQLite knows whether there is one
	p.Next.replace(n)
	p.Touched = append(p.Touched, Touched{t, n})
	p.run("ALTER TABLE %s.%s RENAME COLUMN %s TO %s", SchemaName, Quote(t.Name), Quote(from), Quote(to))
	return nil
}

func (p *planner) dropColumn(t *Table, name string) error {
	if t.keyColumn(name) >= 0 {
		return &Refusal{t.Name, fmt.Sprintf("column %s is part of the PRIMARY KEY: make a new table", name)}
	}
	n := t.clone()
	if i := slices.IndexFunc(n.Columns, func(c Column) bool { return c.Gone == 0 && strings.EqualFold(c.Name, name) }); i >= 0 {
		n.Columns[i].Gone = p.Change.Version
	}
	p.Next.replace(n)
	p.Touched = append(p.Touched, Touched{t, n})
	p.run("ALTER TABLE %s.%s DROP COLUMN %s", SchemaName, Quote(t.Name), Quote(name))
	return nil
}

// addColumn refuses what SQLite takes for an empty table and refuses for one
// with rows: the change must go the same way at every site.
func (p *planner) addColumn(t *Table, st *Statement) error {
	c := st.column
	refuse := func(format string, args ...any) error { return &Refusal{t.Name, fmt.Sprintf(format, args...)} }
	d := &declaration{}
	d.addColumn(c)
	k := &checker{table: t.Name, d: d}
	if c.primary {
		return refuse("column %s cannot become part of the PRIMARY KEY: make a new table", c.name)
	}
	for _, f := range []func() error{k.constraints, k.counters} {
		if err := f(); err != nil {
			return err
		}
	}
	switch {
	case c.generated != nil:
		return refuse("generated column %s must be declared with the table", c.name)
	case len(c.checks) > 0:
		return refuse("column %s cannot be added with a CHECK: rows that are there would be held against it", c.name)
	case c.hasDef && !constant(c):
		return refuse("column %s needs a constant DEFAULT: the rows that are there get it at every site", c.name)
	case c.notNull && (!c.hasDef || strings.EqualFold(c.def, "NULL")):
		return refuse("column %s cannot be NOT NULL without a DEFAULT that is not NULL", c.name)
	case len(t.Live()) >= MaxColumns:
		return refuse("more than %d columns besides the key", MaxColumns)
	}
	if _, dup := t.Column(c.name); dup || t.keyColumn(c.name) >= 0 {
		return refuse("duplicate column name: %s", c.name)
	}
	n := t.clone()
	id := uint32(1)
	if len(n.Columns) > 0 {
		id = n.Columns[len(n.Columns)-1].ID + 1
	}
	def := c.def
	if !c.hasDef {
		def = "NULL"
	}
	n.Columns = append(n.Columns, Column{ID: id, Name: c.name, Kind: c.kind(), Since: p.Change.Version, Default: def})
	p.Next.replace(n)
	p.Touched = append(p.Touched, Touched{t, n})
	p.run("ALTER TABLE %s.%s ADD COLUMN %s", SchemaName, Quote(t.Name), st.body)
	return nil
}

// constant says whether a default is one literal.
func constant(c *columnDecl) bool {
	ts := c.defTokens
	if c.defParen {
		return false
	}
	if len(ts) == 2 { // a sign and a number
		return true
	}
	switch t := ts[0]; t.Kind {
	case String, Number, Blob:
		return true
	case Word:
		return t.Is("NULL") || t.Is("TRUE") || t.Is("FALSE")
	}
	return false
}

func (p *planner) createIndex(st *Statement) error {
	if st.Guarded && slices.ContainsFunc(p.was.Indexes, func(i Index) bool { return strings.EqualFold(i.Name, st.Name) }) {
		return nil
	}
	if err := p.free(st.Name); err != nil {
		return err
	}
	t := p.was.Table(st.Table)
	if t == nil {
		return &Refusal{Reason: "no such conflict-free table: " + st.Table}
	}
	if f := unsafeCall(st.where, ""); f != "" {
		return &Refusal{t.Name, fmt.Sprintf("the condition of index %s cannot use %s: it could fail at a site for a row that another site took", st.Name, f)}
	}
	for i, x := range st.where {
		if x.IsSymbol(">") && i > 0 && st.where[i-1].IsSymbol("-") {
			return &Refusal{t.Name, fmt.Sprintf("the condition of index %s cannot use ->: it could fail at a site for a row that another site took", st.Name)}
		}
	}
	p.Next.Indexes = append(p.Next.Indexes, Index{st.Name, t.Name})
	p.run("CREATE INDEX %s.%s ON %s%s", SchemaName, Quote(st.Name), Quote(t.Name), st.body)
	return nil
}

func (p *planner) createView(st *Statement) error {
	if st.Guarded && slices.ContainsFunc(p.was.Views, func(v string) bool { return strings.EqualFold(v, st.Name) }) {
		return nil
	}
	if err := p.free(st.Name); err != nil {
		return err
	}
	for i, t := range st.tokens {
		if t.IsName() && strings.EqualFold(t.Text, SchemaName) && i+1 < len(st.tokens) && st.tokens[i+1].IsSymbol(".") {
			return &Refusal{Reason: fmt.Sprintf("view %s: name its tables without %s. before them", st.Name, SchemaName)}
		}
	}
	p.Next.Views = append(p.Next.Views, st.Name)
	p.run("CREATE VIEW %s.%s %s", SchemaName, Quote(st.Name), st.body)
	return nil
}

func (p *planner) dropOther(st *Statement) error {
	kind, found := "INDEX", false
	if st.Verb == DropView {
		kind = "VIEW"
		n := len(p.Next.Views)
		p.Next.Views = slices.DeleteFunc(p.Next.Views, func(v string) bool { return strings.EqualFold(v, st.Name) })
		found = len(p.Next.Views) < n
	} else {
		n := len(p.Next.Indexes)
		p.Next.Indexes = slices.DeleteFunc(p.Next.Indexes, func(i Index) bool { return strings.EqualFold(i.Name, st.Name) })
		found = len(p.Next.Indexes) < n
	}
	if !found {
		if st.Guarded {
			return nil
		}
		return &Refusal{Reason: fmt.Sprintf("no such %s among conflict-free tables: %s", strings.ToLower(kind), st.Name)}
	}
	p.run("DROP %s %s.%s", kind, SchemaName, Quote(st.Name))
	return nil
}

// Replay returns the state after all changes, from the first.
func Replay(changes []Change) (*State, error) {
	s := &State{}
	for _, c := range changes {
		p, err := s.Plan(c, nil)
		if err != nil {
			return nil, fmt.Errorf("change %d: %w", c.Version, err)
		}
		s = p.Next
	}
	return s, nil
}
