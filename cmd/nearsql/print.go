package main

import (
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"

	"github.com/mattn/go-runewidth"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/wire"
)

// mode is how rows are printed.
type mode string

// The modes.
const (
	modeTable mode = "table" // columns under a header
	modeCSV   mode = "csv"   // RFC 4180, with a header
	modeJSON  mode = "json"  // an array of objects
	modeLine  mode = "line"  // a line per value
	modeList  mode = "list"  // values with | between
)

func modes() []mode { return []mode{modeTable, modeCSV, modeJSON, modeLine, modeList} }

// printer prints the rows of one statement.
type printer interface {
	begin(columns []client.Column) error
	row(values []wire.Value) error
	end() error
}

func newPrinter(m mode, out io.Writer, headers bool) printer {
	switch m {
	case modeCSV:
		return &csvPrinter{w: csv.NewWriter(out), headers: headers}
	case modeJSON:
		return &jsonPrinter{out: out}
	case modeLine:
		return &linePrinter{out: out}
	case modeList:
		return &listPrinter{out: out, headers: headers}
	}
	return &tablePrinter{out: out, headers: headers}
}

// tableSample is how many rows a table looks at to choose its columns' widths. A
// wider value further down shifts its row: a table of any length takes little memory.
const tableSample = 500

// tableBytes ends the sample early when rows are large, in bytes.
const tableBytes = 4 << 20

type tablePrinter struct {
	out     io.Writer
	headers bool
	names   []string
	rows    [][]string // of the sample; nil once it was printed
	right   []bool     // columns of numbers
	widths  []int
	size    int
	fixed   bool
	buf     bytes.Buffer
}

func (p *tablePrinter) begin(columns []client.Column) error {
	p.names, p.rows, p.size, p.fixed = nil, nil, 0, false
	for _, c := range columns {
		p.names = append(p.names, printable(c.Name))
	}
	p.right = make([]bool, len(columns))
	for i := range p.right {
		p.right[i] = true
	}
	return nil
}

func (p *tablePrinter) row(values []wire.Value) error {
	cells := make([]string, len(values))
	for i, v := range values {
		cells[i] = tableText(v)
		p.size += len(cells[i])
		if !p.fixed && v.Kind() != wire.KindInteger && v.Kind() != wire.KindFloat && !v.IsNull() {
			p.right[i] = false
		}
	}
	if p.fixed {
		return p.write(cells)
	}
	p.rows = append(p.rows, cells)
	if len(p.rows) < tableSample && p.size < tableBytes {
		return nil
	}
	return p.fix()
}

// fix chooses the widths and prints the sample.
func (p *tablePrinter) fix() error {
	p.fixed = true
	p.widths = make([]int, len(p.names))
	if p.headers {
		for i, name := range p.names {
			p.widths[i] = runewidth.StringWidth(name)
		}
	}
	for _, cells := range p.rows {
		for i, cell := range cells {
			p.widths[i] = max(p.widths[i], runewidth.StringWidth(cell))
		}
	}
	if p.headers {
		if err := p.write(p.names); err != nil {
			return err
		}
		rules := make([]string, len(p.widths))
		for i, w := range p.widths {
			rules[i] = strings.Repeat("-", w)
		}
		if _, err := io.WriteString(p.out, strings.Join(rules, "  ")+"\n"); err != nil {
			return err
		}
	}
	for _, cells := range p.rows {
		if err := p.write(cells); err != nil {
			return err
		}
	}
	p.rows = nil
	return nil
}

func (p *tablePrinter) write(cells []string) error {
	p.buf.Reset()
	for i, cell := range cells {
		pad := max(p.widths[i]-runewidth.StringWidth(cell), 0)
		last := i == len(cells)-1
		switch {
		case p.right[i]:
			p.buf.WriteString(strings.Repeat(" ", pad))
			p.buf.WriteString(cell)
		case last:
			p.buf.WriteString(cell)
		default:
			p.buf.WriteString(cell)
			p.buf.WriteString(strings.Repeat(" ", pad))
		}
		if !last {
			p.buf.WriteString("  ")
		}
	}
	p.buf.WriteByte('\n')
	_, err := p.out.Write(p.buf.Bytes())
	return err
}

func (p *tablePrinter) end() error {
	if p.fixed {
		return nil
	}
	return p.fix()
}

// tableText is a value in a table or a line: on one line, with nothing in it
// that moves the cursor.
func tableText(v wire.Value) string {
	const mostBlob = 32
	switch v.Kind() {
	case wire.KindNull:
		return "NULL"
	case wire.KindText:
		return printable(v.Str())
	case wire.KindBlob:
		s := v.Str()
		if len(s) > mostBlob {
			return fmt.Sprintf("x'%x…' (%d bytes)", s[:mostBlob], len(s))
		}
		return "x'" + hex.EncodeToString([]byte(s)) + "'"
	}
	return plainText(v)
}

// plainText is a value in csv and list: as it is, with NULL as nothing and blobs in hexadecimal.
func plainText(v wire.Value) string {
	switch v.Kind() {
	case wire.KindInteger:
		return strconv.FormatInt(v.Int(), 10)
	case wire.KindFloat:
		return floatText(v.Float64())
	case wire.KindText:
		return v.Str()
	case wire.KindBlob:
		return "x'" + hex.EncodeToString([]byte(v.Str())) + "'"
	}
	return ""
}

// floatText writes a real so that it is seen to be one.
func floatText(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "Inf"
	case math.IsInf(f, -1):
		return "-Inf"
	}
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

// printable replaces what would move the cursor or change the terminal: data
// must not be able to play the keyboard.
func printable(s string) string {
	if strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case unprintable(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// unprintable holds for control characters, and those that turn the direction of writing.
func unprintable(r rune) bool {
	return unicode.IsControl(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x2028 || r == 0x2029
}

type csvPrinter struct {
	w       *csv.Writer
	headers bool
	cells   []string
}

func (p *csvPrinter) begin(columns []client.Column) error {
	if !p.headers || len(columns) == 0 {
		return nil
	}
	p.cells = p.cells[:0]
	for _, c := range columns {
		p.cells = append(p.cells, c.Name)
	}
	return p.w.Write(p.cells)
}

func (p *csvPrinter) row(values []wire.Value) error {
	p.cells = p.cells[:0]
	for _, v := range values {
		p.cells = append(p.cells, plainText(v))
	}
	return p.w.Write(p.cells)
}

func (p *csvPrinter) end() error {
	p.w.Flush()
	return p.w.Error()
}

type listPrinter struct {
	out     io.Writer
	headers bool
}

func (p *listPrinter) begin(columns []client.Column) error {
	if !p.headers || len(columns) == 0 {
		return nil
	}
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	_, err := io.WriteString(p.out, strings.Join(names, "|")+"\n")
	return err
}

func (p *listPrinter) row(values []wire.Value) error {
	cells := make([]string, len(values))
	for i, v := range values {
		cells[i] = plainText(v)
	}
	_, err := io.WriteString(p.out, strings.Join(cells, "|")+"\n")
	return err
}

func (p *listPrinter) end() error { return nil }

type linePrinter struct {
	out   io.Writer
	names []string
	width int
	rows  int
}

func (p *linePrinter) begin(columns []client.Column) error {
	p.names, p.width, p.rows = nil, 0, 0
	for _, c := range columns {
		name := printable(c.Name)
		p.names = append(p.names, name)
		p.width = max(p.width, runewidth.StringWidth(name))
	}
	return nil
}

func (p *linePrinter) row(values []wire.Value) error {
	var b strings.Builder
	if p.rows++; p.rows > 1 {
		b.WriteByte('\n')
	}
	for i, v := range values {
		b.WriteString(strings.Repeat(" ", p.width-runewidth.StringWidth(p.names[i])))
		b.WriteString(p.names[i] + " = " + tableText(v) + "\n")
	}
	_, err := io.WriteString(p.out, b.String())
	return err
}

func (p *linePrinter) end() error { return nil }

type jsonPrinter struct {
	out     io.Writer
	columns []client.Column
	keys    [][]byte
	rows    int
}

func (p *jsonPrinter) begin(columns []client.Column) error {
	p.columns, p.keys, p.rows = columns, nil, 0
	for _, c := range columns {
		key, err := jsonText(c.Name)
		if err != nil {
			return err
		}
		p.keys = append(p.keys, key)
	}
	return nil
}

func (p *jsonPrinter) row(values []wire.Value) error {
	b := []byte(",\n{")
	if p.rows++; p.rows == 1 {
		b = []byte("[{")
	}
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, p.keys[i]...), ':')
		var err error
		if b, err = appendJSON(b, v); err != nil {
			return err
		}
	}
	_, err := p.out.Write(append(b, '}'))
	return err
}

func (p *jsonPrinter) end() error {
	text := "]\n"
	if p.rows == 0 {
		if len(p.columns) == 0 {
			return nil
		}
		text = "[]\n"
	}
	_, err := io.WriteString(p.out, text)
	return err
}

// appendJSON writes a value as the HTTP API does.
func appendJSON(b []byte, v wire.Value) ([]byte, error) {
	switch v.Kind() {
	case wire.KindInteger:
		return strconv.AppendInt(b, v.Int(), 10), nil
	case wire.KindFloat:
		switch f := v.Float64(); {
		case math.IsInf(f, 1):
			return append(b, `{"float":"inf"}`...), nil
		case math.IsInf(f, -1):
			return append(b, `{"float":"-inf"}`...), nil
		default:
			return append(b, floatText(f)...), nil
		}
	case wire.KindText:
		q, err := jsonText(v.Str())
		return append(b, q...), err
	case wire.KindBlob:
		b = append(b, `{"base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, []byte(v.Str()))
		return append(b, `"}`...), nil
	}
	return append(b, "null"...), nil
}

func jsonText(s string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// writeJSON writes a value on one line, without its end.
func writeJSON(out io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = out.Write(b)
	return err
}

// printJSON writes a value on one line.
func printJSON(out io.Writer, v any) error {
	if err := writeJSON(out, v); err != nil {
		return err
	}
	_, err := io.WriteString(out, "\n")
	return err
}
