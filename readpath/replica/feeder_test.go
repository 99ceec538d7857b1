package replica_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/readpath/readpathtest"
	"github.com/nearsql/nearsql/readpath/replica"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
)

// voter is a Source of one group's tenants, kept in memory.
type voter struct {
	mu      sync.Mutex
	tail    *replica.Tail
	index   uint64
	states  map[wire.TenantID]readpathtest.State
	padding int
	copies  int
	gone    *replica.GoneError
	admit   func(receiver string) error // nil to admit all
}

func newVoter(limit int64) *voter {
	return &voter{tail: replica.NewTail(2, 0, limit), states: make(map[wire.TenantID]readpathtest.State)}
}

// write makes a transaction; the first of a tenant creates it.
func (v *voter) write(t testing.TB, id wire.TenantID) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	s, ok := v.states[id]
	if !ok {
		s = readpathtest.State{Tenant: id, Group: 2, Epoch: 1}
	}
	e, err := s.Write(0)
	if !ok {
		e, err = s.Control(readpathtest.CodeCreated, []byte("a"), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	v.index++
	if s, err = s.Next(v.index, e); err != nil {
		t.Fatal(err)
	}
	v.states[id] = s
	if err := v.tail.Append(v.index, e); err != nil {
		t.Fatal(err)
	}
	v.tail.Advance(v.index)
}

func (v *voter) Admit(_ wire.TenantID, receiver string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.admit != nil {
		return v.admit(receiver)
	}
	return nil
}

func (v *voter) Lane(wire.TenantID) (replica.Lane, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.gone != nil {
		return replica.Lane{}, v.gone
	}
	return replica.Lane{Tail: v.tail}, nil
}

func (v *voter) Head(id wire.TenantID) (replica.Head, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.states[id]
	return s.Head(), nil
}

func (v *voter) OpenLTX(context.Context, wire.TenantID, stream.Head) (*replica.LTX, error) {
	return nil, replica.ErrNoLTX
}

func (v *voter) WriteCopy(_ context.Context, id wire.TenantID, w io.Writer) error {
	v.mu.Lock()
	v.copies++
	s := v.states[id]
	padding := v.padding
	v.mu.Unlock()
	b, err := s.Encode(padding)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, bytes.NewReader(b))
	return err
}

func (v *voter) ReadIndex(context.Context, wire.GroupID) (uint64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.index, nil
}

// pair is a feeder and a follower with a connection between them that throttle may slow down.
type pair struct {
	feeder   *replica.Feeder
	follower *replica.Follower
	sink     *memory
	received *atomic.Int64 // bytes that the follower read
}

// throttled is a connection whose reads wait.
type throttled struct {
	net.Conn
	perByte time.Duration
	count   *atomic.Int64
}

func (c *throttled) Read(b []byte) (int, error) {
	if c.perByte > 0 {
		b = b[:min(len(b), 4096)]
	}
	n, err := c.Conn.Read(b)
	c.count.Add(int64(n))
	time.Sleep(time.Duration(n) * c.perByte)
	return n, err
}

// connect runs a follower of src.
func connect(ctx context.Context, t *testing.T, run *sync.WaitGroup, src replica.Source, perByte time.Duration) pair {
	t.Helper()
	feeder, err := replica.NewFeeder(replica.FeederConfig{Source: src, BacklogBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	p := pair{feeder: feeder, sink: newMemory(), received: new(atomic.Int64)}
	ticks := readpath.NewTicks(readpath.NewSystemClock())
	p.follower, err = replica.NewFollower(replica.FollowerConfig{
		Sink: p.sink, Ticks: ticks, Window: 256 << 10,
		Dial: func(context.Context, string) (net.Conn, error) {
			near, far := net.Pipe()
			run.Go(func() { feeder.Serve(ctx, "r", far) })
			return &throttled{near, perByte, p.received}, nil
		},
		Feeders: func(wire.TenantID) []string { return []string{"feeder"} },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []func(context.Context) error{feeder.Run, ticks.Run, p.follower.Run} {
		run.Go(func() { _ = part(ctx) })
	}
	return p
}

// TestIdleTenantsAreNotCopied: a stream that breaks goes on where it was, also for tenants whose group has gone far ahead of the Tail.
func TestIdleTenantsAreNotCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		v := newVoter(4096)
		for i := range 20 {
			v.write(t, wire.TenantID{byte(i + 1)})
		}
		p := connect(ctx, t, &run, v, 0)
		for i := range 20 {
			p.follower.Follow(wire.TenantID{byte(i + 1)}, 2, 1)
		}
		time.Sleep(5 * time.Second)
		if n := p.follower.Stats.Joined.Load(); n != 20 || v.copies != 20 {
			t.Fatalf("%d joined, %d copies", n, v.copies)
		}
		for i := range 19 {
			p.follower.Unfollow(wire.TenantID{byte(i + 2)})
		}
		for range 500 {
			v.write(t, wire.TenantID{1})
			time.Sleep(time.Millisecond)
		}
		for i := range 19 {
			p.follower.Follow(wire.TenantID{byte(i + 2)}, 2, 1)
		}
		time.Sleep(5 * time.Second)
		if n := p.follower.Stats.Joined.Load(); n != 20 || v.copies != 20 {
			t.Errorf("%d joined, %d copies", n, v.copies)
		}
		if got, want := p.sink.state(wire.TenantID{1}).TXID, v.states[wire.TenantID{1}].TXID; got != want {
			t.Errorf("at %d, want %d", got, want)
		}
		cancel()
		run.Wait()
	})
}

// TestSlowReceiver: one that takes little costs nobody time, and gets there in the end.
func TestSlowReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		v := newVoter(64 << 10)
		v.write(t, tenantA)
		slow := connect(ctx, t, &run, v, 50*time.Microsecond) // 20 kilobytes per second
		fast := connect(ctx, t, &run, v, 0)
		slow.follower.Follow(tenantA, 2, 1)
		fast.follower.Follow(tenantA, 2, 1)
		time.Sleep(3 * time.Second)
		v.mu.Lock()
		v.padding = 400 << 10
		v.mu.Unlock()
		before := time.Now()
		for range 3000 {
			v.write(t, tenantA)
		}
		if took := time.Since(before); took != 0 {
			t.Errorf("writing took %v", took)
		}
		time.Sleep(3 * time.Second)
		if got := fast.sink.state(tenantA).TXID; got != 2999 && got != 3000 {
			t.Errorf("the fast one is at %d", got)
		}
		if slow.follower.Fresh(tenantA).Known && slow.sink.state(tenantA).TXID >= 3000 {
			t.Error("the slow one is not slow")
		}
		time.Sleep(10 * time.Minute)
		if got := slow.sink.state(tenantA).TXID; got < 2999 {
			t.Errorf("the slow one is at %d", got)
		}
		if age := readpath.Elapsed(slow.follower.Fresh(tenantA).AsOf, readpath.NewSystemClock().Now()); !slow.follower.Fresh(tenantA).Known {
			t.Errorf("its age is not known (%v)", age)
		}
		cancel()
		run.Wait()
	})
}

// TestCopyDelaysNobody: while a large copy is on its way over a link of 1 MB/s, other tenants' transactions and answers to questions go on.
func TestCopyDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		v := newVoter(0)
		v.write(t, tenantA)
		v.write(t, tenantB)
		p := connect(ctx, t, &run, v, time.Microsecond)
		p.follower.Follow(tenantA, 2, 1)
		time.Sleep(3 * time.Second)
		v.mu.Lock()
		v.padding = 20 << 20 // 20 s
		v.mu.Unlock()
		p.follower.Follow(tenantB, 2, 1)
		worst := time.Duration(0)
		for range 100 {
			before := time.Now()
			v.write(t, tenantA)
			v.write(t, tenantB)
			if err := p.follower.Confirm(ctx, tenantA); err != nil {
				t.Fatal(err)
			}
			if p.sink.state(tenantA).TXID != v.states[tenantA].TXID {
				t.Fatal("confirmed, and not there")
			}
			worst = max(worst, time.Since(before))
			if p.follower.Fresh(tenantB).Known {
				t.Fatal("what has not joined is fresh")
			}
			time.Sleep(100 * time.Millisecond)
		}
		if s, _ := p.follower.Status(tenantB); s.Joined {
			t.Error("the copy was there too soon to show anything")
		}
		t.Logf("the slowest of 100 took %v", worst)
		if worst > 500*time.Millisecond {
			t.Errorf("the slowest took %v", worst)
		}
		time.Sleep(30 * time.Second)
		if l := p.feeder.Receivers(); len(l) != 1 || l[0].Node != "r" || l[0].Tenants != 2 || l[0].Behind > 2 {
			t.Errorf("receivers: %+v", l)
		}
		if s, _ := p.follower.Status(tenantB); !s.Joined || p.sink.state(tenantB).TXID != v.states[tenantB].TXID {
			t.Errorf("the copy and what came meanwhile: %+v, at %d", s, p.sink.state(tenantB).TXID)
		}
		if v.copies != 2 {
			t.Errorf("%d copies", v.copies)
		}
		cancel()
		run.Wait()
	})
}

// TestConfirmedIsThere: a mark comes after all that it speaks of, however much that is.
func TestConfirmedIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		v := newVoter(0)
		v.write(t, tenantA)
		p := connect(ctx, t, &run, v, time.Microsecond)
		p.follower.Follow(tenantA, 2, 1)
		time.Sleep(3 * time.Second)
		for range 10 {
			for range 3000 {
				v.write(t, tenantA)
			}
			if err := p.follower.Confirm(ctx, tenantA); err != nil {
				t.Fatal(err)
			}
			if got, want := p.sink.state(tenantA).TXID, v.states[tenantA].TXID; got < want {
				t.Fatalf("confirmed at %d, and %d was written before", got, want)
			}
		}
		if v.copies != 1 {
			t.Errorf("%d copies", v.copies)
		}
		cancel()
		run.Wait()
	})
}

// TestOtherHistory: a copy that is not of the feeder's history is replaced before any mark covers it, also when it stands at the same place.
func TestOtherHistory(t *testing.T) {
	for name, change := range map[string]func(s *readpathtest.State){
		"another checksum": func(s *readpathtest.State) { s.Checksum ^= 1 },
		"another epoch":    func(s *readpathtest.State) { s.Epoch++ },
		"ahead":            func(s *readpathtest.State) { s.TXID++ },
		"another group":    func(s *readpathtest.State) { s.Group, s.Index = 9, 1000 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				var run sync.WaitGroup
				v := newVoter(0)
				v.write(t, tenantA)
				v.write(t, tenantA)
				p := connect(ctx, t, &run, v, 0)
				have := v.states[tenantA]
				change(&have)
				p.sink.copies[tenantA] = have
				p.follower.Follow(tenantA, 2, 1)
				time.Sleep(3 * time.Second)
				if got := p.sink.state(tenantA); got.Head() != func() replica.Head { s := v.states[tenantA]; return s.Head() }() {
					t.Errorf("at %+v", got.Head())
				}
				if n := p.follower.Stats.Diverged.Load(); n != 0 || v.copies != 1 || !p.follower.Askable(tenantA) {
					t.Errorf("%d diverged, %d copies", n, v.copies)
				}
				cancel()
				run.Wait()
			})
		})
	}
}

// TestGone: a tenant that is purged, or moves, ends at the receivers too, after all that came before.
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		v := newVoter(0)
		v.write(t, tenantA)
		p := connect(ctx, t, &run, v, 0)
		p.follower.Follow(tenantA, 2, 1)
		time.Sleep(3 * time.Second)
		v.write(t, tenantA)
		v.mu.Lock()
		v.gone = &replica.GoneError{Tenant: tenantA, Why: stream.GoneMoved, Group: 9}
		v.tail.Leave(tenantA)
		v.mu.Unlock()
		time.Sleep(100 * time.Millisecond)
		if p.sink.state(tenantA).TXID != 1 {
			t.Errorf("at %d", p.sink.state(tenantA).TXID)
		}
		if len(p.sink.gone) == 0 || p.sink.gone[0] != stream.GoneMoved || p.follower.Askable(tenantA) {
			t.Errorf("gone: %v", p.sink.gone)
		}
		// What was known is known, and grows old.
		fresh := p.follower.Fresh(tenantA)
		time.Sleep(time.Minute)
		if later := p.follower.Fresh(tenantA); !fresh.Known || later.Known && later != fresh {
			t.Errorf("fresh as of %+v, later of %+v", fresh, later)
		}
		p.follower.Unfollow(tenantA)
		if p.follower.Follows(tenantA) || p.follower.Fresh(tenantA).Known {
			t.Error("it is followed yet")
		}
		cancel()
		run.Wait()
	})
}

// TestOverhead: what a transaction takes on the stream beyond its entry.
func TestOverhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		v := newVoter(0)
		v.write(t, tenantA)
		p := connect(ctx, t, &run, v, 0)
		p.follower.Follow(tenantA, 2, 1)
		time.Sleep(time.Second)
		before := p.received.Load()
		for range 1000 {
			v.write(t, tenantA)
		}
		time.Sleep(400 * time.Millisecond) // a question, its answer and a mark are in it
		entries, all := p.feeder.Stats.TxnBytes.Load(), p.received.Load()-before
		if n := p.feeder.Stats.Txns.Load(); n != 1000 {
			t.Errorf("%d transactions", n)
		}
		per := float64(all-entries) / 1000
		t.Logf("1000 transactions of %d bytes in all took %d: %.2f bytes each beyond the entry", entries, all, per)
		if per > 13 {
			t.Errorf("%.2f bytes each beyond the entry", per)
		}
		cancel()
		run.Wait()
	})
}
