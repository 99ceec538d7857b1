package txn

import (
	"encoding/binary"
	"math/bits"
)

const (
	lz4MinMatch = 4 // the shortest match of the format
	// lz4End is how many bytes before the end no match begins any more, and none is made longer. The format
	// wants 12 and 5; that we keep off by two more is what entries have always looked like.
	lz4End = 14
)

// lz4HashBits is the size of the table of earlier positions: at two bytes each it stays in the processor's
// first cache, where a table for 64 KiB costs more in misses than a page of 4 KiB takes to compress.
const lz4HashBits = 12

// appendLZ4 appends src, of at most maxPageSize bytes, to dst as one LZ4 block
// (https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md). It gives up, and says so, when the
// block would take limit bytes or more.
func appendLZ4(dst, src []byte, limit int) (_ []byte, ok bool) {
	var table [1 << lz4HashBits]uint16 // the newest position that had the hash; position 0 if none had
	begin, anchor := len(dst), 0       // src[:anchor] is in dst
	end := len(src) - lz4End
	for si := 1; si < end; {
		v := binary.LittleEndian.Uint64(src[si:])
		h := (v << 24) * 889523592379 >> (64 - lz4HashBits) // of five bytes, by LZ4's own prime
		ref := int(table[h])
		table[h] = uint16(si)
		if binary.LittleEndian.Uint32(src[ref:]) != uint32(v) {
			si += 1 + (si-anchor)>>6 // faster where nothing is found
			continue
		}
		// Forward first: so the match reaches beyond si however far back it begins, and no position is looked
		// at twice, where it would be found to equal itself.
		n := lz4MinMatch + equalLength(src, ref+lz4MinMatch, si+lz4MinMatch, end)
		for si > anchor && ref > 0 && src[si-1] == src[ref-1] {
			si, ref, n = si-1, ref-1, n+1
		}
		if len(dst)-begin+si-anchor >= limit {
			return dst[:begin], false
		}
		dst = appendSequence(dst, src[anchor:si], n-lz4MinMatch)
		dst = binary.LittleEndian.AppendUint16(dst, uint16(si-ref))
		if n -= lz4MinMatch; n >= 15 {
			dst = appendLength(dst, n-15)
		}
		si += n + lz4MinMatch
		anchor = si
		if si < end { // so that what repeats at once is found at once
			v := binary.LittleEndian.Uint64(src[si-2:])
			table[(v<<24)*889523592379>>(64-lz4HashBits)] = uint16(si - 2)
		}
	}
	if len(dst)-begin+len(src)-anchor >= limit {
		return dst[:begin], false
	}
	dst = appendSequence(dst, src[anchor:], 0)
	if len(dst)-begin >= limit {
		return dst[:begin], false
	}
	return dst, true
}

// appendSequence appends the token of a sequence and its literals; match is the length of the match that
// follows, above the shortest.
func appendSequence(dst, literals []byte, match int) []byte {
	n := len(literals)
	dst = append(dst, byte(min(n, 15)<<4|min(match, 15)))
	if n >= 15 {
		dst = appendLength(dst, n-15)
	}
	return append(dst, literals...)
}

// appendLength appends what a length is above that of the token.
func appendLength(dst []byte, n int) []byte {
	for ; n >= 255; n -= 255 {
		dst = append(dst, 255)
	}
	return append(dst, byte(n))
}

// equalLength is how many bytes from i and from j on, which is larger, are equal; it looks at eight at a
// time, while those end before end.
func equalLength(src []byte, i, j, end int) int {
	n := 0
	for ; j+n+8 < end; n += 8 {
		if x := binary.LittleEndian.Uint64(src[i+n:]) ^ binary.LittleEndian.Uint64(src[j+n:]); x != 0 {
			return n + bits.TrailingZeros64(x)/8
		}
	}
	return n
}
