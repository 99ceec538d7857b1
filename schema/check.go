package schema

import (
	"fmt"
	"slices"
	"strings"
)

// reserved says whether a name is kept for nearsql and SQLite.
func reserved(name string) bool {
	n := strings.ToLower(name)
	return strings.HasPrefix(n, "crr_") || strings.HasPrefix(n, "__crr_") || strings.HasPrefix(n, "_nearsql_") || strings.HasPrefix(n, "sqlite_")
}

// checker looks at one declaration for what copies at many sites could not keep.
type checker struct {
	table string
	d     *declaration
}

func (k *checker) refuse(format string, args ...any) error {
	return &Refusal{k.table, fmt.Sprintf(format, args...)}
}

// declare checks a CREATE TABLE and returns the table that it makes, without ids.
func declare(name string, d *declaration) (*Table, error) {
	k := &checker{table: name, d: d}
	for _, f := range []func() error{k.names, k.constraints, k.counters, k.generated, k.checks} {
		if err := f(); err != nil {
			return nil, err
		}
	}
	t := &Table{Name: name}
	if err := k.key(t); err != nil {
		return nil, err
	}
	for _, c := range d.columns {
		if c.generated != nil || t.keyColumn(c.name) >= 0 {
			continue
		}
		t.Columns = append(t.Columns, Column{Name: c.name, Kind: c.kind()})
	}
	if len(t.Columns) > MaxColumns {
		return nil, k.refuse("more than %d columns besides the key", MaxColumns)
	}
	return t, nil
}

func (c *columnDecl) kind() Kind {
	if c.counter {
		return Counter
	}
	return LWW
}

func (k *checker) names() error {
	seen := make(map[string]bool, len(k.d.columns))
	for _, c := range k.d.columns {
		n := strings.ToLower(c.name)
		if seen[n] {
			return k.refuse("duplicate column name: %s", c.name)
		}
		seen[n] = true
	}
	return nil
}

func (k *checker) constraints() error {
	if k.autoincrement() {
		return k.refuse("AUTOINCREMENT is refused: two sites would give one number to two rows; use TEXT PRIMARY KEY NOT NULL DEFAULT (uuid7())")
	}
	if len(k.d.unique) > 0 {
		return k.refuse("UNIQUE (%s) cannot be kept across sites; make it the PRIMARY KEY, or use a strong table", strings.Join(k.d.unique, ", "))
	}
	if k.d.foreign {
		return k.refuse("FOREIGN KEY cannot be kept across sites: a parent may be deleted elsewhere")
	}
	return nil
}

func (k *checker) autoincrement() bool {
	return k.d.auto || slices.ContainsFunc(k.d.columns, func(c *columnDecl) bool { return c.auto })
}

func (k *checker) counters() error {
	for _, c := range k.d.columns {
		if !c.counter {
			continue
		}
		switch {
		case c.primary || slices.ContainsFunc(k.d.key, func(t keyTerm) bool { return strings.EqualFold(t.column, c.name) }):
			return k.refuse("a COUNTER cannot be part of the PRIMARY KEY")
		case k.d.strict:
			return k.refuse("a STRICT table cannot have a COUNTER: SQLite has no such type")
		case !c.notNull || c.def != "0" || c.generated != nil:
			return k.refuse("COUNTER column %s must be declared NOT NULL DEFAULT 0", c.name)
		}
	}
	return nil
}

// key fills in the primary key of t.
func (k *checker) key(t *Table) error {
	terms, count := k.d.key, k.d.keyCount
	for _, c := range k.d.columns {
		if c.primary {
			count++
			terms = []keyTerm{{column: c.name, desc: c.desc}}
		}
	}
	switch {
	case count == 0:
		return k.refuse("a PRIMARY KEY is required: it names the row on every site")
	case count > 1:
		return k.refuse("more than one PRIMARY KEY")
	}
	for _, term := range terms {
		if err := k.keyColumn(t, term, len(terms) == 1); err != nil {
			return err
		}
	}
	return nil
}

func (k *checker) keyColumn(t *Table, term keyTerm, alone bool) error {
	i := slices.IndexFunc(k.d.columns, func(c *columnDecl) bool { return strings.EqualFold(c.name, term.column) })
	if i < 0 {
		return k.refuse("the PRIMARY KEY names %s, which is no column", term.column)
	}
	c := k.d.columns[i]
	if t.keyColumn(c.name) >= 0 {
		return k.refuse("the PRIMARY KEY names %s twice", c.name)
	}
	if c.generated != nil {
		return k.refuse("generated column %s cannot be part of the PRIMARY KEY", c.name)
	}
	if term.desc {
		return k.refuse("the PRIMARY KEY must be in ascending order")
	}
	// INTEGER PRIMARY KEY is the rowid: it is never NULL, and SQLite numbers rows that come without one.
	rowid := alone && c.typ == "INTEGER" && !k.d.withoutRowID
	if !c.notNull && !rowid {
		return k.refuse("primary key column %s must be NOT NULL", c.name)
	}
	for _, collate := range []string{c.collate, term.collate} {
		if collate != "" && !strings.EqualFold(collate, "BINARY") {
			return k.refuse("the PRIMARY KEY must compare BINARY, not by COLLATE %s", collate)
		}
	}
	class := keyClass(c.typ)
	if class == 0 {
		return k.refuse("primary key column %s must be declared INTEGER, TEXT or BLOB", c.name)
	}
	t.Key, t.RowIDKey = append(t.Key, KeyColumn{c.name, class}), rowid
	return nil
}

// keyClass is SQLite's rule of affinity (https://www.sqlite.org/datatype3.html, 3.1), for what a key may be.
func keyClass(typ string) KeyClass {
	switch {
	case strings.Contains(typ, "INT"):
		return KeyInteger
	case strings.Contains(typ, "CHAR"), strings.Contains(typ, "CLOB"), strings.Contains(typ, "TEXT"):
		return KeyText
	case strings.Contains(typ, "BLOB"):
		return KeyBlob
	}
	return 0
}

// mentions returns the declared columns that an expression names, each once.
func (k *checker) mentions(expr []Token) (out []*columnDecl) {
	for i, t := range expr {
		if !t.IsName() || i+1 < len(expr) && (expr[i+1].IsSymbol("(") || expr[i+1].IsSymbol(".")) {
			continue
		}
		j := slices.IndexFunc(k.d.columns, func(c *columnDecl) bool { return strings.EqualFold(c.name, t.Text) })
		if j >= 0 && !slices.Contains(out, k.d.columns[j]) {
			out = append(out, k.d.columns[j])
		}
	}
	return out
}

func (k *checker) isKey(c *columnDecl) bool {
	return c.primary || slices.ContainsFunc(k.d.key, func(t keyTerm) bool { return strings.EqualFold(t.column, c.name) })
}

// checks refuses CHECKs that hold at every site and not for what merging makes of their rows.
func (k *checker) checks() error {
	all := slices.Clone(k.d.checks)
	for _, c := range k.d.columns {
		all = append(all, c.checks...)
	}
	for _, expr := range all {
		others := 0
		for _, c := range k.mentions(expr) {
			switch {
			case c.counter:
				return k.refuse("CHECK on COUNTER column %s cannot hold across sites; declare it BOUNDED COUNTER, or keep it in a strong table", c.name)
			case c.generated != nil:
				return k.refuse("CHECK on generated column %s cannot hold across sites: what it is made of may change apart", c.name)
			case !k.isKey(c):
				others++
			}
		}
		if others > 1 {
			return k.refuse("a CHECK over several columns cannot hold when sites change them apart")
		}
		if f := unsafeCall(expr, pureFunctions); f != "" {
			return k.refuse("a CHECK cannot use %s: it must say the same at every site, at any time", f)
		}
	}
	return nil
}

// generated refuses generated columns that could make a row that is whole at each site fail where it is merged.
func (k *checker) generated() error {
	for _, c := range k.d.columns {
		if c.generated == nil {
			continue
		}
		if c.notNull {
			return k.refuse("generated column %s cannot be NOT NULL: what it is made of may change apart", c.name)
		}
		others, allowed := 0, pureFunctions
		for _, m := range k.mentions(c.generated) {
			if m.counter || m.generated != nil {
				others += 2
			} else if !k.isKey(m) {
				others++
			}
		}
		if others > 1 {
			allowed = totalFunctions // no value may make it fail: no site has seen these together
		}
		if f := unsafeCall(c.generated, allowed); f != "" {
			return k.refuse("generated column %s cannot use %s over several columns: it could fail for values that no site had together", c.name, f)
		}
	}
	return nil
}

// unsafeCall returns the first function or operator of an expression that is
// not in a list, and for lists of total functions also those operators that can fail.
func unsafeCall(expr []Token, allowed string) string {
	for i, t := range expr {
		call := i+1 < len(expr) && expr[i+1].IsSymbol("(")
		switch {
		case t.Is("MATCH"), t.Is("REGEXP"), t.Is("CURRENT_TIME"), t.Is("CURRENT_DATE"), t.Is("CURRENT_TIMESTAMP"), t.Is("SELECT"):
			return strings.ToUpper(t.Text)
		case t.IsSymbol("-") && i+1 < len(expr) && expr[i+1].IsSymbol(">") && expr[i+1].Start == t.End && allowed == totalFunctions:
			return "->"
		case t.IsName() && call && !isOperatorWord(t) && !strings.Contains(allowed, " "+strings.ToLower(t.Text)+" "):
			return t.Text + "()"
		}
	}
	return ""
}

// isOperatorWord says whether a word before a parenthesis is no function.
func isOperatorWord(t Token) bool {
	if t.Kind != Word {
		return false
	}
	return strings.Contains(" and or not in is like glob between case when then else collate isnull notnull escape distinct from cast as exists ", " "+strings.ToLower(t.Text)+" ")
}

// totalFunctions can't fail, whatever their arguments are; like and glob are left out for
// patterns that are too long.
const totalFunctions = " coalesce ifnull nullif iif if length octet_length lower upper typeof substr substring trim ltrim rtrim hex instr unicode sign likely unlikely round max min "

// pureFunctions depend on nothing but their arguments. One that fails for a value fails
// where the value is written first.
const pureFunctions = totalFunctions + "abs like glob quote char replace printf format json json_valid json_type json_extract json_array_length json_array json_object json_error_position " +
	"unhex ceil ceiling floor trunc ln log log10 log2 exp pow power sqrt sin cos tan asin acos atan atan2 sinh cosh tanh mod pi degrees radians concat concat_ws "
