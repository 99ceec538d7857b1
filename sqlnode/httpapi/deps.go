package httpapi

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// SQL runs requests.
type SQL interface {
	// Execute runs req for the tenant of that name, and gives its answers to sink, which it does not
	// touch after it has returned. An error of sink ends the request and is returned, wrapped or not.
	// Errors for clients are *wire.Error, or an *ElsewhereError.
	Execute(ctx context.Context, tenant string, req *wire.Request, sink wire.Sink) (wire.Meta, error)
}

// Tenants keeps the node's tenants. Errors for clients are *wire.Error, or those that
// package tenant has for its catalogue. Every method may return an *ElsewhereError.
type Tenants interface {
	Create(ctx context.Context, name string, o tenant.CreateOptions) (tenant.Tenant, error)
	// List gives at most limit tenants by name, from the first above after.
	List(ctx context.Context, after string, limit int) ([]tenant.Tenant, error)
	Get(ctx context.Context, name string) (tenant.Tenant, error)
	Delete(ctx context.Context, name string) error
	// Place says where replicas of a tenant are to be; an empty jurisdiction leaves that as it is. It returns when
	// that is decided; that the nodes follow takes longer, and is seen in Copies.
	Place(ctx context.Context, name string, p tenant.Placement) (tenant.Tenant, error)
	// Copies gives the copies of a tenant that are, or are to be, on any node: the primary's first.
	Copies(ctx context.Context, name string) ([]CopyInfo, error)
	// Import creates a tenant from what r has, which it reads to its end.
	Import(ctx context.Context, name string, f Format, r io.Reader, o tenant.CreateOptions) (tenant.Tenant, error)
	// Export writes the whole tenant, at one moment. An error before the first byte is answered as such.
	Export(ctx context.Context, name string, w io.Writer, f Format) error
}

// Format is how a whole tenant travels.
type Format string

// Formats.
const (
	FormatSQLite Format = "sqlite" // a database file
	FormatSQL    Format = "sql"    // a dump: statements that make it
)

// contentType is the media type of the format.
func (f Format) contentType() string {
	if f == FormatSQL {
		return "application/sql"
	}
	return "application/vnd.sqlite3"
}

// Auth knows tokens.
type Auth interface {
	// Check says who bears a token; bearer is "" when the request has none. Its
	// error is a *wire.Error, UNAUTHENTICATED for a token that is not valid.
	Check(ctx context.Context, bearer string) (Identity, error)
}

// Identity is who asks. Its JSON is what nodes tell each other of a request's rights: a
// field that narrows them has a name there that older nodes do not know, and refuse.
type Identity struct {
	Subject string   `json:"-"`
	Admin   bool     `json:"admin,omitempty"`   // may do everything
	Tenants []string `json:"tenants,omitempty"` // whose SQL it may use; Admin may use all
}

// ElsewhereError says that another node has to answer a request. Who returns it, wrapped or not, has neither
// given a byte of an answer nor read one of a body, and has changed nothing: the request is sent to that node as it came.
type ElsewhereError struct {
	Node string // id of the node
	// Reads: what is asked changes nothing. It may then be sent again when an answer got lost. Requests that
	// can't write by their form, as all of GET, need not say so.
	Reads bool
	Err   error // why this node can't answer; nil if there is nothing to say
	// Either: that node may answer, as this one might have. It is asked once, and if it can't, either, Err is what there is to say.
	Either bool
}

// Error implements error.
func (e *ElsewhereError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("node %s has to answer this", e.Node)
	}
	return fmt.Sprintf("node %s has to answer this: %v", e.Node, e.Err)
}

// Unwrap returns why this node can't answer.
func (e *ElsewhereError) Unwrap() error { return e.Err }

// mayUse says whether the identity has the right to a tenant's SQL.
func (id *Identity) mayUse(name string) bool {
	if id.Admin {
		return true
	}
	for _, t := range id.Tenants {
		if t == name {
			return true
		}
	}
	return false
}

// Status tells of the node.
type Status interface {
	Ready(ctx context.Context) error // nil when the node takes requests
	Status(ctx context.Context) any  // what encoding/json makes the answer of
}

// Deps is what a Handler stands on. All but Metrics and what is for a cluster must be there.
type Deps struct {
	SQL     SQL
	Tenants Tenants
	Auth    Auth
	Status  Status
	Metrics http.Handler // for /metrics; nil for none
	Counts  *Counts
	Log     *slog.Logger

	// Cluster is for the routes of nodes and groups; nil for a node on its own.
	Cluster Cluster
	// Peers sends requests to other nodes, by URLs like http://NODE/path; nil for a node on its own. When no connection
	// could be had, and so nothing was sent, its error wraps one of package cluster's dial, or a *net.OpError of dial.
	Peers http.RoundTripper
	// InternalRoutes are served to other nodes alone, by patterns of http.ServeMux whose paths begin with /internal/.
	// They answer as they like and are not counted.
	InternalRoutes map[string]http.Handler
}
