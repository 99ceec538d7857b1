package main

import "errors"

// logBytes measures the entries that the log is given for one-row transactions.
func (b *bench) logBytes() (err error) {
	dir, err := b.subdir("logbytes")
	if err != nil {
		return err
	}
	x, err := openEngine(dir, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.close()) }()
	c := &engineClient{x: x}
	const rows = 20000 // a table of several levels, as tables are
	for i := range rows {
		if err := c.insert(i); err != nil {
			return err
		}
	}
	mean := func(do func(i int) error) (float64, error) {
		entries, bytes := x.log.logged()
		for i := range b.logEntries {
			if err := do(i); err != nil {
				return 0, err
			}
		}
		e, by := x.log.logged()
		if e-entries != uint64(b.logEntries) {
			return 0, errors.New("a transaction did not make one entry")
		}
		return float64(by-bytes) / float64(b.logEntries), nil
	}
	insert, err := mean(func(i int) error { return c.insert(rows + i) })
	if err != nil {
		return err
	}
	update, err := mean(func(i int) error { return c.update(i*scatter%rows+1, i+1) })
	if err != nil {
		return err
	}
	b.Say("log: mean entry of %d one-row transactions on a table of %d rows with one index; the update changes the indexed column", b.logEntries, rows)
	b.Figure("log_bytes_insert", insert, "B")
	b.Figure("log_bytes_update", update, "B")
	return nil
}
