package cluster_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/cluster/clustertest"
	"github.com/nearsql/nearsql/wire"
)

func TestDialAndHandle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := clustertest.New(clustertest.Options{})
		network.SetDelayBoth("n1", "n2", 40*time.Millisecond)
		n1, n2 := start(t, network, "n1"), start(t, network, "n2")
		seen := make(chan cluster.Hello, 1)
		handle(t, n1, cluster.PurposeConfirm, func(ctx context.Context, c *cluster.Conn) {
			seen <- c.Hello()
			if c.From() != "n2" || c.Peer() != "n2" {
				t.Errorf("from %s, peer %s", c.From(), c.Peer())
			}
			echo(ctx, c)
		})
		begin := time.Now()
		c, err := n2.Dial(t.Context(), "n1", cluster.PurposeConfirm, 9)
		if err != nil {
			t.Fatal(err)
		}
		wantTook(t, begin, 160*time.Millisecond) // a round trip for the connection, one for the hello
		if h := <-seen; h.From != "n2" || h.To != "n1" || h.Cluster != ours || h.Group != 9 || h.Purpose != cluster.PurposeConfirm {
			t.Errorf("hello %+v", h)
		}
		if p := c.(*cluster.Conn); p.Peer() != "n1" || p.From() != "n2" {
			t.Errorf("from %s, peer %s", p.From(), p.Peer())
		}
		// No deadline is left over from the hello.
		time.Sleep(time.Hour)
		wantEcho(t, c)
		s1, s2 := n1.Stats(), n2.Stats()
		if s1.Accepted != 1 || s1.Open != 1 || s1.HalfOpen != 0 || s2.Dialled != 1 || s2.Open != 1 {
			t.Errorf("stats %+v, %+v", s1, s2)
		}
		if want := (cluster.Bytes{Read: 5, Written: 5}); s1.Bytes[cluster.PurposeConfirm] != want || s2.Bytes[cluster.PurposeConfirm] != want {
			t.Errorf("bytes %v, %v", s1.Bytes, s2.Bytes)
		}
		c.Close()
		c.Close()
		time.Sleep(time.Second)
		if s := n1.Stats(); s.Open != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name    string
		code    cluster.Code
		text    string
		purpose cluster.Purpose
		n1, n2  func(*cluster.Config)
	}{
		{name: "wrong cluster", code: cluster.CodeWrongCluster, text: "this is node n1 of cluster 01020300", n2: func(c *cluster.Config) { c.ClusterID = cluster.ID{9} }},
		{name: "wrong node", code: cluster.CodeWrongNode, text: "this is node n3, wanted was node n1", n1: func(c *cluster.Config) { c.Node = "n3" }},
		{name: "removed", code: cluster.CodeNotAdmitted, text: "n2 was removed on Monday", n1: func(c *cluster.Config) {
			c.Admit = func(from string) error { return errors.New(from + " was removed on Monday") }
		}},
		{name: "unknown purpose", code: cluster.CodeUnknownPurpose, text: "node n1, purpose(77), group 7", purpose: 77},
		{name: "unknown group", code: cluster.CodeUnknownGroup, text: "node n1, raft, group 7", purpose: cluster.PurposeRaft},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := clustertest.New(clustertest.Options{})
				cfg1, cfg2 := configure(t, network, "n1"), configure(t, network, "n2")
				if c.n1 != nil {
					c.n1(&cfg1)
				}
				if c.n2 != nil {
					c.n2(&cfg2)
				}
				n1, n2 := run(t, cfg1), run(t, cfg2)
				handle(t, n1, cluster.PurposeConfirm, func(context.Context, *cluster.Conn) { t.Error("handled") })
				purpose := cluster.PurposeConfirm
				if c.purpose != 0 {
					purpose = c.purpose
				}
				_, err := n2.Dial(t.Context(), "n1", purpose, 7)
				if r := wantRefused(t, err, c.code); r.Node != "n1" || !strings.Contains(r.Text, c.text) {
					t.Errorf("got %v, want %q", r, c.text)
				}
				synctest.Wait()
				if s := n1.Stats(); s.Refused[c.code] != 1 || s.Accepted != 0 || s.Dropped != 0 {
					t.Errorf("stats %+v", s)
				}
				if s := n2.Stats(); s.Dialled != 0 {
					t.Errorf("stats %+v", s)
				}
			})
		})
	}
}

// TestRawHellos sends bytes as no Net does.
func TestRawHellos(t *testing.T) {
	good, err := cluster.Hello{Cluster: ours, From: "n2", To: "n1", Purpose: cluster.PurposeConfirm, Nonce: 5}.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	change := func(at int, to byte) []byte {
		b := append([]byte(nil), good...)
		b[at] = to
		return b
	}
	for _, c := range []struct {
		name   string
		bytes  []byte
		answer []cluster.Code // one or none
		after  time.Duration
	}{
		{"good", good, []cluster.Code{cluster.CodeAccepted}, 0},
		{"version", change(8, 2), []cluster.Code{cluster.CodeVersion}, 0},
		{"damaged", change(30, 0xee), []cluster.Code{cluster.CodeMalformed}, 0},
		{"garbage", []byte("GET /v1/tenants HTTP/1.1\r\nHost: n1\r\n\r\n"), nil, 0},
		{"truncated", good[:20], nil, 5 * time.Second},
		{"nothing", nil, nil, 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := clustertest.New(clustertest.Options{})
				n1 := start(t, network, "n1")
				handle(t, n1, cluster.PurposeConfirm, func(context.Context, *cluster.Conn) {})
				conn, err := network.Node("n2").Dial(t.Context(), "n1")
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				begin := time.Now()
				if _, err := conn.Write(c.bytes); err != nil {
					t.Fatal(err)
				}
				got, _ := io.ReadAll(conn)
				wantTook(t, begin, c.after)
				synctest.Wait()
				if len(c.answer) == 0 {
					if len(got) != 0 {
						t.Errorf("answered %q", got)
					}
					if s := n1.Stats(); s.Dropped != 1 {
						t.Errorf("stats %+v", s)
					}
					return
				}
				if len(got) < 24 || string(got[:9]) != "nearsqlA\x01" || cluster.Code(got[9]) != c.answer[0] {
					t.Fatalf("answered %q, want %v", got, c.answer)
				}
				nonce := uint64(5)
				if c.answer[0] != cluster.CodeAccepted {
					nonce = 0
				}
				if binary.BigEndian.Uint64(got[12:]) != nonce || len(got) != 24+int(binary.BigEndian.Uint16(got[10:])) {
					t.Errorf("answered %q", got)
				}
			})
		})
	}
}

// TestSlowHello sends a byte a second: the deadline is for all of the hello.
func TestSlowHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := clustertest.New(clustertest.Options{})
		n1 := start(t, network, "n1")
		conn, err := network.Node("n2").Dial(t.Context(), "n1")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		begin := time.Now()
		time.Sleep(500 * time.Millisecond)
		for i := range 100 {
			if _, err = conn.Write([]byte("nearsqlC")[i%8 : i%8+1]); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if !errors.Is(err, syscall.EPIPE) {
			t.Errorf("the last write: %v", err)
		}
		wantTook(t, begin, 5500*time.Millisecond) // the first write after the deadline
		synctest.Wait()
		if s := n1.Stats(); s.Dropped != 1 || s.HalfOpen != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestHalfOpenMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := clustertest.New(clustertest.Options{})
		cfg := configure(t, network, "n1")
		cfg.HalfOpenMax = 2
		n1, n2 := run(t, cfg), start(t, network, "n2")
		handle(t, n1, cluster.PurposeConfirm, echo)
		for range 2 {
			c, err := network.Node("x").Dial(t.Context(), "n1")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		synctest.Wait()
		if s := n1.Stats(); s.HalfOpen != 2 {
			t.Fatalf("stats %+v", s)
		}
		_, err := n2.Dial(t.Context(), "n1", cluster.PurposeConfirm, 0)
		wantUnreachable(t, err, nil)
		time.Sleep(6 * time.Second)
		c, err := n2.Dial(t.Context(), "n1", cluster.PurposeConfirm, 0)
		if err != nil {
			t.Fatal(err)
		}
		wantEcho(t, c) // an open connection is none of them
		if s := n1.Stats(); s.HalfOpen != 0 || s.Dropped != 3 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestConnsMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := clustertest.New(clustertest.Options{})
		cfg := configure(t, network, "n1")
		cfg.ConnsMax = 1
		n1, n2 := run(t, cfg), start(t, network, "n2")
		handle(t, n1, cluster.PurposeConfirm, echo)
		group, err := n1.HandleGroup(cluster.PurposeRaft, 1)
		if err != nil {
			t.Fatal(err)
		}
		c, err := n2.Dial(t.Context(), "n1", cluster.PurposeConfirm, 0)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 { // a refusal gives back the place in the queue
			_, err = n2.Dial(t.Context(), "n1", cluster.PurposeRaft, 1)
			wantRefused(t, err, cluster.CodeBusy)
		}
		c.Close()
		synctest.Wait()
		if _, err = n2.Dial(t.Context(), "n1", cluster.PurposeRaft, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := group.Accept(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestDialFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := clustertest.New(clustertest.Options{})
		unknown := errors.New("no such node in the catalogue")
		cfg := configure(t, network, "n2")
		cfg.Resolve = func(node string) (string, error) {
			if node == "n9" {
				return "", unknown
			}
			return node, nil
		}
		n2 := run(t, cfg)
		dial := func(to string) error {
			_, err := n2.Dial(t.Context(), to, cluster.PurposeConfirm, 0)
			return err
		}
		if u := wantUnreachable(t, dial("n9"), unknown); u.Node != "n9" {
			t.Errorf("node %s", u.Node)
		}
		wantUnreachable(t, dial("n1"), syscall.ECONNREFUSED)
		wantUnreachable(t, dial("not a node"), nil)
		if _, err := n2.Dial(t.Context(), "n1", 0, 0); err == nil {
			t.Error("purpose 0 was dialled")
		}

		// Somebody listens there who does not answer.
		l, err := network.Node("n1").Listen()
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		begin := time.Now()
		wantUnreachable(t, dial("n1"), context.DeadlineExceeded)
		wantTook(t, begin, 10*time.Second)
		// The caller has less time.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin = time.Now()
		_, err = n2.Dial(ctx, "n1", cluster.PurposeConfirm, 0)
		wantUnreachable(t, err, context.DeadlineExceeded)
		wantTook(t, begin, time.Second)
		// The caller gives up.
		ctx, give := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, give)
		_, err = n2.Dial(ctx, "n1", cluster.PurposeConfirm, 0)
		wantUnreachable(t, err, context.Canceled)
		// The way is cut.
		network.Cut("n2", "n1")
		begin = time.Now()
		wantUnreachable(t, dial("n1"), context.DeadlineExceeded)
		wantTook(t, begin, 10*time.Second)
		network.HealAll()
		// Who answers is no node, or answers another hello.
		l.Close() // with those that were given up
		if l, err = network.Node("n1").Listen(); err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for _, answer := range []string{"HTTP/1.1 400 Bad Request\r\n\r\n", withSum("nearsqlA\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")} {
			done := make(chan error)
			go func() { done <- dial("n1") }()
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := cluster.ReadHello(c); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write([]byte(answer)); err != nil {
				t.Fatal(err)
			}
			wantUnreachable(t, <-done, nil)
			c.Close()
		}
	})
}

func withSum(s string) string {
	sum := crc32.Checksum([]byte(s), crc32.MakeTable(crc32.Castagnoli))
	return string(binary.BigEndian.AppendUint32([]byte(s), sum))
}

func TestGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := clustertest.New(clustertest.Options{})
		cfg := configure(t, network, "n1")
		cfg.Backlog = 2
		n1, n2 := run(t, cfg), start(t, network, "n2")
		dial := func(group wire.GroupID) (net.Conn, error) {
			return n2.Dial(t.Context(), "n1", cluster.PurposeRaft, group)
		}
		_, err := dial(1)
		wantRefused(t, err, cluster.CodeUnknownGroup)
		g1, err := n1.HandleGroup(cluster.PurposeRaft, 1)
		if err != nil {
			t.Fatal(err)
		}
		g2, err := n1.HandleGroup(cluster.PurposeRaft, 2)
		if err != nil {
			t.Fatal(err)
		}
		if g1.Addr().String() != "n1" || g1.Addr().Network() != "nearsql" {
			t.Errorf("address %s %s", g1.Addr().Network(), g1.Addr())
		}
		if _, err := n1.HandleGroup(cluster.PurposeRaft, 2); err == nil {
			t.Error("a group has two listeners")
		}
		if _, err := n1.Listen(cluster.PurposeRaft); err == nil {
			t.Error("a listener of all groups beside one of a group")
		}
		if err := n1.Handle(cluster.PurposeRaft, echo); err == nil {
			t.Error("a handler of all groups beside a listener of one")
		}
		// Each gets its own.
		for group, g := range map[wire.GroupID]*cluster.Acceptor{1: g1, 2: g2} {
			c, err := dial(group)
			if err != nil {
				t.Fatal(err)
			}
			there, err := g.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if h := there.(*cluster.Conn).Hello(); h.Group != group || h.From != "n2" {
				t.Errorf("group %d got %+v", group, h)
			}
			go func() { _, _ = io.Copy(there, there) }()
			wantEcho(t, c)
		}
		// Nobody accepts: the bound holds.
		var waiting []net.Conn
		for range 2 {
			c, err := dial(1)
			if err != nil {
				t.Fatal(err)
			}
			waiting = append(waiting, c)
		}
		_, err = dial(1)
		wantRefused(t, err, cluster.CodeBusy)
		// The group leaves the node: what waits is closed, what was accepted is not.
		if s := n1.Stats(); s.Open != 4 {
			t.Errorf("stats %+v", s)
		}
		g1.Close()
		g1.Close()
		for _, c := range waiting {
			wantClosed(t, c)
		}
		if _, err := g1.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v", err)
		}
		if s := n1.Stats(); s.Open != 2 {
			t.Errorf("stats %+v", s)
		}
		g1.CloseConns()
		if s := n1.Stats(); s.Open != 1 {
			t.Errorf("stats %+v", s)
		}
		_, err = dial(1)
		wantRefused(t, err, cluster.CodeUnknownGroup)
		// And comes back.
		g1, err = n1.HandleGroup(cluster.PurposeRaft, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = dial(1); err != nil {
			t.Fatal(err)
		}
		if _, err := g1.Accept(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := clustertest.New(clustertest.Options{})
		removed := make(map[string]bool) // changed while nothing runs
		cfg := configure(t, network, "n1")
		cfg.Admit = func(from string) error {
			if removed[from] {
				return fmt.Errorf("node %s has been removed", from)
			}
			return nil
		}
		n1, n2, n3 := run(t, cfg), start(t, network, "n2"), start(t, network, "n3")
		conns := make(map[string][]net.Conn)
		for _, n := range []running{n1, n2, n3} {
			handle(t, n, cluster.PurposeConfirm, echo)
		}
		for _, n := range []running{n2, n3} {
			for _, way := range [][2]running{{n, n1}, {n1, n}} {
				c, err := way[0].Dial(t.Context(), way[1].Node(), cluster.PurposeConfirm, 0)
				if err != nil {
					t.Fatal(err)
				}
				conns[n.Node()] = append(conns[n.Node()], c)
			}
		}
		synctest.Wait()
		removed["n2"] = true
		n1.Disconnect("n2")
		for _, c := range conns["n2"] {
			wantClosed(t, c)
		}
		for _, c := range conns["n3"] {
			wantEcho(t, c)
		}
		_, err := n2.Dial(t.Context(), "n1", cluster.PurposeConfirm, 0)
		wantRefused(t, err, cluster.CodeNotAdmitted)
	})
}

// TestRunEnds ends a Net in the middle of everything; the bubble fails the test if a goroutine is left.
func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := clustertest.New(clustertest.Options{})
		n1, n2 := start(t, network, "n1"), start(t, network, "n2")
		handled := make(chan error, 1)
		handle(t, n1, cluster.PurposeConfirm, func(ctx context.Context, c *cluster.Conn) {
			<-ctx.Done()
			_, err := c.Read(make([]byte, 1))
			time.Sleep(time.Second) // Run waits for it
			handled <- err
		})
		handle(t, n2, cluster.PurposeConfirm, echo)
		group, err := n1.HandleGroup(cluster.PurposeRaft, 1)
		if err != nil {
			t.Fatal(err)
		}
		var far []net.Conn
		for _, p := range []cluster.Purpose{cluster.PurposeConfirm, cluster.PurposeRaft} {
			c, err := n2.Dial(t.Context(), "n1", p, 1)
			if err != nil {
				t.Fatal(err)
			}
			far = append(far, c)
		}
		near, err := n1.Dial(t.Context(), "n2", cluster.PurposeConfirm, 1)
		if err != nil {
			t.Fatal(err)
		}
		halfOpen, err := network.Node("x").Dial(t.Context(), "n1")
		if err != nil {
			t.Fatal(err)
		}
		defer halfOpen.Close()
		network.Cut("n1", "n3")
		errs := make(chan error)
		go func() { _, err := n1.Dial(t.Context(), "n3", cluster.PurposeConfirm, 0); errs <- err }()
		go func() { _, err := near.Read(make([]byte, 1)); errs <- err }()
		synctest.Wait()

		begin := time.Now()
		if err := n1.stop(); err != nil {
			t.Fatalf("Run: %v", err)
		}
		wantTook(t, begin, time.Second)
		if err := <-handled; !errors.Is(err, net.ErrClosed) {
			t.Errorf("the handler's read: %v", err)
		}
		for range 2 {
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				t.Errorf("under way: %v", err)
			}
		}
		for _, c := range append(far, halfOpen) {
			wantClosed(t, c)
		}
		if _, err := group.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v", err)
		}
		_, err = n1.Dial(t.Context(), "n2", cluster.PurposeConfirm, 0)
		wantUnreachable(t, err, net.ErrClosed)
		_, err = n2.Dial(t.Context(), "n1", cluster.PurposeConfirm, 0)
		wantUnreachable(t, err, syscall.ECONNREFUSED)
		if _, err := n1.HandleGroup(cluster.PurposeRaft, 5); !errors.Is(err, net.ErrClosed) {
			t.Errorf("group: %v", err)
		}
		if _, err := n1.Listen(cluster.PurposeStream); !errors.Is(err, net.ErrClosed) {
			t.Errorf("listen: %v", err)
		}
		if err := n1.Run(t.Context()); err == nil {
			t.Error("Run ran again")
		}
	})
}

// failing is a listener that has no file descriptors left for its first connections, or ends.
type failing struct {
	net.Listener
	errs []error
}

func (l *failing) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, err
	}
	return l.Listener.Accept()
}

func TestListenerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := clustertest.New(clustertest.Options{})
		cfg := configure(t, network, "n1")
		cfg.Listener = &failing{cfg.Listener, []error{syscall.EMFILE, syscall.EMFILE, syscall.EMFILE}}
		n1, n2 := run(t, cfg), start(t, network, "n2")
		handle(t, n1, cluster.PurposeConfirm, echo)
		begin := time.Now()
		if _, err := n2.Dial(t.Context(), "n1", cluster.PurposeConfirm, 0); err != nil {
			t.Fatal(err)
		}
		wantTook(t, begin, 35*time.Millisecond) // 5 + 10 + 20

		cfg = configure(t, network, "n3")
		cfg.Listener = &failing{cfg.Listener, []error{net.ErrClosed}}
		n3, err := cluster.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := n3.Run(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Run: %v", err)
		}
	})
}

// TestRefusalsAreLoggedSparsely: a node that comes again and again fills no disk.
func TestRefusalsAreLoggedSparsely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := clustertest.New(clustertest.Options{})
		var text strings.Builder
		cfg := configure(t, network, "n1")
		cfg.Log = slog.New(slog.NewTextHandler(&text, nil))
		n1, n2 := run(t, cfg), start(t, network, "n2")
		for range 130 {
			_, err := n2.Dial(t.Context(), "n1", cluster.PurposeRaft, 3)
			wantRefused(t, err, cluster.CodeUnknownGroup)
			time.Sleep(time.Second)
		}
		if s := n1.Stats(); s.Refused[cluster.CodeUnknownGroup] != 130 {
			t.Errorf("stats %+v", s)
		}
		if err := n1.stop(); err != nil { // it writes no more
			t.Fatal(err)
		}
		if got := strings.Count(text.String(), "\n"); got != 3 || !strings.Contains(text.String(), `from=n2`) || !strings.Contains(text.String(), "not_logged=59") {
			t.Errorf("%d lines:\n%s", got, text.String())
		}
	})
}

func TestConfig(t *testing.T) {
	network := clustertest.New(clustertest.Options{})
	good := configure(t, network, "n1")
	for want, change := range map[string]func(*cluster.Config){
		"Node":             func(c *cluster.Config) { c.Node = "a/b" },
		"ClusterID":        func(c *cluster.Config) { c.ClusterID = cluster.ID{} },
		"Listener":         func(c *cluster.Config) { c.Listener = nil },
		"Dialer":           func(c *cluster.Config) { c.Dialer = nil },
		"Resolve":          func(c *cluster.Config) { c.Resolve = nil },
		"ServerTLS":        func(c *cluster.Config) { c.PeerNode = nobody },
		"HelloTimeout":     func(c *cluster.Config) { c.HelloTimeout = -1 },
		"HalfOpenMax":      func(c *cluster.Config) { c.Backlog = -1 },
		"HTTPConnsPerNode": func(c *cluster.Config) { c.HTTPIdlePerNode = -1 },
	} {
		cfg := good
		change(&cfg)
		if _, err := cluster.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
