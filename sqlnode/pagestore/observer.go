package pagestore

import (
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// Observer is told what takes effect in a group, in the order of its log: what passes the tenants' transactions on to nodes that don't vote.
// Its methods are called by the goroutine that calls Apply and Restore, but for Renewed. They must be quick, and call nothing of the group.
type Observer interface {
	// Begun says that entries come from the one after index on: what was told before says nothing of them.
	Begun(index uint64)
	// Applied is called for an entry that took effect. It may keep the entry's bytes no longer than the call lasts.
	Applied(index uint64, entry []byte)
	// Passed says that all entries up to index that took effect have been told.
	Passed(index uint64)
	// Renewed says that a tenant's copy came from another node and contains its entries up to index, some of which
	// were not told.
	Renewed(id wire.TenantID, index uint64)
	// Left says that the group has a tenant no more.
	Left(id wire.TenantID)
}

// observe tells of an entry; nil of one that was refused. st is where the entry led.
func (g *Group) observe(index uint64, entry []byte, h *txn.Header, st State) {
	o := g.cfg.Observer
	if o == nil {
		return
	}
	// A part may come of a transaction that can't follow any more: only the end of it is refused.
	if entry != nil && (h.Kind != txn.Part || h.PrevTXID == st.TXID && h.PrevSum == st.Checksum) {
		o.Applied(index, entry)
	}
	o.Passed(index)
}

func (g *Group) observeLeft(id wire.TenantID) {
	if o := g.cfg.Observer; o != nil {
		o.Left(id)
	}
}

func (g *Group) observeRenewed(id wire.TenantID, index uint64) {
	if o := g.cfg.Observer; o != nil {
		o.Renewed(id, index)
	}
}

// observeBegun tells where the group stands after Restore. Copies that are further ahead are told of too.
func (g *Group) observeBegun() {
	o := g.cfg.Observer
	if o == nil {
		return
	}
	at := g.Index()
	o.Begun(at)
	for _, t := range g.Tenants() {
		if h, err := t.Head(); err == nil && h.Index > at {
			o.Renewed(t.id, h.Index)
		}
	}
}

// contains says whether the copy contains the entry with an index.
func (t *Tenant) contains(index uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return index <= t.mu.index
}
