package leader_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/cluster/clustertest"
	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/leader"
	"github.com/nearsql/nearsql/leader/leadertest"
	"github.com/nearsql/nearsql/wire"
)

// overCluster is a leader.Network over a cluster.Net.
type overCluster struct{ *cluster.Net }

var _ leader.Network = overCluster{}

func (n overCluster) Dial(ctx context.Context, to leader.NodeID, group wire.GroupID, purpose leader.Purpose) (net.Conn, error) {
	return n.Net.Dial(ctx, string(to), cluster.Purpose(purpose), group)
}

func (n overCluster) Listen(group wire.GroupID, purpose leader.Purpose) (net.Listener, error) {
	return n.HandleGroup(cluster.Purpose(purpose), group)
}

// Two groups of three nodes share the cluster's connections between nodes.
func TestGroupsOverCluster(t *testing.T) {
	if leader.PurposeRaft != leader.Purpose(cluster.PurposeRaft) || leader.PurposeConfirm != leader.Purpose(cluster.PurposeConfirm) {
		t.Fatal("purposes have other numbers in package cluster")
	}
	synctest.Test(t, func(t *testing.T) {
		memory := clustertest.New(clustertest.Options{})
		ctx, cancel := context.WithCancel(context.Background())
		var groups, nets sync.WaitGroup
		names := []leader.NodeID{"n1", "n2", "n3"}
		lists := make(map[string]*leadertest.List)
		all := make(map[string]*leader.Group)
		netCtx, endNets := context.WithCancel(context.Background())
		defer func() {
			cancel()
			groups.Wait()
			endNets()
			nets.Wait()
		}()
		for _, id := range names {
			node := memory.Node(string(id))
			listener, err := node.Listen()
			if err != nil {
				t.Fatal(err)
			}
			n, err := cluster.New(cluster.Config{
				ClusterID: cluster.ID{1}, Node: string(id), Listener: listener, Dialer: node.Dial, Resolve: memory.Resolve,
			})
			if err != nil {
				t.Fatal(err)
			}
			nets.Go(func() {
				if err := n.Run(netCtx); err != nil {
					t.Error(err)
				}
			})
			for g := wire.GroupID(1); g <= 2; g++ {
				key := fmt.Sprintf("%s/%d", id, g)
				lists[key] = &leadertest.List{}
				group, err := leader.New(leader.Config{
					Group: g, Node: id, FS: disktest.NewMemFS(), Dir: "/g", Machine: lists[key], Network: overCluster{n},
					InitialVoters: names, SegmentSize: 16 << 10,
				})
				if err != nil {
					t.Fatal(err)
				}
				all[key] = group
				groups.Go(func() {
					if err := group.Run(ctx); err != nil {
						t.Error(err)
					}
				})
			}
		}
		for g := 1; g <= 2; g++ {
			var primary *leader.Group
			if !leadertest.Wait(time.Minute, func() bool {
				for _, id := range names {
					if p := all[fmt.Sprintf("%s/%d", id, g)]; p.Primary() == nil {
						primary = p
						return true
					}
				}
				return false
			}) {
				t.Fatal("no primary")
			}
			var done sync.WaitGroup
			for i := range 100 * g {
				done.Add(1)
				primary.Propose([]byte(fmt.Sprint(i)), func(_ any, err error) {
					if err != nil {
						t.Error(err)
					}
					done.Done()
				})
			}
			done.Wait()
			for _, id := range names {
				key := fmt.Sprintf("%s/%d", id, g)
				index, err := all[key].ReadIndexAt(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if err := all[key].WaitApplied(t.Context(), index); err != nil {
					t.Fatal(err)
				}
				if s := lists[key].State(); s.Len != 100*g {
					t.Fatalf("%s has %d entries", key, s.Len)
				}
			}
		}
	})
}
