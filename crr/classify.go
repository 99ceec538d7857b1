package crr

import (
	"slices"
	"strings"

	"github.com/nearsql/nearsql/schema"
)

// Classified says which COUNTER columns a statement assigns. A statement assigns a column
// when the right side of its SET doesn't mention the column (SET n = 0, SET n = ?, SET n = excluded.n);
// when it does (n + 1, coalesce(n,0) + excluded.n, max(n-1, 0)), it adds the difference that it makes.
//
// It depends on the statement's text alone: an engine keeps it beside the prepared statement. The zero value assigns nothing.
type Classified struct {
	target string
	assign []string
}

// Classify reads a statement. What can't be read assigns nothing: SQLite won't run it either.
func Classify(sql string) Classified {
	ts, err := schema.Lex(sql)
	if err != nil {
		return Classified{}
	}
	c := &classifier{ts: ts}
	set := c.findSet()
	if set < 0 {
		return Classified{}
	}
	return Classified{target: c.target, assign: c.assignments(set)}
}

// mask returns the bits of the columns of t that the statement assigns.
func (u Classified) mask(t *table) (m uint64) {
	if len(u.assign) == 0 || !strings.EqualFold(u.target, t.def.Name) {
		return 0
	}
	for i, c := range t.cols {
		if c.Kind == schema.Counter && slices.ContainsFunc(u.assign, func(n string) bool { return strings.EqualFold(n, c.Name) }) {
			m |= 1 << i
		}
	}
	return m
}

type classifier struct {
	ts            []schema.Token
	target, alias string
}

// findSet finds the first token of the list behind SET, and the table that it is of.
func (c *classifier) findSet() int {
	depth := 0
	for i := 0; i < len(c.ts); i++ {
		t := c.ts[i]
		switch {
		case t.IsSymbol("("):
			depth++
		case t.IsSymbol(")"):
			depth--
		case depth > 0:
		case c.target == "" && t.Is("INTO"):
			i = c.name(i+1) - 1
		case c.target == "" && t.Is("UPDATE"):
			j := i + 1
			if j < len(c.ts) && c.ts[j].Is("OR") {
				j += 2
			}
			i = c.name(j) - 1
		case t.Is("SET") && c.target != "":
			return i + 1
		}
	}
	return -1
}

// name reads [schema.]table [AS alias] and returns what follows it.
func (c *classifier) name(i int) int {
	if i >= len(c.ts) {
		return i
	}
	c.target = c.ts[i].Text
	for i++; i+1 < len(c.ts) && c.ts[i].IsSymbol("."); i += 2 {
		c.target = c.ts[i+1].Text
	}
	if i+1 < len(c.ts) && c.ts[i].Is("AS") {
		c.alias, i = c.ts[i+1].Text, i+2
	}
	return i
}

// mentions says whether an expression reads a column of the target.
func (c *classifier) mentions(expr []schema.Token, col string) bool {
	for i, t := range expr {
		if !t.IsName() || !strings.EqualFold(t.Text, col) || i+1 < len(expr) && (expr[i+1].IsSymbol(".") || expr[i+1].IsSymbol("(")) {
			continue
		}
		if i < 2 || !expr[i-1].IsSymbol(".") {
			return true
		}
		of := expr[i-2].Text
		if strings.EqualFold(of, c.target) || c.alias != "" && strings.EqualFold(of, c.alias) {
			return true
		}
	}
	return false
}

// assignments reads the list behind SET: column = expression, or (columns) = expression.
func (c *classifier) assignments(i int) (assign []string) {
	for i < len(c.ts) {
		var cols []string
		if c.ts[i].IsSymbol("(") {
			for i++; i < len(c.ts) && !c.ts[i].IsSymbol(")"); i++ {
				if !c.ts[i].IsSymbol(",") {
					cols = append(cols, c.ts[i].Text)
				}
			}
		} else {
			cols = []string{c.ts[i].Text}
		}
		from := min(i+2, len(c.ts)) // behind the column and =
		end, last := c.expression(from)
		for _, col := range cols {
			if !c.mentions(c.ts[from:end], col) {
				assign = append(assign, col)
			}
		}
		if last {
			break
		}
		i = end + 1
	}
	return assign
}

// expression returns the end of the expression at i; last says that no other assignment follows.
func (c *classifier) expression(i int) (end int, last bool) {
	depth := 0
	for ; i < len(c.ts); i++ {
		t := c.ts[i]
		switch {
		case t.IsSymbol("("):
			depth++
		case t.IsSymbol(")"):
			depth--
		case depth > 0:
		case t.IsSymbol(","):
			return i, false
		case t.Is("FROM") && c.ts[i-1].Is("DISTINCT"): // IS DISTINCT FROM
		case t.IsSymbol(";"), t.Is("WHERE"), t.Is("FROM"), t.Is("RETURNING"), t.Is("ON"), t.Is("ORDER"), t.Is("LIMIT"):
			return i, true
		}
	}
	return i, true
}
