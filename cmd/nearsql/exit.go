package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/wire"
)

// The exit codes, as in docs/cli.md.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3 // no such tenant, node or group
	exitRefused     = 4 // no token, a wrong one, or one without the right
	exitUnreachable = 5 // no node answers
	exitTryAgain    = 6 // the node says that the same request may work later
	exitInterrupted = 130
)

// usageError says that the command line, or the config file, is wrong.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// shownError is an error that the shell has printed already.
type shownError struct{ err error }

func (e *shownError) Error() string { return e.err.Error() }
func (e *shownError) Unwrap() error { return e.err }

// exitCode says how the process ends.
func exitCode(err error) int {
	var usage *usageError
	var unreachable *client.UnreachableError
	var we *wire.Error
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &unreachable):
		return exitUnreachable
	case errors.As(err, &we):
		switch status := we.HTTPStatus(); {
		case slices.Contains([]wire.Code{wire.CodeNoSuchTenant, wire.CodeTenantDeleted, wire.CodeNoSuchNode, wire.CodeNoSuchGroup}, we.Code):
			return exitNotFound
		case status == http.StatusUnauthorized || status == http.StatusForbidden:
			return exitRefused
		case we.Retryable:
			return exitTryAgain
		}
	}
	return exitFailed
}

// report prints an error, with what helps.
func report(s stdio, app *cli.App, err error) {
	var shown *shownError
	if errors.As(err, &shown) {
		return
	}
	fmt.Fprintf(s.err, "nearsql: %s\n", errorText(err))
	var usage *usageError
	var unreachable *client.UnreachableError
	var we *wire.Error
	switch {
	case errors.As(err, &usage):
		fmt.Fprintf(s.err, "Try %q.\n", "nearsql --help")
	case errors.As(err, &unreachable):
		fmt.Fprintf(s.err, "Is a node running (nearsql serve)? --url and --data-dir say where to look for it.\n")
	case errors.As(err, &we) && we.Code == wire.CodeUnauthenticated:
		fmt.Fprintf(s.err, "Give a token by --token or NEARSQL_TOKEN, or the node's data directory by --data-dir.\n")
	}
}

// errorText is an error for people: its code comes last.
func errorText(err error) string {
	var we *wire.Error
	if !errors.As(err, &we) {
		return printable(err.Error())
	}
	text := we.Message
	if we.Statement > 0 {
		text = fmt.Sprintf("statement %d: %s", we.Statement, text)
	}
	return printable(fmt.Sprintf("%s (%s)", text, we.Code))
}
