package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// verdict prints what was found.
func (r *run) verdict() error {
	r.h.mu.Lock()
	counts, classes, gap := maps.Clone(r.h.mu.counts), maps.Clone(r.h.mu.classes), r.h.mu.gap
	r.h.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		r.say("%8d %s", counts[what], what)
	}
	problems := r.h.problems()
	r.say("%d keys checked, %d too hard to decide; at most %s without an acknowledged write", r.checked.Load(), r.tooLong.Load(), gap.Round(time.Millisecond))
	for _, p := range problems {
		r.say("FAULT: %s", p)
	}
	found := 0
	for _, class := range slices.Sorted(maps.Keys(classes)) {
		r.say("%8d faults of %s", classes[class], class)
		found += classes[class]
	}
	switch {
	case r.planted != "" && len(problems) > 0:
		r.say("the planted fault was found")
		return nil
	case r.planted != "":
		return errors.New("the planted fault was not found")
	case len(problems) > 0:
		return fmt.Errorf("%d faults found with seed %d", found, r.seed)
	}
	r.say("no fault found")
	return nil
}
