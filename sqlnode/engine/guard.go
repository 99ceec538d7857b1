package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/wire"
)

// Guard remembers statements during which the process crashed, and refuses them for a
// while: a client that retries must not walk a crash from node to node. A panic inside
// SQLite is never recovered from, since SQLite's own locks stay held.
type Guard struct {
	fs   disk.FS
	path string
	log  *slog.Logger
	now  func() time.Time

	mu struct {
		sync.Mutex
		refused map[string]time.Time // digest -> until
	}
}

// refusedFor is how long a statement that crashed the process is refused.
const refusedFor = time.Hour

// maxRefused bounds the statements remembered.
const maxRefused = 1000

type guardRecord struct {
	Digest string    `json:"digest"`
	Tenant string    `json:"tenant"`
	At     time.Time `json:"at"`
}

// OpenGuard reads what an earlier process wrote to path.
func OpenGuard(fsys disk.FS, path string, log *slog.Logger, now func() time.Time) (*Guard, error) {
	g := &Guard{fs: fsys, path: path, log: log, now: now}
	g.mu.refused = map[string]time.Time{}
	records, err := g.load()
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if until := r.At.Add(refusedFor); until.After(now()) {
			g.mu.refused[r.Digest] = until
			log.Warn("statements that crashed this node are refused", "tenant", r.Tenant, "digest", r.Digest, "until", until)
		}
	}
	return g, nil
}

func (g *Guard) load() ([]guardRecord, error) {
	b, err := disk.ReadFile(g.fs, "guard.read", g.path, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var records []guardRecord
	if err := json.Unmarshal(b, &records); err != nil {
		return nil, fmt.Errorf("%s: %w", g.path, err)
	}
	return records, nil
}

// digest names the statements of a request of a tenant, without their arguments.
func digest(id wire.TenantID, req *wire.Request) string {
	h := sha256.New()
	h.Write(id[:])
	for i := range req.Statements {
		h.Write([]byte(req.Statements[i].SQL))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// check refuses a request that crashed the process lately.
func (g *Guard) check(id wire.TenantID, req *wire.Request) *wire.Error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.mu.refused) == 0 {
		return nil
	}
	d := digest(id, req)
	until, ok := g.mu.refused[d]
	if !ok {
		return nil
	}
	if !until.After(g.now()) {
		delete(g.mu.refused, d)
		return nil
	}
	return wire.NewError(wire.CodeStatementRefused, "this request (digest %s) crashed the node and is refused until %s", d, until.UTC().Format(time.RFC3339))
}

// crashed writes the request down; the process is about to end.
func (g *Guard) crashed(id wire.TenantID, req *wire.Request, what any) {
	d := digest(id, req)
	g.log.Error("panic inside SQLite", "tenant", id, "digest", d, "panic", fmt.Sprint(what))
	g.mu.Lock()
	defer g.mu.Unlock()
	records, err := g.load()
	if err != nil {
		records = nil
	}
	if len(records) >= maxRefused {
		records = records[len(records)-maxRefused+1:]
	}
	b, err := json.Marshal(append(records, guardRecord{Digest: d, Tenant: id.String(), At: g.now().UTC()}))
	if err == nil {
		err = disk.WriteFileAtomic(g.fs, "guard.write", g.path, b, 0o600)
	}
	if err != nil {
		g.log.Error("crashed statement not written down", "error", err)
	}
}

// guarded runs f and, if it panics, writes the request down and ends the process by the same
// panic, in a goroutine where nobody recovers from it: an HTTP server would.
func (db *DB) guarded(req *wire.Request, f func() *wire.Error) *wire.Error {
	fine := false
	defer func() {
		if fine {
			return
		}
		p := recover()
		if p == nil {
			return // runtime.Goexit, by the taker of the rows
		}
		stack := debug.Stack()
		if g := db.e.cfg.Guard; g != nil {
			g.crashed(db.t.ID(), req, p)
		}
		go panic(fmt.Sprintf("panic inside SQLite: %v\n%s", p, stack))
		select {} // the connection is in no known state: nobody may have it
	}()
	e := f()
	fine = true
	return e
}
