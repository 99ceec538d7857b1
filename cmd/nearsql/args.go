package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst puts the flags of a command before its arguments, so that
// `nearsql tenant create acme --json` works: the flag parser stops at the first
// argument. What follows "--" stays as it is.
func flagsFirst(app *cli.App, args []string) []string {
	if len(args) < 2 {
		return args
	}
	commands, flags := app.Commands, app.Flags
	at := 1
	for at < len(args) {
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[at]) })
		if i < 0 {
			break
		}
		flags, commands = commands[i].Flags, commands[i].Subcommands
		at++
	}
	out := slices.Clone(args[:at])
	var rest []string
	for ; at < len(args); at++ {
		arg := args[at]
		switch {
		case arg == "--":
			return append(append(append(out, "--"), rest...), args[at+1:]...)
		case len(arg) < 2 || arg[0] != '-' || strings.ContainsAny(arg, " \n\t") && !strings.Contains(arg, "="):
			rest = append(rest, arg)
		default:
			out = append(out, arg)
			if !strings.Contains(arg, "=") && takesValue(flags, strings.TrimLeft(arg, "-")) && at+1 < len(args) {
				at++
				out = append(out, args[at])
			}
		}
	}
	if len(rest) == 0 {
		return out
	}
	return append(append(out, "--"), rest...)
}

func takesValue(flags []cli.Flag, name string) bool {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			doc, ok := f.(cli.DocGenerationFlag)
			return ok && doc.TakesValue()
		}
	}
	return false
}
