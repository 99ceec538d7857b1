package replica_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/readpath/readpathtest"
	"github.com/nearsql/nearsql/readpath/replica"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
)

// moving is a Follower of tenant A that a feeder feeds, and that has just asked a better one for it. Both are scripts; the copy is that of states[4].
type moving struct {
	*replica.Follower
	t           *testing.T
	sink        *memory
	states      []readpathtest.State
	entries     [][]byte
	old, better *script
	oldSub, sub stream.Subscribe
}

// whileMoving lets do look at one. Both scripts have lane 1 for the tenant, and do nothing unless do has them.
func whileMoving(t *testing.T, do func(m *moving)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &moving{t: t, sink: newMemory()}
		m.entries, m.states = history(t, tenantA, 12)
		m.sink.copies[tenantA] = m.states[4]
		dialled := map[string]chan net.Conn{"old": make(chan net.Conn, 100), "better": make(chan net.Conn, 100)}
		ticks := readpath.NewTicks(readpath.NewSystemClock())
		var mu sync.Mutex
		feeders := []string{"old"}
		f, err := replica.NewFollower(replica.FollowerConfig{
			Sink: m.sink, Ticks: ticks, Window: 1 << 20,
			Dial: func(_ context.Context, node string) (net.Conn, error) {
				near, far := net.Pipe()
				dialled[node] <- far
				return near, nil
			},
			Feeders: func(wire.TenantID) []string { mu.Lock(); defer mu.Unlock(); return feeders },
		})
		if err != nil {
			t.Fatal(err)
		}
		m.Follower = f
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { _ = ticks.Run(ctx) })
		run.Go(func() { _ = f.Run(ctx) })
		f.Follow(tenantA, 2, 1)
		connected := func(node string) *script {
			conn := <-dialled[node]
			s := &script{t, conn, stream.NewReader(conn)}
			_ = want[stream.Hello](s)
			s.send(stream.Hello{Version: stream.Version})
			return s
		}
		m.old = connected("old")
		m.oldSub = want[stream.Subscribe](m.old)
		m.old.send(stream.Enter{Slot: m.oldSub.Slot, Lane: 1, Group: 2}, stream.Joined{Slot: m.oldSub.Slot, Head: m.states[4].Head().Head})
		m.old.answer(m.states[4].Index)
		// The links live while both scripts say something now and then, and take what comes.
		live := func(s *script) {
			run.Go(func() {
				for ctx.Err() == nil {
					s.send(stream.Heartbeat{})
					time.Sleep(time.Second)
				}
			})
		}
		live(m.old)
		run.Go(m.old.drain)
		mu.Lock()
		feeders = []string{"better", "old"}
		mu.Unlock()
		f.Reconsider()
		m.better = connected("better")
		live(m.better)
		for m.sub.Slot == 0 {
			if s, ok := m.better.next().(stream.Subscribe); ok {
				m.sub = s
			}
		}
		if m.sub.Head != m.states[4].Head().Head {
			t.Errorf("it asks from %+v, want %+v", m.sub.Head, m.states[4].Head().Head)
		}
		m.better.send(stream.Enter{Slot: m.sub.Slot, Lane: 1, Group: 2})
		run.Go(m.better.drain)
		do(m)
		cancel()
		_, _ = m.old.conn.Close(), m.better.conn.Close()
		run.Wait()
		for _, c := range dialled {
			for len(c) > 0 {
				(<-c).Close()
			}
		}
	})
}

// drain takes what the follower sends until the connection ends.
func (s *script) drain() {
	_ = s.conn.SetReadDeadline(time.Time{})
	for {
		if _, err := s.r.Next(); err != nil {
			return
		}
	}
}

// send lets a feeder send entries, by their place, and waits until they are dealt with.
func (m *moving) send(s *script, slot stream.Slot, places ...int) {
	for _, i := range places {
		s.send(stream.Txn{Slot: slot, Index: m.states[i].Index, Entry: m.entries[i]})
	}
	synctest.Wait()
}

// at checks where the copy is and who feeds it.
func (m *moving) at(place int, feeder string) {
	m.t.Helper()
	synctest.Wait()
	if got := m.sink.state(tenantA); got.Head() != m.states[place].Head() {
		m.t.Errorf("the copy is at transaction %d, want %d", got.TXID, m.states[place].TXID)
	}
	if s, _ := m.Status(tenantA); s.Feeder != feeder || !s.Joined {
		m.t.Errorf("it is fed by %+v, want to be joined at %s", s, feeder)
	}
	if len(m.sink.diverged) > 0 {
		m.t.Errorf("it has diverged: %v", m.sink.diverged)
	}
}

// A tenant that moves takes what comes first from either feeder, is joined all the time, and misses nothing.
func TestMoveTakesWhatComesFirst(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(m *moving)
	}{
		{"to a slower feeder", func(m *moving) {
			m.send(m.old, m.oldSub.Slot, 5, 6, 7)
			m.at(7, "old")
			m.send(m.better, m.sub.Slot, 5)
			m.better.send(stream.Joined{Slot: m.sub.Slot, Head: m.states[5].Head().Head})
			m.at(7, "better")
			m.send(m.better, m.sub.Slot, 6, 7, 8)
			m.better.send(stream.Through{Lane: 1, Index: m.states[8].Index})
			m.at(8, "better")
		}},
		{"to a faster feeder", func(m *moving) {
			m.send(m.better, m.sub.Slot, 5, 6, 7)
			m.at(7, "old")
			m.send(m.old, m.oldSub.Slot, 5, 6)
			m.old.send(stream.Through{Lane: 1, Index: m.states[6].Index})
			m.at(7, "old")
			m.better.send(stream.Joined{Slot: m.sub.Slot, Head: m.states[7].Head().Head})
			m.at(7, "better")
			m.send(m.better, m.sub.Slot, 8)
			m.at(8, "better")
		}},
		{"to one by turns, which is gone then", func(m *moving) {
			m.send(m.better, m.sub.Slot, 5)
			m.send(m.old, m.oldSub.Slot, 5, 6)
			m.send(m.better, m.sub.Slot, 6, 7)
			m.better.send(stream.Gone{Slot: m.sub.Slot, Why: stream.GoneBusy})
			m.at(7, "old")
			m.send(m.old, m.oldSub.Slot, 7, 8)
			m.old.send(stream.Through{Lane: 1, Index: m.states[8].Index})
			m.at(8, "old")
		}},
		{"to one that would send a copy", func(m *moving) {
			m.better.send(stream.Snapshot{Slot: m.sub.Slot, Chunk: stream.ChunkFirst, Data: []byte("x")})
			m.at(4, "old")
			m.send(m.old, m.oldSub.Slot, 5)
			m.at(5, "old")
		}},
		{"to one that breaks off", func(m *moving) {
			m.send(m.better, m.sub.Slot, 5)
			m.better.conn.Close()
			m.at(5, "old")
			m.send(m.old, m.oldSub.Slot, 5, 6)
			m.at(6, "old")
		}},
		{"to one that is never joined", func(m *moving) {
			time.Sleep(10 * time.Second)
			m.at(4, "old")
			m.send(m.old, m.oldSub.Slot, 5)
			m.at(5, "old")
		}},
	} {
		t.Run(c.name, func(t *testing.T) { whileMoving(t, c.do) })
	}
}

// Two feeders never bring entries of a tenant to the Sink at the same time, and each is brought once.
func TestMoveWithSlowSink(t *testing.T) {
	whileMoving(t, func(m *moving) {
		m.sink.slow = 100 * time.Millisecond
		for i := 5; i < 9; i++ {
			m.old.send(stream.Txn{Slot: m.oldSub.Slot, Index: m.states[i].Index, Entry: m.entries[i]})
			m.better.send(stream.Txn{Slot: m.sub.Slot, Index: m.states[i].Index, Entry: m.entries[i]})
		}
		m.better.send(stream.Joined{Slot: m.sub.Slot, Head: m.states[8].Head().Head})
		time.Sleep(time.Second)
		m.at(8, "better")
		if len(m.sink.at) != 4 {
			t.Errorf("the sink was brought entries %d", m.sink.at)
		}
	})
}

// When the feeder before breaks off while a tenant moves, it begins anew: the better one is asked from where the copy is then.
func TestMoveFromOneThatBreaksOff(t *testing.T) {
	whileMoving(t, func(m *moving) {
		m.send(m.old, m.oldSub.Slot, 5)
		m.old.conn.Close()
		synctest.Wait()
		m.better.send(stream.Joined{Slot: m.sub.Slot, Head: m.states[4].Head().Head})
		synctest.Wait()
		if s, _ := m.Status(tenantA); s.Joined {
			t.Errorf("it is joined by a subscription that has ended: %+v", s)
		}
		time.Sleep(5 * time.Second)
		if s, _ := m.Status(tenantA); s.Feeder == "" {
			t.Errorf("it is followed from nobody")
		}
		if !m.Fresh(tenantA).Known {
			t.Error("what was known of its freshness is forgotten")
		}
	})
}

// A better feeder that is far ahead of the one that there is costs a bounded amount of memory: it is left, and the tenant goes on where it is.
func TestMoveFarAhead(t *testing.T) {
	const aheadMax = 8192
	whileMoving(t, func(m *moving) {
		m.entries, m.states = m.entries[:5], m.states[:5]
		for range aheadMax + 1 {
			s := m.states[len(m.states)-1]
			e, err := s.Write(0)
			if err == nil {
				s, err = s.Next(s.Index+1, e)
			}
			if err != nil {
				t.Fatal(err)
			}
			m.entries, m.states = append(m.entries, e), append(m.states, s)
		}
		all := len(m.entries)
		for i := 5; i < all; i++ {
			m.send(m.better, m.sub.Slot, i)
		}
		m.better.send(stream.Joined{Slot: m.sub.Slot, Head: m.states[all-1].Head().Head})
		m.at(all-1, "old")
		for i := 5; i < all; i++ {
			m.send(m.old, m.oldSub.Slot, i)
		}
		m.old.send(stream.Through{Lane: 1, Index: m.states[all-1].Index})
		m.at(all-1, "old")
	})
}

// Of two feeders with two histories none is believed against what the copy has: a better one is not gone to, and what a feeder that there is says
// against it takes the copy out of service.
func TestMoveToOtherHistory(t *testing.T) {
	for _, c := range []struct {
		name     string
		do       func(m *moving)
		diverged int
	}{
		{"a better feeder leaves an entry out", func(m *moving) {
			m.send(m.old, m.oldSub.Slot, 5, 6)
			m.send(m.better, m.sub.Slot, 6)
			m.at(6, "old")
		}, 0},
		{"a better feeder has all without an entry", func(m *moving) {
			m.send(m.old, m.oldSub.Slot, 5, 6)
			m.better.send(stream.Joined{Slot: m.sub.Slot, Head: stream.Head{Epoch: 1, TXID: m.states[4].TXID, Checksum: m.states[4].Checksum, Index: m.states[6].Index}})
			m.at(6, "old")
		}, 0},
		{"a better feeder is somewhere else", func(m *moving) {
			m.send(m.old, m.oldSub.Slot, 5)
			m.better.send(stream.Joined{Slot: m.sub.Slot, Head: m.states[3].Head().Head})
			m.at(5, "old")
		}, 0},
		{"a feeder marks all without an entry", func(m *moving) {
			m.send(m.old, m.oldSub.Slot, 5, 6)
			m.better.send(stream.Joined{Slot: m.sub.Slot, Head: m.states[4].Head().Head})
			m.at(6, "better")
			m.better.send(stream.Through{Lane: 1, Index: m.states[6].Index})
			synctest.Wait()
		}, 1},
		{"a feeder leaves out an entry", func(m *moving) {
			m.send(m.old, m.oldSub.Slot, 5, 6)
			m.better.send(stream.Joined{Slot: m.sub.Slot, Head: m.states[4].Head().Head})
			m.send(m.better, m.sub.Slot, 6)
		}, 1},
		{"the feeder before marks all without an entry", func(m *moving) {
			m.send(m.better, m.sub.Slot, 5)
			m.at(5, "old")
			m.old.send(stream.Through{Lane: 1, Index: m.states[5].Index})
			synctest.Wait()
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			whileMoving(t, func(m *moving) {
				c.do(m)
				if n := m.Stats.Diverged.Load(); int(n) != c.diverged {
					t.Errorf("%d copies have diverged, want %d", n, c.diverged)
				}
				if c.diverged > 0 && m.Fresh(tenantA).Known {
					t.Error("what it shows is fresh")
				}
			})
		})
	}
}
