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
