package e2e_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"
)

var (
	long   = flag.Bool("long", false, "run each test at full length and size")
	rounds = flag.Int("rounds", 0, "how often the kill test kills (default: 36, or 300 with -long)")
	seed   = flag.Uint64("seed", 0, "seed of what is random (default: from the clock)")
)

// binary is the program under test, built once by TestMain; constant after that.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	// Tests wait for clusters more than they work.
	if p := flag.Lookup("test.parallel"); p.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		if err := p.Value.Set(strconv.Itoa(2 * runtime.GOMAXPROCS(0))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "nearsql-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "nearsql")
	cmd := exec.Command("go", "build", "-o", binary, "../../cmd/nearsql")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// newRand gives a test its random numbers, and says how to have them again.
func newRand(t *testing.T) *rand.Rand {
	t.Helper()
	t.Logf("to repeat: -seed %d", *seed)
	return rand.New(rand.NewPCG(*seed, 1))
}
