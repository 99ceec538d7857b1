package pagestore

import (
	"fmt"

	"github.com/nearsql/nearsql/wire"
)

// State is one committed (or speculative) version of a database: what a
// position says of it, and its size.
type State struct {
	TXID     wire.TXID
	Checksum wire.Checksum // rolling checksum of all pages; 0 at TXID 0
	Pages    uint32        // size in pages
}

// String is for logs and errors.
func (s State) String() string {
	return fmt.Sprintf("txid %d, checksum %s, %d pages", uint64(s.TXID), s.Checksum, s.Pages)
}

// pendingByte is where SQLite's lock bytes are in a database file.
const pendingByte = 1 << 30

// lockPgno is the page that holds SQLite's lock bytes, which begin at byte pending: it
// belongs to every larger database, is never written, and has no place in a checksum
// (https://www.sqlite.org/fileformat.html#the_lock_byte_page).
func lockPgno(pending int64, pageSize int) uint32 { return uint32(pending/int64(pageSize)) + 1 }

// validPageSize says whether SQLite could have made pages of n bytes.
func validPageSize(n int) bool { return n >= 512 && n <= 65536 && n&(n-1) == 0 }
