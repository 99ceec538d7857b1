package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/wire"
)

// dotCommand is one command of the shell that is not SQL.
type dotCommand struct {
	name     string
	args     string // for .help
	help     string
	min, max int // arguments
	run      func(sh *shell, ctx context.Context, args []string) error
}

func dotCommands() []dotCommand {
	return []dotCommand{
		{".bail", "on|off", "stop a script at its first error", 1, 1, func(sh *shell, _ context.Context, a []string) error { return setSwitch(&sh.bail, a[0]) }},
		{".consistency", "strong|weak|default", "how reads are served from now on", 1, 1, (*shell).dotConsistency},
		{".dump", "", "print the tenant as SQL", 0, 0, (*shell).dotDump},
		{".exit", "", "leave the shell", 0, 0, (*shell).dotQuit},
		{".headers", "on|off", "print the names of columns", 1, 1, func(sh *shell, _ context.Context, a []string) error { return setSwitch(&sh.headers, a[0]) }},
		{".help", "", "list the commands", 0, 0, (*shell).dotHelp},
		{".import", "FILE TABLE", "insert the rows of a CSV file; a table that is missing is made from its first line", 2, 2, (*shell).dotImport},
		{".mode", "table|csv|json|line|list", "how rows are printed", 1, 1, (*shell).dotMode},
		{".quit", "", "leave the shell", 0, 0, (*shell).dotQuit},
		{".read", "FILE", "run the statements and commands in a file", 1, 1, (*shell).dotRead},
		{".schema", "[NAME]", "print what made the tables, or one of them", 0, 1, (*shell).dotSchema},
		{".staleness", "DURATION|any|default", "greatest age of what a weak read sees", 1, 1, (*shell).dotStaleness},
		{".tables", "", "list tables and views", 0, 0, (*shell).dotTables},
		{".tenant", "[NAME]", "choose a tenant, or say which is chosen", 0, 1, (*shell).dotTenant},
		{".timer", "on|off", "say how long an answer took, and where it came from", 1, 1, func(sh *shell, _ context.Context, a []string) error { return setSwitch(&sh.timer, a[0]) }},
	}
}

// dot runs one dot command.
func (sh *shell) dot(ctx context.Context, line string) error {
	words, err := splitWords(line)
	if err != nil {
		return err
	}
	commands := dotCommands()
	i := slices.IndexFunc(commands, func(c dotCommand) bool { return c.name == words[0] })
	if i < 0 {
		return fmt.Errorf("there is no command %s; .help lists them", words[0])
	}
	c, args := commands[i], words[1:]
	if len(args) < c.min || len(args) > c.max {
		return fmt.Errorf("use: %s %s", c.name, c.args)
	}
	return c.run(sh, ctx, args)
}

// splitWords cuts a command at blanks; quotes of either kind keep them.
func splitWords(line string) ([]string, error) {
	var words []string
	for i := 0; i < len(line); {
		switch c := line[i]; c {
		case ' ', '\t', '\r', '\n':
			i++
		case '\'', '"':
			end := strings.IndexByte(line[i+1:], c)
			if end < 0 {
				return nil, fmt.Errorf("a quote is not closed in %s", line)
			}
			words = append(words, line[i+1:i+1+end])
			i += end + 2
		default:
			end := strings.IndexAny(line[i:], " \t\r\n")
			if end < 0 {
				end = len(line) - i
			}
			words = append(words, line[i:i+end])
			i += end
		}
	}
	return words, nil
}

func setSwitch(b *bool, word string) error {
	switch word {
	case "on":
		*b = true
	case "off":
		*b = false
	default:
		return fmt.Errorf("%q is neither on nor off", word)
	}
	return nil
}

func (sh *shell) dotHelp(context.Context, []string) error {
	for _, c := range dotCommands() {
		fmt.Fprintf(sh.out, "%-38s %s\n", strings.TrimSpace(c.name+" "+c.args), c.help)
	}
	fmt.Fprint(sh.out, `
A statement ends with ; and may have several lines. Each is one request, and happens all or not at all.
BEGIN; …; COMMIT; is one atomic batch: the shell keeps the statements and sends them at COMMIT, so that rows
are seen only then; ROLLBACK forgets them. The API keeps no transaction open between requests, and refuses
BEGIN and COMMIT. Ctrl-C cancels a running request, or forgets the line; Ctrl-D leaves.
`)
	return nil
}

func (sh *shell) dotQuit(context.Context, []string) error {
	sh.quitting = true
	return errQuit
}

func (sh *shell) dotMode(_ context.Context, args []string) error {
	if !slices.Contains(modes(), mode(args[0])) {
		return fmt.Errorf("%q is none of %v", args[0], modes())
	}
	sh.mode = mode(args[0])
	return nil
}

func (sh *shell) dotConsistency(_ context.Context, args []string) error {
	c, err := parseConsistency(args[0])
	if err == nil {
		sh.request.Consistency = c
	}
	return err
}

func (sh *shell) dotStaleness(_ context.Context, args []string) error {
	d, err := parseStaleness(args[0])
	if err == nil {
		sh.request.MaxStaleness = d
	}
	return err
}

func (sh *shell) dotTenant(ctx context.Context, args []string) error {
	if len(args) == 0 {
		if sh.tenant == "" {
			return errNoTenant
		}
		_, err := fmt.Fprintln(sh.out, sh.tenant)
		return err
	}
	if sh.batch != nil {
		return errors.New("BEGIN has no COMMIT or ROLLBACK yet")
	}
	ctx, stop := sh.cancellable(ctx)
	defer stop()
	if _, err := sh.node.Tenant(ctx, args[0]); err != nil {
		// A token may be good for SQL and yet not for looking at records.
		var we *wire.Error
		if !errors.As(err, &we) || we.Code != wire.CodeForbidden {
			return err
		}
	}
	sh.tenant, sh.request.Bookmark = args[0], ""
	return nil
}

func (sh *shell) dotTables(ctx context.Context, _ []string) error {
	// Shadow tables, where a virtual table keeps its data, are nobody's to look at.
	res, err := sh.ask(ctx, `SELECT name FROM pragma_table_list WHERE schema = 'main' AND type <> 'shadow' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY name`)
	if err != nil {
		return err
	}
	return sh.printLines(res)
}

func (sh *shell) dotSchema(ctx context.Context, args []string) error {
	sql := `SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL`
	var values []wire.Value
	if len(args) == 1 {
		sql += ` AND tbl_name = ?1 COLLATE NOCASE`
		values = append(values, wire.Text(args[0]))
	}
	res, err := sh.ask(ctx, sql+` ORDER BY rowid`, values...)
	if err != nil {
		return err
	}
	if len(args) == 1 && len(res.Rows) == 0 {
		return fmt.Errorf("there is nothing of the name %s", args[0])
	}
	return sh.printLines(res)
}

// ask runs a statement of the shell's own and collects its rows.
func (sh *shell) ask(ctx context.Context, sql string, args ...wire.Value) (client.Result, error) {
	if sh.tenant == "" {
		return client.Result{}, errNoTenant
	}
	ctx, stop := sh.cancellable(ctx)
	defer stop()
	r := sh.request
	r.Statements = []wire.Statement{{SQL: sql, Args: args}}
	results, _, err := sh.node.Exec(ctx, sh.tenant, &r)
	if err != nil {
		return client.Result{}, sh.failed(err)
	}
	if len(results) != 1 {
		return client.Result{}, fmt.Errorf("%d results for one statement", len(results))
	}
	return results[0], nil
}

// printLines prints the first column. A schema has line feeds, and they stay.
func (sh *shell) printLines(res client.Result) error {
	for _, row := range res.Rows {
		for _, line := range strings.Split(row[0].Str(), "\n") {
			if _, err := fmt.Fprintln(sh.out, printable(line)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (sh *shell) dotRead(ctx context.Context, args []string) error {
	if sh.depth >= maxReadDepth {
		return fmt.Errorf(".read %s: %d files read one another", args[0], maxReadDepth)
	}
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	sh.depth++
	interactive := sh.interactive
	sh.interactive = false // errors name their lines
	defer func() { sh.depth, sh.interactive = sh.depth-1, interactive }()
	if err := sh.script(ctx, args[0], f); err != nil {
		return err
	}
	if sh.quitting {
		return errQuit
	}
	return nil
}

func (sh *shell) dotDump(ctx context.Context, _ []string) error {
	if sh.tenant == "" {
		return errNoTenant
	}
	ctx, stop := sh.cancellable(ctx)
	defer stop()
	r, err := sh.node.Export(ctx, sh.tenant, client.SQL)
	if err != nil {
		return sh.failed(err)
	}
	defer r.Close()
	_, err = io.Copy(sh.out, r)
	return err
}
