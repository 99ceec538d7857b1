package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/wire"
)

// roundTrip answers the n-th request, from 1.
type roundTrip func(n int) (*http.Response, error)

type counted struct {
	do roundTrip
	n  int
}

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		if b, err := io.ReadAll(r.Body); err != nil || len(b) == 0 {
			return nil, errors.New("the body was not whole")
		}
	}
	c.n++
	return c.do(c.n)
}

func told(e *wire.Error) *http.Response {
	retry := "false"
	if e.Retryable {
		retry = "true"
	}
	return &http.Response{StatusCode: e.HTTPStatus(), Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(`{"message":"` + e.Message + `","code":"` + string(e.Code) + `","retryable":` + retry + `}`))}
}

func TestPatience(t *testing.T) {
	done := func() *http.Response {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(
			`{"columns":[],"types":[]}` + "\n" + `{"end":{"rows_affected":0,"last_insert_rowid":null}}` + "\n" + lastLine + "\n"))}
	}
	// failing fails so many times as e says, then as then says; nil is an answer.
	failing := func(times int, e, then error) roundTrip {
		return func(n int) (*http.Response, error) {
			err := e
			if n > times {
				err = then
			}
			var w *wire.Error
			switch {
			case err == nil:
				return done(), nil
			case errors.As(err, &w):
				return told(w), nil
			}
			return nil, err
		}
	}
	notPrimary, unknown := wire.NewError(wire.CodeNotPrimary, "no"), wire.NewError(wire.CodeUnknownOutcome, "lost")
	constraint := wire.NewError("SQLITE_CONSTRAINT_UNIQUE", "there is one")
	broken, refused := errors.New("EOF"), &net.OpError{Op: "dial", Err: errors.New("refused")}
	read, keyed, write := wire.Request{ReadOnly: true}, wire.Request{IdempotencyKey: "k"}, wire.Request{}
	const ever = 1000000
	for name, c := range map[string]struct {
		r     wire.Request
		do    roundTrip
		want  wire.Code // "" for an answer
		tries int       // -1 for several
	}{
		"a read":                         {read, failing(3, notPrimary, nil), "", 4},
		"a write with a key":             {keyed, failing(3, notPrimary, nil), "", 4},
		"a write":                        {write, failing(3, notPrimary, nil), wire.CodeNotPrimary, 1},
		"a broken read":                  {read, failing(2, broken, nil), "", 3},
		"a broken write with a key":      {keyed, failing(2, broken, nil), "", 3},
		"a broken write":                 {write, failing(2, broken, nil), "unreachable", 1},
		"no node":                        {read, failing(1, refused, nil), "unreachable", 1},
		"a read, for ever":               {read, failing(ever, notPrimary, nil), wire.CodeNotPrimary, -1},
		"an unknown outcome with a key":  {keyed, failing(1, unknown, nil), "", 2},
		"an unknown outcome":             {write, failing(1, unknown, nil), wire.CodeUnknownOutcome, 1},
		"lost, then not primary":         {keyed, failing(1, broken, notPrimary), wire.CodeUnknownOutcome, -1},
		"lost, then no node":             {keyed, failing(1, unknown, refused), wire.CodeUnknownOutcome, 2},
		"lost, then overloaded":          {keyed, failing(1, unknown, wire.NewError(wire.CodeOverloaded, "no")), wire.CodeUnknownOutcome, 2},
		"lost, then a kept error":        {keyed, failing(1, broken, constraint), constraint.Code, 2},
		"overloaded is for the caller":   {read, failing(1, wire.NewError(wire.CodeOverloaded, "no"), nil), wire.CodeOverloaded, 1},
		"not primary, then a constraint": {keyed, failing(1, notPrimary, constraint), constraint.Code, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			rt := &counted{do: c.do}
			cl, err := New("http://node", Options{HTTP: &http.Client{Transport: rt}, Patience: 10 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			c.r.Statements = []wire.Statement{{SQL: "x"}}
			_, _, err = cl.Exec(t.Context(), "acme", &c.r)
			var w *wire.Error
			var lost *UnreachableError
			switch {
			case c.want == "":
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			case c.want == "unreachable":
				if !errors.As(err, &lost) {
					t.Errorf("%s: got %v", name, err)
				}
			case !errors.As(err, &w) || w.Code != c.want:
				t.Errorf("%s: got %v, want %s", name, err, c.want)
			}
			if c.tries >= 0 && rt.n != c.tries || rt.n > 50 || time.Since(began) > 10*time.Second || c.tries < 0 && time.Since(began) < 8*time.Second {
				t.Errorf("%s: %d tries in %v", name, rt.n, time.Since(began))
			}
		})
	}
	// Without patience there is one try, and a caller who goes away ends it.
	synctest.Test(t, func(t *testing.T) {
		rt := &counted{do: failing(ever, notPrimary, nil)}
		cl, err := New("http://node", Options{HTTP: &http.Client{Transport: rt}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cl.Nodes(t.Context()); !errors.Is(err, &wire.Error{Code: wire.CodeNotPrimary}) || rt.n != 1 {
			t.Errorf("%d tries: %v", rt.n, err)
		}
		cl.patience = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if _, err := cl.Nodes(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
