package readpath

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"
)

// Of the nodes that hold a tenant without a vote, TreeRoots are fed by its voters, however many there are; each of them feeds TreeFan others on average,
// each of those as many again.
const (
	TreeRoots = 6
	TreeFan   = 8
)

// parentsMax is how many of those that may feed a node are named.
const parentsMax = 6

// Upstream is whom a node is fed by, best first.
type Upstream struct {
	Relays []string // none if that should be voters
	Others []string // relays for when neither Relays nor voters can be reached
}

// Tree says whom self follows. relays are all nodes that hold the tenant without a vote and can be dialled; leaves those that can't be dialled
// and so feed nobody. Either may have self, or not. There are several trees, by number, so that the work of relaying is shared.
//
// It is pure, and depends on the order of neither list. All nodes have one order in each tree that depends on nothing but their ids, and a relay
// is named only to nodes that come after it, or can't feed: so what nodes take from it has no rings, also when some of them know an older
// list. A node that comes or goes changes the feeder of few others.
func Tree(tree uint32, self string, relays, leaves []string) Upstream {
	order := slices.Clone(relays)
	slices.SortFunc(order, func(a, b string) int {
		return cmp.Or(cmp.Compare(treeHash(tree, "", a), treeHash(tree, "", b)), cmp.Compare(a, b))
	})
	at := slices.Index(order, self)
	if at < 0 {
		return treeLeaf(tree, self, order, leaves)
	}
	if at < TreeRoots {
		return Upstream{Others: nearest(tree, self, order[:at])}
	}
	from, size := 0, TreeRoots
	for at >= from+size+size*TreeFan {
		from, size = from+size, size*TreeFan
	}
	near := nearest(tree, self, order[from:from+size])
	return Upstream{Relays: near[:2], Others: near[2:]}
}

// treeLeaf says whom a node follows that feeds nobody.
func treeLeaf(tree uint32, self string, order, leaves []string) Upstream {
	before := len(order)
	for _, l := range leaves {
		if l != self && treeHash(tree, "", l) < treeHash(tree, "", self) {
			before++
		}
	}
	near := nearest(tree, self, order)
	if before < TreeRoots || len(near) < 2 {
		return Upstream{Others: near}
	}
	return Upstream{Relays: near[:2], Others: near[2:]}
}

// nearest are some of the nodes, in an order of self's own: so each of them is the first to about as many.
func nearest(tree uint32, self string, nodes []string) []string {
	own := slices.Clone(nodes)
	slices.SortFunc(own, func(a, b string) int {
		return cmp.Or(cmp.Compare(treeHash(tree, self, a), treeHash(tree, self, b)), cmp.Compare(a, b))
	})
	return own[:min(len(own), parentsMax)]
}

// Spread sorts nodes that are as good as each other for self, so that the first of them is not the same everywhere.
func Spread(tree uint32, self string, nodes []string) {
	slices.SortFunc(nodes, func(a, b string) int {
		return cmp.Or(cmp.Compare(treeHash(tree, self, a), treeHash(tree, self, b)), cmp.Compare(a, b))
	})
}

// treeHash is the same on all nodes, and in all versions: it decides the order.
func treeHash(tree uint32, self, node string) uint64 {
	h := fnv.New64a()
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], tree)
	h.Write(b[:])
	h.Write([]byte(self))
	h.Write([]byte{0})
	h.Write([]byte(node))
	x := h.Sum64()
	// Ids differ in their last byte alone, which FNV leaves in the low bits.
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
