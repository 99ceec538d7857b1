package crr

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/nearsql/nearsql/wire"
)

// rewrite adds golden files of a new version; those that are there are never changed.
var rewrite = flag.Bool("crr.rewrite", false, "write the golden files of FORMAT.md's examples")

// golden holds bytes against testdata/name.hex.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".hex")
	if *rewrite {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(got)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(want)) != hex.EncodeToString(got) {
		t.Errorf("%s:\ngot  %x\nwant %s", name, got, want)
	}
}

func exampleRow() Row {
	birth := Stamp{0x18bcfe568000000, 1}
	return Row{Del: Stamp{0x18bcfe567ff0000, 2}, Ins: birth,
		Cells: []Cell{{2, Stamp{0x18bcfe568010000, 3}}},
		Counters: []CounterState{{Col: 1, Base: &Base{At: Stamp{0x18bcfe568020000, 2}, Birth: birth, Value: 100, Seen: []Entry{{1, birth, 0x18bcfe568000000, 5}}},
			Entries: []Entry{{1, birth, 0x18bcfe568030001, 7}, {2, Stamp{0x18bcfe567ff8000, 2}, 0x18bcfe568010000, -3}}}}}
}

func exampleBatch(kind BatchKind) (*Header, []RowChange) {
	h := &Header{Kind: kind, Tenant: "acme", Site: 1, File: FileID{15: 0xf1}, Schema: 4, After: Vector{1: 0x18bcfe568030001}}
	r := exampleRow()
	if kind == Push {
		h.Prev, h.Deps = 0x18bcfe567000000, Vector{2: 0x18bcfe568020000, 3: 0x18bcfe568010000}
	} else {
		h.After.Join(Vector{2: 0x18bcfe568020000, 3: 0x18bcfe568010000})
		h.Cursor, h.Collected = 77, Vector{2: 0x18bcfe560000000}
	}
	d, _ := r.Since(Vector{}, []uint32{2, 3})
	d.Cells[0].Value, d.Cells[1].Value = wire.Text("hello"), wire.Float(1.5)
	return h, []RowChange{{1, wire.Text("x"), d}, {1, wire.Text("y"), Delta{Del: Stamp{0x18bcfe568000000, 1}}},
		{3, wire.Integer(-5), Delta{Ins: Stamp{0x18bcfe568000000, 1}, Cells: []CellValue{{1, Stamp{0x18bcfe568030001, 1}, wire.Blob([]byte{0, 255})}, {4, Stamp{0x18bcfe568030001, 1}, wire.Null}}}}}
}

func encodeBatch(t tb, h *Header, rows []RowChange) (frames [][]byte) {
	t.Helper()
	w := &batchWriter{id: 0x0102030405060708, emit: func(f []byte) error { frames = append(frames, bytes.Clone(f)); return nil }}
	w.header(h)
	for i := range rows {
		if err := w.row(&rows[i]); err != nil {
			t.Fatalf("%v", err)
		}
	}
	if err := w.close(); err != nil {
		t.Fatalf("%v", err)
	}
	return frames
}

func decodeBatch(b []byte) (*Header, []RowChange, error) {
	f, err := parseFrame(b)
	if err != nil {
		return nil, nil, err
	}
	r := &batchReader{src: bytes.NewReader(f.body)}
	h, err := r.header()
	if err != nil {
		return nil, nil, err
	}
	var rows []RowChange
	for {
		var c RowChange
		more, err := r.next(&c)
		if err != nil || !more {
			return h, rows, err
		}
		rows = append(rows, c)
	}
}

func TestGolden(t *testing.T) {
	row := exampleRow()
	golden(t, "row.v2", row.Encode())
	back, err := DecodeRow(row.Encode())
	if err != nil || !reflect.DeepEqual(back, row) {
		t.Errorf("row: %+v, %v", back, err)
	}
	golden(t, "row-inserted.v2", (&Row{Ins: Stamp{0x18bcfe568000000, 1}}).Encode())
	golden(t, "row-deleted.v2", (&Row{Del: Stamp{0x18bcfe568000000, 300}}).Encode())
	written := Row{Ins: Stamp{0x18bcfe568000000, 1}}
	for col := range uint32(4) {
		written.setCell(col+1, Stamp{0x18bcfe568010000, 1})
	}
	golden(t, "row-written.v2", written.Encode())
	golden(t, "vector.v1", Vector{300: 0x18bcfe568000000, 2: 9, 5: 0}.Append(nil))
	q := Request{Tenant: "acme", Site: 2, File: FileID{1}, Schema: 4, Vector: Vector{1: 5}, Of: FileID{2}, Cursor: 300}
	golden(t, "request.v1", q.Append(nil))
	if got, err := ParseRequest(q.Append(nil)); err != nil || !reflect.DeepEqual(*got, q) {
		t.Errorf("request: %+v, %v", got, err)
	}
	for _, x := range []struct {
		name string
		kind BatchKind
	}{{"pull.v1", Pull}, {"push.v1", Push}} {
		h, rows := exampleBatch(x.kind)
		frames := encodeBatch(t, h, rows)
		golden(t, x.name, frames[0])
		gh, grows, err := decodeBatch(frames[0])
		if err != nil || !reflect.DeepEqual(gh, h) || !reflect.DeepEqual(grows, rows) {
			t.Errorf("%s: %+v %+v, %v", x.name, gh, grows, err)
		}
	}
	golden(t, "packed.v1", (&frame{id: 7, part: 3, body: bytes.Repeat([]byte("nearsql "), 200)}).append(nil))
	key, err := packKey(nil, wire.Integer(-300))
	if err == nil {
		key, err = packKey(key, wire.Text("key"))
	}
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "key.v1", key)
}

// A row has one state and one encoding of it: what is short is filled up with zeros, to the same length always, and so far the first writes
// of its cells change its bytes and not its length.
func TestRoomForCells(t *testing.T) {
	row := Row{Ins: Stamp{0x18bcfe568000000, 1}}
	for col := range uint32(4) {
		if n := len(row.Encode()); n != minState {
			t.Errorf("%d cells in %d bytes, want %d", len(row.Cells), n, minState)
		}
		row.setCell(col+1, Stamp{0x18bcfe568010000, 1})
	}
	dead := Row{Del: Stamp{0x18bcfe568000000, 1}}
	if n := len(dead.Encode()); n != minState {
		t.Errorf("a tombstone of %d bytes, want %d", n, minState)
	}
	b := (&Row{Ins: row.Ins}).Encode()
	for name, bad := range map[string][]byte{
		"less":            b[:len(b)-1],
		"more":            append(bytes.Clone(b), 0),
		"none":            bytes.TrimRight(b, "\x00"),
		"another byte":    append(bytes.Clone(b[:len(b)-1]), 1),
		"behind the rest": append((&row).Encode(), 0),
	} {
		if _, err := DecodeRow(bad); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What repeats a stamp says so.
	row.Cells = row.Cells[:2]
	b = (&row).Encode()
	i := bytes.IndexByte(b[11:], 2<<1)
	long := append(append(bytes.Clone(b[:11+i]), 2<<1|1), appendStamp(nil, row.Cells[0].At)...)
	if _, err := DecodeRow(long); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a stamp said twice: %v", err)
	}
	for _, old := range []string{"row.v1", "row-inserted.v1", "row-deleted.v1"} {
		text, err := os.ReadFile(filepath.Join("testdata", old+".hex"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeRow(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", old, err)
		}
	}
}

// What this version can't know is refused by name.
func TestOtherVersions(t *testing.T) {
	h, rows := exampleBatch(Pull)
	f := encodeBatch(t, h, rows)[0]
	q := (&Request{Tenant: "acme"}).Append(nil)
	f[2], q[2] = 2, 2
	_, err := parseFrame(f)
	if e := new(VersionError); !errors.As(err, &e) || e.Got != 2 {
		t.Errorf("frame: %v", err)
	}
	_, err = ParseRequest(q)
	if e := new(VersionError); !errors.As(err, &e) || e.Got != 2 {
		t.Errorf("request: %v", err)
	}
	c := openEngine(t, ":memory:")
	s := openTester(t, c, 1, Config{})
	s.stop()
	for _, other := range []int64{fileFormat - 1, fileFormat + 1} {
		if err := query(c, "UPDATE crr.__crr_self SET format=?", nil, wire.Integer(other)); err != nil {
			t.Fatal(err)
		}
		_, err = Open(c, Config{Tenant: "acme"})
		if e := new(FormatError); !errors.As(err, &e) || e.Got != other {
			t.Errorf("file of format %d: %v", other, err)
		}
	}
	c = openEngine(t, ":memory:")
	if err := c.Exec("CREATE TABLE crr.t(a)"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(c, Config{}); !errors.Is(err, ErrNotCRR) {
		t.Errorf("another file: %v", err)
	}
	c = openEngine(t, ":memory:")
	openTester(t, c, 1, Config{}).stop()
	if _, err := Open(c, Config{Tenant: "other"}); err == nil {
		t.Error("another tenant's file was opened")
	}
}

// Every byte that flips on the way is found, and every cut.
func TestDamagedFrames(t *testing.T) {
	h, rows := exampleBatch(Push)
	f := encodeBatch(t, h, rows)[0]
	for i := range f {
		bad := bytes.Clone(f)
		bad[i] ^= 0x10
		if _, err := parseFrame(bad); err == nil {
			t.Errorf("byte %d was changed, and the frame taken", i)
		}
		if _, err := parseFrame(f[:i]); err == nil {
			t.Errorf("the frame was cut to %d bytes and taken", i)
		}
	}
}

// A sender who lies is refused, whatever he lies about; nothing is merged.
func TestLies(t *testing.T) {
	clock, a, b := two(t, likes)
	a.do(upsertX)
	at := a.me.hlc
	birth := Stamp{at, 1}
	good := func() (*Header, []RowChange) {
		return &Header{Kind: Pull, Tenant: "acme", Site: 1, File: a.me.File, Schema: 1, After: Vector{1: at}, Collected: Vector{}},
			[]RowChange{{1, wire.Text("x"), Delta{Ins: birth, New: true, Cells: []CellValue{{2, birth, wire.Text("n")}}}}}
	}
	before := b.dump(true)
	for name, lie := range map[string]func(h *Header, c *RowChange){
		"tenant":            func(h *Header, _ *RowChange) { h.Tenant = "other" },
		"own number":        func(h *Header, _ *RowChange) { h.Site = 2 },
		"schema":            func(h *Header, _ *RowChange) { h.Schema = 2 },
		"future":            func(h *Header, _ *RowChange) { h.After[1] = hlcAt(clock.at.AddDate(1, 0, 0)) },
		"table":             func(_ *Header, c *RowChange) { c.Table = 9 },
		"key":               func(_ *Header, c *RowChange) { c.Key = wire.Float(1) },
		"birth beyond":      func(_ *Header, c *RowChange) { c.Ins.HLC++ },
		"delete beyond":     func(_ *Header, c *RowChange) { c.Del = Stamp{at + 5, 1} },
		"cell beyond":       func(_ *Header, c *RowChange) { c.Cells[0].At = Stamp{at, 7} },
		"no cells":          func(_ *Header, c *RowChange) { c.Cells = nil },
		"a counter as cell": func(_ *Header, c *RowChange) { c.Cells[0].Col = 1 },
		"orphan":            func(_ *Header, c *RowChange) { c.New = false },
		"entry beyond": func(_ *Header, c *RowChange) {
			c.Counters = []CounterState{{Col: 1, Entries: []Entry{{3, birth, at, 1}}}}
		},
		"a cell as counter": func(_ *Header, c *RowChange) {
			c.Counters = []CounterState{{Col: 2, Entries: []Entry{{1, birth, at, 1}}}}
		},
		"sum": func(_ *Header, c *RowChange) {
			c.Counters = []CounterState{{Col: 1, Entries: []Entry{{1, birth, at, 1 << 60}}}}
		},
		"entry twice": func(_ *Header, c *RowChange) {
			c.Counters = []CounterState{{Col: 1, Entries: []Entry{{1, birth, at, 1}, {1, birth, at, 1}}}}
		},
	} {
		h, rows := good()
		lie(h, &rows[0])
		if _, err := b.take(encodeBatch(t, h, rows)); err == nil {
			t.Errorf("%s: taken", name)
		}
		if g := b.dump(true); g != before || len(b.vv) != 0 {
			t.Fatalf("%s left\n%s\n%s", name, g, b.vv)
		}
	}
	h, rows := good()
	if r, err := b.take(encodeBatch(t, h, rows)); err != nil || r.Rows != 1 {
		t.Errorf("the truth: %+v, %v", r, err)
	}
}

func FuzzRow(f *testing.F) {
	r := exampleRow()
	f.Add(r.Encode())
	f.Add((&Row{Del: Stamp{1, 1}}).Encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRow(b)
		if err != nil {
			return
		}
		if got := r.Encode(); !bytes.Equal(got, b) {
			t.Fatalf("%x became %x", b, got)
		}
	})
}

func FuzzRequest(f *testing.F) {
	f.Add((&Request{Tenant: "acme", Site: 2, Vector: Vector{1: 5}, Cursor: 300}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := ParseRequest(b)
		if err != nil {
			return
		}
		if got := q.Append(nil); !bytes.Equal(got, b) {
			t.Fatalf("%x became %x", b, got)
		}
	})
}

// FuzzBatch decodes bodies: what is taken is the same when written and read again.
func FuzzBatch(f *testing.F) {
	for _, kind := range []BatchKind{Pull, Push} {
		h, rows := exampleBatch(kind)
		fr, err := parseFrame(encodeBatch(f, h, rows)[0])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(fr.body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		h, rows, err := decodeBatch((&frame{id: 1, last: true, body: body}).append(nil))
		if err != nil {
			return
		}
		h2, rows2, err := decodeBatch(encodeBatch(t, h, rows)[0])
		if err != nil || !reflect.DeepEqual(h, h2) || !reflect.DeepEqual(rows, rows2) {
			t.Fatalf("%+v %+v became %+v %+v, %v", h, rows, h2, rows2, err)
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add((&frame{id: 7, part: 3, body: bytes.Repeat([]byte("nearsql "), 200)}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := parseFrame(b)
		if err != nil {
			return
		}
		again, err := parseFrame(fr.append(nil))
		if err != nil || again.id != fr.id || again.part != fr.part || again.last != fr.last || !bytes.Equal(again.body, fr.body) {
			t.Fatalf("%+v became %+v, %v", fr, again, err)
		}
	})
}

// FuzzClassify: no text makes the reading of statements fail.
func FuzzClassify(f *testing.F) {
	for _, s := range []string{"update t set n=n+1, (a,b)=(1,2) where x", "insert into t values(1) on conflict do update set n=", "with a as (select) update or replace t as u set"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, sql string) { Classify(sql) })
}
