package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/wire"
)

func nodeCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:   "node",
		Usage:  "List, show, drain and remove the nodes of a cluster",
		Action: groupAction,
		Subcommands: []*cli.Command{
			nodeListCommand(s), nodeShowCommand(s), nodeDrainCommand(s), nodeUndrainCommand(s), nodeRemoveCommand(s),
		},
	}
}

func nodeListCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "List the nodes",
		Flags: clientFlags(),
		Action: clientAction(0, 0, func(c *cli.Context, node *client.Client) error {
			nodes, err := node.Nodes(c.Context)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(s.out, nodes)
			}
			t := newTextTable(s.out, "id", "pop", "region", "state", "seen", "groups", "address")
			for _, n := range nodes {
				t.row(n.ID, n.PoP, n.Region, n.State, seen(&n, time.Now()), strings.Join(n.Groups, " "), n.ClusterAddr)
			}
			return t.end()
		}),
	}
}

// seen says what the node that answered knows of a node's life.
func seen(n *client.Node, now time.Time) string {
	switch {
	case n.Self:
		return "this one"
	case n.Connected:
		return "connected"
	case n.LastContact != nil:
		return max(now.Sub(*n.LastContact), 0).Round(time.Second).String() + " ago"
	}
	return "never"
}

func nodeShowCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "Show what is known of a node",
		ArgsUsage: "NODE",
		Flags:     clientFlags(),
		Action: clientAction(1, 1, func(c *cli.Context, node *client.Client) error {
			n, err := node.Node(c.Context, c.Args().First())
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(s.out, n)
			}
			var labels []string
			for k, v := range n.Labels {
				labels = append(labels, k+"="+v)
			}
			slices.Sort(labels)
			return printPairs(s.out, [][2]string{
				{"id", n.ID}, {"state", n.State}, {"pop", n.PoP}, {"region", n.Region}, {"labels", strings.Join(labels, " ")},
				{"seen", seen(&n, time.Now())}, {"groups", strings.Join(n.Groups, " ")},
				{"cluster address", n.ClusterAddr}, {"public URL", n.PublicURL}, {"joined", n.Joined.Format(time.RFC3339)},
			})
		}),
	}
}

func nodeDrainCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:        "drain",
		Usage:       "Have a node's groups take other voters, as before it is stopped for long",
		ArgsUsage:   "NODE",
		Description: "What it serves goes on. `node undrain` takes it back.",
		Flags:       append(clientFlags(), waitFlags()...),
		Action: clientAction(1, 1, func(c *cli.Context, node *client.Client) error {
			id := c.Args().First()
			if err := node.Drain(c.Context, id); err != nil {
				return err
			}
			if !c.Bool("wait") {
				return declared(c, s.out, id, "draining", "draining node "+id)
			}
			if err := waitUntil(c.Context, s.err, c.Duration("timeout"), drained(node, id)); err != nil {
				return fmt.Errorf("drain node %s: %w", id, err)
			}
			return declared(c, s.out, id, "drained", "drained node "+id)
		}),
	}
}

// drained looks whether a node is a voter of no group any more.
func drained(node *client.Client, id string) func(context.Context) (bool, string, error) {
	return func(ctx context.Context) (bool, string, error) {
		n, err := node.Node(ctx, id)
		if err != nil {
			return false, "", err
		}
		if n.State == "active" {
			return false, "", fmt.Errorf("somebody has undrained it")
		}
		left := voterOf(&n)
		return len(left) == 0, "still a voter of " + strings.Join(left, ", "), nil
	}
}

// voterOf names the groups of which a node is a voter.
func voterOf(n *client.Node) []string {
	var names []string
	for _, g := range n.Groups {
		if name, ok := strings.CutSuffix(g, ":voter"); ok {
			names = append(names, name)
		}
	}
	return names
}

func nodeUndrainCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:      "undrain",
		Usage:     "Let a node be a voter again",
		ArgsUsage: "NODE",
		Flags:     clientFlags(),
		Action: clientAction(1, 1, func(c *cli.Context, node *client.Client) error {
			id := c.Args().First()
			if err := node.Undrain(c.Context, id); err != nil {
				return err
			}
			return declared(c, s.out, id, "active", "node "+id+" is active")
		}),
	}
}

func nodeRemoveCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:        "remove",
		Usage:       "Drain a node, and forget it",
		ArgsUsage:   "NODE",
		Description: "For a node that does not come back, or is not to.",
		Flags:       append(append(clientFlags(), &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "don't ask"}), waitFlags()...),
		Action: clientAction(1, 1, func(c *cli.Context, node *client.Client) error {
			id := c.Args().First()
			n, err := node.Node(c.Context, id)
			if err != nil {
				return err
			}
			if (n.Connected || n.Self) && !c.Bool("yes") {
				fmt.Fprintf(s.err, "Node %s is alive.\n", printable(id))
				if err := confirm(s, "node", id); err != nil {
					return err
				}
			}
			if err := node.RemoveNode(c.Context, id); err != nil {
				return err
			}
			if !c.Bool("wait") {
				return declared(c, s.out, id, "removing", "removing node "+id)
			}
			if err := waitUntil(c.Context, s.err, c.Duration("timeout"), removed(node, id)); err != nil {
				return fmt.Errorf("remove node %s: %w", id, err)
			}
			return declared(c, s.out, id, "removed", "removed node "+id)
		}),
	}
}

// removed looks whether the cluster has forgotten a node.
func removed(node *client.Client, id string) func(context.Context) (bool, string, error) {
	return func(ctx context.Context) (bool, string, error) {
		n, err := node.Node(ctx, id)
		if errors.Is(err, &wire.Error{Code: wire.CodeNoSuchNode}) {
			return true, "", nil
		}
		if err != nil {
			return false, "", err
		}
		if n.State == "active" {
			return false, "", fmt.Errorf("somebody has undrained it")
		}
		if left := voterOf(&n); len(left) > 0 {
			return false, "still a voter of " + strings.Join(left, ", "), nil
		}
		return false, "still a member of " + strings.Join(n.Groups, ", "), nil
	}
}

// declared says what a node is now, or is to become.
func declared(c *cli.Context, out io.Writer, id, state, text string) error {
	if c.Bool("json") {
		return printJSON(out, map[string]string{"id": id, "state": state})
	}
	_, err := fmt.Fprintln(out, printable(text))
	return err
}
