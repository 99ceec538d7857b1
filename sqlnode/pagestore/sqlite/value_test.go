package sqlite_test

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

func values() []wire.Value {
	large := strings.Repeat("0123456789abcdef", 64<<10) // 1 MB
	return []wire.Value{
		wire.Null,
		wire.Integer(0), wire.Integer(1), wire.Integer(-1),
		wire.Integer(math.MaxInt64), wire.Integer(math.MinInt64), wire.Integer(1 << 53),
		wire.Float(0), wire.Float(-1.5), wire.Float(math.MaxFloat64), wire.Float(math.SmallestNonzeroFloat64),
		wire.Float(math.Inf(1)), wire.Float(math.Inf(-1)), wire.Float(math.NaN()),
		wire.Text(""), wire.Text("a"), wire.Text("a\x00b"), wire.Text("\x00"), wire.Text("\xff\xfe not UTF-8"),
		wire.Text("naïve 日本 🙂"), wire.Text(large),
		wire.Blob(nil), wire.Blob([]byte{0}), wire.Blob([]byte("a\x00b")), wire.BlobString(large),
	}
}

func TestValuesComeBack(t *testing.T) {
	for _, name := range []string{":memory:", t.TempDir() + "/values.db"} {
		c := openAt(t, name)
		run(t, c, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
		insert := prepare(t, c, "INSERT INTO t VALUES(?1, ?2) RETURNING v, typeof(v)")
		for i, want := range values() {
			for _, all := range []bool{false, true} {
				var err error
				if all {
					err = insert.BindAll([]wire.Value{wire.Null, want})
				} else {
					insert.Bind(1, wire.Null)
					err = insert.Bind(2, want)
				}
				if err != nil {
					t.Fatalf("bind %.40v: %v", want, err)
				}
				if row, err := insert.Step(); err != nil || !row {
					t.Fatalf("insert %.40v: %v %v", want, row, err)
				}
				if got := insert.Column(0); got != want {
					t.Errorf("value %d: got %.40v, want %.40v", i, got, want)
				}
				if got := insert.ColumnKind(0); got != want.Kind() {
					t.Errorf("value %d: got %v, want %v", i, got, want.Kind())
				}
				if got := insert.Column(1).Str(); got != want.Kind().String() {
					t.Errorf("value %d: SQLite sees %v, want %v", i, got, want.Kind())
				}
				if s := want.Str(); s != "" && !bytes.Equal(insert.ColumnBytes(0), []byte(s)) {
					t.Errorf("value %d: bytes differ", i)
				}
				if row, err := insert.Step(); err != nil || row {
					t.Fatalf("insert %.40v: %v %v", want, row, err)
				}
			}
		}
		// As stored.
		s := prepare(t, c, "SELECT v FROM t ORDER BY id")
		for i, want := range values() {
			for range 2 {
				if row, err := s.Step(); err != nil || !row {
					t.Fatal(row, err)
				}
				if got := s.Column(0); got != want {
					t.Errorf("stored value %d: got %.40v, want %.40v", i, got, want)
				}
			}
		}
	}
}

func TestUTF16Database(t *testing.T) {
	c := open(t)
	run(t, c, "PRAGMA encoding='UTF-16'; CREATE TABLE t(v)")
	s := prepare(t, c, "INSERT INTO t VALUES(?) RETURNING v")
	for _, text := range []string{"", "abc", "日本 🙂", strings.Repeat("é", 5000)} {
		if err := s.BindAll([]wire.Value{wire.Text(text)}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Step(); err != nil {
			t.Fatal(err)
		}
		if got := s.Column(0); got != wire.Text(text) {
			t.Errorf("got %.40v, want %.40q", got, text)
		}
		s.Reset()
	}
}

func TestConversions(t *testing.T) {
	c := openMemory(t)
	s := prepare(t, c, "SELECT '12.5x', 7, 2.75, x'3132', NULL")
	if s.ColumnInt64(0) != 0 || s.Column(1) != wire.Null || s.ColumnBytes(0) != nil || s.ColumnKind(1) != wire.KindNull || s.ColumnFloat(1) != 0 {
		t.Error("a statement without a row has values")
	}
	s.Step()
	if got := s.ColumnInt64(0); got != 12 {
		t.Errorf("got %d", got)
	}
	if got := s.ColumnFloat(0); got != 12.5 {
		t.Errorf("got %g", got)
	}
	if got := s.ColumnInt64(2); got != 2 {
		t.Errorf("got %d", got)
	}
	if got := string(s.ColumnBytes(1)); got != "7" {
		t.Errorf("got %q", got)
	}
	if got := s.ColumnBytes(4); got != nil {
		t.Errorf("got %q", got)
	}
	for _, i := range []int{-1, 5, 1 << 30, math.MaxInt, math.MinInt} {
		if s.Column(i) != wire.Null || s.ColumnInt64(i) != 0 || s.ColumnBytes(i) != nil || s.ColumnName(i) != "" || s.ColumnDeclType(i) != "" {
			t.Errorf("column %d has a value", i)
		}
	}
}

func TestBindings(t *testing.T) {
	c := openMemory(t)
	s := prepare(t, c, "SELECT ?1, :name, @at, $dollar, ?7, ?")
	if got := s.ParamCount(); got != 8 {
		t.Errorf("%d parameters", got)
	}
	for i, want := range []string{"", "?1", ":name", "@at", "$dollar", "", "", "?7", ""} {
		if got := s.ParamName(i); got != want {
			t.Errorf("parameter %d: %q, want %q", i, got, want)
		}
	}
	for name, want := range map[string]int{"?1": 1, ":name": 2, "name": 0, "$dollar": 4, "?7": 7, "": 0, "a\x00": 0} {
		if got := s.ParamIndex(name); got != want {
			t.Errorf("parameter %q: %d, want %d", name, got, want)
		}
	}
	for _, i := range []int{-1, 0, 9, 1 << 30} {
		if err := s.Bind(i, wire.Integer(1)); sqlite.ErrorCode(err) != sqlite.CodeRange {
			t.Errorf("bind %d: %v", i, err)
		}
	}
	if err := s.BindAll(make([]wire.Value, 9)); sqlite.ErrorCode(err) != sqlite.CodeRange {
		t.Error(err)
	}

	row := func() []wire.Value {
		t.Helper()
		if ok, err := s.Step(); !ok || err != nil {
			t.Fatal(ok, err)
		}
		var r []wire.Value
		for i := range s.ColumnCount() {
			r = append(r, s.Column(i))
		}
		return r
	}
	want := func(vs ...wire.Value) {
		t.Helper()
		got := row()
		for i := range vs {
			if got[i] != vs[i] {
				t.Errorf("column %d: %v, want %v", i, got[i], vs[i])
			}
		}
		if err := s.Bind(1, wire.Text("x")); sqlite.ErrorCode(err) != sqlite.CodeMisuse {
			t.Errorf("bind while it runs: %v", err)
		}
		if err := s.BindAll(nil); sqlite.ErrorCode(err) != sqlite.CodeMisuse {
			t.Errorf("bind while it runs: %v", err)
		}
		if err := s.Reset(); err != nil {
			t.Error(err)
		}
	}
	a, b := wire.Text("first"), wire.Text(strings.Repeat("second", 100))
	s.BindAll([]wire.Value{a, b, a, b})
	want(a, b, a, b, wire.Null, wire.Null)
	want(a, b, a, b) // bindings outlive Reset
	s.Bind(2, wire.Blob([]byte("own")))
	want(a, wire.Blob([]byte("own")), a, b)
	s.Bind(2, b)
	s.Bind(1, b)
	want(b, b, a, b)
	s.BindAll([]wire.Value{wire.Text("x")}) // fits in the old memory; the rest becomes NULL
	want(wire.Text("x"), wire.Null, wire.Null, wire.Null)

	big := wire.Text(strings.Repeat("b", 3<<20))
	s.BindAll([]wire.Value{big, a})
	want(big, a)
	if n := s.BindMemory(); n < 3<<20 {
		t.Errorf("%d bytes bound", n)
	}
	s.BindAll([]wire.Value{a, a})
	want(a, a)
	if n := s.BindMemory(); n > 1<<20 {
		t.Errorf("%d bytes kept", n)
	}
	s.Bind(3, big)
	s.Bind(3, a)
	want(a, a, a)
	if n := s.BindMemory(); n > 1<<20 {
		t.Errorf("%d bytes kept", n)
	}
	s.ClearBindings()
	if n := s.BindMemory(); n != 0 {
		t.Errorf("%d bytes kept", n)
	}
	want(wire.Null, wire.Null, wire.Null, wire.Null)

	c.Limit(sqlite.LimitLength, 1000)
	long := wire.Text(strings.Repeat("l", 2000))
	if err := s.BindAll([]wire.Value{a, long, a}); sqlite.ErrorCode(err) != sqlite.CodeTooBig {
		t.Errorf("bind a text beyond the limit: %v", err)
	}
	want(wire.Null, wire.Null, wire.Null)
	s.Bind(1, a)
	if err := s.Bind(1, long); sqlite.ErrorCode(err) != sqlite.CodeTooBig {
		t.Errorf("bind a text beyond the limit: %v", err)
	}
	want(wire.Null)
}
