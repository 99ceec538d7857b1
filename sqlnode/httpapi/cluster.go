package httpapi

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/nearsql/nearsql/cluster"
	"github.com/nearsql/nearsql/wire"
)

// errNoCluster answers what only a cluster can.
func errNoCluster() error {
	return wire.NewError(wire.CodeNotFound, "this node is on its own: it has no cluster")
}

// nameMax bounds names of groups and regions, in bytes.
const nameMax = 63

// votersMax bounds the voters of a group.
const votersMax = 15

// plainName says whether s can be the name of a group: 1 to 63 of a-z, 0-9, '-' and '_', not all digits.
func plainName(s string) bool {
	return cluster.CheckNode(s) == nil && strings.Trim(s, "0123456789") != ""
}

// clusterRoute is for routes of nodes and groups: it refuses all but administrators, and parameters.
func (h *Handler) clusterRoute(r *http.Request) error {
	if err := h.admin(r); err != nil {
		return err
	}
	if h.cluster == nil {
		return errNoCluster()
	}
	return eachParam(r, noParam)
}

// nodeID is the node in the path.
func nodeID(r *http.Request) (string, error) {
	id := r.PathValue("id")
	if err := cluster.CheckNode(id); err != nil {
		return "", wire.NewError(wire.CodeNoSuchNode, "no node has the id %.70q", id)
	}
	return id, nil
}

// groupName is the group in the path.
func groupName(r *http.Request) (string, error) {
	g := r.PathValue("g")
	if cluster.CheckNode(g) != nil {
		return "", wire.NewError(wire.CodeNoSuchGroup, "no group is %.70q", g)
	}
	return g, nil
}

// show answers with what get gives, here or on another node.
func show[T any](h *Handler, w http.ResponseWriter, r *http.Request, status int, e *errand, get func(ctx context.Context) (T, error)) error {
	return h.anywhere(w, r, e, func() error {
		v, err := get(r.Context())
		if err != nil {
			return err
		}
		return h.writeJSON(w, r, status, v)
	})
}

func (h *Handler) listNodes(w http.ResponseWriter, r *http.Request) error {
	if err := h.clusterRoute(r); err != nil {
		return err
	}
	type list struct {
		Nodes []NodeInfo `json:"nodes"`
	}
	return show(h, w, r, http.StatusOK, &errand{}, func(ctx context.Context) (list, error) {
		nodes, err := h.cluster.Nodes(ctx)
		if nodes == nil {
			nodes = []NodeInfo{}
		}
		for i := range nodes {
			nodes[i].Groups = notNil(nodes[i].Groups)
		}
		return list{nodes}, err
	})
}

func (h *Handler) getNode(w http.ResponseWriter, r *http.Request) error {
	if err := h.clusterRoute(r); err != nil {
		return err
	}
	id, err := nodeID(r)
	if err != nil {
		return err
	}
	return show(h, w, r, http.StatusOK, &errand{}, func(ctx context.Context) (NodeInfo, error) {
		n, err := h.cluster.Node(ctx, id)
		n.Groups = notNil(n.Groups)
		return n, err
	})
}

// nodeState serves a route that declares a state of a node. To declare it again changes nothing.
func (h *Handler) nodeState(state string) func(http.ResponseWriter, *http.Request) error {
	type declared struct {
		ID    string `json:"id"`
		State string `json:"state"`
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := h.clusterRoute(r); err != nil {
			return err
		}
		id, err := nodeID(r)
		if err != nil {
			return err
		}
		return show(h, w, r, http.StatusAccepted, &errand{repeats: true}, func(ctx context.Context) (declared, error) {
			return declared{id, state}, h.cluster.SetNodeState(ctx, id, state)
		})
	}
}

func (h *Handler) listGroups(w http.ResponseWriter, r *http.Request) error {
	if err := h.clusterRoute(r); err != nil {
		return err
	}
	type list struct {
		Groups []GroupInfo `json:"groups"`
	}
	return show(h, w, r, http.StatusOK, &errand{}, func(ctx context.Context) (list, error) {
		groups, err := h.cluster.Groups(ctx)
		if groups == nil {
			groups = []GroupInfo{}
		}
		for i := range groups {
			groups[i] = whole(groups[i])
		}
		return list{groups}, err
	})
}

func (h *Handler) getGroup(w http.ResponseWriter, r *http.Request) error {
	if err := h.clusterRoute(r); err != nil {
		return err
	}
	name, err := groupName(r)
	if err != nil {
		return err
	}
	return show(h, w, r, http.StatusOK, &errand{}, func(ctx context.Context) (GroupInfo, error) {
		g, err := h.cluster.Group(ctx, name)
		return whole(g), err
	})
}

// whole gives a group whose lists are lists in JSON, too, where they are empty.
func whole(g GroupInfo) GroupInfo {
	g.Declared, g.Voters, g.Learners = notNil(g.Declared), notNil(g.Voters), notNil(g.Learners)
	if g.Members == nil {
		g.Members = []MemberInfo{}
	}
	return g
}

func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// check says what in the options of a new group can't be.
func (o *GroupOptions) check() error {
	switch {
	case !plainName(o.Name):
		return wire.NewError(wire.CodeBadName, "name %.70q: want 1 to %d of a-z, 0-9, '-' and '_', not digits alone", o.Name, nameMax)
	case o.Target < 0 || o.Target > votersMax:
		return wire.NewError(wire.CodeBadRequest, "target %d: want 1 to %d, or 0 for as many as there should be", o.Target, votersMax)
	case len(o.Voters) > votersMax:
		return wire.NewError(wire.CodeBadRequest, "voters: %d are too many, want at most %d", len(o.Voters), votersMax)
	case len(o.Region) > nameMax:
		return wire.NewError(wire.CodeBadRequest, "region: %d bytes are too many, want at most %d", len(o.Region), nameMax)
	}
	for i, v := range o.Voters {
		if err := cluster.CheckNode(v); err != nil {
			return wire.NewError(wire.CodeBadRequest, "voters: %w", err)
		}
		if slices.Contains(o.Voters[:i], v) {
			return wire.NewError(wire.CodeBadRequest, "voters: %q comes twice", v)
		}
	}
	return nil
}

func (h *Handler) createGroup(w http.ResponseWriter, r *http.Request) error {
	if err := h.clusterRoute(r); err != nil {
		return err
	}
	var o GroupOptions
	body, err := h.jsonBody(w, r, &o)
	if err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	return show(h, w, r, http.StatusCreated, &errand{body: body}, func(ctx context.Context) (GroupInfo, error) {
		g, err := h.cluster.CreateGroup(ctx, o)
		if err == nil {
			w.Header().Set("Location", "/v1/groups/"+g.Name)
		}
		return whole(g), err
	})
}

func (h *Handler) moveLeader(w http.ResponseWriter, r *http.Request) error {
	if err := h.clusterRoute(r); err != nil {
		return err
	}
	name, err := groupName(r)
	if err != nil {
		return err
	}
	type move struct {
		To string `json:"to"`
	}
	var in move
	body, err := h.jsonBody(w, r, &in)
	if err != nil {
		return err
	}
	if err := cluster.CheckNode(in.To); err != nil {
		return wire.NewError(wire.CodeBadRequest, "to: %w", err)
	}
	type moved struct {
		Group   string `json:"group"`
		Primary string `json:"primary"`
	}
	return show(h, w, r, http.StatusOK, &errand{repeats: true, body: body}, func(ctx context.Context) (moved, error) {
		return moved{name, in.To}, h.cluster.MoveLeader(ctx, name, in.To)
	})
}
