package crrfiles

import (
	"context"
	"time"

	"github.com/nearsql/nearsql/crr"
)

const (
	// collectEvery is how often an open file is looked at for tombstones that all sites have. A look costs nothing when nobody has acknowledged
	// anything since the newest.
	collectEvery = 15 * time.Second
	// collectRows is how many rows of metadata one turn reads: some milliseconds.
	collectRows = 4096
	// collectRest is how many times as long as a turn took the file is left alone after it.
	collectRest = 20
)

// collect drops tombstones of open files until ctx ends, one file at a time, in turns that are short and apart.
func (m *Manager) collect(ctx context.Context) {
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, f := range m.list() {
			if err := f.sweep(ctx); err != nil && ctx.Err() == nil {
				m.cfg.Log.Warn("tombstones of conflict-free tables stay for now", "id", f.id, "error", err)
			}
		}
	}
}

// sweep makes a pass over the file.
func (f *File) sweep(ctx context.Context) error {
	for f.open.Load() && f.failed.Load() == nil {
		var got crr.Collected
		began := time.Now()
		err := f.write(ctx, false, func(w *Writer) (err error) {
			began = time.Now()
			got, err = w.Site.Sweep(collectRows)
			return err
		})
		if err != nil {
			return err
		}
		f.m.Stats.Tombstones.Add(int64(got.Tombstones))
		f.m.Stats.Forgotten.Add(int64(got.Forgotten))
		if !got.More {
			return nil
		}
		rest := time.NewTimer(max(collectRest*time.Since(began), time.Millisecond))
		select {
		case <-ctx.Done():
			rest.Stop()
			return ctx.Err()
		case <-rest.C:
		}
	}
	return nil
}
