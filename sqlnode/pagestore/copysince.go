package pagestore

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/superfly/ltx"

	"github.com/nearsql/nearsql/wire"
)

// A copy that another node has of an older state needs only the pages that changed since. Which these are is told by
// what this node keeps anyway: the versions above the base, the segments, the LTX files.

// Have is an older state that a node has of a tenant.
type Have struct {
	Epoch wire.Epoch
	State State // TXID 0: none
}

// Have is the older state that this node has of a copy which is out of service: what the files of a hollow one hold, or a copy
// that was whole and came too late. A copy of what changed since is enough then.
func (t *Tenant) Have() Have {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.have
}

// keepHave remembers an older state. path is a base that holds it and that nothing names; empty when the tenant's files do.
func (t *Tenant) keepHave(h Have, path string) {
	t.mu.Lock()
	old := t.mu.havePath
	t.mu.have, t.mu.havePath = h, path
	t.mu.Unlock()
	if old != "" {
		t.g.files.removeBase(old)
	}
}

// forgetHave gives up what is here of an older state.
func (t *Tenant) forgetHave() { t.keepHave(Have{}, "") }

// passUnit is called when a unit will count as absorbed that is not in the base: the files don't hold the older state any more.
func (t *Tenant) passUnit() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.havePath == "" {
		t.mu.have = Have{}
	}
}

// openHave opens the older state. Its pages may be others than they should be: the checksum of what is made of them tells.
func (t *Tenant) openHave(st State, pageSize int) (*Store, error) {
	t.mu.Lock()
	path := t.mu.havePath
	t.mu.Unlock()
	f := &t.g.files
	if path == "" {
		return f.openStore(t.id, pageSize, st, t.g.cfg.Budget)
	}
	b, err := openBase(t.g.cfg.FS, t.id, path, pageSize)
	if err != nil {
		return nil, err
	}
	return newStore(t.id, pageSize, f.lockPgno(pageSize), st, b, t.g.cfg.Budget), nil
}

// span is the transactions after lo, up to hi.
type span struct{ lo, hi wire.TXID }

// changedSince returns the pages of state at that a transaction after have changed, ascending. It may return some more. ok is false
// when the files don't reach back that far, or tell more than a whole copy would cost.
//
// A change is in the chains until its unit is absorbed, in the unit until it is retired, and in an LTX file before that. So
// who looks in this order misses none.
func (t *Tenant) changedSince(s *Store, have Have, at State) (pages []uint32, ok bool, _ error) {
	t.mu.Lock()
	durable := t.mu.durable.TXID
	t.mu.Unlock()
	changed := map[uint32]struct{}{}
	s.mu.RLock()
	for pgno, c := range s.mu.chains {
		if c[len(c)-1].tx > have.State.TXID {
			changed[pgno] = struct{}{}
		}
	}
	s.mu.RUnlock()
	known := []span{{durable, max(durable, at.TXID)}}
	known = append(known, t.g.files.changedInUnits(t.id, have, changed)...)
	if durable > have.State.TXID {
		in, err := t.g.files.changedInLTX(t.id, have, known, ltxLimit*int64(at.Pages)*int64(s.pageSize), changed)
		if err != nil {
			return nil, false, fmt.Errorf("changes since %s: %w", have.State, err)
		}
		known = append(known, in...)
	}
	if !spanned(known, have.State.TXID, at.TXID) {
		return nil, false, nil
	}
	pages = make([]uint32, 0, len(changed))
	for pgno := range maps.Keys(changed) {
		if pgno <= at.Pages && pgno != s.lock {
			pages = append(pages, pgno)
		}
	}
	slices.Sort(pages)
	return pages, true, nil
}

// spanned says whether all transactions after lo, up to hi, are in one of the spans.
func spanned(l []span, lo, hi wire.TXID) bool {
	slices.SortFunc(l, func(a, b span) int { return cmp.Compare(a.lo, b.lo) })
	for _, s := range l {
		if s.lo <= lo && s.hi > lo {
			lo = s.hi
		}
	}
	return lo >= hi
}

// changedInUnits adds the pages in segments. A unit's checkpoint has a section that spans all of the unit.
func (f *files) changedInUnits(id wire.TenantID, have Have, changed map[uint32]struct{}) (l []span) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, u := range f.mu.units {
		for _, sec := range f.sectionsLocked(u, id) {
			if sec.Epoch != have.Epoch || sec.Next.TXID <= have.State.TXID {
				continue
			}
			l = append(l, span{sec.Prev.TXID, sec.Next.TXID})
			for _, p := range sec.pages {
				changed[p.pgno] = struct{}{}
			}
		}
	}
	return l
}

// ltxLimit is how many times the size of the database is read of LTX files, at most, to send less than all of it.
const ltxLimit = 4

// changedInLTX adds the pages in LTX files, unless these are larger than limit, in bytes, or known spans reach back far enough without.
func (f *files) changedInLTX(id wire.TenantID, have Have, known []span, limit int64, changed map[uint32]struct{}) (l []span, _ error) {
	if len(known) > 0 && slices.MinFunc(known, func(a, b span) int { return cmp.Compare(a.lo, b.lo) }).lo <= have.State.TXID {
		// A gap above is not filled by older files.
		return nil, nil
	}
	chain, _, err := f.listLTX(id, have.Epoch)
	if err != nil {
		return nil, err
	}
	chain = slices.DeleteFunc(chain, func(x LTXFile) bool { return x.Max <= have.State.TXID })
	for _, x := range chain {
		limit -= x.Bytes
	}
	if len(chain) == 0 || chain[0].Min > have.State.TXID+1 || limit < 0 {
		return nil, nil
	}
	for _, x := range chain {
		err := f.pagesOfLTX(x.Path, changed)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil // past its retention meanwhile
		}
		var corrupt *CorruptError
		if errors.As(err, &corrupt) {
			f.cfg.Log.Error("a copy comes whole: its LTX file is damaged", "id", id, "file", x.Path, "error", err)
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		l = append(l, span{x.Min - 1, x.Max})
	}
	return l, nil
}

// pagesOfLTX adds the pages of a file, which it reads whole, as only that checks it.
func (f *files) pagesOfLTX(path string, changed map[uint32]struct{}) error {
	file, err := f.cfg.FS.OpenFile("ltx.open", path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	bad := func(err error) error { return &CorruptError{File: path, What: err.Error()} }
	dec := ltx.NewDecoder(file)
	dec.SetRetainPageIndex(false)
	if err := dec.DecodeHeader(); err != nil {
		return bad(noEOF(err))
	}
	buf := make([]byte, dec.Header().PageSize)
	for {
		var ph ltx.PageHeader
		err := dec.DecodePage(&ph, buf)
		if err == io.EOF {
			break
		}
		if err != nil {
			return bad(err)
		}
		changed[ph.Pgno] = struct{}{}
	}
	if err := dec.Close(); err != nil {
		return bad(noEOF(err))
	}
	return nil
}
