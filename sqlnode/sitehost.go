package sqlnode

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/crr/exchange"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// find is this node's copy of a tenant.
func (s *sites) find(id tenant.ID) (*resident, error) {
	for _, h := range s.n.groups.all() {
		if t, err := h.pages.Tenant(id); err == nil {
			return newResident(t, h), nil
		}
	}
	if s.n.repl != nil {
		if t, ok := s.n.repl.set.Tenant(id); ok {
			return &resident{Tenant: t, group: t.Record().Group, q: quorum{t: t}}, nil
		}
	}
	return nil, pagestore.ErrNoTenant
}

func (s *sites) file(ctx context.Context, id tenant.ID) (*crrfiles.File, error) {
	r, err := s.find(id)
	if err != nil {
		return nil, err
	}
	return s.files.Open(ctx, r.Tenant)
}

// Peers implements exchange.Host.
func (s *sites) Peers(id wire.TenantID) []exchange.Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.mu.known[id]; k != nil {
		return k.peers
	}
	return nil
}

// Head implements exchange.Host.
func (s *sites) Head(ctx context.Context, id wire.TenantID) (crr.Head, error) {
	f, err := s.file(ctx, id)
	if err != nil {
		return crr.Head{}, err
	}
	if f.Ended() {
		return crr.Head{}, errEndedSite
	}
	return f.Head(ctx)
}

// Write implements exchange.Host.
func (s *sites) Write(ctx context.Context, id wire.TenantID, do func(*crr.Site) error) error {
	f, err := s.file(ctx, id)
	if err != nil {
		return err
	}
	return f.Write(ctx, func(w *crrfiles.Writer) error { return do(w.Site) })
}

// Read implements exchange.Host.
func (s *sites) Read(ctx context.Context, id wire.TenantID, do func(*crr.Reader) error) error {
	f, err := s.file(ctx, id)
	if err != nil {
		return err
	}
	r, err := f.NewReader(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	return do(r.Reader)
}

// Snapshot implements exchange.Host.
func (s *sites) Snapshot(ctx context.Context, id wire.TenantID, w io.Writer) error {
	f, err := s.file(ctx, id)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Join(s.n.cfg.DataDir, "tmp"), "crr-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "copy.db")
	if err := f.Snapshot(ctx, path); err != nil {
		return err
	}
	c, err := os.Open(path)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.Copy(&contextWriter{ctx, w}, c)
	return err
}

// errEndedSite keeps a file out of the exchange that is to be replaced: what it has above its final transaction is no news to anybody.
var errEndedSite = errors.New("this node's site of the tenant was retired while it was away; its file is replaced")

// Sent implements exchange.Host.
func (s *sites) Sent(id wire.TenantID, file crr.FileID, upto crr.HLC) error {
	f := s.files.Known(id)
	if f == nil {
		return crrfiles.ErrNone
	}
	return f.Sent(file, upto)
}

// Rewound implements exchange.Host: the file has given its number up, and gets another when it is looked at next.
func (s *sites) Rewound(id wire.TenantID, err *crr.RewoundError) {
	s.files.Stats.Rewound.Add(1)
	s.n.log.Error("a file of conflict-free tables went back, as after a restore from a copy: it gets a new number", "id", id, "error", err)
	s.renumber(id)
}

// renumber has the file looked at, since its number is not what it was.
func (s *sites) renumber(id wire.TenantID) {
	s.mu.Lock()
	if k := s.mu.known[id]; k != nil {
		k.site = 0
	}
	s.mu.Unlock()
	s.changedCatalogue()
}

// Behind implements exchange.Host: the file is replaced when that is said for a while.
func (s *sites) Behind(id wire.TenantID, why error) {
	s.mu.Lock()
	k := s.mu.known[id]
	if k != nil {
		k.care.isBehind(time.Now(), why)
	}
	s.mu.Unlock()
}

// ahead is how far this node's clock is ahead of those of the other sites.
func (s *sites) ahead() time.Duration {
	if s.x == nil {
		return 0
	}
	return s.x.Ahead()
}
