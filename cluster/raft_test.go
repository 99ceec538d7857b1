package cluster_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/cluster/clustertest"
	"github.com/nearsql/nearsql/wire"
)

// streams is how package raft gets its connections from a Net.
type streams struct {
	*cluster.Acceptor
	net   *cluster.Net
	group wire.GroupID
}

var _ raft.StreamLayer = streams{}

// Dial implements raft.StreamLayer.
func (s streams) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.net.Dial(ctx, string(to), cluster.PurposeRaft, s.group)
}

// member is a node's part in a group.
type member struct {
	*raft.Raft
	transport *raft.NetworkTransport
	streams   streams
	mu        struct {
		sync.Mutex
		applied []string
	}
}

func (m *member) Apply(l *raft.Log) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.applied = append(m.mu.applied, string(l.Data))
	return nil
}
func (m *member) Snapshot() (raft.FSMSnapshot, error) { return nil, fmt.Errorf("none here") }
func (m *member) Restore(io.ReadCloser) error         { return fmt.Errorf("none here") }

func (m *member) stop(t *testing.T) {
	if err := m.Shutdown().Error(); err != nil {
		t.Error(err)
	}
	m.transport.CloseStreams()
	m.transport.Close()
	m.streams.CloseConns()
}

func join(t *testing.T, n running, group wire.GroupID, voters []raft.Server) *member {
	a, err := n.HandleGroup(cluster.PurposeRaft, group)
	if err != nil {
		t.Fatal(err)
	}
	m := &member{streams: streams{a, n.Net, group}}
	log := hclog.NewNullLogger()
	m.transport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: m.streams, MaxPool: 3, MaxRPCsInFlight: 32, Timeout: 2 * time.Second, Logger: log})
	cfg := raft.DefaultConfig()
	cfg.LocalID, cfg.Logger = raft.ServerID(n.Node()), log
	store := raft.NewInmemStore()
	snapshots := raft.NewInmemSnapshotStore()
	if err := raft.BootstrapCluster(cfg, store, store, snapshots, m.transport, raft.Configuration{Servers: voters}); err != nil {
		t.Fatal(err)
	}
	if m.Raft, err = raft.NewRaft(cfg, m, store, store, snapshots, m.transport); err != nil {
		t.Fatal(err)
	}
	return m
}

// leaderOf waits for the only leader among the members that count.
func leaderOf(t *testing.T, members map[string]*member, but string) string {
	t.Helper()
	for range 1000 {
		time.Sleep(50 * time.Millisecond)
		for node, m := range members {
			if node != but && m.State() == raft.Leader {
				return node
			}
		}
	}
	t.Fatal("no leader")
	return ""
}

// TestRaft lets two real groups of three live on one Net per node, and cuts a leader off.
func TestRaft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := clustertest.New(clustertest.Options{})
		names := []string{"n1", "n2", "n3"}
		var voters []raft.Server
		nets := make(map[string]running)
		for i, a := range names {
			for _, b := range names[:i] {
				network.SetDelayBoth(a, b, 10*time.Millisecond)
			}
			nets[a] = start(t, network, a)
			voters = append(voters, raft.Server{ID: raft.ServerID(a), Address: raft.ServerAddress(a)})
		}
		groups := make(map[wire.GroupID]map[string]*member)
		for _, g := range []wire.GroupID{1, 2} {
			groups[g] = make(map[string]*member)
			for _, a := range names {
				groups[g][a] = join(t, nets[a], g, voters)
				if addr := groups[g][a].transport.LocalAddr(); string(addr) != a {
					t.Errorf("the address of %s is %s", a, addr)
				}
			}
		}
		propose := func(g wire.GroupID, text, but string) string {
			leader := leaderOf(t, groups[g], but)
			if err := groups[g][leader].Raft.Apply([]byte(text), 0).Error(); err != nil {
				t.Fatalf("group %d, %s: %v", g, text, err)
			}
			return leader
		}
		leader := propose(1, "one", "")
		propose(2, "two", "")
		network.Isolate(leader)
		propose(1, "three", leader)
		propose(2, "four", leader)
		network.HealAll()
		time.Sleep(10 * time.Second)
		for g, want := range map[wire.GroupID]string{1: "[one three]", 2: "[two four]"} {
			for a, m := range groups[g] {
				m.mu.Lock()
				if got := fmt.Sprint(m.mu.applied); got != want {
					t.Errorf("group %d at %s: %s, want %s", g, a, got, want)
				}
				m.mu.Unlock()
			}
		}
		if network.Sent("n1", "n2", cluster.PurposeRaft) == 0 {
			t.Error("raft sent nothing")
		}
		// A group leaves a node that goes on.
		groups[2]["n3"].stop(t)
		_, err := nets["n1"].Dial(t.Context(), "n3", cluster.PurposeRaft, 2)
		wantRefused(t, err, cluster.CodeUnknownGroup)
		propose(1, "five", "")
		propose(2, "six", "n3")
		for g, members := range groups {
			for a, m := range members {
				if g != 2 || a != "n3" {
					m.stop(t)
				}
			}
		}
	})
}
