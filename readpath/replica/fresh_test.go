package replica_test

import (
	"testing"
	"time"

	"github.com/nearsql/nearsql/readpath/readpathtest"
	"github.com/nearsql/nearsql/readpath/replica"
	"github.com/nearsql/nearsql/wire/stream"
)

// answer answers the next question, and sends a mark.
func (s *script) answer(index uint64) {
	for {
		_ = s.conn.SetReadDeadline(time.Now().Add(4 * time.Second))
		f, err := s.r.Next()
		if err != nil {
			s.t.Errorf("no question came: %v", err)
			return
		}
		if p, ok := f.(stream.Probe); ok {
			s.send(stream.Probed{ID: p.ID, Group: p.Group, Index: index}, stream.Through{Lane: 1, Index: index})
			return
		}
	}
}

// settle lets the follower deal with what was sent, and reads what it says meanwhile.
func (s *script) settle() {
	for {
		_ = s.conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := s.r.Next(); err != nil {
			return
		}
	}
}

// TestOlderCopy: a copy that may be older than what was here is not taken for as fresh as that was.
func TestOlderCopy(t *testing.T) {
	_, states := history(t, tenantA, 10)
	against(t, &states[8], func(s *script, f *replica.Follower, m *memory, sub stream.Subscribe) {
		enter := stream.Enter{Slot: sub.Slot, Lane: 1, Group: 2}
		s.send(enter, stream.Joined{Slot: sub.Slot, Head: states[8].Head().Head})
		s.answer(states[8].Index)
		time.Sleep(time.Millisecond)
		if !f.Fresh(tenantA).Known {
			t.Fatal("not fresh at first")
		}
		b, err := states[2].Encode(0)
		if err != nil {
			t.Fatal(err)
		}
		s.send(enter)
		time.Sleep(time.Millisecond)
		if !f.Fresh(tenantA).Known {
			t.Error("what was known is forgotten, and the copy is what it was")
		}
		s.send(stream.Snapshot{Slot: sub.Slot, Chunk: stream.ChunkFirst | stream.ChunkLast, Data: b})
		time.Sleep(time.Millisecond)
		if got := m.state(tenantA); got.TXID != states[2].TXID {
			t.Fatalf("at %d", got.TXID)
		}
		if f.Fresh(tenantA).Known {
			t.Error("an older copy is fresh")
		}
	})
}

// TestDeparture: once a tenant has left its group, marks of the group say nothing of it, whatever the feeder sends.
func TestDeparture(t *testing.T) {
	_, states := history(t, tenantA, 10)
	against(t, &states[8], func(s *script, f *replica.Follower, m *memory, sub stream.Subscribe) {
		s.send(stream.Enter{Slot: sub.Slot, Lane: 1, Group: 2}, stream.Joined{Slot: sub.Slot, Head: states[8].Head().Head})
		s.answer(states[8].Index)
		time.Sleep(time.Millisecond)
		before := f.Fresh(tenantA)
		moved, err := states[8].Control(readpathtest.CodeMoved, []byte{9}, 0)
		if err != nil {
			t.Fatal(err)
		}
		s.send(stream.Txn{Slot: sub.Slot, Index: 20, Entry: moved})
		for range 3 {
			time.Sleep(time.Millisecond)
			s.send(stream.Through{Lane: 1, Index: 30})
		}
		s.settle()
		if after := f.Fresh(tenantA); !before.Known || after != before || f.Askable(tenantA) {
			t.Errorf("fresh as of %+v, then of %+v", before, after)
		}
		if got := m.state(tenantA); got.MovedTo != 9 {
			t.Errorf("moved to %d", got.MovedTo)
		}
	})
}
