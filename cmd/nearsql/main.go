package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"
)

func main() {
	os.Exit(run(context.Background(), os.Args, stdio{os.Stdin, os.Stdout, os.Stderr}))
}

// stdio is where a command reads and prints.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// run is main with its surroundings given. It returns the exit code.
func run(ctx context.Context, args []string, s stdio) int {
	app := newApp(s)
	err := app.RunContext(ctx, flagsFirst(app, args))
	if err != nil {
		report(s, app, err)
	}
	return exitCode(err)
}

// newApp lists the verbs.
func newApp(s stdio) *cli.App {
	app := &cli.App{
		Name:      "nearsql",
		Usage:     "SQL at the edge: a SQLite database per tenant, replicated",
		Reader:    s.in,
		Writer:    s.out,
		ErrWriter: s.err,
		Commands: []*cli.Command{
			serveCommand(s), devCommand(s), tenantCommand(s), sqlCommand(s), crrCommand(s), versionCommand(s), checkFileCommand(s),
			certCommand(s), statusCommand(s), nodeCommand(s), groupCommand(s), recoverCommand(s),
		},
		HideVersion:     true,
		HideHelpCommand: true,
		Description: "Flags may also be set by environment variables (NEARSQL_…) and by a config file (--config).\n" +
			"Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such tenant, node or group, 4 refused, 5 node not reachable, 6 try again, 130 interrupted.",
		// run prints errors and says how to exit; cli's own handler would call os.Exit.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   usageFault,
		Action:         groupAction,
	}
	for _, c := range app.Commands {
		setUsageFault(c)
	}
	return app
}

func setUsageFault(c *cli.Command) {
	c.OnUsageError = usageFault
	c.HideHelpCommand = true
	for _, sub := range c.Subcommands {
		setUsageFault(sub)
	}
}

func usageFault(_ *cli.Context, err error, _ bool) error { return &usageError{err.Error()} }

// groupAction is what a command does that only has subcommands.
func groupAction(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("unknown command %q", c.Args().First())
	}
	return cli.ShowSubcommandHelp(c)
}

// wantArgs refuses other numbers of arguments than from min to max.
func wantArgs(c *cli.Context, min, max int) error {
	n := c.NArg()
	if n >= min && n <= max {
		return nil
	}
	what := fmt.Sprintf("%d to %d arguments", min, max)
	if min == max {
		what = fmt.Sprintf("%d arguments", min)
		if min == 1 {
			what = "1 argument"
		}
	}
	return usagef("%s takes %s (%s), got %d", c.Command.HelpName, what, c.Command.ArgsUsage, n)
}
