package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

// versionInfo is what `nearsql version` prints.
type versionInfo struct {
	Version  string `json:"version"`  // of the module, or "devel"
	Revision string `json:"revision"` // of the source; "" when it was not built from a checkout
	SQLite   string `json:"sqlite"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// version reads what the linker left in the binary.
func version() versionInfo {
	v := versionInfo{Version: "devel", SQLite: sqlite.Version(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if m := info.Main.Version; m != "" && m != "(devel)" {
		v.Version = m
	}
	modified := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	if modified {
		v.Revision += "+changes"
	}
	return v
}

func versionCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "Say which version this is",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print JSON", EnvVars: []string{"NEARSQL_JSON"}}},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			v := version()
			if c.Bool("json") {
				return printJSON(s.out, v)
			}
			_, err := fmt.Fprintf(s.out, "nearsql %s\nrevision %s\nSQLite %s\n%s %s\n", v.Version, v.Revision, v.SQLite, v.Go, v.Platform)
			return err
		},
	}
}
