package tenant

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestLimitsTableIsWhole(t *testing.T) {
	var l Limits
	rows := l.table()
	typ := reflect.TypeFor[Limits]()
	if len(rows) != typ.NumField() {
		t.Fatalf("the table has %d rows for %d fields", len(rows), typ.NumField())
	}
	for i, row := range rows {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		if name != row.name {
			t.Errorf("row %d is %q, field is %q", i, row.name, name)
		}
		if (row.number == nil) == (row.duration == nil) {
			t.Errorf("row %q points at both or neither", row.name)
		}
	}
	d := reflect.ValueOf(DefaultLimits())
	for i := range d.NumField() {
		if d.Field(i).IsZero() {
			t.Errorf("%s has no default", typ.Field(i).Name)
		}
	}
	if err := DefaultLimits().Validate(); err != nil {
		t.Error(err)
	}
}

func TestLimitsValidateNamesTheField(t *testing.T) {
	if err := (Limits{}).Validate(); err != nil {
		t.Errorf("zero means default: %v", err)
	}
	for want, l := range map[string]Limits{
		"size":             {Size: -1},
		"statement":        {Statement: 1},
		"params":           {Params: 32767},
		"statement_time":   {StatementTime: 1},
		"answer_rows":      {AnswerRows: -5},
		"answer_bytes":     {AnswerBytes: 2 << 30},
		"transaction":      {Transaction: 1},
		"transaction_idle": {TransactionIdle: Duration(2 * time.Hour)},
		"transaction_time": {TransactionTime: -1},
		"in_flight":        {InFlight: 1 << 20},
		"batch_statements": {BatchStatements: -1},
		"readers":          {Readers: 257},
	} {
		err := l.Validate()
		var le *LimitError
		if !errors.As(err, &le) || le.Field != want {
			t.Errorf("got %v, want an error of %s", err, want)
		}
	}
}

func TestLimitsMerge(t *testing.T) {
	l := Limits{Readers: 2, StatementTime: Duration(time.Second)}.WithDefaults()
	want := DefaultLimits()
	want.Readers, want.StatementTime = 2, Duration(time.Second)
	if l != want {
		t.Errorf("got %+v, want %+v", l, want)
	}
}

func TestLimitsJSON(t *testing.T) {
	l := Limits{Size: 1 << 30, StatementTime: Duration(1500 * time.Millisecond)}
	b, err := json.Marshal(l)
	if err != nil || string(b) != `{"size":1073741824,"statement_time":"1.5s"}` {
		t.Fatalf("got %s, %v", b, err)
	}
	var back Limits
	if err := json.Unmarshal(b, &back); err != nil || back != l {
		t.Fatalf("got %+v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"statement_time":"5"}`), &back); err == nil || !strings.Contains(err.Error(), "unit") {
		t.Errorf("got %v", err)
	}
}

func TestLimitsSet(t *testing.T) {
	var l Limits
	for name, value := range map[string]string{"size": "2GiB", "statement": "64k", "params": "100", "statement_time": "1.5s", "answer_bytes": "1MB"} {
		if err := l.Set(name, value); err != nil {
			t.Error(err)
		}
	}
	if want := (Limits{Size: 2 << 30, Statement: 64000, Params: 100, StatementTime: Duration(1500 * time.Millisecond), AnswerBytes: 1e6}); l != want {
		t.Errorf("got %+v, want %+v", l, want)
	}
	if err := l.Set("size", "default"); err != nil || l.Size != 0 {
		t.Errorf("got %d, %v", l.Size, err)
	}
	for _, bad := range [][2]string{{"colour", "1"}, {"size", ""}, {"size", "x"}, {"size", "1T"}, {"size", "-1"}, {"size", "0"},
		{"size", "9223372036854775807k"}, {"statement_time", "5"}, {"readers", "1000"}, {"params", "1.5"}} {
		if err := (&Limits{}).Set(bad[0], bad[1]); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
