package e2e_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestFaultRun is scripts/fault-run for half a minute: a cluster with a replica under faults, and a voter replaced.
func TestFaultRun(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("takes half a minute, and cuts connections as only Linux lets it")
	}
	t.Parallel()
	program := filepath.Join(t.TempDir(), "fault-run")
	build := exec.Command("go", "build", "-o", program, "../../scripts/faultrun")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 9*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "--nearsql", binary, "--quick", "--patience", "4").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "nodes replaced") || !strings.Contains(string(out), "no fault found") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
