package pagestore

import (
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
	p.at = append(p.at, pin{})
	copy(p.at[i+1:], p.at[i:])
	p.at[i] = pin{tx, 1}
}

// remove takes one pin away and says whether it was the last at its version.
func (p *pinSet) remove(tx wire.TXID) bool {
	i := p.search(tx)
	if i == len(p.at) || p.at[i].tx != tx {
		return false
	}
	if p.at[i].n--; p.at[i].n > 0 {
		return false
	}
	p.at = append(p.at[:i], p.at[i+1:]...)
	return true
}

// anyIn says whether a version in [from, to) is pinned.
func (p *pinSet) anyIn(from, to wire.TXID) bool {
	i := sort.Search(len(p.at), func(i int) bool { return p.at[i].tx >= from })
	return i < len(p.at) && p.at[i].tx < to
}

// min returns the oldest pinned version.
func (p *pinSet) min() (wire.TXID, bool) {
	if len(p.at) == 0 {
		return 0, false
	}
	return p.at[0].tx, true
}
