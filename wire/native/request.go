package native

import (
	"encoding/base64"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/nearsql/nearsql/wire"
)

// Limits bound what one request may hold. Each must be set.
type Limits struct {
	Statements int // of a batch
	Arguments  int // of a statement
}

// DecodeRequest reads the body of a request into req.Statements and req.Batch;
// other fields of req are left alone. Errors are *wire.Error.
func DecodeRequest(body []byte, limits Limits, req *wire.Request) error {
	s, err := newScanner(body)
	if err != nil {
		return err
	}
	d := requestDecoder{scanner: s, limits: limits, statement: -1}
	if err := d.request(req); err != nil {
		return d.locate(err)
	}
	return nil
}

// CheckSQL refuses text that SQLite would not read to its end, or that is not UTF-8.
func CheckSQL(sql string) error {
	if i := strings.IndexByte(sql, 0); i >= 0 {
		return wire.NewError(wire.CodeBadRequest, "the SQL has a NUL character at offset %d", i)
	}
	return nil
}

// maxNameShown is how many bytes of a client's name for a field a message repeats.
const maxNameShown = 64

func shown(name string) string {
	if len(name) > maxNameShown {
		return strconv.Quote(strings.ToValidUTF8(name[:maxNameShown], "")) + "…"
	}
	return strconv.Quote(name)
}

type requestDecoder struct {
	scanner
	limits    Limits
	statement int           // index of the statement being read; -1 for none
	scratch   [8]wire.Value // arguments of most statements
	named     [4]wire.NamedArg
}

// locate adds the statement that an error is about.
func (d *requestDecoder) locate(err error) error {
	var e *wire.Error
	if d.statement >= 0 && errors.As(err, &e) {
		return e.At(d.statement + 1)
	}
	return err
}

// wrongType says what was found at path.
func (d *requestDecoder) wrongType(path, want string) error {
	if d.peek() == 0 && d.off >= len(d.b) {
		return d.errorf("the body ends")
	}
	return wire.NewError(wire.CodeBadJSON, "%s: want %s, found %s", path, want, d.found())
}

func (d *requestDecoder) path(field string) string {
	if d.statement >= 0 {
		return "statements[" + strconv.Itoa(d.statement) + "]." + field
	}
	return field
}

func (d *requestDecoder) request(req *wire.Request) error {
	if d.peek() != '{' {
		return d.wrongType("body", "an object")
	}
	d.off++
	var one wire.Statement
	var seen fields
	var list []wire.Statement
	for first := true; ; first = false {
		more, err := d.more('}', first)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		name, err := d.key()
		if err != nil {
			return err
		}
		if name == "statements" {
			if err = seen.mark(hasStatements, "statements"); err == nil {
				list, err = d.statements()
			}
		} else {
			err = d.field(name, &one, &seen)
		}
		if err != nil {
			return err
		}
	}
	if d.peek() != 0 || d.off < len(d.b) {
		return d.errorf("more after the body's object")
	}
	switch {
	case seen&hasStatements != 0 && seen != hasStatements:
		return wire.NewError(wire.CodeBadRequest, `the body has both "statements" and "sql" or "args"`)
	case seen&hasStatements != 0:
		if len(list) == 0 {
			return wire.NewError(wire.CodeEmptyStatement, `"statements" is empty`)
		}
		req.Statements, req.Batch = list, true
		return nil
	case seen&hasSQL == 0:
		return wire.NewError(wire.CodeBadRequest, `the body has neither "sql" nor "statements"`)
	}
	req.Statements, req.Batch = []wire.Statement{one}, false
	return nil
}

// fields are those that an object has had.
type fields uint8

const (
	hasSQL fields = 1 << iota
	hasArgs
	hasStatements
)

func (f *fields) mark(field fields, name string) error {
	if *f&field != 0 {
		return wire.NewError(wire.CodeUnknownField, "field %q comes twice", name)
	}
	*f |= field
	return nil
}

// field reads a field of a statement.
func (d *requestDecoder) field(name string, s *wire.Statement, seen *fields) error {
	switch name {
	case "sql":
		if err := seen.mark(hasSQL, name); err != nil {
			return err
		}
		if d.peek() != '"' {
			return d.wrongType(d.path(name), "a string")
		}
		var err error
		if s.SQL, err = d.str(); err != nil {
			return err
		}
		return CheckSQL(s.SQL)
	case "args":
		if err := seen.mark(hasArgs, name); err != nil {
			return err
		}
		return d.args(s)
	}
	return wire.NewError(wire.CodeUnknownField, "unknown field %s", shown(name))
}

func (d *requestDecoder) statements() ([]wire.Statement, error) {
	if d.peek() != '[' {
		return nil, d.wrongType("statements", "an array")
	}
	d.off++
	var list []wire.Statement
	for {
		more, err := d.more(']', len(list) == 0)
		if err != nil {
			return nil, err
		}
		if !more {
			d.statement = -1
			return list, nil
		}
		if len(list) == d.limits.Statements {
			return nil, wire.NewError(wire.CodeTooManyStatements, "more than %d statements in one request", d.limits.Statements)
		}
		d.statement = len(list)
		if d.peek() != '{' {
			return nil, d.wrongType("statements["+strconv.Itoa(d.statement)+"]", "an object")
		}
		d.off++
		var s wire.Statement
		var seen fields
		for first := true; ; first = false {
			more, err := d.more('}', first)
			if err != nil {
				return nil, err
			}
			if !more {
				break
			}
			name, err := d.key()
			if err != nil {
				return nil, err
			}
			if err := d.field(name, &s, &seen); err != nil {
				return nil, err
			}
		}
		if seen&hasSQL == 0 {
			return nil, wire.NewError(wire.CodeBadRequest, `statements[%d] has no "sql"`, d.statement)
		}
		list = append(list, s)
	}
}

func (d *requestDecoder) args(s *wire.Statement) error {
	switch d.peek() {
	case '[':
		return d.positional(s)
	case '{':
		return d.namedArgs(s)
	case 'n':
		return d.literal("null")
	}
	return d.wrongType(d.path("args"), "an array, an object or null")
}

func (d *requestDecoder) positional(s *wire.Statement) error {
	d.off++
	list := d.scratch[:0]
	for {
		more, err := d.more(']', len(list) == 0)
		if err != nil {
			return err
		}
		if !more {
			if len(list) > 0 {
				s.Args = slices.Clone(list)
			}
			return nil
		}
		if len(list) == d.limits.Arguments {
			return wire.NewError(wire.CodeArgumentCount, "%s: more than %d arguments", d.path("args"), d.limits.Arguments)
		}
		v, err := d.value(len(list), "")
		if err != nil {
			return err
		}
		list = append(list, v)
	}
}

func (d *requestDecoder) namedArgs(s *wire.Statement) error {
	d.off++
	list := d.named[:0]
	var names map[string]struct{} // beyond a few
	for {
		more, err := d.more('}', len(list) == 0)
		if err != nil {
			return err
		}
		if !more {
			if len(list) > 0 {
				s.Named = slices.Clone(list)
			}
			return nil
		}
		if len(list) == d.limits.Arguments {
			return wire.NewError(wire.CodeArgumentCount, "%s: more than %d arguments", d.path("args"), d.limits.Arguments)
		}
		name, err := d.key()
		if err != nil {
			return err
		}
		twice := false
		if names == nil {
			twice = slices.ContainsFunc(list, func(a wire.NamedArg) bool { return a.Name == name })
		} else {
			_, twice = names[name]
		}
		if twice {
			return wire.NewError(wire.CodeUnknownField, "%s: argument %s comes twice", d.path("args"), shown(name))
		}
		v, err := d.value(-1, name)
		if err != nil {
			return err
		}
		list = append(list, wire.NamedArg{Name: name, Value: v})
		switch {
		case names != nil:
			names[name] = struct{}{}
		case len(list) == 16:
			names = make(map[string]struct{}, 32)
			for _, a := range list {
				names[a.Name] = struct{}{}
			}
		}
	}
}

// argPath is the path of an argument: the one called name, or at index.
func (d *requestDecoder) argPath(index int, name string) string {
	if index < 0 {
		return d.path("args") + "[" + shown(name) + "]"
	}
	return d.path("args") + "[" + strconv.Itoa(index) + "]"
}

func (d *requestDecoder) badArgument(index int, name, format string, args ...any) error {
	return wire.NewError(wire.CodeBadArgument, "%s: "+format, append([]any{d.argPath(index, name)}, args...)...)
}

func (d *requestDecoder) value(index int, name string) (wire.Value, error) {
	switch c := d.peek(); {
	case c == '"':
		t, err := d.str()
		return wire.Text(t), err
	case c == '-' || c >= '0' && c <= '9':
		text, integer, err := d.number()
		if err != nil {
			return wire.Null, err
		}
		if integer {
			i, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return wire.Null, d.badArgument(index, name, "integer %s is beyond 64 bits", abridged(text))
			}
			return wire.Integer(i), nil
		}
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return wire.Null, d.badArgument(index, name, "number %s is beyond what a real can be", abridged(text))
		}
		return wire.Float(f), nil
	case c == 'n':
		return wire.Null, d.literal("null")
	case c == 't':
		return wire.Integer(1), d.literal("true")
	case c == 'f':
		return wire.Integer(0), d.literal("false")
	case c == '{':
		return d.object(index, name)
	case c == '[':
		return wire.Null, d.badArgument(index, name, "an array is no SQLite value")
	}
	return wire.Null, d.wrongType(d.argPath(index, name), "a value")
}

func abridged(number string) string {
	if len(number) > 40 {
		return number[:40] + "…"
	}
	return number
}

// object reads {"base64":…}, {"integer":…} or {"float":…}.
func (d *requestDecoder) object(index int, name string) (wire.Value, error) {
	const want = `an object as an argument is {"base64":"…"}, {"integer":"…"} or {"float":"inf"}`
	d.off++
	more, err := d.more('}', true)
	if err != nil {
		return wire.Null, err
	}
	if !more {
		return wire.Null, d.badArgument(index, name, want)
	}
	key, err := d.key()
	if err != nil {
		return wire.Null, err
	}
	switch key {
	case "base64", "integer", "float":
	default:
		return wire.Null, wire.NewError(wire.CodeUnknownField, "%s: unknown field %s: "+want, d.argPath(index, name), shown(key))
	}
	if d.peek() != '"' {
		return wire.Null, d.wrongType(d.argPath(index, name)+"."+key, "a string")
	}
	text, err := d.str()
	if err != nil {
		return wire.Null, err
	}
	if more, err = d.more('}', false); err != nil {
		return wire.Null, err
	} else if more {
		return wire.Null, wire.NewError(wire.CodeUnknownField, "%s: more than one field: "+want, d.argPath(index, name))
	}
	switch key {
	case "base64":
		b, ok := decodeBase64(text)
		if !ok {
			return wire.Null, d.badArgument(index, name, "bad base64")
		}
		return wire.BlobString(b), nil
	case "integer":
		i, err := strconv.ParseInt(text, 10, 64)
		if err != nil || text[0] == '+' {
			return wire.Null, d.badArgument(index, name, "%s is no integer of 64 bits", shown(text))
		}
		return wire.Integer(i), nil
	}
	switch text {
	case "inf":
		return wire.Float(math.Inf(1)), nil
	case "-inf":
		return wire.Float(math.Inf(-1)), nil
	}
	return wire.Null, d.badArgument(index, name, `want "inf" or "-inf", found %s`, shown(text))
}

// decodeBase64 decodes the standard alphabet, with padding or without.
func decodeBase64(text string) (string, bool) {
	if n := len(text); n%4 == 0 && strings.HasSuffix(text, "=") {
		text = strings.TrimSuffix(text[:n-1], "=")
	}
	if strings.ContainsAny(text, "\r\n") { // which package base64 passes over
		return "", false
	}
	b, err := base64.RawStdEncoding.Strict().DecodeString(text)
	return string(b), err == nil
}

// DecodeArgs reads what the field "args" of a statement would have: an array, an object, or null.
func DecodeArgs(text []byte, limits Limits, into *wire.Statement) error {
	s, err := newScanner(text)
	if err != nil {
		return err
	}
	d := requestDecoder{scanner: s, limits: limits, statement: -1}
	if err := d.args(into); err != nil {
		return err
	}
	if d.peek(); d.off < len(d.b) {
		return d.errorf("more after the arguments")
	}
	return nil
}
