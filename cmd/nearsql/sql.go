package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/sqlnode/importer/script"
	"github.com/nearsql/nearsql/wire"
)

func sqlCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:      "sql",
		Usage:     "Run SQL, or open a shell",
		ArgsUsage: "[TENANT] [STATEMENT]",
		Description: "With STATEMENT: run it and print its rows; several statements, with semicolons between, are\n" +
			"one atomic batch. Without: open a shell when standard input is a terminal, else run what\n" +
			"standard input has, statement by statement, and stop at the first error.",
		Flags: append(clientFlags(),
			&cli.StringFlag{Name: "mode", Usage: "print rows as `MODE`: table, csv, json, line or list", Value: string(modeTable)},
			&cli.BoolFlag{Name: "no-headers", Usage: "print no column names"},
			&cli.StringFlag{Name: "consistency", Usage: "`LEVEL` of reads, strong or weak (default: the node's)"},
			&cli.StringFlag{Name: "max-staleness", Usage: "greatest age of what a weak read sees, as `DURATION` or any"},
			&cli.StringFlag{Name: "bookmark", Usage: "see at least what `BOOKMARK` saw"},
			&cli.DurationFlag{Name: "timeout", Usage: "end each request after `DURATION`"},
			&cli.StringFlag{Name: "idempotency-key", Usage: "make STATEMENT happen at most once under `KEY`"},
			&cli.BoolFlag{Name: "no-bail", Usage: "go on after an error in a script"},
		),
		Action: clientAction(0, 2, func(c *cli.Context, node *client.Client) error {
			request, err := requestFlags(c)
			if err != nil {
				return err
			}
			m := mode(c.String("mode"))
			if !slices.Contains(modes(), m) {
				return usagef("--mode: %q is none of %v", m, modes())
			}
			if c.NArg() == 2 {
				if c.Bool("json") {
					return oneShotJSON(c.Context, node, c.Args().Get(0), c.Args().Get(1), request, s.out)
				}
				return oneShot(c.Context, node, c.Args().Get(0), c.Args().Get(1), request, newPrinter(m, s.out, !c.Bool("no-headers")), footer(m, s.out))
			}
			if request.IdempotencyKey != "" {
				return usagef("--idempotency-key is for one STATEMENT")
			}
			if c.Bool("json") {
				m = modeJSON
			}
			sh := newShell(node, s.out, s.err)
			sh.tenant, sh.mode, sh.headers, sh.request = c.Args().First(), m, !c.Bool("no-headers"), request
			sh.bail = !c.Bool("no-bail")
			if !isTerminal(s.in) {
				return sh.script(c.Context, "", s.in)
			}
			sh.interactive, sh.timer, sh.bail = true, true, false
			interrupts := make(chan os.Signal, 1)
			signal.Notify(interrupts, os.Interrupt)
			defer signal.Stop(interrupts)
			sh.interrupts = interrupts
			return sh.terminal(c.Context)
		}),
	}
}

// requestFlags reads how requests are to be served.
func requestFlags(c *cli.Context) (wire.Request, error) {
	r := wire.Request{Bookmark: c.String("bookmark"), IdempotencyKey: c.String("idempotency-key"), Timeout: c.Duration("timeout")}
	if r.Timeout < 0 {
		return r, usagef("--timeout: %s is negative", r.Timeout)
	}
	var err error
	if r.Consistency, err = parseConsistency(c.String("consistency")); err != nil {
		return r, usagef("--consistency: %v", err)
	}
	if r.MaxStaleness, err = parseStaleness(c.String("max-staleness")); err != nil {
		return r, usagef("--max-staleness: %v", err)
	}
	return r, nil
}

func parseConsistency(s string) (wire.Consistency, error) {
	switch s {
	case "", "default":
		return wire.ConsistencyDefault, nil
	case "strong":
		return wire.Strong, nil
	case "weak":
		return wire.Weak, nil
	}
	return 0, fmt.Errorf("%q is neither strong nor weak", s)
}

func parseStaleness(s string) (time.Duration, error) {
	switch s {
	case "", "default":
		return 0, nil
	case "any":
		return wire.AnyStaleness, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is neither a duration like 500ms nor any", s)
	}
	return d, nil
}

// batchOf cuts the text of a command line into the statements of one request. BEGIN and
// COMMIT around them are left out: a batch is a transaction.
func batchOf(text string, r wire.Request) (wire.Request, error) {
	reader := script.NewReader(strings.NewReader(text), maxStatement)
	for {
		st, err := reader.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return r, usagef("%v", err)
		}
		r.Statements = append(r.Statements, wire.Statement{SQL: st.Text})
	}
	n := len(r.Statements)
	if n >= 2 && kindOf(r.Statements[0].SQL) == begins && kindOf(r.Statements[n-1].SQL) == commits {
		r.Statements, r.Batch = r.Statements[1:n-1], true
	}
	if len(r.Statements) == 0 {
		return r, usagef("%q has no statement", text)
	}
	r.Batch = r.Batch || len(r.Statements) > 1
	return r, nil
}

// oneShot runs the text of a command line as one request.
func oneShot(ctx context.Context, node *client.Client, tenant, text string, r wire.Request, p printer, foot func(statement) error) error {
	r, err := batchOf(text, r)
	if err != nil {
		return err
	}
	a, err := node.Do(ctx, tenant, &r)
	if err != nil {
		return err
	}
	defer a.Close()
	return printAnswer(a, p, foot)
}

// statement is what is known of a statement when its rows have been printed.
type statement struct {
	columns int
	rows    int64
	summary wire.Summary
}

// printAnswer prints all results; foot is called after each.
func printAnswer(a *client.Answer, p printer, foot func(statement) error) error {
	for a.NextStatement() {
		st := statement{columns: len(a.Columns())}
		if err := p.begin(a.Columns()); err != nil {
			return err
		}
		for a.NextRow() {
			st.rows++
			if err := p.row(a.Row()); err != nil {
				return err
			}
		}
		// A result that broke off is printed as far as it came.
		if st.columns > 0 {
			if err := p.end(); err != nil {
				return err
			}
		}
		if a.Err() != nil {
			break
		}
		st.summary = a.Summary()
		if err := foot(st); err != nil {
			return err
		}
	}
	return a.Err()
}

// footer says below a table what the statement did. The other modes are for programs.
func footer(m mode, out io.Writer) func(statement) error {
	return func(st statement) error {
		if m != modeTable {
			return nil
		}
		_, err := fmt.Fprintf(out, "(%s)\n", st)
		return err
	}
}

// String says what a statement did.
func (st statement) String() string {
	switch {
	case st.columns == 0 || st.summary.RowsAffected > 0 && st.rows == 0:
		return count(st.summary.RowsAffected, "row") + " changed"
	case st.summary.RowsAffected > 0:
		return fmt.Sprintf("%s, %s changed", count(st.rows, "row"), count(st.summary.RowsAffected, "row"))
	}
	return count(st.rows, "row")
}

func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// oneShotJSON prints the answer in the shape of the HTTP API, row by row.
func oneShotJSON(ctx context.Context, node *client.Client, tenant, text string, r wire.Request, out io.Writer) error {
	r, err := batchOf(text, r)
	if err != nil {
		return err
	}
	a, err := node.Do(ctx, tenant, &r)
	if err != nil {
		return err
	}
	defer a.Close()
	p := &documentPrinter{out: out}
	if err := p.print(a); err != nil {
		return err
	}
	return p.meta(a.Meta())
}
