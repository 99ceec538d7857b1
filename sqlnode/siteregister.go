package sqlnode

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// registration asks the primary of a tenant's group for a site number. It is JSON between nodes.
type registration struct {
	Tenant string       `json:"tenant"`
	Group  wire.GroupID `json:"group"`
	Node   string       `json:"node"`
	File   string       `json:"file"` // hexadecimal
}

// pathRegister is where nodes send them.
const pathRegister = "/internal/v1/sites"

// register gives the file of this node its site number, by the tenant's primary: engine.Registrar.
func (s *sites) register(ctx context.Context, t *pagestore.Tenant, file crr.FileID) error {
	ctx, cancel := context.WithTimeout(ctx, bookmarkPatience)
	defer cancel()
	rec := t.Record()
	reg := registration{Tenant: rec.ID.String(), Group: rec.Group, Node: s.n.id.Node, File: hex.EncodeToString(file[:])}
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		err := s.tryRegister(ctx, &reg)
		var w *wire.Error
		if err == nil || errors.As(err, &w) && w.Code != wire.CodeNotPrimary && w.Code != wire.CodeUnknownOutcome {
			return err
		}
		pause(ctx, wait)
		if ctx.Err() != nil {
			return wire.NewError(wire.CodeUnreachable, "no site number can be had from the tenant's primary now: %w", err)
		}
	}
}

func (s *sites) tryRegister(ctx context.Context, reg *registration) error {
	h := s.n.groups.get(reg.Group)
	node := ""
	if h == nil {
		node = s.n.memberOf(reg.Group)
	} else if l, err := h.awaitLeader(ctx); err != nil {
		return err
	} else if !l.Primary {
		node = string(l.Leader)
	} else {
		return s.registerHere(ctx, reg)
	}
	if node == "" || s.n.net == nil {
		return wire.NewError(wire.CodeNotPrimary, "no member of group %d is known", reg.Group)
	}
	var a systemAnswer
	if err := s.n.postJSON(ctx, node, pathRegister, reg, &a); err != nil {
		return err
	}
	if a.Error != nil {
		return wire.NewError(a.Error.Code, "%s", a.Error.Message)
	}
	return nil
}

// registerHere numbers a file of any node: this one is the tenant's primary.
func (s *sites) registerHere(ctx context.Context, reg *registration) error {
	id, err := wire.ParseTenantID(reg.Tenant)
	if err != nil {
		return wire.NewError(wire.CodeBadRequest, "%w", err)
	}
	var file crr.FileID
	b, err := hex.DecodeString(reg.File)
	if err != nil || len(b) != len(file) {
		return wire.NewError(wire.CodeBadRequest, "file id %.80q: want %d hexadecimal digits", reg.File, 2*len(file))
	}
	copy(file[:], b)
	h := s.n.groups.get(reg.Group)
	if h == nil {
		return wire.NewError(wire.CodeNotPrimary, "group %d is not here", reg.Group)
	}
	t, err := h.pages.Tenant(id)
	if err != nil {
		return wire.NewError(wire.CodeNoSuchTenant, "%w", err)
	}
	site, err := s.n.engine.RegisterSite(ctx, t, quorum{h: h, t: t}, reg.Node, file)
	if err == nil {
		s.n.log.Info("site registered", "id", id, "node", reg.Node, "site", int(site))
	}
	return err
}

func (s *sites) serveRegister(w http.ResponseWriter, r *http.Request) {
	var (
		reg registration
		a   systemAnswer
	)
	err := json.NewDecoder(io.LimitReader(r.Body, maxCall)).Decode(&reg)
	if err != nil {
		err = wire.NewError(wire.CodeBadJSON, "%w", err)
	} else {
		err = s.registerHere(r.Context(), &reg)
	}
	if err != nil {
		e := wire.AsError(err)
		a.Error = &systemError{e.Code, e.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a) // who asked is gone if this fails
}
