package crr

import (
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/nearsql/nearsql/wire"
	"pgregory.net/rapid"
)

// more multiplies the runs of the long properties; -rapid.checks sets those of one.
var more = flag.Int("crr.more", 3, "how many times rapid.checks the convergence property runs")

// The reference: every operation that was ever committed, and what comes of them by definition.

type op struct {
	kind  byte // i insert, u cell update, d delete, + add, = assign
	at    Stamp
	birth Stamp
	val   wire.Value
	d     int64
	seen  map[*op]bool // of =: the additions that it replaced
}

type model map[string][]*op

func (m model) expect(k string) (live bool, note wire.Value, n int64) {
	var del, ins Stamp
	for _, o := range m[k] {
		switch o.kind {
		case 'd':
			del = newest(del, o.at)
		case 'i':
			ins = newest(ins, o.at)
		}
	}
	if ins.Zero() || ins.Before(del) {
		return false, wire.Null, 0
	}
	var cell Stamp
	var base *op
	for _, o := range m[k] {
		if (o.kind == 'u' || o.kind == 'i') && o.birth == ins && cell.Before(o.at) {
			cell, note = o.at, o.val
		}
		if o.kind == '=' && !o.birth.Before(del) && (base == nil || base.birth.Before(o.birth) || base.birth == o.birth && base.at.Before(o.at)) {
			base = o
		}
	}
	if base != nil {
		n = base.d
	}
	for _, o := range m[k] {
		if o.kind == '+' && !o.birth.Before(del) && (base == nil || !base.seen[o]) {
			n += o.d
		}
	}
	return true, note, n
}

// message is a batch on its way.
type message struct {
	to     int
	frames [][]byte
}

// world is sites, what is between them, and the reference.
type world struct {
	t     *rapid.T
	clock *testClock
	ss    []*tester
	net   []message
	sent  []Pushed
	m     model
	pure  int64 // key "pure" is only ever added to
	step  int
	keys  []string
}

func (w *world) draw(n int, what string) int { return rapid.IntRange(0, n-1).Draw(w.t, what) }

// P2 to P7, P10, P13: convergence of tables and metadata under disorder, loss, repetition, late answers, skew and collection on the
// way; the result equals the definition; no increment is lost; half a transaction is never seen.
func TestConverge(t *testing.T) {
	for i := range *more {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) { converge(t, rt) })
		})
	}
}

func converge(t *testing.T, rt *rapid.T) {
	w := &world{t: rt, clock: newTestClock(), m: model{}, keys: []string{"a", "b", "c"}}
	n := 2 + w.draw(4, "sites")
	still := w.draw(3, "time hardly moves") == 0 // equal readings on many sites
	for i := range n {
		off := time.Duration(0)
		if !still {
			off = time.Duration(w.draw(2001, "clock off")-1000) * time.Millisecond
		}
		cfg := Config{Now: w.clock.off(off)}
		if w.draw(2, "small ring") == 0 {
			cfg.RingRows = 8
		}
		c := openEngine(t, ":memory:")
		s := openTester(rt, c, SiteID(i+1), cfg, likes, pair, kv)
		defer func() { s.stop(); c.Close() }()
		w.ss = append(w.ss, s)
	}
	membersOf(w.ss...)
	w.sent = make([]Pushed, n)
	for w.step = range 40 + w.draw(160, "steps") {
		if !still || w.step%16 == 0 {
			w.clock.add(time.Duration(w.draw(300, "ms")) * time.Millisecond)
		}
		i := w.draw(n, "site")
		switch x := w.draw(100, "action"); {
		case x < 45:
			w.write(i)
		case x < 60:
			w.push(i)
		case x < 64:
			if _, err := w.ss[i].Collect(100); err != nil {
				rt.Fatalf("collect: %v", err)
			}
		case x < 73:
			if j := w.draw(n, "peer"); j != i {
				w.ask(i, j)
			}
		default:
			if len(w.net) == 0 {
				continue
			}
			j := w.draw(len(w.net), "message")
			w.deliver(w.net[j])
			if w.draw(5, "again") > 0 { // else it will come once more
				w.net = append(w.net[:j], w.net[j+1:]...)
			}
		}
	}
	for len(w.net) > 0 {
		w.deliver(w.net[len(w.net)-1])
		w.net = w.net[:len(w.net)-1]
	}
	w.clock.add(10 * time.Second)
	w.settle()
	w.verify()
}

func (w *world) settle() {
	for range 2 {
		for a := range w.ss {
			for b := range w.ss {
				if a != b {
					w.ask(a, b)
					w.deliver(w.net[len(w.net)-1])
					w.net = w.net[:len(w.net)-1]
				}
			}
		}
	}
}

func (w *world) push(i int) {
	var frame []byte
	p, err := w.ss[i].r.Push(w.sent[i].Mark, func(f []byte) error { frame = f; return nil })
	if err != nil {
		w.t.Fatalf("push: %v", err)
	}
	if !p.Sent {
		return
	}
	w.sent[i] = p
	for j := range w.ss {
		if j != i && w.draw(4, "lost") > 0 {
			w.net = append(w.net, message{j, [][]byte{frame}})
		}
	}
}

func (w *world) ask(to, from int) {
	q := w.ss[to].Request(w.ss[from].me.Site, w.ss[from].me.File)
	b := q.Append(nil)
	q, err := ParseRequest(b)
	if err != nil {
		w.t.Fatalf("request: %v", err)
	}
	if err := w.ss[from].Heard(q.Site, q.File, q.Vector); err != nil {
		w.t.Fatalf("heard: %v", err)
	}
	frames, err := w.ss[from].answer(q)
	if err != nil {
		w.t.Fatalf("answer: %v", err)
	}
	w.net = append(w.net, message{to, frames})
}

func (w *world) deliver(x message) {
	s := w.ss[x.to]
	_, err := s.take(x.frames)
	skew := new(SkewError)
	if err != nil && !errors.As(err, &skew) {
		w.t.Fatalf("merge: %v", err)
	}
	if a, b := s.one("SELECT a FROM pair WHERE id=1"), s.one("SELECT a FROM pair WHERE id=2"); a != b {
		w.t.Fatalf("site %d sees half of a transaction: %s %s", s.me.Site, a, b)
	}
}

// write runs a transaction on one of three rows, and at times on others.
func (w *world) write(i int) {
	s := w.ss[i]
	k := w.keys[w.draw(len(w.keys), "key")]
	r := s.rowOf("likes", k)
	live := r.Live()
	d := int64(w.draw(9, "d") - 3)
	note := wire.Text(fmt.Sprintf("n%d", w.step))
	var ops []*op
	var sql string
	var args []any
	switch y := w.draw(12, "statement"); {
	case y < 4:
		sql, args = "INSERT INTO likes(id,n,note) VALUES(?1,?2,?3) ON CONFLICT(id) DO UPDATE SET n=n+excluded.n", []any{k, d, note}
		if !live {
			ops = append(ops, &op{kind: 'i', val: note})
		}
		if d != 0 {
			ops = append(ops, &op{kind: '+', d: d})
		}
	case y < 6 && live:
		sql, args = "UPDATE likes SET n = n - ? WHERE id=?", []any{d, k}
		ops = append(ops, &op{kind: '+', d: -d})
	case y < 7 && live:
		sql, args = "UPDATE likes SET n=? WHERE id=?", []any{d, k}
		ops = append(ops, &op{kind: '=', d: d})
	case y < 9 && live:
		sql, args = "UPDATE likes SET note=? WHERE id=?", []any{note, k}
		ops = append(ops, &op{kind: 'u', val: note})
	case y < 10:
		sql, args = "INSERT OR REPLACE INTO likes(id,n,note) VALUES(?,?,?)", []any{k, d, note}
		kind := byte('+')
		if live {
			kind = '='
		}
		ops = append(ops, &op{kind: 'i', val: note}, &op{kind: kind, d: d})
	case live:
		sql, args = "DELETE FROM likes WHERE id=?", []any{k}
		ops = append(ops, &op{kind: 'd'})
	default:
		return
	}
	vv, add := s.Vector(), int64(0)
	rollback := w.draw(10, "rollback") == 0
	c, err := s.tx(func() error {
		if err := s.stmt(sql, args...); err != nil {
			return err
		}
		if err := w.more(s, &add); err != nil {
			return err
		}
		if rollback {
			return errUndo
		}
		return nil
	})
	if rollback {
		return
	}
	if err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	w.pure += add
	for site, h := range vv { // P7
		if !c.Stamp.Zero() && !(Stamp{h, site}).Before(c.Stamp) {
			w.t.Fatalf("a write is stamped %v, not after %d:%v which it has seen", c.Stamp, site, h)
		}
	}
	w.log(s, k, ops, c.Stamp, r.Ins, vv)
}

// more writes what the reference has only in part: both rows of a pair at once, the counter that is only added to, composite keys.
func (w *world) more(s *tester, add *int64) error {
	if w.draw(3, "pair") == 0 {
		token := fmt.Sprintf("t%d.%d", s.me.Site, w.step)
		for id := 1; id <= 2; id++ {
			if err := s.stmt("INSERT INTO pair(id,a,b) VALUES(?,?,?) ON CONFLICT DO UPDATE SET a=excluded.a", id, token, 1.5); err != nil {
				return err
			}
		}
	}
	if w.draw(3, "pure") == 0 {
		*add = int64(w.draw(5, "add"))
		if err := s.stmt("INSERT INTO likes(id,n) VALUES('pure',?1) ON CONFLICT(id) DO UPDATE SET n=n+?1", *add); err != nil {
			return err
		}
	}
	if w.draw(4, "kv") == 0 {
		if err := s.stmt("REPLACE INTO kv VALUES(?,?,?)", w.draw(2, "g"), w.keys[w.draw(3, "k")], []byte{0, byte(w.step)}); err != nil {
			return err
		}
	}
	if w.draw(8, "move") == 0 {
		if err := s.stmt("UPDATE OR REPLACE kv SET k=? WHERE g=? AND k=?", w.keys[w.draw(3, "k")], w.draw(2, "g"), w.keys[w.draw(3, "k")]); err != nil {
			return err
		}
	}
	// A statement that fails half way leaves no trace.
	if err := s.stmt("INSERT INTO likes(id,n) VALUES('z',1),('z',2)"); err == nil {
		return errors.New("a duplicate key was taken")
	}
	return nil
}

func (w *world) log(s *tester, k string, ops []*op, at, birth Stamp, vv Vector) {
	for _, o := range ops {
		o.at, o.birth = at, birth
		if ops[0].kind == 'i' {
			o.birth = at
		}
		if o.kind == '=' {
			o.seen = map[*op]bool{}
			for _, p := range w.m[k] {
				if p.kind == '+' && (vv.Has(p.at) || p.at.Site == s.me.Site) {
					o.seen[p] = true
				}
			}
		}
		w.m[k] = append(w.m[k], o)
	}
}

func (w *world) verify() {
	w.equalTables()
	s := w.ss[0]
	for _, k := range w.keys {
		live, note, n := w.m.expect(k)
		if rows := s.one("SELECT count(*) FROM likes WHERE id=?", k).Int(); live != (rows == 1) {
			w.t.Fatalf("key %s: live=%v by definition, the table has %d", k, live, rows)
		}
		if !live {
			continue
		}
		if g := s.one("SELECT note FROM likes WHERE id=?", k); g != note {
			w.t.Fatalf("key %s: note %s, want %s", k, g, note)
		}
		if g := s.one("SELECT n FROM likes WHERE id=?", k); g != wire.Integer(n) {
			w.t.Fatalf("key %s: n %s, want %d", k, g, n)
		}
	}
	if g := s.one("SELECT n FROM likes WHERE id='pure'"); g.Int() != w.pure {
		w.t.Fatalf("increments lost: %s, want %d", g, w.pure)
	}
	// Tombstones go once everybody has everything; nothing comes back.
	before := s.dump(false)
	for _, s := range w.ss {
		s.sound()
		if _, err := s.Collect(1000); err != nil {
			w.t.Fatalf("collect: %v", err)
		}
	}
	w.settle()
	for _, s := range w.ss {
		if _, err := s.Collect(1000); err != nil {
			w.t.Fatalf("collect: %v", err)
		}
		s.sound()
		if g := s.dump(false); g != before {
			w.t.Fatalf("collecting changed the data at site %d:\n%s\nwant:\n%s", s.me.Site, g, before)
		}
	}
	same(w.t, "after collecting", w.ss...)
	if g := s.one("SELECT count(*) FROM __crr_m1").Int() + s.one("SELECT count(*) FROM __crr_m3").Int(); g != s.one("SELECT (SELECT count(*) FROM likes)+(SELECT count(*) FROM kv)").Int() {
		w.t.Fatalf("tombstones stayed: %d states", g)
	}
}

// equalTables compares users' tables only: metadata may differ by what was collected.
func (w *world) equalTables() {
	for _, s := range w.ss[1:] {
		if got, want := s.dump(false), w.ss[0].dump(false); got != want {
			w.t.Fatalf("site %d differs\ngot:\n%s\nwant:\n%s", s.me.Site, got, want)
		}
	}
}
