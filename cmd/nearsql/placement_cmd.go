package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/tenant"
)

func replicasFlag() cli.Flag {
	return &cli.StringFlag{Name: "replicas", Usage: "where copies that don't vote are kept: `SPEC` is none, all, on-demand, or a list as pop:ams,region:us (default: on-demand)"}
}

func tenantPlaceCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:        "place",
		Usage:       "Say where replicas of a tenant are to be",
		ArgsUsage:   "NAME",
		Description: "It returns when that is decided. `tenant copies` shows how far the nodes are.",
		Flags:       append(clientFlags(), replicasFlag()),
		Action: clientAction(1, 1, func(c *cli.Context, node *client.Client) error {
			if !c.IsSet("replicas") {
				return usagef("say by --replicas where replicas are to be")
			}
			replicas, err := tenant.ParseReplicas(c.String("replicas"))
			if err != nil {
				return usagef("--%v", err)
			}
			t, err := node.Place(c.Context, c.Args().First(), tenant.Placement{Replicas: replicas})
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(s.out, t)
			}
			_, err = fmt.Fprintf(s.out, "tenant %s: replicas %s\n", t.Name, printable(replicasText(t.Placement)))
			return err
		}),
	}
}

// replicasText is a placement's spec, as it is in force.
func replicasText(p tenant.Placement) string {
	if p.Replicas == "" {
		return string(tenant.ReplicasOnDemand)
	}
	return string(p.Replicas)
}

func tenantCopiesCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:      "copies",
		Usage:     "Show the copies of a tenant and how far each is",
		ArgsUsage: "NAME",
		Flags:     clientFlags(),
		Action: clientAction(1, 1, func(c *cli.Context, node *client.Client) error {
			copies, err := node.Copies(c.Context, c.Args().First())
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(s.out, copies)
			}
			return showCopies(s.out, copies)
		}),
	}
}

func showCopies(out io.Writer, copies []client.Copy) error {
	t := newTextTable(out, "node", "pop", "region", "role", "state", "epoch", "txid", "behind", "stale by", "follows", "error")
	for _, c := range copies {
		behind, stale := "", ""
		if c.Behind != nil {
			behind = strconv.FormatUint(*c.Behind, 10)
		}
		if c.StalenessMS != nil {
			stale = (time.Duration(*c.StalenessMS) * time.Millisecond).String()
		}
		t.row(c.Node, c.PoP, c.Region, c.Role, c.State, c.Epoch, c.TXID, behind, stale, c.Feeder, c.Error)
	}
	return t.end()
}
