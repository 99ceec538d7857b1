package engine

import (
	"fmt"
	"strings"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

// policy is the authorizer of one connection: what any tenant's SQL may do.
type policy struct {
	internal bool                   // the engine's own statements: all is allowed
	tracks   bool                   // the connection writes conflict-free tables: their triggers are let pass
	taken    func(name string) bool // names that the conflict-free schema has, while the strong one may change; may be nil
	vacuum   bool                   // VACUUM is running: it attaches a database without a name, and copies all tables
	session  bool                   // a PRAGMA set a switch of the connection; whoever resets it clears this
	refused  string                 // why the newest statement was refused; "" when it was not
}

// decide is the authorizer's callback.
func (p *policy) decide(a sqlite.Action) sqlite.Verdict {
	if p.internal {
		return sqlite.Allow
	}
	if a.Code == sqlite.ActionAnalyze && isInternal(a.Arg1) {
		return sqlite.Ignore // ANALYZE without a name: our tables are left out
	}
	if p.tracks && tracking(a) {
		return sqlite.Allow
	}
	if why := p.reason(a); why != "" {
		if p.refused == "" {
			p.refused = why
		}
		return sqlite.Deny
	}
	return sqlite.Allow
}

func (p *policy) reason(a sqlite.Action) string {
	if !p.vacuum {
		if why := p.crrReason(a); why != "" {
			return why
		}
	}
	switch a.Code {
	case sqlite.ActionAttach:
		if p.vacuum && a.Arg1 == "" {
			return ""
		}
		return "ATTACH is not allowed: a request sees its tenant's database only"
	case sqlite.ActionDetach:
		if p.vacuum {
			return ""
		}
		return "DETACH is not allowed: a request sees its tenant's database only"
	case sqlite.ActionTransaction:
		if p.vacuum {
			return ""
		}
		return a.Arg1 + " is not allowed: each request is one transaction"
	case sqlite.ActionFunction:
		return functionReason(a.Arg2)
	case sqlite.ActionPragma:
		if isSessionPragma(a.Arg1, a.Arg2) {
			p.session = true // SQLite sets the switch while it prepares
		}
		return pragmaReason(a.Arg1, a.Arg2)
	}
	if p.vacuum {
		return ""
	}
	return objectReason(a)
}

// objectReason looks at what is read, written, made or dropped.
func objectReason(a sqlite.Action) string {
	const temp = "TEMP objects are not allowed: a request has no connection of its own to keep them"
	if strings.EqualFold(a.Database, "temp") && changesObject(a.Code) {
		return temp // CREATE TABLE temp.t is no ActionCreateTempTable
	}
	switch a.Code {
	case sqlite.ActionCreateTempIndex, sqlite.ActionCreateTempTable, sqlite.ActionCreateTempTrigger, sqlite.ActionCreateTempView,
		sqlite.ActionDropTempIndex, sqlite.ActionDropTempTable, sqlite.ActionDropTempTrigger, sqlite.ActionDropTempView:
		return temp
	case sqlite.ActionCreateVTable, sqlite.ActionDropVTable:
		if why := moduleReason(a.Arg2); why != "" {
			return why
		}
		return tableReason(a.Arg1)
	case sqlite.ActionRead, sqlite.ActionInsert, sqlite.ActionUpdate, sqlite.ActionDelete,
		sqlite.ActionCreateTable, sqlite.ActionDropTable, sqlite.ActionCreateView, sqlite.ActionDropView:
		if why := moduleReason(a.Arg1); why != "" {
			return why
		}
		return tableReason(a.Arg1)
	case sqlite.ActionAlterTable:
		return tableReason(a.Arg2)
	case sqlite.ActionCreateIndex, sqlite.ActionDropIndex, sqlite.ActionCreateTrigger, sqlite.ActionDropTrigger:
		if why := tableReason(a.Arg2); why != "" {
			return why
		}
		return tableReason(a.Arg1)
	}
	return ""
}

// changesObject says whether c makes or drops something, or puts it in a catalogue, which is all that is
// told of CREATE TRIGGER temp.x ON t. ALTER TABLE of another schema's table updates the catalogue of temp.
func changesObject(c sqlite.ActionCode) bool {
	switch c {
	case sqlite.ActionInsert, sqlite.ActionCreateTable, sqlite.ActionCreateView, sqlite.ActionCreateIndex, sqlite.ActionCreateTrigger, sqlite.ActionCreateVTable,
		sqlite.ActionDropTable, sqlite.ActionDropView, sqlite.ActionDropIndex, sqlite.ActionDropTrigger, sqlite.ActionDropVTable, sqlite.ActionAlterTable:
		return true
	}
	return false
}

// isInternal says whether a name is one of those that nearsql keeps for itself.
func isInternal(name string) bool {
	return hasPrefixFold(name, "_nearsql_") || hasPrefixFold(name, "__crr_")
}

// tableReason refuses what nearsql keeps in a tenant's database.
func tableReason(name string) string {
	if isInternal(name) {
		return fmt.Sprintf("%s is internal to nearsql", name)
	}
	return ""
}

// moduleReason refuses virtual tables that show what is below or beside the tenant's
// tables; they go by the names of their modules.
func moduleReason(name string) string {
	switch strings.ToLower(name) {
	case "sqlite_dbpage":
		return "sqlite_dbpage is not allowed: it shows raw pages"
	case "sqlite_stmt", "bytecode", "tables_used":
		return name + " is not allowed: it shows the statements of other requests"
	}
	return ""
}

func functionReason(name string) string {
	switch strings.ToLower(name) {
	case "load_extension", "fts3_tokenizer":
		return name + " is not allowed"
	}
	return ""
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func isSessionPragma(name, arg string) bool {
	return arg != "" && pragmaRules[strings.ToLower(name)].session
}

func pragmaReason(name, arg string) string {
	n := strings.ToLower(name)
	rule, ok := pragmaRules[n]
	switch {
	case !ok:
		return fmt.Sprintf("PRAGMA %s is not allowed; those that are: docs/api.md", name)
	case arg == "" || looksOnly[n] || rule.set || rule.session:
		return ""
	}
	return fmt.Sprintf("PRAGMA %s can be read here, not set", name)
}
