package main

import (
	"bufio"
	"encoding/json"
	"io"
	"time"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/wire"
)

// documentPrinter writes an answer as one JSON document, in the shape of the HTTP API.
type documentPrinter struct {
	out io.Writer
	buf *bufio.Writer
	err error
}

func (p *documentPrinter) text(s string) {
	if p.err == nil {
		_, p.err = p.buf.WriteString(s)
	}
}

func (p *documentPrinter) value(v any) {
	if p.err == nil {
		p.err = writeJSON(p.buf, v)
	}
}

func (p *documentPrinter) print(a *client.Answer) error {
	p.buf = bufio.NewWriter(p.out)
	p.text(`{"results":[`)
	for a.NextStatement() {
		if a.Statement() > 1 {
			p.text(",")
		}
		names, types := []string{}, []string{}
		for _, c := range a.Columns() {
			names, types = append(names, c.Name), append(types, c.Type)
		}
		p.text(`{"columns":`)
		p.value(names)
		p.text(`,"types":`)
		p.value(types)
		p.text(`,"rows":[`)
		first := true
		for a.NextRow() {
			if !first {
				p.text(",")
			}
			first = false
			p.row(a.Row())
			if p.err != nil {
				return p.err
			}
		}
		p.text(`],"rows_affected":`)
		p.value(a.Summary().RowsAffected)
		p.text(`,"last_insert_rowid":`)
		if a.Summary().Inserted {
			p.value(a.Summary().LastInsertRowID)
		} else {
			p.text("null")
		}
		p.text("}")
	}
	if a.Err() != nil {
		return a.Err()
	}
	p.text("]")
	return p.err
}

func (p *documentPrinter) row(values []wire.Value) {
	b := []byte{'['}
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		if b, p.err = appendJSON(b, v); p.err != nil {
			return
		}
	}
	p.text(string(append(b, ']')))
}

// meta ends the document.
func (p *documentPrinter) meta(m wire.Meta) error {
	type metaJSON struct {
		Consistency string      `json:"consistency"`
		Staleness   json.Number `json:"staleness_ms"`
		Tables      any         `json:"crr_staleness_ms,omitempty"`
		Node        string      `json:"node"`
		PoP         string      `json:"pop"`
		Role        string      `json:"role"`
		Duration    json.Number `json:"duration_ms"`
	}
	if m.Bookmark != "" {
		p.text(`,"bookmark":`)
		p.value(m.Bookmark)
	}
	p.text(`,"meta":`)
	j := metaJSON{consistencyName(m.Consistency), millis(m.Staleness), nil, m.Node, m.PoP, m.Role, millis(m.Duration)}
	switch {
	case m.Tables && m.TablesStaleness == wire.AnyStaleness:
		j.Tables = json.RawMessage("null")
	case m.Tables:
		j.Tables = millis(m.TablesStaleness)
	}
	p.value(j)
	p.text("}\n")
	if p.err != nil {
		return p.err
	}
	return p.buf.Flush()
}

func consistencyName(c wire.Consistency) string {
	switch c {
	case wire.Strong:
		return "strong"
	case wire.Weak:
		return "weak"
	case wire.Local:
		return "local"
	}
	return "default"
}

func millis(d time.Duration) json.Number {
	b, err := json.Marshal(float64(d) / float64(time.Millisecond))
	if err != nil {
		return "0"
	}
	return json.Number(b)
}
