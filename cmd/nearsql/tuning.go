package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"github.com/nearsql/nearsql/sqlnode"
	"github.com/nearsql/nearsql/tenant"
)

// tuning is what serve's flags say about a node's disk. A field of zero leaves
// it to the node.
type tuning struct {
	MinFreeSpace    int64 // bytes; negative for none
	CheckpointBytes int64
	CheckpointAge   time.Duration
	LTXBytes        int64
	LTXAge          time.Duration
	ScrubEvery      time.Duration
	CRRRetireAfter  time.Duration // negative for never
}

// tuningFlags are for disks that are small, slow, or shared.
func tuningFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "min-free-space", Usage: "refuse writes below `BYTES` of free disk, as 256MiB; 0 for never", Value: "256MiB", EnvVars: []string{"NEARSQL_MIN_FREE_SPACE"}},
		&cli.StringFlag{Name: "checkpoint-bytes", Usage: "checkpoint a group after `BYTES` of log, at least 1MiB", Value: "128MiB", EnvVars: []string{"NEARSQL_CHECKPOINT_BYTES"}},
		&cli.DurationFlag{Name: "checkpoint-age", Usage: "checkpoint a group `DURATION` after a change", Value: time.Minute, EnvVars: []string{"NEARSQL_CHECKPOINT_AGE"}},
		&cli.StringFlag{Name: "ltx-bytes", Usage: "compact `BYTES` of checkpoints to LTX files", Value: "64MiB", EnvVars: []string{"NEARSQL_LTX_BYTES"}},
		&cli.DurationFlag{Name: "ltx-age", Usage: "compact checkpoints to LTX files after `DURATION`", Value: time.Hour, EnvVars: []string{"NEARSQL_LTX_AGE"}},
		&cli.DurationFlag{Name: "scrub-every", Usage: "read and check all pages at rest every `DURATION`, at a gentle rate", Value: 24 * time.Hour, EnvVars: []string{"NEARSQL_SCRUB_EVERY"}},
		&cli.DurationFlag{Name: "crr-retire-after", Usage: "retire a site of conflict-free tables that nobody has heard of for `DURATION`; 0 for never", Value: 7 * 24 * time.Hour, EnvVars: []string{"NEARSQL_CRR_RETIRE_AFTER"}},
	}
}

// minCheckpointBytes is what a checkpoint is worth at least, in bytes of log.
const minCheckpointBytes = 1 << 20

// minScrubEvery is how often all pages may be read at most.
const minScrubEvery = time.Second

// minRetireAfter is how soon a silent site may be retired: a node that is started anew is silent for longer than that by nobody's fault.
const minRetireAfter = 10 * time.Minute

func readTuning(c *cli.Context) (t tuning, err error) {
	for _, f := range []struct {
		name string
		to   *int64
		min  int64
	}{
		{"min-free-space", &t.MinFreeSpace, 0}, {"checkpoint-bytes", &t.CheckpointBytes, minCheckpointBytes}, {"ltx-bytes", &t.LTXBytes, 1},
	} {
		n, err := tenant.ParseCount(c.String(f.name))
		if err != nil {
			return t, usagef("--%s: %v", f.name, err)
		}
		if n < f.min {
			return t, usagef("--%s: %d is too small, want at least %d", f.name, n, f.min)
		}
		*f.to = n
	}
	if t.MinFreeSpace == 0 {
		t.MinFreeSpace = -1 // the node's 0 is its default
	}
	t.CheckpointAge, t.LTXAge, t.ScrubEvery = c.Duration("checkpoint-age"), c.Duration("ltx-age"), c.Duration("scrub-every")
	if t.CRRRetireAfter = c.Duration("crr-retire-after"); t.CRRRetireAfter == 0 {
		t.CRRRetireAfter = -1 // the node's 0 is its default
	} else if t.CRRRetireAfter < minRetireAfter {
		return t, usagef("--crr-retire-after: %s is too short, want at least %s, or 0 for never", t.CRRRetireAfter, minRetireAfter)
	}
	switch {
	case t.CheckpointAge <= 0:
		return t, usagef("--checkpoint-age: %s is not above 0", t.CheckpointAge)
	case t.LTXAge <= 0:
		return t, usagef("--ltx-age: %s is not above 0", t.LTXAge)
	case t.ScrubEvery < minScrubEvery:
		return t, usagef("--scrub-every: %s is too short, want at least %s", t.ScrubEvery, minScrubEvery)
	}
	return t, nil
}

// apply gives the node's configuration what the flags say.
func (t tuning) apply(cfg *sqlnode.Config) {
	cfg.MinFreeSpace = t.MinFreeSpace
	cfg.CheckpointBytes, cfg.CheckpointAge = t.CheckpointBytes, t.CheckpointAge
	cfg.LTXBytes, cfg.LTXAge = t.LTXBytes, t.LTXAge
	cfg.ScrubEvery, cfg.CRRRetireAfter = t.ScrubEvery, t.CRRRetireAfter
}
