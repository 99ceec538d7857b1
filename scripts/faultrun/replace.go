package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"github.com/nearsql/nearsql/scripts/localcluster"
)

// Times of replacements.
const (
	replaceFirst = 8 * time.Second // after the start of the faults
	replaceEvery = 2 * time.Minute
	replaceMax   = 90 * time.Second // until the group has other voters, faults and all
)

// spares is how many nodes a run of so long may need.
func spares(d time.Duration) int { return min(1+int(d/replaceEvery), 8) }

// replaceNodes kills a voter for good, has another node take its place, and removes it with one command, again and again, while everything goes on.
func (r *run) replaceNodes(ctx context.Context, j *injector) {
	for wait := replaceFirst; sleep(ctx, wait); wait = replaceEvery {
		if err := r.replaceOne(ctx, j); err != nil {
			r.h.complain("membership", "%v", err)
			return
		}
	}
}

func (r *run) replaceOne(ctx context.Context, j *injector) error {
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.bound(replaceMax))
	defer cancel()
	var g localcluster.Group
	if err := r.c.Await(late, func() (err error) {
		g, err = r.c.DefaultGroup(late)
		return err
	}); err != nil {
		return fmt.Errorf("who votes in the default group: %w", err)
	}
	place := -1
	for _, id := range g.Voters {
		if id != g.Primary || place < 0 {
			place = r.roster.place(id)
		}
	}
	by := r.roster.spare()
	if place < 0 || by == nil {
		return nil
	}
	// The place is locked, so that no other fault starts the dead one again.
	j.nodes[place].Lock()
	dead := r.roster.at(place)
	dead.Resume()
	dead.Kill()
	err := by.Start(late)
	r.roster.replace(place, by)
	j.nodes[place].Unlock()
	r.say("          node %s is dead, and %s takes its place", dead.ID, by.ID)
	if err != nil {
		return fmt.Errorf("start node %s: %w", by.ID, err)
	}
	began := time.Now()
	var out []byte
	tried := false
	if err := r.c.Await(late, func() error {
		// Through another node if the one that was asked is killed meanwhile.
		for _, m := range r.roster.all() {
			if !m.Running() || m.Paused() {
				continue
			}
			one, cancel := context.WithTimeout(late, removeMax)
			var err error
			out, err = exec.CommandContext(one, r.binary, "node", "remove", dead.ID, "--yes", "--data-dir", m.Dir, "--url", m.URL(), "--timeout", removeMax.String()).CombinedOutput()
			cancel()
			var exit *exec.ExitError
			if err == nil || tried && errors.As(err, &exit) && exit.ExitCode() == exitNoSuch {
				return nil
			}
			tried = true // and may have been heard, whatever became of the answer
		}
		return fmt.Errorf("nearsql node remove %s --yes: %s", dead.ID, out)
	}); err != nil {
		return err
	}
	err = r.c.Await(late, func() error {
		g, err := r.c.DefaultGroup(late)
		if err != nil {
			return err
		}
		if len(g.Voters) != 3 || slices.Contains(g.Voters, dead.ID) || g.Primary == "" {
			return fmt.Errorf("after %s was removed, the group has voters %v and primary %q", dead.ID, g.Voters, g.Primary)
		}
		return nil
	})
	if err == nil {
		r.h.count("nodes replaced")
		r.say("          node %s was removed after %s", dead.ID, time.Since(began).Round(time.Millisecond))
	}
	return err
}

// removeMax bounds one run of the command, and exitNoSuch is its exit code for a node that the cluster does not know, or no more.
const (
	removeMax  = 20 * time.Second
	exitNoSuch = 3
)
