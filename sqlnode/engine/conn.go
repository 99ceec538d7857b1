package engine

import (
	"container/list"
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// conn is one connection of a tenant with its cached statements. It serves one request at a time.
type conn struct {
	*pagestore.Conn
	pol   policy
	stmts stmtCache

	// of the request in hand
	ctx      context.Context
	deadline time.Time // of the statement in hand; zero means none
	stopped  error     // why the progress handler ended the statement
	total    int64     // TotalChanges when the request began
	rowID    int64     // LastInsertRowID before the INSERT in hand; see noRowID

	params   int  // parameters that a statement may have
	attached bool // has the tenant's conflict-free tables, read-only

	now func() time.Time
}

// progressOps is how many operations of SQLite's machine run between two looks at deadline and
// context: some 20 µs.
const progressOps = 2000

// open makes pc a connection of the engine.
func newConn(pc *pagestore.Conn, cfg *Config, limits tenant.Limits) (*conn, error) {
	c := &conn{Conn: pc, now: cfg.Now, params: int(limits.Params)}
	c.stmts.init(cfg.StatementCache)
	for _, s := range []struct {
		op sqlite.ConfigOp
		on bool
	}{{sqlite.Defensive, true}, {sqlite.TrustedSchema, false}, {sqlite.EnableLoadExtension, false}, {sqlite.DQSInDDL, false}, {sqlite.EnableForeignKeys, true}} {
		if err := pc.Config(s.op, s.on); err != nil {
			return nil, fmt.Errorf("configure connection: %w", err)
		}
	}
	pc.Limit(sqlite.LimitLength, maxValue)
	pc.Limit(sqlite.LimitSQLLength, int(limits.Statement))
	pc.Limit(sqlite.LimitVariableNumber, max(c.params, ownParams))
	pc.Limit(sqlite.LimitWorkerThreads, 0)
	pc.SetLimits(pagestore.TxLimits{TxBytes: limits.Transaction, MaxPages: uint32(min(limits.Size/int64(pc.Store().PageSize()), 1<<32-2))})
	if err := pc.Exec(fmt.Sprintf("PRAGMA cache_size=-%d", cfg.CacheKiB)); err != nil {
		return nil, fmt.Errorf("configure connection: %w", err)
	}
	if err := c.registerFuncs(); err != nil {
		return nil, fmt.Errorf("configure connection: %w", err)
	}
	pc.SetAuthorizer(c.pol.decide)
	pc.SetProgress(progressOps, c.stop)
	return c, nil
}

// registerFuncs replaces the functions that tell of what the connection did by such that tell
// of what the request did, whoever used the connection before. They are innocuous as SQLite's
// own are: triggers and views use them.
func (c *conn) registerFuncs() error {
	for _, f := range []struct {
		name string
		of   func() int64
	}{
		{"changes", func() int64 {
			if c.TotalChanges() == c.total {
				return 0 // what SQLite remembers is an earlier request's
			}
			return c.Changes()
		}},
		{"total_changes", func() int64 { return c.TotalChanges() - c.total }},
		{"last_insert_rowid", func() int64 {
			if id := c.LastInsertRowID(); id != noRowID {
				return id
			}
			return c.rowID
		}},
	} {
		if err := c.RegisterFunc(f.name, 0, sqlite.Innocuous, func(x *sqlite.Context, _ []sqlite.Arg) { x.Integer(f.of()) }); err != nil {
			return err
		}
	}
	return nil
}

const (
	// maxValue is the largest text, blob or row, in bytes.
	maxValue = 16 << 20
	// ownParams is how many parameters the statements of the engine and of SQLite's modules may
	// have, whatever the tenant's limit: FTS5 has one for each column.
	ownParams = 2100
	// noRowID stands as the connection's last rowid while an INSERT runs, so that it shows
	// whether the INSERT set another.
	noRowID = -0x6e656172_73716c21
)

// begin makes the connection ready for a request.
func (c *conn) begin(ctx context.Context) {
	c.ctx = ctx
	c.stopped = nil
	c.total = c.TotalChanges()
	c.SetLastInsertRowID(0)
	c.TakeErr()
}

// end makes it forget the request. A failure means that the connection must be closed.
func (c *conn) end() error {
	c.ctx = nil
	c.deadline = time.Time{}
	if !c.Autocommit() {
		if err := c.exec("ROLLBACK"); err != nil {
			return err
		}
	}
	if !c.pol.session {
		return nil
	}
	c.pol.session = false
	c.stmts.clear() // case_sensitive_like changes what statements mean
	return c.internal("PRAGMA foreign_keys=on; PRAGMA defer_foreign_keys=off; PRAGMA recursive_triggers=off; PRAGMA case_sensitive_like=off")
}

// internal runs the engine's own statements.
func (c *conn) internal(sql string) error {
	return c.internally(func() error { return c.Exec(sql) })
}

// internally runs f with the engine's own rights, and out of reach of the request's limits.
func (c *conn) internally(f func() error) error {
	was := c.pol.internal // at rest, a writer of conflict-free tables has only own statements
	c.pol.internal = true
	defer func() { c.pol.internal = was }()
	return f()
}

// stop is the progress handler.
func (c *conn) stop() bool {
	if c.pol.internal {
		return false
	}
	if c.ctx != nil && c.ctx.Err() != nil { // Done would make a channel for each request
		c.stopped = c.ctx.Err()
		return true
	}
	if !c.deadline.IsZero() && c.now().After(c.deadline) {
		c.stopped = errTooSlow
		return true
	}
	return false
}

var errTooSlow = fmt.Errorf("the statement took longer than it may")

// fail converts an error of a statement.
func (c *conn) fail(err error) *wire.Error {
	cause := c.TakeErr()
	if full := c.Temp().TakeErr(); full != nil && cause == nil {
		cause = full
	}
	if c.stopped != nil && sqlite.ErrorCode(err)&0xff == sqlite.CodeInterrupt {
		stopped := c.stopped
		c.stopped = nil
		if stopped == errTooSlow {
			return wire.NewError(wire.CodeTimeout, "%w", errTooSlow)
		}
		return wire.AsError(stopped)
	}
	if cause == nil && c.pol.refused != "" { // not always SQLITE_AUTH: a function, a virtual table
		return wire.NewError(wire.CodeSQLNotAllowed, "%s", c.pol.refused)
	}
	return convert(err, cause)
}

// prepare returns the one statement of sql, from the cache if it is there.
func (c *conn) prepare(sql string) (*cachedStmt, *wire.Error) {
	c.pol.refused = ""
	if s := c.stmts.get(sql); s != nil {
		return s, nil
	}
	if !utf8.ValidString(sql) {
		return nil, wire.NewError(wire.CodeInvalidUTF8, "the statement is not UTF-8")
	}
	if name, yes := renamesToInternal(sql); yes {
		return nil, wire.NewError(wire.CodeSQLNotAllowed, "%s", tableReason(name))
	}
	if c.pol.taken != nil {
		if name, ok := renamedTo(sql); ok && c.pol.taken(name) {
			return nil, wire.NewError(wire.CodeSQLNotAllowed, "%s", takenReason(name))
		}
	}
	st, tail, err := c.Prepare(sql, true)
	if err != nil {
		return nil, c.fail(err)
	}
	if st == nil {
		return nil, wire.NewError(wire.CodeEmptyStatement, "the text has no statement")
	}
	if rest := sql[tail:]; strings.Trim(rest, " \t\r\n;") != "" && !blank(rest) {
		st.Finalize()
		return nil, wire.NewError(wire.CodeMultipleStatements, "the text has more than one statement: the second begins at byte %d; send a batch", tail)
	}
	if n := st.ParamCount(); n > c.params {
		st.Finalize()
		return nil, wire.NewError(wire.CodeSQLiteError, "too many SQL variables: the statement has %d; the limit is %d", n, c.params)
	}
	if c.pol.session {
		return newStmt(sql, st), nil // SQLite sets switches while it prepares, so each run prepares
	}
	return c.stmts.put(sql, st), nil
}

// bind gives a statement its arguments.
func bind(s *sqlite.Stmt, w *wire.Statement) *wire.Error {
	n := s.ParamCount()
	if len(w.Named) == 0 {
		if len(w.Args) != n {
			return wire.NewError(wire.CodeArgumentCount, "the statement has %d parameters; %d arguments were given", n, len(w.Args))
		}
		if n == 0 {
			return nil
		}
		if err := s.BindAll(w.Args); err != nil {
			return convert(err, nil)
		}
		return nil
	}
	given := make([]bool, n+1)
	for _, a := range w.Named {
		i := paramIndex(s, a.Name)
		if i == 0 {
			return wire.NewError(wire.CodeArgumentCount, "the statement has no parameter %q", a.Name)
		}
		if given[i] {
			return wire.NewError(wire.CodeArgumentCount, "the argument %q is given twice", a.Name)
		}
		given[i] = true
		if err := s.Bind(i, a.Value); err != nil {
			return convert(err, nil)
		}
	}
	for i := 1; i <= n; i++ {
		if !given[i] {
			return wire.NewError(wire.CodeArgumentCount, "no argument was given for parameter %d (%s)", i, s.ParamName(i))
		}
	}
	return nil
}

func paramIndex(s *sqlite.Stmt, name string) int {
	if i := s.ParamIndex(name); i > 0 {
		return i
	}
	for _, p := range []string{":", "@", "$"} {
		if i := s.ParamIndex(p + name); i > 0 {
			return i
		}
	}
	return 0
}

// cachedStmt is a prepared statement with what is sent of its columns.
type cachedStmt struct {
	*sqlite.Stmt
	sql     string
	columns []wire.Column
	row     []wire.Value
	insert  bool // it can set last_insert_rowid
	elem    *list.Element
}

// describe brings columns up to date; SQLite may have prepared the statement again.
func (s *cachedStmt) describe() {
	n := s.ColumnCount()
	same := len(s.columns) == n
	for i := 0; same && i < n; i++ {
		same = s.columns[i].Name == s.ColumnName(i) && s.columns[i].DeclType == s.ColumnDeclType(i)
	}
	if same {
		return
	}
	s.columns = make([]wire.Column, n)
	for i := range s.columns {
		s.columns[i] = wire.Column{Name: s.ColumnName(i), DeclType: s.ColumnDeclType(i)}
	}
	s.row = make([]wire.Value, n)
}

// stmtCache keeps the statements of a connection that were used last.
type stmtCache struct {
	max    int
	byText map[string]*cachedStmt
	order  list.List // most recent first
}

// maxCachedSQL is the length in bytes of the longest text that is kept.
const maxCachedSQL = 16 << 10

func (sc *stmtCache) init(max int) {
	sc.max = max
	sc.byText = map[string]*cachedStmt{}
}

func (sc *stmtCache) get(sql string) *cachedStmt {
	s := sc.byText[sql]
	if s != nil {
		sc.order.MoveToFront(s.elem)
	}
	return s
}

func newStmt(sql string, st *sqlite.Stmt) *cachedStmt {
	return &cachedStmt{Stmt: st, sql: sql, insert: isInsert(sql)}
}

func (sc *stmtCache) put(sql string, st *sqlite.Stmt) *cachedStmt {
	s := newStmt(sql, st)
	if len(sql) > maxCachedSQL || sc.max == 0 {
		return s // done ends it
	}
	s.elem = sc.order.PushFront(s)
	sc.byText[sql] = s
	if len(sc.byText) > sc.max {
		sc.drop(sc.order.Back().Value.(*cachedStmt))
	}
	return s
}

// done is called when a request has no more use for s now.
func (sc *stmtCache) done(s *cachedStmt) {
	if s.elem == nil {
		s.Finalize()
		return
	}
	s.Reset()
	if s.BindMemory() > maxBindMemory {
		s.ClearBindings() // costs a new plan, so not always
	}
}

// maxBindMemory is how much an idle statement may keep of its arguments, in bytes.
const maxBindMemory = 64 << 10

func (sc *stmtCache) drop(s *cachedStmt) {
	sc.order.Remove(s.elem)
	delete(sc.byText, s.sql)
	s.elem = nil
	s.Finalize()
}

func (sc *stmtCache) clear() {
	for _, s := range sc.byText {
		s.Finalize()
		s.elem = nil
	}
	sc.byText = map[string]*cachedStmt{}
	sc.order.Init()
}

// close closes the connection.
func (c *conn) close() {
	c.stmts.clear()
	c.Conn.Close()
}

// run runs one statement and gives its rows to sink. n is its number in the request, from 0.
func (c *conn) run(n int, w *wire.Statement, limit time.Duration, sink wire.Sink) *wire.Error {
	s, e := c.prepare(w.SQL)
	if e != nil {
		return e.At(n + 1)
	}
	defer c.stmts.done(s)
	if e := bind(s.Stmt, w); e != nil {
		return e.At(n + 1)
	}
	if limit > 0 {
		c.deadline = c.now().Add(limit)
		defer func() { c.deadline = time.Time{} }()
	}
	readOnly := s.ReadOnly()
	before := c.TotalChanges()
	var sum wire.Summary
	if s.insert && !readOnly {
		c.rowID = c.LastInsertRowID()
		c.SetLastInsertRowID(noRowID)
		defer c.restoreRowID()
	}
	first := true
	for {
		row, err := s.Step()
		if err != nil {
			return c.fail(err).At(n + 1)
		}
		if first {
			first = false
			s.describe()
			if err := sink.Begin(n, s.columns); err != nil {
				return sinkError(err)
			}
		}
		if !row {
			break
		}
		for i := range s.row {
			s.row[i] = s.Column(i)
		}
		if err := sink.Row(s.row); err != nil {
			return sinkError(err)
		}
	}
	if !readOnly {
		if total := c.TotalChanges(); total != before {
			sum.RowsAffected = c.Changes()
		}
		if s.insert {
			sum.LastInsertRowID, sum.Inserted = c.restoreRowID()
		}
	}
	if err := sink.End(sum); err != nil {
		return sinkError(err)
	}
	return nil
}

// restoreRowID ends what noRowID began, and returns the rowid that the INSERT set, if it set one.
func (c *conn) restoreRowID() (id int64, set bool) {
	if id := c.LastInsertRowID(); id != noRowID {
		return id, true
	}
	c.SetLastInsertRowID(c.rowID)
	return 0, false
}

// isInsert says whether the statement can set last_insert_rowid.
func isInsert(sql string) bool {
	switch verb(sql) {
	case "INSERT", "REPLACE", "WITH":
		return true
	}
	return false
}

// sinkError converts an error of the taker of rows: a limit, or a client that went away.
func sinkError(err error) *wire.Error { return wire.AsError(err) }
