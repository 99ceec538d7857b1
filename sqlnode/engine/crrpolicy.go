package engine

import (
	"fmt"
	"strings"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/schema"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

// crrReason refuses what a tenant's statement may not do because of conflict-free tables.
func (p *policy) crrReason(a sqlite.Action) string {
	if p.tracks {
		if why := crr.Denied(crr.Action{Code: int(a.Code), Arg1: a.Arg1, Arg2: a.Arg2, Database: a.Database, Trigger: a.Trigger}); why != "" {
			return why
		}
	}
	if strings.EqualFold(a.Database, schema.SchemaName) {
		if why := movingReason(a.Arg1); why != "" {
			return why
		}
		switch {
		case a.Code == sqlite.ActionInsert && !strings.HasPrefix(strings.ToLower(a.Arg1), "sqlite_"):
		case changesObject(a.Code), a.Code == sqlite.ActionAnalyze, a.Code == sqlite.ActionReindex:
			return "the schema of conflict-free tables is changed by its own CREATE, ALTER and DROP only"
		}
	}
	if p.taken != nil {
		switch a.Code {
		case sqlite.ActionCreateTable, sqlite.ActionCreateView, sqlite.ActionCreateIndex, sqlite.ActionCreateVTable:
			if p.taken(a.Arg1) {
				return takenReason(a.Arg1)
			}
		}
	}
	return ""
}

func takenReason(name string) string {
	return fmt.Sprintf("the conflict-free schema has the name %s: a name may be in one of both only", name)
}

// tracking says whether a is what the triggers of conflict-free tables do. SQLite gives the name of a CTE for that of a trigger, so
// the name alone is no proof: crr.CheckText looks for it in a statement's text; a view's body, which can have one too, gets by it no
// further than to what reads the conflict-free file, of which bodies of main can name nothing, and those of crr are looked at when they are declared.
func tracking(a sqlite.Action) bool {
	if !strings.HasPrefix(a.Trigger, "__crr_") {
		return false
	}
	switch a.Code {
	case sqlite.ActionFunction:
		return hasPrefixFold(a.Arg2, "crr_")
	case sqlite.ActionSelect:
		return true
	}
	return a.Database == schema.SchemaName
}
