package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"testing"
)

func TestCodes(t *testing.T) {
	name := regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$`)
	list := Codes()
	if len(list) < 150 {
		t.Errorf("only %d codes", len(list))
	}
	for _, c := range list {
		switch {
		case !name.MatchString(string(c.Code)):
			t.Errorf("%s: not a name", c.Code)
		case c.HTTPStatus < 400 || c.HTTPStatus > 599:
			t.Errorf("%s: status %d", c.Code, c.HTTPStatus)
		case c.Retryable && c.HTTPStatus != http.StatusServiceUnavailable && c.HTTPStatus != http.StatusTooManyRequests:
			t.Errorf("%s: retryable with status %d", c.Code, c.HTTPStatus)
		case len(c.Meaning) < 10 || c.Meaning[len(c.Meaning)-1] != '.':
			t.Errorf("%s: no sentence: %q", c.Code, c.Meaning)
		case !c.Code.Known():
			t.Errorf("%s: not known", c.Code)
		}
	}
	// The outcome of these is not known, or they did happen: a client may not just repeat them.
	for _, c := range []Code{CodeUnknownOutcome, CodeTimeout, CodeCancelled, CodeInternal, CodeSQLiteIOErr} {
		if c.Retryable() {
			t.Errorf("%s is retryable", c)
		}
	}
	if Code("NONE").HTTPStatus() != 500 || Code("NONE").Known() {
		t.Error("an unknown code is known")
	}
}

func TestCodeForSQLite(t *testing.T) {
	for extended, want := range map[int]Code{
		1: "SQLITE_ERROR", 5: "SQLITE_BUSY", 517: "SQLITE_BUSY_SNAPSHOT", 2067: "SQLITE_CONSTRAINT_UNIQUE",
		19 | 99<<8: "SQLITE_CONSTRAINT", 26: "SQLITE_NOTADB", 6922: "SQLITE_IOERR_VNODE", 200: "SQLITE_INTERNAL", 0: "SQLITE_INTERNAL", -1: "SQLITE_INTERNAL",
	} {
		if got := CodeForSQLite(extended); got != want {
			t.Errorf("%d: got %s, want %s", extended, got, want)
		}
	}
	for extended, c := range sqliteCodes {
		primary := sqliteCodes[extended&0xff]
		if !c.Known() || len(c) < len(primary) || c[:len(primary)] != primary {
			t.Errorf("%d: %s is no %s", extended, c, primary)
		}
	}
}

func TestError(t *testing.T) {
	e := NewError(CodeNotPrimary, "tenant %q: %w", "a", io.ErrUnexpectedEOF)
	if e.Message != `tenant "a": unexpected EOF` || !e.Retryable || !errors.Is(e, io.ErrUnexpectedEOF) {
		t.Errorf("got %+v", e)
	}
	if e.HTTPStatus() != 503 {
		t.Errorf("status %d", e.HTTPStatus())
	}
	if two := NewError(CodeStale, "%w and %w", io.EOF, io.ErrNoProgress); !errors.Is(two, io.EOF) || !errors.Is(two, io.ErrNoProgress) {
		t.Error("two causes are lost")
	}
	wrapped := fmt.Errorf("outer: %w", e)
	if AsError(wrapped) != e {
		t.Error("a wrapped error is not found")
	}
	if !errors.Is(wrapped, &Error{Code: CodeNotPrimary}) || errors.Is(wrapped, &Error{Code: CodeStale}) {
		t.Error("errors.Is by code")
	}
	if at := e.At(2); at.Statement != 2 || e.Statement != 0 || at.Error() != `NOT_PRIMARY: statement 2: tenant "a": unexpected EOF` {
		t.Errorf("At: %v", at)
	}
	for err, want := range map[error]Code{
		context.DeadlineExceeded: CodeTimeout,
		context.Canceled:         CodeCancelled,
		io.EOF:                   CodeInternal,
	} {
		got := AsError(fmt.Errorf("x: %w", err))
		if got.Code != want || !errors.Is(got, err) || got.Retryable {
			t.Errorf("%v: %+v", err, got)
		}
	}
	if AsError(nil) != nil {
		t.Error("nil is an error")
	}
}
