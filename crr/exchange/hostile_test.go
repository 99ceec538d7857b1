package exchange_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/exchange"
	"github.com/nearsql/nearsql/crr/exchange/frame"
)

// rogue is a node of the cluster that speaks as it likes.
type rogue struct {
	t    *testing.T
	net  *cluster.Net
	stop func()
}

func (w *world) rogue(name string) *rogue {
	p := w.net.Node(name)
	l, err := p.Listen()
	if err != nil {
		w.t.Fatal(err)
	}
	cn, err := cluster.New(cluster.Config{ClusterID: cluster.ID{1}, Node: name, Listener: l, Dialer: p.Dial, Resolve: w.net.Resolve})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = cn.Run(ctx) })
	return &rogue{w.t, cn, func() { cancel(); running.Wait() }}
}

// dial connects and sends a hello.
func (r *rogue) dial(to string) net.Conn {
	c, err := r.net.Dial(context.Background(), to, cluster.PurposeExchange, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	r.send(c, frame.Hello{Version: 1, Heartbeat: 1000})
	return c
}

func (r *rogue) send(c net.Conn, fs ...frame.Frame) {
	var b []byte
	for _, f := range fs {
		var err error
		if b, err = frame.Append(b, f); err != nil {
			r.t.Fatal(err)
		}
	}
	_, _ = c.Write(b)
}

// until reads until a frame of a type comes, or the end; nil then.
func until(rd *frame.Reader, t frame.Type) frame.Frame {
	for {
		f, err := rd.Next()
		if err != nil || f.Type() == t {
			return f
		}
	}
}

// A node that is no site of a tenant gets nothing of it, and nothing is taken from it.
func TestStranger(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.start("a2", 0, acme), w.start("b2", 0, acme)
		a.do(like("x"))
		w.same(5*time.Second, acme, a, b)
		r := w.rogue("a1")
		defer r.stop()
		c := r.dial("a2")
		q := (&crr.Request{Tenant: acme.String(), Vector: crr.Vector{}}).Append(nil)
		r.send(c, frame.Heads{Urgent: true, Heads: []frame.Head{{Tenant: acme, Hash: 7}}}, frame.Push{Tenant: acme, Data: []byte("x"), Relay: []string{"b2"}},
			frame.Pull{ID: 1, Kind: frame.Batch, Tenant: acme, Window: 1 << 20, Request: q}, frame.Pull{ID: 2, Kind: frame.Vector, Tenant: acme},
			frame.Pull{ID: 3, Kind: frame.Snapshot, Tenant: acme, Window: 1 << 20})
		rd := frame.NewReader(c)
		for refused := 0; refused < 3; {
			switch f, err := rd.Next(); f := f.(type) {
			case frame.Answered:
				if f.Code != frame.Refused || len(f.Vector) > 0 {
					t.Fatalf("a stranger was answered %+v", f)
				}
				refused++
			case frame.Hello, frame.Heartbeat:
			default:
				t.Fatalf("a stranger got %#v, %v", f, err)
			}
		}
		if got := a.Stats.Strangers.Load(); got != 5 || a.Stats.Relayed.Load() != 0 {
			t.Errorf("%d frames of a stranger, %d passed on", got, a.Stats.Relayed.Load())
		}
	})
}

// What no node should send ends its connection, with a word why, or is ignored; others notice nothing.
func TestHostileFrames(t *testing.T) {
	bubble(t, func(w *world) {
		n, b := w.start("n", 0, acme), w.start("p", 0, acme)
		w.mu.Lock()
		w.members[acme] = append(w.members[acme], member{"m", crr.Member{Site: 3, File: crr.FileID{3}, State: crr.Active}})
		w.mu.Unlock()
		w.spread(acme)
		r := w.rogue("m")
		defer r.stop()
		good, err := frame.Append(nil, frame.Cancel{ID: 1})
		if err != nil {
			t.Fatal(err)
		}
		for name, bad := range map[string][]byte{
			"garbage":     bytes.Repeat([]byte{0xff}, 100),
			"bad CRC":     append(append([]byte{}, good[:len(good)-1]...), good[len(good)-1]^1),
			"too long":    {4, 0xff, 0xff, 0xff},
			"pull twice":  twice(t, frame.Pull{ID: 5, Kind: frame.Vector, Tenant: acme}),
			"hello twice": twice(t, frame.Hello{Version: 1}),
		} {
			c := r.dial("n")
			_, _ = c.Write(bad)
			rd := frame.NewReader(c)
			f := until(rd, frame.TypeError)
			if e, ok := f.(frame.Error); !ok || e.Text == "" {
				t.Errorf("%s: the last frame is %#v", name, f)
			}
			if until(rd, 0) != nil {
				t.Errorf("%s: the connection goes on", name)
			}
			_ = c.Close()
		}
		// A greater id doesn't dial.
		g := w.rogue("z")
		defer g.stop()
		if f := until(frame.NewReader(g.dial("n")), frame.TypeHello); f != nil {
			t.Errorf("a node with a greater id was let in: %#v", f)
		}
		// In form, and no batch.
		c := r.dial("n")
		rd := frame.NewReader(c)
		before := n.dump(acme)
		refused := n.Stats.Refused.Load()
		r.send(c, frame.Push{Tenant: acme, Data: []byte("not a batch")}, frame.Answer{ID: 99, Data: []byte("for nobody")}, frame.Answered{ID: 98, Code: frame.Done},
			frame.Credit{ID: 97, Bytes: 1 << 31}, frame.Cancel{ID: 96}, frame.Pull{ID: 1, Kind: frame.Batch, Tenant: acme, Window: 1, Request: []byte("no request")})
		if f, ok := until(rd, frame.TypeAnswered).(frame.Answered); !ok || f.Code != frame.Refused {
			t.Errorf("got %+v", f)
		}
		time.Sleep(time.Second)
		if n.dump(acme) != before || n.Stats.Refused.Load() != refused+1 {
			t.Errorf("garbage was merged, or not counted: %d", n.Stats.Refused.Load()-refused)
		}
		// It is asked, since its head is another one, and answers more than there was room for.
		r.send(c, frame.Heads{Urgent: true, Heads: []frame.Head{{Tenant: acme, Hash: 7}}})
		q, ok := until(rd, frame.TypePull).(frame.Pull)
		if !ok {
			t.Fatal("no pull came")
		}
		refused = n.Stats.Refused.Load()
		many := []frame.Frame{frame.Answer{ID: q.ID, End: true, Data: []byte("no frame of a batch")}}
		for range 1 + int(q.Window)/frame.MaxData {
			many = append(many, frame.Answer{ID: q.ID, Data: make([]byte, frame.MaxData)})
		}
		f := n.file(acme)
		f.writer <- struct{}{} // so that nothing is taken out of the window
		r.send(c, many...)
		until(rd, 0)
		<-f.writer
		if n.Stats.Refused.Load() != refused+1 {
			t.Error("more of an answer than there was room for was taken")
		}
		n.do(like("x"))
		b.do(like("x"))
		w.same(10*time.Second, acme, n, b)
	})
}

func twice(t *testing.T, f frame.Frame) []byte {
	b, err := frame.Append(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	return append(b, b...)
}

// A peer that reads nothing, and one that takes nothing of its answers, cost a bounded amount of memory, and the others nothing.
func TestStalledPeers(t *testing.T) {
	bubble(t, func(w *world) {
		w.configs = func(c *exchange.Config) { c.Timing.Dead = time.Minute }
		b, c := w.start("b", 0, acme), w.start("c", 0, acme)
		w.mu.Lock()
		for i, name := range []string{"a1", "a2"} {
			w.members[acme] = append(w.members[acme], member{name, crr.Member{Site: crr.SiteID(i + 3), File: crr.FileID{byte(i)}, State: crr.Active}})
		}
		w.mu.Unlock()
		w.spread(acme)
		b.do("WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<10000) INSERT INTO likes(id,title) SELECT 'row '||i, hex(randomblob(100)) FROM c")
		w.same(20*time.Second, acme, b, c)
		deaf, slow := w.rogue("a1"), w.rogue("a2")
		defer deaf.stop()
		defer slow.stop()
		deaf.dial("b")
		s := slow.dial("b")
		var reading sync.WaitGroup
		reading.Go(func() { _, _ = io.Copy(io.Discard, s) })
		for id := uint64(1); id <= 70; id++ {
			q := (&crr.Request{Tenant: acme.String(), Vector: crr.Vector{}}).Append(nil)
			slow.send(s, frame.Pull{ID: id, Kind: frame.Batch, Tenant: acme, Window: 1, Request: q})
		}
		time.Sleep(100 * time.Millisecond)
		var most [2]int
		blob := strings.Repeat("x", 30_000)
		for i := range 100 {
			b.do(fmt.Sprintf("UPDATE likes SET title='%d %s'||hex(randomblob(15000)) WHERE id='row 1'", i, blob))
			slow.send(s, frame.Heartbeat{})
			time.Sleep(50 * time.Millisecond)
			if have, is := c.file(acme).site.Head().Vector[1], b.file(acme).site.Head().Vector[1]; is.Time().Sub(have.Time()) > 100*time.Millisecond {
				t.Fatalf("a stalled peer holds up another: it has %s of %s", have, is)
			}
			pushes, answers, _ := b.Queued()
			most[0], most[1] = max(most[0], pushes), max(most[1], answers)
		}
		t.Logf("at most %d bytes of pushes and %d of answers waited; %d pushes were dropped", most[0], most[1], b.Stats.PushesDropped.Load())
		if most[0] > 1<<20+64<<10 || most[1] > 8*(5<<20) || b.Stats.PushesDropped.Load() == 0 {
			t.Error("that is not bounded, or nothing was dropped")
		}
		time.Sleep(20 * time.Second)
		if b.Stats.Stalled.Load() == 0 {
			t.Error("an answer that nobody takes goes on")
		}
		_ = s.Close()
		reading.Wait()
		w.same(10*time.Second, acme, b, c)
	})
}

// A site whose writer is busy for long keeps a bounded amount of pushes, and pulls the rest later.
func TestBusyWriter(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.start("a", 0, acme), w.start("b", 0, acme)
		a.do(like("x"))
		w.same(5*time.Second, acme, a, b)
		f := b.file(acme)
		f.writer <- struct{}{}
		for i := range 200 {
			a.do(fmt.Sprintf("INSERT INTO likes(id,title) VALUES('%d',hex(randomblob(10000)))", i))
			time.Sleep(25 * time.Millisecond)
			if _, _, n := b.Queued(); n > 1<<20 {
				t.Fatalf("%d bytes wait to be merged", n)
			}
		}
		if b.Stats.PushesDropped.Load() == 0 {
			t.Error("nothing was dropped")
		}
		<-f.writer
		took := w.same(10*time.Second, acme, a, b)
		if _, _, n := b.Queued(); n != 0 || b.Pulling() != 0 {
			t.Errorf("%d bytes wait, %d pulls", n, b.Pulling())
		}
		t.Logf("equal %v after the writer was free; %d pushes dropped", took, b.Stats.PushesDropped.Load())
	})
}

// Nothing is left when a node ends, and what is called then says so.
func TestEnd(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.start("a", 0, acme)
		synctest.Wait() // it runs
		if err := a.Run(context.Background()); err == nil {
			t.Error("Run twice")
		}
		if err := a.Fetch(context.Background(), acme, io.Discard); !errors.Is(err, exchange.ErrUnreachable) {
			t.Errorf("fetch without peers: %v", err)
		}
		a.Remove(acme)
		if _, ok := a.Status(acme); ok || a.Tenants() != 0 {
			t.Error("a removed tenant is there")
		}
		a.stop()
		x, y := net.Pipe()
		defer y.Close()
		a.Serve(context.Background(), "0", x) // returns
	})
}
