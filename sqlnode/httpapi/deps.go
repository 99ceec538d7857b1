package httpapi

import (
	"context"
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
	// Errors for clients are *wire.Error.
	Execute(ctx context.Context, tenant string, req *wire.Request, sink wire.Sink) (wire.Meta, error)
}

// Tenants keeps the node's tenants. Errors for clients are *wire.Error, or those that
// package tenant has for its catalogue.
type Tenants interface {
	Create(ctx context.Context, name string, o tenant.CreateOptions) (tenant.Tenant, error)
	// List gives at most limit tenants by name, from the first above after.
	List(ctx context.Context, after string, limit int) ([]tenant.Tenant, error)
	Get(ctx context.Context, name string) (tenant.Tenant, error)
	Delete(ctx context.Context, name string) error
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

// Identity is who asks.
type Identity struct {
	Subject string
	Admin   bool     // may do everything
	Tenants []string // whose SQL it may use; Admin may use all
}

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

// Deps is what a Handler stands on. All but Metrics must be there.
type Deps struct {
	SQL     SQL
	Tenants Tenants
	Auth    Auth
	Status  Status
	Metrics http.Handler // for /metrics; nil for none
	Counts  *Counts
	Log     *slog.Logger
}
