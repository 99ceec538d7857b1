package logstore

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"sync"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// filer is raft-wal's, but opens segments without an index too: those whose
// end was deleted while they were the tail. And it knows when a segment is
// sealed but the next one is not there yet.
type filer struct {
	*segment.Filer
	vfs *vfs
	dir string

	mu struct {
		sync.Mutex
		rotated chan struct{} // not nil while a rotation is due or under way
	}
}

func newFiler(dir string, v *vfs) *filer {
	return &filer{Filer: segment.NewFiler(dir, v), vfs: v, dir: dir}
}

// Create implements types.SegmentFiler.
func (f *filer) Create(info types.SegmentInfo) (types.SegmentWriter, error) {
	w, err := f.Filer.Create(info)
	if err != nil {
		return nil, f.vfs.fail(err)
	}
	f.mu.Lock()
	if f.mu.rotated != nil {
		close(f.mu.rotated)
		f.mu.rotated = nil
	}
	f.mu.Unlock()
	return &writer{SegmentWriter: w, filer: f}, nil
}

// RecoverTail implements types.SegmentFiler.
func (f *filer) RecoverTail(info types.SegmentInfo) (types.SegmentWriter, error) {
	w, err := f.Filer.RecoverTail(info)
	if err != nil {
		return nil, err
	}
	return &writer{SegmentWriter: w, filer: f}, nil
}

// awaitRotation waits until no rotation is due, or failed is closed.
func (f *filer) awaitRotation(failed <-chan struct{}) error {
	f.mu.Lock()
	rotated := f.mu.rotated
	f.mu.Unlock()
	if rotated == nil {
		return nil
	}
	select {
	case <-rotated: // raft-wal still holds its lock until the rotation is complete
		return nil
	case <-failed:
		return errRotation
	}
}

// errRotation is told where a Store's first error says more.
var errRotation = errors.New("log segment was not rotated")

// writer tells the filer when its segment is sealed.
type writer struct {
	types.SegmentWriter
	filer *filer
}

// Sealed implements types.SegmentWriter; raft-wal asks after each append.
func (w *writer) Sealed() (bool, uint64, error) {
	sealed, indexStart, err := w.SegmentWriter.Sealed()
	if sealed && err == nil {
		w.filer.mu.Lock()
		if w.filer.mu.rotated == nil {
			w.filer.mu.rotated = make(chan struct{})
		}
		w.filer.mu.Unlock()
	}
	return sealed, indexStart, err
}

// Open implements types.SegmentFiler.
func (f *filer) Open(info types.SegmentInfo) (types.SegmentReader, error) {
	if info.IndexStart != 0 {
		return f.Filer.Open(info)
	}
	file, err := f.vfs.openFile(f.dir, segment.FileName(info), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	r, err := openUnindexed(info, file)
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return r, nil
}

// unindexed reads a segment by the offsets that a scan found.
type unindexed struct {
	info    types.SegmentInfo
	file    *segmentFile
	offsets []uint32
}

func openUnindexed(info types.SegmentInfo, file *segmentFile) (*unindexed, error) {
	want := uint64(0)
	if info.MaxIndex >= info.BaseIndex {
		want = info.MaxIndex - info.BaseIndex + 1
	}
	if want > math.MaxUint32/frameHeader {
		return nil, corrupt("segment of %d entries", want)
	}
	var offsets []uint32
	for end := int64(0); uint64(len(offsets)) < want; {
		b, err := readBatch(file, end, segmentMax)
		if err != nil {
			return nil, err
		}
		if !b.whole {
			return nil, corrupt("segment %s holds %d entries of %d", segment.FileName(info), len(offsets), want)
		}
		offsets, end = append(offsets, b.offsets...), b.end
	}
	var h [segmentHeader]byte
	if want > 0 {
		if err := readFull(file, h[:], 0); err != nil {
			return nil, err
		}
		if base, id := binary.LittleEndian.Uint64(h[8:]), binary.LittleEndian.Uint64(h[16:]); base != info.BaseIndex || id != info.ID {
			return nil, corrupt("segment %s begins at %d and has the number %d", segment.FileName(info), base, id)
		}
	}
	return &unindexed{info: info, file: file, offsets: offsets[:want]}, nil
}

// GetLog implements types.SegmentReader.
func (u *unindexed) GetLog(index uint64) (*types.PooledBuffer, error) {
	if index < u.info.MinIndex || index > u.info.MaxIndex || index-u.info.BaseIndex >= uint64(len(u.offsets)) {
		return nil, types.ErrNotFound
	}
	payload, err := readPayload(u.file, u.offsets[index-u.info.BaseIndex])
	if err != nil {
		return nil, err
	}
	return &types.PooledBuffer{Bs: payload}, nil
}

// Close implements types.SegmentReader.
func (u *unindexed) Close() error { return u.file.Close() }

var _ io.Closer = (*unindexed)(nil)
