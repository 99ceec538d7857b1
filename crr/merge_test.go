package crr

import (
	"math"
	"testing"

	"github.com/nearsql/nearsql/wire"
	"pgregory.net/rapid"
)

// full is all that a state has, as a delta.
func full(r *Row, cols []uint32) *Delta {
	d, _ := r.Since(Vector{}, cols)
	return &d
}

func copyRow(t tb, r *Row) Row {
	t.Helper()
	c, err := DecodeRow(r.Encode())
	if err != nil {
		t.Fatalf("decode what was encoded: %v", err)
	}
	return c
}

// history makes row states as sites would that write and merge at random.
func history(t *rapid.T) (pool []Row) {
	cols := []uint32{1, 2}
	draw := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "") }
	rows := make([]Row, 4)
	h := HLC(1000)
	for range 10 + draw(30) {
		i := draw(len(rows))
		r := &rows[i]
		h += HLC(draw(3))
		now := Stamp{HLC: h<<2 + HLC(i), Site: SiteID(i + 1)}
		switch x := draw(10); {
		case x < 2:
			if r.localInsert(now) {
				r.localAssign(3, int64(draw(5)), now)
			} else if err := r.localAdd(3, int64(draw(5)), now); err != nil {
				t.Fatalf("%v", err)
			}
		case x < 5 && r.Live():
			r.setCell(cols[draw(2)], now)
			if err := r.localAdd(3, int64(draw(5)-2), now); err != nil {
				t.Fatalf("%v", err)
			}
		case x < 6 && r.Live():
			r.localAssign(3, int64(draw(5)), now)
		case x < 7 && r.Live():
			r.localDelete(now)
		default:
			c := copyRow(t, &rows[draw(len(rows))])
			if _, err := r.Merge(full(&c, cols)); err != nil {
				t.Fatalf("merge: %v", err)
			}
		}
		h++
		pool = append(pool, copyRow(t, r))
	}
	return pool
}

// P1: the join is commutative, associative and idempotent, on states reached by random histories.
func TestJoinLaws(t *testing.T) {
	cols := []uint32{1, 2}
	rapid.Check(t, func(t *rapid.T) {
		join := func(a, b *Row) *Row {
			x, y := copyRow(t, a), copyRow(t, b)
			if _, err := x.Merge(full(&y, cols)); err != nil {
				t.Fatalf("merge: %v", err)
			}
			return &x
		}
		text := func(r *Row) string { return string(r.Encode()) }
		pool := history(t)
		pick := func() *Row { return &pool[rapid.IntRange(0, len(pool)-1).Draw(t, "state")] }
		for range 30 {
			a, b, c := pick(), pick(), pick()
			if text(join(a, a)) != text(a) {
				t.Fatalf("not idempotent: %+v", a)
			}
			ab := join(a, b)
			if text(ab) != text(join(b, a)) {
				t.Fatalf("not commutative:\n%+v\n%+v", a, b)
			}
			if text(join(ab, c)) != text(join(a, join(b, c))) {
				t.Fatalf("not associative:\n%+v\n%+v\n%+v", a, b, c)
			}
			if ab.Value(3) != join(b, a).Value(3) {
				t.Fatalf("values differ:\n%+v\n%+v", a, b)
			}
		}
	})
}

func TestCounterValueSaturates(t *testing.T) {
	big := Entry{Site: 1, Birth: Stamp{1, 1}, HLC: 2, Sum: maxContribution}
	c := CounterState{Base: &Base{Value: math.MaxInt64 - 5}}
	for i := range 3 {
		e := big
		e.Site = SiteID(i + 1)
		c.Entries = append(c.Entries, e)
	}
	if v := c.value(); v != math.MaxInt64 {
		t.Errorf("got %d", v)
	}
	c.Entries = append(c.Entries, Entry{Site: 9, Birth: Stamp{1, 1}, HLC: 2, Sum: -maxContribution}, Entry{Site: 10, Birth: Stamp{1, 1}, HLC: 2, Sum: -maxContribution}, Entry{Site: 11, Birth: Stamp{1, 1}, HLC: 2, Sum: -maxContribution})
	if v := c.value(); v != math.MaxInt64-5 {
		t.Errorf("back in range: %d", v)
	}
	c.Base.Value = math.MinInt64
	c.Entries = c.Entries[3:]
	if v := c.value(); v != math.MinInt64 {
		t.Errorf("below: %d", v)
	}
	if err := (&Row{}).localAdd(1, math.MinInt64, Stamp{1, 1}); err == nil {
		t.Error("a contribution of MinInt64 was taken")
	}
	if d := difference(math.MinInt64, 1); d >= 0 {
		t.Error("difference wrapped", d)
	}
	if d := difference(math.MaxInt64, -1); d <= 0 {
		t.Error("difference wrapped", d)
	}
}

// A change of an incarnation that was never seen is a fault, not a row.
func TestOrphan(t *testing.T) {
	var r Row
	_, err := r.Merge(&Delta{Ins: Stamp{5, 1}, Cells: []CellValue{{1, Stamp{6, 1}, wire.Null}}})
	if err != ErrOrphan {
		t.Errorf("got %v", err)
	}
}

func TestHLC(t *testing.T) {
	clock := newTestClock()
	c := clock_(clock)
	a := c.tick()
	if b := c.tick(); b != a+1 {
		t.Errorf("in one millisecond: %v after %v", b, a)
	}
	clock.add(-3600 * 1e9)
	if b := c.tick(); b != a+2 {
		t.Errorf("after a step back: %v", b)
	}
	c.observe(a + 1<<40)
	if b := c.tick(); b != a+1<<40+1 {
		t.Errorf("after an observation: %v", b)
	}
	if got := hlcAt(clock.at).Time(); !got.Equal(clock.at) {
		t.Errorf("time %v, want %v", got, clock.at)
	}
}

func clock_(c *testClock) *clock { return &clock{now: c.off(0), skew: DefaultMaxSkew} }
