package txn

import (
	"encoding/binary"
	"hash/crc32"
	"hash/crc64"
	"math/bits"

	"github.com/nearsql/nearsql/wire"
)

// castagnoli is the table of CRC-32C; never written.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// UpdateCRC adds b to the CRC-32C crc, as Header.BodyCRC uses it; start with 0.
func UpdateCRC(crc uint32, b []byte) uint32 { return crc32.Update(crc, castagnoli, b) }

// PageSum is LTX's sum of one page: bit 63, and the CRC-64/ISO of the page
// number (big-endian) and the page's bytes. It does not allocate.
//
// The polynomial of CRC-64/ISO is x^64 + x^4 + x^3 + x + 1, so that a step of 64 bits,
// a multiplication by x^64, is one by q = x^4 + x^3 + x + 1: four shifts, and four
// more for what overflows, instead of eight table look-ups. Four interleaved sums
// that step by q^4 = x^16 + x^12 + x^4 + 1 keep the processor's units busy.
func PageSum(pgno uint32, data []byte) wire.Checksum {
	// All ones, then 32 bits of page number. The state is reflected: bit 63 is x^0.
	s := ^uint64(0) ^ uint64(bits.ReverseBytes32(pgno))
	s = s>>32 ^ reduce(s<<32)
	if len(data) >= 32 {
		s, data = sumBlocks(s, data)
	}
	if len(data) > 0 { // never for a page
		return wire.Checksum(crc64.Update(^s, crc64.MakeTable(crc64.ISO), data)) | wire.ChecksumFlag
	}
	return wire.Checksum(^s) | wire.ChecksumFlag
}

// sumBlocks adds the whole blocks of 32 bytes of data to the state s and
// returns what is left of data.
func sumBlocks(s uint64, data []byte) (uint64, []byte) {
	s0 := s ^ binary.LittleEndian.Uint64(data[0:8])
	s1 := binary.LittleEndian.Uint64(data[8:16])
	s2 := binary.LittleEndian.Uint64(data[16:24])
	s3 := binary.LittleEndian.Uint64(data[24:32])
	data = data[32:]
	for len(data) >= 32 {
		s0 = timesQ4(s0) ^ binary.LittleEndian.Uint64(data[0:8])
		s1 = timesQ4(s1) ^ binary.LittleEndian.Uint64(data[8:16])
		s2 = timesQ4(s2) ^ binary.LittleEndian.Uint64(data[16:24])
		s3 = timesQ4(s3) ^ binary.LittleEndian.Uint64(data[24:32])
		data = data[32:]
	}
	s = timesQ(timesQ(timesQ(timesQ(s0)^s1)^s2) ^ s3)
	return s, data
}

// changedSum is PageSum of next, from the sum of prev, which is the same page before, and the delta
// between them: it reads what changed alone.
//
// The sum is linear: two sums differ by the sum of the difference of their pages, begun with 0, since
// beginning and page number are the same. Bit 63, which every sum has set, falls out of the difference.
func changedSum(sum wire.Checksum, delta, prev, next []byte) wire.Checksum {
	var s uint64
	done, pos := 0, 0 // words of 64 bits that are in s, and bytes of the page that the delta has told of
	for len(delta) > 0 {
		gap, n := uvarint(delta)
		delta = delta[n:]
		length, n := uvarint(delta)
		delta = delta[n+int(length):]
		begin := pos + int(gap)
		pos = begin + int(length)
		if word := begin / 8; word > done {
			s = timesQn(s, word-done)
			done = word
		}
		for ; done*8 < pos; done++ {
			s = timesQ(s ^ binary.LittleEndian.Uint64(prev[done*8:]) ^ binary.LittleEndian.Uint64(next[done*8:]))
		}
	}
	return sum ^ wire.Checksum(timesQn(s, len(next)/8-done)) | wire.ChecksumFlag
}

// reduce multiplies by q what has overflowed: bit 63 of over is x^64. At most 60 bits of it are in use.
func reduce(over uint64) uint64 { return over ^ over>>1 ^ over>>3 ^ over>>4 }

func timesQ(s uint64) uint64 {
	return s ^ s>>1 ^ s>>3 ^ s>>4 ^ reduce(s<<63^s<<61^s<<60)
}

func timesQ4(s uint64) uint64 {
	return s ^ s>>4 ^ s>>12 ^ s>>16 ^ reduce(s<<60^s<<52^s<<48)
}

// timesQ8 multiplies by q^8 = x^32 + x^24 + x^8 + 1.
func timesQ8(s uint64) uint64 {
	return s ^ s>>8 ^ s>>24 ^ s>>32 ^ reduce(s<<56^s<<40^s<<32)
}

// timesQ32 multiplies by q^32 = x^36 + x^35 + x^33 + x^8 + x^6 + x^2.
func timesQ32(s uint64) uint64 {
	return s>>2 ^ s>>6 ^ s>>8 ^ s>>33 ^ s>>35 ^ s>>36 ^ reduce(s<<62^s<<58^s<<56^s<<31^s<<29^s<<28)
}

// timesQn multiplies by q^n.
func timesQn(s uint64, n int) uint64 {
	for ; n >= 32; n -= 32 {
		s = timesQ32(s)
	}
	for ; n >= 8; n -= 8 {
		s = timesQ8(s)
	}
	if n >= 4 {
		s = timesQ4(s)
		n -= 4
	}
	for ; n > 0; n-- {
		s = timesQ(s)
	}
	return s
}
