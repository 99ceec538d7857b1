package schema

import (
	"fmt"
	"strings"
)

// Where says who runs a step of a conversion.
type Where uint8

// The places where steps run.
const (
	Strong  Where = iota + 1 // the primary, through the log
	DDL                      // a numbered change of the conflict-free schema
	OneSite                  // one site, and that one only: two would insert everything twice
)

// Step is one statement of a conversion.
type Step struct {
	Where Where
	SQL   string
}

// ToConflictFree lists the steps that turn a strong table into the conflict-free one that create
// declares under the same name. Between the first and the last step there is no table of that name that can be
// written in full: the tenant is to be frozen for writes to it.
func ToConflictFree(create string) ([]Step, error) {
	st, t, err := declared(create)
	if err != nil {
		return nil, err
	}
	old := Quote(aside(st.Name))
	list := columnList(st)
	return []Step{
		{Strong, fmt.Sprintf("ALTER TABLE main.%s RENAME TO %s", Quote(t.Name), old)},
		{DDL, create},
		{OneSite, fmt.Sprintf("INSERT INTO %s.%s(%s) SELECT %s FROM main.%s", SchemaName, Quote(t.Name), list, list, old)},
		{Strong, fmt.Sprintf("DROP TABLE main.%s", old)},
	}, nil
}

// ToStrong lists the steps that turn a conflict-free table into the strong one that create, a statement
// of strong DDL without a schema name, declares. All sites must have stopped writing, and the primary have pulled from all, before the second.
func ToStrong(t *Table, create string) ([]Step, error) {
	st, err := Parse(create)
	if err != nil {
		return nil, err
	}
	if st.Verb != CreateTable || !strings.EqualFold(st.Name, t.Name) || st.Schema != "" {
		return nil, &Refusal{t.Name, "the strong table is declared by CREATE TABLE " + t.Name}
	}
	old := Quote(aside(t.Name))
	names := make([]string, 0, len(t.Key)+len(t.Columns))
	for _, k := range t.Key {
		names = append(names, Quote(k.Name))
	}
	for _, c := range t.Live() {
		names = append(names, Quote(c.Name))
	}
	list := strings.Join(names, ", ")
	return []Step{
		{Strong, fmt.Sprintf("CREATE TABLE main.%s%s", old, st.body)},
		{Strong, fmt.Sprintf("INSERT INTO main.%s(%s) SELECT %s FROM %s.%s", old, list, list, SchemaName, Quote(t.Name))},
		{DDL, fmt.Sprintf("DROP TABLE %s.%s", SchemaName, Quote(t.Name))},
		{Strong, fmt.Sprintf("ALTER TABLE main.%s RENAME TO %s", old, Quote(t.Name))},
	}, nil
}

// aside is the name that a strong table has while it is converted.
func aside(name string) string { return name + "__strong" }

func declared(create string) (*Statement, *Table, error) {
	st, err := Parse(create)
	if err != nil {
		return nil, nil, err
	}
	if st.Verb != CreateTable {
		return nil, nil, &Refusal{Reason: "a conversion begins with CREATE TABLE"}
	}
	t, err := declare(st.Name, st.declaration)
	return st, t, err
}

// columnList names all columns that are not generated, as declared.
func columnList(st *Statement) string {
	var names []string
	for _, c := range st.declaration.columns {
		if c.generated == nil {
			names = append(names, Quote(c.name))
		}
	}
	return strings.Join(names, ", ")
}
