package leader

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"

	"github.com/nearsql/nearsql/disk/disktest"
	"github.com/nearsql/nearsql/leader/logstore"
)

// What groupLog answers is what its files have, whatever was stored, deleted and stored again.
func TestRecentIsTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store, err := logstore.Open(logstore.Config{FS: disktest.NewMemFS(), Dir: "/log", SegmentSize: 8 << 10})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		others := true
		l := newGroupLog(store, 0, func() bool { return others }, func() bool { return false })
		first, last, term := uint64(1), uint64(0), uint64(1)
		t.Repeat(map[string]func(*rapid.T){
			"store": func(t *rapid.T) {
				var batch []*raft.Log
				for range rapid.IntRange(1, 5).Draw(t, "entries") {
					last++
					batch = append(batch, &raft.Log{Index: last, Term: term, Type: raft.LogCommand, Data: fmt.Appendf(nil, "%d of %d", last, term)})
				}
				if err := l.StoreLogs(batch); err != nil {
					t.Fatal(err)
				}
			},
			"lose the end": func(t *rapid.T) {
				if last <= first {
					t.Skip()
				}
				from := rapid.Uint64Range(first+1, last).Draw(t, "from")
				if err := l.DeleteRange(from, last); err != nil {
					t.Fatal(err)
				}
				last = from - 1
				term++
			},
			"lose the beginning": func(t *rapid.T) {
				if last <= first+1 {
					t.Skip()
				}
				to := rapid.Uint64Range(first, last-1).Draw(t, "to")
				if err := l.DeleteRange(first, to); err != nil {
					t.Fatal(err)
				}
				var err error
				if first, err = store.FirstIndex(); err != nil {
					t.Fatal(err)
				}
			},
			"others": func(*rapid.T) { others = !others },
			"": func(t *rapid.T) {
				for i := max(first, 3) - 2; i <= last+2; i++ {
					var got, want raft.Log
					gotErr, wantErr := l.GetLog(i, &got), store.GetLog(i, &want)
					if errors.Is(gotErr, raft.ErrLogNotFound) != errors.Is(wantErr, raft.ErrLogNotFound) || (gotErr == nil) != (wantErr == nil) {
						t.Fatalf("entry %d: %v, in the files %v", i, gotErr, wantErr)
					}
					if got.Term != want.Term || got.Type != want.Type || !bytes.Equal(got.Data, want.Data) {
						t.Fatalf("entry %d is %+v, in the files %+v", i, got, want)
					}
				}
				checkRecent(t, &l.recent)
			},
		})
	})
}

// checkRecent holds the count of bytes against what is there.
func checkRecent(t interface{ Fatalf(string, ...any) }, r *recent) {
	sum := int64(0)
	for i := range r.mu.ring {
		sum += entrySize(&r.mu.ring[i])
	}
	if sum != r.mu.bytes || r.mu.next-r.mu.first > recentEntries {
		t.Fatalf("%d bytes, counted as %d, of %d entries", sum, r.mu.bytes, r.mu.next-r.mu.first)
	}
}

// The entries in memory are bounded by number and by bytes.
func TestRecentIsBounded(t *testing.T) {
	for _, size := range []int{1, 10 << 10, recentBytes / 2, 2 * recentBytes} {
		var r recent
		data := make([]byte, size)
		for i := range uint64(3 * recentEntries) {
			r.stored([]*raft.Log{{Index: i + 1, Data: data}})
		}
		checkRecent(t, &r)
		last := uint64(3 * recentEntries)
		if r.mu.bytes > max(recentBytes, int64(size)) {
			t.Errorf("entries of %d bytes: %d bytes are kept", size, r.mu.bytes)
		}
		var e raft.Log
		if !r.get(last, &e) || e.Index != last || r.get(last+1, &e) || r.get(last-recentEntries, &e) {
			t.Errorf("entries of %d bytes: not the newest are kept", size)
		}
	}
}
