package replica

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
	"github.com/nearsql/nearsql/wire/txn"
)

func control(t interface{ Fatal(...any) }, id wire.TenantID, size int) []byte {
	e, err := txn.AppendEntry(nil, &txn.Header{Kind: txn.Control, Tenant: id, Code: 1, Epoch: 1}, make([]byte, size))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestTailProperty: what a Tail says it has complete is complete, whatever it has dropped; and it keeps to its limit.
func TestTailProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 2000
		tail := NewTail(2, 5, limit)
		ids := []wire.TenantID{{1}, {2}, {3}}
		all := map[wire.TenantID][]uint64{}
		renewed := map[wire.TenantID]uint64{}
		index := uint64(5)
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			id := rapid.SampledFrom(ids).Draw(t, "tenant")
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				index += 3 // refused, or of another tenant
				tail.Advance(index)
			case 1:
				renewed[id] = index
				tail.Renew(id, index)
			default:
				index++
				if err := tail.Append(index, control(t, id, rapid.IntRange(0, 300).Draw(t, "size"))); err != nil {
					t.Fatal(err)
				}
				all[id] = append(all[id], index)
				tail.Advance(index)
			}
			if tail.mu.bytes > limit {
				t.Fatalf("%d bytes", tail.mu.bytes)
			}
			from := rapid.Uint64Range(0, index).Draw(t, "from")
			items, complete := tail.since(id, from, 1<<63)
			if !complete {
				continue
			}
			var got, want []uint64
			for _, i := range items {
				got = append(got, i.index)
			}
			for _, i := range all[id] {
				if i > from {
					want = append(want, i)
				}
			}
			if !slices.Equal(got, want) || from < 5 || from < renewed[id] {
				t.Fatalf("since %d: got %v, want %v", from, got, want)
			}
		}
	})
}

// TestTailIsIncomplete: an entry that does not move the position is missed as well.
func TestTailIsIncomplete(t *testing.T) {
	tail := NewTail(2, 0, 1000)
	id := wire.TenantID{1}
	for i := range 20 {
		if err := tail.Append(uint64(i+1), control(t, id, 50)); err != nil {
			t.Fatal(err)
		}
	}
	if _, complete := tail.since(id, 3, 1<<63); complete {
		t.Error("entry 4 is gone, and all are there")
	}
	if items, complete := tail.since(id, 18, 1<<63); !complete || len(items) != 2 {
		t.Errorf("%d items, complete %v", len(items), complete)
	}
}

// TestMarksCoverWhatIsJoined: a mark says nothing of a tenant that joins after it.
func TestMarksCoverWhatIsJoined(t *testing.T) {
	tail := newTail(2, 0)
	id := wire.TenantID{1}
	cov := func() cover {
		return tail.read(tail.mu.first+uint64(len(tail.mu.items)), quantum, []wire.TenantID{id}).covered[0]
	}
	tail.Renew(id, 3)
	tail.Advance(50)
	if c := cov(); c.ok {
		t.Errorf("covered before it joined: %+v", c)
	}
	tail.join(id, 10)
	if c := cov(); !c.ok || c.index != 10 {
		t.Errorf("joined at 10: %+v", c)
	}
	tail.Advance(51)
	if c := cov(); !c.ok || c.index != 51 {
		t.Errorf("after a mark: %+v", c)
	}
	tail.Renew(id, 60)
	if c := cov(); c.ok {
		t.Errorf("covered after its copy was replaced: %+v", c)
	}
	// The same where the marks come in.
	lane := &laneIn{through: 50, marks: 7}
	at := &sub{lane: lane, joined: true, index: 10, marks: 7}
	if got := at.coveredLocked(); got != 10 {
		t.Errorf("joined at 10 after a mark of 50: %d", got)
	}
	lane.through, lane.marks = 51, 8
	if got := at.coveredLocked(); got != 51 {
		t.Errorf("after a mark of 51: %d", got)
	}
}

func TestPositions(t *testing.T) {
	h := txn.Header{Kind: txn.Part, Epoch: 1, PrevTXID: 4, NextTXID: 4}
	if _, next := positions(7, &h); next != (stream.Head{Epoch: 1, TXID: 4, Index: 7}) {
		t.Errorf("%+v", next)
	}
	h = txn.Header{Kind: txn.Control, Epoch: 1, PrevTXID: 4}
	if _, next := positions(7, &h); next.TXID != 4 {
		t.Errorf("%+v", next)
	}
	h = txn.Header{Kind: txn.Transaction, Epoch: 1, PrevTXID: 4, NextTXID: 5}
	if _, next := positions(7, &h); next.TXID != 5 {
		t.Errorf("%+v", next)
	}
}
