package crr

import "math/rand/v2"

// A cursor is a place in a file for those who pull from it: an answer says where it ends, and the next request from there, so that the file need not be read
// from its beginning. To who keeps it, it is a number without meaning. Behind it is the number of a transaction, which alone would not do: a file that was put back from an
// older copy gives its numbers out again, and an asker that has taken number 100 of what the file was would miss what has number 90 in what it is, and never ask again, since by
// its vector it has it. So the number is joined with that of the run of the program that gave it out; a cursor of another run counts for nothing, and all metadata is looked at.

const (
	cursorBits = 32 // of the transaction's number, its low ones
	cursorMask = 1<<cursorBits - 1
)

// cursorAt is the cursor of a transaction.
func cursorAt(run uint32, lseq int64) int64 { return int64(run)<<cursorBits | lseq&cursorMask }

// cursorAfter is the transaction that a cursor is at, in a file whose newest is lseq; 0 when that can't be told.
func cursorAfter(cursor int64, run uint32, lseq int64) int64 {
	if run == 0 || cursor>>cursorBits != int64(run) {
		return 0
	}
	at := lseq&^cursorMask | cursor&cursorMask
	if at > lseq {
		at -= 1 << cursorBits // its low bits have come round since
	}
	return max(at, 0)
}

// NewRun draws a number for Config.Run: not 0, and below 2^31.
func NewRun() uint32 { return rand.Uint32()>>1 | 1 }
