package engine

import (
	"fmt"
	"strings"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

// policy is the authorizer of one connection: what any tenant's SQL may do.
type policy struct {
	internal bool   // the engine's own statements: all is allowed
	vacuum   bool   // VACUUM is running: it attaches a database without a name
	refused  string // why the newest statement was refused; "" when it was not
}

// decide is the authorizer's callback.
func (p *policy) decide(a sqlite.Action) sqlite.Verdict {
	if p.internal {
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
	case sqlite.ActionCreateTempIndex, sqlite.ActionCreateTempTable, sqlite.ActionCreateTempTrigger, sqlite.ActionCreateTempView,
		sqlite.ActionDropTempIndex, sqlite.ActionDropTempTable, sqlite.ActionDropTempTrigger, sqlite.ActionDropTempView:
		return "TEMP objects are not allowed: a request has no connection of its own to keep them"
	case sqlite.ActionPragma:
		return pragmaReason(a.Arg1, a.Arg2)
	case sqlite.ActionFunction:
		if strings.EqualFold(a.Arg2, "load_extension") {
			return "load_extension is not allowed"
		}
		if strings.EqualFold(a.Arg2, "fts3_tokenizer") {
			return "fts3_tokenizer is not allowed"
		}
	case sqlite.ActionRead:
		return tableReason(a.Arg1, false)
	case sqlite.ActionInsert, sqlite.ActionUpdate, sqlite.ActionDelete, sqlite.ActionAnalyze,
		sqlite.ActionCreateTable, sqlite.ActionDropTable, sqlite.ActionCreateView, sqlite.ActionDropView,
		sqlite.ActionCreateVTable, sqlite.ActionDropVTable:
		if a.Code == sqlite.ActionCreateVTable && strings.EqualFold(a.Arg2, "dbpage") {
			return "the module sqlite_dbpage is not allowed"
		}
		return tableReason(a.Arg1, true)
	case sqlite.ActionCreateIndex, sqlite.ActionDropIndex, sqlite.ActionCreateTrigger, sqlite.ActionDropTrigger, sqlite.ActionAlterTable:
		if why := tableReason(a.Arg2, true); why != "" {
			return why
		}
		if a.Code != sqlite.ActionAlterTable {
			return tableReason(a.Arg1, true)
		}
	}
	return ""
}

// tableReason refuses what nearsql keeps in a tenant's database, and what shows raw pages.
func tableReason(name string, write bool) string {
	switch {
	case hasPrefixFold(name, "_nearsql_"), hasPrefixFold(name, "__crr_"):
		return fmt.Sprintf("%s is internal to nearsql", name)
	case strings.EqualFold(name, "sqlite_dbpage"):
		return "sqlite_dbpage is not allowed: it shows raw pages"
	}
	_ = write
	return ""
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
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
