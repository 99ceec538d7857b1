package main

import (
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
		Name:   "crr",
		Usage:  "Look after conflict-free tables",
		Action: groupAction,
		Subcommands: []*cli.Command{{
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
		}},
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
	tables := newTextTable(out, "table", "columns")
	for _, x := range t.Tables {
		var columns []string
		for _, name := range slices.Sorted(maps.Keys(x.Columns)) {
			columns = append(columns, name+":"+x.Columns[name])
		}
		tables.row(x.Name, strings.Join(columns, " "))
	}
	if err := tables.end(); err != nil {
		return err
	}
	sites := newTextTable(out, "site", "node", "connected", "newest here", "lag", "more to come", "held back")
	for _, x := range t.Sites {
		newest := ""
		if x.Newest != nil {
			newest = x.Newest.UTC().Format(time.RFC3339Nano)
		}
		sites.row(strconv.FormatInt(x.Site, 10), x.Node, strconv.FormatBool(x.Connected), newest, (time.Duration(x.LagMS) * time.Millisecond).String(),
			strconv.FormatBool(x.More), x.Held)
	}
	return sites.end()
}
