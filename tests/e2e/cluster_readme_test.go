package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// blocks are the indented blocks of a section of a document, a command per element; lines that end with a backslash
// go on in the next.
func blocks(t *testing.T, file, section string) [][]string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "\n## "+section+"\n")
	if !ok {
		t.Fatalf("%s has no section %q", file, section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	text = strings.ReplaceAll(text, "\\\n", "")
	var list [][]string
	inside := false
	for line := range strings.Lines(text) {
		command, indented := strings.CutPrefix(strings.TrimRight(line, "\n"), "    ")
		if indented && !inside {
			list = append(list, nil)
		}
		if inside = indented; indented {
			list[len(list)-1] = append(list[len(list)-1], command)
		}
	}
	return list
}

// TestReadmeCluster runs the commands of README.md that make a cluster, as they stand there but for the ports.
func TestReadmeCluster(t *testing.T) {
	t.Parallel()
	all := blocks(t, "../../README.md", "Three nodes in a minute")
	if len(all) != 4 {
		t.Fatalf("the section has %d blocks, want 4: certificates, nodes, commands, commands without the first node", len(all))
	}
	dir := t.TempDir()
	if err := os.Symlink(binary, filepath.Join(dir, "nearsql")); err != nil {
		t.Fatal(err)
	}
	ports := map[string]string{}
	replaced := func(command string) string {
		return regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllStringFunc(command, func(addr string) string {
			if ports[addr] == "" {
				ports[addr] = freePort(t)
			}
			return ports[addr]
		})
	}
	try := func(command string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), soonMax)
		defer cancel()
		cmd := exec.CommandContext(ctx, "sh", "-c", replaced(command))
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%s: %w\n%s", command, err, out)
		}
		return string(out), err
	}
	run := func(command string) string {
		t.Helper()
		out, err := try(command)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, command := range all[0] {
		run(command)
	}
	var nodes []*exec.Cmd
	for i, command := range all[1] {
		if !strings.HasPrefix(command, "./nearsql serve ") {
			t.Fatalf("%q runs no node", command)
		}
		cmd := exec.Command("sh", "-c", "exec "+replaced(command))
		cmd.Dir, cmd.SysProcAttr = dir, childAttr()
		log := filepath.Join(t.TempDir(), "log")
		f, err := os.Create(log)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.Stdout, cmd.Stderr = f, f
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if b, err := os.ReadFile(log); t.Failed() {
				t.Logf("log of node %d (%v):\n%s", i+1, err, b)
			}
		})
		nodes = append(nodes, cmd)
		eventually(t, startMax, "the node of "+command+" serves", func() error {
			b, err := os.ReadFile(log)
			if err == nil && !strings.Contains(string(b), "nearsql serves at ") {
				err = errors.New("it does not say so")
			}
			return err
		})
	}
	eventually(t, settleMax, "all three are voters", func() error {
		if out := run(all[2][0]); strings.Count(out, "n1 n2 n3") != 2 {
			return errors.New(out)
		}
		return nil
	})
	var out string
	for _, command := range all[2] {
		out = run(command)
	}
	if !strings.Contains(out, "lamp") {
		t.Errorf("the last command at three nodes prints\n%s", out)
	}
	if err := nodes[0].Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var outs []string
	for _, command := range all[3] {
		// What is on its way to the node that is killed has an unknown outcome; users ask again.
		eventually(t, electMax, command, func() error {
			out, err := try(command)
			outs = append(outs, out)
			return err
		})
	}
	if !slices.ContainsFunc(outs, func(o string) bool { return strings.Contains(o, "lamp") && strings.Contains(o, "chair") }) {
		t.Errorf("at two nodes the commands print\n%s", strings.Join(outs, "\n"))
	}
}
