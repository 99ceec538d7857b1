package engine

import "strings"

// class is where a statement runs. It is read off the first words of the
// text; a mistake is no harm, since readers cannot write and the authorizer decides
// what is allowed.
type class uint8

const (
	classEmpty   class = iota // blanks and comments only
	classRead                 // SELECT, VALUES, EXPLAIN, PRAGMAs that only read
	classCheck                // PRAGMA integrity_check: a read, on a new connection
	classWrite                // INSERT, UPDATE, DELETE, REPLACE: may share a transaction with others
	classAlone                // DDL and the like: a transaction without others
	classSession              // a PRAGMA that sets a switch of the connection
	classVacuum               // outside of any transaction
	classControl              // BEGIN, COMMIT, …
	classRefused              // ATTACH, DETACH, VACUUM INTO
)

// token is a piece of SQL: a word, or one other character.
type token struct {
	text       string // as written; a quoted name with its quotes
	start, end int
}

func (t token) is(word string) bool { return strings.EqualFold(t.text, word) }

// next returns the token of sql at or after i; ok is false at the end.
func next(sql string, i int) (t token, ok bool) {
	for i < len(sql) {
		c := sql[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f':
			i++
		case c == bom[0] && strings.HasPrefix(sql[i:], bom):
			i += len(bom)
		case c == '-' && i+1 < len(sql) && sql[i+1] == '-':
			n := strings.IndexByte(sql[i:], '\n')
			if n < 0 {
				return token{}, false
			}
			i += n + 1
		case c == '/' && i+1 < len(sql) && sql[i+1] == '*':
			n := strings.Index(sql[i+2:], "*/")
			if n < 0 {
				return token{}, false
			}
			i += n + 4
		case c == '\'' || c == '"' || c == '`':
			j := i + 1
			for j < len(sql) {
				if sql[j] == c {
					if j+1 < len(sql) && sql[j+1] == c {
						j += 2
						continue
					}
					break
				}
				j++
			}
			j = min(j+1, len(sql))
			return token{sql[i:j], i, j}, true
		case c == '[':
			j := strings.IndexByte(sql[i:], ']')
			if j < 0 {
				j = len(sql) - i - 1
			}
			return token{sql[i : i+j+1], i, i + j + 1}, true
		case isWord(c):
			j := i + 1
			for j < len(sql) && (isWord(sql[j]) || sql[j] == '$') {
				j++
			}
			return token{sql[i:j], i, j}, true
		default:
			return token{sql[i : i+1], i, i + 1}, true
		}
	}
	return token{}, false
}

// bom is a byte order mark, which SQLite takes for a blank between two words.
const bom = "\uFEFF"

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// blank says whether sql holds no statement: blanks, comments and semicolons.
func blank(sql string) bool {
	for i := 0; ; {
		t, ok := next(sql, i)
		if !ok {
			return true
		}
		if t.text != ";" {
			return false
		}
		i = t.end
	}
}

// classify reads where the statement runs off its first words.
func classify(sql string) class {
	t, ok := first(sql)
	if !ok {
		return classEmpty
	}
	var buf [longestVerb]byte
	switch string(upper(&buf, t.text)) { // without an allocation: each request comes by
	case "SELECT", "VALUES", "EXPLAIN":
		return classRead
	case "INSERT", "UPDATE", "DELETE", "REPLACE":
		return classWrite
	case "WITH":
		return classifyWith(sql, t.end)
	case "PRAGMA":
		return classifyPragma(sql, t.end)
	case "VACUUM":
		for t, ok = next(sql, t.end); ok; t, ok = next(sql, t.end) {
			if t.is("INTO") {
				return classRefused
			}
		}
		return classVacuum
	case "BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE":
		return classControl
	case "ATTACH", "DETACH":
		return classRefused
	case "CREATE", "DROP", "ALTER", "REINDEX", "ANALYZE":
		return classAlone
	}
	return classRead // a syntax error: SQLite says so better than we could
}

// first returns the first word of the statement in sql.
func first(sql string) (t token, ok bool) {
	t, ok = next(sql, 0)
	for ok && t.text == ";" {
		t, ok = next(sql, t.end)
	}
	return t, ok
}

// longestVerb is the length of the longest word that upper is asked for.
const longestVerb = len("SAVEPOINT")

// upper returns word in upper case, or nothing when it is longer than any that classify knows.
func upper(buf *[longestVerb]byte, word string) []byte {
	if len(word) > len(buf) {
		return nil
	}
	for i := range len(word) {
		c := word[i]
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		buf[i] = c
	}
	return buf[:len(word)]
}

// classifyWith finds the statement behind the common table expressions: the
// first of its words outside of parentheses. REPLACE may also be the name of an
// expression; it begins a statement only before INTO.
func classifyWith(sql string, i int) class {
	depth := 0
	for {
		t, ok := next(sql, i)
		if !ok {
			return classRead
		}
		i = t.end
		switch {
		case t.text == "(":
			depth++
		case t.text == ")":
			depth--
		case depth > 0:
		case t.is("SELECT"), t.is("VALUES"):
			return classRead
		case t.is("INSERT"), t.is("UPDATE"), t.is("DELETE"):
			return classWrite
		case t.is("REPLACE"):
			if into, ok := next(sql, i); ok && into.is("INTO") {
				return classWrite
			}
		}
	}
}

// pragma is what is allowed of one PRAGMA.
type pragma struct {
	read    bool // without an argument, or with one that only names what to look at
	set     bool // with an argument that sets something in the database
	session bool // with an argument that sets a switch of the connection, for the request
}

// pragmaRules is the allow-list; never written.
var pragmaRules = map[string]pragma{
	"table_info": {read: true}, "table_xinfo": {read: true}, "table_list": {read: true},
	"index_list": {read: true}, "index_info": {read: true}, "index_xinfo": {read: true},
	"foreign_key_list": {read: true}, "foreign_key_check": {read: true},
	"integrity_check": {read: true}, "quick_check": {read: true},
	"collation_list": {read: true}, "function_list": {read: true}, "module_list": {read: true},
	"pragma_list": {read: true}, "compile_options": {read: true},
	"page_count": {read: true}, "page_size": {read: true}, "freelist_count": {read: true},
	"encoding": {read: true}, "schema_version": {read: true}, "data_version": {read: true},
	"user_version": {read: true, set: true}, "application_id": {read: true, set: true},
	"auto_vacuum": {read: true, set: true}, "incremental_vacuum": {set: true}, "optimize": {set: true},
	"foreign_keys": {read: true, session: true}, "defer_foreign_keys": {read: true, session: true},
	"recursive_triggers": {read: true, session: true}, "case_sensitive_like": {session: true},
	"ignore_check_constraints": {read: true}, "query_only": {read: true},
}

// looksOnly are the PRAGMAs whose argument names what to look at.
var looksOnly = map[string]bool{
	"table_info": true, "table_xinfo": true, "table_list": true, "index_list": true, "index_info": true,
	"index_xinfo": true, "foreign_key_list": true, "foreign_key_check": true, "integrity_check": true, "quick_check": true,
}

// classifyPragma reads `PRAGMA [schema.]name [= value | (value)]`. A PRAGMA
// outside the list is left to the authorizer, which refuses it by name.
func classifyPragma(sql string, i int) class {
	name, ok := next(sql, i)
	if !ok {
		return classRead
	}
	t, ok := next(sql, name.end)
	if ok && t.text == "." {
		if name, ok = next(sql, t.end); !ok {
			return classRead
		}
		t, ok = next(sql, name.end)
	}
	n := strings.ToLower(strings.Trim(name.text, "\"`[]'"))
	rule := pragmaRules[n]
	hasValue := ok && (t.text == "=" || t.text == "(")
	switch {
	case n == "integrity_check" || n == "quick_check":
		return classCheck
	case looksOnly[n]:
		return classRead
	case n == "incremental_vacuum" || n == "optimize":
		return classAlone
	case hasValue && rule.session:
		return classSession
	case hasValue && rule.set:
		return classAlone
	}
	return classRead
}

// verb is the first word of sql in upper case, for messages.
func verb(sql string) string {
	t, _ := first(sql)
	return strings.ToUpper(t.text)
}

// renamesToInternal says whether sql is an ALTER TABLE that gives something a
// name that is nearsql's. The authorizer is told the old name only.
func renamesToInternal(sql string) (name string, yes bool) {
	t, ok := first(sql)
	for ok && (t.is("EXPLAIN") || t.is("QUERY") || t.is("PLAN")) {
		t, ok = next(sql, t.end)
	}
	if !ok || !t.is("ALTER") {
		return "", false
	}
	for after := false; ok; t, ok = next(sql, t.end) {
		if name := unquote(t.text); after && isInternal(name) {
			return name, true
		}
		after = t.is("TO")
	}
	return "", false
}

// unquote returns the name that a token stands for.
func unquote(s string) string {
	if len(s) < 2 {
		return s
	}
	switch q := s[:1]; q {
	case "'", `"`, "`":
		return strings.ReplaceAll(strings.TrimSuffix(s[1:], q), q+q, q)
	case "[":
		return strings.TrimSuffix(s[1:], "]")
	}
	return s
}
