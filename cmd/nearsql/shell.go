package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/sqlnode/importer/script"
	"github.com/nearsql/nearsql/wire"
)

const (
	// maxStatement bounds one statement, in bytes: the greatest that any tenant may be allowed.
	maxStatement = 16 << 20
	// maxBatch bounds the statements between BEGIN and COMMIT, in bytes.
	maxBatch = 64 << 20
	// maxReadDepth bounds .read within .read.
	maxReadDepth = 16
)

// errQuit ends the shell.
var errQuit = errors.New("quit")

// shell runs statements and dot commands, from a terminal or a script.
type shell struct {
	node        *client.Client
	out, errOut io.Writer
	tenant      string
	mode        mode
	headers     bool
	timer       bool
	bail        bool // stop a script at its first error
	interactive bool
	request     wire.Request // how requests are to be served; its bookmark is the session's
	depth       int          // of .read
	quitting    bool         // .quit was said
	batch       *batch       // since BEGIN; nil outside
	interrupts  <-chan os.Signal
}

// batch is what was said since BEGIN.
type batch struct {
	line       int // of BEGIN
	statements []wire.Statement
	size       int // bytes
}

func newShell(node *client.Client, out, errOut io.Writer) *shell {
	return &shell{node: node, out: out, errOut: errOut, mode: modeTable, headers: true, bail: true}
}

// input is a source of lines: a script, or the terminal.
type input struct {
	name  string // of the file; "" for standard input
	split script.Splitter
	line  int // of the newest line
}

// script runs what r has, and gives the first error.
func (sh *shell) script(ctx context.Context, name string, r io.Reader) error {
	in := &input{name: name}
	lines := bufio.NewReaderSize(r, 64<<10)
	var first error
	failed := func(err error) bool {
		if first == nil {
			first = err
		}
		return sh.bail || ctx.Err() != nil
	}
	batch := sh.batch // of the script that reads this one
	for {
		line, err := readScriptLine(lines)
		if err != nil && err != io.EOF {
			return fmt.Errorf("%s: %w", in.where(in.line+1), err)
		}
		if line != "" {
			if err := sh.line(ctx, in, line); err != nil && !errors.Is(err, errQuit) && failed(sh.show(err)) {
				return first
			}
			if sh.quitting {
				return first
			}
		}
		if err == io.EOF {
			break
		}
	}
	if st, ok, whole := in.split.Rest(); ok || !whole {
		err := fmt.Errorf("%s: the input ends within this statement", in.where(max(st.Line, 1)))
		if whole {
			err = sh.statement(ctx, in, st)
		}
		if err != nil && failed(sh.show(err)) {
			return first
		}
	}
	if sh.batch != nil && sh.batch != batch {
		err := fmt.Errorf("%s: BEGIN without COMMIT: nothing of it was run", in.where(sh.batch.line))
		sh.batch = nil
		failed(sh.show(err))
	}
	return first
}

// readScriptLine gives a line with its end; at the end of the input what is left, and io.EOF.
func readScriptLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return string(line), err
		}
		if len(line) > maxStatement {
			return "", fmt.Errorf("a line is longer than %d bytes", maxStatement)
		}
	}
}

// where names a line of the input.
func (in *input) where(line int) string {
	if in.name == "" {
		return fmt.Sprintf("line %d", line)
	}
	return fmt.Sprintf("%s, line %d", in.name, line)
}

// show prints an error once and marks it as printed.
func (sh *shell) show(err error) error {
	var shown *shownError
	if errors.As(err, &shown) {
		return err
	}
	fmt.Fprintf(sh.errOut, "error: %s\n", errorText(err))
	return &shownError{err}
}

// line takes one line: a dot command, or some of a statement.
func (sh *shell) line(ctx context.Context, in *input, line string) error {
	in.line++
	if !in.split.Pending() && strings.HasPrefix(strings.TrimSpace(line), ".") {
		in.split.Feed([]byte("\n")) // it counts lines
		err := sh.dot(ctx, strings.TrimSpace(line))
		if err != nil && !errors.Is(err, errQuit) && !sh.interactive {
			return sh.showAt(in.where(in.line), err)
		}
		return err
	}
	in.split.Feed([]byte(line))
	if in.split.PendingSize() > maxStatement {
		in.split.Drop()
		return fmt.Errorf("%s: the statement is longer than %d bytes", in.where(in.line), maxStatement)
	}
	var first error
	for {
		st, ok := in.split.Next()
		if !ok {
			return first
		}
		if err := sh.statement(ctx, in, st); err != nil {
			err = sh.show(err)
			if first == nil {
				first = err
			}
			if sh.bail || ctx.Err() != nil {
				return first
			}
		}
	}
}

// showAt prints an error with its place.
func (sh *shell) showAt(where string, err error) error {
	var shown *shownError
	if errors.As(err, &shown) {
		return err
	}
	fmt.Fprintf(sh.errOut, "error: %s: %s\n", where, errorText(err))
	return &shownError{err}
}

// kind is what a statement means to the shell.
type kind uint8

const (
	plain kind = iota
	begins
	commits
	rollsBack
	savepoint // and its like
)

// kindOf looks at a statement's first words.
func kindOf(sql string) kind {
	words := firstWords(sql, 4)
	at := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	switch at(0) {
	case "BEGIN":
		return begins
	case "COMMIT", "END":
		return commits
	case "ROLLBACK":
		if at(1) == "TO" || at(1) == "TRANSACTION" && at(2) == "TO" {
			return savepoint
		}
		return rollsBack
	case "SAVEPOINT", "RELEASE":
		return savepoint
	}
	return plain
}

// firstWords gives up to n words from the beginning of a statement, in upper
// case, past comments and white space; anything else ends them.
func firstWords(sql string, n int) []string {
	var words []string
	for i := 0; i < len(sql) && len(words) < n; {
		switch c := sql[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f':
			i++
		case strings.HasPrefix(sql[i:], "--"):
			end := strings.IndexByte(sql[i:], '\n')
			if end < 0 {
				return words
			}
			i += end + 1
		case strings.HasPrefix(sql[i:], "/*"):
			end := strings.Index(sql[i+2:], "*/")
			if end < 0 {
				return words
			}
			i += end + 4
		case c|0x20 >= 'a' && c|0x20 <= 'z':
			start := i
			for i < len(sql) && (sql[i]|0x20 >= 'a' && sql[i]|0x20 <= 'z' || sql[i] == '_' || sql[i] >= '0' && sql[i] <= '9') {
				i++
			}
			words = append(words, strings.ToUpper(sql[start:i]))
		default:
			return words
		}
	}
	return words
}

// statement runs one statement, or keeps it for COMMIT.
func (sh *shell) statement(ctx context.Context, in *input, st script.Statement) error {
	err := sh.step(ctx, in, st)
	if err != nil && !sh.interactive {
		return sh.showAt(in.where(st.Line), err)
	}
	return err
}

func (sh *shell) step(ctx context.Context, in *input, st script.Statement) error {
	switch k := kindOf(st.Text); {
	case k == begins && sh.batch != nil:
		return fmt.Errorf("BEGIN within BEGIN (%s)", in.where(sh.batch.line))
	case k == begins:
		sh.batch = &batch{line: st.Line}
		if sh.interactive {
			fmt.Fprintln(sh.out, "Collecting: the statements run at COMMIT, as one atomic batch; ROLLBACK forgets them.")
		}
		return nil
	case k == commits && sh.batch == nil:
		return errors.New("COMMIT without BEGIN")
	case k == commits:
		b := sh.batch
		sh.batch = nil
		if len(b.statements) == 0 {
			return nil
		}
		return sh.run(ctx, b.statements, true)
	case k == rollsBack && sh.batch == nil:
		return errors.New("ROLLBACK without BEGIN")
	case k == rollsBack:
		sh.batch = nil
		return nil
	case k == savepoint:
		return errors.New("savepoints have no meaning here: each statement, or BEGIN … COMMIT, is one request and happens all or not at all")
	case sh.batch != nil:
		if sh.batch.size += len(st.Text); sh.batch.size > maxBatch {
			sh.batch = nil
			return fmt.Errorf("the statements since BEGIN are longer than %d bytes; they were forgotten", maxBatch)
		}
		sh.batch.statements = append(sh.batch.statements, wire.Statement{SQL: st.Text})
		return nil
	}
	return sh.run(ctx, []wire.Statement{{SQL: st.Text}}, false)
}

// errNoTenant says that the shell knows no tenant to ask.
var errNoTenant = &usageError{"no tenant is chosen: .tenant NAME chooses one"}

// run sends one request and prints its answer.
func (sh *shell) run(ctx context.Context, statements []wire.Statement, asBatch bool) error {
	if sh.tenant == "" {
		return errNoTenant
	}
	ctx, stop := sh.cancellable(ctx)
	defer stop()
	r := sh.request
	r.Statements, r.Batch = statements, asBatch
	begin := time.Now()
	a, err := sh.node.Do(ctx, sh.tenant, &r)
	if err != nil {
		return sh.failed(err)
	}
	defer a.Close()
	var last statement
	out := bufio.NewWriter(sh.out)
	foot := footer(sh.mode, out)
	err = printAnswer(a, newPrinter(sh.mode, out, sh.headers), func(st statement) error {
		last = st
		if sh.timer && len(statements) == 1 {
			return nil // the line below says it
		}
		return foot(st)
	})
	if ferr := out.Flush(); err == nil {
		err = ferr
	}
	if err != nil {
		return sh.failed(err)
	}
	meta := a.Meta()
	if meta.Bookmark != "" {
		sh.request.Bookmark = meta.Bookmark
	}
	if sh.timer {
		what := last.String()
		if len(statements) > 1 {
			what = count(int64(len(statements)), "statement")
		}
		fmt.Fprintf(sh.out, "(%s; %s)\n", what, served(meta, time.Since(begin)))
	}
	return nil
}

// failed looks after the session when a request failed.
func (sh *shell) failed(err error) error {
	var we *wire.Error
	if errors.As(err, &we) && (we.Code == wire.CodeBookmarkLost || we.Code == wire.CodeBadBookmark) {
		sh.request.Bookmark = ""
	}
	if sh.interactive && errors.Is(err, context.Canceled) {
		return errors.New("cancelled")
	}
	return err
}

// cancellable gives a context that Ctrl-C ends.
func (sh *shell) cancellable(ctx context.Context) (context.Context, func()) {
	if sh.interrupts == nil {
		return ctx, func() {}
	}
	select { // one that came before is not for this request
	case <-sh.interrupts:
	default:
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-sh.interrupts:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel()
		<-done
	}
}

// served says how long an answer took and where it came from.
func served(m wire.Meta, total time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s of it in the node", short(total), short(m.Duration))
	if m.Consistency != wire.ConsistencyDefault {
		fmt.Fprintf(&b, "; %s", consistencyName(m.Consistency))
	}
	if m.Consistency == wire.Weak {
		fmt.Fprintf(&b, ", at most %s old", short(m.Staleness))
	}
	if m.Tables && m.TablesStaleness != wire.AnyStaleness {
		fmt.Fprintf(&b, ", conflict-free tables at most %s", short(m.TablesStaleness))
	}
	if m.Node != "" {
		fmt.Fprintf(&b, "; from %s", printable(m.Node))
		if m.PoP != "" {
			fmt.Fprintf(&b, " in %s", printable(m.PoP))
		}
		if m.Role != "" {
			fmt.Fprintf(&b, " (%s)", printable(m.Role))
		}
	}
	return b.String()
}

// short is a duration with three digits or so.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
