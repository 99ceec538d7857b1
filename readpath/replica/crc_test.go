package replica_test

import (
	"encoding/binary"
	"hash/crc32"
)

// fixCRC makes the CRC of a frame fit its bytes.
func fixCRC(b []byte) {
	end := len(b) - 4
	binary.BigEndian.PutUint32(b[end:], crc32.Checksum(b[:end], crc32.MakeTable(crc32.Castagnoli)))
}
