package copies

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/disk/disktest"
)

var long = flag.Bool("long", false, "crash at every operation")

// TestCrash crashes and fails at the operations of a node that fetches its hollow tenants: afterwards each tenant is whole or waits for
// a copy, and ends as the others have it.
func TestCrash(t *testing.T) {
	bubble(t, 2, func(t *testing.T, f *fleet) {
		first, last := f.nodes[0], f.passed()
		f.exec(3, "insert into t values(2)")
		synctest.Wait()
		last.stop()
		image := last.fs.Kill()
		life := func(fs *disktest.MemFS, faults *disktest.Faults) {
			last.fs, last.disk = fs, faults
			if last.start() != nil {
				return
			}
			last.fetcher.cfg.Parallel = 1
			stop := last.fetch()
			time.Sleep(10 * time.Second)
			stop()
			last.stop()
		}
		fs := image.Clone()
		faults := disktest.NewFaults(fs)
		life(fs, faults)
		ops := faults.Count()
		if ops < 30 {
			t.Fatalf("%d operations", ops)
		}
		t.Logf("%d operations", ops)
		stride := 4
		if *long {
			stride = 1
		}
		for n := 1 + rand.IntN(stride); n <= ops; n += stride {
			for _, tear := range []bool{false, true} {
				fs := image.Clone()
				faults := disktest.NewFaults(fs)
				if tear {
					faults.TearNth(n)
				} else {
					faults.CrashNth(n)
				}
				life(fs, faults)
				seed := rand.Uint64()
				for name, after := range map[string]*disktest.MemFS{"kill": fs.Kill(), "power loss, durable only": fs.Crash(nil),
					"power loss": fs.Crash(rand.New(rand.NewPCG(seed, 1)))} {
					what := fmt.Sprintf("operation %d of %d, tear %v, seed %d, %s", n, ops, tear, seed, name)
					last.fs, last.disk = after, after
					if err := last.start(); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					stop := last.fetch()
					last.healed(time.Minute)
					stop()
					for i := 1; i <= 4; i++ {
						f.same(first, last, i)
					}
					last.restart(after.Kill())
					if len(last.g.Ailing()) > 0 {
						t.Fatalf("%s: after a restart: %+v", what, last.g.Ailing()[0])
					}
					for i := 1; i <= 4; i++ {
						f.same(first, last, i)
					}
					last.stop()
				}
			}
		}
	})
}
