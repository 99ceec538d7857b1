package wire

import (
	"errors"
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
	other := "0" + "8" + good[2:] // version 2
	for name, s := range map[string]string{"empty": "", "short": good[1:], "long": good + "0", "letters": strings.Repeat("Z", len(good)),
		"lower case": strings.ToLower(good), "version": other, "trailing bits": good[:len(good)-1] + "V"} {
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
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseBookmark(s)
		if err != nil {
			return
		}
		var id TenantID
		copy(id[:], p.tenant[:])
		if again := Bookmark(Pos{Tenant: id, Epoch: p.Epoch, TXID: p.TXID, Checksum: p.Checksum}); again != s {
			t.Fatalf("%q reads as %q", s, again)
		}
	})
}
