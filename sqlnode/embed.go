package sqlnode

import (
	"context"
	"errors"
	"net/http"
	"unicode/utf8"

	"github.com/nearsql/nearsql/sqlnode/client"
	"github.com/nearsql/nearsql/sqlnode/engine"
	"github.com/nearsql/nearsql/sqlnode/httpapi"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/native"
)

// Execute runs a request of the process that this node is embedded in: as root, here if this node may answer it, without a
// byte on any network, else on the node that may. It gives the answers to sink as they come and does not touch
// it after it has returned; it holds what req.Stream says about limits. An error is a *wire.Error, with the same codes as
// the HTTP API has, or wraps one; req.Subject is not looked at.
func (n *Node) Execute(ctx context.Context, tenant string, req *wire.Request, sink wire.Sink) (wire.Meta, error) {
	if err := checkRequest(&n.cfg.HTTP, req); err != nil {
		return wire.Meta{}, err
	}
	r := *req
	if r.IdempotencyKey != "" { // of all that a request has, the keys alone belong to somebody
		id, err := n.auth.Check(ctx, n.auth.text)
		if err != nil {
			return wire.Meta{}, err
		}
		r.Subject = id.Subject
	}
	meta, err := sqlService{n}.Execute(ctx, tenant, &r, sink)
	if err == nil {
		return meta, nil
	}
	var away *httpapi.ElsewhereError
	if errors.As(err, &away) || n.net != nil && isCode(err, wire.CodeNotPrimary) && wire.AsError(err).Retryable {
		return n.inside.forward(ctx, n, tenant, &r, sink, err)
	}
	return wire.Meta{}, wire.AsError(err)
}

// Client is a client of this node's API for the process that it is embedded in, as root and without a network in between: for what
// is no SQL, as making tenants and placing their replicas.
func (n *Node) Client() (*client.Client, error) {
	return client.New("http://"+n.id.Node, client.Options{Token: n.auth.text, HTTP: &http.Client{Transport: inProcess{n.handler}}, UserAgent: "nearsql-embedded"})
}

// checkRequest refuses what the HTTP API refuses while it reads a request.
func checkRequest(cfg *httpapi.Config, req *wire.Request) error {
	switch {
	case len(req.Statements) == 0:
		return wire.NewError(wire.CodeEmptyStatement, "the request has no statements")
	case len(req.Statements) > cfg.Statements:
		return wire.NewError(wire.CodeTooManyStatements, "more than %d statements in one request", cfg.Statements)
	case req.ReadOnly && engine.NeedsPrimary(req):
		return wire.NewError(wire.CodeReadOnlyRequest, "the request may only read")
	case req.Timeout < 0 || req.MaxStaleness < 0 && req.MaxStaleness != wire.AnyStaleness:
		return wire.NewError(wire.CodeBadRequest, "a time of the request is negative")
	}
	for i := range req.Statements {
		if err := checkStatement(cfg, &req.Statements[i]); err != nil {
			return wire.AsError(err).At(i + 1)
		}
	}
	return nil
}

func checkStatement(cfg *httpapi.Config, s *wire.Statement) error {
	if !utf8.ValidString(s.SQL) {
		return wire.NewError(wire.CodeInvalidUTF8, "the SQL is not UTF-8")
	}
	if err := native.CheckSQL(s.SQL); err != nil {
		return err
	}
	if len(s.Args) > 0 && len(s.Named) > 0 {
		return wire.NewError(wire.CodeBadArgument, "arguments by position and by name")
	}
	if max(len(s.Args), len(s.Named)) > cfg.Arguments {
		return wire.NewError(wire.CodeArgumentCount, "more than %d arguments", cfg.Arguments)
	}
	for i, v := range s.Args {
		if v.Kind() == wire.KindText && !utf8.ValidString(v.Str()) {
			return wire.NewError(wire.CodeInvalidUTF8, "argument %d is text that is not UTF-8: send it as a blob", i+1)
		}
	}
	for _, a := range s.Named {
		if !utf8.ValidString(a.Name) || a.Value.Kind() == wire.KindText && !utf8.ValidString(a.Value.Str()) {
			return wire.NewError(wire.CodeInvalidUTF8, "argument %.40q is text that is not UTF-8: send it as a blob", a.Name)
		}
	}
	return nil
}
