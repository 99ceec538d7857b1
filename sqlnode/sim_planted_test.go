package sqlnode

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestSimulationFinds holds that the checks of TestSimulation find what is wrong: each run has a fault of the product planted.
func TestSimulationFinds(t *testing.T) {
	late := []string{"too old"}
	deposed := []string{"isolation", "deafness", "freeze", "leadership moved"}
	for _, c := range []struct {
		name     string
		replicas int
		aim      string
		weak     time.Duration
		plant    simPlant
		only     []string
		want     []string // one of them
	}{
		{"reads that don't ask the voters", 0, "", 0, simPlant{unconfirmed: true}, deposed, []string{"not linearizable"}},
		{"strong reads of any age", 0, "", 0, simPlant{weak: true}, deposed, []string{"not linearizable"}},
		{"bounds that are not kept", 0, "", 300 * time.Millisecond, simPlant{young: true}, []string{"isolation", "deafness", "freeze"}, late},
		{"freshness from the primary's wall clock", 2, "r1", 300 * time.Millisecond, simPlant{theirs: true}, []string{"isolation", "deafness", "streams held"}, late},
		{"replicas whose feeders don't ask the voters", 2, "feeder", 300 * time.Millisecond, simPlant{unasked: true}, []string{"cut from voters"}, late},
		{"relays that don't ask their feeders", 3, "", 300 * time.Millisecond, simPlant{believing: true}, []string{"replicas apart"}, late},
		{"one clock that stands still with the machine", 2, "r1", time.Second, simPlant{standing: true}, []string{"suspension"}, late},
		{"bookmarks that are not looked at", 0, "", 0, simPlant{unmarked: true}, []string{"isolation", "deafness"}, []string{"the bookmark had seen"}},
		{"repeats that happen twice", 0, "", 0, simPlant{unkeyed: true}, []string{"freeze", "isolation", "kill"}, []string{"more than once", "not linearizable"}},
		{"transactions that are seen by halves", 0, "", 0, simPlant{torn: true}, []string{"isolation"}, []string{"half of a transaction"}},
		{"local writes that are on disk later", 0, "", 0, simPlant{forgetful: true}, []string{"kill"}, []string{"it has acknowledged"}},
		{"a log that is not synced", 0, "", 0, simPlant{unsynced: true}, []string{"power loss of all"}, []string{"is lost", "not linearizable", "does not start again", "ended by itself", "come to rest", "NO_SUCH_TENANT"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= 40; seed++ {
				found, tally := "", ""
				sites, clients := c.plant.torn || c.plant.forgetful, 6+2*c.replicas
				if sites {
					clients = 0
				}
				shape := simShape{}
				if c.replicas > 0 && (c.plant.believing || seed%2 == 0) {
					shape = simShape{1, 1 + int(seed/2%2)}
				}
				synctest.Test(t, func(t *testing.T) {
					w := newSimWorld(t, simOptions{seed: seed, nodes: 3, replicas: c.replicas, shape: shape, clients: clients, sites: sites, lasts: 20 * time.Second, faults: true, only: c.only, aim: c.aim, weak: c.weak, plant: c.plant})
					for _, wrong := range w.run() {
						first, _, _ := strings.Cut(wrong, "\n")
						for _, want := range c.want {
							if strings.Contains(wrong, want) && found == "" {
								found = first
							}
						}
					}
					tally = w.tally()
				})
				if testing.Verbose() && found == "" {
					t.Logf("seed %d finds nothing: %s", seed, tally)
				}
				if found != "" {
					t.Logf("seed %d: %.200s", seed, found)
					return
				}
			}
			t.Error("not found")
		})
	}
}
