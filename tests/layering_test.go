package tests

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/nearsql/nearsql/"

// mayImport says which packages of ours each top-level directory may import,
// beside itself. README.md has the same table in words.
var mayImport = map[string][]string{
	"wire":     {},
	"disk":     {},
	"cluster":  {"wire"},
	"tenant":   {"wire"},
	"schema":   {"wire"},
	"crr":      {"schema", "wire"},
	"leader":   {"cluster", "disk", "tenant", "wire"},
	"readpath": {"cluster", "tenant", "wire"},
	"sqlnode":  {"cluster", "crr", "disk", "leader", "readpath", "schema", "tenant", "wire"},
	"cmd":      {"sqlnode", "tenant", "wire"},
	"scripts":  {"*"},
	"tests":    {"*"},
}

// onlyUnder names imports that belong to one directory alone: what knows
// SQLite's C structures lives there.
var onlyUnder = map[string]string{
	"unsafe":                 "sqlnode/pagestore",
	"modernc.org/libc":       "sqlnode/pagestore",
	"modernc.org/sqlite/lib": "sqlnode/pagestore",
}

// goDirs are the directories of a tree with Go files that are not tests, and those files.
func goDirs(tree fs.FS) (map[string][]string, error) {
	dirs := make(map[string][]string)
	err := fs.WalkDir(tree, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if e.IsDir() {
			if name != "." && (base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(base, ".go") && !strings.HasSuffix(base, "_test.go") {
			dirs[path.Dir(name)] = append(dirs[path.Dir(name)], name)
		}
		return nil
	})
	return dirs, err
}

// faults lists what in the tree breaks the rules of this file.
func faults(tree fs.FS) ([]string, error) {
	dirs, err := goDirs(tree)
	if err != nil {
		return nil, err
	}
	var bad []string
	fault := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }
	fset := token.NewFileSet()
	for dir, files := range dirs {
		top, _, _ := strings.Cut(dir, "/")
		allowed, known := mayImport[top]
		if !known {
			fault("%s: %q is not in the table of this test: say what it may import", dir, top)
			continue
		}
		documented := false
		for _, name := range files {
			text, err := fs.ReadFile(tree, name)
			if err != nil {
				return nil, err
			}
			f, err := parser.ParseFile(fset, name, text, parser.ImportsOnly|parser.ParseComments)
			if err != nil {
				return nil, err
			}
			documented = documented || hasPackageComment(f)
			if path.Base(name) == "doc.go" && !hasPackageComment(f) {
				fault("%s: has no package comment", name)
			}
			for _, spec := range f.Imports {
				p, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					return nil, err
				}
				for only, home := range onlyUnder {
					if p == only && !under(dir, home) && !slices.Contains(allowed, "*") {
						fault("%s: imports %s, which only %s may", name, p, home)
					}
				}
				rest, ours := strings.CutPrefix(p+"/", module)
				if !ours {
					continue
				}
				target := strings.TrimSuffix(rest, "/")
				first, _, _ := strings.Cut(target, "/")
				if first != top && !slices.Contains(allowed, first) && !slices.Contains(allowed, "*") {
					fault("%s: imports %s, and %s may import %v only", name, target, top, allowed)
				}
				if forTests(target) && !forTests(dir) && top != "tests" {
					fault("%s: imports %s, which is for tests", name, target)
				}
			}
		}
		if !documented {
			fault("%s: no file has a package comment", dir)
		}
		if dir == top && !slices.Contains(files, dir+"/doc.go") {
			fault("%s: has no doc.go", dir)
		}
	}
	slices.Sort(bad)
	return bad, nil
}

func hasPackageComment(f *ast.File) bool {
	return f.Doc != nil && (strings.HasPrefix(f.Doc.Text(), "Package ") || strings.HasPrefix(f.Doc.Text(), "Command "))
}

func under(dir, home string) bool { return dir == home || strings.HasPrefix(dir, home+"/") }

// forTests says whether a package is one of those that help tests, like disktest.
func forTests(dir string) bool {
	return strings.HasSuffix(dir, "test") || under(dir, "tests") || under(dir, "scripts")
}

func TestLayering(t *testing.T) {
	bad, err := faults(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bad {
		t.Error(b)
	}
}

// TestLayeringFindsFaults shows that each rule can fail.
func TestLayeringFindsFaults(t *testing.T) {
	const head = "// Package x is x.\npackage x\n"
	for _, c := range []struct{ file, text, want string }{
		{"leader/doc.go", head + `import _ "` + module + `readpath"`, "leader/doc.go: imports readpath"},
		{"readpath/doc.go", head + `import _ "` + module + `leader/group"`, "readpath/doc.go: imports leader/group"},
		{"wire/doc.go", head + `import _ "` + module + `tenant"`, "wire/doc.go: imports tenant"},
		{"cmd/nearsql/main.go", head + `import _ "` + module + `leader"`, "cmd/nearsql/main.go: imports leader"},
		{"disk/doc.go", head + `import _ "` + module + `wire"`, "disk/doc.go: imports wire"},
		{"tenant/doc.go", head + `import _ "unsafe"`, "tenant/doc.go: imports unsafe"},
		{"sqlnode/engine/a.go", head + `import _ "modernc.org/sqlite/lib"`, "imports modernc.org/sqlite/lib"},
		{"sqlnode/engine/a.go", head + `import _ "` + module + `disk/disktest"`, "which is for tests"},
		{"tenant/doc.go", "package x", "has no package comment"},
		{"tenant/a.go", head, "tenant: has no doc.go"},
		{"extra/doc.go", head, "not in the table"},
	} {
		bad, err := faults(fstest.MapFS{c.file: {Data: []byte(c.text)}})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(bad, func(b string) bool { return strings.Contains(b, c.want) }) {
			t.Errorf("%s with %q: got %q, want %q", c.file, c.text, bad, c.want)
		}
	}
	good := fstest.MapFS{
		"sqlnode/doc.go":             {Data: []byte(head + `import _ "` + module + `leader"`)},
		"sqlnode/pagestore/c.go":     {Data: []byte(head + `import _ "unsafe"`)},
		"leader/doc.go":              {Data: []byte(head)},
		"leader/a_test.go":           {Data: []byte(`package x; import _ "` + module + `sqlnode"`)},
		"tenant/doc.go":              {Data: []byte(head)},
		"tenant/testdata/a/bad.go":   {Data: []byte(`package x; import _ "unsafe"`)},
		"leader/leadertest/x.go":     {Data: []byte(head + `import _ "` + module + `disk/disktest"`)},
		"scripts/bench-core/main.go": {Data: []byte("// Command x is x.\npackage main")},
	}
	bad, err := faults(good)
	if err != nil || len(bad) != 0 {
		t.Errorf("a good tree has faults: %q, %v", bad, err)
	}
}

// TestDependenciesAreExplained holds docs/dependencies.md against go.mod.
func TestDependenciesAreExplained(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(mod), "\n") {
		line, found := strings.CutPrefix(line, "\t")
		if !found || strings.HasSuffix(line, "// indirect") {
			continue
		}
		module, _, _ := strings.Cut(line, " ")
		if !strings.Contains(string(doc), "| `"+module+"` |") {
			t.Errorf("docs/dependencies.md has no line for %s", module)
		}
	}
}
