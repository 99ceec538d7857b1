package crr

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TESTING.md names a test for each property, tests that exist, and every planted fault.
func TestPropertiesHaveTests(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	var source strings.Builder
	for _, pattern := range []string{"*_test.go", "crrtest/*_test.go", "exchange/*_test.go", "../schema/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			source.WriteString(read(f))
		}
	}
	doc := read("TESTING.md")
	table, faults, found := strings.Cut(doc, "## Mutants")
	if !found {
		t.Fatal("TESTING.md has no section of mutants")
	}
	for p := 1; p <= 19; p++ {
		line := regexp.MustCompile(fmt.Sprintf(`(?m)^.*\bP%d\b.*$`, p)).FindString(table)
		if line == "" || !strings.Contains(line, "Test") && !strings.Contains(line, "Reader.Check") && !strings.Contains(line, "there are not yet") {
			t.Errorf("P%d has no test in TESTING.md: %q", p, line)
		}
	}
	for _, name := range regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`).FindAllString(doc, -1) {
		if !strings.Contains(source.String(), "func "+name+"(") {
			t.Errorf("TESTING.md names %s, which there is not", name)
		}
	}
	planted := regexp.MustCompile(`(?m)^\t\{"([^"]+)", "([a-z]+\.go)"`).FindAllStringSubmatch(read("mutants_test.go"), -1)
	if len(planted) < 20 {
		t.Errorf("%d faults are planted", len(planted))
	}
	for _, m := range planted {
		if !strings.Contains(faults, "| "+m[1]+" | "+m[2]+" |") {
			t.Errorf("the fault %q in %s is not in TESTING.md", m[1], m[2])
		}
	}
}
