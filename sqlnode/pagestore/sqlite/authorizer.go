package sqlite

import (
	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Action is something that a statement would do, as SQLite asks about it while
// it prepares (https://www.sqlite.org/c3ref/set_authorizer.html). An argument
// that SQLite doesn't give is "".
type Action struct {
	Code       ActionCode
	Arg1, Arg2 string // by Code
	Database   string // "main", "temp", or as attached
	Trigger    string // innermost trigger or view that does it
}

// ActionCode is the kind of an Action.
type ActionCode int32

// Kinds of actions, with their Arg1 and Arg2.
const (
	ActionCreateIndex       ActionCode = lib.SQLITE_CREATE_INDEX        // index, table
	ActionCreateTable       ActionCode = lib.SQLITE_CREATE_TABLE        // table
	ActionCreateTempIndex   ActionCode = lib.SQLITE_CREATE_TEMP_INDEX   // index, table
	ActionCreateTempTable   ActionCode = lib.SQLITE_CREATE_TEMP_TABLE   // table
	ActionCreateTempTrigger ActionCode = lib.SQLITE_CREATE_TEMP_TRIGGER // trigger, table
	ActionCreateTempView    ActionCode = lib.SQLITE_CREATE_TEMP_VIEW    // view
	ActionCreateTrigger     ActionCode = lib.SQLITE_CREATE_TRIGGER      // trigger, table
	ActionCreateView        ActionCode = lib.SQLITE_CREATE_VIEW         // view
	ActionDelete            ActionCode = lib.SQLITE_DELETE              // table
	ActionDropIndex         ActionCode = lib.SQLITE_DROP_INDEX          // index, table
	ActionDropTable         ActionCode = lib.SQLITE_DROP_TABLE          // table
	ActionDropTempIndex     ActionCode = lib.SQLITE_DROP_TEMP_INDEX     // index, table
	ActionDropTempTable     ActionCode = lib.SQLITE_DROP_TEMP_TABLE     // table
	ActionDropTempTrigger   ActionCode = lib.SQLITE_DROP_TEMP_TRIGGER   // trigger, table
	ActionDropTempView      ActionCode = lib.SQLITE_DROP_TEMP_VIEW      // view
	ActionDropTrigger       ActionCode = lib.SQLITE_DROP_TRIGGER        // trigger, table
	ActionDropView          ActionCode = lib.SQLITE_DROP_VIEW           // view
	ActionInsert            ActionCode = lib.SQLITE_INSERT              // table
	ActionPragma            ActionCode = lib.SQLITE_PRAGMA              // pragma, first argument
	ActionRead              ActionCode = lib.SQLITE_READ                // table, column; column "" for a table read without any
	ActionSelect            ActionCode = lib.SQLITE_SELECT              //
	ActionTransaction       ActionCode = lib.SQLITE_TRANSACTION         // BEGIN, COMMIT or ROLLBACK
	ActionUpdate            ActionCode = lib.SQLITE_UPDATE              // table, column
	ActionAttach            ActionCode = lib.SQLITE_ATTACH              // file
	ActionDetach            ActionCode = lib.SQLITE_DETACH              // database
	ActionAlterTable        ActionCode = lib.SQLITE_ALTER_TABLE         // database, table
	ActionReindex           ActionCode = lib.SQLITE_REINDEX             // index
	ActionAnalyze           ActionCode = lib.SQLITE_ANALYZE             // table
	ActionCreateVTable      ActionCode = lib.SQLITE_CREATE_VTABLE       // table, module
	ActionDropVTable        ActionCode = lib.SQLITE_DROP_VTABLE         // table, module
	ActionFunction          ActionCode = lib.SQLITE_FUNCTION            // "", function
	ActionSavepoint         ActionCode = lib.SQLITE_SAVEPOINT           // BEGIN, RELEASE or ROLLBACK, name
	ActionRecursive         ActionCode = lib.SQLITE_RECURSIVE           //
)

// Verdict is the answer to an Action.
type Verdict int32

// The three verdicts.
const (
	Allow  Verdict = lib.SQLITE_OK
	Deny   Verdict = lib.SQLITE_DENY   // the statement is refused with CodeAuth
	Ignore Verdict = lib.SQLITE_IGNORE // a column reads as NULL; another action is left out
)

// SetAuthorizer has f asked about each Action of statements prepared from now
// on. All prepared statements of c are prepared again, and so asked about,
// when they run next; to change what is allowed at less cost, let f look at
// something that the caller changes, and keep statements apart by it. f must
// not use the connection; its strings may be kept. nil ends it.
func (c *Conn) SetAuthorizer(f func(Action) Verdict) {
	if c.db == 0 {
		return
	}
	c.authorize = f
	if f == nil {
		lib.Xsqlite3_set_authorizer(c.tls, c.db, 0, 0)
		return
	}
	lib.Xsqlite3_set_authorizer(c.tls, c.db, funcPtr(onAction), uintptr(c.h))
}

func onAction(_ *libc.TLS, arg uintptr, code int32, arg1, arg2, database, trigger uintptr) int32 {
	c := handles.get(handle(arg))
	if c == nil || c.authorize == nil {
		return int32(Deny)
	}
	return int32(c.authorize(Action{
		Code:     ActionCode(code),
		Arg1:     c.names.get(arg1),
		Arg2:     c.names.get(arg2),
		Database: c.names.get(database),
		Trigger:  c.names.get(trigger),
	}))
}
