package sqlite

import (
	"math/rand/v2"
	"slices"
	"testing"

	"modernc.org/libc"
)

// pcacheModel is what a pcache must do, in the words of pcache1.c.
type pcacheModel struct {
	pages    map[uint32]uintptr
	unpinned []uint32 // oldest first
	limit    int
	evict    bool
	bytes    int64
}

func (m *pcacheModel) pinned() int { return len(m.pages) - len(m.unpinned) }

func (m *pcacheModel) isPinned(key uint32) bool {
	return m.pages[key] != 0 && !slices.Contains(m.unpinned, key)
}

func (m *pcacheModel) forget(key uint32) {
	delete(m.pages, key)
	m.unpinned = slices.DeleteFunc(m.unpinned, func(k uint32) bool { return k == key })
}

func (m *pcacheModel) pressed(pc *PageCache) bool {
	return m.evict && len(m.pages) >= reservedPages && pc.used.Load()+m.bytes > pc.budget.Load()
}

// fetch returns whether a page is to be found or made, and the key that has to
// go for it (0: none).
func (m *pcacheModel) fetch(pc *PageCache, key uint32, create int32) (ok bool, victim uint32) {
	if m.pages[key] != 0 {
		return true, 0
	}
	if create == 0 {
		return false, 0
	}
	if create == 1 && (m.pinned() >= m.limit || m.pinned() >= m.limit*9/10 || m.pressed(pc) && len(m.unpinned) < m.pinned()) {
		return false, 0
	}
	if len(m.unpinned) > 0 && (len(m.pages)+1 >= m.limit || m.pressed(pc)) {
		return true, m.unpinned[0]
	}
	return true, 0
}

func TestPageCacheAgainstModel(t *testing.T) {
	pc := process.cache.Load()
	if pc == nil {
		t.Skip("SQLite's own page cache")
	}
	before := pc.Stats()
	defer pc.SetBudget(before.BudgetBytes)
	for seed := range uint64(60 / Effort) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		pageSize, extra := []int32{512, 4096, 65536}[rnd.IntN(3)], int32(rnd.IntN(40)*8+8)
		m := &pcacheModel{pages: map[uint32]uintptr{}, evict: rnd.IntN(5) > 0}
		tls := libc.NewTLS()
		p := pcacheCreate(tls, pageSize, extra, libc.Bool32(m.evict))
		m.bytes = at[pcache](p).bytes
		budget := before.Bytes + before.BudgetBytes
		if rnd.IntN(2) == 0 {
			budget = pc.used.Load() + int64(rnd.IntN(40)+1)*m.bytes
		}
		pc.SetBudget(budget)
		setLimit := func() {
			n := rnd.IntN(60)
			pcacheCachesize(tls, p, int32(n))
			if !m.evict {
				return
			}
			m.limit = n
			for len(m.pages) > n && len(m.unpinned) > 0 {
				m.forget(m.unpinned[0])
			}
		}
		setLimit()
		keys := uint32(rnd.IntN(300) + 1)
		for step := range 3000 {
			key := rnd.Uint32N(keys) + 1
			switch op := rnd.IntN(100); {
			case op < 50:
				create := int32(rnd.IntN(3))
				ok, victim := m.fetch(pc, key, create)
				had := m.pages[key]
				got := pcacheFetch(tls, p, key, create)
				if (got != 0) != ok || had != 0 && got != had {
					t.Fatalf("seed %d step %d: fetch %d with %d: %x, want %t, had %x", seed, step, key, create, got, ok, had)
				}
				if got == 0 {
					continue
				}
				h := at[page](got)
				if had == 0 {
					if victim != 0 {
						if m.pages[victim] != got {
							t.Fatalf("seed %d step %d: %d did not take the page of %d", seed, step, key, victim)
						}
						m.forget(victim)
					}
					if *at[uintptr](h.extra) != 0 {
						t.Fatalf("seed %d step %d: the page is not marked new", seed, step)
					}
					if victim == 0 && slices.ContainsFunc(view(h.content, int(pageSize)), func(b byte) bool { return b != 0 }) {
						t.Fatalf("seed %d step %d: the page shows what another had", seed, step)
					}
					for _, b := range [][]byte{view(h.content, int(pageSize)), view(h.extra, int(extra))} {
						for i := range b {
							b[i] = byte(key) | 1
						}
					}
					m.pages[key] = got
				}
				for _, b := range [][]byte{view(h.content, int(pageSize)), view(h.extra, int(extra))} {
					if b[0] != byte(h.key)|1 || b[len(b)-1] != byte(h.key)|1 {
						t.Fatalf("seed %d step %d: page %d has changed", seed, step, key)
					}
				}
				m.unpinned = slices.DeleteFunc(m.unpinned, func(k uint32) bool { return k == key })
			case op < 90:
				if !m.isPinned(key) {
					continue
				}
				discard := rnd.IntN(10) == 0
				if !m.evict && !discard {
					continue // SQLite doesn't
				}
				over := pc.over.Load()
				pcacheUnpin(tls, p, m.pages[key], libc.Bool32(discard))
				if discard || len(m.pages) > m.limit {
					m.forget(key)
				} else {
					m.unpinned = append(m.unpinned, key)
					if over && len(m.pages) > reservedPages {
						m.forget(m.unpinned[0])
					}
				}
			case op < 94:
				to := rnd.Uint32N(keys) + 1
				if !m.isPinned(key) || m.isPinned(to) {
					continue
				}
				pg := m.pages[key]
				pcacheRekey(tls, p, pg, key, to)
				m.forget(to)
				m.forget(key)
				m.pages[to] = pg
				h := at[page](pg)
				for _, b := range [][]byte{view(h.content, int(pageSize)), view(h.extra, int(extra))} {
					for i := range b {
						b[i] = byte(to) | 1
					}
				}
			case op < 96:
				from := key
				if rnd.IntN(2) == 0 {
					from = keys - rnd.Uint32N(min(keys, 8))
				}
				pcacheTruncate(tls, p, from)
				for k := range m.pages {
					if k >= from {
						m.forget(k)
					}
				}
			case op < 97:
				pcacheShrink(tls, p)
				for len(m.unpinned) > 0 {
					m.forget(m.unpinned[0])
				}
			case op < 98:
				setLimit()
			}
			if n := int(pcachePagecount(tls, p)); n != len(m.pages) || int(at[pcache](p).unpinned) != len(m.unpinned) {
				t.Fatalf("seed %d step %d: %d pages, want %d", seed, step, n, len(m.pages))
			}
		}
		for k, pg := range m.pages {
			if got := pcacheFetch(tls, p, k, 0); got != pg {
				t.Fatalf("seed %d: page %d is at %x, want %x", seed, k, got, pg)
			}
		}
		pcacheDestroy(tls, p)
		tls.Close()
	}
	after := pc.Stats()
	if after.Bytes != before.Bytes || after.FixedBytes != before.FixedBytes || after.Pages != before.Pages {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if after.Misses == before.Misses || after.Hits == before.Hits || after.Evictions == before.Evictions {
		t.Errorf("nothing was counted: %+v", after)
	}
}

// Memory that no page needs is given back to the system.
func TestPagePoolGivesBack(t *testing.T) {
	for _, size := range []int{512, 1024, 4096, 65536} {
		p := newPagePool(size, 136)
		rnd := rand.New(rand.NewPCG(1, uint64(size)))
		var pages []uintptr
		seen := map[uintptr]bool{}
		for range 5 * p.perSlab {
			pg := p.get()
			if pg == 0 || seen[pg] {
				t.Fatal("no page, or one that is in use")
			}
			seen[pg] = true
			h := at[page](pg)
			if h.content%8 != 0 || h.extra%8 != 0 {
				t.Fatal("not aligned")
			}
			clear(view(h.content, size))
			clear(view(h.extra, 136))
			pages = append(pages, pg)
		}
		slab := int64(p.perSlab * p.pageBytes)
		if got := p.mapped(); got != 5*slab {
			t.Errorf("%d bytes, want %d", got, 5*slab)
		}
		rnd.Shuffle(len(pages), func(i, j int) { pages[i], pages[j] = pages[j], pages[i] })
		for _, pg := range pages {
			p.put(pg)
		}
		if got := p.mapped(); got != slab {
			t.Errorf("%d bytes kept, want %d", got, slab)
		}
		for range 3 * p.perSlab { // numbers of slabs are used again
			p.get()
		}
		if len(p.mu.slabs) != 5 {
			t.Errorf("%d slabs", len(p.mu.slabs))
		}
	}
}

func BenchmarkPageCacheFetch(b *testing.B) {
	if process.cache.Load() == nil {
		b.Skip("SQLite's own page cache")
	}
	tls := libc.NewTLS()
	defer tls.Close()
	p := pcacheCreate(tls, 4096, 136, 1)
	defer pcacheDestroy(tls, p)
	pcacheCachesize(tls, p, 2000)
	for key := range uint32(1000) {
		pcacheUnpin(tls, p, pcacheFetch(tls, p, key+1, 2), 0)
	}
	key := uint32(0)
	for b.Loop() {
		key = (key*1103515245 + 12345) % 1000
		pcacheUnpin(tls, p, pcacheFetch(tls, p, key+1, 0), 0)
	}
}
