package wire

import (
	"bytes"
	"errors"
	"reflect"
	"sort"
	"strings"
	"testing"
)

func TestBookmarkRoundTrip(t *testing.T) {
	id := TenantID{1, 2, 3, 4, 5, 6, 7, 8, 9}
	p := Pos{Tenant: id, Epoch: 3, TXID: 1 << 40, Checksum: ChecksumFlag | 5}
	text := Bookmark(p)
	// Clients keep bookmarks, so what was given out must stay readable.
	if want := "0400000300002000000000820C20A1G7120000000000018"; text != want {
		t.Errorf("got %s, want %s", text, want)
	}
	got, err := ParseBookmark(text)
	if err != nil {
		t.Fatal(err)
	}
	if got.Epoch != 3 || got.TXID != 1<<40 || got.Checksum != ChecksumFlag|5 || !got.SameTenant(id) || got.SameTenant(TenantID{9}) {
		t.Fatalf("got %+v", got)
	}
}

func TestBookmarksSortByAge(t *testing.T) {
	var texts []string
	for _, p := range []Pos{{Epoch: 1, TXID: 1}, {Epoch: 1, TXID: 2}, {Epoch: 1, TXID: 255}, {Epoch: 1, TXID: 256}, {Epoch: 2, TXID: 1}} {
		texts = append(texts, Bookmark(p))
	}
	if !sort.StringsAreSorted(texts) {
		t.Fatalf("not sorted: %q", texts)
	}
}

func TestBookmarkRefused(t *testing.T) {
	good := Bookmark(Pos{Epoch: 1, TXID: 7})
	other := "0" + "C" + good[2:] // version 3
	sites := BookmarkWith(Pos{Epoch: 1, TXID: 7}, SiteMarks{Marks: []SiteMark{{1, 5}, {3, 6}}})
	raw, _ := bookmarkText.DecodeString(sites)
	spoil := func(change func(b []byte) []byte) string {
		return bookmarkText.EncodeToString(change(bytes.Clone(raw)))
	}
	for name, s := range map[string]string{"empty": "", "short": good[1:], "long": good + "0", "letters": strings.Repeat("Z", len(good)),
		"lower case": strings.ToLower(good), "version": other, "trailing bits": good[:len(good)-1] + "V",
		"sites in version 1": spoil(func(b []byte) []byte { b[0] = 1; return b }), "no sites in version 2": spoil(func(b []byte) []byte { return b[:bookmarkSize] }),
		"no site":     spoil(func(b []byte) []byte { return append(b[:bookmarkSize], bookmarkMarks, 0) }),
		"a site less": spoil(func(b []byte) []byte { return b[:len(b)-9] }), "more behind": spoil(func(b []byte) []byte { return append(b, 0) }),
		"cut": spoil(func(b []byte) []byte { return b[:len(b)-1] }), "site 0": spoil(func(b []byte) []byte { b[bookmarkSize+2] = 0; return b }),
		"site twice": spoil(func(b []byte) []byte { b[bookmarkSize+11] = 0; return b }),
		"form":       spoil(func(b []byte) []byte { b[bookmarkSize] = 2; return b }),
		"clock 0":    spoil(func(b []byte) []byte { b[len(b)-1] = 0; return b }),
		"long form": spoil(func(b []byte) []byte {
			return append(append(b[:bookmarkSize+1:bookmarkSize+1], 0x81, 0), raw[bookmarkSize+2:bookmarkSize+11]...)
		}),
		"behind all":     spoil(func(b []byte) []byte { return append(b[:bookmarkSize], bookmarkAll, 0) }),
		"too many sites": spoil(func(b []byte) []byte { return append(b[:bookmarkSize], bookmarkMarks, BookmarkSitesMax+1) })} {
		_, err := ParseBookmark(s)
		if s == good {
			continue
		}
		if !errors.Is(err, &Error{Code: CodeBadBookmark}) {
			t.Errorf("%s: %q gives %v", name, s, err)
		}
	}
}

func FuzzParseBookmark(f *testing.F) {
	f.Add(Bookmark(Pos{Epoch: 1, TXID: 7}))
	f.Add(BookmarkWith(Pos{Epoch: 1, TXID: 7}, SiteMarks{Marks: []SiteMark{{1, 5}, {300, 1 << 60}}}))
	f.Add(BookmarkWith(Pos{Epoch: 1, TXID: 7}, SiteMarks{All: true}))
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseBookmark(s)
		if err != nil {
			return
		}
		var id TenantID
		copy(id[:], p.tenant[:])
		if again := BookmarkWith(Pos{Tenant: id, Epoch: p.Epoch, TXID: p.TXID, Checksum: p.Checksum}, p.Sites); again != s {
			t.Fatalf("%q reads as %q", s, again)
		}
	})
}

// What was given out must stay readable; bookmarks of version 1 are read as ever.
func TestBookmarkWithSites(t *testing.T) {
	id := TenantID{1, 2, 3, 4, 5, 6, 7, 8, 9}
	p := Pos{Tenant: id, Epoch: 3, TXID: 1 << 40, Checksum: ChecksumFlag | 5}
	for want, sites := range map[string]SiteMarks{
		"0800000300002000000000820C20A1G71200000000000180081G01LJ00000005L411000000000000": {Marks: []SiteMark{{3, 0x6b300_0000_0005}, {300, 1 << 60}}},
		"0800000300002000000000820C20A1G71200000000000181":                                 {All: true},
		"0400000300002000000000820C20A1G7120000000000018":                                  {},
	} {
		text := BookmarkWith(p, sites)
		if text != want {
			t.Errorf("%v: got %s, want %s", sites, text, want)
		}
		got, err := ParseBookmark(text)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Sites, sites) || got.Epoch != 3 || !got.SameTenant(id) || got.String() != text {
			t.Errorf("%v reads as %+v", sites, got)
		}
	}
}

func TestBookmarkSitesAreBounded(t *testing.T) {
	clocks := map[uint32]uint64{}
	for i := range uint32(BookmarkSitesMax) {
		clocks[1<<31+i] = 1<<64 - 1
	}
	if s := MarksOf(clocks); s.All || len(s.Marks) != BookmarkSitesMax {
		t.Fatalf("%d sites are %v", len(clocks), s)
	}
	if text := BookmarkWith(Pos{}, MarksOf(clocks)); len(text) > 2048 {
		t.Fatalf("%d sites take %d characters", len(clocks), len(text))
	}
	clocks[1] = 1
	if s := MarksOf(clocks); !s.All || s.Marks != nil {
		t.Fatalf("%d sites are %v", len(clocks), s)
	}
}

func TestJoinBookmarks(t *testing.T) {
	id := TenantID{7}
	mark := func(epoch Epoch, tx TXID, marks ...SiteMark) string {
		return BookmarkWith(Pos{Tenant: id, Epoch: epoch, TXID: tx, Checksum: ChecksumFlag | Checksum(tx)}, SiteMarks{Marks: marks})
	}
	for _, c := range []struct{ a, b, want string }{
		{mark(1, 5), mark(1, 6), mark(1, 6)},
		{mark(1, 5, SiteMark{2, 9}), mark(1, 6), mark(1, 6, SiteMark{2, 9})},
		{mark(1, 5, SiteMark{2, 9}, SiteMark{4, 1}), mark(2, 1, SiteMark{2, 8}, SiteMark{3, 3}), mark(2, 1, SiteMark{2, 9}, SiteMark{3, 3}, SiteMark{4, 1})},
	} {
		for range 2 {
			if got, ok := JoinBookmarks(c.a, c.b); !ok || got != c.want {
				t.Errorf("%s and %s join to %s, want %s", c.a, c.b, got, c.want)
			}
			c.a, c.b = c.b, c.a
		}
	}
	if _, ok := JoinBookmarks(mark(1, 1), Bookmark(Pos{Tenant: TenantID{8}})); ok {
		t.Error("bookmarks of two tenants were joined")
	}
	if _, ok := JoinBookmarks(mark(1, 1), "x"); ok {
		t.Error("a bookmark was joined with none")
	}
}
