package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/nearsql/nearsql/sqlnode/client"
)

func tenantImportCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:      "import",
		Usage:     "Make a tenant from a SQLite file or an SQL dump",
		ArgsUsage: "NAME FILE",
		Description: "FILE is a database file or a dump; - is standard input. A database that a program has\n" +
			"open in WAL mode is to be checkpointed first: what is in its -wal file is not imported.",
		Flags: append(clientFlags(),
			&cli.StringFlag{Name: "format", Usage: "`FORMAT` of the file, sqlite or sql (default: as it looks)"},
			limitFlag(), groupFlag(),
		),
		Action: clientAction(2, 2, func(c *cli.Context, node *client.Client) error {
			o, group, err := createOptions(c)
			if err != nil {
				return err
			}
			in := s.in
			name, file := c.Args().Get(0), c.Args().Get(1)
			if file != "-" {
				f, err := os.Open(file)
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
				warnOfWAL(s, file)
			}
			b := bufio.NewReaderSize(in, 64<<10)
			format, err := importFormat(c.String("format"), b)
			if err != nil {
				return err
			}
			t, err := node.ImportIn(c.Context, group, name, format, b, o)
			if err != nil {
				return err
			}
			return printTenant(s.out, c.Bool("json"), t, "imported")
		}),
	}
}

// importFormat is the format that was asked for, or that the beginning tells.
func importFormat(flag string, b *bufio.Reader) (client.Format, error) {
	if flag != "" {
		return parseFormat(flag)
	}
	const magic = "SQLite format 3\x00" // https://www.sqlite.org/fileformat2.html
	head, err := b.Peek(len(magic))
	if err != nil && err != io.EOF {
		return "", err
	}
	if string(head) == magic {
		return client.SQLite, nil
	}
	return client.SQL, nil
}

// warnOfWAL tells of a log beside a database file: it would be left behind.
func warnOfWAL(s stdio, file string) {
	if info, err := os.Stat(file + "-wal"); err == nil && info.Size() > 0 {
		fmt.Fprintf(s.err, "nearsql: warning: %s-wal is not imported; run PRAGMA wal_checkpoint(TRUNCATE) in the program that has the database open\n", file)
	}
}

func tenantExportCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "Copy a tenant to a SQLite file or an SQL dump",
		ArgsUsage: "NAME FILE",
		Description: "The copy is of one moment; the tenant goes on meanwhile. FILE must not exist, or --force\n" +
			"must be given; - is standard output. A name that ends with .sql asks for a dump.",
		Flags: append(clientFlags(),
			&cli.StringFlag{Name: "format", Usage: "`FORMAT` of the file, sqlite or sql (default: by its name, else sqlite)"},
			&cli.BoolFlag{Name: "force", Usage: "replace FILE"},
		),
		Action: clientAction(2, 2, func(c *cli.Context, node *client.Client) error {
			name, file := c.Args().Get(0), c.Args().Get(1)
			format := client.SQLite
			if strings.HasSuffix(file, ".sql") {
				format = client.SQL
			}
			if flag := c.String("format"); flag != "" {
				var err error
				if format, err = parseFormat(flag); err != nil {
					return err
				}
			}
			if file == "-" {
				_, err := export(c, node, name, format, s.out)
				return err
			}
			n, err := exportFile(c, node, name, format, file, c.Bool("force"))
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(s.out, map[string]any{"tenant": name, "file": file, "format": format, "bytes": n})
			}
			_, err = fmt.Fprintf(s.out, "exported tenant %s to %s (%d bytes)\n", name, file, n)
			return err
		}),
	}
}

func export(c *cli.Context, node *client.Client, name string, f client.Format, w io.Writer) (int64, error) {
	r, err := node.Export(c.Context, name, f)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	n, err := io.Copy(w, r)
	if err != nil {
		return n, fmt.Errorf("export of %s broke off after %d bytes: %w", name, n, err)
	}
	return n, nil
}

// exportFile writes beside the file and renames, so that the file is whole or not there.
func exportFile(c *cli.Context, node *client.Client, name string, f client.Format, file string, force bool) (n int64, err error) {
	if _, err := os.Lstat(file); err == nil && !force {
		return 0, fmt.Errorf("%s exists; --force replaces it", file)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*") // mode 0600
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	n, err = export(c, node, name, f, tmp)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return n, err
	}
	return n, os.Rename(tmp.Name(), file)
}
