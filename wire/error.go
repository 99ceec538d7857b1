package wire

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"time"
)

// Error is a failure that a client is told of.
type Error struct {
	Code      Code
	Message   string // for a person; says what was wrong with what
	Statement int    // the statement of the request that failed, from 1; 0 for none
	// Retryable: the same request may be sent again, as it surely had no effect.
	Retryable  bool
	RetryAfter time.Duration // when to send it again; 0 leaves it to the client
	cause      error
}

// NewError returns an error whose message is formatted as by fmt.Errorf; what %w
// names is its cause. Retryable is as the table of codes has it.
func NewError(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	e := &Error{Code: code, Message: err.Error(), Retryable: code.Retryable()}
	if _, ok := err.(interface{ Unwrap() error }); ok {
		e.cause = errors.Unwrap(err)
	} else if _, ok := err.(interface{ Unwrap() []error }); ok {
		e.cause = err
	}
	return e
}

// Error returns code and message.
func (e *Error) Error() string {
	if e.Statement > 0 {
		return fmt.Sprintf("%s: statement %d: %s", e.Code, e.Statement, e.Message)
	}
	return string(e.Code) + ": " + e.Message
}

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.cause }

// HTTPStatus is the status of the answer that tells of e.
func (e *Error) HTTPStatus() int { return e.Code.HTTPStatus() }

// At returns a copy of e that is about statement n, counted from 1.
func (e *Error) At(n int) *Error {
	c := *e
	c.Statement = n
	return &c
}

// AsError returns the *Error that err is or wraps. The end of a context is TIMEOUT or
// CANCELLED; anything else is INTERNAL, whose message keeps the cause from clients: log it.
// AsError of nil is nil.
func AsError(err error) *Error {
	var e *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: CodeTimeout, Message: "the request took longer than it may", cause: err}
	case errors.Is(err, context.Canceled):
		return &Error{Code: CodeCancelled, Message: "the client went away", cause: err}
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return &Error{Code: CodeOverloaded, Message: "the node has no file descriptors left", cause: err}
	}
	return &Error{Code: CodeInternal, Message: "internal error", cause: err}
}

// Is makes errors.Is(err, &Error{Code: c}) ask for a code alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && *t == Error{Code: e.Code}
}

// HTTPStatus returns the HTTP status for c, 500 for one that is not in the table.
func (c Code) HTTPStatus() int {
	if info, ok := codes[c]; ok {
		return info.status
	}
	return http.StatusInternalServerError
}

// Retryable says whether a request that failed with c may be sent again as it is.
func (c Code) Retryable() bool { return codes[c].retryable }

// Meaning is a sentence about c for the documentation, "" for one that is not in the table.
func (c Code) Meaning() string { return codes[c].meaning }

// Known says whether c is in the table.
func (c Code) Known() bool { _, ok := codes[c]; return ok }
