package sqldriver

import (
	"database/sql/driver"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// statement makes a wire.Statement of what database/sql has.
func statement(sql string, args []driver.NamedValue) (wire.Statement, error) {
	s := wire.Statement{SQL: sql}
	if len(args) == 0 {
		return s, nil
	}
	named := args[0].Name != ""
	for _, a := range args {
		v, err := value(a.Value)
		switch {
		case err != nil:
			return s, err
		case named != (a.Name != ""):
			return s, wire.NewError(wire.CodeBadArgument, "arguments by position and by name: a statement takes one kind")
		case named:
			s.Named = append(s.Named, wire.NamedArg{Name: a.Name, Value: v})
		default:
			s.Args = append(s.Args, v)
		}
	}
	return s, nil
}

// CheckNamedValue implements driver.NamedValueChecker: beside what package sql knows, a wire.Value is an argument.
func (c *conn) CheckNamedValue(a *driver.NamedValue) error {
	if _, ok := a.Value.(wire.Value); ok {
		return nil
	}
	v, err := driver.DefaultParameterConverter.ConvertValue(a.Value)
	if err != nil {
		return wire.NewError(wire.CodeBadArgument, "argument %d: %w", a.Ordinal, err)
	}
	a.Value = v
	return nil
}

// timeFormat is that of CURRENT_TIMESTAMP, with a fraction if there is one.
const timeFormat = "2006-01-02 15:04:05.999999999"

// value makes a value of SQLite of one that CheckNamedValue let pass.
func value(v driver.Value) (wire.Value, error) {
	switch v := v.(type) {
	case nil:
		return wire.Null, nil
	case wire.Value:
		return v, nil
	case int64:
		return wire.Integer(v), nil
	case float64:
		return wire.Float(v), nil
	case bool:
		if v {
			return wire.Integer(1), nil
		}
		return wire.Integer(0), nil
	case string:
		return wire.Text(v), nil
	case []byte:
		if v == nil {
			return wire.Null, nil
		}
		return wire.Blob(v), nil
	case time.Time:
		v = v.UTC()
		if v.Year() < 0 || v.Year() > 9999 {
			return wire.Null, wire.NewError(wire.CodeBadArgument, "the year %d is none that SQLite has", v.Year())
		}
		return wire.Text(v.Format(timeFormat)), nil
	}
	return wire.Null, wire.NewError(wire.CodeBadArgument, "a %T is no value of SQLite", v)
}

// result makes a value for package sql. times says that a text may be a time.
func result(v wire.Value, times bool) driver.Value {
	switch v.Kind() {
	case wire.KindInteger:
		return v.Int()
	case wire.KindFloat:
		return v.Float64()
	case wire.KindText:
		if times {
			if t, ok := parseTime(v.Str()); ok {
				return t
			}
		}
		return v.Str()
	case wire.KindBlob:
		return []byte(v.Str())
	}
	return nil
}

// timeForms are those that SQLite's date functions read (https://www.sqlite.org/lang_datefunc.html), but for times
// without a date. A fraction of a second may follow the seconds of any.
var timeForms = [...]string{
	"2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05-07:00", "2006-01-02T15:04:05Z07:00", "2006-01-02 15:04:05", "2006-01-02T15:04:05",
	"2006-01-02 15:04Z07:00", "2006-01-02T15:04Z07:00", "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02",
}

func parseTime(s string) (time.Time, bool) {
	if len(s) < len("2006-01-02") || len(s) > 40 || s[4] != '-' {
		return time.Time{}, false
	}
	for _, form := range timeForms {
		if t, err := time.Parse(form, s); err == nil {
			if _, off := t.Zone(); off == 0 {
				t = t.UTC()
			}
			return t, true
		}
	}
	return time.Time{}, false
}
