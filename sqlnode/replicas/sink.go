package replicas

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nearsql/nearsql/readpath/replica"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
	"github.com/nearsql/nearsql/wire/txn"
)

var _ replica.Sink = (*Set)(nil)

// headOf is a copy's position for the stream.
func headOf(group wire.GroupID, h pagestore.Head) replica.Head {
	return replica.Head{
		Head:  stream.Head{Epoch: h.Record.Epoch, TXID: h.State.TXID, Checksum: h.State.Checksum, Index: h.Index},
		Group: group, Policy: h.Record.Policy,
	}
}

// Head implements replica.Sink: a copy that is out of service, or has a corrupt page, is none that entries can follow.
func (s *Set) Head(id wire.TenantID) replica.Head {
	t, g := s.find(id)
	if t == nil {
		return replica.Head{}
	}
	h, err := t.Head()
	if err != nil {
		return replica.Head{}
	}
	return headOf(g.ID(), h)
}

// Apply implements replica.Sink.
func (s *Set) Apply(_ context.Context, id wire.TenantID, index uint64, entry []byte) (replica.Applied, error) {
	h, err := txn.DecodeHeader(entry)
	if err != nil {
		return replica.Applied{}, fmt.Errorf("replicas: %w", err)
	}
	t, g := s.find(id)
	if t == nil || h.Tenant != id || h.Group != g.ID() {
		s.Stats.Refused.Add(1)
		return replica.Applied{}, fmt.Errorf("replicas: entry %d of group %d for tenant %s: %w", index, h.Group, id, replica.ErrMismatch)
	}
	if _, err := t.Head(); err != nil { // a corrupt page too: there will be a copy
		return replica.Applied{}, fmt.Errorf("replicas: %w: %w", replica.ErrMismatch, err)
	}
	if _, err := g.Follow(index, entry); err != nil {
		if errors.Is(err, pagestore.ErrClosed) || errors.Is(err, pagestore.ErrOverloaded) {
			return replica.Applied{}, fmt.Errorf("replicas: %w", err)
		}
		s.Stats.Refused.Add(1)
		return replica.Applied{}, fmt.Errorf("replicas: %w: %w", replica.ErrMismatch, err)
	}
	s.Stats.Entries.Add(1)
	_, err = g.Tenant(id)
	return replica.Applied{Departed: errors.Is(err, pagestore.ErrNoTenant)}, nil
}

// InstallLTX implements replica.Sink: it takes what Source.OpenLTX gave elsewhere.
func (s *Set) InstallLTX(ctx context.Context, id wire.TenantID, minTXID, maxTXID wire.TXID, r io.Reader) (replica.Head, error) {
	t, g := s.find(id)
	if t == nil {
		return replica.Head{}, fmt.Errorf("replicas: transactions %d to %d of tenant %s: %w", uint64(minTXID), uint64(maxTXID), id, replica.ErrMismatch)
	}
	h, err := t.ReadChanges(ctx, r)
	if err == nil {
		s.Stats.Changes.Add(1)
		return headOf(g.ID(), h), nil
	}
	var (
		damaged  *pagestore.CopyError
		position *pagestore.PositionError
		corrupt  *pagestore.CorruptError
	)
	if ctx.Err() == nil && (errors.As(err, &damaged) || errors.As(err, &position) || errors.As(err, &corrupt)) {
		s.Stats.Refused.Add(1)
		return replica.Head{}, fmt.Errorf("replicas: %w: %w", replica.ErrMismatch, err) // a whole copy is the way out
	}
	return replica.Head{}, fmt.Errorf("replicas: %w", err)
}

// InstallCopy implements replica.Sink: it takes what Source.WriteCopy wrote elsewhere.
func (s *Set) InstallCopy(ctx context.Context, id wire.TenantID, group wire.GroupID, r io.Reader) (replica.Head, error) {
	if group == 0 {
		return replica.Head{}, fmt.Errorf("replicas: a copy of tenant %s of no group", id)
	}
	g, err := s.group(group)
	if err != nil {
		return replica.Head{}, err
	}
	defer s.comes(id)()
	h, err := g.ReadTenant(ctx, id, r)
	if err != nil {
		var damaged *pagestore.CopyError
		if ctx.Err() == nil && errors.As(err, &damaged) {
			s.Stats.Refused.Add(1)
		}
		return replica.Head{}, fmt.Errorf("replicas: %w", err)
	}
	s.Stats.Copies.Add(1)
	for _, other := range s.Groups() { // where it was before
		if other == g {
			continue
		}
		if err := other.Drop(id); err != nil {
			s.cfg.Log.Warn("the copy of a tenant in its group before stays", "id", id, "group", other.ID(), "error", err)
		}
	}
	return headOf(group, h), nil
}

// Gone implements replica.Sink. A copy of a tenant that was purged is dropped; one of a tenant that moved serves until that of its
// new group is here.
func (s *Set) Gone(id wire.TenantID, why stream.GoneCode, group wire.GroupID) {
	s.cfg.Log.Info("a tenant that is followed is gone", "id", id, "why", why.String(), "group", group)
	if why != stream.GoneDeleted {
		return
	}
	select {
	case s.gone <- id:
	default:
	}
}

// Diverged implements replica.Sink. The copy serves on until another is here: it is a state that was, or that a feeder makes
// believe was not.
func (s *Set) Diverged(id wire.TenantID, feeder string, err error) {
	s.Stats.Diverged.Add(1)
	s.cfg.Log.Error("a copy is not what its feeder has; another is fetched", "id", id, "feeder", feeder, "error", err)
}
