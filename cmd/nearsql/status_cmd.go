package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/wire"
)

func statusCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "Show what a node says of itself",
		Flags: clientFlags(),
		Action: clientAction(0, 0, func(c *cli.Context, node *client.Client) error {
			raw, err := node.Status(c.Context)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(s.out, raw)
			}
			return showObject(s.out, raw)
		}),
	}
}

// textTable is a table of text.
type textTable struct {
	p   printer
	err error
}

func newTextTable(out io.Writer, columns ...string) *textTable {
	t := &textTable{p: newPrinter(modeTable, out, true)}
	list := make([]client.Column, len(columns))
	for i, name := range columns {
		list[i].Name = name
	}
	t.err = t.p.begin(list)
	return t
}

func (t *textTable) row(cells ...string) {
	values := make([]wire.Value, len(cells))
	for i, c := range cells {
		values[i] = wire.Text(c)
	}
	if t.err == nil {
		t.err = t.p.row(values)
	}
}

func (t *textTable) end() error {
	if t.err == nil {
		t.err = t.p.end()
	}
	return t.err
}

// printPairs prints names and values, below one another.
func printPairs(out io.Writer, pairs [][2]string) error {
	width := 0
	for _, p := range pairs {
		width = max(width, len(p[0]))
	}
	for _, p := range pairs {
		line := strings.TrimRight(fmt.Sprintf("%-*s  %s", width, p[0], printable(p[1])), " ")
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}

// member is one member of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

// members gives what is in a JSON object, in its order; ok is false for anything else.
func members(raw json.RawMessage) (list []member, ok bool) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, false
		}
		m := member{name: fmt.Sprint(name)}
		if err := d.Decode(&m.value); err != nil {
			return nil, false
		}
		list = append(list, m)
	}
	return list, true
}

// showObject prints a JSON object whose members a node chooses: lists of objects as tables, below the others.
func showObject(out io.Writer, raw json.RawMessage) error {
	list, ok := members(raw)
	if !ok {
		return printJSON(out, raw)
	}
	var pairs [][2]string
	var tables []member
	for _, m := range list {
		var items []json.RawMessage
		if json.Unmarshal(m.value, &items) == nil && len(items) > 0 {
			if _, ok := members(items[0]); ok {
				tables = append(tables, m)
				continue
			}
		}
		pairs = append(pairs, [2]string{spaced(m.name), plainJSON(m.value)})
	}
	if err := printPairs(out, pairs); err != nil {
		return err
	}
	for _, m := range tables {
		if _, err := fmt.Fprintf(out, "\n%s\n\n", printable(spaced(m.name))); err != nil {
			return err
		}
		if err := showList(out, m.value); err != nil {
			return err
		}
	}
	return nil
}

// showList prints a list of objects as a table with the columns of the first.
func showList(out io.Writer, raw json.RawMessage) error {
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return err
	}
	first, _ := members(items[0])
	columns := make([]string, len(first))
	for i, m := range first {
		columns[i] = spaced(m.name)
	}
	t := newTextTable(out, columns...)
	for _, item := range items {
		var values map[string]json.RawMessage
		if err := json.Unmarshal(item, &values); err != nil {
			return err
		}
		cells := make([]string, len(first))
		for i, m := range first {
			cells[i] = plainJSON(values[m.name])
		}
		t.row(cells...)
	}
	return t.end()
}

func spaced(name string) string { return strings.ReplaceAll(name, "_", " ") }

// plainJSON is a JSON value for people: text without quotes, objects and lists on one line.
func plainJSON(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	if list, ok := members(raw); ok {
		var parts []string
		for _, m := range list {
			parts = append(parts, m.name+"="+plainJSON(m.value))
		}
		return strings.Join(parts, " ")
	}
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) == nil {
		var parts []string
		for _, item := range items {
			parts = append(parts, plainJSON(item))
		}
		return strings.Join(parts, ", ")
	}
	return string(raw)
}
