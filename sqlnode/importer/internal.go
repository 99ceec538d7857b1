package importer

import (
	"context"
	"fmt"
	"strings"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

// internalObjects are those that a node makes itself in tenants' databases, so that an exported
// file may have them: by name, what stands in sqlite_schema, blanks aside. Never written.
var internalObjects = map[string]string{
	"_nearsql_outcome": "CREATE TABLE _nearsql_outcome( subject TEXT NOT NULL, key TEXT NOT NULL, digest BLOB NOT NULL, " +
		"at INTEGER NOT NULL, outcome BLOB NOT NULL, PRIMARY KEY(subject, key)) WITHOUT ROWID",
	"_nearsql_outcome_at": "CREATE INDEX _nearsql_outcome_at ON _nearsql_outcome(at)",
	// What main says of conflict-free tables. Their statements are parsed before they are used; sites belong to the tenant that
	// they name, which the imported one is not.
	"__crr_ddl": "CREATE TABLE __crr_ddl(v INTEGER PRIMARY KEY, sql TEXT NOT NULL)",
	"__crr_site": "CREATE TABLE __crr_site(number INTEGER PRIMARY KEY, tenant BLOB NOT NULL, node TEXT NOT NULL, file BLOB NOT NULL, " +
		"state TEXT NOT NULL CHECK(state IN ('active','leaving','retired')), final INTEGER, UNIQUE(tenant, file))",
}

// checkInternal refuses objects with names that are the node's own, unless they are just what a
// node makes: the node runs its own statements on them with rights that no tenant has, so a
// trigger or view of such a name must not come in with a file.
func checkInternal(ctx context.Context, c *sqlite.Conn) error {
	var bad *BadDatabaseError
	err := each(ctx, c, "SELECT type, name, tbl_name, sql FROM sqlite_schema", func(s *sqlite.Stmt) {
		kind, name, table, text := s.Column(0).Str(), s.Column(1).Str(), s.Column(2).Str(), s.Column(3).Str()
		if bad != nil || !isInternal(name) && !isInternal(table) {
			return
		}
		if kind == "index" && strings.HasPrefix(name, "sqlite_autoindex_") {
			return
		}
		if want, ok := internalObjects[name]; !ok || strings.Join(strings.Fields(text), " ") != want {
			bad = &BadDatabaseError{What: fmt.Sprintf("the %s %.100q bears or uses a name that is the node's own, and is not what a node makes of it", kind, name)}
		}
	})
	if err == nil && bad != nil {
		return bad
	}
	return err
}

func isInternal(name string) bool {
	n := strings.ToLower(name)
	return strings.HasPrefix(n, "_nearsql_") || strings.HasPrefix(n, "__crr_")
}
