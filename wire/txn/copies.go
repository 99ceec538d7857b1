package txn

import "encoding/binary"

const (
	// copyMin is how many bytes a copy has at least: with fewer there is little to gain, and much found by chance.
	copyMin = 8
	// copyFrom is the length of a run, or of what is left of it, that is worth a look for copies.
	copyFrom = 24
	// pointerSize is the length of an entry of a b-tree page's cell pointer array (SQLite's file format, section 1.6), by which all entries
	// behind a cell that comes or goes move.
	pointerSize = 2
	// copyAway is how many pointers farther away than the last one a copy is looked for.
	copyAway = 8
)

// appendCopies appends to dst what delta, which is that of prev and next, says, in the form of EncodingCopies. It gives up, and says so, when that
// is not shorter than limit.
//
// When a row comes into the middle of a page of a b-tree, or goes, the pointers to all behind it move by their length. Those are most of the
// bytes that differ, and all of them are there, two bytes away; behind another row, four, and so on.
func appendCopies(dst, delta, prev, next []byte, limit int) (_ []byte, ok bool) {
	prev = prev[:len(next)]
	begin := len(dst)
	last, distance := 0, 0 // end of the run before; of the last copy
	for pos, at := 0, 0; len(delta) > 0; {
		gap, n := uvarint(delta)
		delta = delta[n:]
		length, n := uvarint(delta)
		delta = delta[n+int(length):]
		start := pos + int(gap)
		pos = start + int(length)
		at = max(at, start)
		for at < pos {
			from, size, source := pos, 0, 0
			if pos-at >= copyFrom {
				from, size, source = findCopy(prev, next, at, pos, distance)
			}
			if from > at {
				dst = appendBytes(dst, at-last, next[at:from])
				last, at = from, from
			}
			if size > 0 {
				distance = source - from
				dst = binary.AppendUvarint(dst, uint64(from-last))
				dst = binary.AppendUvarint(dst, uint64(size)<<1|1)
				dst = binary.AppendVarint(dst, int64(distance))
				at += size
				last = at
			}
		}
		if len(dst)-begin >= limit {
			return dst[:begin], false
		}
	}
	return dst, true
}

// appendBytes appends a run that has its bytes with it.
func appendBytes(dst []byte, gap int, run []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(gap))
	dst = binary.AppendUvarint(dst, uint64(len(run))<<1)
	return append(dst, run...)
}

// findCopy looks for bytes between at and end of next that are in prev, about as far away as distance says. It looks behind the first pointer, and
// at points that are twice as far away each: so it finds long copies, and soon gives up where there are none. size is 0 then, and from is end.
func findCopy(prev, next []byte, at, end, distance int) (from, size, source int) {
	const around = copyAway * pointerSize
	for step := pointerSize; at+step+copyMin <= end; step *= 2 {
		x := at + step
		y := x + distance - around
		if y < 0 || y+2*around+copyMin > len(prev) {
			continue
		}
		word := binary.LittleEndian.Uint64(next[x:])
		window := prev[y : y+2*around+copyMin]
		found, nearest := -1, 2*around
		for i := 0; i <= 2*around; i += pointerSize {
			if binary.LittleEndian.Uint64(window[i:]) == word {
				if away := max(i-around, around-i); away < nearest && y+i != x {
					found, nearest = i, away
				}
			}
		}
		if found < 0 {
			continue
		}
		y += found
		n := min(len(next)-x, len(prev)-y)
		size = firstDifference(next[x:x+n], prev[y:y+n], copyMin)
		for x > at && y > 0 && next[x-1] == prev[y-1] {
			x, y, size = x-1, y-1, size+1
		}
		return x, size, y
	}
	return end, 0, 0
}

// applyCopies writes the runs of data over page, which is a copy of prev and apart from it.
func applyCopies(page, prev, data []byte) error {
	pos := 0
	for off := 0; off < len(data); {
		gap, n := uvarint(data[off:])
		if n == 0 || gap > uint64(len(page)-pos) {
			return formatErr(off, "bad gap in a delta")
		}
		off += n
		v, n := uvarint(data[off:])
		length := v >> 1
		if n == 0 || length == 0 || length > uint64(len(page)-pos)-gap {
			return formatErr(off, "bad length of a run in a delta")
		}
		off += n
		pos += int(gap)
		run := page[pos : pos+int(length)]
		if v&1 == 0 {
			if length > uint64(len(data)-off) {
				return formatErr(off, "delta ends within a run")
			}
			off += copy(run, data[off:])
		} else {
			u, n := uvarint(data[off:])
			distance := int64(u>>1) ^ -int64(u&1)
			source := int64(pos) + distance
			if n == 0 || distance == 0 || source < 0 || source > int64(len(prev)-len(run)) {
				return formatErr(off, "bad distance of a copy in a delta")
			}
			off += n
			copy(run, prev[source:])
		}
		pos += int(length)
	}
	return nil
}

// applyCopiesInPlace is applyCopies where page is the previous version itself.
func applyCopiesInPlace(page, data []byte) error {
	var room [4096]byte // of the usual page
	prev := room[:]
	if len(page) > len(prev) {
		prev = make([]byte, len(page))
	}
	return applyCopies(page, prev[:copy(prev, page)], data)
}
