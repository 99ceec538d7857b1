package sqlnode_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nearsql/nearsql/cluster/clustertest"
	"github.com/nearsql/nearsql/sqlnode"
	"github.com/nearsql/nearsql/sqlnode/sqldriver"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// A worker behind a firewall embeds a node that listens nowhere: all connections are opened by it, and it has a copy all the same.
// Here the nodes are in one process, over a network in memory.
func ExampleOutgoingOnly() {
	dir, err := os.MkdirTemp("", "nearsql-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	network := clustertest.New(clustertest.Options{})
	ctx, stop := context.WithCancel(context.Background())
	config := func(id string) sqlnode.Config {
		cfg := sqlnode.DefaultConfig()
		cfg.DataDir, cfg.Listen = filepath.Join(dir, id), ""
		cfg.NodeID, cfg.PoP = id, "pop-"+id
		cfg.ClusterDialer = func(ctx context.Context, addr string) (net.Conn, error) {
			return network.Node(id).Dial(ctx, strings.TrimSuffix(addr, ":1"))
		}
		return cfg
	}
	run := func(cfg sqlnode.Config) (*sqlnode.Node, <-chan error) {
		node, err := sqlnode.New(cfg)
		if err != nil {
			log.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- node.Run(ctx, nil) }()
		api, err := node.Client()
		if err != nil {
			log.Fatal(err)
		}
		for api.Ready(ctx) != nil {
			time.Sleep(10 * time.Millisecond)
		}
		return node, ended
	}

	home := config("home")
	if home.ClusterListener, err = network.Node("home").Listen(); err != nil {
		log.Fatal(err)
	}
	home.ClusterAdvertise = "home:1"
	server, serverEnded := run(home)

	cfg := config("worker")
	cfg.ClusterListener = sqlnode.OutgoingOnly()
	if err := sqlnode.Join(ctx, cfg, []string{"home:1"}); err != nil {
		log.Fatal(err)
	}
	worker, workerEnded := run(cfg)

	api, err := server.Client()
	if err != nil {
		log.Fatal(err)
	}
	if _, err := api.CreateTenant(ctx, "acme", tenant.CreateOptions{Replicas: tenant.ReplicasAll}); err != nil {
		log.Fatal(err)
	}
	db := sqldriver.Open(worker, "acme")
	if _, err := db.ExecContext(ctx, "create table greetings(text)"); err != nil {
		log.Fatal(err)
	}
	if _, err := db.ExecContext(ctx, "insert into greetings values('hello')"); err != nil {
		log.Fatal(err)
	}
	var text string
	var served wire.Meta
	seen := sqldriver.WithMeta(ctx, func(m wire.Meta) { served = m })
	for served.Node != "worker" { // until the copy is here
		if err := db.QueryRowContext(seen, "select text from greetings").Scan(&text); err != nil {
			log.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Printf("%s, from a %s in the worker\n", text, served.Role)
	db.Close()
	stop()
	<-workerEnded
	<-serverEnded
	// Output: hello, from a replica in the worker
}
