package native

import (
	"strconv"
	"unicode/utf8"

	"github.com/nearsql/nearsql/wire"
)

// columnSet writes the columns of one statement and the rows below them.
type columnSet struct {
	opts    Options
	columns []wire.Column
	// With objects:
	keys []byte         // `"name":` of each column, one after another
	ends []int          // ends of those in keys
	used map[string]int // names of columns; 0 until one has it as its key, then the number it was last given
}

func (c *columnSet) begin(columns []wire.Column, o Options) {
	c.opts, c.columns = o, columns
	if !o.Objects {
		return
	}
	c.keys, c.ends = c.keys[:0], c.ends[:0]
	if c.used == nil {
		c.used = make(map[string]int, len(columns))
	}
	clear(c.used)
	for i := range columns {
		c.used[validUTF8(columns[i].Name)] = 0
	}
	for i := range columns {
		c.keys = AppendString(c.keys, c.key(validUTF8(columns[i].Name)))
		c.keys = append(c.keys, ':')
		c.ends = append(c.ends, len(c.keys))
	}
}

// key is the field for the next column, which is called name. A name that came before
// gets a number, as most clients keep one of two fields of the same name.
func (c *columnSet) key(name string) string {
	n := c.used[name]
	if n == 0 {
		c.used[name] = 1
		return name
	}
	for {
		n++
		numbered := name + "_" + strconv.Itoa(n)
		if _, taken := c.used[numbered]; !taken {
			c.used[name], c.used[numbered] = n, 1
			return numbered
		}
	}
}

// validUTF8 is s as AppendString writes it.
func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s)) // one U+FFFD for each bad byte
}

// appendHeader appends "columns" and "types". The type of a column without a declared one is
// that of the first row's value; row is nil when there is none.
func (c *columnSet) appendHeader(dst []byte, row []wire.Value) []byte {
	dst = append(dst, `"columns":[`...)
	from := 0
	for i := range c.columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		if c.opts.Objects {
			dst = append(dst, c.keys[from:c.ends[i]-1]...)
			from = c.ends[i]
		} else {
			dst = AppendString(dst, c.columns[i].Name)
		}
	}
	dst = append(dst, `],"types":[`...)
	for i := range c.columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		switch decl := c.columns[i].DeclType; {
		case decl != "":
			dst = appendLower(dst, decl)
		case i < len(row):
			dst = AppendString(dst, row[i].Kind().String())
		default:
			dst = append(dst, `"null"`...)
		}
	}
	return append(dst, ']')
}

// appendLower is AppendString with the letters of ASCII in lower case, as all
// letters of an escape are.
func appendLower(dst []byte, s string) []byte {
	start := len(dst)
	dst = AppendString(dst, s)
	for i, b := range dst[start:] {
		if b >= 'A' && b <= 'Z' {
			dst[start+i] = b | 0x20
		}
	}
	return dst
}

func (c *columnSet) appendRow(dst []byte, row []wire.Value) []byte {
	if !c.opts.Objects {
		dst = append(dst, '[')
		for i, v := range row {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendValue(dst, v, c.opts)
		}
		return append(dst, ']')
	}
	dst = append(dst, '{')
	from := 0
	for i, v := range row[:min(len(row), len(c.ends))] {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, c.keys[from:c.ends[i]]...)
		from = c.ends[i]
		dst = AppendValue(dst, v, c.opts)
	}
	return append(dst, '}')
}

// appendSummary appends "rows_affected" and "last_insert_rowid".
func appendSummary(dst []byte, s wire.Summary, o Options) []byte {
	dst = append(dst, `"rows_affected":`...)
	dst = strconv.AppendInt(dst, s.RowsAffected, 10)
	dst = append(dst, `,"last_insert_rowid":`...)
	if !s.Inserted {
		return append(dst, "null"...)
	}
	return appendInteger(dst, s.LastInsertRowID, o)
}
