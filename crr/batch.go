package crr

import (
	"encoding/binary"
	"math"

	"github.com/nearsql/nearsql/wire"
)

// BatchKind is what a batch holds.
type BatchKind uint8

// The two kinds of batches.
const (
	Pull BatchKind = 1 // all that the sender had and the asker lacked
	Push BatchKind = 2 // one site's transactions after a reading
)

// Header is what a batch says of itself.
type Header struct {
	Kind   BatchKind
	Tenant string
	Site   SiteID // of the sender
	File   FileID // of the sender
	Schema uint64 // version that tables and columns are named in
	// After is what the receiver has, joined with its own, when it has taken the batch: of Pull all that the sender has, of Push the
	// sender's newest transaction alone.
	After Vector

	Cursor    int64  // of Pull: the place of the sender's newest transaction, to ask from next time
	Collected Vector // of Pull: tombstones up to here may be missing from it

	Prev HLC    // of Push: the sender's transaction before those in the batch
	Deps Vector // of Push: what the sender had of the other sites
}

// RowChange is one row of a batch.
type RowChange struct {
	Table uint32
	Key   wire.Value
	Delta
}

// Flags of a row in a batch.
const (
	wireRow = 0x80 // marks a row; 0 is the end, 1 a change of table
	wireNew = 1 << 4
)

const (
	opEnd   = 0
	opTable = 1
)

// batchWriter writes a batch in frames.
type batchWriter struct {
	emit  func(frame []byte) error
	id    uint64
	part  uint64
	buf   []byte
	out   []byte
	last  HLC    // readings are written as differences to the one before
	table uint32 // of the rows that follow
	rows  uint64
}

func (w *batchWriter) header(h *Header) {
	b := append(w.buf, byte(h.Kind))
	b = binary.AppendUvarint(b, uint64(len(h.Tenant)))
	b = append(b, h.Tenant...)
	b = binary.AppendUvarint(b, uint64(h.Site))
	b = append(b, h.File[:]...)
	b = binary.AppendUvarint(b, h.Schema)
	b = h.After.Append(b)
	if h.Kind == Push {
		b = binary.BigEndian.AppendUint64(b, uint64(h.Prev))
		b = h.Deps.Append(b)
		w.last = h.Prev
	} else {
		b = binary.AppendUvarint(b, uint64(h.Cursor))
		b = h.Collected.Append(b)
	}
	w.buf = b
}

func (w *batchWriter) hlc(h HLC) {
	w.buf = binary.AppendVarint(w.buf, int64(h-w.last))
	w.last = h
}

func (w *batchWriter) stamp(s Stamp) {
	w.buf = binary.AppendUvarint(w.buf, uint64(s.Site))
	w.hlc(s.HLC)
}

func appendValue(b []byte, v wire.Value) []byte {
	switch v.Kind() {
	case wire.KindInteger:
		return binary.AppendVarint(append(b, tagInteger), v.Int())
	case wire.KindFloat:
		return binary.BigEndian.AppendUint64(append(b, tagFloat), math.Float64bits(v.Float64()))
	case wire.KindText:
		b = binary.AppendUvarint(append(b, tagText), uint64(len(v.Str())))
		return append(b, v.Str()...)
	case wire.KindBlob:
		b = binary.AppendUvarint(append(b, tagBlob), uint64(len(v.Str())))
		return append(b, v.Str()...)
	}
	return append(b, tagNull)
}

// row writes a row; full frames go out.
func (w *batchWriter) row(c *RowChange) error {
	if c.Table != w.table {
		w.table = c.Table
		w.buf = binary.AppendUvarint(append(w.buf, opTable), uint64(c.Table))
	}
	f := byte(wireRow)
	if !c.Ins.Zero() {
		f |= rowIns
	}
	if !c.Del.Zero() {
		f |= rowDel
	}
	if len(c.Cells) > 0 {
		f |= rowCells
	}
	if len(c.Counters) > 0 {
		f |= rowCounters
	}
	if c.New {
		f |= wireNew
	}
	w.buf = append(w.buf, f)
	w.buf = appendValue(w.buf, c.Key)
	if f&rowIns != 0 {
		w.stamp(c.Ins)
	}
	if f&rowDel != 0 {
		w.stamp(c.Del)
	}
	if f&rowCells != 0 {
		w.cells(c)
	}
	if f&rowCounters != 0 {
		w.buf = binary.AppendUvarint(w.buf, uint64(len(c.Counters)))
		for i := range c.Counters {
			w.counter(&c.Counters[i], c.Ins)
		}
	}
	w.rows++
	return w.flush(maxFrameRaw)
}

func (w *batchWriter) cells(c *RowChange) {
	w.buf = binary.AppendUvarint(w.buf, uint64(len(c.Cells)))
	for _, x := range c.Cells {
		own := uint64(0)
		if x.At != c.Ins {
			own = 1
		}
		w.buf = binary.AppendUvarint(w.buf, uint64(x.Col)<<1|own)
		if own == 1 {
			w.stamp(x.At)
		}
		w.buf = appendValue(w.buf, x.Value)
	}
}

func (w *batchWriter) counter(c *CounterState, ins Stamp) {
	has := uint64(0)
	if c.Base != nil {
		has = 1
	}
	w.buf = binary.AppendUvarint(w.buf, uint64(c.Col)<<1|has)
	if c.Base != nil {
		w.stamp(c.Base.At)
		w.stamp(c.Base.Birth)
		w.buf = binary.AppendVarint(w.buf, c.Base.Value)
		w.entries(c.Base.Seen, ins)
	}
	w.entries(c.Entries, ins)
}

func (w *batchWriter) entries(es []Entry, ins Stamp) {
	w.buf = binary.AppendUvarint(w.buf, uint64(len(es)))
	for _, e := range es {
		other := uint64(0)
		if e.Birth != ins {
			other = 1
		}
		w.buf = binary.AppendUvarint(w.buf, uint64(e.Site)<<1|other)
		if other == 1 {
			w.stamp(e.Birth)
		}
		w.hlc(e.HLC)
		w.buf = binary.AppendVarint(w.buf, e.Sum)
	}
}

// flush sends frames while more than limit bytes wait.
func (w *batchWriter) flush(limit int) error {
	for len(w.buf) > limit {
		n := min(len(w.buf), maxFrameRaw)
		if err := w.send(w.buf[:n], false); err != nil {
			return err
		}
		w.buf = w.buf[:copy(w.buf, w.buf[n:])]
	}
	return nil
}

func (w *batchWriter) send(body []byte, last bool) error {
	f := frame{id: w.id, part: w.part, last: last, body: body}
	w.out = f.append(w.out[:0])
	w.part++
	return w.emit(w.out)
}

// close ends the batch: its last frame goes out.
func (w *batchWriter) close() error {
	w.buf = binary.AppendUvarint(append(w.buf, opEnd), w.rows)
	if err := w.flush(maxFrameRaw); err != nil {
		return err
	}
	return w.send(w.buf, true)
}
