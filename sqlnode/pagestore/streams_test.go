package pagestore

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/wire"
)

// streamed is a group without a log, with its builders running.
func streamed(t *testing.T) *Group {
	cfg := memDisk(disktest.NewMemFS())
	cfg.Streams = true
	g, err := NewGroup(cfg)
	must(t, err)
	must(t, g.Resume())
	r := &rig{t: t, g: g, cfg: cfg}
	ctx, cancel := context.WithCancel(context.Background())
	r.end = cancel
	r.wg.Go(func() { g.buildLoop(ctx) })
	r.wg.Go(func() { g.builds.keepTime(ctx) })
	t.Cleanup(r.stop)
	return g
}

// TestReadChanges brings a copy up by changes, and gives it ones whose sums are right and that leave out pages.
func TestReadChanges(t *testing.T) {
	r := newRig(t, memDisk(disktest.NewMemFS()))
	tn := r.create(1, 4096)
	w := r.writer(tn)
	mustExec(t, w, "create table t(a)")
	g := streamed(t)
	ctx := context.Background()
	var b bytes.Buffer
	must(t, tn.WriteCopy(ctx, &b))
	h, err := g.ReadTenant(ctx, tn.ID(), &b)
	must(t, err)
	copied, err := g.Tenant(tn.ID())
	must(t, err)
	mustExec(t, w, "insert into t values(zeroblob(9000))")
	changes := func(change func(p *PinnedCopy)) error {
		p, err := tn.PinCopy(ctx, Have{h.Record.Epoch, State{TXID: h.State.TXID, Checksum: h.State.Checksum}})
		must(t, err)
		defer p.Close()
		if !p.Partial() {
			t.Fatal("it is whole")
		}
		change(p)
		p.head, err = p.h.append(nil)
		must(t, err)
		var b bytes.Buffer
		must(t, p.WriteTo(ctx, &b, 0))
		_, err = copied.ReadChanges(ctx, &b)
		return err
	}
	var bad *CopyError
	for what, change := range map[string]func(p *PinnedCopy){
		"without a page at its end": func(p *PinnedCopy) { p.h.state.Pages++ },
		"without its last page": func(p *PinnedCopy) {
			last := p.pages[len(p.pages)-1]
			p.pages = p.pages[:len(p.pages)-1]
			s, err := p.store.sumAt(last, p.h.state.TXID)
			must(t, err)
			p.h.state.Checksum ^= s &^ wire.ChecksumFlag
		},
		"of an index that is contained": func(p *PinnedCopy) { p.h.index = h.Index },
		"of another group":              func(p *PinnedCopy) { p.h.group++ },
	} {
		if err := changes(change); !errors.As(err, &bad) {
			t.Errorf("changes %s: %v", what, err)
		}
	}
	if at, err := copied.Head(); err != nil || at != h {
		t.Fatalf("it is at %+v, %v", at, err)
	}
	must(t, changes(func(*PinnedCopy) {}))
	s, err := copied.Acquire()
	must(t, err)
	defer copied.Release()
	if want := r.visible(1); s.Committed() != want.Committed() || !bytes.Equal(pagesOf(t, s), pagesOf(t, want)) {
		t.Fatal("the pages differ")
	}
	checkSum(t, s)
}

// TestOtherKind asks groups for what only the other kind does.
func TestOtherKind(t *testing.T) {
	r := newRig(t, memDisk(disktest.NewMemFS()))
	tn := r.create(1, 4096)
	ctx := context.Background()
	_, follow := r.g.Follow(1, nil)
	_, read := r.g.ReadTenant(ctx, tn.ID(), nil)
	_, changes := tn.ReadChanges(ctx, nil)
	for _, err := range []error{follow, read, changes, r.g.Drop(tn.ID()), r.g.Resume(), streamed(t).Restore(bytes.NewReader(r.manifest()))} {
		if !errors.Is(err, ErrStreams) {
			t.Errorf("got %v", err)
		}
	}
	g := streamed(t)
	if err := g.log().Primary(); !errors.Is(err, ErrNotPrimary) {
		t.Errorf("it is the primary: %v", err)
	}
	done := make(chan error)
	g.log().Propose(nil, func(_ any, err error) { done <- err })
	if err := <-done; !errors.Is(err, ErrNotPrimary) {
		t.Errorf("it proposes: %v", err)
	}
}

// manifest is one of the group.
func (r *rig) manifest() []byte {
	must(r.t, r.log.Snapshot())
	return r.log.snap
}
