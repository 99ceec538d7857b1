package schema

import "strings"

// createTable reads what follows CREATE TABLE.
func (p *parser) createTable() (*Statement, error) {
	s := &Statement{Verb: CreateTable, Guarded: p.take("IF", "NOT", "EXISTS")}
	var err error
	if s.Schema, s.Name, err = p.qualified("the name of the table"); err != nil {
		return nil, err
	}
	if p.peek().Is("AS") {
		return nil, &Refusal{s.Name, "a PRIMARY KEY is required: it names the row on every site"}
	}
	from := p.i
	if !p.symbol("(") {
		return nil, p.fail("(")
	}
	d := &declaration{}
	s.declaration = d
	constraints := false
	for {
		if constraints = constraints || p.atTableConstraint(); constraints {
			err = p.tableConstraint(d)
		} else {
			var c *columnDecl
			if c, err = p.columnDecl(); err == nil {
				d.addColumn(c)
			}
		}
		if err != nil {
			return nil, err
		}
		// SQLite lets the commas between table constraints be left out.
		if p.symbol(",") || constraints && p.atTableConstraint() {
			continue
		}
		if p.symbol(")") {
			break
		}
		return nil, p.fail(", or )")
	}
	for !p.done() {
		switch {
		case p.take("WITHOUT", "ROWID"):
			d.withoutRowID = true
		case p.take("STRICT"):
			d.strict = true
		default:
			return nil, p.fail("WITHOUT ROWID or STRICT")
		}
		if !p.symbol(",") && !p.done() {
			return nil, p.fail("the end of the statement")
		}
	}
	s.body = p.render(p.ts[from:p.i])
	return s, nil
}

func (d *declaration) addColumn(c *columnDecl) {
	d.columns = append(d.columns, c)
	if c.unique {
		d.unique = append(d.unique, c.name)
	}
	d.foreign = d.foreign || c.foreign
}

func (p *parser) atTableConstraint() bool {
	t := p.peek()
	return t.Is("CONSTRAINT") || t.Is("PRIMARY") && p.at(1).Is("KEY") || t.Is("UNIQUE") && p.at(1).IsSymbol("(") ||
		t.Is("CHECK") && p.at(1).IsSymbol("(") || t.Is("FOREIGN") && p.at(1).Is("KEY")
}

func (p *parser) tableConstraint(d *declaration) error {
	if p.take("CONSTRAINT") {
		if _, err := p.name("the name of the constraint"); err != nil {
			return err
		}
	}
	switch {
	case p.take("PRIMARY", "KEY"):
		return p.tableKey(d)
	case p.take("UNIQUE"):
		terms, err := p.parens()
		if err != nil {
			return err
		}
		for _, t := range splitList(terms) {
			if len(t) > 0 {
				d.unique = append(d.unique, t[0].Text)
			}
		}
		return p.onConflict()
	case p.take("CHECK"):
		expr, err := p.parens()
		if err != nil {
			return err
		}
		d.checks = append(d.checks, expr)
		return p.onConflict()
	case p.take("FOREIGN", "KEY"):
		d.foreign = true
		if _, err := p.parens(); err != nil {
			return err
		}
		if !p.take("REFERENCES") {
			return p.fail("REFERENCES")
		}
		return p.references()
	}
	return p.fail("PRIMARY KEY, UNIQUE, CHECK or FOREIGN KEY")
}

func (p *parser) tableKey(d *declaration) error {
	d.keyCount++
	terms, err := p.parens()
	if err != nil {
		return err
	}
	for _, t := range splitList(terms) {
		if n := len(t); n > 0 && t[n-1].Is("AUTOINCREMENT") {
			d.auto, t = true, t[:n-1]
		}
		if !plainTerm(t) {
			return p.fail("columns in PRIMARY KEY")
		}
		k := keyTerm{column: t[0].Text, desc: t[len(t)-1].Is("DESC") && len(t) > 1}
		if len(t) > 2 && t[1].Is("COLLATE") {
			k.collate = t[2].Text
		}
		d.key = append(d.key, k)
	}
	return p.onConflict()
}

func (p *parser) onConflict() error {
	if p.take("ON", "CONFLICT") {
		_, err := p.name("what to do on conflict")
		return err
	}
	return nil
}

// references takes what follows REFERENCES.
func (p *parser) references() error {
	if _, err := p.name("the table referred to"); err != nil {
		return err
	}
	if p.peek().IsSymbol("(") {
		if _, err := p.parens(); err != nil {
			return err
		}
	}
	for {
		switch {
		case p.take("ON", "DELETE"), p.take("ON", "UPDATE"):
			if !p.take("SET", "NULL") && !p.take("SET", "DEFAULT") && !p.take("CASCADE") && !p.take("RESTRICT") && !p.take("NO", "ACTION") {
				return p.fail("an action")
			}
		case p.take("MATCH"):
			if _, err := p.name("a name"); err != nil {
				return err
			}
		case p.take("NOT", "DEFERRABLE"), p.take("DEFERRABLE"):
		case p.take("INITIALLY", "DEFERRED"), p.take("INITIALLY", "IMMEDIATE"):
		default:
			return nil
		}
	}
}

// columnDecl reads a column: its name, type and constraints.
func (p *parser) columnDecl() (*columnDecl, error) {
	name, err := p.name("the name of a column")
	if err != nil {
		return nil, err
	}
	c := &columnDecl{name: name}
	var words []string
	for !p.done() && !p.atColumnConstraint() {
		t := p.peek()
		if t.Kind != Word && t.Kind != Quoted && t.Kind != String {
			break
		}
		if t.Is("COUNTER") && len(words) == 0 {
			p.noteCounter(t)
			c.counter = true
		}
		words = append(words, strings.ToUpper(t.Text))
		p.i++
	}
	c.typ = strings.Join(words, " ")
	if c.counter = c.counter && len(words) == 1; !c.counter && strings.Contains(c.typ, "COUNTER") {
		return nil, &SyntaxError{p.peek().Start, "column " + name + ": of COUNTER types there is only COUNTER"}
	}
	if len(words) > 0 && p.peek().IsSymbol("(") {
		if _, err := p.parens(); err != nil {
			return nil, err
		}
	}
	for p.atColumnConstraint() {
		if err := p.columnConstraint(c); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// noteCounter remembers that a word is the type COUNTER.
func (p *parser) noteCounter(t Token) {
	if p.counters == nil {
		p.counters = make(map[int]bool)
	}
	p.counters[t.Start] = true
}

func (p *parser) atColumnConstraint() bool {
	t := p.peek()
	switch {
	case t.Is("CONSTRAINT"), t.Is("PRIMARY"), t.Is("NOT"), t.Is("NULL"), t.Is("UNIQUE"), t.Is("CHECK"), t.Is("DEFAULT"), t.Is("COLLATE"), t.Is("REFERENCES"), t.Is("AS"):
		return true
	case t.Is("GENERATED") && p.at(1).Is("ALWAYS"):
		return true
	}
	return false
}

func (p *parser) columnConstraint(c *columnDecl) (err error) {
	switch {
	case p.take("CONSTRAINT"):
		_, err = p.name("the name of the constraint")
		return err
	case p.take("PRIMARY", "KEY"):
		c.primary = true
		if p.take("DESC") {
			c.desc = true
		} else {
			p.take("ASC")
		}
		if err := p.onConflict(); err != nil {
			return err
		}
		c.auto = p.take("AUTOINCREMENT")
		return nil
	case p.take("NOT", "NULL"):
		c.notNull = true
		return p.onConflict()
	case p.take("NULL"):
		return p.onConflict()
	case p.take("UNIQUE"):
		c.unique = true
		return p.onConflict()
	case p.take("CHECK"):
		expr, err := p.parens()
		if err != nil {
			return err
		}
		c.checks = append(c.checks, expr)
		return p.onConflict()
	case p.take("DEFAULT"):
		return p.defaultValue(c)
	case p.take("COLLATE"):
		c.collate, err = p.name("a collation")
		return err
	case p.take("REFERENCES"):
		c.foreign = true
		return p.references()
	case p.take("GENERATED", "ALWAYS", "AS"), p.take("AS"):
		if c.generated, err = p.parens(); err != nil {
			return err
		}
		if !p.take("STORED") {
			p.take("VIRTUAL")
		}
		return nil
	}
	return p.fail("a column constraint")
}

func (p *parser) defaultValue(c *columnDecl) error {
	from := p.i
	switch {
	case p.peek().IsSymbol("("):
		if _, err := p.parens(); err != nil {
			return err
		}
		c.defParen = true
	case p.symbol("+"), p.symbol("-"):
		if p.done() || p.peek().Kind != Number {
			return p.fail("a number")
		}
		p.i++
	case p.done() || p.peek().Kind == Symbol || p.peek().Kind == Param:
		return p.fail("a default")
	default:
		p.i++
	}
	c.hasDef = true
	c.defTokens = p.ts[from:p.i]
	c.def = p.sql[p.ts[from].Start:p.ts[p.i-1].End]
	return nil
}
