package crr

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"sync/atomic"
	"time"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/wire"
)

// Config is how a file is opened.
type Config struct {
	Tenant    string           // whose file it is; another tenant's is refused
	Now       func() time.Time // wall clock; nil: time.Now
	Random    io.Reader        // for file ids; nil: crypto/rand
	MaxSkew   time.Duration    // 0: DefaultMaxSkew
	TxRows    int              // most changes of rows in one transaction; 0: 200,000
	BatchRows int              // most rows in a batch that is merged at once; 0: 200,000
	RingRows  int              // changed rows remembered; 0: 65,536
	RingBytes int              // memory for their keys; 0: 8 MiB
	// Run is the run of the program for which cursors count that are given out: below 2^31, the same for each time that the program opens the file, as long as it is
	// sure that nobody puts another in its place meanwhile. 0: one is drawn.
	Run uint32
}

func (c Config) defaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Run == 0 {
		c.Run = NewRun()
	}
	if c.MaxSkew == 0 {
		c.MaxSkew = DefaultMaxSkew
	}
	if c.TxRows == 0 {
		c.TxRows = 200_000
	}
	if c.BatchRows == 0 {
		c.BatchRows = 200_000
	}
	if c.RingRows == 0 {
		c.RingRows = 1 << 16
	}
	if c.RingBytes == 0 {
		c.RingBytes = 8 << 20
	}
	return c
}

// Site is one file of conflict-free tables and the connection that writes it.
// It is used by one goroutine at a time, but for the methods that say otherwise.
type Site struct {
	cfg   Config
	conn  Conn
	ring  *ring
	track *tracker
	clock clock

	me      self
	vv      Vector // everything of a site up to its reading is in the file; own ones too
	state   *schema.State
	members map[SiteID]Member // nil: not told yet, nobody is refused
	peers   map[SiteID]*peer
	offset  time.Duration // of the local clock, as the peers see it
	inbox   inbox
	sweep   sweep

	stmts siteStmts
	head  atomic.Pointer[Head]
}

// Head is what others are told of a site's state. It is never changed once published.
type Head struct {
	Identity
	Schema uint64 // version of the schema
	Vector Vector
	Hash   uint64 // of Vector
	Seq    int64  // number of the file's newest transaction, merges too; grows by any amount
}

// Head returns the newest committed state. It may be called from any goroutine.
func (s *Site) Head() Head { return *s.head.Load() }

func (s *Site) publish() {
	v := s.vv.Clone()
	s.head.Store(&Head{Identity: s.me.Identity, Schema: s.state.Version, Vector: v, Hash: v.Hash(), Seq: s.me.lseq})
}

// Open opens the file that c has attached as crr, and makes it one of ours if it is
// empty. c becomes the site's writer: it gets the SQL functions that the triggers
// call, WAL, synchronous=FULL, and temp_store=memory (a trigger makes each statement keep a
// journal of its own, which in a file halves the rate).
func Open(c Conn, cfg Config) (*Site, error) {
	s := &Site{cfg: cfg.defaults(), conn: c, peers: make(map[SiteID]*peer)}
	s.ring = &ring{entries: s.cfg.RingRows, bytes: s.cfg.RingBytes}
	s.clock = clock{now: s.cfg.Now, skew: s.cfg.MaxSkew}
	s.track = &tracker{clock: &s.clock, ring: s.ring, rows: s.cfg.TxRows}
	for _, f := range append(s.track.funcs(), uuid7Func(s.cfg)) {
		if err := c.Register(f); err != nil {
			return nil, fmt.Errorf("open conflict-free tables: %w", err)
		}
	}
	if err := c.Exec("PRAGMA crr.journal_mode=WAL; PRAGMA crr.synchronous=FULL; PRAGMA temp_store=memory"); err != nil {
		return nil, fmt.Errorf("open conflict-free tables: %w", err)
	}
	if err := s.create(); err != nil {
		return nil, fmt.Errorf("create file of conflict-free tables: %w", err)
	}
	if err := s.load(); err != nil {
		s.Close()
		return nil, fmt.Errorf("open conflict-free tables: %w", err)
	}
	return s, nil
}

// create makes the layout of an empty file.
func (s *Site) create() error {
	empty, ours := true, false
	err := query(s.conn, "SELECT name FROM crr.sqlite_schema", func(st Stmt) error {
		empty, ours = false, ours || st.Column(0).Str() == "__crr_self"
		return nil
	})
	if err != nil || ours {
		return err
	}
	if !empty {
		return ErrNotCRR
	}
	file, err := newFileID(s.cfg.Random)
	if err != nil {
		return err
	}
	return s.inTx(func() error {
		if err := s.conn.Exec(layout); err != nil {
			return err
		}
		return query(s.conn, "INSERT INTO crr.__crr_self VALUES(1,?,?,NULL,?,0,0,0,?)", nil,
			wire.Integer(fileFormat), wire.Text(s.cfg.Tenant), wire.Blob(file[:]), wire.Blob(Vector{}.Append(nil)))
	})
}

// load reads all that the file says of itself.
func (s *Site) load() (err error) {
	if s.me, err = readSelf(s.conn); err != nil {
		return err
	}
	if s.me.Tenant != s.cfg.Tenant {
		return fmt.Errorf("crr: the file is of tenant %q, not %q", s.me.Tenant, s.cfg.Tenant)
	}
	if s.vv, err = readVector(s.conn, s.me); err != nil {
		return err
	}
	for _, h := range s.vv {
		s.clock.observe(h)
	}
	if err := s.readPeers(); err != nil {
		return err
	}
	if s.state, err = readState(s.conn, s.me.schema); err != nil {
		return err
	}
	if err := query(s.conn, "DELETE FROM crr.__crr_inbox", nil); err != nil {
		return err
	}
	s.ring.start(s.me.lseq)
	if err := s.setTables(); err != nil {
		return err
	}
	if err := s.renewTriggers(); err != nil {
		return err
	}
	s.track.site = s.me.Site
	s.track.local = true
	s.publish()
	return nil
}

// setTables takes the live tables of the state in use.
func (s *Site) setTables() error {
	s.stmts.close()
	old := s.track.tables
	s.track.tables, s.track.newest = make(map[uint32]*table), nil
	for _, t := range old {
		t.stmts.close()
	}
	for _, def := range s.state.Tables {
		if def.Gone != 0 {
			continue
		}
		t := newTable(def)
		if err := t.loadDefaults(s.conn); err != nil {
			return err
		}
		s.track.tables[def.ID] = t
	}
	return nil
}

// Close gives up the site's statements; the connection is the caller's to close. The file may be opened anew after that, not before.
func (s *Site) Close() {
	s.ring.end()
	for _, t := range s.track.tables {
		t.stmts.close()
	}
	s.stmts.close()
}

// Identity returns who the file is.
func (s *Site) Identity() Identity { return s.me.Identity }

// Vector returns a copy of what the file has.
func (s *Site) Vector() Vector { return s.vv.Clone() }

// Schema returns the schema that the file is at.
func (s *Site) Schema() *schema.State { return s.state }

// inTx runs f in a transaction of its own in which nothing is tracked.
func (s *Site) inTx(f func() error) error {
	if s.track.open {
		return errors.New("crr: a local transaction is open")
	}
	if err := s.conn.Exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	was := s.track.local
	s.track.local = false
	err := f()
	if err == nil {
		err = s.conn.Exec("COMMIT")
	}
	s.track.local = was
	if err != nil && !s.conn.Autocommit() {
		err = errors.Join(err, s.conn.Exec("ROLLBACK"))
	}
	return err
}

// siteStmts are the prepared statements on the file's own tables, by text.
type siteStmts struct{ m map[string]Stmt }

func (p *siteStmts) get(c Conn, sql string) (Stmt, error) {
	if st := p.m[sql]; st != nil {
		return st, nil
	}
	st, err := c.Prepare(sql)
	if err != nil {
		return nil, err
	}
	if p.m == nil {
		p.m = make(map[string]Stmt)
	}
	p.m[sql] = st
	return st, nil
}

func (p *siteStmts) close() {
	for st := range maps.Values(p.m) {
		st.Finalize()
	}
	p.m = nil
}

// exec runs one of the few statements on the file's own tables.
func (s *Site) exec(sql string, args ...wire.Value) error {
	st, err := s.stmts.get(s.conn, sql)
	if err != nil {
		return err
	}
	return run(st, nil, args...)
}
