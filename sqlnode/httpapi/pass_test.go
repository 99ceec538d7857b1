package httpapi

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nearsql/nearsql/wire"
)

func TestStreamsAsItComes(t *testing.T) {
	for _, encoding := range []string{"identity", "gzip"} {
		run(t, func(t *testing.T) {
			m := newMesh(t, nil, "n1", "n2")
			m.nodes["n1"].sendsTo("n2")
			more, fail := make(chan bool), make(chan bool)
			m.nodes["n2"].sql.do = func(_ context.Context, _ *wire.Request, s wire.Sink) (wire.Meta, error) {
				if err := s.Begin(0, testColumns); err != nil {
					return wire.Meta{}, err
				}
				for range 3 {
					time.Sleep(200 * time.Millisecond)
					if err := s.Row(testRow); err != nil {
						return wire.Meta{}, err
					}
					<-more
				}
				<-fail
				panic(http.ErrAbortHandler)
			}
			resp, err := m.open(t.Context(), "pub.n1", "POST", acmeSQL, strings.NewReader(selectOne),
				"Authorization: Bearer root", "Content-Type: application/json", "Accept: application/x-ndjson", "Accept-Encoding: "+encoding)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			in := io.Reader(resp.Body)
			if encoding == "gzip" {
				in = lazyGzip(t, in)
			}
			lines := bufio.NewReader(in)
			for i := range 4 {
				line, err := lines.ReadString('\n')
				if err != nil || i > 0 && line != "[1,\"Ada\"]\n" {
					t.Fatalf("line %d: %q, %v", i, line, err)
				}
				if i > 0 {
					more <- true
				}
			}
			close(fail)
			if line, err := lines.ReadString('\n'); err == nil || err == io.EOF {
				t.Errorf("got %q, %v after the answer broke off", line, err)
			}
		})
	}
}

func TestExportThatBreaksOff(t *testing.T) {
	run(t, func(t *testing.T) {
		m := newMesh(t, nil, "n1", "n2")
		m.nodes["n1"].sendsTo("n2")
		m.nodes["n2"].tenants.export = func(w io.Writer) error {
			_, _ = w.Write(bytesOf(200_000))
			return errors.New("disk")
		}
		for _, encoding := range []string{"identity", "gzip"} {
			a, err := m.ask(t.Context(), "pub.n1", "GET", "/v1/tenants/a/export", nil, "Authorization: Bearer root", "Accept-Encoding: "+encoding)
			if err == nil {
				t.Errorf("%s: got %d bytes as if they were all", encoding, len(a.body))
			}
		}
	})
}

func TestImportIsSentOnce(t *testing.T) {
	const path = "/v1/tenants/a/import"
	database := string(bytesOf(2 << 20))
	run(t, func(t *testing.T) {
		m := newMesh(t, nil, "n1", "n2", "n3")
		n1, n3 := m.nodes["n1"], m.nodes["n3"]
		n1.sendsTo("n2")
		m.nodes["n2"].sendsTo("n3")
		go func() {
			<-m.nodes["n2"].heads
			time.Sleep(2 * time.Second)
			n1.tenants.setAway(&ElsewhereError{Node: "n3"})
		}()
		a := m.do("n1", "POST", path, database)
		if a.status != 201 || n3.tenants.imported.String() != database || m.dials("n2") < 3 {
			t.Errorf("got %+v, %d bytes after %d tries", a, n3.tenants.imported.Len(), m.dials("n2"))
		}
	})
	for name, c := range map[string]struct {
		imports func(io.Reader) error
		cut     int
		want    wire.Code
	}{
		"not primary after a part": {func(r io.Reader) error {
			_, _ = io.ReadFull(r, make([]byte, 100_000))
			return wire.NewError(wire.CodeNotPrimary, "no more")
		}, -1, wire.CodeNotPrimary},
		"broken after all": {nil, 40, wire.CodeUnknownOutcome},
		"refused": {func(io.Reader) error {
			return wire.NewError(wire.CodeTenantExists, "there is one")
		}, -1, wire.CodeTenantExists},
		"bad after a part": {func(r io.Reader) error {
			_, _ = io.ReadFull(r, make([]byte, 100_000))
			return wire.NewError(wire.CodeBadDatabase, "bad")
		}, -1, wire.CodeBadDatabase},
	} {
		run(t, func(t *testing.T) {
			m := newMesh(t, nil, "n1", "n2")
			m.nodes["n1"].sendsTo("n2")
			m.nodes["n2"].tenants.imports = c.imports
			m.setFault(func(host string, _ int) (int, error) {
				if host == "n2" {
					return c.cut, nil
				}
				return -1, nil
			})
			if a := m.do("n1", "POST", path, database); code(t, a) != c.want || m.dials("n2") != 1 {
				t.Errorf("%s: got %+v after %d tries", name, a, m.dials("n2"))
			}
		})
	}
	// A client that stops in the midst: n2 does not take what it got for all.
	run(t, func(t *testing.T) {
		m := newMesh(t, nil, "n1", "n2")
		m.nodes["n1"].sendsTo("n2")
		got := make(chan error, 1)
		m.nodes["n2"].tenants.imports = func(r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			got <- err
			return err
		}
		ctx, cancel := context.WithCancel(t.Context())
		in, out := io.Pipe()
		go func() {
			_, _ = out.Write(bytesOf(100_000))
			cancel()
			out.CloseWithError(errors.New("stopped"))
		}()
		if a, err := m.ask(ctx, "pub.n1", "POST", path, in, "Authorization: Bearer root"); err == nil {
			t.Errorf("got %+v", a)
		}
		if err := <-got; err == nil {
			t.Error("n2 had the whole body")
		}
	})
	// A client that sends nothing is given up, on both nodes.
	run(t, func(t *testing.T) {
		m := newMesh(t, func(c *Config) { c.Stall = 5 * time.Second }, "n1", "n2")
		m.nodes["n1"].sendsTo("n2")
		in, out := io.Pipe()
		go func() { _, _ = out.Write(bytesOf(100_000)) }()
		a, err := m.ask(t.Context(), "pub.n1", "POST", path, in, "Authorization: Bearer root")
		out.Close()
		if err == nil && code(t, a) != wire.CodeTimeout {
			t.Errorf("got %+v", a)
		}
		if _, ok := m.nodes["n2"].tenants.mu.all["a"]; ok {
			t.Error("n2 made a tenant of a part")
		}
	})
}

func TestClientOfAForwardedRequestGoesAway(t *testing.T) {
	run(t, func(t *testing.T) {
		m := newMesh(t, nil, "n1", "n2")
		m.nodes["n1"].sendsTo("n2")
		ended := make(chan error, 1)
		m.nodes["n2"].sql.do = func(ctx context.Context, _ *wire.Request, _ wire.Sink) (wire.Meta, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return wire.Meta{}, ctx.Err()
		}
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if a, err := m.ask(ctx, "pub.n1", "POST", acmeSQL, strings.NewReader(selectOne), "Authorization: Bearer root"); err == nil {
			t.Errorf("got %+v", a)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) || time.Since(began) > 2*time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
	})
}

func lazyGzip(t *testing.T, in io.Reader) io.Reader {
	t.Helper()
	return &lazyReader{in: in}
}

type lazyReader struct {
	in io.Reader
	z  *gzip.Reader
}

func (l *lazyReader) Read(p []byte) (int, error) {
	if l.z == nil {
		z, err := gzip.NewReader(l.in)
		if err != nil {
			return 0, err
		}
		l.z = z
	}
	return l.z.Read(p)
}
