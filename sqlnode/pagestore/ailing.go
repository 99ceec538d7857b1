package pagestore

import (
	"errors"

	"github.com/nearsql/nearsql/wire"
)

// Ailing is a copy of this node that wants to be replaced by another node's.
type Ailing struct {
	Tenant *Tenant
	Err    error // why; what Tenant.Failed says, or the corrupt page
	// InService says that the copy serves: a page of it is corrupt, and all others are as they were. Tenant.Failure
	// takes it out of service, which ReadCopy wants.
	InService bool
	Hollow    bool       // it never had its pages
	Diverged  bool       // what it made of an entry of the log is not what the entry says
	TXID      wire.TXID  // what it had built when that was found
	Epoch     wire.Epoch // of the tenant
	Index     uint64     // a copy must contain the tenant's entries up to this one
}

// Ailing lists the copies that want to be replaced, in no order: hollow ones, failed ones, and those in service
// with a page that was found corrupt.
func (g *Group) Ailing() []Ailing {
	var l []Ailing
	for _, t := range g.Tenants() {
		if a, ok := t.ailing(); ok {
			l = append(l, a)
		}
	}
	return l
}

// Ailing says whether this copy wants to be replaced, and why.
func (t *Tenant) Ailing() (Ailing, bool) { return t.ailing() }

func (t *Tenant) ailing() (Ailing, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := Ailing{Tenant: t, Err: t.mu.failed, Index: t.mu.floor, TXID: t.mu.built.TXID, Epoch: t.mu.rec.Epoch}
	switch {
	case t.mu.closed || t.mu.gone:
		return a, false
	case a.Err != nil:
		a.Hollow, a.Diverged = t.hollowLocked(), diverged(a.Err)
		return a, true
	case t.mu.rot != nil:
		a.Err, a.InService, a.Index = t.mu.rot, true, t.mu.index
		return a, true
	}
	return a, false
}

// Ails receives after a copy began to ail. One who looks at Ailing then, and now and then, misses none. There is one
// channel for all receivers.
func (g *Group) Ails() <-chan struct{} { return g.ails }

func (g *Group) someAil() {
	select {
	case g.ails <- struct{}{}:
	default:
	}
}

// storeFile stands for the file in a CorruptError about what the pages of all files together are.
const storeFile = "store"

// Diverged says that the copy, though its files are as they were written, is not what the log says.
func (e *CorruptError) Diverged() bool { return e.File == storeFile }

func diverged(err error) bool {
	var corrupt *CorruptError
	return errors.As(err, &corrupt) && corrupt.Diverged()
}
