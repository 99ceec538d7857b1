package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/nearsql/nearsql/sqlnode/client"
)

func crrCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:        "crr",
		Usage:       "Look after conflict-free tables",
		Action:      groupAction,
		Subcommands: []*cli.Command{crrStatusCommand(s), crrRetireCommand(s), crrRestampCommand(s), crrRebuildCommand(s), crrAdoptCommand(s), crrReleaseCommand(s)},
	}
}

func crrStatusCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:        "status",
		Usage:       "Show a tenant's conflict-free tables and how far its sites are",
		ArgsUsage:   "TENANT",
		Description: "It is what the node that answers knows; ask another by --url.",
		Flags:       clientFlags(),
		Action: clientAction(1, 1, func(c *cli.Context, node *client.Client) error {
			t, err := node.Tables(c.Context, c.Args().First())
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(s.out, t)
			}
			return showTables(s.out, t)
		}),
	}
}

func crrRetireCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:      "retire",
		Usage:     "End sites of a tenant for ever",
		ArgsUsage: "TENANT SITE|NODE...",
		Description: "What the other sites have of it counts; what it wrote and has sent to nobody is written anew, by another number, if its node comes back. " +
			"Sites of nodes that were removed, that the tenant was taken from, or that nobody hears of for --crr-retire-after, are retired without being asked for.",
		Flags: append(clientFlags(), &cli.BoolFlag{Name: "force", Usage: "also a site that is in use, and without waiting for what it has not sent"}),
		Action: clientAction(2, 65, func(c *cli.Context, node *client.Client) error {
			o := client.RetireSites{Force: c.Bool("force")}
			for _, arg := range c.Args().Tail() {
				if n, err := strconv.ParseInt(arg, 10, 32); err == nil && n > 0 {
					o.Sites = append(o.Sites, n)
				} else {
					o.Nodes = append(o.Nodes, arg)
				}
			}
			all, err := node.RetireSites(c.Context, c.Args().First(), o)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(s.out, map[string]any{"retired": all})
			}
			for _, x := range all {
				if _, err := fmt.Fprintf(s.out, "retired site %d of node %s; what it wrote until %s counts\n", x.Site, printable(x.Node), x.Final.UTC().Format(time.RFC3339Nano)); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

func crrRestampCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:      "restamp",
		Usage:     "Have a node write anew what it wrote while its clock was ahead",
		ArgsUsage: "TENANT",
		Description: "Set its clock right first. The others hold back what it wrote then, and it takes no more writes: see nearsql crr status. " +
			"Its file is replaced by a copy of another site's, and what only it had is written as of now.",
		Flags: append(clientFlags(), &cli.StringFlag{Name: "node", Usage: "`ID` of the node (default: the one that is asked)"}),
		Action: clientAction(1, 1, func(c *cli.Context, node *client.Client) error {
			a, err := node.Restamp(c.Context, c.Args().First(), c.String("node"))
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(s.out, a)
			}
			rest := "all of it is written anew"
			if a.Pending {
				rest = "it is being written anew; ask again to see when that is done"
			}
			_, err = fmt.Fprintf(s.out, "node %s is site %d now; %s\n", printable(a.Node), a.Site, rest)
			return err
		}),
	}
}

func crrRebuildCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:      "rebuild",
		Usage:     "Replace a node's damaged file of conflict-free tables by a copy of another site's",
		ArgsUsage: "TENANT",
		Description: "The damaged file is put aside on the node. What can be read of it, and nobody else has, is written anew; what can't be read and was sent to nobody is lost. " +
			"A file that is whole is left alone.",
		Flags: append(clientFlags(), &cli.StringFlag{Name: "node", Usage: "`ID` of the node (default: the one that is asked)"}),
		Action: clientAction(1, 1, func(c *cli.Context, node *client.Client) error {
			a, err := node.Rebuild(c.Context, c.Args().First(), c.String("node"))
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(s.out, a)
			}
			fate := "what only it had could not be read, and is lost"
			switch {
			case a.Salvaging && a.Pending:
				fate = "what can be read of it is being written anew, the rest may be lost; see nearsql crr status"
			case a.Salvaging:
				fate = "what could be read of it is written anew, the rest may be lost; the node's log says how much that was"
			}
			_, err = fmt.Fprintf(s.out, "node %s is site %d now, with a copy of another site's file; the damaged one is %s: %s\n", printable(a.Node), a.Site, printable(a.Aside), fate)
			return err
		}),
	}
}

func crrAdoptCommand(s stdio) *cli.Command {
	return convertCommand(s, "adopt", "Make a strong table conflict-free", "conflict-free",
		"It has all of its rows at all sites when this ends. Until then it takes no writes. All sites have to be reached; after an error it is strong as before. "+
			"After a crash ask again, or --cancel.", (*client.Client).AdoptTable)
}

func crrReleaseCommand(s stdio) *cli.Command {
	return convertCommand(s, "release", "Make a conflict-free table strong", "strong",
		"Until this ends there is no table of that name to read or write. All sites have to be reached; after an error it is conflict-free as before. "+
			"After a crash ask again, or --cancel.", (*client.Client).ReleaseTable)
}

// convertCommand is a command that changes the schema of a table.
func convertCommand(s stdio, name, usage, becomes, description string, convert func(*client.Client, context.Context, string, client.ConvertTable) (client.Converted, error)) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, ArgsUsage: "TENANT TABLE", Description: description,
		Flags: append(clientFlags(),
			&cli.StringFlag{Name: "declare", Usage: "the `CREATE TABLE` of what it is to be (default: its own)"},
			&cli.BoolFlag{Name: "cancel", Usage: "undo a conversion that was cut off"},
		),
		Action: clientAction(2, 2, func(c *cli.Context, node *client.Client) error {
			o := client.ConvertTable{Table: c.Args().Get(1), Declare: c.String("declare"), Cancel: c.Bool("cancel")}
			if o.Cancel && o.Declare != "" {
				return usagef("--cancel takes no --declare")
			}
			a, err := convert(node, c.Context, c.Args().First(), o)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(s.out, a)
			}
			if o.Cancel {
				_, err = fmt.Fprintf(s.out, "table %s is what it was\n", printable(o.Table))
			} else {
				_, err = fmt.Fprintf(s.out, "table %s is %s; %d rows were copied\n", printable(a.Table), becomes, a.Rows)
			}
			return err
		}),
	}
}

func showTables(out io.Writer, t client.Tables) error {
	if _, err := fmt.Fprintf(out, "node %s is site %d; schema version %d\n", t.Node, t.Site, t.Schema); err != nil {
		return err
	}
	if t.Problem != "" {
		if _, err := fmt.Fprintf(out, "out of service: %s\n", printable(t.Problem)); err != nil {
			return err
		}
	}
	if t.Care != "" {
		if _, err := fmt.Fprintf(out, "being looked after: %s\n", printable(t.Care)); err != nil {
			return err
		}
	}
	if err := listTables(out, t.Tables); err != nil {
		return err
	}
	if len(t.Members) > 0 {
		members := newTextTable(out, "number", "node", "state", "counts until")
		for _, m := range t.Members {
			final := ""
			if m.Final != nil {
				final = m.Final.UTC().Format(time.RFC3339Nano)
			}
			members.row(strconv.FormatInt(m.Site, 10), m.Node, m.State, final)
		}
		if err := members.end(); err != nil {
			return err
		}
	}
	sites := newTextTable(out, "site", "node", "connected", "newest here", "lag", "more to come", "silent for", "held back")
	for _, x := range t.Sites {
		newest := ""
		if x.Newest != nil {
			newest = x.Newest.UTC().Format(time.RFC3339Nano)
		}
		silent := ""
		if x.SilentMS > 0 {
			silent = (time.Duration(x.SilentMS) * time.Millisecond).Round(time.Second).String()
		}
		sites.row(strconv.FormatInt(x.Site, 10), x.Node, strconv.FormatBool(x.Connected), newest, (time.Duration(x.LagMS) * time.Millisecond).String(),
			strconv.FormatBool(x.More), silent, x.Held)
	}
	return sites.end()
}

// listTables prints conflict-free tables with the kinds of their columns.
func listTables(out io.Writer, list []client.Table) error {
	tables := newTextTable(out, "table", "columns")
	for _, x := range list {
		var columns []string
		for _, name := range slices.Sorted(maps.Keys(x.Columns)) {
			columns = append(columns, name+":"+x.Columns[name])
		}
		tables.row(x.Name, strings.Join(columns, " "))
	}
	return tables.end()
}
