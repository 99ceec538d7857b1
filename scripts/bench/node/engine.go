package main

import (
	"errors"
	"fmt"

	"github.com/nearsql/nearsql/scripts/bench/figures"
)

// engine compares the engine with plain SQLite, in turns.
func (b *bench) engine() (err error) {
	names := []string{"nearsql", "sqlite-off", "nearsql-apart", "sqlite-normal", "sqlite-full"}
	workers := map[string]*worker{}
	defer func() {
		for _, w := range workers {
			err = errors.Join(err, w.stop())
		}
	}()
	for _, n := range names {
		dir, err := b.subdir(n)
		if err != nil {
			return err
		}
		if workers[n], err = startWorker(b.ctx, n, dir); err != nil {
			return err
		}
	}
	b.Say("engine: one-row inserts into a table with an index, and point reads among %d rows; rates are per second", readRows)
	for _, n := range names { // the first turn warms up, and counts for nothing
		for _, t := range []task{{Clients: 1, N: 500}, {Read: true, Clients: 2, N: 2000}} {
			if _, _, err := workers[n].do(t); err != nil {
				return err
			}
		}
	}
	for _, c := range []struct {
		figure  string
		clients int
		also    string // another name for the figure
		apart   string // the figure with a log that answers as pagestore.Log demands
	}{
		{"engine_insert1_vs_wal_off", 1, "engine_insert_vs_wal_off", "engine_insert1_apart_vs_wal_off"},
		{"engine_insert16_vs_wal_off", 16, "", "engine_insert16_apart_vs_wal_off"},
	} {
		r, err := b.compare(workers, names, task{Clients: c.clients, N: b.insertSlice})
		if err != nil {
			return err
		}
		b.Say("inserts, %d clients: nearsql %s, on a log apart %s; WAL OFF %s, NORMAL %s, FULL %s", c.clients, r["nearsql"], r["nearsql-apart"], r["sqlite-off"], r["sqlite-normal"], r["sqlite-full"])
		ratio := figures.Median(figures.Ratios(r["nearsql"].rates, r["sqlite-off"].rates))
		b.Figure(c.figure, ratio, "x")
		if c.also != "" {
			b.Figure(c.also, ratio, "x")
		}
		b.Figure(c.apart, figures.Median(figures.Ratios(r["nearsql-apart"].rates, r["sqlite-off"].rates)), "x")
	}
	for _, c := range []struct {
		figure  string
		clients int
	}{{"engine_read_vs_wal_off", 1}, {"engine_read2_vs_wal_off", 2}} {
		r, err := b.compare(workers, names[:2], task{Read: true, Clients: c.clients, N: b.readSlice})
		if err != nil {
			return err
		}
		b.Say("point reads, %d clients: nearsql %s, WAL %s", c.clients, r["nearsql"], r["sqlite-off"])
		b.Figure(c.figure, figures.Median(figures.Ratios(r["nearsql"].rates, r["sqlite-off"].rates)), "x")
	}
	return nil
}

// compared is how one contender did.
type compared struct {
	rates []float64 // per second, of each round
	cpu   []float64 // seconds of CPU time for one operation, of each round
}

func (c *compared) String() string {
	return fmt.Sprintf("%.0f/s (%.1f us of CPU each)", figures.Median(c.rates), 1e6*figures.Median(c.cpu))
}

// compare has workers do the same task in turns.
func (b *bench) compare(workers map[string]*worker, names []string, t task) (map[string]*compared, error) {
	out := map[string]*compared{}
	for _, n := range names {
		out[n] = &compared{}
	}
	for range b.rounds {
		took, cpu := map[string]float64{}, map[string]float64{}
		for range b.slices {
			for _, n := range names {
				u := t
				if n == "sqlite-full" {
					u.N = b.syncedSlice
				}
				s, c, err := workers[n].do(u)
				if err != nil {
					return nil, err
				}
				took[n] += s
				cpu[n] += c
			}
		}
		for _, n := range names {
			out[n].rates = append(out[n].rates, float64(b.slices)/took[n])
			out[n].cpu = append(out[n].cpu, cpu[n]/float64(b.slices))
		}
	}
	return out, nil
}
