package sqldriver

import (
	"context"
	"testing"

	"github.com/nearsql/nearsql/wire"
)

// scripted is an Executor that keeps requests and answers as it is told.
type scripted struct {
	got  []wire.Request
	meta wire.Meta
	err  error
	rows int // of one MiB
}

func (s *scripted) Execute(_ context.Context, _ string, req *wire.Request, sink wire.Sink) (wire.Meta, error) {
	s.got = append(s.got, *req)
	if s.err != nil {
		return wire.Meta{}, s.err
	}
	if err := sink.Begin(0, []wire.Column{{Name: "x"}}); err != nil {
		return wire.Meta{}, err
	}
	for range s.rows {
		if err := sink.Row([]wire.Value{wire.BlobString(string(make([]byte, pieceBytes)))}); err != nil {
			return wire.Meta{}, err
		}
	}
	return s.meta, sink.End(wire.Summary{})
}

func (s *scripted) last() *wire.Request { return &s.got[len(s.got)-1] }

func bookmarkOf(tenant byte, tx wire.TXID) string {
	return wire.Bookmark(wire.Pos{Tenant: wire.TenantID{tenant}, Epoch: 1, TXID: tx})
}

func TestSessionGoesForward(t *testing.T) {
	s := &scripted{}
	db := Open(s, "acme", MaxStaleness(0))
	defer db.Close()
	exec := func(ctx context.Context) error { _, err := db.ExecContext(ctx, "select 1"); return err }
	sent := func(bookmark string, level wire.Consistency) {
		t.Helper()
		if got := s.last(); got.Bookmark != bookmark || got.Consistency != level {
			t.Fatalf("sent %q, level %d; want %q, %d", got.Bookmark, got.Consistency, bookmark, level)
		}
	}
	one, two, three, other := bookmarkOf(1, 1), bookmarkOf(1, 2), bookmarkOf(1, 3), bookmarkOf(2, 1)

	s.meta = wire.Meta{Bookmark: two, Consistency: wire.Weak}
	exec(t.Context())
	sent("", wire.Weak)
	s.meta.Bookmark = one // an older copy, to a request that began before
	exec(t.Context())
	sent(two, wire.Weak)
	exec(t.Context())
	sent(two, wire.Weak)
	if got, ok := Bookmark(db); got != two || !ok {
		t.Fatal(got, ok)
	}
	// A bookmark from elsewhere counts where it is newer.
	exec(WithBookmark(t.Context(), one))
	sent(two, wire.Weak)
	exec(WithBookmark(t.Context(), three))
	sent(three, wire.Weak)
	exec(WithBookmark(t.Context(), other)) // the node says what is wrong with it
	sent(other, wire.Weak)
	exec(WithBookmark(t.Context(), "junk"))
	sent("junk", wire.Weak)

	// What an error showed is seen by what follows, until an answer has it all.
	for _, code := range []wire.Code{wire.CodeSQLiteConstraintUnique, wire.CodeUnknownOutcome} {
		s.err = wire.NewError(code, "x")
		exec(t.Context())
		s.err = nil
		exec(t.Context())
		sent(two, wire.Strong)
		exec(t.Context())
		sent(two, wire.Strong) // a weak answer did not have it
		s.meta.Consistency = wire.Strong
		exec(t.Context())
		sent(two, wire.Strong)
		exec(t.Context())
		sent(two, wire.Weak)
		s.meta.Consistency = wire.Weak
	}

	// Rows that were left show what no bookmark has.
	s.rows = 3
	rows, err := db.Query("select x")
	if err != nil {
		t.Fatal(err)
	}
	rows.Next()
	rows.Close()
	s.rows = 0
	exec(t.Context())
	sent(two, wire.Strong)
	s.meta.Consistency = wire.Strong
	exec(t.Context())
	s.meta.Consistency = wire.Weak
	s.rows = 3
	if rows, err = db.Query("select x"); err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
	}
	rows.Close()
	s.rows = 0
	exec(t.Context())
	sent(two, wire.Weak)

	// Lost history is told once.
	s.err = wire.NewError(wire.CodeBookmarkLost, "x")
	if exec(t.Context()) == nil {
		t.Fatal("no error")
	}
	s.err = nil
	s.meta.Bookmark = other
	exec(t.Context())
	sent("", wire.Weak)
	exec(t.Context())
	sent(other, wire.Weak)
	// A bad bookmark of the caller's own is no fault of the session's.
	s.err = wire.NewError(wire.CodeBadBookmark, "x")
	exec(WithBookmark(t.Context(), "junk"))
	s.err = nil
	exec(t.Context())
	sent(other, wire.Weak)
}

func TestOptions(t *testing.T) {
	s := &scripted{}
	db := Open(s, "acme", MaxStaleness(7), Timeout(5e9))
	defer db.Close()
	for _, c := range []struct {
		ctx  context.Context
		want wire.Request
	}{
		{t.Context(), wire.Request{Consistency: wire.Weak, MaxStaleness: 1e6, Timeout: 5e9}},
		{WithStrong(t.Context()), wire.Request{Consistency: wire.Strong, Timeout: 5e9}},
		{With(WithStrong(t.Context()), AnyStaleness(), FailOnStale()), wire.Request{Consistency: wire.Weak, MaxStaleness: wire.AnyStaleness, FailOnStale: true, Timeout: 5e9}},
		{WithIdempotencyKey(WithMaxStaleness(t.Context(), 2e9), "k"), wire.Request{Consistency: wire.Weak, MaxStaleness: 2e9, IdempotencyKey: "k", Timeout: 5e9}},
		{With(t.Context(), Timeout(1e9)), wire.Request{Consistency: wire.Weak, MaxStaleness: 1e6, Timeout: 1e9}},
	} {
		if _, err := db.ExecContext(c.ctx, "select 1"); err != nil {
			t.Fatal(err)
		}
		got := *s.last()
		got.Statements, got.Stream = nil, false
		if got.Consistency != c.want.Consistency || got.MaxStaleness != c.want.MaxStaleness || got.FailOnStale != c.want.FailOnStale || got.Timeout != c.want.Timeout || got.IdempotencyKey != c.want.IdempotencyKey {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
	}
}
