package replicas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/readpath/replica"
	"github.com/nearsql/nearsql/sqlnode/pagestore"
	"github.com/nearsql/nearsql/wire"
	"github.com/nearsql/nearsql/wire/stream"
	"github.com/nearsql/nearsql/wire/txn"
)

// TestDamaged gives a Set copies and changes that are damaged in all sorts of ways: each is refused, and what is here stays, also
// after a restart.
func TestDamaged(t *testing.T) {
	var p *past
	synctest.Test(t, func(t *testing.T) { p = makePast(t) })
	synctest.Test(t, func(t *testing.T) {
		mem := disktest.NewMemFS()
		r, stop, err := begin(p, mem)
		must(t, err)
		must(t, r.take("first"))
		must(t, r.feed(p.copies["changes"].from))
		at := r.set.Head(p.id)
		rng := rand.New(rand.NewPCG(1, 1))
		for i := range 300 {
			name := []string{"changes", "middle"}[i%2]
			good := p.copies[name].bytes
			bad := bytes.Clone(good)
			var what string
			switch i % 6 / 2 {
			case 0:
				k := rng.IntN(len(bad))
				if i < 150 {
					k = i % len(bad) // the header
				}
				bad[k] ^= 1 << rng.IntN(8)
				what = fmt.Sprintf("%s with byte %d changed", name, k)
			case 1:
				bad = bad[:rng.IntN(len(bad))]
				what = fmt.Sprintf("%s cut at %d", name, len(bad))
			case 2:
				bad = append(bad, make([]byte, 1+rng.IntN(100))...)
				what = name + " with something after it"
			}
			c := p.copies[name]
			c.bytes = bad
			p.copies["bad"] = c
			if err := r.take("bad"); err == nil {
				t.Fatalf("%s was taken", what)
			} else if name == "changes" && !errors.Is(err, replica.ErrMismatch) {
				t.Fatalf("%s: %v: no other copy would come", what, err)
			}
			if h := r.set.Head(p.id); h != at {
				t.Fatalf("%s: at %+v", what, h)
			}
		}
		r.check(t, "after all")
		// What does not fit: of another tenant, of another group, over another range.
		ctx := context.Background()
		if _, err := r.set.InstallCopy(ctx, tenantID(9), testGroup, bytes.NewReader(p.copies["late"].bytes)); err == nil {
			t.Fatal("a copy of another tenant was taken")
		}
		if _, err := r.set.InstallCopy(ctx, p.id, testGroup+1, bytes.NewReader(p.copies["late"].bytes)); err == nil {
			t.Fatal("a copy of another group was taken")
		}
		if _, err := r.set.InstallCopy(ctx, p.id, testGroup, bytes.NewReader(p.copies["changes"].bytes)); err == nil {
			t.Fatal("changes were taken as a copy")
		}
		if _, err := r.set.InstallLTX(ctx, p.id, 1, 2, bytes.NewReader(p.copies["late"].bytes)); err == nil {
			t.Fatal("a copy was taken as changes")
		}
		stop()
		r, stop, err = begin(p, mem)
		must(t, err)
		r.check(t, "after a restart")
		must(t, r.feed(p.copies["changes"].from))
		// In readers of any step: what is cut for the stream may end anywhere.
		for i, f := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader, func(b io.Reader) io.Reader { return &stepReader{b, 7} }} {
			for _, name := range []string{"middle", "late"} {
				if _, err := r.set.InstallCopy(ctx, p.id, testGroup, f(bytes.NewReader(p.copies[name].bytes))); err != nil {
					t.Fatalf("%s in steps %d: %v", name, i, err)
				}
			}
			must(t, r.take("first"))
			must(t, r.feed(p.copies["changes"].from))
			c := p.copies["changes"]
			if _, err := r.set.InstallLTX(ctx, p.id, c.from+1, c.to, f(bytes.NewReader(c.bytes))); err != nil {
				t.Fatalf("changes in steps %d: %v", i, err)
			}
			r.check(t, "in steps")
		}
		stop()
	})
}

type stepReader struct {
	r io.Reader
	n int
}

func (s *stepReader) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), s.n)]) }

// TestBadEntries gives a Set entries whose CRC is right and that are not what they should be.
func TestBadEntries(t *testing.T) {
	var p *past
	synctest.Test(t, func(t *testing.T) { p = makePast(t) })
	ctx := context.Background()
	remake := func(e []byte, f func(h *txn.Header, body []byte) []byte) []byte {
		h, body, err := txn.Split(e)
		must(t, err)
		body = f(&h, bytes.Clone(body))
		out, err := txn.AppendEntry(nil, &h, body)
		must(t, err)
		return out
	}
	mismatch := map[string]func(h *txn.Header, body []byte) []byte{
		"of another epoch":       func(h *txn.Header, b []byte) []byte { h.Epoch++; return b },
		"that leaves one out":    func(h *txn.Header, b []byte) []byte { h.PrevTXID++; h.NextTXID++; return b },
		"after another checksum": func(h *txn.Header, b []byte) []byte { h.PrevSum ^= 4; return b },
		"of another group":       func(h *txn.Header, b []byte) []byte { h.Group++; return b },
		"of another tenant":      func(h *txn.Header, b []byte) []byte { h.Tenant[3]++; return b },
		"of another page size":   func(h *txn.Header, b []byte) []byte { h.PageSize *= 2; return b },
		"that jumps":             func(h *txn.Header, b []byte) []byte { h.NextTXID++; return b },
		"whose parts did not come": func(h *txn.Header, b []byte) []byte {
			h.Flags, h.Parts, h.BodyLen, h.Operation = txn.FlagParts, 1, 10, 5
			return nil
		},
	}
	later := map[string]func(h *txn.Header, body []byte) []byte{
		"with another checksum":  func(h *txn.Header, b []byte) []byte { h.NextSum ^= 4; return b },
		"with a byte changed":    func(h *txn.Header, b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"with the body cut":      func(h *txn.Header, b []byte) []byte { return b[:len(b)/2] },
		"with a page less":       func(h *txn.Header, b []byte) []byte { h.Commit--; return b },
		"with more pages to it":  func(h *txn.Header, b []byte) []byte { h.Commit += 100000; return b },
		"with another's content": func(h *txn.Header, b []byte) []byte { clear(b[len(b)/2:]); return b },
	}
	synctest.Test(t, func(t *testing.T) { // a part
		r, stop, err := begin(p, disktest.NewMemFS())
		must(t, err)
		defer stop()
		must(t, r.take("first"))
		for _, e := range p.entries {
			at := r.set.Head(p.id)
			if h, _ := txn.DecodeHeader(e.entry); e.index > at.Index && h.Kind == txn.Part {
				bad := remake(e.entry, func(h *txn.Header, b []byte) []byte { h.PrevSum ^= 4; return b })
				if _, err := r.set.Apply(ctx, p.id, e.index, bad); !errors.Is(err, replica.ErrMismatch) || r.set.Head(p.id) != at {
					t.Fatalf("a part of what can't follow: %v", err)
				}
				break
			}
			if e.index > at.Index {
				_, err := r.set.Apply(ctx, p.id, e.index, e.entry)
				must(t, err)
			}
		}
		must(t, r.feed(lastTXID))
		r.check(t, "after a bad part")
	})
	synctest.Test(t, func(t *testing.T) {
		for _, visible := range []bool{false, true} {
			set := mismatch
			if visible {
				set = later
			}
			for what, f := range set {
				r, stop, err := begin(p, disktest.NewMemFS())
				must(t, err)
				must(t, r.take("first"))
				at := r.set.Head(p.id)
				i := 0
				for p.entries[i].index <= at.Index {
					i++
				}
				_, err = r.set.Apply(ctx, p.id, p.entries[i].index, remake(p.entries[i].entry, f))
				if !visible {
					if !errors.Is(err, replica.ErrMismatch) || r.set.Head(p.id) != at {
						t.Fatalf("an entry %s: %v, and it is at %+v", what, err, r.set.Head(p.id))
					}
					r.check(t, what)
					must(t, r.feed(lastTXID)) // the right one is taken
					r.check(t, what)
					stop()
					continue
				}
				must(t, err)
				synctest.Wait()
				tn, _ := r.set.Tenant(p.id)
				if tn.Failed() == nil || tn.Position().TXID != at.TXID || r.set.Head(p.id) != (replica.Head{}) {
					t.Fatalf("an entry %s was built: %v, %+v", what, tn.Failed(), tn.Position())
				}
				if _, err := r.set.Apply(ctx, p.id, p.entries[i+1].index, p.entries[i+1].entry); !errors.Is(err, replica.ErrMismatch) {
					t.Fatalf("after it: %v", err)
				}
				time.Sleep(10 * time.Second) // a checkpoint of it
				must(t, r.take("middle"))
				must(t, r.feed(lastTXID))
				r.check(t, what)
				stop()
			}
		}
	})
}

// hostile is a feeder whose copies and changes are damaged at first.
type hostile struct {
	replica.Source
	left *int
}

type spoiler struct {
	w io.Writer
	n int
}

func (s *spoiler) Write(p []byte) (int, error) {
	q := bytes.Clone(p)
	if s.n -= len(p); s.n < 0 {
		q[0] ^= 0x40
		s.n = 1 << 30
	}
	return s.w.Write(q)
}

func (h hostile) WriteCopy(ctx context.Context, id wire.TenantID, w io.Writer) error {
	if *h.left--; *h.left >= 0 {
		w = &spoiler{w, 50 << 10}
	}
	return h.Source.WriteCopy(ctx, id, w)
}

func (h hostile) OpenLTX(ctx context.Context, id wire.TenantID, from stream.Head) (*replica.LTX, error) {
	l, err := h.Source.OpenLTX(ctx, id, from)
	if err == nil {
		r, w := io.Pipe()
		inner := l.ReadCloser
		go func() {
			_, err := io.Copy(&spoiler{w, 5 << 10}, inner)
			w.CloseWithError(errors.Join(err, inner.Close()))
		}()
		l.ReadCloser = r
	}
	return l, err
}

// TestHostileFeeder follows one who damages what it sends: the copy that serves stays, until a right one comes.
func TestHostileFeeder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		left := 3
		v := w.voter("v", testGroup)
		bad := w.node("bad", "v")
		bad.source = func(s replica.Source) replica.Source { return hostile{s, &left} }
		bad.start()
		id := filled(v, 1)
		bad.follow(id)
		bad.joined(id)
		r := w.replica("r", "bad")
		r.follow(id)
		r.joined(id)
		w.same(id, r, v)
		if left != -1 {
			t.Fatalf("%d copies left to damage", left)
		}
		tn := r.tenant(id)
		w.net.CutBoth("bad", "r")
		for range 100 {
			v.write(id, "update t set b = randomblob(900) where id < 20")
		}
		w.net.HealBoth("bad", "r")
		w.same(id, r, v)
		s := &r.set.Stats
		if s.Copies.Load() != 2 || s.Changes.Load() != 0 || s.Refused.Load() < 4 || r.tenant(id) != tn {
			t.Fatalf("%d copies, %d changes, %d refused", s.Copies.Load(), s.Changes.Load(), s.Refused.Load())
		}
	})
}

// TestChangesOfAnotherHistory gives a copy changes that follow its TXID and were made for its checksum, by one whose history is another: the checksum of what they
// lead to tells.
func TestChangesOfAnotherHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		one := w.voter("one", testGroup)
		id := one.create(1)
		first := w.logs[testGroup]
		delete(w.logs, testGroup)
		other := w.voter("other", testGroup)
		other.create(1)
		other.write(id, "create table t(a, b)", "insert into t values(1, randomblob(3000))", "insert into t values(1, 'other')")
		w.logs[testGroup] = first
		one.write(id, "create table t(a, b)", "insert into t values(1, randomblob(3000))", "insert into t values(1, 'one')", "insert into t values(2, 'one')")
		r := w.replica("r")
		var b bytes.Buffer
		must(t, other.tenant(id).WriteCopy(t.Context(), &b))
		at, err := r.set.InstallCopy(t.Context(), id, testGroup, &b)
		must(t, err)
		changes := func(from stream.Head) error {
			l, err := NewSource(one, nil, nil).OpenLTX(t.Context(), id, from)
			must(t, err)
			defer l.Close()
			_, err = r.set.InstallLTX(t.Context(), id, l.Min, l.Max, l)
			return err
		}
		for what, change := range map[string]func(h *stream.Head){
			"made for it": func(*stream.Head) {}, "after another transaction": func(h *stream.Head) { h.TXID-- }, "after another state": func(h *stream.Head) { h.Checksum ^= 8 },
		} {
			from := at.Head
			change(&from)
			err := changes(from)
			var position *pagestore.PositionError
			if !errors.Is(err, replica.ErrMismatch) || r.set.Head(id) != at || errors.As(err, &position) == (from == at.Head) {
				t.Fatalf("changes %s: %v", what, err)
			}
		}
		w.same(id, r, other)
	})
}
