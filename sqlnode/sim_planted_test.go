package sqlnode

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestSimulationFinds holds that the checks of TestSimulation find what is wrong: each run has a fault of the product planted.
func TestSimulationFinds(t *testing.T) {
	deposed := []string{"isolation", "deafness", "freeze", "leadership moved"}
	for _, c := range []struct {
		name  string
		plant simPlant
		only  []string
		want  []string // one of them
	}{
		{"reads that don't ask the voters", simPlant{unconfirmed: true}, deposed, []string{"not linearizable"}},
		{"strong reads of any age", simPlant{weak: true}, deposed, []string{"not linearizable"}},
		{"bounds that are not kept", simPlant{young: true}, []string{"isolation", "deafness", "freeze"}, []string{"too old"}},
		{"bookmarks that are not looked at", simPlant{unmarked: true}, []string{"isolation", "deafness"}, []string{"the bookmark had seen"}},
		{"repeats that happen twice", simPlant{unkeyed: true}, []string{"freeze", "isolation", "kill"}, []string{"more than once", "not linearizable"}},
		{"a log that is not synced", simPlant{unsynced: true}, []string{"power loss of all"}, []string{"is lost", "not linearizable", "does not start again", "ended by itself", "come to rest", "NO_SUCH_TENANT"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= 15; seed++ {
				found := ""
				synctest.Test(t, func(t *testing.T) {
					w := newSimWorld(t, simOptions{seed: seed, nodes: 3, clients: 6, lasts: 20 * time.Second, faults: true, only: c.only, plant: c.plant})
					for _, wrong := range w.run() {
						first, _, _ := strings.Cut(wrong, "\n")
						for _, want := range c.want {
							if strings.Contains(wrong, want) && found == "" {
								found = first
							}
						}
					}
				})
				if found != "" {
					t.Logf("seed %d: %.200s", seed, found)
					return
				}
			}
			t.Error("not found")
		})
	}
}
