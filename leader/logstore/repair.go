package logstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/nearsql/nearsql/disk"
)

// repairTail makes the newest segment what raft-wal expects of it: nothing
// behind the last whole batch, everything before that durable, and not sealed
// unless the metadata says so. It reports whether it changed the metadata.
func repairTail(fsys disk.FS, dir string, st *types.PersistentState, own ownFunc) (changed bool, err error) {
	if len(st.Segments) == 0 {
		return false, nil
	}
	tail := &st.Segments[len(st.Segments)-1]
	if !tail.SealTime.IsZero() {
		return false, nil
	}
	name := filepath.Join(dir, segment.FileName(*tail))
	f, err := fsys.OpenFile("log.repair", name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // never synced, so nothing was ever answered from it; raft-wal makes it anew
	}
	if err != nil {
		return false, err
	}
	s, err := repairFile(fsys, dir, f, tail, own)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	if s.indexStart == 0 {
		return false, nil
	}
	// The crash came between the seal and the metadata: finish the rotation.
	now := time.Now()
	tail.SealTime = now
	tail.MaxIndex = tail.BaseIndex + uint64(len(s.offsets)) - 1
	tail.IndexStart = uint64(s.indexStart)
	st.Segments = append(st.Segments, types.SegmentInfo{
		ID: st.NextSegmentID, BaseIndex: tail.MaxIndex + 1, MinIndex: tail.MaxIndex + 1,
		Codec: tail.Codec, CreateTime: now, SizeLimit: tail.SizeLimit,
	})
	st.NextSegmentID++
	return true, nil
}

// repairFile cuts off what follows the last whole batch, and syncs the rest.
func repairFile(fsys disk.FS, dir string, f disk.File, tail *types.SegmentInfo, own ownFunc) (scanned, error) {
	info, err := f.Stat()
	if err != nil {
		return scanned{}, err
	}
	s, err := scan(f, info.Size(), tail.BaseIndex, own)
	if err != nil {
		return s, err
	}
	if s.dirty {
		// To zeros, and durably so: what comes next must not find it.
		if err := f.Truncate(s.end); err != nil {
			return s, err
		}
		if err := f.Sync(); err != nil {
			return s, err
		}
		if err := disk.Allocate(f, int64(tail.SizeLimit)); err != nil {
			return s, err
		}
	}
	// The last batch is written once more: if its sync failed, the system may
	// believe that what it holds in memory is on the disk.
	last := make([]byte, s.end-s.last)
	if err := readFull(f, last, s.last); err != nil {
		return s, err
	}
	if _, err := f.WriteAt(last, s.last); err != nil {
		return s, err
	}
	if err := f.Sync(); err != nil {
		return s, err
	}
	return s, fsys.SyncDir("log.syncdir", dir)
}
