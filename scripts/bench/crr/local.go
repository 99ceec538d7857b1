package main

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// pair is a plain file and one of conflict-free tables.
type pair struct{ plain, crr *file }

func (b *bench) pair(dir, sync string) (p pair, err error) {
	if p.plain, err = open(b.path(dir), 0, sync); err != nil {
		return p, err
	}
	if p.crr, err = open(b.path(dir), 1, sync); err != nil {
		return p, errors.Join(err, p.plain.close())
	}
	return p, nil
}

func (p pair) close() error { return errors.Join(p.plain.close(), p.crr.close()) }

// verbs are the statements that are compared, with the ends of their figures' names.
var verbs = [...]struct{ name, sql string }{{"insert", insertRow}, {"update", updateCell}, {"delete", deleteRow}}

// The places of verbs.
const (
	inserts = iota
	updates
	deletes
)

// cost is what one transaction takes, or a sum of such.
type cost struct {
	wall, cpu time.Duration // cpu is of the whole process
}

// turns runs a statement for some rows in one transaction, n times on each side, in turns.
func (p pair) turns(ctx context.Context, sql string, from, n, rows int) (costs [2][]cost, err error) {
	for i := range n {
		for side := range 2 {
			side = (side + i) % 2
			start, cpu := time.Now(), cpuTime()
			if err := [...]*file{p.plain, p.crr}[side].write(sql, from+i*rows, rows); err != nil {
				return costs, err
			}
			costs[side] = append(costs[side], cost{time.Since(start), cpuTime() - cpu})
		}
		if ctx.Err() != nil {
			return costs, ctx.Err()
		}
	}
	return costs, nil
}

// typical is the median of costs by the clock, in microseconds a row, the lower quartile of those in CPU time, and the mean by the clock. CPU time
// is what others on a shared machine make longer, by its caches, and never shorter: so it is taken from the quieter slices of both sides.
func typical(costs []cost, rows int) (wall, cpu, mean float64) {
	var walls, cpus []float64
	for _, c := range costs {
		w := float64(c.wall.Nanoseconds()) / 1e3 / float64(rows)
		walls, cpus = append(walls, w), append(cpus, float64(c.cpu.Nanoseconds())/1e3/float64(rows))
		mean += w / float64(len(costs))
	}
	return median(walls), quantile(cpus, 0.25), mean
}

// compared are ratios of the tracked side to the plain one, of each verb.
type compared struct {
	wall, cpu [len(verbs)]float64
}

// compare measures inserts and updates in three rounds, and then deletes of all these rows: the ratio of the typical transactions of each, and the
// median of these.
func (b *bench) compare(ctx context.Context, p pair, what string, n, rows int) (c compared, err error) {
	var wall, cpu [len(verbs)][]float64
	for _, turn := range [][]int{{inserts, updates}, {deletes}} {
		for r := range rounds {
			for _, v := range turn {
				costs, err := p.turns(ctx, verbs[v].sql, r*n*rows, n, rows)
				if err != nil {
					return c, err
				}
				pw, pc, pm := typical(costs[0], rows)
				cw, cc, cm := typical(costs[1], rows)
				wall[v], cpu[v] = append(wall[v], cw/pw), append(cpu[v], cc/pc)
				b.say("%s, round %d, %s: plain %.2f us a row (CPU %.2f, mean %.2f), conflict-free %.2f us (CPU %.2f, mean %.2f)", what, r+1, verbs[v].name, pw, pc, pm, cw, cc, cm)
			}
		}
	}
	for v := range verbs {
		c.wall[v], c.cpu[v] = median(wall[v]), median(cpu[v])
	}
	return c, nil
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// local measures what tracking costs.
func (b *bench) local(ctx context.Context) error {
	bulk, err := b.comparePair(ctx, "10,000 rows a transaction", b.dir, "normal", b.slices, b.rows)
	if err != nil {
		return err
	}
	// Nothing waits here, so CPU time is what it takes on a machine at rest.
	b.figure("crr_bulk_vs_plain", max(bulk.cpu[inserts], bulk.cpu[updates]), "x")
	for v, verb := range verbs {
		b.figure("crr_bulk_"+verb.name+"_vs_plain", bulk.cpu[v], "x")
		b.figure("crr_bulk_"+verb.name+"_wall_vs_plain", bulk.wall[v], "x")
	}
	if err := b.metadata(); err != nil {
		return err
	}
	synced, err := b.comparePair(ctx, "one row a transaction, synced", b.dir, "full", b.fsyncs, 1)
	if err != nil {
		return err
	}
	b.figure("crr_write_fsync_vs_plain", max(synced.wall[inserts], synced.wall[updates]), "x")
	for v, verb := range verbs {
		b.figure("crr_write_fsync_"+verb.name+"_vs_plain", synced.wall[v], "x")
	}
	return nil
}

// comparePair is compare on a new pair of files.
func (b *bench) comparePair(ctx context.Context, what, dir, sync string, n, rows int) (c compared, err error) {
	p, err := b.pair(dir, sync)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	return b.compare(ctx, p, what, n, rows)
}

func (p pair) sizes() (s [2]int64, err error) {
	for i, f := range []*file{p.plain, p.crr} {
		if s[i], err = f.size(); err != nil {
			return s, err
		}
	}
	return s, nil
}

// metadata measures what tracking adds to the file for each row.
func (b *bench) metadata() (err error) {
	p, err := b.pair(b.memory, "off")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	before, err := p.sizes()
	if err != nil {
		return err
	}
	const rows = 50_000
	extra := func(sql string) (float64, error) {
		if err := errors.Join(p.plain.write(sql, 0, rows), p.crr.write(sql, 0, rows)); err != nil {
			return 0, err
		}
		after, err := p.sizes()
		return float64(after[1]-before[1]-(after[0]-before[0])) / rows, err
	}
	x, err := extra(insertRow)
	if err != nil {
		return err
	}
	b.figure("crr_meta_bytes_row", x, "B")
	if x, err = extra(updateCell); err == nil {
		b.say("after one cell of each row was updated the file has %.1f bytes a row more than the plain one", x)
	}
	return err
}
