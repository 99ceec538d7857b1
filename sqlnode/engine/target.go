package engine

import (
	"strings"

	"github.com/nearsql/nearsql/schema"
)

// destination is the schema that a statement writes. It is read off the text and the names that the conflict-free
// schema has; a mistake is no harm, since who writes the one has the other read-only.
type destination uint8

const (
	toMain    destination = iota
	toCRR                 // rows of a conflict-free table
	toDeclare             // the conflict-free schema
)

// target returns where a statement that writes goes, and the name of what it writes. state is nil where no conflict-free table is known.
func target(sql string, k class, state *schema.State) (destination, string) {
	if state == nil && !containsFold(sql, schema.SchemaName) || k != classWrite && k != classAlone {
		return toMain, ""
	}
	if k == classWrite {
		in, name := written(sql)
		if isCRR(in, name, state) {
			return toCRR, name
		}
		return toMain, name
	}
	in, name, over := declared(sql)
	known := name // what is there already
	if over != "" {
		known = over
	} else if t, _ := first(sql); t.is("CREATE") {
		known = "" // what is new is main's unless it says crr
	}
	if isCRR(in, known, state) {
		return toDeclare, name
	}
	return toMain, name
}

// isCRR says whether a name as a statement has it is of the conflict-free schema: a name is in one of both only.
func isCRR(in, name string, state *schema.State) bool {
	if in != "" {
		return strings.EqualFold(in, schema.SchemaName)
	}
	return name != "" && state != nil && state.Has(name)
}

// words walks over a statement's tokens.
type words struct {
	sql string
	i   int
	t   token
	ok  bool
}

func walk(sql string) *words {
	w := &words{sql: sql}
	w.t, w.ok = first(sql)
	w.i = w.t.end
	return w
}

func (w *words) next() {
	w.t, w.ok = next(w.sql, w.i)
	if w.ok {
		w.i = w.t.end
	}
}

// take goes on past a word if it is there.
func (w *words) take(word string) bool {
	if !w.ok || !w.t.is(word) {
		return false
	}
	w.next()
	return true
}

// name reads [schema.]name.
func (w *words) name() (in, name string) {
	if !w.ok {
		return "", ""
	}
	name = unquote(w.t.text)
	w.next()
	if w.ok && w.t.text == "." {
		w.next()
		in, name = name, ""
		if w.ok {
			name = unquote(w.t.text)
			w.next()
		}
	}
	return in, name
}

// written returns the table that an INSERT, REPLACE, UPDATE or DELETE names.
func written(sql string) (in, name string) {
	w := walk(sql)
	if w.ok && w.t.is("WITH") {
		for depth := 0; w.ok; w.next() {
			switch {
			case w.t.text == "(":
				depth++
				continue
			case w.t.text == ")":
				depth--
				continue
			}
			if depth == 0 && (w.t.is("INSERT") || w.t.is("UPDATE") || w.t.is("DELETE")) {
				break
			}
			if depth == 0 && w.t.is("REPLACE") {
				if into, ok := next(sql, w.i); ok && into.is("INTO") {
					break
				}
			}
		}
	}
	switch {
	case w.take("INSERT"):
		if w.take("OR") {
			w.next()
		}
		w.take("INTO")
	case w.take("REPLACE"):
		w.take("INTO")
	case w.take("UPDATE"):
		if w.take("OR") {
			w.next()
		}
	case w.take("DELETE"):
		w.take("FROM")
	default:
		return "", ""
	}
	return w.name()
}

// declared returns what a CREATE, ALTER or DROP names, and for an index or trigger the table that it is over.
func declared(sql string) (in, name, over string) {
	w := walk(sql)
	switch {
	case w.take("CREATE"):
		for w.take("TEMP") || w.take("TEMPORARY") || w.take("UNIQUE") || w.take("VIRTUAL") {
		}
	case w.take("ALTER"), w.take("DROP"):
	default:
		return "", "", ""
	}
	what := w.t
	if !w.ok || !what.is("TABLE") && !what.is("INDEX") && !what.is("VIEW") && !what.is("TRIGGER") {
		return "", "", ""
	}
	w.next()
	if w.take("IF") {
		w.take("NOT")
		w.take("EXISTS")
	}
	in, name = w.name()
	if what.is("INDEX") || what.is("TRIGGER") {
		for w.ok && !w.t.is("ON") {
			w.next()
		}
		if w.take("ON") {
			_, over = w.name()
		}
	}
	return in, name, over
}

// renamedTo returns the name that an ALTER TABLE gives to its table.
func renamedTo(sql string) (name string, ok bool) {
	w := walk(sql)
	if !w.take("ALTER") || !w.take("TABLE") {
		return "", false
	}
	w.name()
	if !w.take("RENAME") || !w.take("TO") {
		return "", false
	}
	_, name = w.name()
	return name, name != ""
}
