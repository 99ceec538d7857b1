package main

import "errors"

// engine compares the engine with plain SQLite, in turns.
func (b *bench) engine() (err error) {
	names := []string{"nearsql", "sqlite-off", "sqlite-normal", "sqlite-full"}
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
	b.say("engine: one-row inserts into a table with an index, and point reads among %d rows; rates are per second", readRows)
	for _, n := range names { // the first turn warms up, and counts for nothing
		for _, t := range []task{{Clients: 1, N: 500}, {Read: true, Clients: 2, N: 2000}} {
			if _, err := workers[n].do(t); err != nil {
				return err
			}
		}
	}
	rates := func(names []string, t task, synced int) (map[string][]float64, error) {
		out := map[string][]float64{}
		for range b.rounds {
			nanos := map[string]float64{}
			for range b.slices {
				for _, n := range names {
					u := t
					if n == "sqlite-full" {
						u.N = synced
					}
					r, err := workers[n].do(u)
					if err != nil {
						return nil, err
					}
					nanos[n] += 1 / r
				}
			}
			for _, n := range names {
				out[n] = append(out[n], float64(b.slices)/nanos[n])
			}
		}
		return out, nil
	}
	for _, c := range []struct {
		figure  string
		clients int
		also    string // another name for the figure
	}{{"engine_insert1_vs_wal_off", 1, "engine_insert_vs_wal_off"}, {"engine_insert16_vs_wal_off", 16, ""}} {
		r, err := rates(names, task{Clients: c.clients, N: b.insertSlice}, b.syncedSlice)
		if err != nil {
			return err
		}
		b.say("inserts, %d clients: nearsql %.0f, WAL OFF %.0f, NORMAL %.0f, FULL %.0f", c.clients,
			median(r["nearsql"]), median(r["sqlite-off"]), median(r["sqlite-normal"]), median(r["sqlite-full"]))
		ratio := median(ratios(r["nearsql"], r["sqlite-off"]))
		b.figure(c.figure, ratio, "x")
		if c.also != "" {
			b.figure(c.also, ratio, "x")
		}
	}
	for _, c := range []struct {
		figure  string
		clients int
	}{{"engine_read_vs_wal_off", 1}, {"engine_read2_vs_wal_off", 2}} {
		r, err := rates(names[:2], task{Read: true, Clients: c.clients, N: b.readSlice}, 0)
		if err != nil {
			return err
		}
		b.say("point reads, %d clients: nearsql %.0f, WAL %.0f", c.clients, median(r["nearsql"]), median(r["sqlite-off"]))
		b.figure(c.figure, median(ratios(r["nearsql"], r["sqlite-off"])), "x")
	}
	return nil
}
