package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// The headers by which a node tells another whose request it passes on. They mean nothing on the public listener.
const (
	headerSubject = "Nearsql-Subject" // of the caller, percent-encoded
	headerRights  = "Nearsql-Rights"  // an Identity in JSON, of what the request needs
	headerHops    = "Nearsql-Hops"    // how many nodes passed it on: 1
	headerTimeout = "Nearsql-Timeout" // what is left of the request's time, in milliseconds
)

// The headers by which a node that can't answer says so.
const (
	headerPrimary = "Nearsql-Primary" // the node that could
	headerApplied = "Nearsql-Applied" // "no": the request had no effect
)

// internalPrefix begins the paths of routes that only nodes may ask for.
const internalPrefix = "/internal/"

// Internal is the API as other nodes get it, on the cluster's listener, with InternalRoutes. Whoever reaches it is
// believed to be a node of the cluster: who asks is what the request's headers say. It passes nothing on.
func (h *Handler) Internal() http.Handler { return h.inner }

// internalRoutes adds the routes that are for nodes alone.
func (h *Handler) internalRoutes(routes map[string]http.Handler) error {
	for pattern, handler := range routes {
		path := pattern
		if _, after, ok := strings.Cut(pattern, " "); ok {
			path = strings.TrimLeft(after, " ")
		}
		if !strings.HasPrefix(path, internalPrefix) || handler == nil {
			return fmt.Errorf("internal route %q: want a handler, and a path that begins with %s", pattern, internalPrefix)
		}
		h.mux.Handle(pattern, handler)
	}
	return nil
}

// rightsMax bounds the header of rights, and that of the subject, in bytes.
const rightsMax = 8 << 10

// appendIdentity says in headers who asks. Of the rights it gives what a request to one tenant can need; "" is for requests
// that are not about the SQL of a tenant.
func appendIdentity(header http.Header, id Identity, tenant string) error {
	rights := id
	rights.Tenants = nil
	if slices.Contains(id.Tenants, tenant) {
		rights.Tenants = []string{tenant}
	}
	b, err := json.Marshal(rights)
	if err != nil {
		return err
	}
	header[headerRights] = []string{string(b)}
	header[headerSubject] = []string{url.QueryEscape(id.Subject)}
	header[headerHops] = []string{"1"}
	return nil
}

// nodeIdentity is who asks, as the node that passed the request on has checked.
func nodeIdentity(r *http.Request) (Identity, error) {
	var id Identity
	refuse := func(name string) (Identity, error) {
		return Identity{}, wire.NewError(wire.CodeUnauthenticated, "the header %s of a request between nodes is missing or malformed", name)
	}
	hops, rights, subject := r.Header[headerHops], r.Header[headerRights], r.Header[headerSubject]
	switch {
	case len(hops) != 1 || hops[0] != "1":
		return refuse(headerHops)
	case len(rights) != 1 || len(rights[0]) > rightsMax:
		return refuse(headerRights)
	case len(subject) != 1 || len(subject[0]) > rightsMax:
		return refuse(headerSubject)
	}
	if decodeJSON([]byte(rights[0]), &id) != nil {
		return refuse(headerRights)
	}
	var err error
	if id.Subject, err = url.QueryUnescape(subject[0]); err != nil {
		return refuse(headerSubject)
	}
	return id, nil
}

// timeLeft is what the node that passed a request on says is left of its time; 0 when it says nothing.
func timeLeft(r *http.Request) (time.Duration, error) {
	list := r.Header[headerTimeout]
	if len(list) == 0 {
		return 0, nil
	}
	ms, err := strconv.ParseInt(list[0], 10, 64)
	if err != nil || len(list) > 1 || ms < 1 || ms > timeParamMax.Milliseconds() {
		return 0, wire.NewError(wire.CodeBadRequest, "the header %s of a request between nodes is malformed", headerTimeout)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// withTimeLeft bounds a request of another node by what is left of its time.
func (h *Handler) withTimeLeft(r *http.Request) (*http.Request, context.CancelFunc, error) {
	left, err := timeLeft(r)
	if err != nil || left == 0 {
		return r, func() {}, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), left)
	return r.WithContext(ctx), cancel, nil
}
