package logstore

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/hashicorp/raft-wal/types"
)

// The format is FORMAT.md's.
const (
	metaMagic   = "nsqlmeta"
	metaVersion = 1
	metaHeader  = 24 // bytes

	recordHeader = 20 // length, checksum, sequence number, kind
	recordLog    = 1
	recordStable = 2

	segmentSize = 72 // bytes of one segment in a record
	stableMax   = 4096
	recordMax   = 16 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// metaRecord is one change: of the list of segments, or of a stable value,
// nil to delete it.
type metaRecord struct {
	seq   uint64
	kind  uint32
	log   types.PersistentState
	key   []byte
	value []byte
}

func appendMetaHeader(b []byte, key uint64) []byte {
	start := len(b)
	b = append(b, metaMagic...)
	b = binary.LittleEndian.AppendUint32(b, metaVersion)
	b = binary.LittleEndian.AppendUint64(b, key)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func (r metaRecord) appendTo(b []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, 8)...)
	b = binary.LittleEndian.AppendUint64(b, r.seq)
	b = binary.LittleEndian.AppendUint32(b, r.kind)
	switch r.kind {
	case recordLog:
		b = binary.LittleEndian.AppendUint64(b, r.log.NextSegmentID)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(r.log.Segments)))
		for i := range r.log.Segments {
			b = appendSegment(b, &r.log.Segments[i])
		}
	case recordStable:
		b = binary.LittleEndian.AppendUint32(b, uint32(len(r.key)))
		b = append(b, r.key...)
		if r.value == nil {
			b = append(b, 0)
			break
		}
		b = append(b, 1)
		b = append(b, r.value...)
	}
	binary.LittleEndian.PutUint32(b[start:], uint32(len(b)-start))
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(b[start+8:], castagnoli))
	return b
}

func appendSegment(b []byte, s *types.SegmentInfo) []byte {
	for _, v := range [...]uint64{s.ID, s.BaseIndex, s.MinIndex, s.MaxIndex, s.Codec, s.IndexStart, nanos(s.CreateTime), nanos(s.SealTime), uint64(s.SizeLimit)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// nanos is a time as stored: nanoseconds since 1970, 0 for none.
func nanos(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixNano())
}

func fromNanos(n uint64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(n))
}

// decodeMeta reads a metadata file. A record at the end that is not whole was
// being appended at a crash and counts as not there; one before the end is damage.
func decodeMeta(b []byte) (metaState, error) {
	s := metaState{stable: make(map[string][]byte)}
	if len(b) < metaHeader || string(b[:8]) != metaMagic {
		return s, corrupt("no metadata header")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != metaVersion {
		return s, corrupt("metadata version %d, want %d", v, metaVersion)
	}
	if crc32.Checksum(b[:20], castagnoli) != binary.LittleEndian.Uint32(b[20:]) {
		return s, corrupt("checksum of the metadata header")
	}
	s.key = binary.LittleEndian.Uint64(b[12:])
	for off := metaHeader; off < len(b); {
		r, n, err := decodeRecord(b[off:])
		if err != nil {
			if at := findRecord(b[off+1:], s.seq); at >= 0 {
				return s, corrupt("metadata record at %d, before a whole one at %d: %v", off, off+1+at, err)
			}
			break
		}
		if r.seq < s.seq {
			return s, corrupt("metadata record %d after %d", r.seq, s.seq)
		}
		s.seq = r.seq
		switch r.kind {
		case recordLog:
			s.log = r.log
		case recordStable:
			s.setStable(r.key, r.value)
		}
		off += n
	}
	return s, nil
}

// decodeRecord reads the record at the start of b and returns its length.
func decodeRecord(b []byte) (r metaRecord, n int, err error) {
	if len(b) < recordHeader {
		return r, 0, corrupt("record of %d bytes", len(b))
	}
	length := binary.LittleEndian.Uint32(b)
	if length < recordHeader || length > recordMax || int(length) > len(b) {
		return r, 0, corrupt("record length %d of %d", length, len(b))
	}
	n = int(length)
	if crc32.Checksum(b[8:n], castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return r, 0, corrupt("checksum of a record")
	}
	r.seq, r.kind = binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint32(b[16:])
	body := b[recordHeader:n]
	switch r.kind {
	case recordLog:
		r.log, err = decodeSegments(body)
	case recordStable:
		r.key, r.value, err = decodeStable(body)
	default:
		err = corrupt("record of unknown kind %d", r.kind)
	}
	return r, n, err
}

func decodeSegments(b []byte) (types.PersistentState, error) {
	var s types.PersistentState
	if len(b) < 12 {
		return s, corrupt("list of segments of %d bytes", len(b))
	}
	s.NextSegmentID = binary.LittleEndian.Uint64(b)
	n := int(binary.LittleEndian.Uint32(b[8:]))
	b = b[12:]
	if len(b) != n*segmentSize {
		return s, corrupt("%d segments in %d bytes", n, len(b))
	}
	for ; len(b) > 0; b = b[segmentSize:] {
		field := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
		if field(8) > 1<<31 {
			return s, corrupt("segment size limit %d", field(8))
		}
		s.Segments = append(s.Segments, types.SegmentInfo{
			ID: field(0), BaseIndex: field(1), MinIndex: field(2), MaxIndex: field(3), Codec: field(4),
			IndexStart: field(5), CreateTime: fromNanos(field(6)), SealTime: fromNanos(field(7)), SizeLimit: uint32(field(8)),
		})
	}
	return s, nil
}

func decodeStable(b []byte) (key, value []byte, err error) {
	if len(b) < 5 {
		return nil, nil, corrupt("stable value of %d bytes", len(b))
	}
	n := binary.LittleEndian.Uint32(b)
	b = b[4:]
	if n > stableMax || int(n) >= len(b) || len(b)-int(n)-1 > stableMax {
		return nil, nil, corrupt("stable key of %d bytes", n)
	}
	key = b[:n]
	switch rest := b[n+1:]; {
	case b[n] == 0 && len(rest) == 0:
		return key, nil, nil
	case b[n] == 1:
		return key, rest, nil
	}
	return nil, nil, corrupt("stable value of kind %d", b[n])
}

// findRecord returns where in b a whole record with a number above seq begins, or -1.
func findRecord(b []byte, seq uint64) int {
	for off := 0; off+recordHeader <= len(b); off++ {
		// Length and number first: the checksum is dear, and can only fit where these do.
		length := binary.LittleEndian.Uint32(b[off:])
		if length < recordHeader || length > recordMax || int(length) > len(b)-off {
			continue
		}
		if next := binary.LittleEndian.Uint64(b[off+8:]); next <= seq || next > seq+1<<20 {
			continue
		}
		if _, _, err := decodeRecord(b[off:]); err == nil {
			return off
		}
	}
	return -1
}
