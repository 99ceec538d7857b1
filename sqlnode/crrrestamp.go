package sqlnode

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/crrfiles"
	"github.com/nearsql/nearsql/sqlnode/engine"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// A node that wrote while its clock was far ahead takes no more writes until that time has come, and the others hold back what it wrote. Restamp has it write that anew:
// its file is replaced by a copy of another site's, which has none of it, under a new number, and what only the replaced file has is written as
// of now, as for a file that was away for too long (sitecare.go).

// restampWait is how long Restamp waits until all is written anew; that goes on without it.
const restampWait = 45 * time.Second

// Restamp implements httpapi.TableCommands.
func (s tenantService) Restamp(ctx context.Context, name, node string) (httpapi.Restamped, error) {
	r, err := s.siteAt(ctx, name, node, "whose clock was ahead")
	if err != nil {
		return httpapi.Restamped{Node: s.n.id.Node}, err
	}
	return s.n.sites.restamp(ctx, r)
}

// siteAt is the tenant's copy here, for a command about a site's own file. node is the one that is meant, "" for this one; another is sent the request. what says
// which node to name instead of one that is no site.
func (s tenantService) siteAt(ctx context.Context, name, node, what string) (*resident, error) {
	n := s.n
	if node != "" && node != n.id.Node {
		if _, ok := knownNode(n.cat.View(), node); !ok || n.net == nil {
			return nil, wire.NewError(wire.CodeNoSuchNode, "no node has the id %q", node)
		}
		return nil, &httpapi.ElsewhereError{Node: node}
	}
	r, err := n.locate(ctx, name)
	var away *httpapi.ElsewhereError
	if errors.As(err, &away) || err == nil && !n.isSite(r) {
		return nil, wire.NewError(wire.CodeConflict, "node %s keeps no conflict-free tables of the tenant: name the node %s", n.id.Node, what)
	}
	return r, err
}

func (s *sites) restamp(ctx context.Context, r *resident) (httpapi.Restamped, error) {
	out := httpapi.Restamped{Node: s.n.id.Node}
	f, err := s.files.Open(ctx, r.Tenant)
	if errors.Is(err, crrfiles.ErrNone) {
		return out, wire.NewError(wire.CodeNotFound, "tenant %q has no conflict-free tables", string(r.Record().Name))
	}
	if err != nil {
		return out, tablesError(err)
	}
	head, err := f.Head(ctx)
	if err != nil {
		return out, tablesError(err)
	}
	out.Site = int64(head.Site)
	kept, err := f.Kept()
	if err != nil {
		return out, err
	}
	if len(kept) == 0 {
		if ahead := head.Vector[head.Site].Time().Sub(s.n.cfg.Now()); head.Site == 0 || ahead <= crr.DefaultMaxSkew {
			return out, wire.NewError(wire.CodeConflict, "what site %d wrote last is not ahead of node %s's clock: there is nothing to write anew; see nearsql crr status for sites that are held back",
				head.Site, s.n.id.Node)
		}
		if err := s.replaceNow(ctx, r, f); err != nil {
			return out, err
		}
	}
	if s.alone(r) {
		if err := s.salvageAlone(ctx, r, f); err != nil {
			return out, err
		}
	}
	limit := s.n.cfg.Now().Add(restampWait)
	for {
		if kept, err = f.Kept(); err != nil {
			return out, err
		}
		if head, err = f.Head(ctx); err != nil {
			return out, tablesError(err)
		}
		out.Site, out.Pending = int64(head.Site), len(kept) > 0 || head.Site == 0
		if !out.Pending || s.n.cfg.Now().After(limit) {
			return out, nil
		}
		if pause(ctx, 100*time.Millisecond); ctx.Err() != nil {
			return out, wire.AsError(ctx.Err())
		}
	}
}

// replaceNow replaces the file, whatever care there is about it, unless that is under way.
func (s *sites) replaceNow(ctx context.Context, r *resident, f *crrfiles.File) error {
	if s.alone(r) {
		return s.replaceAlone(ctx, r, f)
	}
	s.mu.Lock()
	k := s.mu.known[r.ID()]
	if k == nil || k.care.busy {
		s.mu.Unlock()
		return wire.NewError(wire.CodeConflict, "the file of conflict-free tables is being looked after: ask again")
	}
	k.care.busy = true
	s.mu.Unlock()
	err := s.replaceFile(ctx, r, f, "what it wrote is to be written anew, since its clock was ahead", 0)
	s.mu.Lock()
	k.care.done(taskReplace, err, time.Now())
	s.mu.Unlock()
	if err != nil {
		return wire.NewError(wire.CodeUnreachable, "no copy of another site's file can be had: %w", err)
	}
	return nil
}

// alone says whether this node is the only site of a tenant, and its primary.
func (s *sites) alone(r *resident) bool {
	return r.h != nil && (s.x == nil || len(s.Peers(r.ID())) == 0)
}

// replaceAlone is for the only site that there is: its file is replaced by an empty one, of which all is to be written anew.
func (s *sites) replaceAlone(ctx context.Context, r *resident, f *crrfiles.File) error {
	own, err := s.own(ctx, f, r.ID())
	if err != nil {
		return tablesError(err)
	}
	path := filepath.Join(s.n.cfg.DataDir, "tmp", "restamp-"+r.ID().String()+".db")
	if err := f.Empty(ctx, path); err != nil {
		return tablesError(err)
	}
	if _, err := f.Replace(ctx, path, own, false); err != nil {
		return wire.NewError(wire.CodeConflict, "the file has what other sites wrote, and none of them is reached: %w", err)
	}
	s.renumber(r.ID())
	return nil
}

// salvageAlone writes anew what is only in files that were replaced at the only site that there is.
func (s *sites) salvageAlone(ctx context.Context, r *resident, f *crrfiles.File) error {
	if err := s.numbered(ctx, r, f); err != nil {
		return err
	}
	head, err := f.Head(ctx)
	if err != nil {
		return tablesError(err)
	}
	own, err := s.own(ctx, f, r.ID())
	if err != nil {
		return tablesError(err)
	}
	if err := s.n.engine.Own(ctx, r.Tenant, r.q, func(c *sqlite.Conn) error {
		for _, site := range own {
			if site != head.Site {
				if err := engine.SetRetired(c, r.ID(), site, head.Vector[site]); err != nil {
					return err
				}
			}
		}
		return nil
	}); err != nil {
		return err
	}
	kept, err := f.Kept()
	for _, file := range kept {
		if err == nil {
			_, err = f.Salvage(ctx, file, own, true)
		}
	}
	return tablesError(err)
}
