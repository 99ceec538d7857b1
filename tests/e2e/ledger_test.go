package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"sync"

	"github.com/nearsql/nearsql/wire"
)

// ledgerSchema is what the clients of the kill test write to. Each transaction keeps
// count.n = count of the client's rows, so that one done in part, or twice, shows.
var ledgerSchema = []string{
	`CREATE TABLE log(client INTEGER NOT NULL, op INTEGER NOT NULL, part INTEGER NOT NULL, ver INTEGER NOT NULL, data BLOB NOT NULL,
 PRIMARY KEY(client, op, part)) STRICT`,
	`CREATE INDEX log_ver ON log(ver)`,
	`CREATE TABLE count(client INTEGER PRIMARY KEY, n INTEGER NOT NULL, ops INTEGER NOT NULL) STRICT`,
}

// fate is what is known of a request.
type fate int

const (
	unknown fate = iota // its answer did not come
	done                // it was answered, or seen in the database after a restart
	undone              // it was refused, or seen to be missing after a restart
)

// op is one request of a client.
type op struct {
	n     int64
	kind  string
	sizes []int // of its rows' data; nil for one that inserts none
	to    int64 // of an update: the op whose row 0 it changes; of a trim: the last op that it deletes
	key   string
	fate  fate
	// of a keyed op that was answered: count.ops as it returned it
	returned int64
}

// rowState is what the database must have of one op that inserted rows.
type rowState struct {
	sizes []int // of its rows' data
	ver   int64 // of its row 0
	size0 int   // of its row 0 in that version
}

// writer is one client of the kill test: it sends one request after another to one tenant.
type writer struct {
	seed   uint64
	tenant string
	id     int64
	rng    *rand.Rand

	mu      sync.Mutex // the fields below belong to its goroutine, then to the checks
	next    int64
	rows    map[int64]rowState // by op: what is known to be there
	count   int64              // rows
	ops     int64              // requests that took effect and count
	pending *op                // the one whose fate is unknown
	keyed   []op               // those with a key that were answered, since the start before last
	last    string             // bookmark
	stats   map[string]int
}

func newWriter(seed uint64, tenant string, id int64) *writer {
	return &writer{seed: seed, tenant: tenant, id: id, rng: rand.New(rand.NewPCG(seed, uint64(id)+1000)),
		next: 1, rows: map[int64]rowState{}, stats: map[string]int{}}
}

// content is the data of a row, and can be made again from what the row says of itself.
func (w *writer) content(op, part, ver int64, size int) []byte {
	r := rand.NewPCG(w.seed^uint64(ver)<<32^uint64(op), uint64(w.id)<<40^uint64(part))
	b := make([]byte, size)
	for i := 0; i < len(b); i += 8 {
		v := r.Uint64()
		for j := i; j < min(i+8, len(b)); j++ {
			b[j] = byte(v)
			v >>= 8
		}
	}
	return b
}

// choose makes the next op.
func (w *writer) choose() *op {
	o := &op{n: w.next}
	w.next++
	size := func() int { return 20 + w.rng.IntN(200) }
	switch p := w.rng.IntN(100); {
	case p < 30:
		o.kind, o.sizes = "single", []int{size()}
	case p < 50:
		o.kind = "batch"
		for range 2 + w.rng.IntN(20) {
			o.sizes = append(o.sizes, size())
		}
	case p < 60: // more than one entry of the log, which has 64 KiB
		o.kind = "large"
		for range 10 + w.rng.IntN(40) {
			o.sizes = append(o.sizes, 4000+w.rng.IntN(5000))
		}
	case p < 62:
		o.kind, o.sizes = "huge row", []int{300_000 + w.rng.IntN(900_000)}
	case p < 75:
		o.kind, o.sizes = "keyed", []int{size(), size()}
		o.key = fmt.Sprintf("c%d-%d", w.id, o.n)
	case p < 80:
		o.kind, o.sizes = "failing", []int{size(), size(), size()}
	case p < 83:
		o.kind, o.sizes = "failing with key", []int{size(), size()}
		o.key = fmt.Sprintf("c%d-%d", w.id, o.n)
	case p < 94 && len(w.rows) > 0:
		o.kind, o.to = "update", w.anyRow()
		o.sizes = []int{size()}
	case p < 95:
		o.kind = "vacuum"
	case len(w.rows) > 30:
		o.kind = "trim"
		ops := w.knownOps()
		o.to = ops[len(ops)*2/3]
	default:
		o.kind, o.sizes = "single", []int{size()}
	}
	return o
}

func (w *writer) knownOps() []int64 {
	ops := make([]int64, 0, len(w.rows))
	for n := range w.rows {
		ops = append(ops, n)
	}
	sort.Slice(ops, func(i, j int) bool { return ops[i] < ops[j] })
	return ops
}

func (w *writer) anyRow() int64 {
	ops := w.knownOps()
	return ops[w.rng.IntN(len(ops))]
}

// request is the op as it is sent; also when it is sent again.
func (w *writer) request(o *op) *wire.Request {
	id := wire.Integer(w.id)
	bump := func(n int) wire.Statement {
		return wire.Statement{SQL: `INSERT INTO count VALUES(?1, ?2, 1) ON CONFLICT DO UPDATE SET n=n+?2, ops=ops+1 RETURNING ops`, Args: []wire.Value{id, wire.Integer(int64(n))}}
	}
	r := &wire.Request{IdempotencyKey: o.key}
	insert := func() {
		for part, size := range o.sizes {
			r.Statements = append(r.Statements, wire.Statement{SQL: `INSERT INTO log VALUES(?, ?, ?, 0, ?)`,
				Args: []wire.Value{id, wire.Integer(o.n), wire.Integer(int64(part)), wire.Blob(w.content(o.n, int64(part), 0, size))}})
		}
	}
	switch o.kind {
	case "vacuum":
		r.Statements = []wire.Statement{{SQL: "VACUUM"}}
	case "update":
		r.Statements = []wire.Statement{
			{SQL: `UPDATE log SET ver=?, data=? WHERE client=? AND op=? AND part=0`,
				Args: []wire.Value{wire.Integer(o.n), wire.Blob(w.content(o.to, 0, o.n, o.sizes[0])), id, wire.Integer(o.to)}}, bump(0)}
	case "trim":
		n := 0
		for op, s := range w.rows {
			if op <= o.to {
				n += len(s.sizes)
			}
		}
		r.Statements = []wire.Statement{{SQL: `DELETE FROM log WHERE client=? AND op<=?`, Args: []wire.Value{id, wire.Integer(o.to)}}, bump(-n)}
	case "failing", "failing with key":
		insert()
		r.Statements = append(r.Statements, bump(len(o.sizes)), r.Statements[0])
	default:
		insert()
		r.Statements = append(r.Statements, bump(len(o.sizes)))
	}
	return r
}

// apply books an op that took effect.
func (w *writer) apply(o *op) {
	o.fate = done
	switch o.kind {
	case "vacuum":
		return
	case "update":
		s := w.rows[o.to]
		s.ver, s.size0 = o.n, o.sizes[0]
		w.rows[o.to] = s
	case "trim":
		for n, s := range w.rows {
			if n <= o.to {
				w.count -= int64(len(s.sizes))
				delete(w.rows, n)
			}
		}
	default:
		w.rows[o.n] = rowState{sizes: o.sizes, size0: o.sizes[0]}
		w.count += int64(len(o.sizes))
	}
	w.ops++
}

// send sends an op and books what its answer says.
func (w *writer) send(do func(*wire.Request) (int64, wire.Meta, error), o *op) error {
	returned, meta, err := do(w.request(o))
	w.mu.Lock()
	defer w.mu.Unlock()
	fails := o.kind == "failing" || o.kind == "failing with key"
	switch code := codeOf(err); {
	case err == nil && fails:
		return fmt.Errorf("op %d (%s): it was accepted", o.n, o.kind)
	case err == nil:
		w.apply(o)
		if o.kind != "vacuum" && returned != w.ops {
			return fmt.Errorf("op %d (%s): the tenant counts %d requests of this client, answered were %d", o.n, o.kind, returned, w.ops)
		}
		o.returned = returned
		w.last = meta.Bookmark
		if meta.Replayed {
			return fmt.Errorf("op %d (%s): it is new, and was answered as a repeat", o.n, o.kind)
		}
		if o.key != "" {
			w.keyed = append(w.keyed, *o)
		}
		w.stats[o.kind]++
	case fails && code == "SQLITE_CONSTRAINT_PRIMARYKEY":
		o.fate = undone
		if o.key != "" {
			w.keyed = append(w.keyed, *o)
		}
		w.stats[o.kind]++
	case lost(err):
		w.pending = o
		w.stats["lost"]++
		return errLost
	case code == wire.CodeShuttingDown, code == wire.CodeNotReady, code == wire.CodeNotPrimary, code == wire.CodeOverloaded, code == wire.CodeTooManyRequests, code == wire.CodeSnapshotTooOld:
		o.fate = undone // it surely had no effect
		w.stats[string(code)]++
	default:
		return fmt.Errorf("op %d (%s): %w", o.n, o.kind, err)
	}
	return nil
}

var errLost = fmt.Errorf("the answer did not come")
