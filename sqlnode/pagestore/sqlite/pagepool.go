package sqlite

import (
	"sync"
	"unsafe"
)

// page is the head of a cached page, in C memory between its content and the
// extra bytes that SQLite keeps for it:
//
//	content (pageSize) | page | extra (extraSize)
//
// The first two fields are sqlite3_pcache_page; what SQLite holds is the
// address of this head.
type page struct {
	content, extra uintptr
	chain          uintptr // next in the bucket; in the pool: next free
	newer, older   uintptr // neighbours in the list of unpinned pages; older is 0 when pinned
	key            uint32  // page number
	slab           uint32  // where the memory belongs, in the pool
}

const pageHead = unsafe.Sizeof(page{})

// slabBytes is about how much memory a pool takes from the system at a time:
// 60 pages of 4 KB. Little enough that it soon is empty again and can be given
// back, much enough that 10,000 connections don't run out of mappings.
const slabBytes = 256 << 10

// pagePool hands out the memory of pages of one size. libc's allocator would
// take 8 KB for a page of 4 KB and its head.
type pagePool struct {
	pageSize, extraSize int
	pageBytes           int // with head and extra
	perSlab             int

	mu struct {
		sync.Mutex
		slabs   []*slab // by slab.id; nil where one was given back
		freeIDs []uint32
		partial []*slab // those with room; the last is used first
		empty   int     // slabs without any page; at most one is kept
		bytes   int64
	}
}

// slab is a piece of memory cut into pages.
type slab struct {
	id      uint32
	mem     []byte
	base    uintptr
	cut     int     // pages cut off so far
	free    uintptr // pages that came back, by chain
	used    int
	partial int // index in pagePool.mu.partial, -1 when full
}

func newPagePool(pageSize, extraSize int) *pagePool {
	p := &pagePool{pageSize: pageSize, extraSize: extraSize}
	p.pageBytes = roundUp(pageSize, 8) + int(pageHead) + roundUp(extraSize, 8)
	p.perSlab = max(slabBytes/p.pageBytes, 4)
	return p
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

func (p *pagePool) mapped() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.bytes
}

// get returns a page with its content all zero; 0 when memory is out.
func (p *pagePool) get() uintptr {
	pg, used := p.take()
	if used {
		// What another database had there must not show, not even through
		// a file that is damaged.
		clear(view(at[page](pg).content, p.pageSize))
	}
	return pg
}

// take returns a page, and whether it has been used before.
func (p *pagePool) take() (pg uintptr, used bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.mu.partial)
	if n == 0 {
		if !p.grow() {
			return 0, false
		}
		n = 1
	}
	s := p.mu.partial[n-1]
	if s.used == 0 {
		p.mu.empty--
	}
	s.used++
	if s.used == p.perSlab {
		p.dropPartial(s)
	}
	if s.free != 0 {
		pg = s.free
		s.free = at[page](pg).chain
		return pg, true
	}
	content := s.base + uintptr(s.cut*p.pageBytes)
	s.cut++
	pg = content + uintptr(roundUp(p.pageSize, 8))
	*at[page](pg) = page{content: content, extra: pg + pageHead, slab: s.id}
	return pg, false
}

// put takes back a page.
func (p *pagePool) put(pg uintptr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := at[page](pg)
	s := p.mu.slabs[h.slab]
	h.chain = s.free
	s.free = pg
	s.used--
	if s.partial < 0 {
		p.addPartial(s)
	}
	if s.used > 0 {
		return
	}
	p.mu.empty++
	if p.mu.empty > 1 {
		p.shrink(s)
	}
}

// grow adds a slab; called with p.mu held.
func (p *pagePool) grow() bool {
	mem, err := mapMemory(p.perSlab * p.pageBytes)
	if err != nil {
		return false
	}
	s := &slab{mem: mem, base: uintptr(unsafe.Pointer(unsafe.SliceData(mem)))}
	if n := len(p.mu.freeIDs); n > 0 {
		s.id = p.mu.freeIDs[n-1]
		p.mu.freeIDs = p.mu.freeIDs[:n-1]
		p.mu.slabs[s.id] = s
	} else {
		s.id = uint32(len(p.mu.slabs))
		p.mu.slabs = append(p.mu.slabs, s)
	}
	p.addPartial(s)
	p.mu.empty++
	p.mu.bytes += int64(len(mem))
	return true
}

func (p *pagePool) addPartial(s *slab) {
	s.partial = len(p.mu.partial)
	p.mu.partial = append(p.mu.partial, s)
}

func (p *pagePool) dropPartial(s *slab) {
	n := len(p.mu.partial) - 1
	last := p.mu.partial[n]
	p.mu.partial[s.partial] = last
	last.partial = s.partial
	p.mu.partial[n] = nil
	p.mu.partial = p.mu.partial[:n]
	s.partial = -1
}

// shrink gives the empty slab s back to the system; called with p.mu held.
func (p *pagePool) shrink(s *slab) {
	n := int64(len(s.mem))
	if unmapMemory(s.mem) != nil {
		return // keep it, then
	}
	p.dropPartial(s)
	p.mu.slabs[s.id] = nil
	p.mu.freeIDs = append(p.mu.freeIDs, s.id)
	p.mu.empty--
	p.mu.bytes -= n
}
