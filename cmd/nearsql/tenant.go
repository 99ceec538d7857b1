package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

func tenantCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:   "tenant",
		Usage:  "Create, list, show, place, delete, import and export tenants",
		Action: groupAction,
		Subcommands: []*cli.Command{
			tenantCreateCommand(s), tenantListCommand(s), tenantShowCommand(s),
			tenantPlaceCommand(s), tenantCopiesCommand(s),
			tenantDeleteCommand(s), tenantImportCommand(s), tenantExportCommand(s),
		},
	}
}

// clientAction is the action of a command that talks to a node.
func clientAction(min, max int, run func(c *cli.Context, node *client.Client) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := wantArgs(c, min, max); err != nil {
			return err
		}
		node, err := connect(c)
		if err != nil {
			return err
		}
		defer node.CloseIdle()
		return run(c, node)
	}
}

func tenantCreateCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:      "create",
		Usage:     "Make an empty tenant",
		ArgsUsage: "NAME",
		Flags: append(clientFlags(),
			&cli.UintFlag{Name: "page-size", Usage: "`BYTES` of a database page, a power of two from 512 to 65536 (default: 4096)"},
			limitFlag(), groupFlag(), replicasFlag(),
		),
		Action: clientAction(1, 1, func(c *cli.Context, node *client.Client) error {
			o, group, err := createOptions(c)
			if err != nil {
				return err
			}
			t, err := node.CreateTenantIn(c.Context, group, c.Args().First(), o)
			if err != nil {
				return err
			}
			return printTenant(s.out, c.Bool("json"), t, "created")
		}),
	}
}

func limitFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "limit", Usage: "set a limit, as `NAME=VALUE` (size=1GiB, statement_time=5s); repeatable"}
}

func groupFlag() cli.Flag {
	return &cli.StringFlag{Name: "group", Usage: "`NAME` or number of the Raft group that keeps it (default: the cluster's choice)"}
}

// createOptions reads the flags of a command that makes a tenant; it may lack some of them. A group
// that has a name is not in the options.
func createOptions(c *cli.Context) (o tenant.CreateOptions, group string, err error) {
	if c.Uint("page-size") > 1<<32-1 {
		return o, "", usagef("--page-size: %d is too large", c.Uint("page-size"))
	}
	o.PageSize = uint32(c.Uint("page-size"))
	o.Replicas = tenant.Replicas(c.String("replicas"))
	group = c.String("group")
	if n, err := strconv.ParseUint(group, 10, 32); err == nil {
		o.Group, group = wire.GroupID(n), ""
	}
	for _, set := range c.StringSlice("limit") {
		name, value, ok := strings.Cut(set, "=")
		if !ok {
			return o, "", usagef("--limit %q: want NAME=VALUE", set)
		}
		if err := o.Limits.Set(name, value); err != nil {
			return o, "", usagef("--limit %s: %v", set, err)
		}
	}
	if err := o.Validate(); err != nil {
		return o, "", usagef("%v", err)
	}
	return o, group, nil
}

func tenantListCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "List the tenants by name",
		Flags: append(clientFlags(),
			&cli.StringFlag{Name: "after", Usage: "begin with the first name above `NAME`"},
			&cli.IntFlag{Name: "max", Usage: "list at most `N` tenants (default: all)"},
		),
		Action: clientAction(0, 0, func(c *cli.Context, node *client.Client) error {
			most := c.Int("max")
			if most < 0 {
				return usagef("--max: %d is negative", most)
			}
			return listTenants(c, node, s.out, c.String("after"), most)
		}),
	}
}

// listPage is how many tenants are asked for at a time.
const listPage = 500

// listTenants prints page by page, so that any number of tenants takes little memory.
func listTenants(c *cli.Context, node *client.Client, out io.Writer, after string, most int) error {
	p := newTenantPrinter(out, c.Bool("json"))
	for printed := 0; most == 0 || printed < most; {
		want := listPage
		if most > 0 {
			want = min(want, most-printed)
		}
		page, err := node.ListTenants(c.Context, after, want)
		if err != nil {
			return err
		}
		for _, t := range page.Tenants[:min(len(page.Tenants), want)] {
			if err := p.print(t); err != nil {
				return err
			}
			printed++
		}
		if page.Next == "" || page.Next == after {
			break
		}
		after = page.Next
	}
	return p.end()
}

// tenantPrinter prints a list of tenants.
type tenantPrinter struct {
	rows printer
	json bool
	out  io.Writer
	n    int
}

func newTenantPrinter(out io.Writer, asJSON bool) *tenantPrinter {
	p := &tenantPrinter{json: asJSON, out: out}
	if !asJSON {
		p.rows = newPrinter(modeTable, out, true)
	}
	return p
}

func (p *tenantPrinter) print(t tenant.Tenant) error {
	p.n++
	if p.json {
		sep := ",\n"
		if p.n == 1 {
			sep = "["
		}
		if _, err := io.WriteString(p.out, sep); err != nil {
			return err
		}
		return writeJSON(p.out, t)
	}
	if p.n == 1 {
		columns := []client.Column{{Name: "name"}, {Name: "state"}, {Name: "group"}, {Name: "page size"}, {Name: "created"}, {Name: "id"}}
		if err := p.rows.begin(columns); err != nil {
			return err
		}
	}
	return p.rows.row([]wire.Value{
		wire.Text(string(t.Name)), wire.Text(t.State.String()), wire.Integer(int64(t.Group)),
		wire.Integer(int64(t.PageSize)), wire.Text(t.Created.Format(time.RFC3339)), wire.Text(t.ID.String()),
	})
}

func (p *tenantPrinter) end() error {
	switch {
	case p.json && p.n == 0:
		_, err := io.WriteString(p.out, "[]\n")
		return err
	case p.json:
		_, err := io.WriteString(p.out, "]\n")
		return err
	case p.n == 0:
		_, err := io.WriteString(p.out, "no tenants\n")
		return err
	}
	return p.rows.end()
}

func tenantShowCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "Show what a tenant is and may use, and its copies",
		ArgsUsage: "NAME",
		Flags:     clientFlags(),
		Action: clientAction(1, 1, func(c *cli.Context, node *client.Client) error {
			t, err := node.TenantInfo(c.Context, c.Args().First())
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(s.out, t)
			}
			if err := showTenant(s.out, t.Tenant); err != nil {
				return err
			}
			if len(t.Tables) > 0 {
				if _, err := fmt.Fprintln(s.out, "\nconflict-free tables:"); err != nil {
					return err
				}
				if err := listTables(s.out, t.Tables); err != nil {
					return err
				}
			}
			copies, err := node.Copies(c.Context, string(t.Name))
			if err != nil {
				return fmt.Errorf("its copies: %w", err)
			}
			if _, err := fmt.Fprintln(s.out); err != nil {
				return err
			}
			return showCopies(s.out, copies)
		}),
	}
}

func showTenant(out io.Writer, t tenant.Tenant) error {
	rows := [][2]string{
		{"name", string(t.Name)}, {"id", t.ID.String()}, {"state", t.State.String()},
		{"group", strconv.FormatUint(uint64(t.Group), 10)}, {"epoch", strconv.FormatUint(uint64(t.Epoch), 10)},
		{"page size", strconv.FormatUint(uint64(t.PageSize), 10)}, {"created", t.Created.Format(time.RFC3339)},
	}
	if !t.Deleted.IsZero() {
		rows = append(rows, [2]string{"deleted", t.Deleted.Format(time.RFC3339)})
	}
	if t.Placement.Jurisdiction != "" {
		rows = append(rows, [2]string{"jurisdiction", t.Placement.Jurisdiction})
	}
	rows = append(rows, [2]string{"replicas", replicasText(t.Placement)}, [2]string{"policy", strconv.FormatUint(uint64(t.Policy), 10)})
	for _, l := range t.Limits.WithDefaults().List() {
		rows = append(rows, [2]string{"limit " + l.Name, l.Value})
	}
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	for _, r := range rows {
		if _, err := fmt.Fprintf(out, "%-*s  %s\n", width, r[0], printable(r[1])); err != nil {
			return err
		}
	}
	return nil
}

// printTenant says what was done to a tenant.
func printTenant(out io.Writer, asJSON bool, t tenant.Tenant, done string) error {
	if asJSON {
		return printJSON(out, t)
	}
	_, err := fmt.Fprintf(out, "%s tenant %s (id %s)\n", done, t.Name, t.ID)
	return err
}

func tenantDeleteCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:      "delete",
		Usage:     "Delete a tenant",
		ArgsUsage: "NAME",
		Flags:     append(clientFlags(), &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "don't ask"}),
		Action: clientAction(1, 1, func(c *cli.Context, node *client.Client) error {
			name := c.Args().First()
			if !c.Bool("yes") {
				if err := confirm(s, "tenant", name); err != nil {
					return err
				}
			}
			if err := node.DeleteTenant(c.Context, name); err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(s.out, map[string]string{"deleted": name})
			}
			_, err := fmt.Fprintf(s.out, "deleted tenant %s\n", name)
			return err
		}),
	}
}

// confirm asks for the name of what is to go: a tenant or a node.
func confirm(s stdio, what, name string) error {
	if !isTerminal(s.in) {
		return usagef("deleting %s: standard input is no terminal to ask at; say --yes", name)
	}
	fmt.Fprintf(s.err, "Type the %s's name to delete it: ", what)
	answer, err := readShortLine(s.in)
	if err != nil {
		return err
	}
	if answer != name {
		return fmt.Errorf("%q was not deleted: %q was typed", name, answer)
	}
	return nil
}

// readShortLine reads a line byte by byte, so that nothing after it is taken.
func readShortLine(r io.Reader) (string, error) {
	var line []byte
	b := make([]byte, 1)
	for len(line) < 256 {
		n, err := r.Read(b)
		if n == 1 {
			if b[0] == '\n' {
				break
			}
			line = append(line, b[0])
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", err
		}
	}
	return strings.TrimSpace(string(line)), nil
}

// formats are the values of --format.
func parseFormat(s string) (client.Format, error) {
	f := client.Format(s)
	if !slices.Contains([]client.Format{client.SQLite, client.SQL}, f) {
		return "", usagef("--format: %q is neither %q nor %q", s, client.SQLite, client.SQL)
	}
	return f, nil
}
