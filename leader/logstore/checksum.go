package logstore

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// checksum is a CRC32C of what raft gave us of an entry. It begins with the
// log's secret key, so that who chooses the contents of an entry can't make
// them look like entries of this log.
func (s *Store) checksum(log *raft.Log) uint32 {
	var b [17]byte
	binary.LittleEndian.PutUint64(b[0:], log.Index)
	binary.LittleEndian.PutUint64(b[8:], log.Term)
	b[16] = byte(log.Type)
	sum := crc32.Update(s.seed, castagnoli, b[:])
	sum = crc32.Update(sum, castagnoli, log.Data)
	return crc32.Update(sum, castagnoli, log.Extensions)
}

// trailerSize is what a stored entry has behind its Extensions: the checksum,
// and how many entries of its batch came before it, which it covers.
const trailerSize = 8

func (s *Store) appendTrailer(b []byte, log *raft.Log, before uint32) []byte {
	var place [4]byte
	binary.LittleEndian.PutUint32(place[:], before)
	b = binary.LittleEndian.AppendUint32(b, crc32.Update(s.checksum(log), castagnoli, place[:]))
	return append(b, place[:]...)
}

// verify checks a stored entry, and takes off its trailer. It returns the
// index of the first entry of its batch.
func (s *Store) verify(log *raft.Log) (batchFirst uint64, ok bool) {
	n := len(log.Extensions) - trailerSize
	if n < 0 {
		return 0, false
	}
	trailer := log.Extensions[n:]
	log.Extensions = log.Extensions[:n:n]
	if n == 0 {
		log.Extensions = nil
	}
	sum := crc32.Update(s.checksum(log), castagnoli, trailer[4:])
	before := uint64(binary.LittleEndian.Uint32(trailer[4:]))
	return log.Index - before, sum == binary.LittleEndian.Uint32(trailer) && before < log.Index
}

// own is an ownFunc.
func (s *Store) own(payload []byte) (batchFirst uint64, ok bool) {
	var log raft.Log
	if err := decodePayload(payload, &log); err != nil {
		return 0, false
	}
	return s.verify(&log)
}

// decodePayload decodes a payload that may be anything: raft-wal's decoder
// expects a whole one, and would fail on less in its own way.
func decodePayload(payload []byte, log *raft.Log) error {
	for i, rest := 0, payload; i < 3; i++ { // index, term, type
		_, n := binary.Uvarint(rest)
		if n <= 0 {
			return corrupt("payload without a header")
		}
		rest = rest[n:]
		if i < 2 {
			continue
		}
		for range 2 { // data, extensions
			size, n := binary.Uvarint(rest)
			if n <= 0 || size > uint64(len(rest)-n) {
				return corrupt("payload of %d bytes", len(payload))
			}
			rest = rest[n+int(size):]
		}
	}
	return (&wal.BinaryCodec{}).Decode(payload, log)
}
