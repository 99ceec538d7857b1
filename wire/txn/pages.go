package txn

import "iter"

// Pages iterates over the pages of a transaction's body, whether it was inline
// (see Split) or in parts. Data of a page is part of body. The last pair has an error
// if the body is not h.Pages well-formed pages, or has not the length and CRC that h tells
// of a body in parts.
func Pages(h *Header, body []byte) iter.Seq2[Page, error] {
	return func(yield func(Page, error) bool) {
		if what := h.check(); what != "" || h.Kind != Transaction {
			yield(Page{}, formatErr(-1, "no transaction: %s %s", h.Kind, what))
			return
		}
		if h.Flags&FlagParts != 0 {
			if uint64(len(body)) != h.BodyLen {
				yield(Page{}, formatErr(0, "body of %d bytes, want %d", len(body), h.BodyLen))
				return
			}
			if crc := UpdateCRC(0, body); crc != h.BodyCRC {
				yield(Page{}, formatErr(0, "CRC-32C of the body is %08x, want %08x", crc, h.BodyCRC))
				return
			}
		}
		last, off := uint32(0), 0
		for range h.Pages {
			p, head, size, err := nextPage(body[off:], h, last)
			if err == nil && size > len(body)-off-head {
				err = formatErr(head, "body ends within page %d", p.Pgno)
			}
			if err != nil {
				yield(Page{}, shift(err, int64(off)))
				return
			}
			p.Data = body[off+head : off+head+size : off+head+size]
			off += head + size
			last = p.Pgno
			if !yield(p, nil) {
				return
			}
		}
		if off != len(body) {
			yield(Page{}, formatErr(off, "%d bytes after the last page", len(body)-off))
		}
	}
}

// shift moves the offset of a *FormatError.
func shift(err error, by int64) error {
	if f, ok := err.(*FormatError); ok && f.Offset >= 0 {
		return &FormatError{What: f.What, Offset: f.Offset + by}
	}
	return err
}
