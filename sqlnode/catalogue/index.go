package catalogue

import (
	"iter"
	"slices"
)

// index holds tenants in order. It never changes: with returns another one, that shares most of it.
// It is a B-tree of two levels, which for the number of tenants of a cluster is enough: to change one
// of 100,000 copies 8 KiB.
type index struct {
	cmp    func(a, b *Tenant) int
	chunks [][]*Tenant // none empty; none changes
	n      int
}

const chunkMax = 512 // tenants of a chunk

// build makes an index of tenants, which it sorts.
func build(cmp func(a, b *Tenant) int, all []*Tenant) index {
	slices.SortFunc(all, cmp)
	x := index{cmp: cmp, n: len(all)}
	for c := range slices.Chunk(all, chunkMax/2) { // half full, so that they can grow
		x.chunks = append(x.chunks, c)
	}
	return x
}

// chunk is the number of the chunk that p is in, or would be; there may be none.
func chunk(cmp func(a, b *Tenant) int, chunks [][]*Tenant, p *Tenant) int {
	i, _ := slices.BinarySearchFunc(chunks, p, func(c []*Tenant, p *Tenant) int { return cmp(c[len(c)-1], p) })
	return i
}

// from gives what is at or above p, in order.
func (x index) from(p *Tenant) iter.Seq[*Tenant] {
	return func(yield func(*Tenant) bool) {
		i := chunk(x.cmp, x.chunks, p)
		if i == len(x.chunks) {
			return
		}
		j, _ := slices.BinarySearchFunc(x.chunks[i], p, x.cmp)
		for ; i < len(x.chunks); i, j = i+1, 0 {
			for _, t := range x.chunks[i][j:] {
				if !yield(t) {
					return
				}
			}
		}
	}
}

// first returns the least that is at or above p, or nil.
func (x index) first(p *Tenant) *Tenant {
	i := chunk(x.cmp, x.chunks, p)
	if i == len(x.chunks) {
		return nil
	}
	j, _ := slices.BinarySearchFunc(x.chunks[i], p, x.cmp) // not beyond its end: the last is at or above p
	return x.chunks[i][j]
}

// with returns an index without the tenants of out, which are in x, and with those of in, which are not.
func (x index) with(out, in []*Tenant) index {
	if len(out)+len(in) > 64+x.n/64 {
		gone := make(map[*Tenant]bool, len(out))
		for _, t := range out {
			gone[t] = true
		}
		all := make([]*Tenant, 0, x.n+len(in))
		for _, c := range x.chunks {
			for _, t := range c {
				if !gone[t] {
					all = append(all, t)
				}
			}
		}
		return build(x.cmp, append(all, in...))
	}
	y := index{cmp: x.cmp, chunks: slices.Clone(x.chunks), n: x.n}
	for _, t := range out {
		y.remove(t)
	}
	for _, t := range in {
		y.add(t)
	}
	return y
}

// remove takes t out of y, whose list of chunks is its own.
func (y *index) remove(t *Tenant) {
	i := chunk(y.cmp, y.chunks, t)
	if i == len(y.chunks) {
		return
	}
	j, found := slices.BinarySearchFunc(y.chunks[i], t, y.cmp)
	if !found {
		return
	}
	y.n--
	if len(y.chunks[i]) == 1 {
		y.chunks = slices.Delete(y.chunks, i, i+1)
		return
	}
	y.chunks[i] = slices.Concat(y.chunks[i][:j], y.chunks[i][j+1:])
}

// add puts t into y, whose list of chunks is its own.
func (y *index) add(t *Tenant) {
	y.n++
	if len(y.chunks) == 0 {
		y.chunks = [][]*Tenant{{t}}
		return
	}
	i := min(chunk(y.cmp, y.chunks, t), len(y.chunks)-1)
	j, _ := slices.BinarySearchFunc(y.chunks[i], t, y.cmp)
	c := slices.Concat(y.chunks[i][:j], []*Tenant{t}, y.chunks[i][j:])
	if len(c) <= chunkMax {
		y.chunks[i] = c
		return
	}
	half := len(c) / 2
	y.chunks = slices.Replace(y.chunks, i, i+1, c[:half:half], c[half:])
}
