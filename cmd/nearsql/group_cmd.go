package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/nearsql/nearsql/sqlnode/client"
)

func groupCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:        "group",
		Usage:       "List, show and create the Raft groups of a cluster, and move their leaders",
		Action:      groupAction,
		Subcommands: []*cli.Command{groupListCommand(s), groupShowCommand(s), groupCreateCommand(s), groupMoveLeaderCommand(s)},
	}
}

func groupListCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "List the groups",
		Flags: clientFlags(),
		Action: clientAction(0, 0, func(c *cli.Context, node *client.Client) error {
			groups, err := node.Groups(c.Context)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(s.out, groups)
			}
			t := newTextTable(s.out, "id", "name", "primary", "voters", "learners", "target", "region", "tenants")
			for _, g := range groups {
				t.row(strconv.Itoa(int(g.ID)), g.Name, g.Primary, strings.Join(g.Voters, " "), strings.Join(g.Learners, " "),
					strconv.Itoa(g.Target), g.Region, strconv.Itoa(g.Tenants))
			}
			return t.end()
		}),
	}
}

func groupShowCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "Show a group and how far its members are",
		ArgsUsage: "GROUP",
		Flags:     clientFlags(),
		Action: clientAction(1, 1, func(c *cli.Context, node *client.Client) error {
			g, err := node.Group(c.Context, c.Args().First())
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(s.out, g)
			}
			return showGroup(s, &g)
		}),
	}
}

func showGroup(s stdio, g *client.Group) error {
	pinned := ""
	if g.Pinned {
		pinned = " (chosen by an administrator)"
	}
	err := printPairs(s.out, [][2]string{
		{"id", strconv.Itoa(int(g.ID))}, {"name", g.Name}, {"primary", g.Primary}, {"term", strconv.FormatUint(g.Term, 10)},
		{"voters", strings.Join(g.Voters, " ")}, {"to be voters", strings.Join(g.Declared, " ") + pinned}, {"learners", strings.Join(g.Learners, " ")},
		{"target", strconv.Itoa(g.Target)}, {"region", g.Region}, {"tenants", strconv.Itoa(g.Tenants)},
	})
	if err != nil || len(g.Members) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(s.out); err != nil {
		return err
	}
	t := newTextTable(s.out, "member", "role", "applied", "behind", "heard")
	for _, m := range g.Members {
		role, heard := "learner", "never"
		if m.Voter {
			role = "voter"
		}
		if m.LastContactMS != nil {
			heard = (time.Duration(*m.LastContactMS) * time.Millisecond).String() + " ago"
		}
		t.row(m.ID, role, strconv.FormatUint(m.Applied, 10), strconv.FormatUint(m.Behind, 10), heard)
	}
	return t.end()
}

func groupCreateCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:      "create",
		Usage:     "Make a group that can keep tenants",
		ArgsUsage: "NAME",
		Flags: append(clientFlags(),
			&cli.StringSliceFlag{Name: "voter", Usage: "`NODE` that is to be a voter; repeatable (default: the cluster's choice)"},
			&cli.IntFlag{Name: "target", Usage: "have `N` voters (default: 3)"},
			&cli.StringFlag{Name: "region", Usage: "choose voters in `REGION`"},
		),
		Action: clientAction(1, 1, func(c *cli.Context, node *client.Client) error {
			g, err := node.CreateGroup(c.Context, client.GroupOptions{
				Name: c.Args().First(), Voters: c.StringSlice("voter"), Target: c.Int("target"), Region: c.String("region"),
			})
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(s.out, g)
			}
			_, err = fmt.Fprintf(s.out, "created group %s (number %d), to be voters: %s\n", printable(g.Name), g.ID, printable(strings.Join(g.Declared, " ")))
			return err
		}),
	}
}

func groupMoveLeaderCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:      "move-leader",
		Usage:     "Make another voter the primary of a group",
		ArgsUsage: "GROUP",
		Flags:     append(clientFlags(), &cli.StringFlag{Name: "to", Usage: "`NODE` that is to be the primary"}),
		Action: clientAction(1, 1, func(c *cli.Context, node *client.Client) error {
			group, to := c.Args().First(), c.String("to")
			if to == "" {
				return usagef("say by --to which node is to be the primary")
			}
			if err := node.MoveLeader(c.Context, group, to); err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(s.out, map[string]string{"group": group, "primary": to})
			}
			_, err := fmt.Fprintf(s.out, "the primary of group %s is node %s\n", printable(group), printable(to))
			return err
		}),
	}
}
