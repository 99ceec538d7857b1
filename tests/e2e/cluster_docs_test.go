package e2e_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestWarningsAreDocumented compares the messages of level WARN and ERROR in the source of a node with what
// docs/operations.md says about them.
func TestWarningsAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "\n## What the log says\n")
	if !ok {
		t.Fatal("docs/operations.md has no section on what the log says")
	}
	found := 0
	for _, dir := range []string{ // what a node's process runs
		"cluster", "cmd/nearsql", "disk", "leader", "leader/logstore", "leader/snapshots", "sqlnode", "sqlnode/catalogue", "sqlnode/copies",
		"sqlnode/engine", "sqlnode/httpapi", "sqlnode/importer", "sqlnode/pagestore", "sqlnode/peers", "sqlnode/recovery",
	} {
		files, err := filepath.Glob(filepath.Join("../..", dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", dir, len(files), err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			for _, message := range warnings(t, path) {
				found++
				if !strings.Contains(text, "`"+message+"`") {
					t.Errorf("%s logs %q, which docs/operations.md does not explain", path, message)
				}
			}
		}
	}
	if found < 40 {
		t.Errorf("only %d messages were found", found)
	}
}

// warnings are the messages of the calls of Warn and Error in a file. Where a message is put together
// it is its constant beginning.
func warnings(t *testing.T, path string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		f, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || f.Sel.Name != "Warn" && f.Sel.Name != "Error" {
			return true
		}
		if lit, ok := call.Args[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if message, err := strconv.Unquote(lit.Value); err == nil {
				list = append(list, message)
			}
		}
		return true
	})
	return list
}
