package schema

import (
	"fmt"
	"strings"
)

// Parse reads one statement of DDL. What SQLite can do and conflict-free schemas
// can't is a *Refusal; what it can't read a *SyntaxError.
func Parse(sql string) (*Statement, error) {
	ts, err := Lex(sql)
	if err != nil {
		return nil, err
	}
	for len(ts) > 0 && ts[len(ts)-1].IsSymbol(";") {
		ts = ts[:len(ts)-1]
	}
	p := &parser{sql: sql, ts: ts}
	s, err := p.statement()
	if err != nil {
		return nil, err
	}
	if !p.done() {
		return nil, p.fail("the end of the statement")
	}
	return s, nil
}

// parser walks over the tokens of a statement. Its methods that take
// something return whether, or what, they took.
type parser struct {
	sql string
	ts  []Token
	i   int

	counters map[int]bool // where the type COUNTER stands, by byte
}

func (p *parser) done() bool { return p.i >= len(p.ts) }

func (p *parser) peek() Token {
	if p.done() {
		return Token{Kind: Symbol, Start: len(p.sql), End: len(p.sql)}
	}
	return p.ts[p.i]
}

func (p *parser) at(n int) Token {
	if p.i+n >= len(p.ts) {
		return Token{Kind: Symbol, Start: len(p.sql), End: len(p.sql)}
	}
	return p.ts[p.i+n]
}

func (p *parser) fail(expected string) error {
	t := p.peek()
	if p.done() {
		return &SyntaxError{t.Start, "expected " + expected + ", found the end"}
	}
	return &SyntaxError{t.Start, fmt.Sprintf("expected %s, found %q", expected, p.sql[t.Start:t.End])}
}

// take takes words in a row, all or none.
func (p *parser) take(words ...string) bool {
	for n, w := range words {
		if !p.at(n).Is(w) {
			return false
		}
	}
	p.i += len(words)
	return true
}

func (p *parser) symbol(s string) bool {
	if !p.done() && p.peek().IsSymbol(s) {
		p.i++
		return true
	}
	return false
}

func (p *parser) name(what string) (string, error) {
	t := p.peek()
	if p.done() || t.Kind != Word && t.Kind != Quoted && t.Kind != String {
		return "", p.fail(what)
	}
	p.i++
	return t.Text, nil
}

// qualified takes [schema.]name.
func (p *parser) qualified(what string) (schema, name string, err error) {
	if name, err = p.name(what); err != nil {
		return "", "", err
	}
	if p.symbol(".") {
		schema = name
		name, err = p.name(what)
	}
	return schema, name, err
}

// parens takes an expression in parentheses and returns what is between them.
func (p *parser) parens() ([]Token, error) {
	if !p.symbol("(") {
		return nil, p.fail("(")
	}
	from := p.i
	for depth := 1; !p.done(); p.i++ {
		switch {
		case p.peek().IsSymbol("("):
			depth++
		case p.peek().IsSymbol(")"):
			if depth--; depth == 0 {
				p.i++
				return p.ts[from : p.i-1], nil
			}
		}
	}
	return nil, p.fail(")")
}

func (p *parser) statement() (*Statement, error) {
	switch {
	case p.take("CREATE"):
		return p.create()
	case p.take("ALTER", "TABLE"):
		return p.alter()
	case p.take("DROP"):
		return p.drop()
	}
	return nil, p.fail("CREATE, ALTER TABLE or DROP")
}

func (p *parser) create() (*Statement, error) {
	if p.take("TEMP") || p.take("TEMPORARY") {
		return nil, &Refusal{Reason: "TEMP objects belong to one connection, not to a site"}
	}
	switch {
	case p.take("TABLE"):
		return p.createTable()
	case p.take("VIEW"):
		return p.createView()
	case p.take("INDEX"):
		return p.createIndex(false)
	case p.take("UNIQUE", "INDEX"):
		return p.createIndex(true)
	case p.take("VIRTUAL", "TABLE"):
		return nil, &Refusal{Reason: "a virtual table can't be conflict-free: its content is its module's"}
	case p.take("TRIGGER"):
		return nil, &Refusal{Reason: "a trigger on a conflict-free table would run at one site and its effects be merged at the others; write both in one transaction instead"}
	}
	return nil, p.fail("TABLE, VIEW or INDEX")
}

func (p *parser) createView() (*Statement, error) {
	s := &Statement{Verb: CreateView, Guarded: p.take("IF", "NOT", "EXISTS")}
	var err error
	if s.Schema, s.Name, err = p.qualified("the name of the view"); err != nil {
		return nil, err
	}
	from := p.peek().Start
	s.tokens = p.ts[p.i:]
	if p.peek().IsSymbol("(") {
		if _, err := p.parens(); err != nil {
			return nil, err
		}
	}
	if !p.take("AS") {
		return nil, p.fail("AS")
	}
	if p.done() {
		return nil, p.fail("SELECT")
	}
	for ; !p.done(); p.i++ {
		if p.peek().IsSymbol(";") {
			return nil, p.fail("one statement")
		}
	}
	s.body = p.text(from)
	return s, nil
}

// text is the statement's text from a byte to the end of its last token.
func (p *parser) text(from int) string { return p.sql[from:p.ts[len(p.ts)-1].End] }

func (p *parser) createIndex(unique bool) (*Statement, error) {
	s := &Statement{Verb: CreateIndex, Guarded: p.take("IF", "NOT", "EXISTS")}
	var err error
	if s.Schema, s.Name, err = p.qualified("the name of the index"); err != nil {
		return nil, err
	}
	if !p.take("ON") {
		return nil, p.fail("ON")
	}
	if s.Table, err = p.name("the name of the table"); err != nil {
		return nil, err
	}
	if unique {
		return nil, &Refusal{s.Table, fmt.Sprintf("UNIQUE (%s) cannot be kept across sites; make it the PRIMARY KEY, or use a strong table", s.Name)}
	}
	from := p.peek().Start
	terms, err := p.parens()
	if err != nil {
		return nil, err
	}
	for _, term := range splitList(terms) {
		if !plainTerm(term) {
			return nil, &Refusal{s.Table, fmt.Sprintf("index %s is over an expression: it could fail at a site for a row that another site took; index columns, or a generated column", s.Name)}
		}
		s.index = append(s.index, term[0].Text)
	}
	if p.take("WHERE") {
		s.where = p.ts[p.i:]
		for ; !p.done(); p.i++ {
			if p.peek().IsSymbol(";") {
				return nil, p.fail("one statement")
			}
		}
	}
	s.body = p.text(from)
	return s, nil
}

// splitList cuts at the commas outside of parentheses.
func splitList(ts []Token) (out [][]Token) {
	depth, from := 0, 0
	for i, t := range ts {
		switch {
		case t.IsSymbol("("):
			depth++
		case t.IsSymbol(")"):
			depth--
		case t.IsSymbol(",") && depth == 0:
			out, from = append(out, ts[from:i]), i+1
		}
	}
	return append(out, ts[from:])
}

// plainTerm says whether a term is column [COLLATE name] [ASC|DESC].
func plainTerm(ts []Token) bool {
	if len(ts) == 0 || !ts[0].IsName() {
		return false
	}
	ts = ts[1:]
	if len(ts) >= 2 && ts[0].Is("COLLATE") {
		ts = ts[2:]
	}
	return len(ts) == 0 || len(ts) == 1 && (ts[0].Is("ASC") || ts[0].Is("DESC"))
}

func (p *parser) drop() (*Statement, error) {
	s := &Statement{}
	switch {
	case p.take("TABLE"):
		s.Verb = DropTable
	case p.take("INDEX"):
		s.Verb = DropIndex
	case p.take("VIEW"):
		s.Verb = DropView
	default:
		return nil, p.fail("TABLE, INDEX or VIEW")
	}
	s.Guarded = p.take("IF", "EXISTS")
	var err error
	s.Schema, s.Name, err = p.qualified("a name")
	return s, err
}

func (p *parser) alter() (*Statement, error) {
	s := &Statement{}
	var err error
	if s.Schema, s.Name, err = p.qualified("the name of the table"); err != nil {
		return nil, err
	}
	switch {
	case p.take("RENAME", "TO"):
		s.Verb = RenameTable
		s.NewName, err = p.name("the new name")
	case p.take("RENAME"):
		s.Verb = RenameColumn
		p.take("COLUMN")
		if s.Column, err = p.name("the column"); err != nil {
			return nil, err
		}
		if !p.take("TO") {
			return nil, p.fail("TO")
		}
		s.NewName, err = p.name("the new name")
	case p.take("DROP"):
		s.Verb = DropColumn
		p.take("COLUMN")
		s.Column, err = p.name("the column")
	case p.take("ADD"):
		s.Verb = AddColumn
		p.take("COLUMN")
		from := p.i
		if s.column, err = p.columnDecl(); err == nil {
			s.body = p.render(p.ts[from:p.i])
		}
	default:
		return nil, &Refusal{s.Name, "only RENAME, ADD COLUMN and DROP COLUMN can change a conflict-free table; for another key, kind or constraint make a new table"}
	}
	return s, err
}

// render returns the text of tokens in a row, with what is ours said in SQLite's words.
func (p *parser) render(ts []Token) string {
	if len(ts) == 0 {
		return ""
	}
	var b strings.Builder
	at := ts[0].Start
	for _, t := range ts {
		if p.counters[t.Start] {
			b.WriteString(p.sql[at:t.Start])
			b.WriteString("INTEGER")
			at = t.End
		}
	}
	b.WriteString(p.sql[at:ts[len(ts)-1].End])
	return b.String()
}
