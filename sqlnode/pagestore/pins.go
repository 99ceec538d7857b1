package pagestore

import (
	"slices"
	"sort"

	"github.com/nearsql/nearsql/wire"
)

// pinSet counts who holds which version of a store. There are few distinct
// versions pinned at a time (readers of one moment share one), so a sorted
// slice is the fastest set.
type pinSet struct {
	at []pin // ascending by tx
}

type pin struct {
	tx wire.TXID
	n  int
	// keeps are pages with a version that this pin, and none above it, kept from being
	// dropped when last looked at. So what a pin costs to give up is what it held, however
	// much older pins hold.
	keeps map[uint32]struct{}
}

func (p *pinSet) search(tx wire.TXID) int {
	if n := len(p.at); n > 0 && p.at[n-1].tx == tx {
		return n - 1 // the newest: the usual case
	}
	return sort.Search(len(p.at), func(i int) bool { return p.at[i].tx >= tx })
}

func (p *pinSet) add(tx wire.TXID) {
	i := p.search(tx)
	if i < len(p.at) && p.at[i].tx == tx {
		p.at[i].n++
		return
	}
	p.at = slices.Insert(p.at, i, pin{tx: tx, n: 1})
}

// remove takes one pin away. When it was the last at its version, it returns the pages
// to be looked at again.
func (p *pinSet) remove(tx wire.TXID) map[uint32]struct{} {
	i := p.search(tx)
	if i == len(p.at) || p.at[i].tx != tx {
		return nil
	}
	if p.at[i].n--; p.at[i].n > 0 {
		return nil
	}
	keeps := p.at[i].keeps
	p.at = slices.Delete(p.at, i, i+1)
	return keeps
}

// keep says whether a version in [from, to) is pinned, and notes pgno with the newest one.
func (p *pinSet) keep(pgno uint32, from, to wire.TXID) bool {
	i := sort.Search(len(p.at), func(i int) bool { return p.at[i].tx >= to }) - 1
	if i < 0 || p.at[i].tx < from {
		return false
	}
	if p.at[i].keeps == nil {
		p.at[i].keeps = map[uint32]struct{}{}
	}
	p.at[i].keeps[pgno] = struct{}{}
	return true
}

// min returns the oldest pinned version.
func (p *pinSet) min() (wire.TXID, bool) {
	if len(p.at) == 0 {
		return 0, false
	}
	return p.at[0].tx, true
}
