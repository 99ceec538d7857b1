package importer

import (
	"fmt"
	"strings"

	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
)

// guard says what a dump may do.
type guard struct {
	refusal  string // why the newest statement was refused
	pageSize bool   // a PRAGMA that may change the page size was run
	open     bool   // the statement is ours, not the dump's
}

// pragma says how a PRAGMA of a dump is taken. What is not in the switch is refused.
func pragma(name string) (v sqlite.Verdict, known bool) {
	switch name {
	case "page_size", "encoding", "auto_vacuum", "user_version", "application_id",
		// .dump of SQLite's shell makes virtual tables by writing to the schema.
		"writable_schema",
		"foreign_keys", "defer_foreign_keys", "recursive_triggers", "legacy_alter_table",
		"data_version", // asked by FTS5
		"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo",
		"foreign_key_list", "foreign_key_check", "integrity_check", "quick_check":
		return sqlite.Allow, true
	case "journal_mode", "synchronous", "locking_mode", "temp_store", "cache_size", "busy_timeout",
		"wal_autocheckpoint", "journal_size_limit", "optimize", "mmap_size", "secure_delete", "threads":
		return sqlite.Ignore, true // they say how the dump wants to be run, not what is in it
	}
	return sqlite.Deny, false
}

func (g *guard) ask(a sqlite.Action) sqlite.Verdict {
	if g.open {
		return sqlite.Allow
	}
	switch a.Code {
	case sqlite.ActionAttach:
		if a.Arg1 == "" {
			return sqlite.Allow // how VACUUM makes its temporary database
		}
		return g.deny("ATTACH, and VACUUM INTO a file, are not allowed in a dump")
	case sqlite.ActionPragma:
		name := strings.ToLower(a.Arg1)
		v, known := pragma(name)
		if !known {
			return g.deny(fmt.Sprintf("PRAGMA %.40s is not allowed in a dump", name))
		}
		if name == "page_size" {
			g.pageSize = true
		}
		return v
	case sqlite.ActionFunction:
		switch strings.ToLower(a.Arg2) {
		case "load_extension", "fts3_tokenizer":
			return g.deny(fmt.Sprintf("the function %s is not allowed in a dump", strings.ToLower(a.Arg2)))
		}
	case sqlite.ActionTransaction:
		if strings.EqualFold(a.Arg1, "ROLLBACK") {
			return g.deny("the dump rolls back what it wrote: it was not written whole")
		}
	}
	return sqlite.Allow
}

func (g *guard) deny(why string) sqlite.Verdict {
	g.refusal = why
	return sqlite.Deny
}
