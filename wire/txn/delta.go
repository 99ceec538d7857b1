package txn

import (
	"encoding/binary"
	"math/bits"
)

// maxPageSize is the largest page that SQLite has, in bytes.
const maxPageSize = 65536

// zeros is the previous version of a page that had none; never written.
var zeros [maxPageSize]byte

// minGap is how many equal bytes end a run: fewer are cheaper to repeat than a new run is to begin.
const minGap = 4

// appendDelta appends to dst the runs of bytes in which next differs from prev,
// which has the same length: for each run the bytes between it and the run before, its
// length, and its bytes. It gives up, and says so, beyond limit bytes.
func appendDelta(dst, prev, next []byte, limit int) (_ []byte, ok bool) {
	n := len(next)
	prev = prev[:n]
	begin := len(dst)
	last := 0 // end of the run before
	for i := 0; ; {
		i = firstDifference(prev, next, i)
		if i == n {
			return dst, true
		}
		end := runEnd(prev, next, i)
		if len(dst)-begin+end-i >= limit {
			return dst[:begin], false
		}
		dst = binary.AppendUvarint(dst, uint64(i-last))
		dst = binary.AppendUvarint(dst, uint64(end-i))
		dst = append(dst, next[i:end]...)
		if len(dst)-begin > limit {
			return dst[:begin], false
		}
		i, last = end, end
	}
}

// equalBlock is how many bytes are compared at once where they are likely equal: enough for the
// processor's widest instructions to be worth a call.
const equalBlock = 256

// firstDifference returns the first index from i on in which a and b differ,
// or their length.
func firstDifference(a, b []byte, i int) int {
	for i+equalBlock <= len(a) && i+equalBlock <= len(b) && string(a[i:i+equalBlock]) == string(b[i:i+equalBlock]) {
		i += equalBlock
	}
	for ; i+32 <= len(a) && i+32 <= len(b); i += 32 {
		p, q := a[i:i+32:i+32], b[i:i+32:i+32]
		if (binary.LittleEndian.Uint64(p)^binary.LittleEndian.Uint64(q))|
			(binary.LittleEndian.Uint64(p[8:])^binary.LittleEndian.Uint64(q[8:]))|
			(binary.LittleEndian.Uint64(p[16:])^binary.LittleEndian.Uint64(q[16:]))|
			(binary.LittleEndian.Uint64(p[24:])^binary.LittleEndian.Uint64(q[24:])) != 0 {
			break
		}
	}
	for ; i+8 <= len(a) && i+8 <= len(b); i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for ; i < len(a) && a[i] == b[i]; i++ {
	}
	return i
}

// runEnd returns the end of the run that begins at i, where a and b differ: after it
// come minGap equal bytes, or equal bytes to the end.
func runEnd(a, b []byte, i int) int {
	const low7 = 0x7f7f7f7f7f7f7f7f
	j := i + 1
	for j+8 <= len(a) && j+8 <= len(b) {
		x := binary.LittleEndian.Uint64(a[j:]) ^ binary.LittleEndian.Uint64(b[j:])
		equal := ^((x&low7 + low7) | x | low7) // the top bit of each byte that is zero in x
		// The bytes with which minGap equal ones begin.
		if gap := equal & (equal >> 8) & (equal >> 16) & (equal >> 24); gap != 0 {
			return j + bits.TrailingZeros64(gap)/8
		}
		j += 8 - minGap + 1
	}
	end := j
	for end > i+1 && a[end-1] == b[end-1] {
		end--
	}
	for j < len(a) {
		if a[j] != b[j] {
			j++
			end = j
			continue
		}
		if j++; j-end == minGap {
			break
		}
	}
	return end
}

// applyDelta writes the runs of delta over page.
func applyDelta(page, delta []byte) error {
	pos := 0
	for off := 0; off < len(delta); {
		gap, n := uvarint(delta[off:])
		if n == 0 || gap > uint64(len(page)-pos) {
			return formatErr(off, "bad gap in a delta")
		}
		off += n
		length, n := uvarint(delta[off:])
		if n == 0 || length == 0 || length > uint64(len(page)-pos)-gap {
			return formatErr(off, "bad length of a run in a delta")
		}
		off += n
		if length > uint64(len(delta)-off) {
			return formatErr(off, "delta ends within a run")
		}
		pos += int(gap)
		copy(page[pos:], delta[off:off+int(length)])
		pos += int(length)
		off += int(length)
	}
	return nil
}
