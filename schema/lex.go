package schema

import (
	"fmt"
	"strings"
)

// TokenKind is the class of a Token.
type TokenKind uint8

// The classes of tokens.
const (
	Word   TokenKind = iota // a keyword or a bare name
	Quoted                  // a name in "…", `…` or […]
	String                  // a text in '…'; as SQLite has it, also a name where only a name can stand
	Number                  // an integer or float, in any notation
	Param                   // ?, ?1, :a, @a, $a
	Blob                    // x'…'
	Symbol                  // one other character
)

// Token is a piece of SQL. Blanks and comments are none.
type Token struct {
	Kind       TokenKind
	Text       string // what it stands for: names and texts without their quotes
	Start, End int    // bytes of the statement
}

// Is says whether t is a bare word, whatever its case.
func (t Token) Is(word string) bool { return t.Kind == Word && strings.EqualFold(t.Text, word) }

// IsSymbol says whether t is the character s.
func (t Token) IsSymbol(s string) bool { return t.Kind == Symbol && t.Text == s }

// IsName says whether t can be the name of a column in an expression.
func (t Token) IsName() bool { return t.Kind == Word || t.Kind == Quoted }

// SyntaxError is a statement that can't be read.
type SyntaxError struct {
	Offset int    // byte of the statement
	Reason string // what was expected, or is wrong
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("at byte %d: %s", e.Offset, e.Reason) }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// isWord says whether c may stand in a bare name (SQLite's IdChar).
func isWord(c byte) bool {
	return c == '_' || c == '$' || isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' }

// Lex cuts a statement in tokens, as SQLite does (tokenize.c). A text or name
// that doesn't end is a *SyntaxError; a comment may end with the statement.
func Lex(sql string) ([]Token, error) {
	var ts []Token
	for i := 0; i < len(sql); {
		c := sql[i]
		next := byte(0)
		if i+1 < len(sql) {
			next = sql[i+1]
		}
		switch {
		case isBlank(c):
			i++
		case strings.HasPrefix(sql[i:], "\uFEFF"):
			i += len("\uFEFF")
		case c == '-' && next == '-':
			n := strings.IndexByte(sql[i:], '\n')
			if n < 0 {
				return ts, nil
			}
			i += n + 1
		case c == '/' && next == '*':
			n := strings.Index(sql[i+2:], "*/")
			if n < 0 {
				return ts, nil
			}
			i += n + 4
		case c == '\'' || c == '"' || c == '`' || c == '[':
			t, err := lexQuoted(sql, i, c)
			if err != nil {
				return nil, err
			}
			ts, i = append(ts, t), t.End
		case (c == 'x' || c == 'X') && next == '\'':
			n := strings.IndexByte(sql[i+2:], '\'')
			if n < 0 {
				return nil, &SyntaxError{i, "a blob that doesn't end"}
			}
			end := i + n + 3
			ts, i = append(ts, Token{Blob, sql[i:end], i, end}), end
		case isDigit(c) || c == '.' && isDigit(next):
			end := lexNumber(sql, i)
			ts, i = append(ts, Token{Number, sql[i:end], i, end}), end
		case c == '?' || (c == ':' || c == '@' || c == '$' || c == '#') && isWord(next):
			end := i + 1
			for end < len(sql) && (isWord(sql[end]) || sql[end] == ':' && c != '?') {
				end++
			}
			ts, i = append(ts, Token{Param, sql[i:end], i, end}), end
		case isWord(c):
			end := i
			for end < len(sql) && isWord(sql[end]) {
				end++
			}
			ts, i = append(ts, Token{Word, sql[i:end], i, end}), end
		default:
			ts, i = append(ts, Token{Symbol, sql[i : i+1], i, i + 1}), i+1
		}
	}
	return ts, nil
}

func lexQuoted(sql string, i int, open byte) (Token, error) {
	kind, shut := Quoted, open
	switch open {
	case '\'':
		kind = String
	case '[':
		shut = ']'
	}
	var b strings.Builder
	for j := i + 1; j < len(sql); j++ {
		if sql[j] != shut {
			b.WriteByte(sql[j])
			continue
		}
		if shut != ']' && j+1 < len(sql) && sql[j+1] == shut {
			b.WriteByte(shut)
			j++
			continue
		}
		return Token{kind, b.String(), i, j + 1}, nil
	}
	return Token{}, &SyntaxError{i, "a name or text that doesn't end"}
}

// lexNumber returns the end of the number at i: SQLite takes whatever word
// characters follow for a part of it, and refuses them itself.
func lexNumber(sql string, i int) int {
	for i < len(sql) {
		c := sql[i]
		switch {
		case isWord(c) || c == '.':
			i++
		case (c == '+' || c == '-') && (sql[i-1] == 'e' || sql[i-1] == 'E') && i+1 < len(sql) && isDigit(sql[i+1]):
			i++
		default:
			return i
		}
	}
	return i
}
