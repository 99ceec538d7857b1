package replica_test

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/readpath/replica"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
)

func numbered(n int) (id wire.TenantID) {
	binary.BigEndian.PutUint32(id[:], uint32(n))
	id[15] = 1
	return id
}

// What a follower does when something changes is in proportion to that, however many tenants it follows.
func TestWorkIsThatOfTheChange(t *testing.T) {
	const many = 2000
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		v := newVoter(64 << 20)
		for i := range many + 1 {
			v.write(t, numbered(i))
		}
		feeder, err := replica.NewFeeder(replica.FeederConfig{Source: v})
		if err != nil {
			t.Fatal(err)
		}
		var asked atomic.Int64
		ticks := readpath.NewTicks(readpath.NewSystemClock())
		f, err := replica.NewFollower(replica.FollowerConfig{
			Sink: newMemory(), Ticks: ticks,
			Dial: func(context.Context, string) (net.Conn, error) {
				near, far := net.Pipe()
				run.Go(func() { feeder.Serve(ctx, "r", far) })
				return near, nil
			},
			Feeders: func(wire.TenantID) []string { asked.Add(1); return []string{"v"} },
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []func(context.Context) error{feeder.Run, ticks.Run, f.Run} {
			run.Go(func() { _ = part(ctx) })
		}
		for i := range many {
			f.Follow(numbered(i), 2, 1)
		}
		for f.Stats.Joined.Load() < many {
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		if n := asked.Load(); n > 3*many {
			t.Errorf("for %d tenants it was asked %d times who feeds them", many, n)
		}
		asked.Store(0)
		f.Follow(numbered(many), 2, 1)
		f.Unfollow(numbered(7))
		for i := range 100 {
			v.write(t, numbered(i))
		}
		time.Sleep(time.Minute)
		if n := f.Stats.Joined.Load(); n != many {
			t.Errorf("%d are joined, want %d", n, many)
		}
		if n := asked.Load(); n == 0 || n > 5 {
			t.Errorf("for one tenant more and one less it was asked %d times who feeds them", n)
		}
		cancel()
		run.Wait()
	})
}

// A receiver that may not have a tenant gets nothing of it, and one that may not have it any more nothing from then on.
func TestAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		v := newVoter(0)
		id := numbered(1)
		v.write(t, id)
		inside := atomic.Bool{}
		v.admit = func(receiver string) error {
			if receiver == "r" && !inside.Load() {
				return &replica.GoneError{Tenant: id, Why: stream.GonePolicy}
			}
			return nil
		}
		p := connect(ctx, t, &run, v, 0)
		p.follower.Follow(id, 2, 1)
		time.Sleep(time.Minute)
		if p.sink.Head(id).Epoch != 0 || p.feeder.Stats.Txns.Load() != 0 || p.feeder.Stats.Copies.Load() != 0 {
			t.Fatalf("a receiver outside has %+v", p.sink.Head(id))
		}
		inside.Store(true)
		for range 100 {
			time.Sleep(time.Second)
		}
		if s, _ := p.follower.Status(id); !s.Joined {
			t.Fatal("inside, it is not fed")
		}
		inside.Store(false)
		before := p.sink.Head(id)
		v.control(t, id) // the entry that says so
		v.write(t, id)
		time.Sleep(time.Minute)
		if now := p.sink.Head(id); now != before {
			t.Errorf("outside again, it went from %+v to %+v", before, now)
		}
		cancel()
		run.Wait()
	})
}

// control puts an entry in the log that changes the tenant's record.
func (v *voter) control(t testing.TB, id wire.TenantID) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.states[id]
	e, err := s.Control(2, []byte("b"), 0)
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
