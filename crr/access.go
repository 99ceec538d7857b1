package crr

import (
	"fmt"
	"strings"

	"github.com/nearsql/nearsql/schema"
)

// Action is what SQLite asks an authorizer (https://www.sqlite.org/c3ref/set_authorizer.html), by SQLite's numbers.
type Action struct {
	Code       int
	Arg1, Arg2 string
	Database   string
	Trigger    string // innermost trigger or view; also the name of a CTE
}

// SQLite's numbers of the actions that concern conflict-free tables (https://www.sqlite.org/c3ref/c_alter_table.html).
const (
	actCreateIndex       = 1
	actCreateTable       = 2
	actCreateTempTrigger = 5
	actCreateTrigger     = 7
	actCreateView        = 8
	actDelete            = 9
	actDropIndex         = 10
	actDropTable         = 11
	actDropTrigger       = 16
	actDropView          = 17
	actInsert            = 18
	actPragma            = 19
	actRead              = 20
	actUpdate            = 23
	actAlterTable        = 26
	actFunction          = 31
)

// Denied says why a tenant's statement may not do something on a connection that has the file attached; "" when it may.
// The engine's own statements, changes of the schema among them, are not to be asked about. The tracking is let pass by the
// name of its triggers, so a statement that names something like one itself is to be refused by its text first (CheckText): SQLite gives the
// name of a CTE for that of a trigger.
func Denied(a Action) string {
	if strings.HasPrefix(a.Trigger, "__crr_") {
		return ""
	}
	switch a.Code {
	case actFunction:
		if n := strings.ToLower(a.Arg2); strings.HasPrefix(n, "crr_") && n != "crr_stamp" {
			return a.Arg2 + " is internal to nearsql"
		}
	case actPragma:
		switch strings.ToLower(a.Arg1) {
		case "recursive_triggers", "trusted_schema", "ignore_check_constraints", "writable_schema", "temp_store", "journal_mode", "synchronous", "locking_mode", "reverse_unordered_selects", "count_changes":
			if a.Arg2 != "" {
				return fmt.Sprintf("PRAGMA %s can't be set where conflict-free tables are written", a.Arg1)
			}
		}
	case actCreateTempTrigger:
		return "triggers on conflict-free tables are not allowed"
	case actCreateTrigger, actDropTrigger, actCreateIndex, actDropIndex:
		if internalName(a.Arg1) || internalName(a.Arg2) {
			return a.Arg1 + " is internal to nearsql"
		}
		if strings.EqualFold(a.Database, schema.SchemaName) {
			return "the schema of conflict-free tables is changed by its own statements only"
		}
	case actCreateTable, actCreateView, actDropTable, actDropView, actInsert, actUpdate, actDelete, actRead:
		if internalName(a.Arg1) {
			return a.Arg1 + " is internal to nearsql"
		}
		if strings.EqualFold(a.Database, schema.SchemaName) && a.Code != actRead && (a.Code < actDelete || a.Code == actDropTable || a.Code == actDropView || strings.HasPrefix(strings.ToLower(a.Arg1), "sqlite_")) {
			return "the schema of conflict-free tables is changed by its own statements only"
		}
	case actAlterTable:
		if strings.EqualFold(a.Arg1, schema.SchemaName) || internalName(a.Arg2) {
			return "the schema of conflict-free tables is changed by its own statements only"
		}
	}
	return ""
}

func internalName(name string) bool { return strings.HasPrefix(strings.ToLower(name), "__crr_") }

// CheckText refuses a tenant's statement that names something like our tables and triggers: a CTE or an
// alias so called would be taken for a trigger by Denied.
func CheckText(sql string) error {
	ts, err := schema.Lex(sql)
	if err != nil {
		return nil // SQLite says it better
	}
	for _, t := range ts {
		if (t.IsName() || t.Kind == schema.String) && internalName(t.Text) {
			return &schema.Refusal{Reason: fmt.Sprintf("%q is a name of nearsql's own", t.Text)}
		}
	}
	return nil
}
