package wire

import (
	"bytes"
	"encoding/base32"
	"encoding/binary"
	"slices"
)

// The versions of a bookmark, its first byte: a position alone, and one with what was seen of conflict-free tables.
const (
	bookmarkVersion      = 1
	bookmarkVersionSites = 2
)

// bookmarkSize is the length of a bookmark's bytes without sites: version, epoch, TXID, the first 8 bytes of the
// tenant's id, checksum.
const bookmarkSize = 1 + 4 + 8 + 8 + 8

// BookmarkSitesMax is how many sites a bookmark names. What saw more asks all of them instead: SiteMarks.All.
const BookmarkSitesMax = 64

// Forms of the sites in a bookmark of version 2.
const (
	bookmarkMarks = 0 // a count, then for each site its number's distance to the one before, and its clock
	bookmarkAll   = 1 // nothing
)

// bookmarkText keeps the order of the bytes, so that the bookmarks of one tenant sort by age.
var bookmarkText = base32.HexEncoding.WithPadding(base32.NoPadding)

// SiteMark is the newest transaction of a site of conflict-free tables that was seen, and with it all before: the site's number
// and the reading of its clock (crr.HLC).
type SiteMark struct {
	Site  uint32
	Clock uint64
}

// SiteMarks is what was seen of conflict-free tables. The zero value saw nothing of them.
type SiteMarks struct {
	Marks []SiteMark // by ascending site; no zeros; nil with All
	All   bool       // something of more sites than a bookmark names: what any site had then
}

// None says whether nothing was seen.
func (s SiteMarks) None() bool { return !s.All && len(s.Marks) == 0 }

// MarksOf gives the marks of clocks by site.
func MarksOf(clocks map[uint32]uint64) SiteMarks {
	marks := make([]SiteMark, 0, len(clocks))
	for site, clock := range clocks {
		if site != 0 && clock != 0 {
			marks = append(marks, SiteMark{site, clock})
		}
	}
	switch {
	case len(marks) == 0:
		return SiteMarks{}
	case len(marks) > BookmarkSitesMax:
		return SiteMarks{All: true}
	}
	slices.SortFunc(marks, func(a, b SiteMark) int { return int(int64(a.Site) - int64(b.Site)) })
	return SiteMarks{Marks: marks}
}

// Join is what was seen by either.
func (s SiteMarks) Join(o SiteMarks) SiteMarks {
	switch {
	case s.All || o.All:
		return SiteMarks{All: true}
	case o.None():
		return s
	case s.None():
		return o
	}
	clocks := make(map[uint32]uint64, len(s.Marks)+len(o.Marks))
	for _, list := range [][]SiteMark{s.Marks, o.Marks} {
		for _, m := range list {
			clocks[m.Site] = max(clocks[m.Site], m.Clock)
		}
	}
	return MarksOf(clocks)
}

// Bookmark is the text that carries p. Of two bookmarks of one tenant the newer sorts later.
func Bookmark(p Pos) string { return BookmarkWith(p, SiteMarks{}) }

// BookmarkWith is the text that carries p and what was seen of conflict-free tables.
func BookmarkWith(p Pos, sites SiteMarks) string {
	return appendBookmark(p.Epoch, p.TXID, p.Checksum, p.Tenant[:8], sites)
}

func appendBookmark(epoch Epoch, tx TXID, sum Checksum, tenant []byte, sites SiteMarks) string {
	b := make([]byte, bookmarkSize, bookmarkSize+2+12*len(sites.Marks))
	b[0] = bookmarkVersion
	binary.BigEndian.PutUint32(b[1:], uint32(epoch))
	binary.BigEndian.PutUint64(b[5:], uint64(tx))
	copy(b[13:21], tenant)
	binary.BigEndian.PutUint64(b[21:], uint64(sum))
	switch {
	case sites.All:
		b[0] = bookmarkVersionSites
		b = append(b, bookmarkAll)
	case len(sites.Marks) > 0:
		b[0] = bookmarkVersionSites
		b = append(b, bookmarkMarks)
		b = binary.AppendUvarint(b, uint64(len(sites.Marks)))
		before := uint32(0)
		for _, m := range sites.Marks {
			b = binary.AppendUvarint(b, uint64(m.Site-before))
			b = binary.BigEndian.AppendUint64(b, m.Clock)
			before = m.Site
		}
	}
	return bookmarkText.EncodeToString(b)
}

// BookmarkPos is what a bookmark says: a position, half of its tenant's id, and what was seen of conflict-free tables.
type BookmarkPos struct {
	tenant   [8]byte
	Epoch    Epoch
	TXID     TXID
	Checksum Checksum
	Sites    SiteMarks
}

// SameTenant says whether the bookmark is of the tenant with the id.
func (p BookmarkPos) SameTenant(id TenantID) bool { return p.tenant == [8]byte(id[:8]) }

// String is the bookmark that says just that.
func (p BookmarkPos) String() string {
	return appendBookmark(p.Epoch, p.TXID, p.Checksum, p.tenant[:], p.Sites)
}

// ParseBookmark reads what Bookmark and BookmarkWith wrote; its error is BAD_BOOKMARK.
func ParseBookmark(s string) (BookmarkPos, error) {
	var p BookmarkPos
	if len(s) < bookmarkText.EncodedLen(bookmarkSize) {
		return p, NewError(CodeBadBookmark, "the bookmark has %d characters; one has at least %d", len(s), bookmarkText.EncodedLen(bookmarkSize))
	}
	b, err := bookmarkText.DecodeString(s)
	if err != nil {
		return p, NewError(CodeBadBookmark, "the bookmark is not one: %w", err)
	}
	switch rest := b[bookmarkSize:]; {
	case b[0] == bookmarkVersion && len(rest) == 0:
	case b[0] == bookmarkVersion:
		return p, NewError(CodeBadBookmark, "the bookmark has %d characters; one of its version has %d", len(s), bookmarkText.EncodedLen(bookmarkSize))
	case b[0] == bookmarkVersionSites:
		var ok bool
		if p.Sites, ok = parseMarks(rest); !ok {
			return BookmarkPos{}, NewError(CodeBadBookmark, "the bookmark is not as it was given out")
		}
	default:
		return p, NewError(CodeBadBookmark, "the bookmark has version %d; known are %d and %d", b[0], bookmarkVersion, bookmarkVersionSites)
	}
	p.Epoch = Epoch(binary.BigEndian.Uint32(b[1:]))
	p.TXID = TXID(binary.BigEndian.Uint64(b[5:]))
	copy(p.tenant[:], b[13:21])
	p.Checksum = Checksum(binary.BigEndian.Uint64(b[21:]))
	if p.String() != s {
		return BookmarkPos{}, NewError(CodeBadBookmark, "the bookmark is not as it was given out")
	}
	return p, nil
}

// parseMarks reads what is behind the position; that it is the one form of what it says is seen by writing it again.
func parseMarks(b []byte) (s SiteMarks, ok bool) {
	if bytes.Equal(b, []byte{bookmarkAll}) {
		return SiteMarks{All: true}, true
	}
	if len(b) < 2 || b[0] != bookmarkMarks {
		return s, false
	}
	count, n := binary.Uvarint(b[1:])
	if n <= 0 || count == 0 || count > BookmarkSitesMax {
		return s, false
	}
	b = b[1+n:]
	before := uint64(0)
	for range count {
		step, n := binary.Uvarint(b)
		if n <= 0 || step == 0 || step > 1<<32-1 || before+step > 1<<32-1 || len(b) < n+8 {
			return s, false
		}
		before += step
		m := SiteMark{uint32(before), binary.BigEndian.Uint64(b[n:])}
		if m.Clock == 0 {
			return s, false
		}
		s.Marks = append(s.Marks, m)
		b = b[n+8:]
	}
	return s, len(b) == 0
}

// JoinBookmarks is a bookmark that saw what either did: the later position, and what both saw of conflict-free tables. false: they
// are of different tenants, or one of them is none.
func JoinBookmarks(a, b string) (string, bool) {
	p, err := ParseBookmark(a)
	q, err2 := ParseBookmark(b)
	if err != nil || err2 != nil || p.tenant != q.tenant {
		return "", false
	}
	if p.Epoch < q.Epoch || p.Epoch == q.Epoch && p.TXID < q.TXID {
		p, q = q, p
	}
	p.Sites = p.Sites.Join(q.Sites)
	return p.String(), true
}
