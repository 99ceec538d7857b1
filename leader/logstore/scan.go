package logstore

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// The frames of a raft-wal segment, version 0.
const (
	segmentHeader = 32
	frameHeader   = 8

	frameNone   = 0
	frameEntry  = 1
	frameIndex  = 2
	frameCommit = 3

	// segmentMax bounds a segment: raft-wal's offsets have 32 bits.
	segmentMax = 1 << 32
)

// scanned is what a segment holds up to the end of its last whole batch.
type scanned struct {
	offsets    []uint32 // of the entries' frames
	end        int64    // behind the last whole batch; 0 for none
	last       int64    // where the last whole batch begins
	indexStart int64    // of the index's body, if the segment was sealed; else 0
	dirty      bool     // there is something behind end
}

// checkWorkMax bounds the bytes whose checksums checkRest computes: who fills
// entries with what looks like frames could make it endless.
const checkWorkMax = 1 << 30

// ownFunc says whether the payload of an entry was written by this log
// (payloads may hold bytes that look like frames), and the index of the first
// entry of the batch that it was written in.
type ownFunc func(payload []byte) (batchFirst uint64, ok bool)

// scan reads a segment of size bytes whose first entry has the index base.
//
// A batch is frames that end in a commit frame with the checksum of them all.
// Batches are synced one by one, so that only the last one may be torn by a
// crash: a batch that is not whole with entries of a later one behind it is
// damage.
func scan(r io.ReaderAt, size int64, base uint64, own ownFunc) (scanned, error) {
	var s scanned
	if size > segmentMax {
		return s, corrupt("segment of %d bytes", size)
	}
	for {
		b, err := readBatch(r, s.end, size)
		if err != nil {
			return s, err
		}
		if !b.whole {
			break
		}
		s.offsets = append(s.offsets, b.offsets...)
		s.last, s.end = s.end, b.end
		if b.indexStart > 0 {
			s.indexStart = b.indexStart
			break // nothing follows a seal
		}
	}
	next := base + uint64(len(s.offsets))
	damaged, err := s.checkRest(r, size, next, own)
	if err != nil {
		return s, err
	}
	if damaged {
		return s, corrupt("the batch at %d, from entry %d, is damaged, and a later one is there", s.end, next)
	}
	return s, nil
}

// batch is one batch of frames.
type batch struct {
	whole      bool
	end        int64
	offsets    []uint32
	indexStart int64
}

// readBatch reads the batch at start: the first one begins with the segment's header.
func readBatch(r io.ReaderAt, start, size int64) (batch, error) {
	var b batch
	br := bufio.NewReaderSize(io.NewSectionReader(r, start, size-start), 64<<10)
	var sum uint32
	skip := func(n int64) (ok bool, err error) {
		for n > 0 {
			part, err := br.Peek(int(min(n, 64<<10)))
			if errors.Is(err, io.EOF) {
				return false, nil
			}
			if err != nil {
				return false, err
			}
			sum = crc32.Update(sum, castagnoli, part)
			_, _ = br.Discard(len(part)) // peeked: it is there
			n -= int64(len(part))
		}
		return true, nil
	}
	at := start
	if start == 0 {
		ok, err := skip(segmentHeader)
		if !ok || err != nil {
			return b, err
		}
		at = segmentHeader
	}
	for {
		h, err := br.Peek(frameHeader)
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return b, err
		}
		kind, n := binary.LittleEndian.Uint32(h), binary.LittleEndian.Uint32(h[4:])
		switch kind {
		case frameEntry:
			b.offsets = append(b.offsets, uint32(at))
		case frameIndex:
			b.indexStart = at + frameHeader
		case frameCommit:
			b.whole = n == sum
			b.end = at + frameHeader
			return b, nil
		default:
			return b, nil
		}
		length := frameHeader + (int64(n)+frameHeader-1)&^(frameHeader-1)
		if ok, err := skip(length); !ok || err != nil {
			return b, err
		}
		at += length
	}
}

// checkRest looks at what follows the last whole batch: is there anything, and
// an entry of a later batch than the one that begins with entry next?
func (s *scanned) checkRest(r io.ReaderAt, size int64, next uint64, own ownFunc) (damaged bool, err error) {
	const window = 64 << 10
	buf := make([]byte, window)
	work := 0
	for off := s.end; off < size; off += window {
		n, err := r.ReadAt(buf[:min(window, size-off)], off)
		if err != nil && err != io.EOF {
			return false, err
		}
		for i := 0; i < n; i += frameHeader {
			word := buf[i:min(i+frameHeader, n)]
			if allZero(word) {
				continue
			}
			s.dirty = true
			if len(word) < frameHeader || binary.LittleEndian.Uint32(word) != frameEntry || work > checkWorkMax {
				continue
			}
			length := int64(binary.LittleEndian.Uint32(word[4:]))
			at := off + int64(i) + frameHeader
			if length > payloadMax || length > size-at {
				continue
			}
			payload := make([]byte, length)
			if err := readFull(r, payload, at); err != nil {
				return false, err
			}
			work += len(payload)
			if first, ok := own(payload); ok && first > next {
				return true, nil
			}
		}
	}
	return false, nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// readPayload reads the payload of the frame at off.
func readPayload(r io.ReaderAt, off uint32) ([]byte, error) {
	var h [frameHeader]byte
	if err := readFull(r, h[:], int64(off)); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(h[4:])
	if h[0] != frameEntry || n > payloadMax {
		return nil, corrupt("frame of kind %d and %d bytes at %d, want an entry", h[0], n, off)
	}
	payload := make([]byte, n)
	if err := readFull(r, payload, int64(off)+frameHeader); err != nil {
		return nil, err
	}
	return payload, nil
}

// readFull is ReadAt where the end of the file is damage.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == io.EOF {
		return corrupt("%d bytes at %d, want %d", n, off, len(p))
	}
	return err
}
