package main

import (
	"github.com/urfave/cli/v2"

	"github.com/nearsql/nearsql/sqlnode/importer"
)

// checkFileCommand is what a node starts to look at a database from outside, in
// a process that may die of it. People use `nearsql tenant import`.
func checkFileCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:      importer.ChildVerb,
		Usage:     "Look at a SQLite file that is not trusted, or make one from a dump on standard input",
		ArgsUsage: "FILE",
		Hidden:    true,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "from-sql", Usage: "make FILE from the SQL dump on standard input"},
			&cli.Int64Flag{Name: "max-bytes", Usage: "let the database that is made have no more `BYTES`", Value: importer.DefaultMaxBytes},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			return importer.ChildMain(c.Context, c.Args().First(), c.Bool("from-sql"), c.Int64("max-bytes"), s.in, s.out)
		},
	}
}
