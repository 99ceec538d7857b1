package main

import (
	"os"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestDocsHaveEverything holds docs/cli.md against the verbs, flags and variables that there are.
func TestDocsHaveEverything(t *testing.T) {
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	want := func(what string) {
		t.Helper()
		if !strings.Contains(doc, what) {
			t.Errorf("docs/cli.md does not have %s", what)
		}
	}
	var visit func(prefix string, commands []*cli.Command)
	visit = func(prefix string, commands []*cli.Command) {
		for _, c := range commands {
			name := prefix + c.Name
			if len(c.Subcommands) == 0 {
				want("nearsql " + name)
			}
			visit(name+" ", c.Subcommands)
			for _, f := range c.Flags {
				want("`--" + f.Names()[0])
				if doc, ok := f.(cli.DocGenerationFlag); ok {
					for _, env := range doc.GetEnvVars() {
						want("`" + env + "`")
					}
				}
			}
		}
	}
	visit("", newApp(stdio{}).Commands)
	for _, c := range dotCommands() {
		want("`" + strings.ReplaceAll(strings.TrimSpace(c.name+" "+c.args), "|", `\|`) + "`")
	}
	for _, m := range modes() {
		want("`" + string(m) + "`")
	}
}
