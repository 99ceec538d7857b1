package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nearsql/nearsql/crr"
)

// columns is how many changes a whole row is.
const columns = 3

// mergeKinds are the batches that are merged, with the ends of their figures' names.
var mergeKinds = [...]struct {
	name, sql string
	changes   int // in a row
	what      string
}{
	{"", insertRow, columns, "rows that are new"},
	{"_newer", updateRow, columns, "newer values of all three columns of rows that are there"},
	{"_cell", updateCell, 1, "a newer value of one column of rows that are there"},
}

// merged is one batch.
type merged struct {
	rate  float64 // changes a second
	bytes float64 // on the wire, a change
}

// merge measures the merging of batches, beside cr-sqlite's if it is installed.
func (b *bench) merge(ctx context.Context) error {
	var ours [len(mergeKinds)][]float64
	var wire [len(mergeKinds)]float64
	var theirs [2][]float64
	for range rounds {
		ms, err := b.mergeRound()
		if err != nil {
			return err
		}
		for i, m := range ms {
			ours[i], wire[i] = append(ours[i], m.rate), m.bytes
		}
		if b.crsqlite == "" {
			continue
		}
		rates, err := crsqliteRound(ctx, b.crsqlite, b.merged)
		if err != nil {
			return err
		}
		for i, r := range rates {
			theirs[i] = append(theirs[i], r)
		}
	}
	for i, k := range mergeKinds {
		b.say("merge of %s: %.0f rows a second, %.1f bytes a change on the wire", k.what, median(ours[i])/float64(k.changes), wire[i])
		b.figure("crr_merge"+k.name, median(ours[i]), "per_s")
	}
	b.figure("crr_wire_bytes_change", wire[0], "B")
	if b.crsqlite == "" {
		b.say("cr-sqlite could not be installed by npm: not compared")
		return nil
	}
	for i, name := range []string{"crr_merge_vs_crsqlite", "crr_merge_newer_vs_crsqlite"} {
		var x []float64
		for r := range theirs[i] {
			x = append(x, ours[i][r]/theirs[i][r])
		}
		b.say("cr-sqlite 0.16 in WebAssembly, in memory, %s: %.0f changes a second", mergeKinds[i].what, median(theirs[i]))
		b.figure(name, median(x), "x")
	}
	return nil
}

// mergeRound writes at one site and merges each kind of batch at another.
func (b *bench) mergeRound() (out [len(mergeKinds)]merged, err error) {
	from, err := open(b.path(b.memory), 1, "normal")
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, from.close()) }()
	to, err := open(b.path(b.memory), 2, "normal")
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, to.close()) }()
	for i, k := range mergeKinds {
		if err := from.write(k.sql, 0, b.merged); err != nil {
			return out, err
		}
		frames, bytes, err := from.answer(to)
		if err != nil {
			return out, err
		}
		start := time.Now()
		r, err := to.receive(frames)
		took := time.Since(start)
		if err != nil {
			return out, err
		}
		if r.Outcome != crr.Applied || r.Rows != b.merged {
			return out, fmt.Errorf("a batch of %d rows: %v of %d rows", b.merged, r.Outcome, r.Rows)
		}
		changes := float64(b.merged * k.changes)
		out[i] = merged{changes / took.Seconds(), float64(bytes) / changes}
	}
	return out, nil
}

// answer makes the batch that to lacks.
func (f *file) answer(to *file) (frames [][]byte, bytes int, err error) {
	me := f.site.Identity()
	err = f.read.Answer(to.site.Request(me.Site, me.File), func(frame []byte) error {
		frames, bytes = append(frames, append([]byte(nil), frame...)), bytes+len(frame)
		return nil
	})
	return frames, bytes, err
}

func (f *file) receive(frames [][]byte) (r crr.Received, err error) {
	for _, frame := range frames {
		if r, err = f.site.Receive(frame); err != nil {
			return r, err
		}
	}
	return r, nil
}
