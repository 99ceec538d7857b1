package leader_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/leader/leadertest"
)

// stream lets a test speak to a node as raft does on another one.
type stream struct {
	from   leader.Network
	closed chan struct{}
}

func (s *stream) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.from.Dial(ctx, leader.NodeID(to), leadertest.Group, leader.PurposeRaft)
}

func (s *stream) Accept() (net.Conn, error) { <-s.closed; return nil, net.ErrClosed }
func (s *stream) Close() error              { close(s.closed); return nil }
func (s *stream) Addr() net.Addr            { return &net.UnixAddr{Name: "n2"} }

// asPeer starts n1 of three nodes, and returns how n2 speaks to it.
func asPeer(t *testing.T) (*leadertest.Cluster, *raft.NetworkTransport) { return asPeerOn(t, nil) }

func asPeerOn(t *testing.T, adjust func(*leader.Config)) (*leadertest.Cluster, *raft.NetworkTransport) {
	c := leadertest.New(t, 3)
	c.Adjust = adjust
	c.Start("n1")
	tr := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Logger: hclog.NewNullLogger(), Stream: &stream{c.Net.Node("n2"), make(chan struct{})}, MaxPool: 2, Timeout: 10 * time.Second,
	})
	t.Cleanup(func() { tr.CloseStreams(); _ = tr.Close() })
	time.Sleep(10 * time.Millisecond)
	return c, tr
}

func header() raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n2"), Addr: []byte("n2")}
}

// appendEntries lets n1 append entries of term 5, from index first on.
func appendEntries(t *testing.T, tr *raft.NetworkTransport, prev, prevTerm, commit uint64, texts ...string) {
	t.Helper()
	req := raft.AppendEntriesRequest{RPCHeader: header(), Term: 5, PrevLogEntry: prev, PrevLogTerm: prevTerm, LeaderCommitIndex: commit}
	for i, s := range texts {
		req.Entries = append(req.Entries, &raft.Log{Index: prev + 1 + uint64(i), Term: 5, Type: raft.LogCommand, Data: []byte(s)})
	}
	var resp raft.AppendEntriesResponse
	if err := tr.AppendEntries("n1", "n1", &req, &resp); err != nil || !resp.Success {
		t.Fatalf("append behind %d: %+v, %v", prev, resp, err)
	}
}

func install(index, term uint64, contents string) *raft.InstallSnapshotRequest {
	conf := raft.Configuration{}
	for _, id := range []string{"n1", "n2", "n3"} {
		conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	return &raft.InstallSnapshotRequest{
		RPCHeader: header(), SnapshotVersion: 1, Term: 5, LastLogIndex: index, LastLogTerm: term, Size: int64(len(contents)),
		Configuration: raft.EncodeConfiguration(conf), ConfigurationIndex: 1,
	}
}

// listContents is a snapshot of a leadertest.List without entries, up to an index.
func listContents(index byte) string {
	return "\x01" + string([]byte{index}) + strings.Repeat("\x00", 7) + string([]byte{index}) + strings.Repeat("\x00", 7)
}

// A snapshot that was long under way must not undo what was acknowledged since.
func TestLateSnapshotUndoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, tr := asPeer(t)
		appendEntries(t, tr, 1, 1, 2, "a", "b", "c", "d")
		var resp raft.InstallSnapshotResponse
		if err := tr.InstallSnapshot("n1", "n1", install(3, 5, listContents(3)), &resp, strings.NewReader(listContents(3))); err != nil || !resp.Success {
			t.Fatalf("%+v, %v", resp, err)
		}
		if s := c.Life("n1").Group.Stats(); s.LastIndex != 5 || c.Life("n1").List.Restored() != 0 {
			t.Fatalf("after the snapshot: %+v", s)
		}
		c.Kill("n1") // what is on its disk counts
		c.Start("n1")
		time.Sleep(10 * time.Millisecond)
		appendEntries(t, tr, 5, 5, 6, "e")
		if !leadertest.Wait(time.Second, func() bool { return c.Life("n1").List.State().Len == 5 }) {
			t.Fatalf("entries %q", c.Life("n1").List.Entries())
		}
	})
}

// A snapshot whose sender is silent half-way does not keep a voter from voting and following.
func TestHalfASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, tr := asPeer(t)
		r, w := io.Pipe()
		done := make(chan error, 1)
		go func() {
			var resp raft.InstallSnapshotResponse
			done <- tr.InstallSnapshot("n1", "n1", install(30, 5, listContents(30)), &resp, r)
		}()
		if _, err := w.Write([]byte(listContents(30)[:5])); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		begun := time.Now()
		appendEntries(t, tr, 1, 1, 2, "a")
		if took := time.Since(begun); took > 10*time.Millisecond {
			t.Fatalf("an entry took %v", took)
		}
		_ = w.CloseWithError(errors.New("gone"))
		<-done
		appendEntries(t, tr, 2, 5, 3, "b")
		if !leadertest.Wait(time.Second, func() bool { return c.Life("n1").List.State().Len == 2 }) {
			t.Fatalf("entries %q", c.Life("n1").List.Entries())
		}
	})
}

// A snapshot that ends before the log does, with another entry there, ends the
// run: raft would go on with what it remembers of that log.
func TestSnapshotInPlaceOfADivergedLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, tr := asPeer(t)
		appendEntries(t, tr, 1, 1, 0, "a", "b", "c", "d")
		req := install(3, 6, listContents(3))
		req.Term = 6
		var resp raft.InstallSnapshotResponse
		_ = tr.InstallSnapshot("n1", "n1", req, &resp, strings.NewReader(listContents(3)))
		if !leadertest.Wait(time.Minute, func() bool { _, ended := c.Life("n1").Ended(); return ended }) {
			t.Fatal("the run goes on")
		}
		if err, _ := c.Life("n1").Ended(); !errors.Is(err, leader.ErrRunAgain) {
			t.Fatalf("ended with %v", err)
		}
		c.Kill("n1")
		l := c.Start("n1")
		time.Sleep(10 * time.Millisecond)
		if s := l.Group.Stats(); s.LastIndex != 3 || l.List.Restored() != 1 {
			t.Fatalf("after the restart: %+v, %d restored", s, l.List.Restored())
		}
		next := raft.AppendEntriesRequest{
			RPCHeader: header(), Term: 6, PrevLogEntry: 3, PrevLogTerm: 6, LeaderCommitIndex: 4,
			Entries: []*raft.Log{{Index: 4, Term: 6, Type: raft.LogCommand, Data: []byte("e")}},
		}
		var appended raft.AppendEntriesResponse
		if err := tr.AppendEntries("n1", "n1", &next, &appended); err != nil || !appended.Success {
			t.Fatalf("%+v, %v", appended, err)
		}
	})
}

// Who waits to be added votes for nobody.
func TestNoVoteWithoutConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, tr := asPeer(t)
		c.Start("n9")
		time.Sleep(10 * time.Millisecond)
		var resp raft.RequestVoteResponse
		req := &raft.RequestVoteRequest{RPCHeader: header(), Term: 9, LastLogIndex: 100, LastLogTerm: 8}
		if err := tr.RequestVote("n9", "n9", req, &resp); err == nil || resp.Granted {
			t.Fatalf("%+v, %v", resp, err)
		}
		if err := tr.RequestVote("n1", "n1", req, &resp); err != nil || !resp.Granted {
			t.Fatalf("a voter: %+v, %v", resp, err)
		}
	})
}

// A crash at any moment of installing a snapshot leaves a node that starts, and follows.
func TestCrashWhileASnapshotIsInstalled(t *testing.T) {
	for _, term := range []uint64{5, 6} { // of the snapshot's last entry: behind the log, or another than the log has
		for nth := 1; nth <= 60; nth++ { // more than it takes
			synctest.Test(t, func(t *testing.T) {
				var faults *disktest.Faults
				c, tr := asPeerOn(t, func(cfg *leader.Config) {
					faults = disktest.NewFaults(cfg.FS)
					cfg.FS = faults
				})
				appendEntries(t, tr, 1, 1, 2, "a", "b", "c", "d")
				index := byte(30)
				if term == 6 {
					index = 4
				}
				faults.CrashNth(faults.Count() + nth)
				req := install(uint64(index), term, listContents(index))
				req.Term = 6
				var resp raft.InstallSnapshotResponse
				_ = tr.InstallSnapshot("n1", "n1", req, &resp, strings.NewReader(listContents(index)))
				time.Sleep(10 * time.Millisecond)
				c.Crash("n1", rand.New(rand.NewPCG(uint64(nth), term)))
				c.Start("n1")
				time.Sleep(10 * time.Millisecond)
				resp = raft.InstallSnapshotResponse{}
				if err := tr.InstallSnapshot("n1", "n1", req, &resp, strings.NewReader(listContents(index))); err != nil || !resp.Success {
					if time.Sleep(time.Second); term == 5 {
						t.Fatalf("crash at %d: %+v, %v", nth, resp, err)
					}
					c.Kill("n1") // the log was another
					c.Start("n1")
					time.Sleep(10 * time.Millisecond)
				}
				next := raft.AppendEntriesRequest{
					RPCHeader: header(), Term: 6, PrevLogEntry: uint64(index), PrevLogTerm: term, LeaderCommitIndex: uint64(index) + 1,
					Entries: []*raft.Log{{Index: uint64(index) + 1, Term: 6, Type: raft.LogCommand, Data: []byte("e")}},
				}
				var appended raft.AppendEntriesResponse
				if err := tr.AppendEntries("n1", "n1", &next, &appended); err != nil || !appended.Success {
					err, _ := c.Life("n1").Ended()
					t.Fatalf("crash at %d: append behind the snapshot: %+v, %v; ended with %v", nth, appended, err, err)
				}
				if !leadertest.Wait(time.Second, func() bool { return c.Life("n1").List.State().Len == 1 }) {
					t.Fatalf("crash at %d: entries %q", nth, c.Life("n1").List.Entries())
				}
			})
		}
	}
}

// A voter that made a snapshot follows a primary that has none of what is
// behind it in its log.
func TestSnapshotBeforeADivergedEnd(t *testing.T) {
	var texts []string
	for i := range 14 {
		texts = append(texts, strings.Repeat(fmt.Sprint(i%10), 5000)) // some at the end of a file of the log
	}
	for commit := uint64(3); commit < 14; commit++ {
		synctest.Test(t, func(t *testing.T) {
			c, tr := asPeerOn(t, func(cfg *leader.Config) { cfg.TrailingBytes = 1 })
			for i, text := range texts { // files end between writes
				index, term := uint64(i)+1, uint64(5)
				if i == 0 {
					term = 1
				}
				appendEntries(t, tr, index, term, min(commit, index+1), text)
			}
			time.Sleep(10 * time.Millisecond)
			if err := c.Life("n1").Group.Snapshot(); err != nil {
				t.Fatal(err)
			}
			req := raft.AppendEntriesRequest{
				RPCHeader: header(), Term: 6, PrevLogEntry: commit, PrevLogTerm: 5, LeaderCommitIndex: commit + 1,
				Entries: []*raft.Log{{Index: commit + 1, Term: 6, Type: raft.LogCommand, Data: []byte("g")}},
			}
			var resp raft.AppendEntriesResponse
			if err := tr.AppendEntries("n1", "n1", &req, &resp); err != nil || !resp.Success {
				t.Fatalf("snapshot up to %d: %+v, %v", commit, resp, err)
			}
			if !leadertest.Wait(time.Second, func() bool { return c.Life("n1").List.State().Len == int(commit) }) {
				t.Fatalf("entries %q", c.Life("n1").List.Entries())
			}
		})
	}
}

// contradict sends n1 the entry at index 2 again, of the term given, and returns why it is refused.
func contradict(tr *raft.NetworkTransport, term uint64) error {
	req := raft.AppendEntriesRequest{RPCHeader: header(), Term: max(term, 5), PrevLogEntry: 1, PrevLogTerm: 1, LeaderCommitIndex: 3}
	req.Entries = []*raft.Log{{Index: 2, Term: term, Type: raft.LogCommand, Data: []byte("a")}}
	var resp raft.AppendEntriesResponse
	return tr.AppendEntries("n1", "n1", &req, &resp)
}
