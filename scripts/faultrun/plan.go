package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// fault is one thing that is done to the cluster, and undone.
type fault struct {
	what  what
	at    time.Duration // since the start of the faults
	until time.Duration
	a, b  int // places of nodes; thePrimary for the one that is then
}

// thePrimary stands for the node that is the primary of the default group when a fault begins.
const thePrimary = -1

// what is a kind of fault.
type what int

// The faults.
const (
	kill      what = iota // a by SIGKILL; started again at the end
	killAll               // all
	pause                 // a by SIGSTOP, SIGCONT
	cut                   // a and b hear nothing from each other
	cutOneWay             // b hears nothing from a
	isolate               // a and all others
	deafen                // a hears nothing from any other
	move                  // leadership to a
	restart               // a by SIGTERM, and at once again
	killApart             // a is cut off from all others, then killed, and started again before it hears of them
	faults                // the number of them
)

func (w what) String() string {
	return [...]string{"kill", "kill all", "pause", "cut", "cut one way", "isolate", "deafen", "move leadership", "restart", "kill apart"}[w]
}

func (f fault) String() string {
	node := func(i int) string {
		if i == thePrimary {
			return "the primary"
		}
		return fmt.Sprintf("n%d", i+1)
	}
	return fmt.Sprintf("%7.1fs to %7.1fs: %s %s %s", f.at.Seconds(), f.until.Seconds(), f.what, node(f.a), node(f.b))
}

// weights say how often each fault comes.
type weights [faults]int

// usual are the weights for so many nodes.
func usual(nodes int) weights {
	if nodes == 1 {
		return weights{kill: 3, pause: 1, restart: 1}
	}
	return weights{kill: 5, killAll: 1, pause: 3, cut: 2, cutOneWay: 3, isolate: 3, deafen: 1, move: 3, restart: 2, killApart: 2}
}

// only keeps the faults of a list of names with commas between.
func (w weights) only(names string) (weights, error) {
	var kept weights
	for name := range strings.SplitSeq(names, ",") {
		i := -1
		for f := range faults {
			if f.String() == name && w[f] > 0 {
				i = int(f)
			}
		}
		if i < 0 {
			return kept, fmt.Errorf("there is no fault %q for so many nodes", name)
		}
		kept[i] = w[i]
	}
	return kept, nil
}

// plan makes up the faults of a run. Most begin when those before have ended; one in four does not wait.
func plan(rng *rand.Rand, weights weights, nodes int, duration time.Duration) []fault {
	total := 0
	for _, w := range weights {
		total += w
	}
	var list []fault
	for at := between(rng, 500*time.Millisecond, 1500*time.Millisecond); ; {
		f := fault{at: at}
		n := rng.IntN(total)
		for n >= weights[f.what] {
			n -= weights[f.what]
			f.what++
		}
		f.a = rng.IntN(nodes)
		if nodes > 1 {
			f.b = (f.a + 1 + rng.IntN(nodes-1)) % nodes
		}
		if f.what != move && f.what != killAll && rng.IntN(2) == 0 {
			f.a = thePrimary
		}
		f.until = f.at + between(rng, 300*time.Millisecond, 4*time.Second)
		switch f.what {
		case move, restart:
			f.until = f.at
		}
		if f.until > duration {
			return list
		}
		list = append(list, f)
		if rng.IntN(4) > 0 {
			at = f.until
		}
		at += between(rng, 200*time.Millisecond, 2500*time.Millisecond)
	}
}

func between(rng *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(rng.Int64N(int64(most-least)))
}
