package importer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// headerSize is the size of the header of a database file, in bytes
// (https://www.sqlite.org/fileformat2.html#the_database_header).
const headerSize = 100

const magic = "SQLite format 3\x00"

// Offsets in the header.
const (
	offsetPageSize     = 16 // 2 bytes; 1 means 65536
	offsetWriteVersion = 18 // 1: rollback journal, 2: write-ahead log
	offsetReadVersion  = 19
)

// readHeader looks at what must be right before SQLite is let near the file.
func readHeader(path string) (Info, error) {
	f, err := os.Open(path)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	var h [headerSize]byte
	if _, err := io.ReadFull(f, h[:]); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return Info{}, &BadDatabaseError{What: fmt.Sprintf("the file is shorter than the %d bytes of a database's header", headerSize)}
		}
		return Info{}, err
	}
	if string(h[:len(magic)]) != magic {
		return Info{}, &BadDatabaseError{What: `the file does not begin with "SQLite format 3": it is not a SQLite database, or is encrypted`}
	}
	size := uint32(binary.BigEndian.Uint16(h[offsetPageSize:]))
	if size == 1 {
		size = 65536
	}
	if size < 512 || size&(size-1) != 0 {
		return Info{}, &BadDatabaseError{What: fmt.Sprintf("the header has a page size of %d", size)}
	}
	for _, offset := range []int{offsetWriteVersion, offsetReadVersion} {
		if v := h[offset]; v != 1 && v != 2 {
			return Info{}, &BadDatabaseError{What: fmt.Sprintf("the header has version %d at offset %d: only 1 and 2 are known", v, offset)}
		}
	}
	return Info{PageSize: size, WAL: h[offsetWriteVersion] == 2 || h[offsetReadVersion] == 2}, nil
}

// ClearWAL makes the header of a database ask for a rollback journal, if it asks
// for a write-ahead log. What a log beside it holds is not in the database then.
func ClearWAL(f io.WriterAt) error {
	if _, err := f.WriteAt([]byte{1, 1}, offsetWriteVersion); err != nil {
		return fmt.Errorf("clear the WAL mode of a database: %w", err)
	}
	return nil
}
