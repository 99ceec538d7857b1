package wire

// Statement is SQL text for one statement, with its arguments.
type Statement struct {
	SQL   string
	Args  []Value    // by position, ?1 first
	Named []NamedArg // by name; never together with Args
}

// NamedArg is an argument for a parameter with a name.
type NamedArg struct {
	Name  string // as the client gave it: with or without its leading ':', '@' or '$'
	Value Value
}

// Column describes one column of an answer.
type Column struct {
	Name     string
	DeclType string // as declared in CREATE TABLE; "" for an expression
}

// Summary is what is known of a statement when its last row has been given.
type Summary struct {
	RowsAffected    int64 // rows that this statement inserted, updated or deleted; 0 for a read
	LastInsertRowID int64 // rowid of the newest INSERT of this statement
	Inserted        bool  // whether LastInsertRowID means anything
}

// Result is the whole answer to one statement, held in memory.
type Result struct {
	Columns []Column
	Rows    [][]Value
	Summary
}

// Sink takes the answers of a request, statement by statement, row by row.
// An error that it returns stops the request and is returned by it.
type Sink interface {
	// Begin is called once for each statement, in order, before its rows.
	// columns is empty for a statement that returns none; it stays valid.
	Begin(statement int, columns []Column) error
	// Row is called for each row; row is valid until Row returns.
	Row(row []Value) error
	// End is called when the statement has no more rows.
	End(s Summary) error
}
