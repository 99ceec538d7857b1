package engine

import (
	"strings"

	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
)

// NeedsPrimary says whether a request must run on the primary of its tenant's group: it has a statement that
// writes, or that sets a switch for one that does. A request that it takes for a read can't write either: readers
// have no means to.
func NeedsPrimary(req *wire.Request) bool {
	for i := range req.Statements {
		switch classify(req.Statements[i].SQL) {
		case classEmpty, classRead, classCheck, classRefused:
		default:
			return true
		}
	}
	return false
}

// ReadsCRR says whether a request may name one of the tenant's conflict-free tables. It looks at words alone: a name that is only
// in a text or a comment's place counts too, which costs such a read what those tables cost.
func (e *Engine) ReadsCRR(t *pagestore.Tenant, req *wire.Request) bool {
	if e.cfg.CRR == nil {
		return false
	}
	db, err := e.acquire(t)
	if err != nil {
		return false
	}
	defer e.release(db)
	return db.readsCRR(req)
}

func (db *DB) readsCRR(req *wire.Request) bool {
	state := db.names()
	if state == nil {
		return false
	}
	for i := range req.Statements {
		sql := req.Statements[i].SQL
		for tok, ok := next(sql, 0); ok; tok, ok = next(sql, tok.end) {
			if name := strings.Trim(tok.text, "\"'`[]"); tok.is("crr") || name != "" && state.Has(name) {
				return true
			}
		}
	}
	return false
}

// SaysCRR says whether a request names the schema of conflict-free tables, and writes no other: what can be known of a tenant that is not here.
func SaysCRR(req *wire.Request) bool {
	said := false
	for i := range req.Statements {
		sql := req.Statements[i].SQL
		switch k := classify(sql); k {
		case classEmpty, classRead, classCheck, classRefused:
			for tok, ok := next(sql, 0); ok && !said; tok, ok = next(sql, tok.end) {
				said = tok.is(schema.SchemaName)
			}
		case classWrite:
			if to, _ := target(sql, k, nil); to != toCRR {
				return false
			}
			said = true
		default:
			return false
		}
	}
	return said
}
