package txn

import "encoding/binary"

// uvarint reads an unsigned varint (LEB128) from b. n is its length, or 0 if b
// ends within it, it has more than 64 bits, or it is longer than it need be:
// each number has one encoding.
func uvarint(b []byte) (v uint64, n int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	v, n = binary.Uvarint(b)
	if n <= 0 || b[n-1] == 0 {
		return 0, 0
	}
	return v, n
}
