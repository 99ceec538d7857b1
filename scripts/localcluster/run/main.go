// Command run keeps a cluster of nodes on this machine running until it is interrupted.
//
//	scripts/cluster [--nodes N] [--dir DIR] [--plain]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/nearsql/nearsql/scripts/localcluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// startMax bounds how long the cluster may take until it is whole.
const startMax = time.Minute

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	o := localcluster.Options{}
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.StringVar(&o.Binary, "nearsql", "", "the `PROGRAM` to run (needed)")
	flags.IntVar(&o.Nodes, "nodes", 3, "number of nodes, 1 to 20")
	flags.StringVar(&o.Dir, "dir", "", "keep data in `DIR`, which must not be there (default: a directory that is removed at the end)")
	flags.BoolVar(&o.Plain, "plain", false, "no TLS between nodes")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if o.Binary == "" || flags.NArg() > 0 {
		return errors.New("usage: scripts/cluster [--nodes N] [--dir DIR] [--plain]")
	}
	if o.Dir == "" {
		if o.Dir, err = os.MkdirTemp("", "nearsql-cluster-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.Dir)) }()
	} else if err := os.Mkdir(o.Dir, 0o700); err != nil {
		return err
	}
	c, err := localcluster.New(o)
	if err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	if err := c.Start(starting); err != nil {
		return errors.Join(err, c.Close())
	}
	urls := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		urls[i] = n.URL()
		fmt.Fprintf(out, "node %s serves at %s, process %d, data in %s, log in %s.log\n", n.ID, n.URL(), n.Pid(), n.Dir, n.Dir)
	}
	fmt.Fprintf(out, "\nexport NEARSQL_URL=%s NEARSQL_DATA_DIR=%s\nthe other nodes: %s\nCtrl-C stops the cluster.\n", urls[0], c.Nodes[0].Dir, strings.Join(urls[1:], " "))
	<-ctx.Done()
	return c.Stop()
}
