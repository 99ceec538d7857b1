package native

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/wire"
)

var addGolden = flag.Bool("add-golden", false, "write golden files that are missing; those that exist are never changed")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	want, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && *addGolden {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%swant\n%s", name, got, want)
	}
}

var (
	sampleColumns = []wire.Column{{Name: "id", DeclType: "INTEGER"}, {Name: `na"me`}, {Name: "r", DeclType: "Real"}, {Name: "b"}, {Name: "id"}, {Name: "id_2"}, {Name: "id"}}
	sampleRows    = [][]wire.Value{
		{wire.Integer(math.MaxInt64), wire.Text("Ada\n\"\\\x01é😀"), wire.Float(1), wire.BlobString("\x00\xff"), wire.Null, wire.Integer(-1), wire.Integer(0)},
		{wire.Integer(0), wire.Text("bad \xff\xfe"), wire.Float(math.Inf(-1)), wire.Blob(nil), wire.Float(1e21), wire.Float(-0.5), wire.Float(1e-7)},
	}
	sampleMeta = wire.Meta{Consistency: wire.Weak, Staleness: 40*time.Millisecond + 1, Node: "ams-1", PoP: "ams", Role: "replica",
		Duration: 210 * time.Microsecond, Bookmark: "b1"}
)

func feed(t testing.TB, s wire.Sink) {
	for _, err := range []error{
		s.Begin(0, sampleColumns), s.Row(sampleRows[0]), s.Row(sampleRows[1]), s.End(wire.Summary{}),
		s.Begin(1, nil), s.End(wire.Summary{RowsAffected: 2, LastInsertRowID: 1 << 60, Inserted: true}),
		s.Begin(2, sampleColumns[:2]), s.End(wire.Summary{}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnswerGolden(t *testing.T) {
	for name, o := range map[string]Options{"arrays": {}, "objects": {Objects: true}, "strings": {IntegerString: true}} {
		var a Answer
		for range 2 { // twice with one buffer
			a.Reset(o, 0)
			feed(t, &a)
			got := a.Finish(&sampleMeta)
			if !json.Valid(got) {
				t.Errorf("%s: not JSON: %s", name, got)
			}
			golden(t, "answer."+name+".json", got)
		}
		var l Lines
		var out bytes.Buffer
		for range 2 {
			out.Reset()
			l.Reset(&out, o)
			feed(t, &l)
			if l.Written() != 0 {
				t.Error("written before it is full")
			}
			if err := l.Finish(&sampleMeta); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(out.String()) {
				if !json.Valid([]byte(line)) {
					t.Errorf("%s: not JSON: %s", name, line)
				}
			}
			golden(t, "answer."+name+".ndjson", out.Bytes())
		}
	}
	e := wire.NewError(wire.CodeOverloaded, "the queue of tenant \"a\" is full").At(1)
	e.RetryAfter = 1500 * time.Microsecond
	golden(t, "error.json", append(AppendError(nil, e), '\n'))
	var a Answer
	a.Reset(Options{}, 0)
	golden(t, "empty.json", a.Finish(&wire.Meta{Consistency: wire.Strong, Replayed: true, Duration: 1234567 * time.Microsecond}))
	var out bytes.Buffer
	var l Lines
	l.Reset(&out, Options{})
	if err := errors.Join(l.Begin(0, sampleColumns[:1]), l.Row(sampleRows[0][:1]), l.Fail(e)); err != nil {
		t.Fatal(err)
	}
	golden(t, "error.ndjson", out.Bytes())
}

func TestAnswerLimit(t *testing.T) {
	var a Answer
	a.Reset(Options{}, 1000)
	if err := a.Begin(0, sampleColumns[:1]); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if err := a.Row([]wire.Value{wire.Text("0123456789")}); err != nil {
			if !errors.Is(err, &wire.Error{Code: wire.CodeAnswerTooLarge}) && wire.AsError(err).Code != wire.CodeAnswerTooLarge || i < 50 {
				t.Errorf("row %d: %v", i, err)
			}
			return
		}
	}
	t.Error("no limit")
}

func TestManyEqualNames(t *testing.T) {
	// 2,000 columns are the most that SQLite has; this must not take time in their cube.
	columns := make([]wire.Column, 2000)
	row := make([]wire.Value, len(columns))
	for i := range columns {
		columns[i].Name = "1"
	}
	var a Answer
	a.Reset(Options{Objects: true}, 0)
	_ = a.Begin(0, columns)
	_ = a.Row(row)
	_ = a.End(wire.Summary{})
	var got struct {
		Results []struct{ Rows []map[string]any }
	}
	if err := json.Unmarshal(a.Finish(&wire.Meta{}), &got); err != nil {
		t.Fatal(err)
	}
	if n := len(got.Results[0].Rows[0]); n != len(columns) {
		t.Errorf("%d fields, want %d", n, len(columns))
	}
}

func TestValues(t *testing.T) {
	for want, v := range map[string]wire.Value{
		"1.0":                         wire.Float(1),
		"-0.0":                        wire.Float(math.Copysign(0, -1)),
		"0.1":                         wire.Float(0.1),
		"100000000000000000000.0":     wire.Float(1e20),
		"1e+21":                       wire.Float(1e21),
		"1e-07":                       wire.Float(1e-7),
		"1.7976931348623157e+308":     wire.Float(math.MaxFloat64),
		`{"float":"inf"}`:             wire.Float(math.Inf(1)),
		"-9223372036854775808":        wire.Integer(math.MinInt64),
		"null":                        wire.Null,
		`{"base64":"AP8="}`:           wire.BlobString("\x00\xff"),
		`"\u0000\u001f"`:              wire.Text("\x00\x1f"),
		`"` + "\u2028</script>" + `"`: wire.Text("\u2028</script>"),
	} {
		if got := string(AppendValue(nil, v, Options{})); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	long := strings.Repeat("x", 5000)
	got := AppendValue(nil, wire.BlobString(long), Options{})
	var back struct{ Base64 []byte }
	if err := json.Unmarshal(got, &back); err != nil || string(back.Base64) != long {
		t.Errorf("long blob: %v", err)
	}
}

func TestAllocations(t *testing.T) {
	var a Answer
	if n := testing.AllocsPerRun(100, func() {
		a.Reset(Options{}, 0)
		feed(t, &a)
		a.Finish(&sampleMeta)
	}); n > 1 { // the list of errors in feed
		t.Errorf("answer: %v allocations", n)
	}
	body := []byte(`{"sql":"select name from users where id = ?","args":[12345]}`)
	var req wire.Request
	if n := testing.AllocsPerRun(100, func() {
		if err := DecodeRequest(body, testLimits, &req); err != nil {
			t.Fatal(err)
		}
	}); n > 3 { // a copy of the body, a statement, its arguments
		t.Errorf("request: %v allocations", n)
	}
}

func BenchmarkDecodeRequest(b *testing.B) {
	body := []byte(`{"sql":"select name from users where id = ?","args":[12345]}`)
	b.ReportAllocs()
	for b.Loop() {
		var req wire.Request
		if err := DecodeRequest(body, testLimits, &req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	columns := []wire.Column{{Name: "id", DeclType: "INTEGER"}, {Name: "name", DeclType: "TEXT"}}
	row := []wire.Value{wire.Integer(12345), wire.Text("Ada Lovelace")}
	var a Answer
	b.ReportAllocs()
	for b.Loop() {
		a.Reset(Options{}, 0)
		_ = a.Begin(0, columns)
		_ = a.Row(row)
		_ = a.End(wire.Summary{})
		a.Finish(&sampleMeta)
	}
}

// What is said of reads of conflict-free tables.
func TestAnswerOfConflictFreeTables(t *testing.T) {
	var out []byte
	for _, age := range []time.Duration{wire.AnyStaleness, 1200*time.Millisecond + 1} {
		m := sampleMeta
		m.Consistency, m.Tables, m.TablesStaleness = wire.Local, true, age
		var a Answer
		a.Reset(Options{}, 0)
		if err := errors.Join(a.Begin(0, sampleColumns[:1]), a.End(wire.Summary{})); err != nil {
			t.Fatal(err)
		}
		out = append(out, a.Finish(&m)...)
	}
	golden(t, "answer.local.json", out)
}
