package sqlnode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/nearsql/nearsql/disk"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/sqlnode/importer"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/txn"
)

// Import implements httpapi.Tenants: the file is received, looked at in a process of its own, and
// sent through the log in parts. The tenant appears under its name when it is whole.
func (s tenantService) Import(ctx context.Context, name string, f httpapi.Format, r io.Reader, o tenant.CreateOptions) (tenant.Tenant, error) {
	var none tenant.Tenant
	nm, err := wantNewName(name)
	if err != nil {
		return none, err
	}
	h, err := s.groupFor(ctx, o)
	if err != nil {
		return none, err
	}
	if err := s.n.wantJurisdiction(ctx, h.id, o.Jurisdiction); err != nil {
		return none, err
	}
	if err := s.wantFree(ctx, nm); err != nil {
		return none, err
	}
	path, err := s.receive(ctx, f, r)
	if err != nil {
		return none, err
	}
	defer os.Remove(path)
	info, err := s.n.importer.CheckFile(ctx, path)
	if err != nil {
		return none, importError(err)
	}
	limits := o.Limits.Or(s.n.cfg.Limits).WithDefaults()
	if size := int64(info.Pages) * int64(info.PageSize); size > limits.Size {
		return none, wire.NewError(wire.CodeTenantFull, "the database has %d bytes; the tenant's limit would be %d: ask for a larger one", size, limits.Size)
	}
	return s.load(ctx, h, nm, path, info, o)
}

// receive puts what comes into a database file of the node's own.
func (s tenantService) receive(ctx context.Context, f httpapi.Format, r io.Reader) (string, error) {
	dir := filepath.Join(s.n.cfg.DataDir, "tmp")
	out, err := os.CreateTemp(dir, "import-*.db")
	if err != nil {
		return "", fmt.Errorf("receive import: %w", err)
	}
	defer out.Close()
	path := out.Name()
	if f == httpapi.FormatSQL {
		os.Remove(path) // it is made anew
		err = s.fromSQL(ctx, r, path)
	} else {
		_, err = io.Copy(&spacedWriter{out, s.n}, r)
	}
	if err != nil {
		os.Remove(path)
		return "", importError(err)
	}
	return path, nil
}

// fromSQL makes a database of a dump, no larger than the disk has room for.
func (s tenantService) fromSQL(ctx context.Context, r io.Reader, path string) error {
	if err := s.n.cfg.space.Fits(importRoom); err != nil {
		return noRoom(err)
	}
	im := *s.n.importer
	im.MaxBytes = max(min(cmp.Or(im.MaxBytes, importer.DefaultMaxBytes), s.n.cfg.space.Room()), 1)
	return im.FromSQL(ctx, r, path)
}

// importRoom is what must be left above the reserve for an import to begin, or go on, in bytes: it takes the disk more than once.
const importRoom = 64 << 20

// noRoom is the error of an import that the disk has no room for.
func noRoom(err error) error {
	return wire.NewError(wire.CodeDiskFull, "this node's disk has no room for the import: %w", err)
}

// spacedWriter stops before the disk is full.
type spacedWriter struct {
	w io.Writer
	n *Node
}

func (w *spacedWriter) Write(b []byte) (int, error) {
	space := w.n.cfg.space
	if err := space.Fits(importRoom); err != nil {
		return 0, noRoom(err)
	}
	if err := space.Take(int64(len(b))); err != nil {
		return 0, noRoom(err)
	}
	return w.w.Write(b)
}

func importError(err error) error {
	var bad *importer.BadDatabaseError
	var sql *importer.SQLError
	var died *importer.DiedError
	switch {
	case disk.NoDescriptors(err):
		return wire.AsError(err)
	case errors.As(err, &bad), errors.As(err, &sql), errors.As(err, &died):
		return wire.NewError(wire.CodeBadDatabase, "%w", err)
	}
	return err
}

// load makes a tenant with the content of the file at path.
func (s tenantService) load(ctx context.Context, h *hosted, name tenant.Name, path string, info importer.Info, o tenant.CreateOptions) (tenant.Tenant, error) {
	var none tenant.Tenant
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return none, fmt.Errorf("import: %w", err)
	}
	defer file.Close()
	if err := importer.ClearWAL(file); err != nil {
		return none, err
	}
	o.PageSize = info.PageSize
	rec, err := s.newRecord(tenant.Name(fmt.Sprintf("%s%d-%d", importingPrefix, s.n.cfg.Now().UnixNano(), s.n.imports.Add(1))), o)
	if err != nil {
		return none, err
	}
	s.n.importing.Store(rec.ID, nil)
	defer s.n.importing.Delete(rec.ID)
	r, err := s.create(ctx, h, rec)
	if err != nil {
		return none, err
	}
	claimed := false
	err = s.loadInto(ctx, r, file, info)
	if err == nil {
		named := r.Record()
		named.Name = name
		err = s.n.claim(ctx, named)
		claimed = err == nil
	}
	if err == nil {
		err = leaderError(r.h.control(ctx, r.ID(), tenant.Renamed{Time: tenant.Millis(s.n.cfg.Now()), Name: name}))
	}
	if err != nil {
		if claimed && !isCode(err, wire.CodeUnknownOutcome) {
			s.n.releaseLater(ctx, r.ID())
		}
		if derr := s.delete(context.WithoutCancel(ctx), r); derr != nil {
			s.n.log.Warn("what is left of a failed import stays for now", "id", r.ID(), "error", derr)
		}
		return none, err
	}
	s.n.dir.remember(string(name), r)
	if f, err := s.n.sites.files.Open(ctx, r.Tenant); err == nil {
		// The file was of a tenant with conflict-free tables: their declarations came, their rows did not.
		if st := f.Schema(); st != nil {
			s.n.sites.declared(ctx, r, st.Version)
		}
	} else if !errors.Is(err, crrfiles.ErrNone) {
		s.n.log.Warn("conflict-free tables of an imported file can't be used", "tenant", string(name), "id", r.ID(), "error", err)
	}
	s.n.log.Info("tenant imported", "tenant", string(name), "id", r.ID(), "pages", info.Pages, "page_size", info.PageSize)
	return r.Record(), nil
}

// importWindow bounds the bytes of an import that wait for the log, so that other tenants' writes
// come between. It is small for the log's sake too: raft-wal keeps for each of its files, until that
// is removed, a buffer as large as the largest batch in it.
const importWindow = 256 << 10

// loadInto sends the pages of file through the log as the tenant's first transaction.
func (s tenantService) loadInto(ctx context.Context, r *resident, file io.ReaderAt, info importer.Info) error {
	if info.Pages == 0 {
		return nil
	}
	rec := r.Record()
	hd := txn.Header{Kind: txn.Transaction, Flags: txn.FlagImport, Tenant: rec.ID, Epoch: rec.Epoch, Group: rec.Group, Policy: rec.Policy,
		PageSize: rec.PageSize, Commit: info.Pages, TimeUnixMilli: uint64(s.n.cfg.Now().UnixMilli())}
	var enc txn.Encoder
	if err := enc.Begin(hd); err != nil {
		return err
	}
	p := newPartSender(ctx, r.h, s.n.cfg.space, &hd)
	defer p.wait()
	sum := wire.ChecksumFlag
	buf := make([]byte, info.PageSize)
	lock := txn.LockPage(info.PageSize)
	for pgno := uint32(1); pgno <= info.Pages; pgno++ {
		if pgno == lock {
			continue
		}
		if _, err := file.ReadAt(buf, int64(pgno-1)*int64(info.PageSize)); err != nil {
			return fmt.Errorf("import: read page %d: %w", pgno, err)
		}
		ps := txn.PageSum(pgno, buf)
		sum ^= ps &^ wire.ChecksumFlag
		if err := enc.Page(pgno, nil, buf, ps); err != nil {
			return err
		}
		if len(enc.Body()) >= txn.MaxPayload {
			if err := p.send(enc.Drain()); err != nil {
				return err
			}
		}
	}
	if err := p.send(enc.Drain()); err != nil {
		return err
	}
	if err := p.wait(); err != nil {
		return err
	}
	enc.SetNext(1, sum)
	last, err := enc.FinishParts(p.operation, p.parts)
	if err != nil {
		return err
	}
	if err := r.h.propose(ctx, append([]byte(nil), last...)); err != nil {
		return leaderError(err)
	}
	store, err := r.Acquire()
	if err != nil {
		return err
	}
	defer r.Release()
	if err := pagestore.WaitVisible(ctx.Done(), store, 1); err != nil {
		return wire.NewError(wire.CodeInternal, "the import was logged, and can't be built: %w", err)
	}
	return nil
}

// partSender proposes parts with a bounded number of bytes under way.
type partSender struct {
	ctx       context.Context
	h         *hosted
	space     *disk.Space
	hd        *txn.Header
	operation uint64
	parts     uint32

	mu struct {
		sync.Mutex
		bytes int
		err   error
	}
	freed *sync.Cond
}

func newPartSender(ctx context.Context, h *hosted, space *disk.Space, hd *txn.Header) *partSender {
	p := &partSender{ctx: ctx, h: h, space: space, hd: hd, operation: 1}
	p.freed = sync.NewCond(&p.mu)
	return p
}

// send cuts body, which it does not keep, into parts.
func (p *partSender) send(body []byte) error {
	for _, payload := range txn.SplitParts(body) {
		ph := txn.PartHeader(p.hd, p.operation, p.parts)
		p.parts++
		entry, err := txn.AppendEntry(nil, &ph, payload)
		if err != nil {
			return err
		}
		p.mu.Lock()
		for p.mu.bytes+len(entry) > importWindow && p.mu.err == nil {
			p.freed.Wait()
		}
		err = p.mu.err
		p.mu.bytes += len(entry)
		p.mu.Unlock()
		if err == nil {
			err = p.ctx.Err()
		}
		if err != nil {
			p.finished(len(entry), nil)
			return err
		}
		room := 2 * int64(len(entry)) // in the log, and beside it until the last part comes
		if err := p.space.Reserve(room); err != nil {
			err = noRoom(err)
			p.finished(len(entry), err)
			return err
		}
		p.h.log().Propose(entry, func(resp any, err error) {
			p.space.Release(room)
			if e, ok := resp.(error); ok && err == nil {
				err = &pagestore.RefusedError{Reason: e}
			}
			p.finished(len(entry), leaderError(err))
		})
	}
	return nil
}

func (p *partSender) finished(n int, err error) {
	p.mu.Lock()
	p.mu.bytes -= n
	if p.mu.err == nil {
		p.mu.err = err
	}
	p.mu.Unlock()
	p.freed.Broadcast()
}

// wait returns when all parts are in the log, or one is not.
func (p *partSender) wait() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.mu.bytes > 0 {
		p.freed.Wait()
	}
	return p.mu.err
}

// wantFree refuses a name that is taken already, before a large file is received for nothing.
func (s tenantService) wantFree(ctx context.Context, name tenant.Name) error {
	if err := s.n.refreshCatalogue(ctx); err != nil {
		return err
	}
	if _, taken := s.n.cat.View().Tenant(name); taken {
		return wire.NewError(wire.CodeTenantExists, "tenant %q exists", string(name))
	}
	return nil
}

// removeRests deletes what imports left that a crash or a change of primaries cut short.
func (s tenantService) removeRests(ctx context.Context) {
	for _, h := range s.n.groups.all() {
		if h.log().Primary() != nil {
			continue
		}
		for _, t := range h.pages.Tenants() {
			if _, now := s.n.importing.Load(t.ID()); now {
				continue
			}
			if rec := t.Record(); rec.State != tenant.StateDeleted && hidden(rec.Name) {
				if err := s.delete(ctx, newResident(t, h)); err != nil {
					s.n.log.Warn("rest of an import stays", "id", t.ID(), "error", err)
				}
			}
		}
	}
}
