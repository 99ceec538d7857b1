package wire

import (
	"encoding/base32"
	"encoding/binary"
)

// bookmarkVersion is the first byte of a bookmark.
const bookmarkVersion = 1

// bookmarkSize is the length of a bookmark's bytes: version, epoch, TXID, the first 8 bytes of the
// tenant's id, checksum.
const bookmarkSize = 1 + 4 + 8 + 8 + 8

// bookmarkText keeps the order of the bytes, so that the bookmarks of one tenant sort by age.
var bookmarkText = base32.HexEncoding.WithPadding(base32.NoPadding)

// Bookmark is the text that carries p. Of two bookmarks of one tenant the newer sorts later.
func Bookmark(p Pos) string {
	var b [bookmarkSize]byte
	b[0] = bookmarkVersion
	binary.BigEndian.PutUint32(b[1:], uint32(p.Epoch))
	binary.BigEndian.PutUint64(b[5:], uint64(p.TXID))
	copy(b[13:21], p.Tenant[:8])
	binary.BigEndian.PutUint64(b[21:], uint64(p.Checksum))
	return bookmarkText.EncodeToString(b[:])
}

// BookmarkPos is what a bookmark says: a position, and half of its tenant's id.
type BookmarkPos struct {
	tenant   [8]byte
	Epoch    Epoch
	TXID     TXID
	Checksum Checksum
}

// SameTenant says whether the bookmark is of the tenant with the id.
func (p BookmarkPos) SameTenant(id TenantID) bool { return p.tenant == [8]byte(id[:8]) }

// ParseBookmark reads what Bookmark wrote; its error is BAD_BOOKMARK.
func ParseBookmark(s string) (BookmarkPos, error) {
	var p BookmarkPos
	if len(s) != bookmarkText.EncodedLen(bookmarkSize) {
		return p, NewError(CodeBadBookmark, "the bookmark has %d characters; one has %d", len(s), bookmarkText.EncodedLen(bookmarkSize))
	}
	b, err := bookmarkText.DecodeString(s)
	if err != nil {
		return p, NewError(CodeBadBookmark, "the bookmark is not one: %w", err)
	}
	if b[0] != bookmarkVersion {
		return p, NewError(CodeBadBookmark, "the bookmark has version %d; known is %d", b[0], bookmarkVersion)
	}
	if bookmarkText.EncodeToString(b) != s {
		return p, NewError(CodeBadBookmark, "the bookmark is not as it was given out")
	}
	p.Epoch = Epoch(binary.BigEndian.Uint32(b[1:]))
	p.TXID = TXID(binary.BigEndian.Uint64(b[5:]))
	copy(p.tenant[:], b[13:21])
	p.Checksum = Checksum(binary.BigEndian.Uint64(b[21:]))
	return p, nil
}
