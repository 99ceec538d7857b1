package catalogue

import (
	"context"
	"fmt"

	"github.com/nearsql/nearsql/wire"
)

// SchemaVersion is the version of the tables that this program knows.
const SchemaVersion = 1

// tables of version 1. Lists of nodes are JSON arrays of ids in order; times are milliseconds since 1970. A tenant's
// placement is the JSON of a tenant.Placement, or empty for its zero value; policy is the number of that placement.
var tables = []string{
	// meta: schema, version (of the newest change), trimmed (the highest version of a row that was
	// trimmed) and cluster (id).
	`CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY NOT NULL, value ANY NOT NULL) STRICT, WITHOUT ROWID`,
	`CREATE TABLE IF NOT EXISTS nodes (
		id TEXT PRIMARY KEY NOT NULL, incarnation TEXT NOT NULL, pop TEXT NOT NULL, region TEXT NOT NULL, labels TEXT NOT NULL,
		cluster_addr TEXT NOT NULL, public_url TEXT NOT NULL, state TEXT NOT NULL, joined INTEGER NOT NULL, version INTEGER NOT NULL) STRICT`,
	`CREATE INDEX IF NOT EXISTS nodes_version ON nodes (version)`,
	`CREATE TABLE IF NOT EXISTS groups (
		id INTEGER PRIMARY KEY NOT NULL, name TEXT UNIQUE NOT NULL, voters TEXT NOT NULL, pinned INTEGER NOT NULL, target INTEGER NOT NULL,
		region TEXT NOT NULL, founded INTEGER NOT NULL, member_voters TEXT NOT NULL, member_learners TEXT NOT NULL,
		member_primary TEXT NOT NULL, member_term INTEGER NOT NULL, member_index INTEGER NOT NULL,
		created INTEGER NOT NULL, changed INTEGER NOT NULL, version INTEGER NOT NULL) STRICT`,
	`CREATE INDEX IF NOT EXISTS groups_version ON groups (version)`,
	`CREATE TABLE IF NOT EXISTS tenants (
		id BLOB PRIMARY KEY NOT NULL, name TEXT NOT NULL, group_id INTEGER NOT NULL, state TEXT NOT NULL,
		policy INTEGER NOT NULL, placement TEXT NOT NULL, changed INTEGER NOT NULL, version INTEGER NOT NULL) STRICT`,
	`CREATE UNIQUE INDEX IF NOT EXISTS tenants_name ON tenants (name) WHERE state = 'live'`,
	`CREATE INDEX IF NOT EXISTS tenants_version ON tenants (version)`,
	`CREATE INDEX IF NOT EXISTS tenants_gone ON tenants (version) WHERE state = 'gone'`,
}

// SchemaError says that the tables have a version that this program does not know.
type SchemaError struct{ Have, Know int64 }

func (e *SchemaError) Error() string {
	return fmt.Sprintf("the catalogue has schema version %d; this program knows %d", e.Have, e.Know)
}

// Migrate makes the tables, if there are none. Its error is a *SchemaError when
// there are some of another version; they are left as they are.
func Migrate(ctx context.Context, db DB) error {
	there := false
	err := db.Query(ctx, `SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'meta'`, nil, func([]wire.Value) error {
		there = true
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for the catalogue: %w", err)
	}
	if there {
		_, err := readMeta(ctx, db)
		return err
	}
	stmts := make([]wire.Statement, 0, len(tables)+1)
	for _, sql := range tables {
		stmts = append(stmts, stmt(sql))
	}
	stmts = append(stmts, stmt(`INSERT INTO meta VALUES ('schema', ?1), ('version', 0), ('trimmed', 0), ('cluster', '') ON CONFLICT DO NOTHING`,
		wire.Integer(SchemaVersion)))
	if _, err := db.Exec(ctx, stmts); err != nil {
		return fmt.Errorf("make the catalogue: %w", err)
	}
	// Another may have made it at the same time.
	_, err = readMeta(ctx, db)
	return err
}

// meta is what the table of that name holds.
type meta struct {
	version, trimmed uint64
	cluster          string
}

// readMeta reads table meta, and refuses a schema that is not known.
func readMeta(ctx context.Context, db DB) (meta, error) {
	var (
		m      meta
		schema int64
	)
	err := db.Query(ctx, `SELECT key, value FROM meta`, nil, func(c []wire.Value) error {
		switch c[0].Str() {
		case "schema":
			schema = c[1].Int()
		case "version":
			m.version = uint64(c[1].Int())
		case "trimmed":
			m.trimmed = uint64(c[1].Int())
		case "cluster":
			m.cluster = c[1].Str()
		}
		return nil
	})
	if err != nil {
		return meta{}, fmt.Errorf("read the catalogue's version: %w", err)
	}
	if schema != SchemaVersion {
		return meta{}, &SchemaError{Have: schema, Know: SchemaVersion}
	}
	return m, nil
}
