package replica

import (
	"fmt"
	"sync"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
	"github.com/nearsql/nearsql/wire/txn"
)

// TailBytes is how much a Tail keeps, unless it is told otherwise.
const TailBytes = 16 << 20

// itemBytes is about what an item takes beyond its entry.
const itemBytes = 128

// Tail is the newest entries of one lane, in memory, for any number of receivers at their own pace. Whoever falls behind its
// beginning has to catch up otherwise. Giving it an entry takes no time that depends on receivers.
type Tail struct {
	group wire.GroupID
	all   bool // of a voter: each tenant of the group is joined
	limit int64

	mu struct {
		sync.Mutex
		items    []item
		first    uint64 // sequence number of items[0]
		bytes    int64
		evicted  uint64 // invariant: entries up to this index, of tenants that have been here all the time, may be missing
		through  uint64 // all that the joined tenants have up to it is among the items, or was
		marks    uint64 // counts changes of through
		ended    bool
		last     map[wire.TenantID]uint64 // sequence number of the tenant's newest item; of those that have one
		tenants  map[wire.TenantID]member // not of a voter
		watchers map[chan struct{}]struct{}
	}
}

type itemKind uint8

const (
	itemEntry itemKind = iota + 1
	itemEnter          // the tenant's copy was replaced, or it comes into the lane: it begins at index
	itemLeave          // the tenant is not in the lane any more
)

// item is something that happens in a lane.
type item struct {
	kind   itemKind
	tenant wire.TenantID
	index  uint64
	before uint64 // sequence number of the tenant's item before, plus 1; 0 for none
	entry  []byte
	// control: the tenant's record may be another after it.
	control bool
	prev    stream.Head // position before an entry, without index
	next    stream.Head // position after it, with its index
}

func (i *item) size() int64 { return int64(len(i.entry)) + itemBytes }

// member is a tenant of a lane that another node feeds.
type member struct {
	entered uint64 // entries up to this index are not in the lane
	joined  bool
	index   uint64 // that it was joined at
	marks   uint64 // of the tail then
}

// NewTail is the lane of a group that this node votes in. applied is the index of the newest entry that the node's copies have been
// given. limit is in bytes; 0 means TailBytes.
func NewTail(group wire.GroupID, applied uint64, limit int64) *Tail {
	t := newTail(group, limit)
	t.all = true
	t.mu.evicted, t.mu.through = applied, applied
	return t
}

func newTail(group wire.GroupID, limit int64) *Tail {
	if limit <= 0 {
		limit = TailBytes
	}
	t := &Tail{group: group, limit: limit}
	t.mu.last = make(map[wire.TenantID]uint64)
	t.mu.tenants = make(map[wire.TenantID]member)
	t.mu.watchers = make(map[chan struct{}]struct{})
	return t
}

// Group is the group whose transactions come here.
func (t *Tail) Group() wire.GroupID { return t.group }

// Append adds an entry that took effect on this node's copy. Entries come in the order of the log; those that were refused
// are left out. The bytes must stay as they are.
func (t *Tail) Append(index uint64, entry []byte) error {
	h, err := txn.DecodeHeader(entry)
	if err != nil {
		return fmt.Errorf("entry %d of group %d: %w", index, t.group, err)
	}
	t.append(index, entry, &h)
	return nil
}

func (t *Tail) append(index uint64, entry []byte, h *txn.Header) {
	t.mu.Lock()
	defer t.mu.Unlock()
	prev, next := positions(index, h)
	t.addLocked(item{kind: itemEntry, tenant: h.Tenant, index: index, entry: entry, control: h.Kind == txn.Control, prev: prev, next: next})
}

// positions are those before and after an entry. Only a transaction moves a position.
func positions(index uint64, h *txn.Header) (prev, next stream.Head) {
	prev = stream.Head{Epoch: h.Epoch, TXID: h.PrevTXID, Checksum: h.PrevSum}
	next = prev
	if h.Kind == txn.Transaction {
		next.TXID, next.Checksum = h.NextTXID, h.NextSum
	}
	next.Index = index
	return prev, next
}

// samePosition compares all but the index.
func samePosition(a, b stream.Head) bool {
	return a.Epoch == b.Epoch && a.TXID == b.TXID && a.Checksum == b.Checksum
}

// Advance says that all entries up to index that took effect have been appended.
func (t *Tail) Advance(index uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if index <= t.mu.through && t.all {
		return
	}
	t.mu.through = max(t.mu.through, index)
	t.mu.marks++
	t.wakeLocked()
}

// Leave says that a tenant is not in the lane any more: it was purged, has moved, or its copy is out of service.
func (t *Tail) Leave(id wire.TenantID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mu.tenants, id)
	t.addLocked(item{kind: itemLeave, tenant: id})
}

// Renew says that a tenant's copy was replaced by one that contains its entries up to index.
func (t *Tail) Renew(id wire.TenantID, index uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.tenants[id] = member{entered: index}
	t.addLocked(item{kind: itemEnter, tenant: id, index: index})
}

// join says that all of a tenant up to index is among the items, and that marks from here on cover it.
func (t *Tail) join(id wire.TenantID, index uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.mu.tenants[id]
	m.joined, m.index, m.marks = true, index, t.mu.marks
	t.mu.tenants[id] = m
	t.wakeLocked()
}

// End says that nothing more comes: the node does not vote any more, or its own feeder is gone.
func (t *Tail) End() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.ended = true
	t.mu.items, t.mu.bytes = nil, 0
	clear(t.mu.last)
	clear(t.mu.tenants)
	t.wakeLocked()
}

func (t *Tail) addLocked(i item) {
	if t.mu.ended {
		return
	}
	seq := t.mu.first + uint64(len(t.mu.items))
	if last, ok := t.mu.last[i.tenant]; ok {
		i.before = last + 1
	}
	t.mu.last[i.tenant] = seq
	t.mu.items = append(t.mu.items, i)
	t.mu.bytes += i.size()
	n := 0
	for ; t.mu.bytes > t.limit && n < len(t.mu.items); n++ {
		old := &t.mu.items[n]
		t.mu.bytes -= old.size()
		t.mu.evicted = max(t.mu.evicted, old.index)
		if t.mu.last[old.tenant] == t.mu.first+uint64(n) {
			delete(t.mu.last, old.tenant)
		}
		*old = item{}
	}
	t.mu.items = t.mu.items[n:]
	t.mu.first += uint64(n)
	t.wakeLocked()
}

func (t *Tail) wakeLocked() {
	for w := range t.mu.watchers {
		kick(w)
	}
}

// kick lets the one who waits at w go on.
func kick(w chan struct{}) {
	select {
	case w <- struct{}{}:
	default:
	}
}

// watch lets w, which holds one, be kicked when something happens. It returns the sequence number of what comes next.
func (t *Tail) watch(w chan struct{}) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.watchers[w] = struct{}{}
	return t.mu.first + uint64(len(t.mu.items))
}

func (t *Tail) unwatch(w chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mu.watchers, w)
}

// batch is what a receiver gets of a lane at a time.
type batch struct {
	items   []item
	next    uint64 // sequence number of what comes after items
	lost    bool   // the lane has ended, or what was asked for is gone
	drained bool   // after items, nothing more has come
	through uint64 // if drained
	covered []cover
}

// cover says up to which index all of a tenant is there at the end of a batch; not ok if it is not joined.
type cover struct {
	ok    bool
	index uint64
}

// read returns what comes from a sequence number on, at most about limit bytes. covered is of the tenants that are asked for.
func (t *Tail) read(from uint64, limit int64, ask []wire.TenantID) batch {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.ended || from < t.mu.first {
		return batch{lost: true}
	}
	rest := t.mu.items[from-t.mu.first:]
	n := 0
	for bytes := int64(0); n < len(rest) && (n == 0 || bytes+rest[n].size() <= limit); n++ {
		bytes += rest[n].size()
	}
	b := batch{items: append([]item(nil), rest[:n]...), next: from + uint64(n), drained: n == len(rest), through: t.mu.through}
	if !b.drained {
		return b
	}
	for _, id := range ask {
		b.covered = append(b.covered, t.coverLocked(id))
	}
	return b
}

func (t *Tail) coverLocked(id wire.TenantID) cover {
	if t.all {
		return cover{true, t.mu.through}
	}
	m := t.mu.tenants[id]
	c := cover{m.joined, m.index}
	if t.mu.marks > m.marks {
		c.index = max(c.index, t.mu.through)
	}
	return c
}

func (t *Tail) throughNow() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.through
}

// since returns a tenant's entries with an index above one, among the items before the sequence number end. Not complete
// if there may have been others.
func (t *Tail) since(id wire.TenantID, index, end uint64) (items []item, complete bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.ended || index < t.mu.evicted {
		return nil, false
	}
	if m, ok := t.mu.tenants[id]; index < m.entered || !ok && !t.all {
		return nil, false
	}
	at, ok := t.mu.last[id]
	for ok && at >= t.mu.first {
		i := t.mu.items[at-t.mu.first]
		if i.kind == itemEnter && index < i.index || i.kind == itemLeave {
			return nil, false
		}
		if i.index <= index && (i.kind == itemEntry || i.kind == itemEnter) {
			break
		}
		if i.kind == itemEntry && at < end {
			items = append(items, i)
		}
		at, ok = i.before-1, i.before > 0
	}
	for a, b := 0, len(items)-1; a < b; a, b = a+1, b-1 {
		items[a], items[b] = items[b], items[a]
	}
	return items, true
}
