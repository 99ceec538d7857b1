package sqlnode

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/nearsql/nearsql/sqlnode/catalogue"
	"github.com/nearsql/nearsql/sqlnode/copies"
	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// systemCall is a change of the catalogue, which the primary of the system group makes. All
// are such that to make one again does no harm. It is JSON between nodes.
type systemCall struct {
	Op      string             `json:"op"`
	Node    *catalogue.Node    `json:"node,omitempty"`
	State   string             `json:"state,omitempty"`
	Tenant  string             `json:"tenant,omitempty"` // id
	Name    string             `json:"name,omitempty"`
	NewName string             `json:"new_name,omitempty"`
	Group   wire.GroupID       `json:"group,omitempty"`
	Members *catalogue.Members `json:"members,omitempty"`
	Voters  []string           `json:"voters,omitempty"`
	Policy  *catalogue.Policy  `json:"policy,omitempty"` // of a group

	Placement    *tenant.Placement `json:"placement,omitempty"`
	PolicyNumber uint32            `json:"policy_number,omitempty"` // of Placement
}

// systemAnswer is what became of it.
type systemAnswer struct {
	Group wire.GroupID `json:"group,omitempty"`
	Error *systemError `json:"error,omitempty"`
}

// systemError is a wire.Error between nodes.
type systemError struct {
	Code    wire.Code `json:"code"`
	Message string    `json:"message"`
}

// Names of the calls.
const (
	opAnnounce    = "announce"
	opNodeState   = "node-state"
	opClaim       = "claim"
	opRelease     = "release"
	opPlace       = "place"
	opReport      = "report"
	opCreateGroup = "create-group"
	opFounded     = "founded"
)

// pathSystemCall is where nodes send systemCalls.
const pathSystemCall = "/internal/v1/catalogue"

// makeCall makes a call here, as the primary of the system group.
func (n *Node) makeCall(ctx context.Context, c *systemCall) (systemAnswer, error) {
	w := n.writer()
	var a systemAnswer
	id := func() (tenant.ID, error) {
		id, err := wire.ParseTenantID(c.Tenant)
		if err != nil {
			return id, wire.NewError(wire.CodeBadRequest, "%w", err)
		}
		return id, nil
	}
	var err error
	switch {
	case c.Op == opAnnounce && c.Node != nil:
		err = w.Announce(ctx, *c.Node)
	case c.Op == opNodeState && c.Node != nil:
		err = w.SetNodeState(ctx, c.Node.ID, catalogue.NodeState(c.State))
	case c.Op == opClaim && c.Placement != nil:
		var t tenant.ID
		if t, err = id(); err == nil {
			err = w.Claim(ctx, t, tenant.Name(c.Name), c.Group, c.PolicyNumber, *c.Placement)
		}
	case c.Op == opPlace && c.Placement != nil:
		var t tenant.ID
		if t, err = id(); err == nil {
			err = w.Place(ctx, t, c.PolicyNumber, *c.Placement)
		}
	case c.Op == opRelease:
		var t tenant.ID
		if t, err = id(); err == nil {
			err = w.Release(ctx, t)
		}
	case c.Op == opReport && c.Members != nil:
		err = w.ReportMembers(ctx, c.Group, *c.Members)
	case c.Op == opCreateGroup && c.Policy != nil:
		a.Group, err = w.CreateGroup(ctx, c.Name, c.Voters, *c.Policy)
	case c.Op == opFounded:
		err = w.SetFounded(ctx, c.Group)
	default:
		err = wire.NewError(wire.CodeBadRequest, "the call %q is not known here: this node may be older than the one that asks", c.Op)
	}
	if err != nil {
		return a, catalogue.AsWire(err)
	}
	return a, nil
}

// callSystem has a call made by the primary of the system group, whoever that is.
func (n *Node) callSystem(ctx context.Context, c *systemCall) (systemAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, bookmarkPatience)
	defer cancel()
	h := n.groups.get(systemGroup)
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		l, err := h.awaitLeader(ctx)
		var a systemAnswer
		switch {
		case err != nil:
		case l.Primary:
			a, err = n.makeCall(ctx, c)
		default:
			once, stop := h.whileLeads(ctx, l.Leader)
			a, err = n.sendCall(once, string(l.Leader), c)
			stop()
		}
		// All calls can be made again: so also one of which it is not known what became of it.
		var w *wire.Error
		if err == nil || errors.As(err, &w) && w.Code != wire.CodeNotPrimary && w.Code != wire.CodeUnknownOutcome && w.Code != wire.CodeNotReady {
			return a, err
		}
		if ctx.Err() == nil {
			pause(ctx, wait)
		}
		if ctx.Err() != nil {
			return a, wire.NewError(wire.CodeNotReady, "the cluster's catalogue can't be changed now: %w", err)
		}
	}
}

// sendCall sends a call to another node.
func (n *Node) sendCall(ctx context.Context, node string, c *systemCall) (systemAnswer, error) {
	var a systemAnswer
	if err := n.postJSON(ctx, node, pathSystemCall, c, &a); err != nil {
		return a, err
	}
	if a.Error != nil {
		return a, wire.NewError(a.Error.Code, "%s", a.Error.Message)
	}
	return a, nil
}

// postJSON sends what is asked to another node, and reads its answer.
func (n *Node) postJSON(ctx context.Context, node, path string, ask, answer any) error {
	b, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+node+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := n.net.HTTPTransport().RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("node %s answers %s", node, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxCall)).Decode(answer); err != nil {
		return fmt.Errorf("answer of node %s: %w", node, err)
	}
	return nil
}

const maxCall = 1 << 20 // bytes

// internalRoutes is what other nodes may ask beside the API.
func (n *Node) internalRoutes() map[string]http.Handler {
	return map[string]http.Handler{
		"POST " + pathSystemCall: http.HandlerFunc(n.serveCall),
		"GET " + pathCopyStatus:  http.HandlerFunc(n.serveCopyStatus),
		"POST " + pathRegister:   http.HandlerFunc(n.sites.serveRegister),
		"POST " + pathLeaving:    http.HandlerFunc(n.sites.serveLeaving),
		"POST " + pathSilence:    http.HandlerFunc(n.sites.serveSilence),
		copies.Prefix:            n.copies,
	}
}

func (n *Node) serveCall(w http.ResponseWriter, r *http.Request) {
	var (
		c systemCall
		a systemAnswer
	)
	err := json.NewDecoder(io.LimitReader(r.Body, maxCall)).Decode(&c)
	if err != nil {
		err = wire.NewError(wire.CodeBadJSON, "%w", err)
	} else if perr := n.groups.get(systemGroup).log().Primary(); perr != nil {
		err = leaderError(perr)
	} else {
		a, err = n.makeCall(r.Context(), &c)
	}
	if err != nil {
		e := wire.AsError(err)
		a.Error = &systemError{e.Code, e.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a) // who asked is gone if this fails
}

// claim gives the tenant of that record its name, and notes its group and placement.
func (n *Node) claim(ctx context.Context, rec tenant.Tenant) error {
	_, err := n.callSystem(ctx, &systemCall{Op: opClaim, Tenant: rec.ID.String(), Name: string(rec.Name), Group: rec.Group,
		Placement: &rec.Placement, PolicyNumber: rec.Policy})
	return err
}

// place brings the placement in the catalogue to that of the record.
func (n *Node) place(ctx context.Context, rec tenant.Tenant) error {
	_, err := n.callSystem(ctx, &systemCall{Op: opPlace, Tenant: rec.ID.String(), Placement: &rec.Placement, PolicyNumber: rec.Policy})
	return err
}

// releaseLater frees the name of a tenant that is gone: at once, or, if that can't be, when heal comes by.
func (n *Node) releaseLater(ctx context.Context, id tenant.ID) {
	if _, err := n.callSystem(context.WithoutCancel(ctx), &systemCall{Op: opRelease, Tenant: id.String()}); err != nil {
		n.log.Warn("the name of a tenant that is gone stays taken for now", "id", id, "error", err)
	}
}

// announce makes a node known to the cluster.
func (n *Node) announce(ctx context.Context, nd catalogue.Node) error {
	_, err := n.callSystem(ctx, &systemCall{Op: opAnnounce, Node: &nd})
	return err
}
