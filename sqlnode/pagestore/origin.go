package pagestore

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"

	"github.com/nearsql/nearsql/disk"
)

// origin tells a group's directory from all others. A manifest bears that of the directory whose
// segments it lists: one with another origin came over the network, and its units lie elsewhere.
type origin [16]byte

// Origin file: magic, origin, CRC. FORMAT.md is the specification.
const originMagic = "NSQLORG1"

func (f *files) originPath() string { return filepath.Join(f.cfg.Dir, "origin") }

// loadOrigin reads the origin, or draws one when the directory has none yet.
func (f *files) loadOrigin() error {
	b, err := disk.ReadFile(f.cfg.FS, "origin.read", f.originPath(), 1<<10)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := rand.Read(f.origin[:]); err != nil {
			return fmt.Errorf("draw an origin: %w", err)
		}
		return disk.WriteFileAtomic(f.cfg.FS, "origin.write", f.originPath(), encodeOrigin(f.origin), 0o600)
	}
	if err != nil {
		return err
	}
	o, ok := decodeOrigin(b)
	if !ok {
		return &CorruptError{File: f.originPath(), What: "it is no origin file of this version"}
	}
	f.origin = o
	return nil
}

func encodeOrigin(o origin) []byte {
	b := append([]byte(originMagic), o[:]...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeOrigin(b []byte) (o origin, ok bool) {
	if len(b) != 28 || string(b[:8]) != originMagic || crc32.Checksum(b[:24], castagnoli) != binary.BigEndian.Uint32(b[24:]) {
		return o, false
	}
	return origin(b[8:24]), true
}
