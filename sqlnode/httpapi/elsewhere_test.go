package httpapi

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/wire"
)

func TestOneHop(t *testing.T) {
	run(t, func(t *testing.T) {
		m := newMesh(t, nil, "n1", "n2", "n3")
		m.nodes["n2"].sendsTo("n3")
		var asked atomic.Int32
		m.nodes["n1"].sql.do = func(context.Context, *wire.Request, wire.Sink) (wire.Meta, error) {
			if asked.Add(1) == 1 {
				return wire.Meta{}, &ElsewhereError{Node: "n2"}
			}
			if m.dials("n3") > 0 {
				t.Error("n2 asked n3")
			}
			return wire.Meta{}, &ElsewhereError{Node: "n3"}
		}
		a, err := m.ask(t.Context(), "n2", "POST", acmeSQL, strings.NewReader(selectOne), headerSubject+": root", headerRights+`: {"admin":true}`, headerHops+": 1")
		if err != nil || code(t, a) != wire.CodeNotPrimary || a.status != 503 || a.header.Get("Nearsql-Primary") != "n3" || a.header.Get("Nearsql-Applied") != "no" {
			t.Errorf("got %+v, %v", a, err)
		}
		if a := m.do("n1", "POST", acmeSQL, selectOne); a.status != 200 || m.dials("n3") != 1 {
			t.Errorf("got %+v after %d", a, m.dials("n3"))
		}
		// A node on its own says so at once.
		alone := newFixture(t, nil)
		alone.sql.do = m.nodes["n2"].sql.do
		if a := alone.do("POST", acmeSQL, selectOne); code(t, a) != wire.CodeNotPrimary || a.header.Get("Nearsql-Primary") != "n3" {
			t.Errorf("got %+v", a)
		}
	})
}

func TestTriesAgainUntilANodeAnswers(t *testing.T) {
	refused := errors.New("connection refused")
	for name, c := range map[string]struct {
		query   string
		until   time.Duration // when n2 answers
		fails   string        // how it fails until then
		want    wire.Code
		elapsed time.Duration // at most
	}{
		"unreachable for a while":     {"", 3 * time.Second, "dial", "", 3500 * time.Millisecond},
		"unreachable":                 {"", time.Hour, "dial", wire.CodeNotPrimary, 10 * time.Second},
		"not primary for a while":     {"", 3 * time.Second, "not primary", "", 3500 * time.Millisecond},
		"not primary":                 {"", time.Hour, "not primary", wire.CodeNotPrimary, 10 * time.Second},
		"stopping for a while":        {"", time.Second, "stopping", "", 1500 * time.Millisecond},
		"this node knows no primary":  {"", 2 * time.Second, "here", "", 2500 * time.Millisecond},
		"nobody is named":             {"", 2 * time.Second, "nobody", "", 2500 * time.Millisecond},
		"a timeout of its own":        {"?timeout=2s", time.Hour, "dial", wire.CodeNotPrimary, 2 * time.Second},
		"overloaded is not for here":  {"", time.Hour, "overloaded", wire.CodeOverloaded, 0},
		"some error is not for here":  {"", time.Hour, "full", wire.CodeTenantFull, 0},
		"in the end this node can do": {"", 2 * time.Second, "then here", "", 2500 * time.Millisecond},
	} {
		run(t, func(t *testing.T) {
			m := newMesh(t, nil, "n1", "n2")
			n1, n2 := m.nodes["n1"], m.nodes["n2"]
			n1.sendsTo("n2")
			began := time.Now()
			now := func() bool { return time.Since(began) >= c.until }
			away := n1.sql.do
			n1.sql.do = func(ctx context.Context, r *wire.Request, s wire.Sink) (wire.Meta, error) {
				switch {
				case now() && c.fails == "then here":
					return rows(1)(ctx, r, s)
				case !now() && c.fails == "here":
					return wire.Meta{}, wire.NewError(wire.CodeNotPrimary, "no primary is known")
				case !now() && c.fails == "nobody":
					return wire.Meta{}, &ElsewhereError{}
				}
				return away(ctx, r, s)
			}
			n2.sql.do = func(ctx context.Context, r *wire.Request, s wire.Sink) (wire.Meta, error) {
				if now() {
					return rows(1)(ctx, r, s)
				}
				switch c.fails {
				case "stopping":
					return wire.Meta{}, wire.NewError(wire.CodeShuttingDown, "stopping")
				case "overloaded":
					return wire.Meta{}, wire.NewError(wire.CodeOverloaded, "too much")
				case "full":
					return wire.Meta{}, wire.NewError(wire.CodeTenantFull, "full")
				}
				return wire.Meta{}, wire.NewError(wire.CodeNotPrimary, "not here")
			}
			if c.fails == "dial" {
				m.setFault(func(host string, _ int) (int, error) {
					if host == "n2" && !now() {
						return 0, refused
					}
					return -1, nil
				})
			}
			a := m.do("n1", "POST", acmeSQL+c.query, selectOne)
			if c.want == "" && a.status != 200 || c.want != "" && code(t, a) != c.want {
				t.Errorf("%s: got %+v, want %q", name, a, c.want)
			}
			if e := time.Since(began); e > c.elapsed || c.want == wire.CodeNotPrimary && e < c.elapsed-time.Second {
				t.Errorf("%s: took %v, want at most %v", name, e, c.elapsed)
			}
			if n := m.dials("n2"); n > 100 {
				t.Errorf("%s: asked %d times", name, n)
			}
			if c.want != "" && strings.Contains(a.body, `"retryable":true`) != c.want.Retryable() {
				t.Errorf("%s: got %s", name, a.body)
			}
		})
	}
}

func TestConnectionBreaks(t *testing.T) {
	keyed := []string{"Idempotency-Key: k"}
	once := func(int) int { return 0 }
	conflict := wire.NewError("SQLITE_CONSTRAINT_UNIQUE", "there is one")
	for name, c := range map[string]struct {
		method, path, body string
		headers            []string
		reads              bool            // n1 knows that the statement reads
		cut                func(n int) int // of the n-th connection; after the last, none
		breaks             int             // that so many connections do
		then               error           // what n2 answers after those
		unreachable        bool            // n2 is never reached after those
		want               wire.Code       // "" for 200
		done               int             // times that n2 executed it
	}{
		"a read":                          {"GET", acmeSQL + "?q=select", "", nil, false, once, 2, nil, false, "", 3},
		"a read, known as such":           {"POST", acmeSQL, selectOne, nil, true, once, 2, nil, false, "", 3},
		"a read, in the header":           {"GET", acmeSQL + "?q=select", "", nil, false, func(int) int { return 20 }, 1, nil, false, "", 2},
		"a read, in its short answer":     {"GET", acmeSQL + "?q=select", "", nil, false, func(int) int { return 300 }, 1, nil, false, "", 2},
		"a read, for ever":                {"GET", acmeSQL + "?q=select", "", nil, false, once, 1e6, nil, false, wire.CodeNotPrimary, -1},
		"a write":                         {"POST", acmeSQL, selectOne, nil, false, once, 1, nil, false, wire.CodeUnknownOutcome, 1},
		"a write with a key":              {"POST", acmeSQL, selectOne, keyed, false, once, 2, nil, false, "", 3},
		"with a key, for ever":            {"POST", acmeSQL, selectOne, keyed, false, once, 1e6, nil, false, wire.CodeUnknownOutcome, -1},
		"with a key, then unreachable":    {"POST", acmeSQL, selectOne, keyed, false, once, 1, nil, true, wire.CodeUnknownOutcome, 1},
		"with a key, then not primary":    {"POST", acmeSQL, selectOne, keyed, false, once, 1, wire.NewError(wire.CodeNotPrimary, "no"), false, wire.CodeUnknownOutcome, -1},
		"with a key, then overloaded":     {"POST", acmeSQL, selectOne, keyed, false, once, 1, wire.NewError(wire.CodeOverloaded, "no"), false, wire.CodeUnknownOutcome, -1},
		"with a key, then full":           {"POST", acmeSQL, selectOne, keyed, false, once, 1, wire.NewError(wire.CodeTenantFull, "no"), false, wire.CodeUnknownOutcome, 2},
		"with a key, then a kept error":   {"POST", acmeSQL, selectOne, keyed, false, once, 1, conflict, false, conflict.Code, 2},
		"a read, then overloaded":         {"GET", acmeSQL + "?q=select", "", nil, false, once, 1, wire.NewError(wire.CodeOverloaded, "no"), false, wire.CodeOverloaded, 2},
		"the creation of a tenant":        {"POST", "/v1/tenants", `{"name":"a"}`, nil, false, once, 1, nil, false, wire.CodeUnknownOutcome, 0},
		"its deletion":                    {"DELETE", "/v1/tenants/a", "", nil, false, once, 1, nil, false, wire.CodeUnknownOutcome, 0},
		"what is declared may come twice": {"POST", "/v1/nodes/n2/drain", "", nil, false, once, 2, nil, false, "", 0},
	} {
		run(t, func(t *testing.T) {
			m := newMesh(t, nil, "n1", "n2")
			n1, n2 := m.nodes["n1"], m.nodes["n2"]
			n1.sendsTo("n2")
			n1.sql.do = func(context.Context, *wire.Request, wire.Sink) (wire.Meta, error) {
				return wire.Meta{}, &ElsewhereError{Node: "n2", Reads: c.reads}
			}
			var done atomic.Int32
			n2.sql.do = func(ctx context.Context, r *wire.Request, s wire.Sink) (wire.Meta, error) {
				if n := done.Add(1); int(n) > c.breaks && c.then != nil {
					return wire.Meta{}, c.then
				}
				return rows(3)(ctx, r, s)
			}
			m.setFault(func(host string, n int) (int, error) {
				switch {
				case host == "n2" && n <= c.breaks:
					return c.cut(n), nil
				case host == "n2" && c.unreachable:
					return 0, errors.New("connection refused")
				}
				return -1, nil
			})
			a := m.do("n1", c.method, c.path, c.body, c.headers...)
			if c.want == "" && a.status/100 != 2 || c.want != "" && code(t, a) != c.want {
				t.Errorf("%s: got %+v, want %q", name, a, c.want)
			}
			if c.want == wire.CodeUnknownOutcome && strings.Contains(a.body, `"retryable":true`) {
				t.Errorf("%s: got %s", name, a.body)
			}
			synctest.Wait()
			if n := int(done.Load()); c.done >= 0 && n != c.done {
				t.Errorf("%s: n2 executed it %d times, want %d", name, n, c.done)
			}
		})
	}
}

func TestKeptConnectionBreaks(t *testing.T) {
	run(t, func(t *testing.T) {
		m := newMesh(t, nil, "n1", "n2")
		n1, n2 := m.nodes["n1"], m.nodes["n2"]
		n1.sendsTo("n2")
		var broken, refused atomic.Bool
		tr := m.transport()
		tr.MaxIdleConnsPerHost = 1
		tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if refused.Load() {
				return nil, &net.OpError{Op: "dial", Net: "pipe", Err: errors.New("connection refused")}
			}
			c, err := m.dial(ctx, network, addr)
			return &brokenConn{Conn: c, broken: &broken}, err
		}
		defer tr.CloseIdleConnections()
		n1.handler.peers = tr
		if a := m.do("n1", "POST", acmeSQL, selectOne); a.status != 200 {
			t.Fatalf("got %+v", a)
		}
		n2.sql.do = func(ctx context.Context, r *wire.Request, s wire.Sink) (wire.Meta, error) {
			broken.Store(true)
			refused.Store(true)
			return rows(1)(ctx, r, s)
		}
		if a := m.do("n1", "POST", acmeSQL, selectOne, "Idempotency-Key: k"); code(t, a) != wire.CodeUnknownOutcome {
			t.Errorf("got %+v for what was done", a)
		}
	})
}

type brokenConn struct {
	net.Conn
	broken *atomic.Bool
}

func (c *brokenConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.broken.Load() {
		_ = c.Conn.Close()
		return 0, errors.New("the connection broke")
	}
	return n, err
}

func TestSilentNode(t *testing.T) {
	for name, c := range map[string]struct {
		method, path, body, key string
		silence                 time.Duration
		want                    wire.Code
		within                  time.Duration
	}{
		"a read with a timeout":  {"GET", acmeSQL + "?q=select&timeout=2s", "", "", time.Minute, wire.CodeTimeout, 3 * time.Second},
		"a write with a timeout": {"POST", acmeSQL + "?timeout=2s", selectOne, "", time.Minute, wire.CodeUnknownOutcome, 3 * time.Second},
		"a read":                 {"GET", acmeSQL + "?q=select", "", "", time.Minute, wire.CodeNotPrimary, time.Minute},
		"a write":                {"POST", acmeSQL, selectOne, "", time.Minute, wire.CodeUnknownOutcome, time.Minute},
		"a write with a key":     {"POST", acmeSQL, selectOne, "k", 4 * time.Second, wire.CodeUnknownOutcome, 12100 * time.Millisecond},
	} {
		run(t, func(t *testing.T) {
			m := newMesh(t, func(cfg *Config) { cfg.ForwardSilence = c.silence }, "n1", "n2")
			m.nodes["n1"].sendsTo("n2")
			left := make(chan time.Duration, 100)
			m.nodes["n2"].sql.do = func(ctx context.Context, r *wire.Request, _ wire.Sink) (wire.Meta, error) {
				left <- r.Timeout
				<-t.Context().Done() // it does not even hear that the client has gone
				return wire.Meta{}, ctx.Err()
			}
			began := time.Now()
			var headers []string
			if c.key != "" {
				headers = []string{"Idempotency-Key: " + c.key}
			}
			a := m.do("n1", c.method, c.path, c.body, headers...)
			if e := time.Since(began); code(t, a) != c.want || e != c.within && (c.key == "" || e > c.within) {
				t.Errorf("%s: got %+v after %v", name, a, e)
			}
			if d := <-left; strings.Contains(c.path, "timeout") != (d > 0 && d <= 2*time.Second) {
				t.Errorf("%s: n2 was given %v", name, d)
			}
		})
	}
}

func TestTimeShrinks(t *testing.T) {
	run(t, func(t *testing.T) {
		m := newMesh(t, nil, "n1", "n2")
		m.nodes["n1"].sendsTo("n2")
		m.setFault(func(host string, n int) (int, error) {
			if host == "n2" && n < 10 {
				return 0, errors.New("refused")
			}
			return -1, nil
		})
		if a := m.do("n1", "POST", acmeSQL+"?timeout=5s", selectOne); a.status != 200 {
			t.Fatalf("got %+v", a)
		}
		if d := m.nodes["n2"].sql.last().Timeout; d < 3*time.Second || d > 4800*time.Millisecond {
			t.Errorf("n2 was given %v", d)
		}
	})
}
