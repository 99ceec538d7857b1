package pagestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/wire"
)

// files are the segments and bases of a group.
//
// A unit is what one checkpoint wrote: the segments of large transactions since the one before, in
// order, and the segment of the checkpoint itself. Together they hold, for each tenant
// that changed, the newest content of each page that changed since the unit before; where
// two segments of a unit have a page, the later one counts.
//
// Life of a unit: written (its segments are synced), recorded (a snapshot of the log
// that lists it is durable), absorbed (all bases contain it, and `progress` says so), retired
// (its changes are in LTX files, its segments removed, and `progress` says so).
type files struct {
	cfg    Config
	origin origin // of the directory; constant after open

	// marks is held while the mark of a failed copy is made or taken away, so that none is made of a copy that
	// was replaced meanwhile. It is taken before Tenant.mu.
	marks sync.Mutex

	// shift is held while units are absorbed or retired, so that a store is never
	// opened between two views of which units its base contains.
	shift sync.RWMutex

	mu struct {
		sync.Mutex
		captures uint64                        // how many captures have begun
		ltxDirs  map[string]struct{}           // directories of LTX files whose names this process made durable
		watched  watch                         // for the checkpoint that waits for its snapshot
		failed   map[wire.TenantID]string      // copies that may lack what units hold, and why; durable
		replaced map[wire.TenantID]replacement // copies that came whole from another node; durable
		unsure   map[wire.TenantID]string      // whose record among replaced may be another on disk, and the base that this one names
		units    []*unit                       // ascending by seq: recorded ones, then at most some written ones
		private  []*segment                    // of large transactions since the newest capture
		nextSeq  uint64                        // of the next segment
		absorbed uint64                        // seq of the newest unit that all bases contain
		retired  uint64                        // seq of the newest unit whose segments are removed
		initial  map[string]bool               // segment files found at the start that no manifest has named so far
		bytes    int64                         // of all segments
	}
}

// watch remembers the first capture that began after the watch did and was
// written out whole. Once a snapshot that was asked for at that time is durable, so are all units
// up to this one: snapshots are made one after another, and each lists all units.
type watch struct {
	after uint64 // captures that had begun
	done  bool
	seq   uint64 // of the capture's unit
	index uint64 // of the log
}

// unit is what one checkpoint wrote.
type unit struct {
	seq      uint64
	segments []*segment
	recorded bool
	made     int64 // unix ms
	tenants  map[wire.TenantID][]located
}

// located is a section and the file it lies in.
type located struct {
	*section
	file   *pageFile
	number uint64 // of the segment
}

func (u *unit) index() {
	u.tenants = map[wire.TenantID][]located{}
	for _, sg := range u.segments {
		number := seqOf(sg.path)
		for _, s := range sg.sections {
			u.tenants[s.Tenant] = append(u.tenants[s.Tenant], located{s, sg.file, number})
		}
	}
}

// ids are the tenants of the unit, in order.
func (u *unit) ids() []wire.TenantID {
	return slices.SortedFunc(maps.Keys(u.tenants), func(a, b wire.TenantID) int { return bytes.Compare(a[:], b[:]) })
}

func (u *unit) bytes() (n int64) {
	for _, s := range u.segments {
		n += s.bytes
	}
	return n
}

func (f *files) segmentDir() string { return filepath.Join(f.cfg.Dir, "segments") }

func (f *files) basesDir() string { return filepath.Join(f.cfg.Dir, "bases") }

// basePath is where the base of a tenant lies.
func (f *files) basePath(id wire.TenantID) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.basePathLocked(id)
}

func (f *files) basePathLocked(id wire.TenantID) string {
	return f.numberedBase(id, f.mu.replaced[id].number)
}

// numberedBase is where the base lies that came with a copy of that number; 0 is the base of a tenant
// whose whole life this node has seen.
func (f *files) numberedBase(id wire.TenantID, number uint64) string {
	if number == 0 {
		return filepath.Join(f.basesDir(), id.String()+".db")
	}
	return filepath.Join(f.basesDir(), fmt.Sprintf("%s.%016x.db", id, number))
}

func (f *files) open(cfg Config) error {
	f.cfg = cfg
	f.mu.initial = map[string]bool{}
	if err := f.loadProgress(); err != nil {
		return err
	}
	if err := f.loadFailed(); err != nil {
		return err
	}
	if err := f.loadOrigin(); err != nil {
		return err
	}
	f.mu.nextSeq = max(f.mu.absorbed, f.mu.retired) + 1
	if err := f.loadReplaced(); err != nil {
		return err
	}
	names, err := cfg.FS.ReadDir("segment.list", f.segmentDir())
	if err != nil {
		return fmt.Errorf("list segments: %w", err)
	}
	for _, n := range names {
		var seq uint64
		if _, err := fmt.Sscanf(n.Name(), "%016x.seg", &seq); err == nil && n.Name() == segmentName(seq) {
			f.mu.initial[n.Name()] = true
			f.mu.nextSeq = max(f.mu.nextSeq, seq+1)
		}
	}
	// What was staged lies in the log too.
	staged, err := cfg.FS.ReadDir("staging.list", filepath.Join(cfg.Dir, "staging"))
	if err != nil {
		return fmt.Errorf("list staged transactions: %w", err)
	}
	for _, n := range staged {
		if err := cfg.FS.Remove("staging.remove", filepath.Join(cfg.Dir, "staging", n.Name())); err != nil {
			return fmt.Errorf("remove staged transaction: %w", err)
		}
	}
	return nil
}

// Progress file: magic, absorbed, retired, CRC.
const progressMagic = "NSQLPRG1"

func (f *files) progressPath() string { return filepath.Join(f.cfg.Dir, "progress") }

func (f *files) loadProgress() error {
	b, err := disk.ReadFile(f.cfg.FS, "progress.read", f.progressPath(), 1<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(b) != 28 || string(b[:8]) != progressMagic || crc32.Checksum(b[:24], castagnoli) != binary.BigEndian.Uint32(b[24:]) {
		return &CorruptError{File: f.progressPath(), What: "it is no progress file of this version"}
	}
	f.mu.absorbed = binary.BigEndian.Uint64(b[8:])
	f.mu.retired = binary.BigEndian.Uint64(b[16:])
	return nil
}

// saveProgress makes absorbed and retired durable.
func (f *files) saveProgress(absorbed, retired uint64) error {
	b := make([]byte, 0, 28)
	b = append(b, progressMagic...)
	b = binary.BigEndian.AppendUint64(b, absorbed)
	b = binary.BigEndian.AppendUint64(b, retired)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return disk.WriteFileAtomic(f.cfg.FS, "progress.write", f.progressPath(), b, 0o600)
}

// takeSeq gives out the number of the next segment.
func (f *files) takeSeq() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.nextSeq++
	return f.mu.nextSeq - 1
}

// privateSegment is a segment for one large transaction.
type privateSegment struct {
	w   *segmentWriter
	sec *section
}

// createPrivate begins the segment of a large transaction of t after prev.
func (f *files) createPrivate(t *Tenant, prev State) (*privateSegment, error) {
	rec := t.Record()
	w, err := createSegment(f.cfg.FS, f.segmentDir(), f.cfg.ID, f.takeSeq(), f.cfg.Now().UnixMilli())
	if err != nil {
		return nil, err
	}
	sec := &section{Tenant: t.id, Epoch: rec.Epoch, PageSize: int(rec.PageSize), Prev: prev}
	w.begin(sec)
	return &privateSegment{w: w, sec: sec}, nil
}

// finishPrivate syncs it; the next unit will have it.
func (f *files) finishPrivate(p *privateSegment, next State, time int64) (*pageFile, error) {
	p.sec.Next, p.sec.Time = next, time
	sg, err := p.w.finish()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.mu.private = append(f.mu.private, sg)
	f.mu.bytes += sg.bytes
	f.mu.Unlock()
	return sg.file, nil
}

// openStore opens the store of a tenant at state st: its base, and the pages in the
// units that the base does not contain yet.
func (f *files) openStore(id wire.TenantID, pageSize int, st State, budget *Budget) (*Store, error) {
	f.shift.RLock()
	defer f.shift.RUnlock()
	b, err := openBase(f.cfg.FS, id, f.basePath(id), pageSize)
	if err != nil {
		return nil, err
	}
	s := newStore(id, pageSize, f.lockPgno(pageSize), st, b, budget)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, u := range f.mu.units {
		if u.seq <= f.mu.absorbed {
			continue
		}
		for _, l := range f.sectionsLocked(u, id) {
			for i, p := range l.pages {
				l.file.acquire()
				v := version{tx: l.Next.TXID, sum: p.sum, file: l.file, off: l.pageOffset(i)}
				if c := s.mu.chains[p.pgno]; len(c) > 0 { // an earlier segment has it too
					c[0].file.release()
					c[0] = v
				} else {
					s.mu.chains[p.pgno] = []version{v}
				}
			}
		}
	}
	return s, nil
}

// sections are those of a unit that belong on top of the tenant's base: none from before the base came with a copy.
func (f *files) sections(u *unit, id wire.TenantID) []located {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sectionsLocked(u, id)
}

func (f *files) sectionsLocked(u *unit, id wire.TenantID) []located {
	all, from := u.tenants[id], f.mu.replaced[id].number
	if !slices.ContainsFunc(all, func(l located) bool { return l.number < from }) {
		return all
	}
	var l []located
	for _, s := range all {
		if s.number >= from {
			l = append(l, s)
		}
	}
	return l
}

// lockPgno is the page with SQLite's lock bytes.
func (f *files) lockPgno(pageSize int) uint32 { return lockPgno(f.cfg.pendingByte, pageSize) }

// beginCapture numbers a capture.
func (f *files) beginCapture() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.captures++
	return f.mu.captures
}

// listed says that a capture was written out whole.
func (f *files) listed(capture, seq, index uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w := &f.mu.watched; !w.done && capture > w.after {
		w.done, w.seq, w.index = true, seq, index
	}
}

// watch begins to wait for a capture.
func (f *files) watch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.watched = watch{after: f.mu.captures}
}

// addUnit makes a written unit known.
func (f *files) addUnit(u *unit) {
	u.index()
	f.mu.Lock()
	f.mu.units = append(f.mu.units, u)
	f.mu.Unlock()
}

// recorded says that the snapshot is durable that was asked for after watch. It returns
// the index of the log up to which the snapshot goes at least, or 0 when no capture was seen.
func (f *files) recorded() uint64 {
	f.mu.Lock()
	w := f.mu.watched
	if !w.done {
		f.mu.Unlock()
		return 0
	}
	for _, u := range f.mu.units {
		if u.seq <= w.seq {
			u.recorded = true
		}
	}
	orphans := slices.Sorted(maps.Keys(f.mu.initial))
	f.mu.initial = nil
	f.mu.Unlock()
	for _, n := range orphans {
		if err := f.cfg.FS.Remove("segment.remove", filepath.Join(f.segmentDir(), n)); err != nil {
			f.cfg.Log.Warn("orphaned segment stays", "file", n, "error", err)
		}
	}
	return w.index
}

// loadUnits opens the segments that a manifest lists.
func (f *files) loadUnits(list []manifestUnit) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var newest uint64
	for _, mu := range list {
		newest = max(newest, mu.seq)
	}
	if newest < f.mu.absorbed {
		return &CorruptError{File: f.progressPath(), What: fmt.Sprintf("the bases contain unit %d; the manifest knows units up to %d only, it is an older one", f.mu.absorbed, newest)}
	}
	for _, mu := range list {
		if mu.seq <= f.mu.retired {
			continue
		}
		u := &unit{seq: mu.seq, recorded: true, made: mu.made}
		for _, seq := range mu.segments {
			name := segmentName(seq)
			sg, err := openSegment(f.cfg.FS, filepath.Join(f.segmentDir(), name))
			if err != nil {
				return err
			}
			delete(f.mu.initial, name)
			u.segments = append(u.segments, sg)
			f.mu.bytes += sg.bytes
		}
		u.index()
		f.mu.units = append(f.mu.units, u)
	}
	sort.Slice(f.mu.units, func(i, j int) bool { return f.mu.units[i].seq < f.mu.units[j].seq })
	return nil
}

// list is what a manifest says of the units.
func (f *files) list() []manifestUnit {
	f.mu.Lock()
	defer f.mu.Unlock()
	var l []manifestUnit
	for _, u := range f.mu.units {
		m := manifestUnit{seq: u.seq, made: u.made}
		for _, s := range u.segments {
			m.segments = append(m.segments, seqOf(s.path))
		}
		l = append(l, m)
	}
	return l
}

func seqOf(path string) (seq uint64) {
	fmt.Sscanf(strings.TrimSuffix(filepath.Base(path), ".seg"), "%016x", &seq)
	return seq
}

// pending returns the oldest unit that is recorded and not absorbed yet, or nil.
func (f *files) pending() *unit {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, u := range f.mu.units {
		if u.seq > f.mu.absorbed {
			if !u.recorded {
				return nil
			}
			return u
		}
	}
	return nil
}

// segmentBytes is the size of all segments on disk.
func (f *files) segmentBytes() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.bytes
}

// retire removes the segments of units that are absorbed and in LTX files.
func (f *files) retire(units []*unit) error {
	last := units[len(units)-1].seq
	f.mu.Lock()
	absorbed := f.mu.absorbed
	f.mu.Unlock()
	if err := f.saveProgress(absorbed, last); err != nil {
		return err
	}
	f.mu.Lock()
	f.mu.retired = last
	f.mu.units = slices.DeleteFunc(f.mu.units, func(u *unit) bool { return u.seq <= last })
	for _, u := range units {
		f.mu.bytes -= u.bytes()
	}
	f.mu.Unlock()
	for _, u := range units {
		for _, s := range u.segments {
			f.removeSegment(s)
		}
	}
	return nil
}

// removeSegment lets go of a segment that nothing needs any more but open versions.
func (f *files) removeSegment(s *segment) {
	s.file.release()
	if err := f.cfg.FS.Remove("segment.remove", s.path); err != nil {
		// The next start finds it again as one that no manifest needs.
		f.cfg.Log.Warn("segment that is done with stays", "file", s.path, "error", err)
	}
}

func (f *files) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, u := range f.mu.units {
		for _, s := range u.segments {
			s.file.release()
		}
	}
	for _, s := range f.mu.private {
		s.file.release()
	}
	f.mu.units, f.mu.private = nil, nil
}
