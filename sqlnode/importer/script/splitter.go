package script

import "bytes"

// Statement is the text of one statement.
type Statement struct {
	// Text goes from the first token to the semicolon, which it includes
	// unless the input ended without one.
	Text string
	// Line is where the first token is, counted from 1.
	Line int
}

// LineAt is the line of the input on which the byte at offset of Text is. An
// offset outside of Text counts as its beginning.
func (s Statement) LineAt(offset int) int {
	if offset < 0 || offset > len(s.Text) {
		return s.Line
	}
	n := s.Line
	for _, c := range []byte(s.Text[:offset]) {
		if c == '\n' {
			n++
		}
	}
	return n
}

// class is what the finder of statements' ends tells apart among tokens.
type class uint8

const (
	semi class = iota
	other
	wordExplain
	wordCreate
	wordTemp
	wordTrigger
	wordEnd
)

// place is how far a statement has got.
type place uint8

const (
	atStart     place = iota // no token yet
	inStatement              // an ordinary one: ends at the next semicolon
	afterExplain
	afterCreate   // CREATE [TEMP]
	inTrigger     // in the body of a trigger
	inTriggerSemi // in the body, after a semicolon
	inTriggerEnd  // after "; END": ends at a semicolon
)

// next is the state machine of sqlite3_complete() (complete.c), without its
// state for white space, which changes nothing.
func next(p place, c class) place {
	switch p {
	case atStart, afterExplain:
		switch {
		case c == semi:
			return atStart
		case c == wordCreate:
			return afterCreate
		case c == wordExplain && p == atStart:
			return afterExplain
		case c == other && p == afterExplain:
			return afterExplain // QUERY PLAN
		}
		return inStatement
	case afterCreate:
		switch c {
		case semi:
			return atStart
		case wordTemp:
			return afterCreate
		case wordTrigger:
			return inTrigger
		}
		return inStatement
	case inTrigger:
		if c == semi {
			return inTriggerSemi
		}
		return inTrigger
	case inTriggerSemi:
		switch c {
		case semi:
			return inTriggerSemi
		case wordEnd:
			return inTriggerEnd
		}
		return inTrigger
	case inTriggerEnd:
		if c == semi {
			return atStart
		}
		return inTrigger
	}
	if c == semi {
		return atStart
	}
	return inStatement
}

// lexeme is what the byte before belongs to.
type lexeme uint8

const (
	between lexeme = iota
	inWord
	inQuotes // until Splitter.quote
	afterDash
	afterSlash
	inLineComment
	inBlockComment
	inBlockStar // in a block comment, after '*'
)

// Splitter cuts text that comes in pieces. The zero Splitter is ready.
type Splitter struct {
	buf    []byte // the statement so far, from its first token, or a lone '-' or '/' that may begin a comment
	done   []Statement
	place  place
	lex    lexeme
	quote  byte
	word   [10]byte // the word so far in lower case, if it is no longer than this
	wordN  int      // its length
	line   int      // line feeds seen
	began  int      // line of the first token
	inText bool     // whether buf holds a token
}

// Feed takes more text.
func (s *Splitter) Feed(text []byte) {
	for _, c := range text {
		s.feed(c)
	}
}

// Next gives the next whole statement of what was fed. Statements without a
// token (";", comments) are passed over.
func (s *Splitter) Next() (Statement, bool) {
	if len(s.done) == 0 {
		return Statement{}, false
	}
	st := s.done[0]
	s.done = s.done[1:]
	if len(s.done) == 0 {
		s.done = nil // lets go of the texts
	}
	return st, true
}

// Pending says whether a statement has begun and not ended. White space and
// whole comments begin none; an open block comment does.
func (s *Splitter) Pending() bool {
	return s.inText || s.lex == inBlockComment || s.lex == inBlockStar
}

// PendingSize is how many bytes of a statement that has not ended are held.
func (s *Splitter) PendingSize() int { return len(s.buf) }

// Rest ends the input: it gives the statement that has no semicolon, and
// begins anew. whole is false when it ends in a string, a quoted name, a block comment or a trigger's body.
func (s *Splitter) Rest() (st Statement, ok, whole bool) {
	s.endWord()
	if s.lex == afterDash || s.lex == afterSlash {
		s.token(other)
	}
	open := s.lex == inQuotes || s.lex == inBlockComment || s.lex == inBlockStar ||
		s.place == inTrigger || s.place == inTriggerSemi
	st = Statement{Text: string(bytes.TrimRight(s.buf, " \t\r\n\f")), Line: s.began}
	ok = s.inText
	line := s.line
	*s = Splitter{line: line, done: s.done}
	return st, ok, !open
}

// Drop forgets the statement that has not ended.
func (s *Splitter) Drop() { *s = Splitter{line: s.line} }

func (s *Splitter) feed(c byte) {
	defer func() {
		if c == '\n' {
			s.line++
		}
	}()
	switch s.lex {
	case inQuotes:
		s.keep(c)
		if c == s.quote {
			s.lex = between
		}
		return
	case inLineComment:
		s.keep(c)
		if c == '\n' {
			s.lex = between
		}
		return
	case inBlockComment, inBlockStar:
		s.keep(c)
		switch {
		case c == '*':
			s.lex = inBlockStar
		case c == '/' && s.lex == inBlockStar:
			s.lex = between
		default:
			s.lex = inBlockComment
		}
		return
	case afterDash, afterSlash:
		if s.lex == afterDash && c == '-' {
			s.lex = inLineComment
			s.comment(c)
			return
		}
		if s.lex == afterSlash && c == '*' {
			s.lex = inBlockComment
			s.comment(c)
			return
		}
		s.lex = between
		s.token(other) // it was an operator; buf has it
	case inWord:
		if isWord(c) {
			if s.wordN < len(s.word) {
				s.word[s.wordN] = c | 0x20
			}
			s.wordN++
			s.keep(c)
			return
		}
		s.endWord()
	}
	switch {
	case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f':
		s.keep(c)
	case c == ';':
		s.buf = append(s.buf, c)
		s.endOf(semi)
	case c == '\'' || c == '"' || c == '`':
		s.token(other)
		s.buf = append(s.buf, c)
		s.lex, s.quote = inQuotes, c
	case c == '[':
		s.token(other)
		s.buf = append(s.buf, c)
		s.lex, s.quote = inQuotes, ']'
	case c == '-':
		s.buf = append(s.buf, c)
		s.lex = afterDash
	case c == '/':
		s.buf = append(s.buf, c)
		s.lex = afterSlash
	case isWord(c):
		s.begin()
		s.buf = append(s.buf, c)
		s.word[0], s.wordN = c|0x20, 1
		s.lex = inWord
	default:
		s.token(other)
		s.buf = append(s.buf, c)
	}
}

// keep adds a byte that is part of no token: only within a statement is it kept.
func (s *Splitter) keep(c byte) {
	if s.inText {
		s.buf = append(s.buf, c)
	}
}

// comment handles the second byte of a comment's opening; buf ends with the first.
func (s *Splitter) comment(c byte) {
	if s.inText {
		s.buf = append(s.buf, c)
	} else {
		s.buf = s.buf[:0]
	}
}

// begin notes the line of a statement's first token.
func (s *Splitter) begin() {
	if !s.inText {
		s.inText, s.began = true, s.line+1
	}
}

func (s *Splitter) token(c class) {
	s.begin()
	s.place = next(s.place, c)
}

func (s *Splitter) endWord() {
	if s.lex != inWord {
		return
	}
	s.lex = between
	c := other
	if s.wordN <= len(s.word) {
		switch string(s.word[:s.wordN]) {
		case "explain":
			c = wordExplain
		case "create":
			c = wordCreate
		case "temp", "temporary":
			c = wordTemp
		case "trigger":
			c = wordTrigger
		case "end":
			c = wordEnd
		}
	}
	s.token(c)
}

// endOf takes a semicolon, which buf already has.
func (s *Splitter) endOf(c class) {
	s.place = next(s.place, c)
	if s.place != atStart {
		return
	}
	if s.inText {
		s.done = append(s.done, Statement{Text: string(s.buf), Line: s.began})
	}
	s.buf, s.inText = s.buf[:0], false
	if cap(s.buf) > 1<<20 {
		s.buf = nil // one great statement should not hold memory for ever
	}
}

// isWord says whether c may be in an unquoted name (SQLite's IdChar).
func isWord(c byte) bool {
	return c >= 0x80 || c == '_' || c == '$' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}
