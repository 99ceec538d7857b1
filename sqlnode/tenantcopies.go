package sqlnode

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nearsql/nearsql/readpath"
	"github.com/nearsql/nearsql/sqlnode/catalogue"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// Copies implements httpapi.Tenants: it asks all nodes that have a copy, or should.
func (s tenantService) Copies(ctx context.Context, name string) ([]httpapi.CopyInfo, error) {
	nm, err := tenant.ParseAnyName(name)
	if err != nil {
		return nil, wire.NewError(wire.CodeBadName, "%w", err)
	}
	if err := s.n.refreshCatalogue(ctx); err != nil {
		return nil, err
	}
	v := s.n.cat.View()
	t, ok := v.Tenant(nm)
	if !ok {
		if _, gone := v.Gone(nm); gone {
			return nil, wire.NewError(wire.CodeTenantDeleted, "tenant %q was deleted", name)
		}
		return nil, wire.NewError(wire.CodeNoSuchTenant, "no tenant is named %q", name)
	}
	list := expectedCopies(v, t)
	positions := make([]wire.Pos, len(list))
	var wg sync.WaitGroup
	slots := make(chan struct{}, askAtOnce)
	for i := range list {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			list[i], positions[i] = s.n.askCopy(ctx, t.ID, list[i])
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, wire.AsError(err)
	}
	compareCopies(list, positions)
	return slices.DeleteFunc(list, func(c httpapi.CopyInfo) bool {
		return c.Role == httpapi.CopyOnDemand && c.Epoch == "" && c.Feeder == ""
	}), nil
}

// askAtOnce and askPatience bound the questions of one Copies, at a time and in time each.
const (
	askAtOnce   = 16
	askPatience = 3 * time.Second
)

// expectedCopies is the nodes that have a copy of a tenant, should, or may, by what the catalogue says, with what is known without asking them.
func expectedCopies(v *catalogue.View, t catalogue.Tenant) []httpapi.CopyInfo {
	g, _ := v.Group(t.Group)
	var list []httpapi.CopyInfo
	for _, nd := range v.Nodes() {
		if nd.State == catalogue.NodeRemoved {
			continue
		}
		c := httpapi.CopyInfo{Node: nd.ID, PoP: nd.PoP, Region: nd.Region}
		switch {
		case nd.ID == g.Members.Primary:
			c.Role = httpapi.CopyPrimary
		case slices.Contains(g.Members.Voters, nd.ID):
			c.Role = httpapi.CopyVoter
		case slices.Contains(g.Members.Learners, nd.ID):
			c.Role = httpapi.CopyLearner
		case t.Placement.Holds(nd.PoP, nd.Region):
			c.Role = httpapi.CopyReplica
		case mayOnDemand(t, nd):
			c.Role = httpapi.CopyOnDemand // if it has one: only the node knows
		default:
			continue
		}
		list = append(list, c)
	}
	return list
}

// mayOnDemand says whether a node may have a copy of the tenant because it is read there.
func mayOnDemand(t catalogue.Tenant, nd catalogue.Node) bool {
	r := t.Placement.Replicas
	return t.ID != tenant.SystemID() && (r == "" || r == tenant.ReplicasOnDemand) && t.Placement.Allows(nd.Region)
}

// compareCopies says how far copies are behind the primary's, and puts that first.
func compareCopies(list []httpapi.CopyInfo, positions []wire.Pos) {
	var first wire.Pos
	for i, c := range list {
		if c.Role == httpapi.CopyPrimary && positions[i].Epoch >= first.Epoch {
			first = positions[i]
		}
	}
	for i := range list {
		if p := positions[i]; first.Epoch > 0 && p.Epoch == first.Epoch {
			behind := uint64(max(first.TXID, p.TXID) - p.TXID) // they were not asked at the same moment
			list[i].Behind = &behind
		}
	}
	rank := func(c httpapi.CopyInfo) int {
		return slices.Index([]httpapi.CopyRole{httpapi.CopyPrimary, httpapi.CopyVoter, httpapi.CopyLearner, httpapi.CopyReplica, httpapi.CopyOnDemand}, c.Role)
	}
	slices.SortFunc(list, func(a, b httpapi.CopyInfo) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.Node, b.Node))
	})
}

// copyStatus is what a node says of its copy of a tenant, to other nodes.
type copyStatus struct {
	Role        httpapi.CopyRole  `json:"role"`
	State       httpapi.CopyState `json:"state"`
	Epoch       wire.Epoch        `json:"epoch"`
	TXID        wire.TXID         `json:"txid"`
	Checksum    wire.Checksum     `json:"checksum"`
	StalenessMS *int64            `json:"staleness_ms,omitempty"`
	Feeder      string            `json:"feeder,omitempty"`
	Error       string            `json:"error,omitempty"`
}

// pathCopyStatus is where nodes ask for a copyStatus.
const pathCopyStatus = "/internal/v1/tenants/{id}/copy-status"

// errNoCopy says that a node has no copy of a tenant.
var errNoCopy = errors.New("the node has no copy yet")

// askCopy completes c by what its node says.
func (n *Node) askCopy(ctx context.Context, id tenant.ID, c httpapi.CopyInfo) (httpapi.CopyInfo, wire.Pos) {
	var (
		st  copyStatus
		err error
	)
	if c.Node == n.id.Node {
		st, err = n.copyStatus(id)
	} else {
		st, err = n.fetchCopyStatus(ctx, c.Node, id)
	}
	switch {
	case errors.Is(err, errNoCopy):
		c.State, c.Error = httpapi.CopyFetching, err.Error()
		return c, wire.Pos{}
	case err != nil:
		c.State, c.Error = httpapi.CopyUnreachable, err.Error()
		return c, wire.Pos{}
	}
	c.Role, c.State, c.StalenessMS, c.Feeder, c.Error = st.Role, st.State, st.StalenessMS, st.Feeder, st.Error
	if st.Epoch > 0 {
		c.Epoch, c.TXID, c.Checksum = strconv.FormatUint(uint64(st.Epoch), 10), st.TXID.String(), st.Checksum.String()
	}
	return c, wire.Pos{Tenant: id, Epoch: st.Epoch, TXID: st.TXID, Checksum: st.Checksum}
}

// fetchCopyStatus asks another node. Its error is errNoCopy if that has no copy.
func (n *Node) fetchCopyStatus(ctx context.Context, node string, id tenant.ID) (copyStatus, error) {
	var st copyStatus
	if n.net == nil {
		return st, errors.New("this node has no connections to others")
	}
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+node+strings.Replace(pathCopyStatus, "{id}", id.String(), 1), nil)
	if err != nil {
		return st, err
	}
	resp, err := n.net.HTTPTransport().RoundTrip(req)
	if err != nil {
		return st, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNoContent:
		return st, errNoCopy
	default:
		return st, fmt.Errorf("node %s answers %s", node, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxCall)).Decode(&st); err != nil {
		return st, fmt.Errorf("answer of node %s: %w", node, err)
	}
	return st, nil
}

// serveCopyStatus answers other nodes; with no content where there is no copy.
func (n *Node) serveCopyStatus(w http.ResponseWriter, r *http.Request) {
	id, err := wire.ParseTenantID(r.PathValue("id"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	st, err := n.copyStatus(id)
	if err != nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(st) // who asked is gone if this fails
}

// copyStatus is how this node's copy of a tenant stands. Its error is errNoCopy.
func (n *Node) copyStatus(id tenant.ID) (copyStatus, error) {
	for _, h := range n.groups.all() {
		if t, err := h.pages.Tenant(id); err == nil {
			return h.copyStatus(t), nil
		}
	}
	if n.repl != nil {
		return n.repl.copyStatus(id)
	}
	return copyStatus{}, errNoCopy
}

// copyStatus is that of a member of the group.
func (h *hosted) copyStatus(t *pagestore.Tenant) copyStatus {
	age, known := h.fresh.lastKnown() // before the positions: they have all that was there then
	st := positionOf(t)
	st.Role = httpapi.CopyLearner
	if h.log().Primary() == nil {
		st.Role = httpapi.CopyPrimary
	} else if conf, err := h.log().Configuration(); err == nil {
		for _, m := range conf.Members {
			if string(m.ID) == h.node && m.Voter {
				st.Role = httpapi.CopyVoter
			}
		}
	}
	return st.withAge(t, age, known)
}

// copyStatus is that of a copy that follows. Its error is errNoCopy where there is none and none is being fetched.
func (r *replicator) copyStatus(id tenant.ID) (copyStatus, error) {
	fresh := r.follower.Fresh(id) // before the positions
	now, _ := r.n.ticks.Now()
	st := copyStatus{State: httpapi.CopyFetching, Error: errNoCopy.Error()}
	t, there := r.set.Tenant(id)
	if there {
		st = positionOf(t)
	}
	follows, ok := r.follower.Status(id)
	if !ok && !there {
		return st, errNoCopy
	}
	st.Role, st.Feeder = httpapi.CopyOnDemand, follows.Feeder
	if row, ok := r.n.cat.View().TenantByID(id); ok && row.Placement.Holds(r.n.cfg.PoP, r.n.cfg.Region) {
		st.Role = httpapi.CopyReplica
	}
	if there && fresh.Known {
		st = st.withAge(t, readpath.Elapsed(fresh.AsOf, now), true)
	}
	return st, nil
}

// positionOf is where a copy stands, and whether it serves.
func positionOf(t *pagestore.Tenant) copyStatus {
	pos := t.Position()
	st := copyStatus{State: httpapi.CopyInService, Epoch: pos.Epoch, TXID: pos.TXID, Checksum: pos.Checksum}
	if err := t.Failed(); err != nil {
		st.State, st.Error = httpapi.CopyFailed, err.Error()
		if errors.Is(err, pagestore.ErrHollow) {
			st.State = httpapi.CopyFetching
		}
	}
	return st
}

// withAge adds the age of what was applied, if readers see all of that.
func (st copyStatus) withAge(t *pagestore.Tenant, age time.Duration, known bool) copyStatus {
	if known && st.State == httpapi.CopyInService && st.TXID >= t.Logged().TXID {
		ms := age.Milliseconds()
		st.StalenessMS = &ms
	}
	return st
}

// lastKnown is the age of the copy as far as it is known without asking anybody.
func (f *freshness) lastKnown() (time.Duration, bool) {
	if f.alone() {
		return 0, true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	age, ok := f.mu.asOf.age()
	return age, ok && f.mu.era == f.eraNow()
}
