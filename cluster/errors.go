package cluster

import "fmt"

// RefusedError says that a node was reached and did not take the connection.
type RefusedError struct {
	Node string
	Code Code
	Text string // for people; the other node's words
}

// Error implements error.
func (e *RefusedError) Error() string {
	s := fmt.Sprintf("node %s refused the connection: %s", e.Node, e.Code)
	if e.Text != "" {
		s += ": " + e.Text
	}
	return s
}

// UnreachableError says that there is no connection to a node: its address is unknown, or it can't be dialled, or what
// answered there is not it, or did not answer in time.
type UnreachableError struct {
	Node string
	Err  error
}

// Error implements error.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("node %s is unreachable: %v", e.Node, e.Err)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }
