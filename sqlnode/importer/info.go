package importer

import "fmt"

// Info is what is known of a database file that was found sound.
type Info struct {
	PageSize      uint32 `json:"page_size"` // bytes
	Pages         uint32 `json:"pages"`
	Encoding      string `json:"encoding"` // UTF-8, UTF-16le or UTF-16be
	UserVersion   int32  `json:"user_version"`
	ApplicationID int32  `json:"application_id"`
	// WAL says that the header asks for a write-ahead log; see ClearWAL.
	WAL bool `json:"wal"`
	// ForeignKeyViolations counts rows whose foreign key has no parent. SQLite
	// allows them while foreign keys are off, so they don't make a file bad.
	ForeignKeyViolations int64 `json:"foreign_key_violations"`
	// ForeignKeyFault says why foreign keys could not be checked; "" when they were.
	ForeignKeyFault string `json:"foreign_key_fault,omitempty"`
}

// BadDatabaseError says why a file is not a database that a node takes in.
type BadDatabaseError struct {
	What     string
	Problems []string // what integrity_check found, at most maxProblems lines
}

func (e *BadDatabaseError) Error() string {
	if len(e.Problems) == 0 {
		return e.What
	}
	return fmt.Sprintf("%s: %s", e.What, e.Problems[0])
}

// SQLError says which statement of a dump could not be run.
type SQLError struct {
	Line    int // on which the fault is, as near as SQLite can tell
	Message string
	Excerpt string // the beginning of the statement, or "" when there is none
}

func (e *SQLError) Error() string {
	if e.Excerpt == "" {
		return fmt.Sprintf("line %d: %s", e.Line, e.Message)
	}
	return fmt.Sprintf("line %d: %s, in %q", e.Line, e.Message, e.Excerpt)
}

// DiedError says that the process that looked at a file ended without a verdict.
type DiedError struct {
	Err    error  // how it ended
	Stderr string // its last words
}

func (e *DiedError) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("the process that checks files: %v", e.Err)
	}
	return fmt.Sprintf("the process that checks files: %v: %s", e.Err, e.Stderr)
}

// Unwrap gives the cause.
func (e *DiedError) Unwrap() error { return e.Err }
