package crrtest

import (
	"testing"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/wire"
)

// Site is a site of a test: its file, its writer, and a reader on a connection of its own.
type Site struct {
	*crr.Site
	Reader *crr.Reader
	Conn   *Conn // the writer's
	t      testing.TB
}

// Clock is a wall clock that a test moves.
type Clock struct{ At time.Time }

// NewClock returns a clock at a fixed time.
func NewClock() *Clock { return &Clock{At: time.UnixMilli(1_700_000_000_000)} }

// Now returns the clock's time.
func (c *Clock) Now() time.Time { return c.At }

// Add moves the clock.
func (c *Clock) Add(d time.Duration) { c.At = c.At.Add(d) }

// NewSite opens the file at path, makes the changes of the schema that it lacks, and gives it a number unless it has
// one or number is 0. The tenant is "acme" when cfg names none. Everything is closed with the test.
func NewSite(t testing.TB, path string, number crr.SiteID, cfg crr.Config, ddl ...string) *Site {
	t.Helper()
	if cfg.Tenant == "" {
		cfg.Tenant = "acme"
	}
	w := open(t, path)
	s, err := crr.Open(w, cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := s.NewReader(open(t, path))
	t.Cleanup(func() { r.Close(); s.Close() })
	x := &Site{Site: s, Reader: r, Conn: w, t: t}
	for i, sql := range ddl {
		if err := s.ApplySchema(schema.Change{Version: uint64(i + 1), SQL: sql}); err != nil {
			t.Fatal(err)
		}
	}
	if number != 0 && s.Identity().Site == 0 {
		if err := s.Adopt(s.Identity().File, number); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

func open(t testing.TB, path string) *Conn {
	t.Helper()
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Try runs one statement as a local transaction.
func (s *Site) Try(sql string, args ...wire.Value) (crr.Committed, error) {
	if err := s.Begin(); err != nil {
		return crr.Committed{}, err
	}
	err := s.Use(crr.Classify(sql))
	if err == nil {
		err = s.query(sql, nil, args)
	}
	if err != nil {
		if rb := s.Rollback(); rb != nil {
			s.t.Fatal(rb)
		}
		return crr.Committed{}, err
	}
	return s.Commit()
}

// Do is Try that must succeed.
func (s *Site) Do(sql string, args ...wire.Value) crr.Committed {
	s.t.Helper()
	c, err := s.Try(sql, args...)
	if err != nil {
		s.t.Fatalf("site %d: %s: %v", s.Identity().Site, sql, err)
	}
	return c
}

// One returns the first value of a query; NULL when there is none.
func (s *Site) One(sql string, args ...wire.Value) (v wire.Value) {
	s.t.Helper()
	if err := s.query(sql, &v, args); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func (s *Site) query(sql string, first *wire.Value, args []wire.Value) error {
	st, err := s.Conn.Prepare(sql)
	if err != nil {
		return err
	}
	defer st.Finalize()
	if err := st.BindAll(args); err != nil {
		return err
	}
	for n := 0; ; n++ {
		more, err := st.Step()
		if err != nil || !more {
			return err
		}
		if n == 0 && first != nil {
			*first = st.Column(0)
		}
	}
}

// Pull brings s up to what from has.
func (s *Site) Pull(from *Site) crr.Received {
	s.t.Helper()
	var r crr.Received
	id := from.Identity()
	err := from.Reader.Answer(s.Request(id.Site, id.File), func(f []byte) (err error) {
		r, err = s.Receive(f)
		return err
	})
	if err != nil {
		s.t.Fatalf("site %d pulls from %d: %v", s.Identity().Site, id.Site, err)
	}
	return r
}

// Check fails the test when the file contradicts itself.
func (s *Site) Check() {
	s.t.Helper()
	ts, err := s.Reader.Check()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, t := range ts {
		for _, f := range t.Faults {
			s.t.Errorf("site %d, table %s: %s", s.Identity().Site, t.Name, f)
		}
	}
}
