package sqlite

import (
	"unsafe"

	"modernc.org/libc"
)

// The functions here are the methods of sqlite3_pcache_methods2
// (https://www.sqlite.org/c3ref/pcache_methods2.html). What they decide is
// what SQLite's own cache, pcache1.c, decides with one list per connection,
// with the budget of the PageCache where that looks at the free heap.

// pcache is the pages of one connection's database, in C memory. SQLite calls
// its methods from one goroutine at a time.
type pcache struct {
	buckets uintptr // array of mask+1 heads of chains of pages
	mask    uint32  // their number is a power of two

	count    uint32 // pages
	unpinned uint32 // of them those in the list
	limit    uint32 // PRAGMA cache_size, in pages
	limit90  uint32 // 90 % of it
	highest  uint32 // no key is above
	pool     uint32 // in PageCache.pools
	evict    uint32 // 1 for a database on disk: pages may be dropped once unpinned

	bytes int64 // of one page

	list page // anchor: list.older is the newest unpinned page, list.newer the oldest; in a ring

	// Not yet added to the PageCache.
	hits, misses, evictions int64
}

const (
	pointerSize = unsafe.Sizeof(uintptr(0))

	minBuckets = 64

	// reservedPages is how many pages a connection may have whatever the
	// budget says: about a path of each of two or three B-trees. pcache1 has
	// the same number.
	reservedPages = 10

	// A connection adds to the counts of the PageCache after so many events.
	countEvery = 512
)

func pcacheInit(*libc.TLS, uintptr) int32 { return CodeOK }

func pcacheShutdown(*libc.TLS, uintptr) {}

func pcacheCreate(tls *libc.TLS, pageSize, extraSize, purgeable int32) uintptr {
	p := calloc(tls, int(unsafe.Sizeof(pcache{})))
	if p == 0 {
		return 0
	}
	c := at[pcache](p)
	c.buckets = calloc(tls, minBuckets*int(pointerSize))
	if c.buckets == 0 {
		free(tls, p)
		return 0
	}
	c.mask = minBuckets - 1
	pc := process.cache.Load()
	c.pool = pc.pool(int(pageSize), int(extraSize))
	c.bytes = int64((*pc.pools.Load())[c.pool].pageBytes)
	if purgeable != 0 {
		c.evict = 1
	}
	c.list.older, c.list.newer = c.anchor(), c.anchor()
	return p
}

func pcacheCachesize(_ *libc.TLS, p uintptr, n int32) {
	c := at[pcache](p)
	if c.evict == 0 {
		return
	}
	c.limit = uint32(max(n, 0))
	c.limit90 = uint32(uint64(c.limit) * 9 / 10)
	for c.count > c.limit && c.unpinned > 0 {
		c.dropOldest()
	}
}

func pcachePagecount(_ *libc.TLS, p uintptr) int32 { return int32(at[pcache](p).count) }

func pcacheFetch(tls *libc.TLS, p uintptr, key uint32, create int32) uintptr {
	c := at[pcache](p)
	for pg := *c.bucket(key); pg != 0; {
		h := at[page](pg)
		if h.key == key {
			if h.older != 0 {
				c.pin(h)
			}
			c.hits++
			if c.hits >= countEvery {
				c.publish()
			}
			return pg
		}
		pg = h.chain
	}
	if create == 0 {
		return 0
	}
	return c.create(tls, key, create)
}

func pcacheUnpin(_ *libc.TLS, p, pg uintptr, discard int32) {
	c := at[pcache](p)
	switch {
	case discard != 0 || c.evict != 0 && c.count > c.limit:
		c.remove(pg)
	case c.evict != 0:
		h := at[page](pg)
		first := c.list.older
		h.newer, h.older = c.anchor(), first
		at[page](first).newer = pg
		c.list.older = pg
		c.unpinned++
		// Pages that had to be granted beyond the budget come back here,
		// the oldest first.
		if c.count > reservedPages && process.cache.Load().over.Load() {
			c.dropOldest()
		}
	}
}

func pcacheRekey(_ *libc.TLS, p, pg uintptr, from, to uint32) {
	c := at[pcache](p)
	if from == to {
		return
	}
	// SQLite drops a page that has the new key first, but the contract is
	// that this does.
	for other := *c.bucket(to); other != 0; other = at[page](other).chain {
		if h := at[page](other); h.key == to && other != pg {
			if h.older != 0 {
				c.pin(h)
			}
			c.remove(other)
			break
		}
	}
	c.unlink(pg)
	c.link(pg, to)
}

func pcacheTruncate(_ *libc.TLS, p uintptr, from uint32) { at[pcache](p).truncate(from) }

func pcacheDestroy(tls *libc.TLS, p uintptr) {
	c := at[pcache](p)
	c.truncate(0)
	c.publish()
	free(tls, c.buckets)
	free(tls, p)
}

func pcacheShrink(tls *libc.TLS, p uintptr) {
	c := at[pcache](p)
	for c.unpinned > 0 {
		c.dropOldest()
	}
	if c.mask+1 > minBuckets && c.count <= minBuckets {
		c.rehash(tls, minBuckets)
	}
	c.publish()
}

func (c *pcache) anchor() uintptr { return uintptr(unsafe.Pointer(&c.list)) }

func (c *pcache) bucket(key uint32) *uintptr {
	return at[uintptr](c.buckets + uintptr(key&c.mask)*pointerSize)
}

// create adds a page for a key that has none; 0 if that is not to be, or
// memory is out. SQLite asks with create 1 while it has dirty pages: when
// refused it writes some of them out and asks again with 2.
func (c *pcache) create(tls *libc.TLS, key uint32, create int32) uintptr {
	pc := process.cache.Load()
	pressed := c.evict != 0 && c.count >= reservedPages && pc.used.Load()+c.bytes > pc.budget.Load()
	if create == 1 {
		pinned := c.count - c.unpinned
		if pinned >= c.limit || pinned >= c.limit90 || pressed && c.unpinned < pinned {
			return 0
		}
	}
	if c.count > c.mask {
		c.rehash(tls, 2*(c.mask+1))
	}
	var pg uintptr
	if c.unpinned > 0 && (c.count+1 >= c.limit || pressed) {
		pg = c.list.newer
		c.pin(at[page](pg))
		c.unlink(pg)
		c.evictions++
	} else {
		pg = (*pc.pools.Load())[c.pool].get()
		if pg == 0 {
			return 0
		}
		if c.evict != 0 {
			pc.charge(c.bytes)
		} else {
			pc.pages.Add(1)
			pc.fixed.Add(c.bytes)
		}
		c.count++
	}
	h := at[page](pg)
	h.older = 0
	*at[uintptr](h.extra) = 0 // tells SQLite that the page is new
	c.link(pg, key)
	c.misses++
	if c.misses >= countEvery {
		c.publish()
	}
	return pg
}

// pin takes a page out of the list.
func (c *pcache) pin(h *page) {
	at[page](h.newer).older = h.older
	at[page](h.older).newer = h.newer
	h.older = 0
	c.unpinned--
}

// link files a page under a key.
func (c *pcache) link(pg uintptr, key uint32) {
	h, b := at[page](pg), c.bucket(key)
	h.key = key
	h.chain = *b
	*b = pg
	c.highest = max(c.highest, key)
}

// unlink takes a page out of its bucket.
func (c *pcache) unlink(pg uintptr) {
	b := c.bucket(at[page](pg).key)
	for *b != pg {
		b = &at[page](*b).chain
	}
	*b = at[page](pg).chain
}

// remove gives back the memory of a page that is not in the list.
func (c *pcache) remove(pg uintptr) {
	c.unlink(pg)
	c.release(pg)
}

// release is remove of a page that is in no bucket.
func (c *pcache) release(pg uintptr) {
	c.count--
	pc := process.cache.Load()
	(*pc.pools.Load())[c.pool].put(pg)
	if c.evict != 0 {
		pc.charge(-c.bytes)
	} else {
		pc.pages.Add(-1)
		pc.fixed.Add(-c.bytes)
	}
}

// dropOldest removes the page that has been unpinned longest.
func (c *pcache) dropOldest() {
	pg := c.list.newer
	c.pin(at[page](pg))
	c.remove(pg)
	c.evictions++
}

// truncate removes all pages from a key on, pinned ones too.
func (c *pcache) truncate(from uint32) {
	if from > c.highest {
		return
	}
	buckets, first := c.mask+1, uint32(0)
	if c.highest-from < c.mask { // the keys lie in a part of the buckets
		buckets, first = c.highest-from+1, from
	}
	for i := range buckets {
		b := c.bucket(first + i)
		for *b != 0 {
			pg := *b
			h := at[page](pg)
			if h.key < from {
				b = &h.chain
				continue
			}
			if h.older != 0 {
				c.pin(h)
			}
			*b = h.chain
			c.release(pg)
		}
	}
	c.highest = max(from, 1) - 1
}

// rehash spreads the pages over n buckets; without memory all stays as it is.
func (c *pcache) rehash(tls *libc.TLS, n uint32) {
	buckets := calloc(tls, int(n)*int(pointerSize))
	if buckets == 0 {
		return
	}
	old, oldMask := c.buckets, c.mask
	c.buckets, c.mask = buckets, n-1
	for i := range uintptr(oldMask) + 1 {
		for pg := *at[uintptr](old + i*pointerSize); pg != 0; {
			h := at[page](pg)
			next := h.chain
			b := c.bucket(h.key)
			h.chain = *b
			*b = pg
			pg = next
		}
	}
	free(tls, old)
}

// publish adds the counts of c to those of the PageCache.
func (c *pcache) publish() {
	pc := process.cache.Load()
	pc.hits.Add(c.hits)
	pc.misses.Add(c.misses)
	pc.evictions.Add(c.evictions)
	c.hits, c.misses, c.evictions = 0, 0, 0
}
