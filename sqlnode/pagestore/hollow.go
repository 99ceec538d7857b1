package pagestore

import (
	"errors"
	"fmt"

	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// A copy is hollow when the log passed this node by: a snapshot of another node's says where the tenant stands,
// and this node does not have its pages. It knows the tenant's record and position, checks and keeps the entries
// that follow, and serves nothing, until ReadCopy has brought the pages. A copy that failed waits for
// one likewise.

// ErrHollow says that a copy waits for its pages, or that a group has such copies.
var ErrHollow = errors.New("the copy of this node waits for its pages from another")

// HollowError is why a hollow copy is out of service. It is ErrHollow.
type HollowError struct {
	Tenant wire.TenantID
	Epoch  wire.Epoch
	Want   State  // what the snapshot of the log says
	Index  uint64 // of the newest entry of the tenant in it
}

func (e *HollowError) Error() string {
	return fmt.Sprintf("tenant %s: %v (epoch %d, %s, entry %d)", e.Tenant, ErrHollow, e.Epoch, e.Want, e.Index)
}

// Is makes it ErrHollow.
func (e *HollowError) Is(target error) bool { return target == ErrHollow }

// Hollow is a copy that waits for its pages.
type Hollow struct {
	Tenant *Tenant
	Index  uint64 // a copy must contain the tenant's entries up to this one
}

// Hollow lists the tenants that are hollow, in no order. While there are any, the group takes no
// snapshot of its log, should not lead, and nobody is to be promoted or removed in it.
func (g *Group) Hollow() []Hollow {
	var l []Hollow
	for _, t := range g.Tenants() {
		t.mu.Lock()
		if t.hollowLocked() {
			l = append(l, Hollow{t, t.mu.floor})
		}
		t.mu.Unlock()
	}
	return l
}

func (t *Tenant) hollowLocked() bool { return errors.Is(t.mu.failed, ErrHollow) }

// followLocked brings the tenant to where a manifest of another node says that it stands: it stays
// when it stands there or further ahead, and else is hollow. It says whether the pages are missing.
func (t *Tenant) followLocked(mt *manifestTenant) (hollow bool) {
	switch {
	case t.mu.index == 0: // it is new
	case t.mu.rec.Epoch == mt.rec.Epoch && t.mu.log == mt.state:
		if t.mu.index < mt.index {
			t.mu.rec, t.mu.index, t.mu.logTime = mt.rec, mt.index, mt.time
		}
		return t.hollowLocked()
	case t.mu.index > mt.index && t.mu.rec.Epoch >= mt.rec.Epoch && t.mu.log.TXID >= mt.state.TXID:
		return t.hollowLocked()
	}
	if t.mu.failed == nil && t.mu.index > 0 {
		t.mu.have = Have{t.mu.rec.Epoch, t.mu.durable}
	}
	t.mu.rec, t.mu.log, t.mu.logTime, t.mu.index = mt.rec, mt.state, mt.time, mt.index
	t.mu.built, t.mu.durable = State{}, State{}
	t.mu.failed = &HollowError{Tenant: t.id, Epoch: mt.rec.Epoch, Want: mt.state, Index: mt.index}
	t.dropQueueLocked()
	t.forgetLocked()
	return true
}

// keepLocked keeps an entry for the copy to come, within a bound on what all tenants of the group keep. Past
// it the tenant's are forgotten, and the copy must contain them.
func (t *Tenant) keepLocked(q queued) {
	if t.mu.closed {
		q.parts.drop()
		return
	}
	t.mu.kept = append(t.mu.kept, q)
	if t.g.kept.add(q.weight()) > t.g.cfg.KeepBytes {
		t.forgetLocked()
	}
}

// forgetLocked drops the entries kept: a copy that is to be taken must contain all that the log had so far.
func (t *Tenant) forgetLocked() {
	t.dropKeptLocked(t.mu.index)
	t.mu.floor = t.mu.index
}

// dropKeptLocked drops the entries kept up to index.
func (t *Tenant) dropKeptLocked(index uint64) {
	n := 0
	for n < len(t.mu.kept) && t.mu.kept[n].index <= index {
		t.g.kept.add(-t.mu.kept[n].weight())
		t.mu.kept[n].parts.drop()
		t.mu.kept[n] = queued{}
		n++
	}
	t.mu.kept = t.mu.kept[n:]
}

// weight is what an entry costs to keep, in bytes of memory and of staged parts.
func (q *queued) weight() int64 {
	n := int64(q.size) + 256
	if q.h.Flags&txn.FlagParts != 0 {
		n += int64(q.h.BodyLen)
	}
	return n
}
