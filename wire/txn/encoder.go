package txn

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/pierrec/lz4/v4"

	"github.com/nearsql/nearsql/wire"
)

// Encoder builds the entries of transactions, one after another, reusing its
// memory. The zero Encoder is ready for Begin. It is not safe for concurrent use.
//
//	e.Begin(h)
//	for each changed page, ascending: e.Page(pgno, prev, next, sum)
//	e.SetNext(txid, checksum)
//	entry, err := e.Finish()
//
// A transaction whose Size exceeds MaxEntry goes in parts: the payloads are e.Body()
// cut by SplitParts, or what e.Drain returns from time to time, and the entry that closes
// them is made by FinishParts.
type Encoder struct {
	h     Header
	begun bool
	last  uint32 // number of the newest page
	lock  uint32 // the page that may not come

	buf      []byte // MaxHeader bytes of room, then the body since the last Drain
	drained  uint64 // bytes of body given out by Drain
	crc      uint32 // of those
	delta    []byte // the newest page's delta
	isDelta  bool   // delta is whole: it was not given up for being too long
	copies   []byte // the same, shorter
	block    []byte // a page's LZ4 block
	unpacked []byte // what that gives
}

// Begin starts a transaction with the fields of h that are known; Kind, Pages
// and the fields of parts are filled in later. NextTXID and NextSum may be set
// later by SetNext.
func (e *Encoder) Begin(h Header) error {
	h.Kind = Transaction
	h.Flags &^= FlagParts
	h.Pages, h.Parts, h.Operation, h.BodyLen, h.BodyCRC = 0, 0, 0, 0, 0
	e.begun = false
	if what := h.check(); what != "" {
		return &FormatError{What: "cannot encode transaction: " + what, Offset: -1}
	}
	e.h = h
	e.begun = true
	e.last, e.lock = 0, LockPage(h.PageSize)
	e.drained, e.crc = 0, 0
	if e.buf == nil {
		e.buf = make([]byte, MaxHeader, 4096)
	}
	e.buf = e.buf[:MaxHeader]
	return nil
}

// SetNext sets the position that the transaction leads to.
func (e *Encoder) SetNext(txid wire.TXID, sum wire.Checksum) {
	e.h.NextTXID, e.h.NextSum = txid, sum
}

// SetCommit sets the number of pages of the database after the transaction; pages above may not have come.
func (e *Encoder) SetCommit(pages uint32) { e.h.Commit = pages }

// Page adds a page: its number, which is larger than those before; the bytes of its
// previous version, or nil for zeros where there is none; its bytes; and PageSum of them.
// Both slices may be changed afterwards.
func (e *Encoder) Page(pgno uint32, prev, next []byte, sum wire.Checksum) error {
	if err := e.check(pgno, prev, next, sum); err != nil {
		return err
	}
	encoding, data := e.smallest(prev, next)
	e.add(Page{Pgno: pgno, Encoding: encoding, Data: data, Sum: sum})
	return nil
}

// Change is Page for a page whose previous version is there and has the sum prevSum. It returns the sum
// of the page, which takes less than PageSum where little has changed.
func (e *Encoder) Change(pgno uint32, prev, next []byte, prevSum wire.Checksum) (wire.Checksum, error) {
	sum, _, err := e.change(pgno, prev, next, prevSum, false)
	return sum, err
}

// ChangeIfDifferent is Change for a page that may be as it was: then it adds nothing, and says so. To look
// for the delta tells that as well, so that the caller need not compare.
func (e *Encoder) ChangeIfDifferent(pgno uint32, prev, next []byte, prevSum wire.Checksum) (_ wire.Checksum, different bool, _ error) {
	return e.change(pgno, prev, next, prevSum, true)
}

func (e *Encoder) change(pgno uint32, prev, next []byte, prevSum wire.Checksum, skipSame bool) (wire.Checksum, bool, error) {
	if prev == nil {
		return 0, false, fmt.Errorf("page %d: its previous version is missing", pgno)
	}
	if err := e.check(pgno, prev, next, prevSum); err != nil {
		return 0, false, err
	}
	encoding, data := e.smallest(prev, next)
	if skipSame && e.isDelta && len(e.delta) == 0 {
		return prevSum, false, nil
	}
	var sum wire.Checksum
	if e.isDelta {
		sum = changedSum(prevSum, e.delta, prev, next)
	} else {
		sum = PageSum(pgno, next)
	}
	e.add(Page{Pgno: pgno, Encoding: encoding, Data: data, Sum: sum})
	return sum, true, nil
}

// check says why a page can't be added.
func (e *Encoder) check(pgno uint32, prev, next []byte, sum wire.Checksum) error {
	size := int(e.h.PageSize)
	switch {
	case !e.begun:
		return fmt.Errorf("page %d: no transaction has begun", pgno)
	case pgno <= e.last:
		return fmt.Errorf("page %d after page %d: not ascending", pgno, e.last)
	case pgno == e.lock:
		return fmt.Errorf("page %d holds the lock bytes", pgno)
	case pgno > e.h.Commit:
		return fmt.Errorf("page %d of a database of %d pages", pgno, e.h.Commit)
	case len(next) != size || prev != nil && len(prev) != size:
		return fmt.Errorf("page %d: %d bytes after %d, want %d", pgno, len(next), len(prev), size)
	case sum&wire.ChecksumFlag == 0:
		return fmt.Errorf("page %d: sum %s lacks bit 63", pgno, sum)
	}
	return nil
}

func (e *Encoder) add(p Page) {
	e.buf = appendPage(e.buf, e.last, p)
	e.last = p.Pgno
	e.h.Pages++
}

// smallest chooses an encoding: a delta, with copies if that is shorter, that is below half the page is taken at once,
// since it is the usual case and the cheapest to build; else the shortest of all.
func (e *Encoder) smallest(prev, next []byte) (Encoding, []byte) {
	size := len(next)
	if prev == nil {
		prev = zeros[:size]
	}
	e.delta, e.isDelta = appendDelta(e.delta[:0], prev, next, size-1)
	encoding, data := EncodingRaw, next
	if e.isDelta {
		encoding, data = EncodingDelta, e.delta
		if len(e.delta) > copyFrom {
			var shorter bool
			if e.copies, shorter = appendCopies(e.copies[:0], e.delta, prev, next, len(e.delta)); shorter {
				encoding, data = EncodingCopies, e.copies
			}
		}
		if len(data) < size/2 {
			return encoding, data
		}
	}
	var compressed bool
	e.block, compressed = appendLZ4(e.block[:0], next, len(data))
	if compressed && e.comesBack(next) {
		return EncodingLZ4, e.block
	}
	return encoding, data
}

// comesBack says whether the block unpacks to page. The log is the only place where a page is until its segment is written: what
// could not be read from there would be lost on every copy. It costs a tenth of what packing does.
func (e *Encoder) comesBack(page []byte) bool {
	if cap(e.unpacked) < len(page) {
		e.unpacked = make([]byte, maxPageSize)
	}
	n, err := lz4.UncompressBlock(e.block, e.unpacked[:len(page)])
	return err == nil && bytes.Equal(e.unpacked[:n], page)
}

// appendPage appends a page of a body, whose previous page was last.
func appendPage(dst []byte, last uint32, p Page) []byte {
	dst = binary.AppendUvarint(dst, uint64(p.Pgno-last))
	dst = append(dst, byte(p.Encoding))
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.Sum))
	if p.Encoding != EncodingRaw {
		dst = binary.AppendUvarint(dst, uint64(len(p.Data)))
	}
	return append(dst, p.Data...)
}

// Pages is the number of pages added since Begin.
func (e *Encoder) Pages() uint32 { return e.h.Pages }

// Size is about the length in bytes that Finish would give the entry: at most
// MaxHeader too large.
func (e *Encoder) Size() int { return len(e.buf) + trailerSize }

// Body is the body since Begin, or since the last Drain. It is valid until the next
// Begin, Page or Drain: FinishParts, which needs the number of parts, may come before they are cut.
func (e *Encoder) Body() []byte {
	if len(e.buf) < MaxHeader {
		return nil
	}
	return e.buf[MaxHeader:]
}

// Drain takes the body since the last Drain out of the encoder, to be put into a
// part, or a file from which parts are cut. It is valid until the next call.
func (e *Encoder) Drain() []byte {
	body := e.Body()
	e.drained += uint64(len(body))
	e.crc = UpdateCRC(e.crc, body)
	if e.buf != nil {
		e.buf = e.buf[:MaxHeader]
	}
	return body
}

// Finish returns the entry with its body inline. It is valid until the next Begin.
func (e *Encoder) Finish() ([]byte, error) {
	if err := e.end(); err != nil {
		return nil, err
	}
	if e.drained > 0 {
		return nil, fmt.Errorf("%d bytes of the body have been taken out: the transaction goes in parts", e.drained)
	}
	var room [MaxHeader]byte
	header, err := AppendHeader(room[:0], &e.h)
	if err != nil {
		return nil, err
	}
	// The header goes right before the body, which stays where it is.
	start := MaxHeader - len(header)
	copy(e.buf[start:], header)
	e.buf = binary.BigEndian.AppendUint32(e.buf, crc32.Checksum(e.buf[start:], castagnoli))
	return e.buf[start:], nil
}

// FinishParts returns the entry that closes a transaction whose body, drained
// or not, went in parts entries of the operation. It is valid until the next Begin.
func (e *Encoder) FinishParts(operation uint64, parts uint32) ([]byte, error) {
	if err := e.end(); err != nil {
		return nil, err
	}
	e.Drain()
	// An entry without a body fits the room before the body, and leaves it as it is.
	h := e.h
	h.Flags |= FlagParts
	h.Operation, h.Parts = operation, parts
	h.BodyLen, h.BodyCRC = e.drained, e.crc
	return AppendEntry(e.buf[:0], &h, nil)
}

func (e *Encoder) end() error {
	if !e.begun {
		return fmt.Errorf("no transaction has begun")
	}
	e.begun = false
	if e.last > e.h.Commit {
		return fmt.Errorf("page %d of a database of %d pages", e.last, e.h.Commit)
	}
	return nil
}
