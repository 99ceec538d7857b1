package schema

// Verb is what a statement does.
type Verb uint8

// The verbs of conflict-free schemas.
const (
	CreateTable Verb = iota + 1
	DropTable
	RenameTable
	RenameColumn
	AddColumn
	DropColumn
	CreateIndex
	DropIndex
	CreateView
	DropView
)

// Statement is one statement of DDL.
type Statement struct {
	Verb    Verb
	Schema  string // as written before the name: "" when left out
	Name    string // of what is made, changed or dropped
	Table   string // of CreateIndex: what it is over
	Guarded bool   // IF [NOT] EXISTS
	NewName string // of the renames
	Column  string // of RenameColumn and DropColumn

	declaration *declaration // of CreateTable
	column      *columnDecl  // of AddColumn
	index       []string     // columns of CreateIndex
	where       []Token      // condition of CreateIndex
	tokens      []Token      // of the body
	body        string       // what follows the name, with COUNTER rendered
}

// declaration is what CREATE TABLE says.
type declaration struct {
	columns      []*columnDecl
	key          []keyTerm // of the table constraint, or the column's own
	keyCount     int       // PRIMARY KEY clauses
	checks       [][]Token // of the table
	unique       []string  // columns of UNIQUE clauses, for the message
	foreign      bool
	auto         bool // AUTOINCREMENT
	withoutRowID bool
	strict       bool
}

type keyTerm struct {
	column  string
	collate string // "" when left out
	desc    bool
}

type columnDecl struct {
	name      string
	typ       string // upper case, one blank between words; "" for none
	counter   bool   // the type is COUNTER
	notNull   bool
	hasDef    bool
	def       string  // SQL text of the default, as written
	defTokens []Token // of a default in parentheses or not
	defParen  bool
	collate   string
	checks    [][]Token
	generated []Token // expression; nil when it is no generated column
	unique    bool
	foreign   bool
	primary   bool
	desc      bool // of PRIMARY KEY
	auto      bool // AUTOINCREMENT
}
