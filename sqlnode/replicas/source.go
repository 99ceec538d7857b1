package replicas

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nearsql/nearsql/readpath/replica"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
)

// Host is a group whose log this node has.
type Host struct {
	Pages *pagestore.Group
	Lane  *Lane // its Observer
	// ReadIndex is leader.Group.ReadIndexAt.
	ReadIndex func(ctx context.Context) (uint64, error)
}

// Hosts are the groups whose log this node has. Its methods must be quick.
type Hosts interface {
	// Host returns a group, if this node has it.
	Host(group wire.GroupID) (Host, bool)
	// HostOf returns the group that has a tenant, if this node has it.
	HostOf(id wire.TenantID) (Host, bool)
}

// Source is a replica.Source: it feeds from the groups of this node first, then from what it follows.
type Source struct {
	hosts    Hosts
	set      *Set
	follower *replica.Follower
	admit    func(rec tenant.Tenant, receiver string) error // nil to admit all
}

var _ replica.Source = (*Source)(nil)

// NewSource makes a Source that admits all nodes. follower brings the copies of set.
func NewSource(hosts Hosts, set *Set, follower *replica.Follower) *Source {
	return &Source{hosts: hosts, set: set, follower: follower}
}

// Admitting makes a Source of the same that asks admit whether a node may have a copy of a tenant of that record. admit must be quick.
func (s *Source) Admitting(admit func(rec tenant.Tenant, receiver string) error) *Source {
	return &Source{hosts: s.hosts, set: s.set, follower: s.follower, admit: admit}
}

// Admit implements replica.Source: by the tenant's own record, as it is in this node's copy.
func (s *Source) Admit(id wire.TenantID, receiver string) error {
	if s.admit == nil {
		return nil
	}
	t, _, err := s.copy(id)
	if err != nil {
		return err
	}
	if err := s.admit(t.Record(), receiver); err != nil {
		return &replica.GoneError{Tenant: id, Why: stream.GonePolicy}
	}
	return nil
}

// copy is this node's copy of a tenant that others may be fed from.
func (s *Source) copy(id wire.TenantID) (t *pagestore.Tenant, host Host, err error) {
	host, ok := s.hosts.HostOf(id)
	if ok {
		t, err = host.Pages.Tenant(id)
	} else if t, ok = s.set.Tenant(id); !ok {
		err = pagestore.ErrNoTenant
	}
	if err != nil {
		return nil, host, &replica.GoneError{Tenant: id, Why: stream.GoneNotHere}
	}
	return t, host, nil
}

// Lane implements replica.Source.
func (s *Source) Lane(id wire.TenantID) (replica.Lane, error) {
	if host, ok := s.hosts.HostOf(id); ok {
		return replica.Lane{Tail: host.Lane.Tail()}, nil
	}
	return s.follower.Lane(id)
}

// Head implements replica.Source.
func (s *Source) Head(id wire.TenantID) (replica.Head, error) {
	t, _, err := s.copy(id)
	if err != nil {
		return replica.Head{}, err
	}
	h, err := t.Head()
	if errors.Is(err, pagestore.ErrNoTenant) {
		return replica.Head{}, &replica.GoneError{Tenant: id, Why: stream.GoneNotHere}
	}
	if err != nil {
		return replica.Head{}, &replica.GoneError{Tenant: id, Why: stream.GoneFailed}
	}
	return headOf(h.Record.Group, h), nil
}

// OpenLTX implements replica.Source: the pages that changed, if the files of this node tell them.
func (s *Source) OpenLTX(ctx context.Context, id wire.TenantID, from stream.Head) (*replica.LTX, error) {
	t, _, err := s.copy(id)
	if err != nil {
		return nil, err
	}
	p, err := t.PinCopy(ctx, pagestore.Have{Epoch: from.Epoch, State: pagestore.State{TXID: from.TXID, Checksum: from.Checksum}})
	if err != nil {
		return nil, fmt.Errorf("replicas: %w", err)
	}
	if !p.Partial() {
		p.Close()
		return nil, fmt.Errorf("tenant %s from transaction %d: %w", id, uint64(from.TXID), replica.ErrNoLTX)
	}
	return &replica.LTX{ReadCloser: newPipe(ctx, p), Min: from.TXID + 1, Max: p.State().TXID}, nil
}

// WriteCopy implements replica.Source.
func (s *Source) WriteCopy(ctx context.Context, id wire.TenantID, w io.Writer) error {
	t, _, err := s.copy(id)
	if err != nil {
		return err
	}
	return t.WriteCopy(ctx, w)
}

// ReadIndex implements replica.Source.
func (s *Source) ReadIndex(ctx context.Context, group wire.GroupID) (uint64, error) {
	if host, ok := s.hosts.Host(group); ok {
		return host.ReadIndex(ctx)
	}
	return s.follower.ReadIndex(ctx, group)
}

// pipe reads what a pinned copy writes, and gives it up when it is closed.
type pipe struct {
	*io.PipeReader
	ended chan struct{}
}

func newPipe(ctx context.Context, p *pagestore.PinnedCopy) *pipe {
	r, w := io.Pipe()
	l := &pipe{r, make(chan struct{})}
	go func() {
		defer close(l.ended)
		defer p.Close()
		w.CloseWithError(p.WriteTo(ctx, w, 0))
	}()
	return l
}

// Close ends the reading, and returns when nothing is pinned any more.
func (p *pipe) Close() error {
	err := p.PipeReader.Close()
	<-p.ended
	return err
}
