package httpapi

import (
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/native"
)

// Handler serves the API of a node.
type Handler struct {
	cfg     Config
	sql     SQL
	tenants Tenants
	auth    Auth
	status  Status
	metrics http.Handler
	counts  *Counts
	log     *slog.Logger

	// For a cluster.
	cluster  Cluster
	peers    http.RoundTripper
	inner    *Handler // the same for other nodes
	internal bool     // it is one for other nodes

	limits   native.Limits
	mux      *http.ServeMux
	sqlRoute *route    // of POST .../sql
	calls    sync.Pool // *call
	packers  sync.Pool // *gzip.Writer
	readers  sync.Pool // *gzip.Reader
}

// New makes a handler.
func New(cfg Config, d Deps) (*Handler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	switch {
	case d.SQL == nil, d.Tenants == nil, d.Auth == nil, d.Status == nil, d.Counts == nil, d.Log == nil:
		return nil, errors.New("a part that the HTTP API stands on is missing")
	}
	h := newHandler(cfg, d, false)
	h.inner = newHandler(cfg, d, true)
	if err := h.inner.internalRoutes(d.InternalRoutes); err != nil {
		return nil, err
	}
	return h, nil
}

func newHandler(cfg Config, d Deps, internal bool) *Handler {
	h := &Handler{
		cfg: cfg, sql: d.SQL, tenants: d.Tenants, auth: d.Auth, status: d.Status,
		metrics: d.Metrics, counts: d.Counts, log: d.Log,
		cluster: d.Cluster, peers: d.Peers, internal: internal,
		limits: native.Limits{Statements: cfg.Statements, Arguments: cfg.Arguments},
		mux:    http.NewServeMux(),
	}
	h.calls.New = func() any { return new(call) }
	h.routes()
	return h
}

// route is one entry of the list of routes.
type route struct {
	counts routeCounts
	logged bool // a failure is worth a line in the log, whoever is at fault
	serve  func(w http.ResponseWriter, r *http.Request) error
}

// routes is the list of all routes.
func (h *Handler) routes() {
	list := []struct {
		method, path, name string
		logged             bool
		serve              func(http.ResponseWriter, *http.Request) error
	}{
		{"POST", "/v1/tenants/{t}/sql", "sql", false, h.postSQL},
		{"GET", "/v1/tenants/{t}/sql", "sql_get", false, h.getSQL},
		{"GET", "/v1/tenants", "tenant_list", false, h.listTenants},
		{"POST", "/v1/tenants", "tenant_create", true, h.createTenant},
		{"GET", "/v1/tenants/{t}", "tenant_get", false, h.getTenant},
		{"DELETE", "/v1/tenants/{t}", "tenant_delete", true, h.deleteTenant},
		{"PUT", "/v1/tenants/{t}/placement", "tenant_place", true, h.placeTenant},
		{"GET", "/v1/tenants/{t}/copies", "tenant_copies", false, h.listCopies},
		{"GET", "/v1/tenants/{t}/crr", "tenant_crr", false, h.showTables},
		{"POST", "/v1/tenants/{t}/crr/retire", "tenant_crr_retire", true, h.retireSites},
		{"POST", "/v1/tenants/{t}/crr/restamp", "tenant_crr_restamp", true, h.restampSite},
		{"POST", "/v1/tenants/{t}/crr/rebuild", "tenant_crr_rebuild", true, h.rebuildSite},
		{"POST", "/v1/tenants/{t}/crr/adopt", "tenant_crr_adopt", true, h.convertTable(TableCommands.Adopt)},
		{"POST", "/v1/tenants/{t}/crr/release", "tenant_crr_release", true, h.convertTable(TableCommands.Release)},
		{"POST", "/v1/tenants/{t}/import", "tenant_import", true, h.importTenant},
		{"GET", "/v1/tenants/{t}/export", "tenant_export", true, h.exportTenant},
		{"GET", "/v1/nodes", "node_list", false, h.listNodes},
		{"GET", "/v1/nodes/{id}", "node_get", false, h.getNode},
		{"POST", "/v1/nodes/{id}/drain", "node_drain", true, h.nodeState(NodeDraining)},
		{"POST", "/v1/nodes/{id}/undrain", "node_undrain", true, h.nodeState(NodeActive)},
		{"DELETE", "/v1/nodes/{id}", "node_remove", true, h.nodeState(NodeRemoving)},
		{"GET", "/v1/groups", "group_list", false, h.listGroups},
		{"POST", "/v1/groups", "group_create", true, h.createGroup},
		{"GET", "/v1/groups/{g}", "group_get", false, h.getGroup},
		{"POST", "/v1/groups/{g}/move-leader", "group_move_leader", true, h.moveLeader},
		{"GET", "/v1/status", "status", false, h.getStatus},
		{"GET", "/healthz", "healthz", false, h.healthz},
		{"GET", "/readyz", "readyz", false, h.readyz},
		{"GET", "/metrics", "metrics", false, h.getMetrics},
	}
	methods := map[string][]string{}
	prefix := ""
	if h.internal {
		prefix = "internal_" // a request that was passed on counts where it came in, too
	}
	for _, e := range list {
		rt := &route{h.counts.route(prefix + e.name), e.logged, e.serve}
		if e.name == "sql" {
			h.sqlRoute = rt
		}
		h.handle(e.method+" "+e.path, rt)
		methods[e.path] = append(methods[e.path], e.method)
	}
	other := h.counts.route(prefix + "other")
	for path, allowed := range methods {
		if slices.Contains(allowed, "GET") {
			allowed = append(allowed, "HEAD")
		}
		allow := strings.Join(append(allowed, "OPTIONS"), ", ")
		h.handle(path, &route{other, false, func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Allow", allow)
			if r.Method == http.MethodOptions {
				w.WriteHeader(http.StatusNoContent)
				return nil
			}
			return wire.NewError(wire.CodeMethodNotAllowed, "%.20q is no method of this route; it has %s", r.Method, allow)
		}})
	}
	h.handle("/", &route{other, false, notFound})
}

func notFound(_ http.ResponseWriter, r *http.Request) error {
	return wire.NewError(wire.CodeNotFound, "no route has the path %.200q", r.URL.Path)
}

// handle registers a route: it answers with the error that serve returns, and counts.
func (h *Handler) handle(pattern string, rt *route) {
	h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { h.serveRoute(rt, w, r) })
}

func (h *Handler) serveRoute(rt *route, w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	var id string
	if len(r.Header["X-Request-Id"]) > 0 {
		if id = requestID(r); id != "" {
			w.Header().Set("X-Request-Id", id)
		}
	}
	err := rt.serve(w, r)
	if err == nil {
		rt.counts.done(began, nil)
		return
	}
	e := clientError(err)
	var sent sentError
	if told := errors.As(err, &sent); !told {
		if id == "" {
			id = newRequestID()
			w.Header().Set("X-Request-Id", id)
		}
		writeError(w, e)
	}
	rt.counts.done(began, e)
	h.logFailure(rt, r, id, e)
	if broken := (brokenError{}); errors.As(err, &broken) {
		// What net/http has for this: it closes the connection without an end to the answer.
		panic(http.ErrAbortHandler)
	}
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.internal {
		bounded, cancel, err := h.withTimeLeft(r)
		if err != nil {
			writeError(w, clientError(err))
			return
		}
		defer cancel()
		r = bounded
	} else if len(r.Header["Origin"]) > 0 && len(h.cfg.Origins) > 0 && h.cors(w, r) {
		return
	}
	// ServeMux would redirect these, and a redirect loses bodies and tokens.
	if p := r.URL.Path; strings.Contains(p, "//") || strings.Contains(p, "/.") || !strings.HasPrefix(p, "/") {
		h.serveRoute(&route{h.counts.route("other"), false, notFound}, w, r)
		return
	}
	if name, ok := sqlPath(r); ok {
		r.SetPathValue("t", name)
		h.serveRoute(h.sqlRoute, w, r)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// sqlPath is the tenant of a POST of SQL, which most requests are: what it finds, the mux would find too, after longer.
func sqlPath(r *http.Request) (tenant string, ok bool) {
	const prefix, suffix = "/v1/tenants/", "/sql"
	p := r.URL.Path
	if r.Method != http.MethodPost || r.URL.RawPath != "" || len(p) <= len(prefix)+len(suffix) || !strings.HasPrefix(p, prefix) || !strings.HasSuffix(p, suffix) {
		return "", false
	}
	name := p[len(prefix) : len(p)-len(suffix)]
	return name, strings.IndexByte(name, '/') < 0
}

// identify says who asks.
func (h *Handler) identify(r *http.Request) (Identity, error) {
	if h.internal {
		return nodeIdentity(r)
	}
	bearer := ""
	if list := r.Header["Authorization"]; len(list) > 0 {
		const scheme = "Bearer "
		a := list[0]
		if len(list) > 1 || len(a) <= len(scheme) || !strings.EqualFold(a[:len(scheme)], scheme) {
			return Identity{}, wire.NewError(wire.CodeUnauthenticated, "want one header Authorization: Bearer TOKEN")
		}
		bearer = strings.TrimSpace(a[len(scheme):])
	}
	return h.auth.Check(r.Context(), bearer)
}

// admin refuses all but administrators.
func (h *Handler) admin(r *http.Request) error {
	id, err := h.identify(r)
	if err != nil {
		return err
	}
	if !id.Admin {
		return wire.NewError(wire.CodeForbidden, "this needs a token of an administrator")
	}
	return nil
}

// tenantName is the name in the path.
func tenantName(r *http.Request) (string, error) {
	name := r.PathValue("t")
	if _, err := tenant.ParseAnyName(name); err != nil {
		return "", err
	}
	return name, nil
}
